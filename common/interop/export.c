/* export.c - a checkpoint as a Hugging Face folder.  It is written under another name and renamed at the end, so that
 * half a folder never has the name that was asked for. */
#define _GNU_SOURCE
#include "common/interop/chat_jinja.h"
#include "common/interop/families.h"
#include "common/interop/interop.h"
#include "common/interop/strips.h"
#include "common/model/params.h"
#include "format/reader.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* A tensor of theirs: rows x columns of one of ours, as stored (transposed) in the file. */
struct out { char *name; enum slot slot; int piece, pieces; bool transposed, vector; int64_t rows, columns;
    size_t tensor; };

struct export {
    struct ckpt *ckpt;
    const struct family *family;
    struct config config;
    struct params params;
    struct out *out;
    size_t count;
    char *folder;                       /* where it is written first */
    struct error *error;
    int status;
};

static uint32_t dtype_of(const struct export *x, const struct out *o) { return ckpt_tensor_at(x->ckpt,
                                                                                              o->tensor)->dtype; }

static uint64_t bytes_of(const struct export *x, const struct out *o)
{
    return (uint64_t)(o->rows * o->columns) * dtype_size(dtype_of(x, o));
}

/* The tensors that one of our parameters becomes. */
static void add_outs(void *context, const struct param *p)
{
    struct export *x = context;
    char *name[PIECES];
    const char *end;
    enum slot slot;
    int layer;
    if (x->status != 0 || !family_slot(&slot, &layer, &end, p->name)) return;
    int64_t found = ckpt_find(x->ckpt, p->name, ROLE_WEIGHT);
    if (found < 0) {
        x->status = fail(x->error, EXIT_DATA, "%s: there is no tensor %s", ckpt_path(x->ckpt), p->name);
        return;
    }
    if (slot == SLOT_SCORE && strcmp(end, "bias") == 0) return;
        /* theirs has none: config.json's mean takes it */
    int pieces = family_names(name, x->family, slot, layer, end);
    bool linear = p->ndim == 2 && slot != SLOT_EMBED && slot != SLOT_POSITION && slot != SLOT_HEAD;
    for (int i = 0; i < pieces; i++) {
        struct out o = {.name = name[i], .slot = slot, .piece = i, .pieces = pieces,
                        .transposed = x->family->transposed && linear, .vector = p->ndim == 1,
                        .rows = family_rows(&x->config, slot, i, pieces, p->shape[0]),
                        .columns = p->ndim == 2 ? p->shape[1] : 1, .tensor = (size_t)found};
        if (slot == SLOT_POSITION) o.rows += x->family->position_rows;
        x->out = host_append(x->out, x->count, 1, sizeof *x->out);
        x->out[x->count++] = o;
    }
}

/* By falling size of an element, then name: the order in which the reference writer stores them. */
static int in_order(const void *a, const void *b, void *context)
{
    const struct out *x = a, *y = b;
    uint32_t s = dtype_size(dtype_of(context, x)), t = dtype_size(dtype_of(context, y));
    return s != t ? (s < t ? 1 : -1) : strcmp(x->name, y->name);
}

/* Fills `to` with the bytes of a tensor that is transposed. */
static int gather(uint8_t *to, const struct export *x, const struct out *o, struct error *error)
{
    const struct ckpt_tensor *t = ckpt_tensor_at(x->ckpt, o->tensor);
    size_t size = dtype_size(t->dtype), row = (size_t)o->columns * size;
    uint8_t *from = host_alloc((size_t)t->bytes + 1, 1);
    int status = tensor_read(x->ckpt, o->tensor, from, 0, (size_t)t->bytes, error);
    int64_t rows = (int64_t)t->shape[0];
    memset(to, 0, (size_t)bytes_of(x, o));
    for (int64_t r = 0; r < rows && status == 0; r++) {
        struct family_place at = family_place(x->family, &x->config, o->slot, o->pieces, rows, r);
        const uint8_t *line = from + (size_t)r * row;
        if (at.piece != o->piece) continue;
        for (size_t c = 0; c < (size_t)o->columns; c++)
            memcpy(to + (c * (size_t)o->rows + (size_t)at.row) * size, line + c * size, size);
    }
    free(from);
    return status;
}

static const char *dtype_word(uint32_t dtype)
{
    return dtype == DTYPE_F32 ? "F32" : dtype == DTYPE_F16 ? "F16" : dtype == DTYPE_BF16 ? "BF16" : "F64";
}

/* ---- files ---- */

