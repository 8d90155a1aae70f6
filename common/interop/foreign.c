/* foreign.c - our parameters are visited in file order; where each row of one lies in their tensors follows from the
 * family's row of the table.  Reading goes from our bytes to theirs, so that a part of a parameter needs no more memory
 * than itself, and any number of threads may read. */
#include "common/interop/foreign.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* ---- which tensors ---- */

/* With the family's prefix or, as some files have it, without. */
static struct st_tensor *find(const struct foreign *m, const char *name)
{
    size_t prefix = strlen(m->names->prefix);
    struct st_tensor *t = safetensors_find(&m->tensors, name);
    bool prefixed = strncmp(name, m->names->prefix, prefix) == 0;
    return t || !prefixed ? t : safetensors_find(&m->tensors, name + prefix);
}

static struct st_tensor *find_slot(const struct foreign *m, enum slot slot)
{
    char *name[PIECES];
    if (family_names(name, m->names, slot, 0, "weight") == 0) return NULL;
    struct st_tensor *t = find(m, name[0]);
    free(name[0]);
    return t;
}

/* Does a tensor have the shape of a piece?  A score head is a matrix of one row there. */
static int check_piece(const struct foreign *m, const struct target *t, int piece, struct error *error)
{
    const struct st_tensor *x = t->piece[piece];
    const struct config *c = &m->config;
    const char *path = m->tensors.file[x->file].path;
    uint64_t rows = (uint64_t)family_rows(c, t->slot, piece, t->pieces, t->rows), columns = (uint64_t)t->columns;
    if (t->slot == SLOT_POSITION) rows += (uint64_t)m->names->position_rows;
    if (t->slot == SLOT_SCORE && x->ndim == 2) { columns = rows; rows = 1; }
    bool vector = t->slot != SLOT_SCORE && t->ndim == 1;
    uint64_t want[2] = {t->transposed ? columns : rows, t->transposed ? rows : columns};
    int ndim = vector || (t->slot == SLOT_SCORE && x->ndim == 1) ? 1 : 2;
    if (x->ndim != ndim || x->shape[0] != want[0] || (ndim == 2 && x->shape[1] != want[1]))
        return fail(error, EXIT_DATA, "%s: tensor %s has %d dimensions, %llu x %llu (expected %llu x %llu, for %s)",
                    path, x->name, x->ndim, (unsigned long long)x->shape[0],
                    (unsigned long long)(x->ndim > 1 ? x->shape[1] : 1), (unsigned long long)want[0],
                    (unsigned long long)(ndim == 1 ? 1 : want[1]), t->name);
    if (dtype_is_float(x->dtype) || x->dtype >= GGUF_QUANTISED) return 0;
    return fail(error, EXIT_DATA, "%s: tensor %s has the type %s (expected floating-point numbers)", path, x->name,
                dtype_name(x->dtype));
}

static int find_pieces(struct foreign *m, struct target *t, struct error *error)
{
    char *name[PIECES];
    const char *end;
    int layer, status = 0;
    if (!family_slot(&t->slot, &layer, &end, t->name)) die("no slot for %s", t->name);
    t->pieces = family_names(name, m->names, t->slot, layer, end);
    bool matrix = t->ndim == 2 && t->slot != SLOT_EMBED && t->slot != SLOT_POSITION && t->slot != SLOT_HEAD;
    t->transposed = m->names->transposed && matrix;
    for (int p = 0; p < t->pieces; p++) {
        t->piece[p] = find(m, name[p]);
        if (!t->piece[p] && t->slot == SLOT_SCORE && strcmp(end, "bias") == 0) {
            t->pieces = 0;                                      /* theirs has none: 0 */
        } else if (!t->piece[p] && status == 0) {
            status = fail(error, EXIT_DATA, "%s: the tensor %s is missing", m->from, name[p]);
        } else if (status == 0) {
            status = check_piece(m, t, p, error);
            t->piece[p]->used = true;
            if (p == 0) t->dtype = t->piece[p]->dtype;
            if (t->piece[p]->dtype != t->dtype || t->dtype >= GGUF_QUANTISED) t->dtype = DTYPE_F32;
        }
        free(name[p]);
    }
    t->unit = m->names->unit_head && t->slot == SLOT_HEAD;
    if (t->pieces == 0 || t->unit) t->dtype = DTYPE_F32;
    return status;
}

static void add_target(void *context, const struct param *p)
{
    struct foreign *m = context;
    m->target = host_append(m->target, m->count, 1, sizeof *m->target);
    struct target *t = &m->target[m->count++];
    *t = (struct target){.name = host_text("%s", p->name), .ndim = p->ndim, .decay = p->decay, .rows = p->shape[0],
                         .columns = p->ndim == 2 ? p->shape[1] : 1};
    t->shape[0] = (uint64_t)p->shape[0];
    if (p->ndim == 2) t->shape[1] = (uint64_t)p->shape[1];
    if (m->status == 0) m->status = find_pieces(m, t, m->error);
}

