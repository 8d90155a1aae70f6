/* data.c - which part of a dialogue is kept.  Its place is decided by its first user message, so that no question is in
 * both halves however often it occurs. */
#include "sft/data.h"
#include "common/train/program.h"

#include <stdlib.h>

struct reader {
    struct dataset *data;
    const struct chat *chat;
    const struct sft_options *options;
    int max_prompts;
    struct error *error;
    struct ids ids, ends;
    struct bytes mask;
    struct dialogue first;           /* of the training half: for samples when nothing is held out */
};

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
    struct dataset *data = r->data;
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
    struct dataset *data = r->data;
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
        dataset_add(data, held_out, r->ids.id, r->mask.data, (int[]){(int)r->ids.count}, 1, NULL);
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

int sft_data_read(struct dataset *d, char *const *path, int n, const struct chat *chat, const struct sft_options *o,
                  int max_prompts, struct error *error)
{
    struct reader r = {.data = d, .chat = chat, .options = o, .max_prompts = max_prompts, .error = error};
    int status = dataset_read(d, path, n, o->skip_bad_rows, "no trainable token in the data", take, &r, error);
    if (status == 0 && d->prompts == 0 && r.first.count > 0 && max_prompts > 0) keep_prompt(&r, &r.first);
    free(r.ids.id);
    free(r.ends.id);
    bytes_free(&r.mask);
    dialogue_free(&r.first);
    return status;
}

static void report_half(struct bytes *out, const char *name, const struct sequences *s)
{
    bytes_text(out, "%8u  dialogues to %s: %llu tokens, %llu of them trained\n", s->count, name,
               (unsigned long long)s->tokens, (unsigned long long)s->targets);
}

void sft_data_report(struct bytes *out, const struct dataset *d)
{
    ledger_report(out, &d->ledger);
    report_half(out, "train on", &d->train);
    report_half(out, "validate on", &d->validation);
}
