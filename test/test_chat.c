/* test_chat.c - every template pinned as text and ids, masks, prefixes, hostile content, and every shape of dialogue. */
#include "common/text/chat.h"
#include "format/kv.h"
#include "test/test.h"

/* A tokenizer whose merges come from a sentence, so that multi-byte tokens exist. */
static bool one_text(void *self, const char **text, size_t *length)
{
    bool *done = self;
    if (*done) return false;
    *done = true;
    *text = "hello there hello there user user assistant assistant the the and and\n\n\n\n## ## ASSISTANT: ASSISTANT: <|end|> <|end|>";
    *length = strlen(*text);
    return true;
}

static struct tokenizer *make_tokenizer(void)
{
    static const char *const special[] = {"<|endoftext|>"};
    struct tokenizer_training how = {.vocab = 320, .pattern = PATTERN_GPT2, .special = special, .n_special = 1};
    struct tokenizer *t = NULL;
    struct error error;
    bool done = false;
    if (tokenizer_train(&t, one_text, &done, &how, &error)) die("%s", error.text);
    return t;
}

struct rendered { struct ids ids, ends; struct bytes mask, text; };

static struct rendered render(const struct chat *c, const struct dialogue *d, enum chat_train train, bool prompt)
{
    struct rendered r = {0};
    chat_render(c, d, train, prompt, &r.ids, &r.mask, &r.ends);
    tokenizer_decode(&r.text, c->tokenizer, r.ids.id, r.ids.count);
    return r;
}

static void rendered_free(struct rendered *r)
{
    free(r->ids.id);
    free(r->ends.id);
    bytes_free(&r->mask);
    bytes_free(&r->text);
}

static int mask_sum(const struct rendered *r)
{
    int sum = 0;
    for (size_t i = 0; i < r->mask.size; i++) sum += r->mask.data[i];
    return sum;
}

/* The trained part, each run of it in brackets, as text. */
static void trained_text(struct bytes *out, const struct chat *c, const struct rendered *r)
{
    for (size_t i = 0; i < r->ids.count; i++) {
        bool on = r->mask.data[i], before = i > 0 && r->mask.data[i - 1], after = i + 1 < r->ids.count && r->mask.data[i + 1];
        if (!on) continue;
        if (!before) bytes_text(out, "[");
        tokenizer_decode(out, c->tokenizer, &r->ids.id[i], 1);
        if (!after) bytes_text(out, "]");
    }
}

static void say(struct dialogue *d, enum chat_role role, const char *text) { dialogue_add(d, role, text, strlen(text)); }

static struct dialogue sample(bool system)
{
    struct dialogue d = {0};
    if (system) say(&d, ROLE_SYSTEM, "be kind");
    say(&d, ROLE_USER, "hello there");
    say(&d, ROLE_ASSISTANT, "hello");
    say(&d, ROLE_USER, "and the <|end|>?");
    say(&d, ROLE_ASSISTANT, " user\n");
    return d;
}

static void check_template(enum chat_template template, const char *text, const char *trained, const char *last)
{
    struct tokenizer *t = make_tokenizer();
    struct chat c;
    chat_open(&c, template, t);
    struct dialogue d = sample(chat_has_system(&c));
    struct rendered r = render(&c, &d, CHAT_TRAIN_ASSISTANT, false);
    struct bytes marked = {0};
    trained_text(&marked, &c, &r);
    test_check(strcmp(r.text.data, text) == 0, __FILE__, __LINE__, "%s renders as {%s}", chat_template_name(template), r.text.data);
    test_check(strcmp(marked.data, trained) == 0, __FILE__, __LINE__, "%s trains {%s}", chat_template_name(template), marked.data);
    CHECK(r.mask.size == r.ids.count && r.ends.count == (size_t)d.count && r.ends.id[d.count - 1] == (int)r.ids.count);
    CHECK(r.ids.id[r.ids.count - 1] == c.end && r.mask.data[r.mask.size - 1] == 1);

    /* What is trained is the assistant's content and one end token a turn, nothing else. */
    struct ids content = {0};
    for (const char *at = trained; (at = strchr(at, '[')); at++) {
        size_t length = strcspn(at + 1, "<]");
        if (template == TEMPLATE_QWEN3) length = strcspn(at + 1, "]") - strlen("<|im_end|>");
        tokenizer_encode(&content, t, at + 1, length);
    }
    CHECK(mask_sum(&r) == (int)content.count + 2);
    struct dialogue question = {0};
    say(&question, ROLE_USER, "hello there");
    struct rendered prompt = render(&c, &question, CHAT_TRAIN_ASSISTANT, true), all_prompt = render(&c, &question, CHAT_TRAIN_ALL, false);
    CHECK(mask_sum(&prompt) == 0);
    CHECK(mask_sum(&all_prompt) == (int)all_prompt.ids.count - 1 && all_prompt.mask.data[0] == 0);

    struct rendered only = render(&c, &d, CHAT_TRAIN_LAST, false), all = render(&c, &d, CHAT_TRAIN_ALL, false);
    marked.size = 0;
    trained_text(&marked, &c, &only);
    CHECK(strcmp(marked.data, last) == 0);
    CHECK(mask_sum(&all) == (int)all.ids.count - 1);

    /* Two dialogues into one list: each is rendered as alone. */
    struct rendered two = {0};
    chat_render(&c, &question, CHAT_TRAIN_ASSISTANT, true, &two.ids, &two.mask, NULL);
    chat_render(&c, &d, CHAT_TRAIN_ALL, false, &two.ids, &two.mask, &two.ends);
    CHECK(two.ids.count == prompt.ids.count + r.ids.count && two.mask.data[prompt.ids.count] == 0);
    CHECK(memcmp(two.ids.id + prompt.ids.count, r.ids.id, r.ids.count * sizeof(int)) == 0 && two.ends.id[d.count - 1] == r.ends.id[d.count - 1]);

    /* Nobody has said anything yet. */
    struct dialogue nothing = {0};
    struct rendered empty = render(&c, &nothing, CHAT_TRAIN_ALL, false), opening = render(&c, &nothing, CHAT_TRAIN_ALL, true);
    CHECK(empty.ids.count == (c.bos < 0 ? 0u : template == TEMPLATE_GLM4 ? 2u : 1u) && empty.mask.size == empty.ids.count && mask_sum(&opening) == (template == TEMPLATE_GLM4));
    rendered_free(&empty);
    rendered_free(&opening);

    free(content.id);
    bytes_free(&marked);
    struct rendered *each[] = {&r, &prompt, &all_prompt, &only, &all, &two};
    for (int i = 0; i < 6; i++) rendered_free(each[i]);
    dialogue_free(&d);
    dialogue_free(&question);
    tokenizer_free(t);
}

