/* import.c - a Hugging Face folder or a GGUF file as a checkpoint.  Our parameters are visited in file order; each is
 * put together from the tensors that its family names, when the writer asks for its first byte. */
#include "common/interop/gguf.h"
#include "common/interop/interop.h"
#include "common/model/params.h"
#include "common/text/chat.h"
#include "format/reader.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct import {
    const char *from;
    const struct family *family, *names;        /* names: how its tensors are called and laid out */
    struct config config;
    json_t *tokenizer;                  /* as a tokenizer.json, or NULL */
    char *template;                     /* of chats, or NULL */
    struct safetensors tensors;
    struct params params;               /* walked over, never filled */
    struct target *target;
    size_t count;
    struct error *error;
    int status;
};

/* One of our parameters: rows x columns (1 for a vector) from `pieces` tensors of theirs; none: zeros. */
struct target {
    struct import *import;
    enum slot slot;
    int pieces;
    struct st_tensor *piece[PIECES];
    bool transposed;
    int64_t rows, columns;
    uint32_t dtype;
    uint8_t *bytes;                     /* while the writer reads it */
    struct ckpt_source source;
};

/* With the family's prefix or, as some files have it, without. */
static struct st_tensor *find(const struct import *m, const char *name)
{
    size_t prefix = strlen(m->names->prefix);
    struct st_tensor *t = safetensors_find(&m->tensors, name);
    bool prefixed = strncmp(name, m->names->prefix, prefix) == 0;
    return t || !prefixed ? t : safetensors_find(&m->tensors, name + prefix);
}

static struct st_tensor *find_slot(const struct import *m, enum slot slot)
{
    char *name[PIECES];
    if (family_names(name, m->names, slot, 0, "weight") == 0) return NULL;
    struct st_tensor *t = find(m, name[0]);
    free(name[0]);
    return t;
}

/* Does a tensor have the shape of a piece?  A score head is a matrix of one row there. */
static int check_piece(const struct target *t, int piece, const char *ours, struct error *error)
{
    const struct st_tensor *x = t->piece[piece];
    const struct config *c = &t->import->config;
    uint64_t rows = (uint64_t)family_rows(c, t->slot, piece, t->pieces, t->rows), columns = (uint64_t)t->columns;
    if (t->slot == SLOT_POSITION) rows += (uint64_t)t->import->names->position_rows;
    if (t->slot == SLOT_SCORE && x->ndim == 2) { columns = rows; rows = 1; }
    bool vector = t->slot != SLOT_SCORE && t->source.ndim == 1;
    uint64_t want[2] = {t->transposed ? columns : rows, t->transposed ? rows : columns};
    int ndim = vector || (t->slot == SLOT_SCORE && x->ndim == 1) ? 1 : 2;
    if (x->ndim == ndim && x->shape[0] == want[0] && (ndim == 1 || x->shape[1] == want[1])) return 0;
    return fail(error, EXIT_DATA, "tensor %s has %d dimensions, %llu x %llu (expected %llu x %llu, for %s)", x->name,
                x->ndim,
                (unsigned long long)x->shape[0], (unsigned long long)(x->ndim > 1 ? x->shape[1] : 1),
                (unsigned long long)want[0], (unsigned long long)(ndim == 1 ? 1 : want[1]), ours);
}

