/* prompts.c - prompts are few and short beside answers, so they all stay in memory; the rows they came from are kept as
 * JSON text, because a reward program may need what else stands in them. */
#include "common/data/prompts.h"
#include "common/data/records.h"
#include "common/base/rng.h"
#include "common/data/paths.h"

#include <assert.h>

void prompts_add(struct prompts *p, const int *ids, int n, char *row, char *dialogue)
{
    assert(n > 0);
    if (p->count > UINT32_MAX / 2) die("more than %u prompts", UINT32_MAX / 2);
    p->prompt = host_append(p->prompt, p->count, 1, sizeof *p->prompt);
    p->prompt[p->count++] = (struct prompt){p->ids.count, n, row, dialogue};
    ids_append(&p->ids, ids, (size_t)n);
    p->longest = int_max(p->longest, n);
}

void prompts_free(struct prompts *p)
{
    for (uint32_t i = 0; i < p->count; i++) {
        free(p->prompt[i].row);
        free(p->prompt[i].dialogue);
    }
    free(p->prompt);
    free(p->ids.id);
    free(p->order);
    ledger_free(&p->ledger);
    *p = (struct prompts){0};
}

/* ---- reading ---- */

struct reading {
    struct prompts *prompts, *held_out;
    double share;
    const struct chat *chat;
    int most;
    struct error *error;
};

/* The members "prompt" (the last message) and "messages" (all of them) of a reward program's request. */
static char *dialogue_json(const struct dialogue *d)
{
    static const char *const role[] = {"system", "user", "assistant", "tool"};
    const struct message *last = &d->message[d->count - 1];
    json_auto_t *object = json_object();
    json_t *list = json_array();
    for (int i = 0; i < d->count; i++) {
        const struct message *m = &d->message[i];
        json_t *content = json_stringn(m->content, m->length);
        json_array_append_new(list, json_pack("{s:s, s:o?}", "role", role[m->role], "content", content));
    }
    json_object_set_new(object, "prompt", json_stringn(last->content, last->length));
    json_object_set_new(object, "messages", list);
    char *text = json_dumps(object, JSON_COMPACT | JSON_EMBED);
    if (!text) die("no memory for a prompt");
    return text;
}

/* As far as the answer begins; without a template as a text begins in pretraining: the last message alone. */
static void render(struct ids *ids, const struct chat *chat, const struct dialogue *d)
{
    const struct message *last = &d->message[d->count - 1];
    if (chat->template != TEMPLATE_NONE) {
        chat_render(chat, d, CHAT_TRAIN_ASSISTANT, true, ids, NULL, NULL);
        return;
    }
    if (chat->bos >= 0) ids_add(ids, chat->bos);
    tokenizer_encode(ids, chat->tokenizer, last->content, last->length);
}

static int take_row(void *self, json_t *row, const char *where)
{
    struct reading *r = self;
    struct prompts *p = r->prompts;
    struct ledger *l = &p->ledger;
    struct dialogue d = {.unused = &l->unused};
    struct ids ids = {0};
    char *text = json_dumps(row, JSON_COMPACT | JSON_ENCODE_ANY);
    if (dialogue_from_json(&d, row, FORMAT_AUTO, r->error) != 0) {
        free(text);
        return fail_in(r->error, "%s", where);
    }
    while (d.count > 0 && d.message[d.count - 1].role == ROLE_ASSISTANT) dialogue_pop(&d);
    tally_add(&l->read, "prompts read", 1);
    const char *why = chat_fault(r->chat, &d);
    p->unusable += why != NULL;
    if (!why) render(&ids, r->chat, &d);
    if (!why && (ids.count > (size_t)r->most || ids.count == 0)) {
        why = "longer than the context and --max-new-tokens, or --max-prompt-tokens, allow";
        p->too_long++;
    }
    if (why) {
        tally_add(&l->dropped, why, 1);
        free(text);
    } else {
        if (r->held_out && dialogue_place(&d) < r->share) p = r->held_out;
        prompts_add(p, ids.id, (int)ids.count, text, dialogue_json(&d));
    }
    free(ids.id);
    dialogue_free(&d);
    return 0;
}

int prompts_read(struct prompts *p, struct prompts *held_out, double share, const struct option_list *files,
                 const struct chat *chat, int most, uint64_t seed, struct error *error)
{
    struct reading reading = {p, held_out, share, chat, most, error};
    struct paths paths;
    if (paths_expand(&paths, files, false, error) != 0) return -1;
    if (paths.left_out.size) fputs(paths.left_out.data, stderr);
    p->seed = seed;
    if (held_out) held_out->seed = seed;
    int bad = records_read(paths.path, paths.count, true, &p->ledger, take_row, &reading, error);
    paths_free(&paths);
    if (bad) return -1;
    if (p->count > 0) return 0;
    char what[80];
    snprintf(what, sizeof what, "no prompt is left (of at most %d tokens)", most);
    ledger_nothing(&p->ledger, what, held_out && held_out->count > 0, error);
    return fail_in(error, "%s", files->item[0]);
}

uint32_t prompts_identity(const struct prompts *p)
{
    uint32_t crc = 0;
    for (uint32_t i = 0; i < p->count; i++) {
        const struct prompt *q = &p->prompt[i];
        crc = crc32_of(crc, p->ids.id + q->first, (size_t)q->count * sizeof(int));
        if (q->row) crc = crc32_of(crc, q->row, strlen(q->row) + 1);
    }
    return crc;
}

/* ---- serving ---- */

const struct prompt *prompts_at(struct prompts *p, uint64_t index)
{
    uint64_t epoch = index / p->count;
    if (!p->order || p->epoch != epoch) {
        if (!p->order) p->order = host_alloc(p->count, sizeof *p->order);
        struct rng random = rng_at(p->seed, RNG_SHUFFLE, epoch, 0);
        rng_shuffle(p->order, p->count, &random);
        p->epoch = epoch;
    }
    return &p->prompt[p->order[index % p->count]];
}