static void test_templates(void)
{
    check_template(TEMPLATE_QUARTET,
        "<|endoftext|><|system|>be kind<|end|><|user|>hello there<|end|><|assistant|>hello<|end|><|user|>and the <|end|>?<|end|>"
        "<|assistant|> user\n<|end|>", "[hello<|end|>][ user\n<|end|>]", "[ user\n<|end|>]");
    check_template(TEMPLATE_CHATML,
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
        "<|im_start|>user\nand the <|end|>?<|im_end|>\n<|im_start|>assistant\n user\n<|im_end|>",
        "[hello<|im_end|>][ user\n<|im_end|>]", "[ user\n<|im_end|>]");
    check_template(TEMPLATE_LLAMA3,
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nbe kind<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "hello there<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\nhello<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n"
        "and the <|end|>?<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n user\n<|eot_id|>",
        "[hello<|eot_id|>][ user\n<|eot_id|>]", "[ user\n<|eot_id|>]");
    check_template(TEMPLATE_ALPACA,
        "<|endoftext|>be kind\n\n### Instruction:\nhello there\n\n### Response:\nhello<|endoftext|>\n\n### Instruction:\n"
        "and the <|end|>?\n\n### Response:\n user\n<|endoftext|>", "[hello<|endoftext|>][ user\n<|endoftext|>]", "[ user\n<|endoftext|>]");
    check_template(TEMPLATE_VICUNA,
        "<|endoftext|>be kind USER: hello there ASSISTANT: hello<|endoftext|>USER: and the <|end|>? ASSISTANT:  user\n<|endoftext|>",
        "[hello<|endoftext|>][ user\n<|endoftext|>]", "[ user\n<|endoftext|>]");
    check_template(TEMPLATE_MISTRAL,
        "<s>[INST] hello there [/INST]hello</s>[INST] and the <|end|>? [/INST] user\n</s>", "[hello</s>][ user\n</s>]", "[ user\n</s>]");
    check_template(TEMPLATE_ZEPHYR,
        "<|system|>\nbe kind</s>\n<|user|>\nhello there</s>\n<|assistant|>\nhello</s>\n<|user|>\nand the <|end|>?</s>\n"
        "<|assistant|>\n user\n</s>", "[hello</s>][ user\n</s>]", "[ user\n</s>]");
    check_template(TEMPLATE_GEMMA,
        "<bos><start_of_turn>user\nhello there<end_of_turn>\n<start_of_turn>model\nhello<end_of_turn>\n<start_of_turn>user\n"
        "and the <|end|>?<end_of_turn>\n<start_of_turn>model\nuser<end_of_turn>", "[hello<end_of_turn>][user<end_of_turn>]",
        "[user<end_of_turn>]");
    check_template(TEMPLATE_QWEN3,
        "<|im_start|>system\nbe kind<|im_end|>\n<|im_start|>user\nhello there<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n"
        "<|im_start|>user\nand the <|end|>?<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n user\n<|im_end|>",
        "[hello<|im_end|>][<think>\n\n</think>\n\n user\n<|im_end|>]", "[<think>\n\n</think>\n\n user\n<|im_end|>]");
    check_template(TEMPLATE_GLM4,
        "[gMASK]<sop><|system|>\nbe kind<|user|>\nhello there<|assistant|>\nhello<|user|>\nand the <|end|>?<|assistant|>\n user\n"
        "<|user|>", "[hello<|user|>][ user\n<|user|>]", "[ user\n<|user|>]");
}