/* Puts the parameter together, one tensor of theirs in memory at a time. */
static void build(struct target *t)
{
    const struct import *m = t->import;
    size_t size = dtype_size(t->dtype), row = (size_t)t->columns * size;
    struct error error;
    t->bytes = host_alloc((size_t)t->rows * row, 1);
    for (int p = 0; p < t->pieces; p++) {
        struct st_tensor *x = t->piece[p];
        uint8_t *from = host_alloc((size_t)x->bytes + 1, 1);
        uint64_t height = x->shape[t->transposed ? 1 : 0];
        if (safetensors_read(&m->tensors, x, from, 0, (size_t)x->bytes, &error) != 0) quit_error(&error);
        if (x->dtype != t->dtype) {                             /* float32 holds pieces of all kinds */
            size_t n = (size_t)(x->shape[0] * (x->ndim > 1 ? x->shape[1] : 1));
            float *wide = host_alloc(n + 1, sizeof *wide);
            if (x->dtype >= GGUF_QUANTISED) gguf_dequantise(wide, from, n, x->dtype);
            else dtype_to_f32(wide, from, n, x->dtype);
            free(from);
            from = (uint8_t *)wide;
        }
        for (int64_t r = 0; r < t->rows; r++) {
            struct family_place at = family_place(m->names, &m->config, t->slot, t->pieces, t->rows, r);
            uint8_t *to = t->bytes + (size_t)r * row;
            if (at.piece != p) continue;
            if (!t->transposed) memcpy(to, from + (size_t)at.row * row, row);
            else
                for (size_t c = 0; c < (size_t)t->columns; c++)
                    memcpy(to + c * size, from + (c * height + (size_t)at.row) * size, size);
        }
        free(from);
    }
}

static void fetch(void *self, void *host, uint64_t offset, size_t bytes)
{
    struct target *t = self;
    uint64_t all = (uint64_t)(t->rows * t->columns) * dtype_size(t->dtype);
    if (!t->bytes) build(t);
    memcpy(host, t->bytes + offset, bytes);
    if (offset + bytes < all) return;
    free(t->bytes);
    t->bytes = NULL;
}

static int find_pieces(struct target *t, const char *ours, struct error *error)
{
    struct import *m = t->import;
    char *name[PIECES];
    const char *end;
    int layer, status = 0;
    if (!family_slot(&t->slot, &layer, &end, ours)) die("no slot for %s", ours);
    t->pieces = family_names(name, m->names, t->slot, layer, end);
    bool matrix = t->source.ndim == 2 && t->slot != SLOT_EMBED && t->slot != SLOT_POSITION && t->slot != SLOT_HEAD;
    t->transposed = m->names->transposed && matrix;
    for (int p = 0; p < t->pieces; p++) {
        t->piece[p] = find(m, name[p]);
        if (!t->piece[p] && t->slot == SLOT_SCORE && strcmp(end, "bias") == 0) {
            t->pieces = 0;                                      /* theirs has none: 0 */
        } else if (!t->piece[p] && status == 0) {
            status = fail(error, EXIT_DATA, "%s: the tensor %s is missing", m->from, name[p]);
        } else if (status == 0) {
            status = check_piece(t, p, ours, error);
            t->piece[p]->used = true;
            if (p == 0) t->dtype = t->piece[p]->dtype;
            if (t->piece[p]->dtype != t->dtype || t->dtype >= GGUF_QUANTISED) t->dtype = DTYPE_F32;
        }
        free(name[p]);
    }
    if (t->pieces == 0) t->dtype = DTYPE_F32;
    return status;
}

static void add_target(void *context, const struct param *p)
{
    struct import *m = context;
    struct target *t = &m->target[m->count++];
    *t = (struct target){.import = m, .rows = p->shape[0], .columns = p->ndim == 2 ? p->shape[1] : 1};
    t->source = (struct ckpt_source){.ndim = p->ndim, .shape = {(uint64_t)p->shape[0],
                                                                p->ndim == 2 ? (uint64_t)p->shape[1] : 0},
                                     .trainable = true, .decay = p->decay, .fetch = fetch};
    snprintf(t->source.name, sizeof t->source.name, "%s", p->name);
    if (m->status == 0) m->status = find_pieces(t, p->name, m->error);
    t->source.dtype = (enum dtype)t->dtype;
}

static void count_target(void *context, const struct param *p)
{
    (void)p;
    ((struct import *)context)->count++;
}

