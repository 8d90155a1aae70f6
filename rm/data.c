/* data.c - what makes a ranking usable is decided here, once, for training and for scoring. */
#include "rm/data.h"
#include "common/train/program.h"
#include "common/data/records.h"
#include "rm/ranking.h"

#include <stdlib.h>
#include <string.h>

/* ---- one ranking ---- */

static void remove_answer(struct ranking *r, int i)
{
    struct message gone = r->answers.message[i];
    for (int k = i; k + 1 < r->answers.count; k++) {
        r->answers.message[k] = r->answers.message[k + 1];
        r->quality[k] = r->quality[k + 1];
    }
    r->answers.message[r->answers.count - 1] = gone;
    dialogue_pop(&r->answers);
}

static const char *tidy(struct ranking *r, const struct chat *chat, bool compare, struct tally *changed)
{
    const struct dialogue *p = &r->prompt;
    const char *fault = r->fault ? r->fault : chat_fault(chat, p);
    if (fault) return fault;
    if (p->message[p->count - 1].role == ROLE_ASSISTANT) return "a prompt that ends with an answer";
    for (int i = r->answers.count - 1; i >= 0; i--) {
        message_cut_end_marks(&r->answers.message[i], changed);
        if (!compare || !message_blank(&r->answers.message[i])) continue;
        remove_answer(r, i);
        tally_add(changed, "empty answers left out", 1);
    }
    if (!compare) return NULL;
    for (; r->answers.count > RANKING_MOST; tally_add(changed, "answers left out: more than 64 of one prompt", 1))
        dialogue_pop(&r->answers);
    return NULL;
}

/* Prompt and answer for each answer, one after the other.  Returns how many answers are cut. */
static int encode(struct ids *ids, struct ids *ends, struct ranking *r, const struct chat *chat, int limit)
{
    int cut = 0;
    ids->count = ends->count = 0;
    for (int i = 0; i < r->answers.count; i++) {
        size_t start = ids->count;
        dialogue_add(&r->prompt, ROLE_ASSISTANT, r->answers.message[i].content, r->answers.message[i].length);
        chat_render(chat, &r->prompt, CHAT_TRAIN_ASSISTANT, false, ids, NULL, NULL);
        dialogue_pop(&r->prompt);
        if (ids->count - start > (size_t)limit) {        /* the score is read at the end token, so it stays */
            ids->count = start + (size_t)limit;
            ids->id[ids->count - 1] = chat->end;
            cut++;
        }
        ids_add(ends, (int)ids->count);
    }
    return cut;
}

/* The worse of two equal answers goes: they cannot both be right, and which is better says nothing. */
static bool remove_equal(struct ranking *r, const struct ids *ids, const struct ids *ends, struct tally *changed)
{
    for (int i = 0; i < r->answers.count; i++)
        for (int j = 0; j < i; j++) {
            int a = i ? ends->id[i - 1] : 0, b = j ? ends->id[j - 1] : 0, n = ends->id[i] - a;
            if (n != ends->id[j] - b || memcmp(ids->id + a, ids->id + b, (size_t)n * sizeof *ids->id) != 0) continue;
            bool cut = r->answers.message[i].length != r->answers.message[j].length ||
                strcmp(r->answers.message[i].content, r->answers.message[j].content) != 0;
            remove_answer(r, r->quality[i] > r->quality[j] ? j : i);
            tally_add(changed, cut ? "answers left out: once cut, equal to another of the same prompt"
                                   : "answers left out: equal to another of the same prompt", 1);
            return true;
        }
    return false;
}

const char *ranking_tokens(struct ids *ids, struct ids *ends, int *prompt, struct ranking *r, const struct chat *chat,
                           int limit, bool compare, struct tally *changed)
{
    const char *why = tidy(r, chat, compare, changed);
    struct ids asked = {0};
    int longest = 0, cut;
    if (why) return why;
    for (int i = 0; i < r->answers.count; i++) {
        struct ids one = {0};
        tokenizer_encode(&one, chat->tokenizer, r->answers.message[i].content, r->answers.message[i].length);
        longest = int_max(longest, (int)one.count + 1);
        free(one.id);
    }
    int forgotten = chat_render_prompt(&asked, chat, &r->prompt, limit - longest);
    *prompt = (int)asked.count;
    free(asked.id);
    if (*prompt + int_min(longest, limit / 4) > limit)
        return "too long: the last question leaves no room for an answer";
    do cut = encode(ids, ends, r, chat, limit);
    while (compare && remove_equal(r, ids, ends, changed));
    if (compare && r->answers.count < 2) return "fewer than two different answers";
    if (compare && ranking_pairs(r->quality, r->answers.count) == 0) return "all answers are tied";
    tally_add(changed, "prompts that lost their earliest turns: too long", forgotten > 0);
    tally_add(changed, "answers cut: too long", (uint64_t)cut);
    return NULL;
}

/* ---- all of them ---- */

static void make_room(struct rankings *k, size_t tokens, size_t answers)
{
    k->id = host_append(k->id, k->tokens, tokens, sizeof *k->id);
    k->start = host_append(k->start, k->answers, answers, sizeof *k->start);
    k->length = host_append(k->length, k->answers, answers, sizeof *k->length);
    k->spoken = host_append(k->spoken, k->answers, answers, sizeof *k->spoken);
    k->quality = host_append(k->quality, k->answers, answers, sizeof *k->quality);
    k->group_tokens = host_append(k->group_tokens, k->groups, 1, sizeof *k->group_tokens);
    k->first = host_append(k->first, k->groups + 1u, 1, sizeof *k->first);
}

