/* An outside authority: the 260-thousand-parameter story model of llama2.c, read by a small helper, must tell the
 * published story.  Source: Karpathy 2023, llama2.c and its tinyllamas. */
#include "common/model/sample.h"
#include "test/stories.h"
#include "test/test.h"
#include "test/tiny.h"


enum { TOKENS = 200 };

static const char *const story =
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, red "
    "ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad and "
    "didn't know what to do. She said, \"I want to play with your ball, but I can't find it.\"\nLily was sad and didn't know what "
    "to do. She said, \"I'm sorry, Lily. I didn't know what to do.\"\nLily didn't want to help her mom, so she";

static void decode(char *text, size_t size, const struct story_token *token, const int *tokens, int n)
{
    int at = 0;
    for (int i = 0; i < n; i++) {
        const char *piece = token[tokens[i]].bytes;
        unsigned byte;
        char single[2] = {0};
        if (i == 0 && *piece == ' ') piece++;        /* the space in front of the first word */
        if (sscanf(piece, "<0x%02X>", &byte) == 1) {
            single[0] = (char)byte;
            piece = single;
        }
        at += snprintf(text + at, size - (size_t)at, "%s", piece);
        if ((size_t)at >= size) die("the story is too long");
    }
}

int main(void)
{
    char model_path[4096], tokenizer_path[4096], text[4096] = "";
    FILE *file;
    struct tiny t;
    int tokens[TOKENS], begin = 1;
    float logprobs[TOKENS];
    if (!test_shared(model_path, sizeof model_path, "data/model-stories260K/stories260K.bin") ||
        !test_shared(tokenizer_path, sizeof tokenizer_path, "data/model-stories260K/tok512.bin") ||
        !(file = fopen(model_path, "rb"))) {
        test_skip("the story model is not here");
        return test_end("test_stories");
    }
    threads_start(2);
    struct config c = stories_config(file);
    struct model_use use = {.max_tokens = 4, .max_sequences = 1, .cache_slots = 1, .cache_capacity = c.context, .logits_rows = 1};
    tiny_open(&t, &c, &use, 1);
    stories_weights(file, &t.m.params, &c);
    params_pack(&t.m.params, &c);
    fclose(file);
    struct story_token *token = stories_tokens(tokenizer_path);
    struct sample_settings s = {.sampling = {.temperature = 0, .top_p = 1}, .stream = RNG_SAMPLE};
    struct sample sample = {.prompt = &begin, .n_prompt = 1, .most = TOKENS, .tokens = tokens, .logprobs = logprobs};
    sample_run(&t.m, &sample, 1, &s, NULL, NULL);
    decode(text, sizeof text, token, tokens, sample.n);
    free(token);
    size_t length = ACT_IS_FLOAT ? strlen(story) : strlen(story) / 2;      /* bfloat16: a near tie decides otherwise in the end */
    test_check(strncmp(text, story, length) == 0, __FILE__, __LINE__, "the story is\n%s", text);
    tiny_close(&t);
    return test_end("test_stories");
}