/* A head that is there decides, not the key: equal to the embedding it is the embedding, absent it is too. */
static int decide_tied(struct import *m, struct error *error)
{
    struct st_tensor *head = find_slot(m, SLOT_HEAD), *embed = find_slot(m, SLOT_EMBED);
    bool scalar = m->config.head == HEAD_SCALAR, equal = head && embed && head->bytes == embed->bytes;
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
    static const char *const ends[] = {".attn.bias", ".attn.masked_bias", ".attention.bias", ".attention.masked_bias",
                                       "rotary_emb.inv_freq"};
    for (size_t i = 0, n = strlen(name); i < sizeof ends / sizeof *ends; i++)
        if (n >= strlen(ends[i]) && strcmp(name + n - strlen(ends[i]), ends[i]) == 0) return true;
    return false;
}

static int list_targets(struct import *m, struct error *error)
{
    m->error = error;
    m->params.layer = host_alloc((size_t)m->config.layers, sizeof *m->params.layer);
    if (decide_tied(m, error) != 0) return -1;
    params_each(&m->params, &m->config, count_target, m);
    m->target = host_alloc(m->count, sizeof *m->target);
    m->count = 0;
    params_each(&m->params, &m->config, add_target, m);
    for (size_t i = 0; m->status == 0 && i < m->tensors.count; i++) {
        const struct st_tensor *t = &m->tensors.tensor[i];
        if (!t->used && !is_buffer(t->name))
            m->status = fail(error, EXIT_DATA, "%s: the tensor %s has no place in a model of type %s", m->from, t->name,
                             m->family->type);
    }
    return m->status;
}

/* ---- beside the tensors ---- */

/* The chat template: in a file of its own, or a text in tokenizer_config.json.  To free(), or NULL. */
static char *chat_text(const char *folder)
{
    struct bytes text = {0};
    struct error error;
    char *path = host_text("%s/chat_template.jinja", folder), *found = NULL;
    if (file_read(&text, path, 1 << 20, &error) == 0) found = host_text("%s", text.data);
    bytes_free(&text);
    free(path);
    path = host_text("%s/tokenizer_config.json", folder);
    json_t *json;
    if (!found && interop_json(&json, path, &error) == 0) {
        const char *given = json_string_value(json_object_get(json, "chat_template"));
        if (given) found = host_text("%s", given);
        json_decref(json);
    }
    free(path);
    return found;
}

static int open_folder(struct import *m, struct error *error)
{
    char *path = host_text("%s/config.json", m->from), *tokenizer = host_text("%s/tokenizer.json", m->from);
    char *model = host_text("%s/tokenizer.model", m->from);
    json_t *json = NULL;
    int status = interop_json(&json, path, error);
    if (status == 0 && family_config(&m->family, &m->config, json, error) != 0) status = fail_in(error, "%s", m->from);
    if (status == 0) status = safetensors_open(&m->tensors, m->from, error);
    if (status == 0 && access(tokenizer, F_OK) == 0) status = interop_json(&m->tokenizer, tokenizer, error);
    else if (status == 0 && access(model, F_OK) == 0) status = tokenizer_model_json(&m->tokenizer, model, error);
    if (status == 0) m->template = chat_text(m->from);
    m->names = m->family;
    json_decref(json);
    free(tokenizer);
    free(model);
    free(path);
    return status;
}

static int open_gguf(struct import *m, void (*say)(const char *line), struct error *error)
{
    json_t *facts = NULL, *json = NULL;
    struct error why;
    if (gguf_open(&m->tensors, &facts, m->from, error) != 0) return -1;
    m->names = gguf_names(facts, error);
    if (m->names) json = gguf_config(facts, &m->tensors, error);
    int status = json ? family_config(&m->family, &m->config, json, error) : -1;
    const char *template = json_string_value(json_object_get(facts, "tokenizer.chat_template"));
    if (status != 0) fail_in(error, "%s", m->from);
    else status = gguf_check_values(&m->tensors, error);
    if (status == 0) m->tokenizer = gguf_tokenizer(facts, &why);
    if (status == 0 && !m->tokenizer && say) say(why.text);
    if (status == 0 && template) m->template = host_text("%s", template);
    json_decref(json);
    json_decref(facts);
    return status;
}