static void add_group(struct rankings *k, const struct ids *ids, const struct ids *ends, int prompt,
                      const double *quality)
{
    make_room(k, ids->count, ends->count);
    memcpy(k->id + k->tokens, ids->id, ids->count * sizeof *ids->id);
    k->first[k->groups] = k->answers;
    k->group_tokens[k->groups++] = (uint32_t)ids->count;
    for (size_t i = 0; i < ends->count; i++) {
        int begin = i ? ends->id[i - 1] : 0, a = (int)k->answers++;
        k->start[a] = k->tokens + (uint64_t)begin;
        k->length[a] = (uint32_t)(ends->id[i] - begin);
        k->spoken[a] = k->length[a] - (uint32_t)prompt;
        k->quality[a] = quality[i];
    }
    k->first[k->groups] = k->answers;
    k->tokens += ids->count;
    k->pairs += (uint64_t)ranking_pairs(quality, (int)ends->count);
}

struct reader {
    struct rm_data *data;
    const struct chat *chat;
    double share;
    int limit;
    struct ids ids, ends;
    struct error *error;
};

static void take_ranking(void *self, struct ranking *r)
{
    struct reader *x = self;
    struct rm_data *d = x->data;
    int prompt;
    bool held_out = dialogue_place(&r->prompt) < x->share;
    tally_add(&d->ledger.read, "rankings read", 1);
    const char *why = ranking_tokens(&x->ids, &x->ends, &prompt, r, x->chat, x->limit, true, &d->ledger.changed);
    if (why) {
        tally_add(&d->ledger.dropped, why, 1);
        return;
    }
    dialogue_mended(&r->prompt, &d->ledger.changed);
    add_group(held_out ? &d->validation : &d->train, &x->ids, &x->ends, prompt, r->quality);
    if (x->ids.count > d->largest) d->largest = (uint32_t)x->ids.count;
    d->identity = crc32_of(d->identity, x->ids.id, x->ids.count * sizeof(int));
    d->identity = crc32_of(d->identity, r->quality, x->ends.count * sizeof(double));
}

static int take_row(void *self, json_t *row, const char *where)
{
    struct reader *x = self;
    tally_add(&x->data->ledger.read, "rows read", 1);
    int bad = rankings_from_json(row, true, &x->data->ledger.unused, take_ranking, x, x->error);
    return bad ? fail_in(x->error, "%s", where) : 0;
}

int rm_data_read(struct rm_data *d, char *const *path, int n, const struct chat *chat, double share, int limit,
                 double skip_bad_rows, struct error *error)
{
    *d = (struct rm_data){.ledger.skip = skip_bad_rows};
    struct reader x = {.data = d, .chat = chat, .share = share, .limit = limit, .error = error};
    int status = records_read(path, n, false, &d->ledger, take_row, &x, error);
    free(x.ids.id);
    free(x.ends.id);
    if (status == 0 && d->train.groups == 0)
        status = ledger_nothing(&d->ledger, "no ranking to train on", d->validation.groups > 0, error);
    if (status != 0) rm_data_free(d);
    return status;
}

/* ---- where they live ---- */

static void rankings_settle(struct rankings *k, struct memory *m)
{
    k->id = memory_settle(m, k->id, k->tokens, sizeof *k->id);
    k->start = memory_settle(m, k->start, k->answers, sizeof *k->start);
    k->length = memory_settle(m, k->length, k->answers, sizeof *k->length);
    k->spoken = memory_settle(m, k->spoken, k->answers, sizeof *k->spoken);
    k->quality = memory_settle(m, k->quality, k->answers, sizeof *k->quality);
    k->group_tokens = memory_settle(m, k->group_tokens, k->groups, sizeof *k->group_tokens);
    k->first = memory_settle(m, k->first, k->groups ? k->groups + 1u : 0, sizeof *k->first);
    k->settled = m->state != MEASURING;
}

void rm_data_settle(struct rm_data *d, struct memory *m)
{
    rankings_settle(&d->train, m);
    rankings_settle(&d->validation, m);
}

static void rankings_free(struct rankings *k)
{
    void *each[] = {k->id, k->start, k->length, k->spoken, k->quality, k->group_tokens, k->first};
    for (int i = 0; i < 7 && !k->settled; i++) free(each[i]);
    *k = (struct rankings){0};
}

void rm_data_free(struct rm_data *d)
{
    rankings_free(&d->train);
    rankings_free(&d->validation);
    ledger_free(&d->ledger);
    *d = (struct rm_data){0};
}

static void report_half(struct bytes *out, const char *name, const struct rankings *k)
{
    bytes_text(out, "%8u  prompts to %s: %u answers, %llu pairs, %llu tokens\n", k->groups, name, k->answers,
               (unsigned long long)k->pairs, (unsigned long long)k->tokens);
}

void rm_data_report(struct bytes *out, const struct rm_data *d)
{
    ledger_report(out, &d->ledger);
    report_half(out, "train on", &d->train);
    report_half(out, "validate on", &d->validation);
}
