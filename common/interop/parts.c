/* parts.c - where each row lies here follows from where ours lie there; neighbours are read at once. */
#define _GNU_SOURCE
#include "common/interop/parts.h"
#include "common/interop/chat_jinja.h"
#include "common/model/params.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

enum { STRIP = 4 << 20 };

struct listing { struct parts *x; struct error *error; int status; };

/* The tensors that one of our parameters becomes.  Theirs have no bias of the score: config.json's mean takes it. */
static void add_parts(void *context, const struct param *p)
{
    struct listing *l = context;
    struct parts *x = l->x;
    char *name[PIECES];
    const char *end;
    enum slot slot;
    int layer;
    if (l->status != 0 || !family_slot(&slot, &layer, &end, p->name)) return;
    if (slot == SLOT_SCORE && strcmp(end, "bias") == 0) return;
    int64_t found = ckpt_find(x->ckpt, p->name, ROLE_WEIGHT);
    int pieces = found < 0 ? 0 : family_names(name, x->family, slot, layer, end);
    if (pieces == 0)
        l->status = fail(l->error, found < 0 ? EXIT_DATA : EXIT_MISMATCH, "%s: the tensor %s %s", ckpt_path(x->ckpt),
                         p->name, found < 0 ? "is missing" : "has no name in such a file of this architecture");
    bool linear = p->ndim == 2 && slot != SLOT_EMBED && slot != SLOT_POSITION && slot != SLOT_HEAD;
    for (int i = 0; i < pieces; i++) {
        struct part o = {.name = name[i], .slot = slot, .piece = i, .pieces = pieces,
                         .transposed = x->family->transposed && linear, .vector = p->ndim == 1,
                         .rows = family_rows(&x->config, slot, i, pieces, p->shape[0]),
                         .columns = p->ndim == 2 ? p->shape[1] : 1, .tensor = (size_t)found,
                         .dtype = ckpt_tensor_at(x->ckpt, (size_t)found)->dtype};
        if (slot == SLOT_POSITION) o.rows += x->family->position_rows;
        x->part = host_append(x->part, x->count, 1, sizeof *x->part);
        x->part[x->count++] = o;
    }
}

int parts_list(struct parts *x, struct error *error)
{
    struct listing l = {x, error, 0};
    struct params params = {.layer = host_alloc((size_t)x->config.layers, sizeof *params.layer)};
    params_each(&params, &x->config, add_parts, &l);
    free(params.layer);
    return l.status;
}

void parts_free(struct parts *x)
{
    for (size_t i = 0; i < x->count; i++) {
        free(x->part[i].name);
        free(x->part[i].given);
    }
    free(x->part);
}

/* Rows from, from + 1 ... of theirs, `n` of them. */
static int read_rows(const struct parts *x, const struct part *o, uint8_t *out, const int64_t *ours, int64_t from,
                     int64_t n, struct error *error)
{
    size_t row = (size_t)o->columns * dtype_size(o->dtype);
    for (int64_t i = 0, run; i < n; i += run) {
        int64_t first = ours[from + i];
        run = 1;
        while (i + run < n && ours[from + i + run] == (first < 0 ? first : first + run)) run++;
        if (first < 0) memset(out + (size_t)i * row, 0, (size_t)run * row);
        else if (tensor_read(x->ckpt, o->tensor, out + (size_t)i * row, (uint64_t)first * row, (size_t)run * row,
                             error) != 0)
            return -1;
    }
    return 0;
}

int parts_rows(const struct parts *x, const struct part *o,
               int (*take)(void *self, const uint8_t *values, size_t rows, struct error *error), void *self,
               struct error *error)
{
    int64_t all = (int64_t)ckpt_tensor_at(x->ckpt, o->tensor)->shape[0];
    size_t row = (size_t)o->columns * dtype_size(o->dtype);
    int64_t high = STRIP / (int64_t)row;
    int64_t *ours = host_alloc((size_t)o->rows + 1, sizeof *ours);
    if (high < 1) high = 1;
    if (high > o->rows) high = o->rows;
    uint8_t *strip = host_alloc((size_t)high + 1, row);
    int status = 0;
    for (int64_t i = 0; i < o->rows; i++) ours[i] = -1;
    for (int64_t r = 0; r < all; r++) {
        struct family_place at = family_place(x->family, &x->config, o->slot, o->pieces, all, r);
        if (at.piece == o->piece) ours[at.row] = r;
    }
    for (int64_t from = 0; from < o->rows && status == 0; from += high) {
        int64_t n = o->rows - from < high ? o->rows - from : high;
        status = read_rows(x, o, strip, ours, from, n, error);
        if (status == 0) status = take(self, strip, (size_t)n, error);
    }
    free(strip);
    free(ours);
    return status;
}

int parts_write(int file, const void *data, uint64_t offset, size_t size)
{
    if (file_write_at(file, data, offset, size) != 0) return -1;
    (void)sync_file_range(file, (off_t)offset, (off_t)size, SYNC_FILE_RANGE_WRITE);     /* where it is not there: later */
    return 0;
}

int speech_open(struct speech *s, const struct ckpt *c, struct error *error)
{
    const struct ckpt_meta *m = ckpt_meta_of(c);
    *s = (struct speech){.bos = -1, .eos = -1};
    if (m->tokn.size == 0) return 0;
    if (tokenizer_read(&s->tokenizer, m->tokn.data, m->tokn.size, error) != 0 ||
        (m->chat.count && chat_read(&s->chat, &m->chat, s->tokenizer, error) != 0)) return -1;
    bool known = s->chat.tokenizer;
    s->bos = known ? s->chat.bos : tokenizer_document(s->tokenizer);
    s->stops = stops_of(&s->chat, s->tokenizer, &m->meta);
    s->eos = s->stops.count ? s->stops.id[0] : -1;
    if (kv_get_text(&m->meta, "chat_template", &s->template) != 1 && known) s->template = chat_jinja(s->chat.template);
    return 0;
}