/* A template is known by the marks that it writes. */
static enum chat_template chat_known(const char *text)
{
    if (strstr(text, "<|im_start|>") && strstr(text, "<|im_end|>")) return TEMPLATE_CHATML;
    if (strstr(text, "<|start_header_id|>") && strstr(text, "<|eot_id|>")) return TEMPLATE_LLAMA3;
    if (strstr(text, "### Instruction")) return TEMPLATE_ALPACA;
    return TEMPLATE_NONE;
}

static int take_tokenizer(struct import *m, struct ckpt_meta *meta, void (*say)(const char *line), struct error *error)
{
    char line[200];
    struct tokenizer *t = NULL;
    struct chat chat;
    struct error why;
    if (m->template && (strlen(m->template) > 1 << 20 ||
                        utf8_prefix(m->template, strlen(m->template)) != strlen(m->template)))
        return fail(error, EXIT_DATA, "%s: its chat template is not valid UTF-8 of at most 1 MiB", m->from);
    int status = m->tokenizer ? tokenizer_import_json(&t, m->tokenizer, m->from, error) : 0;
    enum chat_template known = m->template ? chat_known(m->template) : TEMPLATE_NONE;
    if (status == 0 && t && tokenizer_vocab(t) > m->config.vocab)
        status = fail(error, EXIT_DATA, "%s: the tokenizer has %d ids, the embedding only %d", m->from,
                      tokenizer_vocab(t),
                      m->config.vocab);
    if (status == 0 && t) tokenizer_write(&meta->tokn, t);
    if (status == 0 && t && known && chat_bind(&chat, known, t, &why) == 0) chat_write(&chat, &meta->chat);
    if (status == 0 && m->template) {
        kv_set_text(&meta->meta, "chat_template", m->template);
        snprintf(line, sizeof line, "chat template: %s", meta->chat.count ? chat_template_name(known)
                 : "not one that is known here; it is kept for export");
        if (say) say(line);
    }
    if (status == 0 && !t && say) say("there is no tokenizer: the model knows ids only");
    tokenizer_free(t);
    return status;
}

static int write_checkpoint(struct import *m, const char *to, struct ckpt_meta *meta, struct error *error)
{
    struct ckpt_source *source = host_alloc(m->count, sizeof *source);
    const char *slash = strrchr(to, '/');
    char *folder = path_folder(to);
    for (size_t i = 0; i < m->count; i++) {
        source[i] = m->target[i].source;
        source[i].self = &m->target[i];
    }
    struct save save = {.folder = folder, .name = slash ? slash + 1 : to, .meta = meta, .source = source,
                        .count = m->count};
    int status = checkpoint_write(&save, error);
    free(folder);
    free(source);
    return status;
}

int interop_import(const char *from, const char *to, void (*say)(const char *line), struct error *error)
{
    struct import m = {.from = from};
    struct ckpt_meta meta = {.stage = STAGE_IMPORTED};
    struct stat st;
    char shown[128], line[200];
    bool file = stat(from, &st) == 0 && S_ISREG(st.st_mode);
    int status = file ? open_gguf(&m, say, error) : open_folder(&m, error);
    if (status == 0) status = list_targets(&m, error);
    if (status == 0) status = take_tokenizer(&m, &meta, say, error);
    if (status == 0) {
        config_write(&m.config, &meta.conf);
        kv_set_text(&meta.meta, "name", path_name(shown, from));
        kv_set_text(&meta.meta, "program", "ckpt import");
        random_bytes(meta.weights_id, sizeof meta.weights_id);
        snprintf(meta.writer, sizeof meta.writer, "ckpt %s", QUARTET_VERSION);
        if (say) say(config_line(line, sizeof line, &m.config));
        status = write_checkpoint(&m, to, &meta, error);
    }
    ckpt_meta_free(&meta);
    safetensors_close(&m.tensors);
    json_decref(m.tokenizer);
    free(m.template);
    free(m.params.layer);
    free(m.target);
    return status;
}
