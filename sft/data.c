/* data.c - a data set is read whole: even a million dialogues are but a few GB of ids, and a shuffle that sees all of
 * them beats one that sees a window.  A dialogue's place is decided by its first user message, so that no question is
 * in both halves however often it occurs. */
#include "sft/data.h"
#include "common/train/program.h"
#include "common/data/records.h"

#include <stdlib.h>
#include <string.h>

struct reader {
    struct sft_data *data;
    const struct chat *chat;
    const struct sft_options *options;
    int max_prompts;
    struct error *error;
    struct ids ids, ends;
    struct bytes mask;
    struct dialogue first;           /* of the training half: for samples when nothing is held out */
};

/* ---- sequences ---- */

static void sequences_add(struct sequences *s, const int *id, const char *trained, size_t n)
{
    s->id = host_append(s->id, s->tokens, n, sizeof *s->id);
    s->trained = host_append(s->trained, s->tokens, n, 1);
    s->start = host_append(s->start, s->count, 1, sizeof *s->start);
    s->length = host_append(s->length, s->count, 1, sizeof *s->length);
    memcpy(s->id + s->tokens, id, n * sizeof *id);
    memcpy(s->trained + s->tokens, trained, n);
    s->start[s->count] = s->tokens;
    s->length[s->count++] = (uint32_t)n;
    s->tokens += n;
    for (size_t i = 0; i < n; i++) s->targets += (uint64_t)trained[i];
}

static void sequences_settle(struct sequences *s, struct memory *m)
{
    s->id = memory_settle(m, s->id, s->tokens, sizeof *s->id);
    s->trained = memory_settle(m, s->trained, s->tokens, 1);
    s->start = memory_settle(m, s->start, s->count, sizeof *s->start);
    s->length = memory_settle(m, s->length, s->count, sizeof *s->length);
    s->settled = m->state != MEASURING;
}

void sft_data_settle(struct sft_data *d, struct memory *m)
{
    sequences_settle(&d->train, m);
    sequences_settle(&d->validation, m);
}

static void sequences_free(struct sequences *s)
{
    void *each[] = {s->id, s->trained, s->start, s->length};
    for (int i = 0; i < 4 && !s->settled; i++) free(each[i]);
    *s = (struct sequences){0};
}

void sft_data_free(struct sft_data *d)
{
    sequences_free(&d->train);
    sequences_free(&d->validation);
    ledger_free(&d->ledger);
    for (int i = 0; i < d->prompts; i++) free(d->prompt[i].id);
    free(d->prompt);
    *d = (struct sft_data){0};
}

/* ---- one dialogue ---- */

static bool teaches(const struct message *m) { return m->role == ROLE_ASSISTANT && !m->muted; }

static const char *tidy(struct dialogue *d, const struct chat *chat, struct tally *changed)
{
    const char *fault = d->unwanted ? d->unwanted : chat_fault(chat, d);
    if (fault) return fault;
    dialogue_mended(d, changed);
    const char *empty = "no answer";
    for (; d->count > 0 && !teaches(&d->message[d->count - 1]); dialogue_pop(d)) {
        if (d->message[d->count - 1].role == ROLE_ASSISTANT) empty = "all answers are marked as not to be trained on";
        tally_add(changed, "last messages left out: no answer to train on follows", 1);
    }
    if (d->count == 0) return empty;
    for (int i = 0; i < d->count; i++) {
        if (d->message[i].role != ROLE_ASSISTANT) continue;
        message_cut_end_marks(&d->message[i], changed);
        if (message_blank(&d->message[i])) return "an empty answer";
        if (d->message[i].muted)
            tally_add(changed, "answers not trained on: marked so (weight, train, loss)", 1);
    }
    return NULL;
}

static void render(struct reader *r, const struct dialogue *d)
{
    r->ids.count = r->mask.size = r->ends.count = 0;
    chat_render(r->chat, d, r->options->train, false, &r->ids, &r->mask, &r->ends);
}