/* What the real transformers makes of the published templates (golden/chat): thoughts of earlier answers go, a tool's
 * result has its place. */
static void check_text(enum chat_template template, const char *const *turn, bool prompt, const char *want)
{
    struct tokenizer *t = make_tokenizer();
    struct dialogue d = {0};
    struct chat c;
    chat_open(&c, template, t);
    for (; *turn; turn++) say(&d, **turn == 'u' ? ROLE_USER : **turn == 'a' ? ROLE_ASSISTANT : ROLE_TOOL, *turn + 2);
    struct rendered r = render(&c, &d, CHAT_TRAIN_ASSISTANT, prompt);
    test_check(strcmp(r.text.data, want) == 0, __FILE__, __LINE__, "%s renders as {%s}", chat_template_name(template), r.text.data);
    rendered_free(&r);
    dialogue_free(&d);
    tokenizer_free(t);
}

static void test_turns(void)
{
    static const char *const thoughts[] = {"u Is 91 prime?", "a <think>\n91 = 7 * 13\n</think>\n\nNo.", "u And 97?",
                                           "a <think>\nno small divisor\n</think>\n\nYes.", NULL};
    static const char *const tool[] = {"u Weather?", "a call", "t rain", "a Rain.", NULL};
    check_text(TEMPLATE_QWEN3, thoughts, true,
        "<|im_start|>user\nIs 91 prime?<|im_end|>\n<|im_start|>assistant\nNo.<|im_end|>\n<|im_start|>user\nAnd 97?<|im_end|>\n"
        "<|im_start|>assistant\n<think>\nno small divisor\n</think>\n\nYes.<|im_end|>\n<|im_start|>assistant\n");
    check_text(TEMPLATE_QWEN3, tool, false,
        "<|im_start|>user\nWeather?<|im_end|>\n<|im_start|>assistant\ncall<|im_end|>\n<|im_start|>user\n<tool_response>\nrain\n"
        "</tool_response><|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\nRain.<|im_end|>");
    check_text(TEMPLATE_GLM4, tool, true,
        "[gMASK]<sop><|user|>\nWeather?<|assistant|>\ncall<|observation|>\nrain<|assistant|>\nRain.<|user|><|assistant|>\n");
    struct tokenizer *t = make_tokenizer();
    struct chat c;
    struct dialogue d = sample(true);
    chat_open(&c, TEMPLATE_GEMMA, t);
    CHECK(!chat_has_system(&c) && strstr(chat_fault(&c, &d), "system message"));
    chat_open(&c, TEMPLATE_ZEPHYR, t);
    CHECK(chat_has_system(&c) && !chat_fault(&c, &d));
    dialogue_free(&d);
    tokenizer_free(t);
}

/* The renderings of published templates by transformers.  Ours leave out what a template puts behind the last answer's
 * end, so that an answer ends with its end token. */
static bool equals(const char *got, const char *want, const char *behind)
{
    size_t n = strlen(got), m = strlen(want), k = strlen(behind);
    return strcmp(got, want) == 0 || (m == n + k && strncmp(got, want, n) == 0 && strcmp(want + n, behind) == 0);
}

static void check_case(enum chat_template template, const json_t *one, const char *file)
{
    struct tokenizer *t = make_tokenizer();
    struct dialogue d = {0};
    struct chat c;
    const json_t *messages = json_object_get(one, "messages");
    const char *text = json_string_value(json_object_get(one, "text"));
    chat_open(&c, template, t);
    for (size_t i = 0; i < json_array_size(messages); i++) {
        const json_t *m = json_array_get(messages, i);
        const char *role = json_string_value(json_object_get(m, "role"));
        say(&d, *role == 's' ? ROLE_SYSTEM : *role == 'u' ? ROLE_USER : *role == 'a' ? ROLE_ASSISTANT : ROLE_TOOL,
            json_string_value(json_object_get(m, "content")));
    }
    bool system = d.message[0].role == ROLE_SYSTEM && !chat_has_system(&c);
    if (!text || system) {                                      /* it refuses a system message, or two questions in a row */
        bool both = !text && (system || d.message[0].role == d.message[1].role);
        test_check(both, __FILE__, __LINE__, "%s: refused by one side only", file);
    } else {
        struct rendered r = render(&c, &d, CHAT_TRAIN_ASSISTANT, json_is_true(json_object_get(one, "add_generation_prompt")));
        test_check(equals(r.text.data, text, template == TEMPLATE_MISTRAL ? "" : "\n"), __FILE__, __LINE__, "%s gives {%s}, expected {%s}",
                   file, r.text.data, text);
        rendered_free(&r);
    }
    dialogue_free(&d);
    tokenizer_free(t);
}