static int put_file(const struct export *x, const char *name, const char *text, struct error *error)
{
    char *path = host_text("%s/%s", x->folder, name);
    int status = text ? file_replace(path, text, strlen(text), error) : 0;
    free(path);
    return status;
}

static int put_json(const struct export *x, const char *name, json_t *json, struct error *error)
{
    char *text = json ? json_dumps(json, JSON_INDENT(2) | JSON_REAL_PRECISION(17)) : NULL;
    if (!text) die("%s cannot be made", name);
    int status = put_file(x, name, text, error);
    free(text);
    json_decref(json);
    return status;
}

static struct bytes header_of(const struct export *x, size_t first, size_t end)
{
    struct bytes text = {0};
    uint64_t at = 0;
    char head[8];
    bytes_add(&text, head, 8);
    bytes_text(&text, "{\"__metadata__\":{\"format\":\"pt\"}");
    for (size_t i = first; i < end; i++) {
        const struct out *o = &x->out[i];
        int64_t a = o->transposed ? o->columns : o->rows, b = o->transposed ? o->rows : o->columns;
        bytes_text(&text, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", o->name, dtype_word(dtype_of(x, o)));
        if (o->slot == SLOT_SCORE) bytes_text(&text, "1,%lld", (long long)a);
        else if (o->vector) bytes_text(&text, "%lld", (long long)a);
        else bytes_text(&text, "%lld,%lld", (long long)a, (long long)b);
        bytes_text(&text, "],\"data_offsets\":[%llu,", (unsigned long long)at);
        at += bytes_of(x, o);
        bytes_text(&text, "%llu]}", (unsigned long long)at);
    }
    bytes_text(&text, "}");
    while (text.size % 8) bytes_text(&text, " ");
    store64(text.data, text.size - 8);
    return text;
}

struct place { int file; uint64_t at; size_t row; const char *path; };

static int put_bytes(struct place *p, const uint8_t *data, size_t bytes, struct error *error)
{
    if (strips_write(p->file, data, p->at, bytes) != 0)
        return fail(error, EXIT_IO, "%s: cannot be written: %s", p->path, strerror(errno));
    p->at += bytes;
    return 0;
}

static int put_rows(void *self, const uint8_t *values, size_t rows, struct error *error)
{
    struct place *p = self;
    return put_bytes(p, values, rows * p->row, error);
}

static int put_tensor(struct place *p, const struct export *x, const struct out *o, struct error *error)
{
    size_t size = dtype_size(dtype_of(x, o));
    const struct strips strips = {x->ckpt, x->family, &x->config, o->slot, o->piece, o->pieces, o->tensor, o->rows,
                                  o->columns, size};
    p->row = (size_t)o->columns * size;
    if (!o->transposed) return strips_each(&strips, put_rows, p, error);
    uint8_t *buffer = host_alloc((size_t)bytes_of(x, o) + 1, 1);
    int status = gather(buffer, x, o, error);
    if (status == 0) status = put_bytes(p, buffer, (size_t)bytes_of(x, o), error);
    free(buffer);
    return status;
}

/* Tensors [first, end) as one file. */
static int put_tensors(const struct export *x, const char *name, size_t first, size_t end, struct error *error)
{
    char *path = host_text("%s/%s", x->folder, name);
    int file = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    struct bytes header = header_of(x, first, end);
    struct place place = {.file = file, .path = path};
    int status = file >= 0 ? put_bytes(&place, (const uint8_t *)header.data, header.size, error)
               : fail(error, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    for (size_t i = first; i < end && status == 0; i++) status = put_tensor(&place, x, &x->out[i], error);
    if (status == 0 && fsync(file) != 0)
        status = fail(error, EXIT_IO, "%s: cannot be written: %s", path, strerror(errno));
    if (file >= 0) close(file);
    bytes_free(&header);
    free(path);
    return status;
}

/* Cuts the tensors into files of at most `shard` bytes, at least one each. */
static int put_all_tensors(const struct export *x, uint64_t shard, struct error *error)
{
    size_t *start = host_alloc(x->count + 1, sizeof *start), files = 1;
    uint64_t all = 0, elements = 0;
    for (size_t i = 0, first = 0, bytes = 0; i < x->count; i++) {
        uint64_t n = bytes_of(x, &x->out[i]);
        if (i > first && bytes + n > shard) {
            start[files++] = first = i;
            bytes = 0;
        }
        bytes += n;
        all += n;
        elements += (uint64_t)(x->out[i].rows * x->out[i].columns);
    }
    start[files] = x->count;
    json_t *map = json_object();
    int status = 0;
    for (size_t f = 0; f < files && status == 0; f++) {
        char name[80] = "model.safetensors";
        if (files > 1) snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", f + 1, files);
        for (size_t i = start[f]; i < start[f + 1]; i++) json_object_set_new(map, x->out[i].name, json_string(name));
        status = put_tensors(x, name, start[f], start[f + 1], error);
    }
    free(start);
    json_t *index = json_pack("{s:{s:I, s:I}, s:o}", "metadata", "total_size", (json_int_t)all, "total_parameters",
                              (json_int_t)elements, "weight_map", map);
    if (status == 0 && files > 1) status = put_json(x, "model.safetensors.index.json", index, error);
    else json_decref(index);
    return status;
}

/* ---- beside the tensors ---- */

/* The special tokens that others ask for by role; -1: none.  A reward is read at the last token that is not padding, so
 * padding must not be what ends an answer. */
struct roles { int bos, eos, pad, stop[2], stops; };

static struct roles roles_of(const struct tokenizer *t, const struct chat *chat)
{
    int text = t ? tokenizer_special(t, "<|endoftext|>") : -1;
    struct roles r = {t ? tokenizer_document(t) : -1, text, text, {text}, text >= 0};
    if (chat->tokenizer) {
        r.bos = chat->bos;
        r.eos = chat->end;
        r.stops = chat_stops(r.stop, chat);
        if (r.pad == r.eos) r.pad = -1;
    }
    return r;
}

static json_t *id_or_null(int id) { return id < 0 ? json_null() : json_integer(id); }

static json_t *token_or_null(const struct tokenizer *t, int id)
{
    size_t length;
    const char *text = id < 0 ? NULL : tokenizer_bytes(t, id, &length);
    return text ? json_stringn(text, length) : json_null();
}

static float score_bias(struct ckpt *c)
{
    int64_t at = ckpt_find(c, "score.bias", ROLE_WEIGHT);
    float bias = 0;
    if (at >= 0 && tensor_read(c, (size_t)at, &bias, 0, sizeof bias, NULL) != 0) bias = 0;
    return bias;
}

static int put_config(const struct export *x, json_t *json, const struct roles *r, struct error *error)
{
    json_t *ids = json_pack("{s:o, s:o, s:o}", "bos_token_id", id_or_null(r->bos), "eos_token_id", id_or_null(r->eos),
                            "pad_token_id", id_or_null(r->pad));
    json_object_set_new(json, "torch_dtype", json_string(dtype_of(x, &x->out[0]) == DTYPE_BF16 ? "bfloat16" :
                                                         dtype_of(x, &x->out[0]) == DTYPE_F16 ? "float16" : "float32"));
    if (x->config.head == HEAD_SCALAR)                          /* reward = (score - mean) / std */
        json_object_update_new(json, json_pack("{s:{s:s}, s:{s:i}, s:f, s:f, s:b}", "id2label", "0", "LABEL_0",
                                               "label2id",
                                               "LABEL_0", 0, "mean", x->config.score_mean - (double)score_bias(x->ckpt),
                                               "std", x->config.score_std, "normalize_reward", 1));
    json_object_update_new(json, ids);
    return put_json(x, "config.json", json, error);
}

static int put_tokenizer(const struct export *x, const struct tokenizer *t, const struct roles *r, const char *template,
                         struct error *error)
{
    struct bytes text = {0};
    tokenizer_json(&text, t);
    int status = put_file(x, "tokenizer.json", text.data, error);
    bytes_free(&text);
    json_t *config = json_pack("{s:s, s:o, s:o, s:o, s:s, s:i, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "bos_token",
                               token_or_null(t, r->bos), "eos_token", token_or_null(t, r->eos), "pad_token",
                               token_or_null(t, r->pad), "padding_side", "left", "model_max_length", x->config.context,
                               "clean_up_tokenization_spaces", 0);
    if (template) json_object_set_new(config, "chat_template", json_string(template));
    if (status == 0) status = put_json(x, "tokenizer_config.json", config, error);
    else json_decref(config);
    if (status == 0) status = put_file(x, "chat_template.jinja", template, error);
    json_t *stops = json_array();
    for (int i = 0; i < r->stops; i++) json_array_append_new(stops, json_integer(r->stop[i]));
    json_t *generation = json_pack("{s:o, s:o, s:o, s:b, s:i}", "bos_token_id", id_or_null(r->bos), "eos_token_id",
                                   stops,
                                   "pad_token_id", id_or_null(r->pad), "do_sample", 1, "top_k", 0);
    if (status == 0 && x->config.head == HEAD_VOCABULARY) return put_json(x, "generation_config.json", generation,
                                                                          error);
    json_decref(generation);
    return status;
}

static int put_card(const struct export *x, struct error *error)
{
    const struct ckpt_meta *m = ckpt_meta_of(x->ckpt);
    struct bytes text = {0};
    char line[200], file[128];
    const char *name = path_name(file, ckpt_path(x->ckpt));
    kv_get_text(&m->meta, "name", &name);
    bytes_text(&text, "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n# %s\n\n"
               "Trained with Quartet %s: %s, step %llu, %llu tokens.\n\n    %s\n", name,
               QUARTET_VERSION, stage_name((enum stage)m->stage), (unsigned long long)m->step,
               (unsigned long long)m->tokens_seen, config_line(line, sizeof line, &x->config));
    for (uint64_t p = 0; p < lineage_parents(&m->line); p++) {
        char **chain;
        size_t n = lineage_chain(&chain, &m->line, p);
        bytes_text(&text, "\n%s:\n\n", lineage_role(&m->line, p));
        for (size_t k = 0; k < n; k++) {
            struct link link;
            if (lineage_parse(&link, chain[k]))
                bytes_text(&text, "- %s `%s`, step %llu%s%s\n", link.stage, link.name, (unsigned long long)link.step,
                           *link.metric ? ", " : "", link.metric);
        }
    }
    int status = put_file(x, "README.md", text.data, error);
    bytes_free(&text);
    return status;
}

/* ---- all of it ---- */

static int put_folder(struct export *x, json_t *json, uint64_t shard, void (*say)(const char *line),
                      struct error *error)
{
    const struct ckpt_meta *m = ckpt_meta_of(x->ckpt);
    struct tokenizer *t = NULL;
    struct chat chat = {0};
    const char *template = NULL;
    int status = m->tokn.size ? tokenizer_read(&t, m->tokn.data, m->tokn.size, error) : 0;
    if (status == 0 && t && m->chat.count) status = chat_read(&chat, &m->chat, t, error);
    if (kv_get_text(&m->meta, "chat_template", &template) != 1 && chat.tokenizer) template = chat_jinja(chat.template);
    struct roles roles = roles_of(t, &chat);
    if (status == 0) status = put_config(x, json_incref(json), &roles, error);
    if (status == 0) status = put_all_tensors(x, shard, error);
    if (status == 0 && t) status = put_tokenizer(x, t, &roles, template, error);
    if (status == 0) status = put_card(x, error);
    if (status == 0 && say && !t) say("the checkpoint holds no tokenizer: the folder has none");
    tokenizer_free(t);
    return status;
}

/* The folder has only what was written here. */
static void remove_part(const char *folder)
{
    struct dirent *entry;
    DIR *list = opendir(folder);
    while (list && (entry = readdir(list))) unlinkat(dirfd(list), entry->d_name, 0);
    if (list) closedir(list);
    rmdir(folder);
}

int interop_export(struct ckpt *c, const char *folder, uint64_t shard, void (*say)(const char *line),
                   struct error *error)
{
    struct export x = {.ckpt = c, .error = error, .folder = host_text("%s.part-%d", folder, (int)getpid())};
    json_t *json = NULL;
    int status = config_read(&x.config, &ckpt_meta_of(c)->conf, error);
    if (status == 0 && access(folder, F_OK) == 0 && rmdir(folder) != 0)
        status = fail(error, EXIT_USAGE, "%s: exists already, and is not an empty folder", folder);
    if (status == 0 && !(json = family_json(&x.family, &x.config, error))) status = -1;
    x.params.layer = host_alloc(status == 0 ? (size_t)x.config.layers : 1, sizeof *x.params.layer);
    if (status == 0) params_each(&x.params, &x.config, add_outs, &x);
    if (status == 0) status = x.status;
    if (status == 0) status = ckpt_verify(c, error);
    if (status == 0 && x.count) qsort_r(x.out, x.count, sizeof *x.out, in_order, &x);
    if (status == 0 && mkdir(x.folder, 0777) != 0)
        status = fail(error, EXIT_IO, "%s: cannot be created: %s", x.folder, strerror(errno));
    else if (status == 0) {
        status = put_folder(&x, json, shard, say, error);
        if (status == 0 && rename(x.folder, folder) != 0)
            status = fail(error, EXIT_IO, "%s: cannot be given its name: %s", folder, strerror(errno));
        if (status != 0) remove_part(x.folder);
    }
    json_decref(json);
    for (size_t i = 0; i < x.count; i++) free(x.out[i].name);
    free(x.out);
    free(x.params.layer);
    free(x.folder);
    return status;
}
