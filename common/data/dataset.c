/* dataset.c - even a million dialogues are but a few GB of ids, and a shuffle that sees all of them beats one that sees
 * a window. */
#include "common/data/dataset.h"
#include "common/data/records.h"

/* Every array once, with the size of its elements, how many it has and how many more are to come. */
enum { ARRAYS = 8 };
struct array { void *__attribute__((may_alias)) *data; size_t size, count, more; };

static void arrays_of(struct array out[ARRAYS], struct sequences *s, size_t tokens, size_t sequences)
{
    const struct array all[ARRAYS] = {
        {(void *)&s->id, sizeof *s->id, s->tokens, tokens}, {(void *)&s->trained, 1, s->tokens, tokens},
        {(void *)&s->start, sizeof *s->start, s->count, sequences},
        {(void *)&s->length, sizeof *s->length, s->count, sequences},
        {(void *)&s->spoken, sizeof *s->spoken, s->count, sequences},
        {(void *)&s->quality, sizeof *s->quality, s->count, sequences},
        {(void *)&s->first, sizeof *s->first, s->items + 1u, 1},
        {(void *)&s->item_tokens, sizeof *s->item_tokens, s->items, 1}};
    memcpy(out, all, sizeof all);
}

void dataset_add(struct dataset *d, bool held_out, const int *id, const char *trained, const int *end, size_t n,
                 const double *quality)
{
    struct sequences *s = held_out ? &d->validation : &d->train;
    struct array array[ARRAYS];
    size_t tokens = (size_t)end[n - 1];
    arrays_of(array, s, tokens, n);
    for (int k = 0; k < ARRAYS; k++)
        *array[k].data = host_append(*array[k].data, array[k].count, array[k].more, array[k].size);
    memcpy(s->id + s->tokens, id, tokens * sizeof *id);
    memcpy(s->trained + s->tokens, trained, tokens);
    s->first[s->items] = s->count;
    s->item_tokens[s->items++] = (uint32_t)tokens;
    for (size_t i = 0; i < n; i++, s->count++) {
        int begin = i ? end[i - 1] : 0, spoken = 0;
        for (int t = begin; t < end[i]; t++) spoken += trained[t];
        s->start[s->count] = s->tokens + (uint64_t)begin;
        s->length[s->count] = (uint32_t)(end[i] - begin);
        s->spoken[s->count] = (uint32_t)spoken;
        s->quality[s->count] = quality ? quality[i] : 0;
        s->targets += (uint64_t)spoken;
    }
    s->first[s->items] = s->count;
    s->tokens += tokens;
    if (tokens > d->longest) d->longest = (uint32_t)tokens;
}

static void sequences_settle(struct sequences *s, struct memory *m)
{
    struct array array[ARRAYS];
    arrays_of(array, s, 0, 0);
    for (int k = 0; k < ARRAYS && s->items; k++)
        *array[k].data = memory_settle(m, *array[k].data, array[k].count, array[k].size);
    s->settled = m->state != MEASURING;
}

void dataset_settle(struct dataset *d, struct memory *m)
{
    sequences_settle(&d->train, m);
    sequences_settle(&d->validation, m);
}

static void sequences_free(struct sequences *s)
{
    struct array array[ARRAYS];
    arrays_of(array, s, 0, 0);
    for (int k = 0; k < ARRAYS && !s->settled; k++) free(*array[k].data);
}

void dataset_free(struct dataset *d)
{
    sequences_free(&d->train);
    sequences_free(&d->validation);
    ledger_free(&d->ledger);
    for (int i = 0; i < d->prompts; i++) free(d->prompt[i].id);
    free(d->prompt);
    *d = (struct dataset){0};
}

int dataset_read(struct dataset *d, char *const *path, int n, double skip_bad_rows, const char *nothing,
                 int (*take)(void *self, json_t *row, const char *where), void *self, struct error *error)
{
    *d = (struct dataset){.ledger.skip = skip_bad_rows};
    int status = records_read(path, n, false, &d->ledger, take, self, error);
    if (status == 0 && d->train.targets == 0)
        status = ledger_nothing(&d->ledger, nothing, d->validation.items > 0, error);
    if (status != 0) dataset_free(d);
    return status;
}

int sequences_batch(struct batch *b, const struct sequences *s, uint32_t item)
{
    int targets = 0;
    for (uint32_t i = s->first[item]; i < s->first[item + 1]; i++)
        targets += batch_add(b, s->id + s->start[i], s->trained + s->start[i], (int)s->length[i]);
    return targets;
}