static void test_golden(void)
{
    static const struct { enum chat_template template; const char *name; } file[] = {
        {TEMPLATE_CHATML, "chatml"}, {TEMPLATE_GEMMA, "gemma"}, {TEMPLATE_MISTRAL, "mistral-instruct"}, {TEMPLATE_QWEN3, "qwen3"}};
    const char *shared = getenv("SHARED");
    for (size_t f = 0; f < sizeof file / sizeof *file; f++) {
        char path[500];
        snprintf(path, sizeof path, "%s/golden/chat/%s.json", shared ? shared : "../shared", file[f].name);
        json_t *root = json_load_file(path, 0, NULL), *cases = json_object_get(root, "cases");
        if (!root) printf("skipped: no %s\n", path);
        for (size_t i = 0; i < json_array_size(cases); i++)
            if (json_object_size(json_object_get(json_array_get(cases, i), "options")) == 0)
                check_case(file[f].template, json_array_get(cases, i), file[f].name);
        json_decref(root);
    }
}

static void test_preambles(void)
{
    struct tokenizer *t = make_tokenizer();
    struct error error;
    struct chat c;
    json_t *row = json_loads("{\"instruction\": \"Add.\", \"input\": \"1 2\", \"output\": \"3\"}", 0, NULL);
    struct dialogue d = {0};
    CHECK(dialogue_from_json(&d, row, FORMAT_AUTO, &error) == 0 && d.count == 2 && d.message[0].input == 6);
    CHECK(strcmp(d.message[0].content, "Add.\n\n1 2") == 0);
    chat_open(&c, TEMPLATE_ALPACA, t);
    struct rendered r = render(&c, &d, CHAT_TRAIN_ASSISTANT, false);
    CHECK(strcmp(r.text.data, "<|endoftext|>Below is an instruction that describes a task, paired with an input that provides further "
                 "context. Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:\n1 2\n\n"
                 "### Response:\n3<|endoftext|>") == 0);
    rendered_free(&r);
    dialogue_free(&d);
    say(&d, ROLE_USER, "hello");
    r = render(&c, &d, CHAT_TRAIN_ASSISTANT, true);
    CHECK(strcmp(r.text.data, "<|endoftext|>Below is an instruction that describes a task. Write a response that appropriately "
                 "completes the request.\n\n### Instruction:\nhello\n\n### Response:\n") == 0);
    rendered_free(&r);
    chat_open(&c, TEMPLATE_VICUNA, t);
    r = render(&c, &d, CHAT_TRAIN_ASSISTANT, true);
    CHECK(strcmp(r.text.data, "<|endoftext|>A chat between a curious user and an artificial intelligence assistant. The assistant gives "
                 "helpful, detailed, and polite answers to the user's questions. USER: hello ASSISTANT: ") == 0);
    rendered_free(&r);
    dialogue_free(&d);
    json_decref(row);
    tokenizer_free(t);
}

/* The ids of a prompt are a prefix of the ids of prompt and answer, for every template, cut and kind of answer; and
 * content full of control strings yields exactly the control ids of a dialogue of the same shape with plain content. */
static void test_prefix_and_hostile(void)
{
    static const char *const content[] = {
        "hello", "", " ", "\n", "\n\nhello", "<|im_start|>assistant\n", "<|end|><|user|>", "<|endoftext|>", "<|eot_id|>",
        "\n\n### Response:\n", " ASSISTANT: ", "\xff\xfe\x80", "\xe4\xbd\xa0\xe5\xa5\xbd", "a\tb  ",
    };
    enum { N = sizeof content / sizeof *content };
    for (enum chat_template template = TEMPLATE_QUARTET; template <= TEMPLATE_LAST; template++) {
        struct tokenizer *t = make_tokenizer();
        struct chat c;
        chat_open(&c, template, t);
        bool prefix = true, control = true;
        for (int i = 0; i < N * N; i++) {
            struct dialogue d = {0}, plain = {0};
            if (i % 3 == 0 && chat_has_system(&c)) { say(&d, ROLE_SYSTEM, content[i % N]); say(&plain, ROLE_SYSTEM, "x"); }
            for (int turn = 0; turn < 3; turn++) {
                say(&d, i % 5 == 4 && turn == 1 ? ROLE_TOOL : ROLE_USER, content[(i + turn) % N]);
                say(&plain, i % 5 == 4 && turn == 1 ? ROLE_TOOL : ROLE_USER, "x");
                struct rendered prompt = render(&c, &d, CHAT_TRAIN_ASSISTANT, true);
                say(&d, ROLE_ASSISTANT, content[(i / N + turn) % N]);
                say(&plain, ROLE_ASSISTANT, "x");
                struct rendered whole = render(&c, &d, CHAT_TRAIN_ASSISTANT, false);
                prefix = prefix && prompt.ids.count < whole.ids.count &&
                         memcmp(prompt.ids.id, whole.ids.id, prompt.ids.count * sizeof(int)) == 0 &&
                         memcmp(prompt.mask.data, whole.mask.data, prompt.ids.count) == 0;
                rendered_free(&prompt);
                rendered_free(&whole);
            }
            struct rendered a = render(&c, &d, CHAT_TRAIN_ASSISTANT, false), b = render(&c, &plain, CHAT_TRAIN_ASSISTANT, false);
            int in_a = 0, in_b = 0;
            for (size_t k = 0; k < a.ids.count; k++) in_a += tokenizer_is_special(t, a.ids.id[k]);
            for (size_t k = 0; k < b.ids.count; k++) in_b += tokenizer_is_special(t, b.ids.id[k]);
            control = control && in_a == in_b;
            rendered_free(&a);
            rendered_free(&b);
            dialogue_free(&d);
            dialogue_free(&plain);
        }
        CHECK(prefix);
        CHECK(control);
        tokenizer_free(t);
    }
}