/* A head that is there decides, not the key: equal to the embedding it is the embedding, absent it is too. */
static int decide_tied(struct foreign *m, struct error *error)
{
    struct st_tensor *head = find_slot(m, SLOT_HEAD), *embed = find_slot(m, SLOT_EMBED);
    bool scalar = m->config.head == HEAD_SCALAR, may = head && embed && !m->names->unit_head;
    bool equal = may && head->bytes == embed->bytes;
    enum { BLOCK = 1 << 20 };
    uint8_t *a = host_alloc(BLOCK, 1), *b = host_alloc(BLOCK, 1);
    int status = 0;
    for (uint64_t at = 0; equal && m->config.tied && status == 0 && at < head->bytes; at += BLOCK) {
        size_t n = head->bytes - at < BLOCK ? (size_t)(head->bytes - at) : BLOCK;
        status = safetensors_read(&m->tensors, head, a, at, n, error);
        if (status == 0) status = safetensors_read(&m->tensors, embed, b, at, n, error);
        equal = status == 0 && memcmp(a, b, n) == 0;
    }
    free(a);
    free(b);
    if (!scalar) m->config.tied = !head || (m->config.tied && equal);
    if (head && (m->config.tied || scalar)) head->used = true;
    return status;
}

/* What files carry beside the parameters: masks and tables that are computed here. */
static bool is_buffer(const char *name)
{
    return text_ends(name, ".attn.bias|.attn.masked_bias|.attention.bias|.attention.masked_bias|.attn.causal_mask|"
                     "rotary_emb.inv_freq");
}

int foreign_map(struct foreign *m, struct error *error)
{
    m->error = error;
    if (decide_tied(m, error) != 0) return -1;
    struct params params = {.layer = host_alloc((size_t)m->config.layers, sizeof *params.layer)};
    params_each(&params, &m->config, add_target, m);
    free(params.layer);
    for (size_t i = 0; m->status == 0 && i < m->tensors.count; i++) {
        const struct st_tensor *t = &m->tensors.tensor[i];
        if (!t->used && !is_buffer(t->name))
            m->status = fail(error, EXIT_DATA, "%s: the tensor %s has no place in a model of type %s", m->from, t->name,
                             m->family->type);
    }
    return m->status;
}

/* ---- their bytes ---- */

enum { STEP = 64 << 10 };               /* values that are converted at a time: whole blocks */

static int decode(const struct foreign *m, float *out, const struct st_tensor *x, const uint8_t *raw, size_t n,
                  struct error *error)
{
    if (x->dtype < GGUF_QUANTISED) dtype_to_f32(out, raw, n, x->dtype);
    else gguf_dequantise(out, raw, n, x->dtype);
    for (size_t i = 0; x->dtype >= GGUF_QUANTISED && i < n; i++)
        if (!isfinite(out[i]))
            return fail(error, EXIT_DATA, "%s: tensor %s has a scale that is not finite", m->tensors.file[x->file].path,
                        x->name);
    return 0;
}

/* n values of a tensor, from its value number `first` on, as `dtype`: its own, or float32. */
static int read_values(const struct foreign *m, uint8_t *out, uint32_t dtype, const struct st_tensor *x, uint64_t first,
                       size_t n, struct error *error)
{
    size_t bytes = dtype_size(dtype), block = 1;
    if (x->dtype == dtype) return safetensors_read(&m->tensors, x, out, first * bytes, n * bytes, error);
    if (x->dtype >= GGUF_QUANTISED) block = gguf_block(x->dtype, &bytes);
    else bytes = dtype_size(x->dtype);
    uint64_t at = first / block * block, end = (first + n + block - 1) / block * block;
    size_t most = end - at < STEP ? (size_t)(end - at) : STEP;
    uint8_t *raw = host_alloc(most / block, bytes);
    float *wide = host_alloc(most, sizeof *wide);
    int status = 0;
    for (; at < end && status == 0; at += most) {
        size_t some = end - at < most ? (size_t)(end - at) : most;
        uint64_t from = at < first ? first : at, to = at + some < first + n ? at + some : first + n;
        status = safetensors_read(&m->tensors, x, raw, at / block * bytes, some / block * bytes, error);
        if (status == 0) status = decode(m, wide, x, raw, some, error);
        if (status == 0) memcpy(out + (from - first) * sizeof *wide, wide + (from - at), (to - from) * sizeof *wide);
    }
    free(raw);
    free(wide);
    return status;
}

