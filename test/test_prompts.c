/* test_prompts.c - the order of prompts: every epoch a permutation of its own, known from (seed, index) alone; and the
 * held-out share, which keeps equal prompts together. */
#include "common/data/prompts.h"
#include "test/test.h"

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

static void test_hold_out(void)
{
    struct prompts p = {.seed = 1}, out = {0}, none = {0}, all = {0};
    for (int i = 0; i < 2000; i++) prompts_add(&p, (int[]){i / 4, 3}, 2, NULL, NULL);       /* each four times */
    prompts_hold_out(&p, &none, 0);
    CHECK(none.count == 0 && p.count == 2000);
    prompts_hold_out(&p, &out, 0.1);
    CHECK(p.count + out.count == 2000 && out.count > 100 && out.count < 300 && out.count % 4 == 0);
    bool apart = true;
    for (uint32_t i = 0; i < out.count; i++)
        for (uint32_t k = 0; k < p.count; k++)
            apart = apart && out.ids.id[out.prompt[i].first] != p.ids.id[p.prompt[k].first];
    CHECK(apart);
    prompts_hold_out(&p, &all, 1);
    CHECK(p.count == 0 && all.count + out.count == 2000);
    prompts_free(&p);
    prompts_free(&out);
    prompts_free(&none);
    prompts_free(&all);
}

int main(void)
{
    test_order();
    test_hold_out();
    return test_end("test_prompts");
}