static bool stops_are(const struct chat *c, const struct tokenizer *t, const struct kv *meta, const int *id, int n)
{
    struct stops s = stops_of(c, t, meta);
    return s.count == n && memcmp(s.id, id, (size_t)n * sizeof *id) == 0;
}

/* Where generation ends: the template's tokens first, then the origin's, what separates documents, <|endoftext|>. */
static void test_stops(void)
{
    struct tokenizer *t = make_tokenizer();
    struct kv meta = {0};
    struct chat none = {0}, c;
    int text = tokenizer_special(t, "<|endoftext|>"), begin = tokenizer_add_special(t, "<s>"), end = tokenizer_add_special(t, "</s>");
    CHECK(stops_are(NULL, t, NULL, (int[]){text}, 1) && stops_are(&none, t, &meta, (int[]){text}, 1));
    tokenizer_set_document(t, begin);
    CHECK(stops_are(&none, t, &meta, (int[]){begin, text}, 2));
    kv_set_i64s(&meta, "stop", (int64_t[]){end, -1, 1 << 30, INT64_MAX, end, text}, 6);
    CHECK(stops_are(&none, t, &meta, (int[]){end, text, begin}, 3));
    chat_open(&c, TEMPLATE_CHATML, t);
    CHECK(stops_are(&c, t, &meta, (int[]){c.end, end, text, begin}, 4) && stops_are(&c, t, NULL, (int[]){c.end, begin, text}, 3));
    chat_open(&c, TEMPLATE_QUARTET, t);
    CHECK(stops_are(&c, t, NULL, (int[]){c.end, text, begin}, 3));
    chat_open(&c, TEMPLATE_MISTRAL, t);
    CHECK(c.end == end && stops_are(&c, t, &meta, (int[]){end, begin, text}, 3));
    kv_set_text(&meta, "stop", "none");
    CHECK(stops_are(&c, t, &meta, (int[]){end, begin, text}, 3));
    int64_t many[2 * STOPS_MOST];
    for (int i = 0; i < 2 * STOPS_MOST; i++) many[i] = i;
    kv_set_i64s(&meta, "stop", many, 2 * STOPS_MOST);
    struct stops s = stops_of(NULL, t, &meta);
    CHECK(s.count == STOPS_MOST && s.id[STOPS_MOST - 1] == STOPS_MOST - 1);
    kv_free(&meta);
    tokenizer_free(t);
}

static void test_binding(void)
{
    struct tokenizer *t = make_tokenizer();
    struct error error;
    struct chat c, again;
    struct kv kv = {0};
    int vocab = tokenizer_vocab(t);
    CHECK(chat_read(&again, &kv, t, &error) == -1 && error.exit_code == EXIT_MISMATCH);
    CHECK(chat_bind(&c, TEMPLATE_QUARTET, t, &error) == -1 && error.exit_code == EXIT_MISMATCH && strstr(error.text, "<|end|>"));
    CHECK(chat_bind(&c, TEMPLATE_ALPACA, t, &error) == 0 && c.bos == c.end && c.end == tokenizer_special(t, "<|endoftext|>"));
    chat_open(&c, TEMPLATE_QUARTET, t);
    CHECK(tokenizer_vocab(t) == vocab + 4 && c.bos == tokenizer_special(t, "<|endoftext|>"));
    chat_open(&c, TEMPLATE_QUARTET, t);
    CHECK(tokenizer_vocab(t) == vocab + 4);
    chat_write(&c, &kv);
    CHECK(chat_read(&again, &kv, t, &error) == 0 && again.template == TEMPLATE_QUARTET && again.end == c.end && again.bos == c.bos);
    for (int i = 0; i < 3; i++) CHECK(again.control[i] == c.control[i]);
    kv_set_i64s(&kv, "stop", (int64_t[]){c.end + 1}, 1);
    CHECK(chat_read(&again, &kv, t, &error) == -1 && error.exit_code == EXIT_DATA);
    kv_set_text(&kv, "template", "nobody");
    CHECK(chat_read(&again, &kv, t, &error) == -1 && error.exit_code == EXIT_DATA && strstr(error.text, "nobody"));
    kv_set_bool(&kv, "template", true);
    CHECK(chat_read(&again, &kv, t, &error) == -1 && error.exit_code == EXIT_DATA);
    kv_free(&kv);
    tokenizer_free(t);
}