/* Values [from, to) of a target whose rows from row on, `high` of them, are columns that stand side by side in x. */
static int read_turned(const struct foreign *m, const struct target *t, uint8_t *out, uint64_t from, uint64_t to,
                       int64_t row, int64_t high, struct family_place place, struct error *error)
{
    const struct st_tensor *x = t->piece[place.piece];
    size_t size = dtype_size(t->dtype);
    uint64_t height = x->shape[1], columns = (uint64_t)t->columns;
    uint8_t *strip = host_alloc((size_t)high, size);
    int status = 0;
    for (uint64_t c = 0; c < columns && status == 0; c++) {
        status = read_values(m, strip, t->dtype, x, c * height + (uint64_t)place.row, (size_t)high, error);
        for (int64_t i = 0; i < high && status == 0; i++) {
            uint64_t at = (uint64_t)(row + i) * columns + c;
            if (at >= from && at < to) memcpy(out + (at - from) * size, strip + (size_t)i * size, size);
        }
    }
    free(strip);
    return status;
}

/* Values [from, to) of a target whose rows are scaled to length 1. */
static int read_unit(const struct foreign *m, const struct target *t, uint8_t *out, uint64_t from, uint64_t to,
                     struct error *error)
{
    uint64_t columns = (uint64_t)t->columns;
    float *row = host_alloc((size_t)columns, sizeof *row);
    int status = 0;
    for (uint64_t at = from, end; at < to && status == 0; at = end) {
        double squares = 0;
        uint64_t first = at / columns * columns;
        end = first + columns < to ? first + columns : to;
        status = read_values(m, (uint8_t *)row, DTYPE_F32, t->piece[0], first, (size_t)columns, error);
        for (uint64_t c = 0; c < columns; c++) squares += (double)row[c] * (double)row[c];
        double length = fmax(sqrt(squares), 1e-12);             /* as the published code has it */
        for (uint64_t c = 0; c < columns; c++) row[c] = (float)((double)row[c] / length);
        if (status == 0) memcpy(out + (at - from) * sizeof *row, row + (at - first), (size_t)(end - at) * sizeof *row);
    }
    free(row);
    return status;
}

int foreign_read(void *foreign, size_t tensor, void *out, uint64_t offset, size_t bytes, struct error *error)
{
    const struct foreign *m = foreign;
    const struct target *t = &m->target[tensor];
    size_t size = dtype_size(t->dtype);
    uint64_t columns = (uint64_t)t->columns, from = offset / size, to = from + bytes / size;
    uint8_t *put = out;
    if (t->pieces == 0) memset(out, 0, bytes);
    if (t->pieces == 0) return 0;
    if (!m->names) return read_values(m, put, t->dtype, t->piece[0], from, (size_t)(to - from), error);
    if (t->unit) return read_unit(m, t, out, from, to, error);
    for (uint64_t at = from; at < to;) {            /* rows that lie one behind the other there are read at once */
        int64_t row = (int64_t)(at / columns), last = (int64_t)((to - 1) / columns), high = 1;
        struct family_place place = family_place(m->names, &m->config, t->slot, t->pieces, t->rows, row), next;
        for (; row + high <= last; high++) {
            next = family_place(m->names, &m->config, t->slot, t->pieces, t->rows, row + high);
            if (next.piece != place.piece || next.row != place.row + high) break;
        }
        uint64_t end = (uint64_t)(row + high) * columns < to ? (uint64_t)(row + high) * columns : to;
        uint64_t first = (uint64_t)place.row * columns + at % columns;
        int status = t->transposed ? read_turned(m, t, put, at, end, row, high, place, error)
                   : read_values(m, put, t->dtype, t->piece[place.piece], first, (size_t)(end - at), error);
        if (status != 0) return -1;
        put += (end - at) * size;
        at = end;
    }
    return 0;
}

void foreign_raw(struct foreign *m)
{
    m->names = NULL;
    m->target = host_alloc(m->tensors.count + 1, sizeof *m->target);
    for (m->count = 0; m->count < m->tensors.count; m->count++) {
        struct st_tensor *x = &m->tensors.tensor[m->count];
        struct target *t = &m->target[m->count];
        *t = (struct target){.name = host_text("%s", x->name), .pieces = 1, .ndim = x->ndim, .piece = {x},
                             .dtype = x->dtype >= GGUF_QUANTISED ? DTYPE_F32 : x->dtype};
        memcpy(t->shape, x->shape, sizeof t->shape);
    }
}

void foreign_close(void *foreign)
{
    struct foreign *m = foreign;
    safetensors_close(&m->tensors);
    json_decref(m->tokenizer);
    for (int i = 0; i < 4; i++) json_decref(m->document[i]);
    for (int i = 0; i < 3; i++) json_decref(m->end[i]);
    for (size_t i = 0; i < m->count; i++) free(m->target[i].name);
    free(m->template);
    free(m->target);
    free(m);
}