/* Renders, cutting whole turns off the end until it fits; a reason when not even the first answer does. */
static const char *fit(struct reader *r, struct dialogue *d)
{
    render(r, d);
    if (r->ids.count <= (size_t)r->options->limit) return NULL;
    int keep = d->count;
    while (keep > 0 && (r->ends.id[keep - 1] > r->options->limit || !teaches(&d->message[keep - 1]))) keep--;
    if (keep == 0) return "too long: not one answer fits";
    while (d->count > keep) dialogue_pop(d);
    tally_add(&r->data->ledger.changed, "dialogues cut at a turn border: too long", 1);
    render(r, d);
    return NULL;
}

/* Keeps the dialogue up to its first question as a prompt for samples. */
static void keep_prompt(struct reader *r, const struct dialogue *d)
{
    struct sft_data *data = r->data;
    struct dialogue question = *d;
    question.count = 0;
    while (question.count < d->count && d->message[question.count].role != ROLE_ASSISTANT) question.count++;
    data->prompt = host_grow(data->prompt, (size_t)data->prompts + 1, sizeof *data->prompt);
    struct ids *ids = &data->prompt[data->prompts++];
    *ids = (struct ids){0};
    chat_render(r->chat, &question, CHAT_TRAIN_ASSISTANT, true, ids, NULL, NULL);
}

static int take(void *self, json_t *row, const char *where)
{
    struct reader *r = self;
    struct sft_data *data = r->data;
    struct ledger *l = &data->ledger;
    struct dialogue d = {.unused = &l->unused};
    if (dialogue_from_json(&d, row, r->options->format, r->error) != 0) return fail_in(r->error, "%s", where);
    tally_add(&l->read, "rows read", 1);
    const char *why = tidy(&d, r->chat, &l->changed);
    if (!why) why = fit(r, &d);
    if (why) {
        tally_add(&l->dropped, why, 1);
    } else {
        bool held_out = dialogue_place(&d) < r->options->validation;
        if (r->ids.count > data->longest) data->longest = (uint32_t)r->ids.count;
        sequences_add(held_out ? &data->validation : &data->train, r->ids.id, r->mask.data, r->ids.count);
        if (held_out && data->prompts < r->max_prompts) keep_prompt(r, &d);
        data->identity = crc32_of(data->identity, r->ids.id, r->ids.count * sizeof(int));
        data->identity = crc32_of(data->identity, r->mask.data, r->mask.size);
        if (!held_out && r->first.count == 0) {
            r->first = d;
            return 0;
        }
    }
    dialogue_free(&d);
    return 0;
}

int sft_data_read(struct sft_data *d, char *const *path, int n, const struct chat *chat, const struct sft_options *o,
                  int max_prompts, struct error *error)
{
    *d = (struct sft_data){.ledger.skip = o->skip_bad_rows};
    struct reader r = {.data = d, .chat = chat, .options = o, .max_prompts = max_prompts, .error = error};
    int status = records_read(path, n, false, &d->ledger, take, &r, error);
    if (status == 0 && d->prompts == 0 && r.first.count > 0 && max_prompts > 0) keep_prompt(&r, &r.first);
    free(r.ids.id);
    free(r.ends.id);
    bytes_free(&r.mask);
    dialogue_free(&r.first);
    if (status == 0 && d->train.targets == 0)
        status = ledger_nothing(&d->ledger, "no trainable token in the data", d->validation.count > 0, error);
    if (status != 0) sft_data_free(d);
    return status;
}

static void report_half(struct bytes *out, const char *name, const struct sequences *s)
{
    bytes_text(out, "%8u  dialogues to %s: %llu tokens, %llu of them trained\n", s->count, name,
               (unsigned long long)s->tokens, (unsigned long long)s->targets);
}

void sft_data_report(struct bytes *out, const struct sft_data *d)
{
    ledger_report(out, &d->ledger);
    report_half(out, "train on", &d->train);
    report_half(out, "validate on", &d->validation);
}
