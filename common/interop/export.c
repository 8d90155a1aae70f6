/* export.c - a checkpoint as a Hugging Face folder.  It is written under another name and renamed at the end, so that
 * half a folder never has the name that was asked for. */
#define _GNU_SOURCE
#include "common/interop/interop.h"
#include "common/interop/parts.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct export {
    struct parts parts;
    char *folder;                       /* where it is written first */
};

static uint64_t bytes_of(const struct part *o) { return (uint64_t)(o->rows * o->columns) * dtype_size(o->dtype); }

/* By falling size of an element, then name: the order in which the reference writer stores them. */
static int in_order(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    uint32_t s = dtype_size(x->dtype), t = dtype_size(y->dtype);
    return s != t ? (s < t ? 1 : -1) : strcmp(x->name, y->name);
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

static int put_json(const struct export *x, const char *name, size_t indent, json_t *json, struct error *error)
{
    char *text = json ? json_dumps(json, JSON_INDENT(indent) | JSON_REAL_PRECISION(17)) : NULL;
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
        const struct part *o = &x->parts.part[i];
        int64_t a = o->transposed ? o->columns : o->rows, b = o->transposed ? o->rows : o->columns;
        bytes_text(&text, ",\"%s\":{\"dtype\":\"%s\",\"shape\":[", o->name, dtype_word(o->dtype));
        if (o->slot == SLOT_SCORE) bytes_text(&text, "1,%lld", (long long)a);
        else if (o->vector) bytes_text(&text, "%lld", (long long)a);
        else bytes_text(&text, "%lld,%lld", (long long)a, (long long)b);
        bytes_text(&text, "],\"data_offsets\":[%llu,", (unsigned long long)at);
        at += bytes_of(o);
        bytes_text(&text, "%llu]}", (unsigned long long)at);
    }
    bytes_text(&text, "}");
    while (text.size % 8) bytes_text(&text, " ");
    store64(text.data, text.size - 8);
    return text;
}

struct place { int file; uint64_t at; const char *path; const struct part *part; uint8_t *turned; int64_t row; };

static int put_bytes(struct place *p, const uint8_t *data, size_t bytes, struct error *error)
{
    if (parts_write(p->file, data, p->at, bytes) != 0)
        return fail(error, EXIT_IO, "%s: cannot be written: %s", p->path, strerror(errno));
    p->at += bytes;
    return 0;
}

static int put_rows(void *self, const uint8_t *values, size_t rows, struct error *error)
{
    struct place *p = self;
    return put_bytes(p, values, rows * (size_t)p->part->columns * dtype_size(p->part->dtype), error);
}

/* As columns of the tensor that is transposed. */
static int turn_rows(void *self, const uint8_t *values, size_t rows, struct error *error)
{
    struct place *p = self;
    size_t size = dtype_size(p->part->dtype), columns = (size_t)p->part->columns, height = (size_t)p->part->rows;
    (void)error;
    for (size_t r = 0; r < rows; r++, p->row++)
        for (size_t c = 0; c < columns; c++)
            memcpy(p->turned + (c * height + (size_t)p->row) * size, values + (r * columns + c) * size, size);
    return 0;
}

static int put_tensor(struct place *p, const struct export *x, const struct part *o, struct error *error)
{
    p->part = o;
    if (!o->transposed) return parts_rows(&x->parts, o, put_rows, p, error);
    p->row = 0;
    p->turned = host_alloc((size_t)bytes_of(o) + 1, 1);
    int status = parts_rows(&x->parts, o, turn_rows, p, error);
    if (status == 0) status = put_bytes(p, p->turned, (size_t)bytes_of(o), error);
    free(p->turned);
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
    for (size_t i = first; i < end && status == 0; i++) status = put_tensor(&place, x, &x->parts.part[i], error);
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
    size_t *start = host_alloc(x->parts.count + 1, sizeof *start), files = 1;
    uint64_t all = 0, elements = 0;
    for (size_t i = 0, first = 0, bytes = 0; i < x->parts.count; i++) {
        const struct part *o = &x->parts.part[i];
        uint64_t n = bytes_of(o);
        if (i > first && bytes + n > shard) {
            start[files++] = first = i;
            bytes = 0;
        }
        bytes += n;
        all += n;
        elements += (uint64_t)(o->rows * o->columns);
    }
    start[files] = x->parts.count;
    json_t *map = json_object();
    int status = 0;
    for (size_t f = 0; f < files && status == 0; f++) {
        char name[80] = "model.safetensors";
        if (files > 1) snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", f + 1, files);
        for (size_t i = start[f]; i < start[f + 1]; i++) json_object_set_new(map, x->parts.part[i].name, json_string(name));
        status = put_tensors(x, name, start[f], start[f + 1], error);
    }
    free(start);
    json_t *index = json_pack("{s:{s:I, s:I}, s:o}", "metadata", "total_size", (json_int_t)all, "total_parameters",
                              (json_int_t)elements, "weight_map", map);
    if (status == 0 && files > 1) status = put_json(x, "model.safetensors.index.json", 2, index, error);
    else json_decref(index);
    return status;
}

/* ---- beside the tensors ---- */

