/* test_prompts.c - the order of prompts: every epoch a permutation of its own, known from (seed, index) alone; and the
 * held-out questions, which are those of sft and rm. */
#include "common/data/prompts.h"
#include "rm/data.h"
#include "sft/data.h"
#include "test/test.h"
#include "test/words.h"

enum { N = 101 };

static void fill(struct prompts *p, uint64_t seed)
{
    *p = (struct prompts){.seed = seed};
    for (int i = 0; i < N; i++) prompts_add(p, (int[]){i, i / 2, 7}, 1 + i % 3, NULL, NULL);
}

static int first_id(struct prompts *p, uint64_t index) { return p->ids.id[prompts_at(p, index)->first]; }

static void test_order(void)
{
    struct prompts a, b, other;
    int order[2][N], seen[2][N] = {{0}}, moved = 0, differ = 0;
    fill(&a, 5);
    fill(&b, 5);
    fill(&other, 6);
    CHECK(a.longest == 3 && a.count == N);
    for (int i = 0; i < 2 * N; i++) {
        order[i / N][i % N] = first_id(&a, (uint64_t)i);
        seen[i / N][order[i / N][i % N]]++;
    }
    bool whole = true, same = true;
    for (int i = 0; i < N; i++) {
        whole = whole && seen[0][i] == 1 && seen[1][i] == 1;
        moved += order[0][i] != order[1][i];
        differ += order[0][i] != first_id(&other, (uint64_t)i);
    }
    CHECK(whole && moved > N / 2 && differ > N / 2);
    for (int i = 2 * N - 1; i >= 0; i -= 13)             /* from anywhere */
        same = same && first_id(&b, (uint64_t)i) == order[i / N][i % N];
    CHECK(same);
    prompts_free(&a);
    prompts_free(&b);
    prompts_free(&other);
}

static int compare_lines(const void *a, const void *b) { return strcmp(*(char *const *)a, *(char *const *)b); }

/* The questions among n sequences, sorted, each once. */
static char *questions(const struct tokenizer *t, const int *id, size_t n)
{
    struct bytes text = {0}, out = {0};
    char *line[400];
    int lines = 0;
    tokenizer_decode(&text, t, id, n);
    for (char *at = text.data; at && (at = strstr(at, "question ")); at++) {
        at[strcspn(at, "<")] = 0;
        line[lines++] = at;
        at += strlen(at);
    }
    qsort(line, (size_t)lines, sizeof *line, compare_lines);
    for (int i = 0; i < lines; i++)
        if (i == 0 || strcmp(line[i], line[i - 1]) != 0) bytes_text(&out, "%s\n", line[i]);
    bytes_free(&text);
    return out.data;
}

/* sft, rm and rlhf hold out the same questions, whatever template and shape. */
static void test_one_side(void)
{
    struct tokenizer *t = words_tokenizer();
    struct chat quartet, chatml;
    struct error error;
    struct bytes rows = {0};
    struct dataset sft;
    struct dataset rm;
    struct prompts p = {0}, held_out = {0};
    chat_open(&quartet, TEMPLATE_QUARTET, t);
    chat_open(&chatml, TEMPLATE_CHATML, t);
    for (int i = 0; i < 80; i++)
        bytes_text(&rows, "{\"prompt\":\"question %d\",\"response\":\"a\",\"chosen\":\"b\",\"rejected\":\"c\"}\n", i);
    char *path = words_file("questions.jsonl", rows.data, rows.size);
    struct option_list list = {&path, 1};
    struct sft_options how = {.limit = 100, .validation = 0.3};
    CHECK(sft_data_read(&sft, &path, 1, &quartet, &how, 0, &error) == 0 &&
          rm_data_read(&rm, &path, 1, &quartet, 0.3, 100, 0, &error) == 0 && prompts_read(&p, &held_out, 0.3, &list, &chatml, 100, 1, &error) == 0);
    char *side[] = {questions(t, sft.validation.id, sft.validation.tokens), questions(t, rm.validation.id, rm.validation.tokens),
                    questions(t, held_out.ids.id, held_out.ids.count)};
    CHECK(held_out.count > 10 && held_out.count < 40 && p.count + held_out.count == 80 && sft.validation.count == held_out.count);
    CHECK(strcmp(side[0], side[1]) == 0 && strcmp(side[0], side[2]) == 0);
    for (int i = 0; i < 3; i++) free(side[i]);
    dataset_free(&sft);
    dataset_free(&rm);
    prompts_free(&p);
    prompts_free(&held_out);
    bytes_free(&rows);
    free(path);
    tokenizer_free(t);
    words_clean();
}

int main(void)
{
    test_order();
    test_one_side();
    return test_end("test_prompts");
}
