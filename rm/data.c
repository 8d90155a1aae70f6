/* data.c - what makes a ranking usable is decided here, once, for training and for scoring. */
#include "rm/data.h"
#include "common/train/program.h"
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

/* The tokens of each answer by itself.  Returns those of the longest. */
static int encode_answers(struct ids *ids, struct ids *ends, const struct ranking *r, const struct chat *chat)
{
    int longest = 0;
    ids->count = ends->count = 0;
    for (int i = 0; i < r->answers.count; i++) {
        size_t start = ids->count;
        tokenizer_encode(ids, chat->tokenizer, r->answers.message[i].content, r->answers.message[i].length);
        longest = int_max(longest, (int)(ids->count - start));
        ids_add(ends, (int)ids->count);
    }
    return longest;
}

/* Prompt and answer for each answer, one after the other; `asked`, `answer`: their tokens where they are those of the
 * whole.  Returns how many answers are cut. */
static int encode(struct ids *ids, struct ids *ends, struct ranking *r, const struct chat *chat, int limit,
                  const struct ids *asked, const struct ids *answer, const struct ids *answer_ends)
{
    int cut = 0;
    bool alone = chat_answers_alone(chat);
    ids->count = ends->count = 0;
    for (int i = 0; i < r->answers.count; i++) {
        size_t start = ids->count;
        if (alone) {
            int from = i ? answer_ends->id[i - 1] : 0;
            ids_append(ids, asked->id, asked->count);
            ids_append(ids, answer->id + from, (size_t)(answer_ends->id[i] - from));
            ids_add(ids, chat->end);
        } else {
            dialogue_add(&r->prompt, ROLE_ASSISTANT, r->answers.message[i].content, r->answers.message[i].length);
            chat_render(chat, &r->prompt, CHAT_TRAIN_ASSISTANT, false, ids, NULL, NULL);
            dialogue_pop(&r->prompt);
        }
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
    struct ids asked = {0}, answer = {0}, answer_ends = {0};
    int cut = 0;
    if (why) return why;
    int longest = encode_answers(&answer, &answer_ends, r, chat) + 1;
    int forgotten = chat_render_prompt(&asked, chat, &r->prompt, limit - longest);
    *prompt = (int)asked.count;
    if (*prompt + int_min(longest, limit / 4) > limit) why = "too long: the last question leaves no room for an answer";
    while (!why) {
        cut = encode(ids, ends, r, chat, limit, &asked, &answer, &answer_ends);
        if (!compare || !remove_equal(r, ids, ends, changed)) break;
        encode_answers(&answer, &answer_ends, r, chat);
    }
    free(asked.id);
    free(answer.id);
    free(answer_ends.id);
    if (why) return why;
    if (compare && r->answers.count < 2) return "fewer than two different answers";
    if (compare && ranking_pairs(r->quality, r->answers.count) == 0) return "all answers are tied";
    tally_add(changed, "prompts that lost their earliest turns: too long", forgotten > 0);
    tally_add(changed, "answers cut: too long", (uint64_t)cut);
    return NULL;
}

/* ---- all of them ---- */

struct reader {
    struct dataset *data;
    const struct chat *chat;
    double share;
    int limit;
    struct ids ids, ends;
    struct error *error;
};

static void take_ranking(void *self, struct ranking *r)
{
    struct reader *x = self;
    struct dataset *d = x->data;
    int prompt;
    bool held_out = dialogue_place(&r->prompt) < x->share;
    tally_add(&d->ledger.read, "rankings read", 1);
    const char *why = ranking_tokens(&x->ids, &x->ends, &prompt, r, x->chat, x->limit, true, &d->ledger.changed);
    if (why) {
        tally_add(&d->ledger.dropped, why, 1);
        return;
    }
    dialogue_mended(&r->prompt, &d->ledger.changed);
    char *mask = host_alloc(x->ids.count, 1);
    memset(mask, 1, x->ids.count);
    for (size_t i = 0; i < x->ends.count; i++) memset(mask + (i ? x->ends.id[i - 1] : 0), 0, (size_t)prompt);
    dataset_add(d, held_out, x->ids.id, mask, x->ends.id, x->ends.count, r->quality);
    free(mask);
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

int rm_data_read(struct dataset *d, char *const *path, int n, const struct chat *chat, double share, int limit,
                 double skip_bad_rows, struct error *error)
{
    struct reader x = {.data = d, .chat = chat, .share = share, .limit = limit, .error = error};
    int status = dataset_read(d, path, n, skip_bad_rows, "no ranking to train on", take_row, &x, error);
    free(x.ids.id);
    free(x.ends.id);
    return status;
}

int64_t rm_data_pairs(const struct sequences *s)
{
    int64_t pairs = 0;
    for (uint32_t g = 0; g < s->items; g++)
        pairs += ranking_pairs(s->quality + s->first[g], (int)(s->first[g + 1] - s->first[g]));
    return pairs;
}

static void report_half(struct bytes *out, const char *name, const struct sequences *s)
{
    bytes_text(out, "%8u  prompts to %s: %u answers, %lld pairs, %llu tokens\n", s->items, name, s->count,
               (long long)rm_data_pairs(s), (unsigned long long)s->tokens);
}

void rm_data_report(struct bytes *out, const struct dataset *d)
{
    ledger_report(out, &d->ledger);
    report_half(out, "train on", &d->train);
    report_half(out, "validate on", &d->validation);
}