/* A reward is read at the last token that is not padding, so padding must not be what ends an answer; -1: none. */
static int padding(const struct speech *s)
{
    int text = s->tokenizer ? tokenizer_special(s->tokenizer, "<|endoftext|>") : -1;
    return s->chat.tokenizer && text == s->eos ? -1 : text;
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

static int put_config(const struct export *x, json_t *json, const struct speech *s, struct error *error)
{
    const struct config *c = &x->parts.config;
    uint32_t dtype = x->parts.part[0].dtype;
    json_object_set_new(json, "torch_dtype", json_string(dtype == DTYPE_BF16 ? "bfloat16" :
                                                         dtype == DTYPE_F16 ? "float16" : "float32"));
    if (c->head == HEAD_SCALAR)                                 /* reward = (score - mean) / std */
        json_object_update_new(json, json_pack("{s:{s:s}, s:{s:i}, s:f, s:f, s:b}", "id2label", "0", "LABEL_0",
                                               "label2id", "LABEL_0", 0,
                                               "mean", c->score_mean - (double)score_bias(x->parts.ckpt),
                                               "std", c->score_std, "normalize_reward", 1));
    json_object_update_new(json, json_pack("{s:o, s:o, s:o}", "bos_token_id", id_or_null(s->bos),
                                           "eos_token_id", id_or_null(s->eos), "pad_token_id", id_or_null(padding(s))));
    return put_json(x, "config.json", 2, json, error);
}

static int put_tokenizer(const struct export *x, const struct speech *s, struct error *error)
{
    const struct tokenizer *t = s->tokenizer;
    int status = put_json(x, "tokenizer.json", 1, tokenizer_json(t), error);
    json_t *config = json_pack("{s:s, s:o, s:o, s:o, s:s, s:i, s:b}", "tokenizer_class", "PreTrainedTokenizerFast",
                               "bos_token", token_or_null(t, s->bos), "eos_token", token_or_null(t, s->eos),
                               "pad_token", token_or_null(t, padding(s)), "padding_side", "left",
                               "model_max_length", x->parts.config.context, "clean_up_tokenization_spaces", 0);
    if (s->template) json_object_set_new(config, "chat_template", json_string(s->template));
    if (status == 0) status = put_json(x, "tokenizer_config.json", 2, config, error);
    else json_decref(config);
    if (status == 0) status = put_file(x, "chat_template.jinja", s->template, error);
    if (status != 0 || x->parts.config.head != HEAD_VOCABULARY) return status;
    json_t *stops = json_array();
    for (int i = 0; i < s->stops.count; i++) json_array_append_new(stops, json_integer(s->stops.id[i]));
    return put_json(x, "generation_config.json", 2,
                    json_pack("{s:o, s:o, s:o, s:b, s:i}", "bos_token_id", id_or_null(s->bos), "eos_token_id", stops,
                              "pad_token_id", id_or_null(padding(s)), "do_sample", 1, "top_k", 0), error);
}

static int put_card(const struct export *x, struct error *error)
{
    const struct ckpt_meta *m = ckpt_meta_of(x->parts.ckpt);
    struct bytes text = {0};
    char line[200], file[128];
    const char *name = path_name(file, ckpt_path(x->parts.ckpt));
    kv_get_text(&m->meta, "name", &name);
    bytes_text(&text, "---\nlibrary_name: transformers\npipeline_tag: text-generation\n---\n\n# %s\n\n"
               "Trained with Quartet %s: %s, step %llu, %llu tokens.\n\n    %s\n", name,
               QUARTET_VERSION, stage_name((enum stage)m->stage), (unsigned long long)m->step,
               (unsigned long long)m->tokens_seen, config_line(line, sizeof line, &x->parts.config));
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
    struct speech speech;
    int status = speech_open(&speech, x->parts.ckpt, error);
    if (status == 0) status = put_config(x, json_incref(json), &speech, error);
    if (status == 0) status = put_all_tensors(x, shard, error);
    if (status == 0 && speech.tokenizer) status = put_tokenizer(x, &speech, error);
    if (status == 0) status = put_card(x, error);
    if (status == 0 && say && !speech.tokenizer) say("the checkpoint holds no tokenizer: the folder has none");
    tokenizer_free(speech.tokenizer);
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
    size_t length = strlen(folder);
    while (length > 1 && folder[length - 1] == '/') length--;
    struct export x = {.parts = {.ckpt = c},
                       .folder = host_text("%.*s.part-%d", (int)length, folder, (int)getpid())};
    struct parts *p = &x.parts;
    json_t *json = NULL;
    int status = config_read(&p->config, &ckpt_meta_of(c)->conf, error);
    if (status == 0 && access(folder, F_OK) == 0 && rmdir(folder) != 0)
        status = fail(error, EXIT_USAGE, "%s: exists already, and is not an empty folder", folder);
    if (status == 0 && !(json = family_json(&p->family, &p->config, error))) status = -1;
    if (status == 0) status = parts_list(p, error);
    if (status == 0) status = ckpt_verify(c, error);
    if (status == 0 && p->count) qsort(p->part, p->count, sizeof *p->part, in_order);
    if (status == 0 && mkdir(x.folder, 0777) != 0)
        status = fail(error, EXIT_IO, "%s: cannot be created: %s", x.folder, strerror(errno));
    else if (status == 0) {
        status = put_folder(&x, json, shard, say, error);
        if (status == 0 && rename(x.folder, folder) != 0)
            status = fail(error, EXIT_IO, "%s: cannot be given its name: %s", folder, strerror(errno));
        if (status != 0) remove_part(x.folder);
    }
    json_decref(json);
    parts_free(p);
    free(x.folder);
    return status;
}