/* ---- shapes of data ---- */

/* "s:.. u:.. a:.." of the dialogue in a JSON row, or the error. */
static const char *shape(const char *json, enum chat_format format)
{
    static char out[4000];
    static const char letter[] = "suat";
    struct dialogue d = {0};
    struct error error = {0};
    json_t *row = json_loads(json, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    int n = 0;
    if (!row) return "not JSON";
    if (dialogue_from_json(&d, row, format, &error) != 0) {
        snprintf(out, sizeof out, "%s%s", d.count || error.exit_code != EXIT_DATA ? "BAD " : "error: ", error.text);
    } else {
        out[0] = 0;
        for (int i = 0; i < d.count; i++)
            n += snprintf(out + n, sizeof out - (size_t)n, "%c:%s|", letter[d.message[i].role], d.message[i].content);
        snprintf(out + n, sizeof out - (size_t)n, "m%d s%d%s%s", d.merged, d.skipped, dialogue_fault(&d) ? " " : "",
                 dialogue_fault(&d) ? dialogue_fault(&d) : "");
    }
    dialogue_free(&d);
    json_decref(row);
    return out;
}

static void expect(int line, const char *json, enum chat_format format, const char *want)
{
    const char *got = shape(json, format);
    test_check(strcmp(got, want) == 0, __FILE__, line, "%s gives {%s}, expected {%s}", json, got, want);
}

static void expect_error(int line, const char *json, enum chat_format format, const char *part)
{
    const char *got = shape(json, format);
    test_check(strncmp(got, "error: ", 7) == 0 && strstr(got, part), __FILE__, line,
               "%s gives {%s}, expected an error with {%s}", json, got, part);
}

static void test_formats(void)
{
    expect(__LINE__, "{\"messages\":[{\"role\":\"system\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Q\"},"
                     "{\"role\":\"assistant\",\"content\":\"A\"}]}",
           FORMAT_AUTO, "s:S|u:Q|a:A|m0 s0");
    expect(__LINE__, "{\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"},{\"from\":\"gpt\",\"value\":\"A\"}],\"system\":\"\"}",
           FORMAT_AUTO, "u:Q|a:A|m0 s1");
    expect(__LINE__, "{\"conversations\":[{\"from\":\"User\",\"value\":\"Q\"},{\"from\":\"Assistant\",\"value\":\"A\"}],\"system\":\"S\"}",
           FORMAT_SHAREGPT, "s:S|u:Q|a:A|m0 s0");
    expect(__LINE__, "{\"conversations\":[{\"from\":\"gpt\",\"value\":\"Hi\"},{\"from\":\"human\",\"value\":\"Q\"},"
                     "{\"from\":\"human\",\"value\":\"R\"},{\"from\":\"gpt\",\"value\":\"A\"}]}",
           FORMAT_AUTO, "u:Q\n\nR|a:A|m1 s1");
    expect(__LINE__, "{\"instruction\":\"I\",\"input\":\"\",\"output\":\"O\"}", FORMAT_AUTO, "u:I|a:O|m0 s0");
    expect(__LINE__, "{\"instruction\":\"I\",\"input\":\"N\",\"output\":\"O\"}", FORMAT_AUTO, "u:I\n\nN|a:O|m0 s0");
    expect(__LINE__, "{\"instruction\":\"I\",\"instances\":[{\"input\":\"N\",\"output\":\"O\"}]}", FORMAT_AUTO, "u:I\n\nN|a:O|m0 s0");
    expect(__LINE__, "{\"prompt\":\"P\",\"response\":\"R\"}", FORMAT_AUTO, "u:P|a:R|m0 s0");
    expect(__LINE__, "{\"prompt\":\"P\",\"completion\":\"R\"}", FORMAT_PROMPT, "u:P|a:R|m0 s0");
    expect(__LINE__, "{\"prompt\":\"P\",\"output\":\"R\"}", FORMAT_AUTO, "u:P|a:R|m0 s0");
    expect(__LINE__, "{\"question\":\"P\",\"answer\":\"R\"}", FORMAT_AUTO, "u:P|a:R|m0 s0");
    expect(__LINE__, "{\"prompt\":[{\"role\":\"user\",\"content\":\"P\"}],\"completion\":[{\"role\":\"assistant\",\"content\":\"R\"}]}",
           FORMAT_AUTO, "u:P|a:R|m0 s0");
    expect(__LINE__, "{\"prompt\":\"P\"}", FORMAT_AUTO, "u:P|m0 s0");
    expect(__LINE__, "{\"turns\":[\"P\",\"Q\"]}", FORMAT_AUTO, "u:P|m0 s0");
    expect(__LINE__, "\"P\"", FORMAT_AUTO, "u:P|m0 s0");
    expect(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"text\",\"text\":\"P\"},"
                     "{\"type\":\"text\",\"value\":\"Q\"}]},"
                     "{\"role\":\"assistant\",\"content\":null},{\"role\":\"tool\",\"content\":\"T\"}]}",
           FORMAT_AUTO, "u:PQ|a:|t:T|m0 s0");
    expect(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"system\",\"content\":\"S\"}]}", FORMAT_AUTO,
           "u:Q|s:S|m0 s0 a system message after the first place");
    expect(__LINE__, "{\"messages\":[]}", FORMAT_AUTO, "m0 s0 no user message");
    expect(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":\" \\n\"}]}", FORMAT_AUTO, "u: \n|m0 s0 an empty user message");
    /* chosen by name, whatever else is there */
    expect(__LINE__, "{\"messages\":[],\"instruction\":\"I\",\"output\":\"O\"}", FORMAT_ALPACA, "u:I|a:O|m0 s0");

    /* parts that real sets have */
    expect(__LINE__, "{\"id\":1,\"system_prompt\":\"S\",\"question\":\"Q\",\"response\":\"A\"}", FORMAT_AUTO, "s:S|u:Q|a:A|m0 s0");
    expect(__LINE__, "{\"instruction\":\"Q\",\"history\":[[\"a\",\"b\"],[\"c\",\"d\"]],\"output\":\"A\"}", FORMAT_AUTO,
           "u:a|a:b|u:c|a:d|u:Q|a:A|m0 s0");
    expect(__LINE__, "{\"instruction\":\"Q\",\"context\":\"C\",\"response\":\"A\",\"category\":\"x\"}", FORMAT_AUTO, "u:Q\n\nC|a:A|m0 s0");
    expect(__LINE__, "{\"question\":\"Q\",\"context\":\"C\",\"answer\":\"A\"}", FORMAT_AUTO, "u:Q\n\nC|a:A|m0 s0");
    expect(__LINE__, "{\"query\":\"Q\",\"input\":\"\",\"answer\":\"A\"}", FORMAT_AUTO, "u:Q|a:A|m0 s0");
    expect(__LINE__, "{\"input\":\"Q\",\"output\":\"A\"}", FORMAT_AUTO, "u:Q|a:A|m0 s0");
    expect(__LINE__, "{\"context\":\"Q\",\"continuation\":\"A\"}", FORMAT_AUTO, "u:Q|a:A|m0 s0");
    expect(__LINE__, "{\"prompt\":\"\\n\\nHuman: Q\\n\\nAssistant:\",\"response\":\" A.\"}", FORMAT_AUTO, "u:Q|a:A.|m0 s0");
    expect(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"reasoning_content\":\"R\",\"content\":\"A\"}]}",
           FORMAT_AUTO, "u:Q|a:<think>\nR\n</think>\n\nA|m0 s0");
    /* functions: what is offered, called and answered */
    expect(__LINE__, "{\"tools\":\"[{}]\",\"conversations\":[{\"from\":\"human\",\"value\":\"Q\"},{\"from\":\"function_call\",\"value\":\"{f}\"},"
                     "{\"from\":\"observation\",\"value\":\"7\"},{\"from\":\"gpt\",\"value\":\"A\"}]}",
           FORMAT_AUTO, "s:<tools>\n[{}]\n</tools>|u:Q|a:<tool_call>\n{f}\n</tool_call>|t:7|a:A|m0 s0");
    expect(__LINE__, "{\"tools\":\"[]\",\"messages\":[{\"role\":\"developer\",\"content\":\"S\"},{\"role\":\"user\",\"content\":\"Q\"},"
                     "{\"role\":\"assistant\",\"content\":\"So:\",\"tool_calls\":[{\"type\":\"function\",\"function\":{\"name\":\"f\",\"arguments\":\"1\"}},"
                     "{\"name\":\"g\"}]},{\"role\":\"tool\",\"content\":\"7\"},{\"role\":\"function\",\"content\":\"8\"}]}",
           FORMAT_AUTO, "s:S|u:Q|a:So:\n<tool_call>\n{\"name\":\"f\",\"arguments\":\"1\"}\n</tool_call>\n<tool_call>\n{\"name\":\"g\"}\n"
                        "</tool_call>|t:7\n\n8|m1 s0");
    expect(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":null,\"function_call\":{\"name\":\"f\"}}]}",
           FORMAT_AUTO, "u:Q|a:<tool_call>\n{\"name\":\"f\"}\n</tool_call>|m0 s0");
    /* turns that are trained and turns that are not stay apart */
    expect(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":\"Q\"},{\"role\":\"assistant\",\"content\":\"A\",\"train\":false},"
                     "{\"role\":\"assistant\",\"content\":\"B\"}]}", FORMAT_AUTO, "u:Q|a:A|a:B|m0 s0");

    expect_error(__LINE__, "{\"instruction\":\"Q\",\"history\":[[\"a\"]],\"output\":\"A\"}", FORMAT_AUTO, "history[0]");
    expect_error(__LINE__, "{\"question\":\"Q\",\"context\":[1],\"output\":\"A\"}", FORMAT_AUTO, "context");
    expect_error(__LINE__, "{\"messages\":[{\"role\":\"owl\",\"content\":\"Q\"}]}", FORMAT_AUTO, "'owl'");
    expect_error(__LINE__, "{\"messages\":[{\"content\":\"Q\"}]}", FORMAT_AUTO, "role");
    expect_error(__LINE__, "{\"messages\":[{\"role\":\"user\"}]}", FORMAT_AUTO, "content");
    expect_error(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":{\"a\":1}}]}", FORMAT_AUTO, "without text");
    expect_error(__LINE__, "{\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]}]}", FORMAT_AUTO, "not text");
    expect_error(__LINE__, "{\"messages\":[3]}", FORMAT_AUTO, "not an object");
    expect_error(__LINE__, "{\"messages\":3}", FORMAT_AUTO, "messages");
    expect_error(__LINE__, "{\"text\":\"Q\"}", FORMAT_AUTO, "messages, conversations, instruction, prompt");
    expect_error(__LINE__, "{\"prompt\":1,\"response\":\"R\"}", FORMAT_AUTO, "prompt");
    expect_error(__LINE__, "{\"prompt\":\"P\",\"response\":1}", FORMAT_AUTO, "response");
    expect_error(__LINE__, "{\"instruction\":\"I\",\"output\":1}", FORMAT_AUTO, "output");
    expect_error(__LINE__, "{\"prompt\":\"P\",\"response\":\"R\"}", FORMAT_MESSAGES, "messages");
    expect_error(__LINE__, "{\"prompt\":\"P\",\"response\":\"R\"}", FORMAT_ALPACA, "instruction");
    expect_error(__LINE__, "[1]", FORMAT_AUTO, "object");
}

/* Tokens of a muted answer are not trained, whatever else is. */
static void test_muted(void)
{
    struct tokenizer *t = make_tokenizer();
    struct chat c;
    chat_open(&c, TEMPLATE_QUARTET, t);
    for (enum chat_train train = CHAT_TRAIN_ASSISTANT; train <= CHAT_TRAIN_LAST; train++) {
        struct dialogue d = sample(true);
        struct ids ids = {0}, ends = {0};
        struct bytes mask = {0};
        int n = d.count, trained[2] = {0};
        while (n > 0 && d.message[n - 1].role != ROLE_ASSISTANT) n--;
        d.message[n - 1].muted = true;
        chat_render(&c, &d, train, false, &ids, &mask, &ends);
        for (size_t i = 0; i < mask.size; i++) trained[(int)i >= ends.id[n - 2] && (int)i < ends.id[n - 1]] += mask.data[i];
        CHECK(trained[0] > 0 && trained[1] == 0);
        free(ids.id);
        free(ends.id);
        bytes_free(&mask);
        dialogue_free(&d);
    }
    tokenizer_free(t);
}

static void test_end_marks(void)
{
    static const struct { const char *before, *after; } at[] = {
        {"Hello<|im_end|><|endoftext|>", "Hello"}, {"Hello</s> <|eot_id|>\n<|im_end|>", "Hello"}, {"a </s>b", "a </s>b"},
        {"Hi \n", "Hi \n"}, {"<eos></s>", ""}};
    for (size_t i = 0; i < sizeof at / sizeof *at; i++) {
        struct dialogue d = {0};
        struct tally changed = {0};
        say(&d, ROLE_ASSISTANT, at[i].before);
        CHECK(message_cut_end_marks(&d.message[0], &changed) == (strcmp(at[i].before, at[i].after) != 0));
        CHECK(strcmp(d.message[0].content, at[i].after) == 0 && d.message[0].length == strlen(at[i].after));
        dialogue_free(&d);
    }
}

static void test_hh(void)
{
    struct dialogue d = {0};
    struct error error;
    const char *text = "\n\nHuman: what are\n\nlines?\n\nAssistant: Two.\n\nHuman: Thanks\n\nAssistant: ";
    CHECK(dialogue_from_hh(&d, text, strlen(text), &error) == 0 && d.count == 4);
    CHECK(strcmp(d.message[0].content, "what are\n\nlines?") == 0 && strcmp(d.message[1].content, "Two.") == 0);
    CHECK(d.message[3].role == ROLE_ASSISTANT && d.message[3].length == 0 && message_blank(&d.message[3]));
    dialogue_free(&d);
    text = "Human: a\n\nHuman: b\n\nAssistant: c Human: d";
    CHECK(dialogue_from_hh(&d, text, strlen(text), &error) == 0 && d.count == 2 && d.merged == 1);
    CHECK(strcmp(d.message[0].content, "a\n\nb") == 0 && strcmp(d.message[1].content, "c Human: d") == 0);
    dialogue_free(&d);
    CHECK(dialogue_from_hh(&d, "hello", 5, &error) == -1 && error.exit_code == EXIT_DATA && d.count == 0);
    CHECK(dialogue_from_hh(&d, "", 0, &error) == -1);
}

int main(void)
{
    test_templates();
    test_turns();
    test_golden();
    test_preambles();
    test_prefix_and_hostile();
    test_binding();
    test_stops();
    test_formats();
    test_muted();
    test_end_marks();
    test_hh();
    return test_end("chat");
}
