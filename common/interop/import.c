/* import.c - a Hugging Face folder or a GGUF file as a checkpoint: open, so that programs read it like one, or
 * written. */
#include "common/interop/chat_jinja.h"
#include "common/interop/foreign.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- beside the tensors ---- */

/* The chat template: in a file of its own, or a text in tokenizer_config.json (settings).  To free(), or NULL. */
static char *chat_text(const char *folder, const json_t *settings)
{
    struct bytes text = {0};
    struct error error;
    char *path = host_text("%s/chat_template.jinja", folder), *found = NULL;
    if (file_read(&text, path, 1 << 20, &error) == 0) found = host_text("%s", text.data);
    bytes_free(&text);
    free(path);
    const char *given = json_string_value(json_object_get(settings, "chat_template"));
    return found || !given ? found : host_text("%s", given);
}

/* The tokens that begin and end a text, as the origin names them: texts in the tokenizer's settings, ids in facts. */
static void take_document(struct foreign *m, const json_t *settings, const json_t *facts, const char *bos, const char *eos)
{
    m->document[0] = json_incref(json_object_get(settings, "bos_token"));
    m->document[1] = json_incref(json_object_get(facts, bos));
    m->document[2] = json_incref(json_object_get(settings, "eos_token"));
    m->document[3] = json_incref(json_object_get(facts, eos));
}

/* What ends a text: a text, an id or several each. */
static void take_ends(struct foreign *m, const json_t *first, const json_t *second, const json_t *third)
{
    const json_t *end[] = {first, second, third};
    for (int i = 0; i < 3; i++) m->end[i] = json_incref((json_t *)end[i]);
}

/* A file of the folder, an object; NULL where there is none and none is needed. */
static int folder_json(json_t **out, const char *folder, const char *name, bool needed, struct error *error)
{
    scoped char *path = host_text("%s/%s", folder, name);
    return needed || access(path, F_OK) == 0 ? interop_json(out, path, error) : 0;
}

static int open_folder(struct foreign *m, struct error *error)
{
    m->kind = "Hugging Face folder";
    scoped char *model = host_text("%s/tokenizer.model", m->from);
    json_t *json = NULL, *settings = NULL, *generation = NULL;
    int status = folder_json(&json, m->from, "config.json", true, error);
    if (status == 0 && family_config(&m->family, &m->config, json, error) != 0) status = fail_in(error, "%s", m->from);
    if (status == 0) status = safetensors_open(&m->tensors, m->from, error);
    if (status == 0) status = folder_json(&m->tokenizer, m->from, "tokenizer.json", false, error);
    if (status == 0 && !m->tokenizer && access(model, F_OK) == 0)
        status = tokenizer_model_json(&m->tokenizer, model, error);
    if (status == 0) status = folder_json(&settings, m->from, "tokenizer_config.json", false, error);
    if (status == 0) status = folder_json(&generation, m->from, "generation_config.json", false, error);
    if (status == 0) m->template = chat_text(m->from, settings);
    take_document(m, settings, json, "bos_token_id", "eos_token_id");
    const json_t *ends = json_object_get(generation, "eos_token_id");
    take_ends(m, ends ? ends : json_object_get(json, "eos_token_id"), json_object_get(settings, "eos_token"), NULL);
    m->names = m->family;
    json_decref(generation);
    json_decref(settings);
    json_decref(json);
    return status;
}

/* Adds a line to what was found (NULL: nobody asks). */
static void tell(struct bytes *said, const char *line)
{
    if (said) bytes_text(said, "%s\n", line);
}

/* A GGUF file; or, with a tokenizer beside it, a model of llama2.c. */
static int open_gguf(struct foreign *m, const char *tokenizer, struct bytes *said, struct error *error)
{
    json_t *facts = NULL, *json = NULL;
    struct error why;
    m->kind = tokenizer ? "model of llama2.c" : "GGUF file";
    if ((tokenizer ? llama2c_open(&m->tensors, &facts, m->from, tokenizer, error)
                   : gguf_open(&m->tensors, &facts, m->from, error)) != 0) return -1;
    m->names = gguf_names(facts, &m->tensors, error);
    if (m->names) json = gguf_config(facts, m->names, &m->tensors, error);
    int status = json ? family_config(&m->family, &m->config, json, error) : -1;
    const char *template = json_string_value(json_object_get(facts, "tokenizer.chat_template"));
    if (status != 0) fail_in(error, "%s", m->from);
    if (status == 0) m->tokenizer = gguf_tokenizer(facts, &why);
    if (status == 0 && !m->tokenizer) tell(said, why.text);
    if (status == 0 && template) m->template = host_text("%s", template);
    take_document(m, NULL, facts, "tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id");
    take_ends(m, json_object_get(facts, "tokenizer.ggml.eos_token_id"),
              json_object_get(facts, "tokenizer.ggml.eot_token_id"),
              json_object_get(facts, "tokenizer.ggml.eom_token_id"));
    json_decref(json);
    json_decref(facts);
    return status;
}

/* A template is known as what export writes, or by what stands in it; those of relatives that write something else have
 * what these lack. */
static enum chat_template chat_known(const char *text)
{
    static const struct { enum chat_template template; const char *has[4], *lacks[4]; } known[] = {
        {TEMPLATE_QWEN3, {"<|im_start|>", "<|im_end|>", "last_query_index", "enable_thinking"}, {"open_thinking"}},
        {TEMPLATE_CHATML, {"<|im_start|>", "<|im_end|>"}, {"<think>"}},
        {TEMPLATE_LLAMA3, {"<|start_header_id|>", "<|eot_id|>"}, {NULL}},
        {TEMPLATE_GLM4, {"[gMASK]<sop>", "<|assistant|>"}, {"<think>"}},
        {TEMPLATE_GEMMA, {"<start_of_turn>", "<end_of_turn>", "model"}, {"first_user_prefix"}},
        {TEMPLATE_MISTRAL, {"'[INST] ' + message['content'] + ' [/INST]'", "message['content'] + eos_token", "bos_token"},
         {"eos_token + ' '", "' ' + message['content'] + eos_token", "system_message", "<<SYS>>"}},
        {TEMPLATE_ZEPHYR, {"<|system|>", "<|user|>", "<|assistant|>", "message['content'] + eos_token"},
         {"<|end|>", "[gMASK]", "bos_token", "trim"}},
        {TEMPLATE_ALPACA, {"### Instruction"}, {NULL}},
    };
    const char *ours;
    for (int i = TEMPLATE_QUARTET; (ours = chat_jinja((enum chat_template)i)); i++)
        if (strcmp(text, ours) == 0) return (enum chat_template)i;
    for (size_t i = 0; i < sizeof known / sizeof *known; i++) {
        bool same = true;
        for (int k = 0; k < 4 && known[i].has[k]; k++) same &= strstr(text, known[i].has[k]) != NULL;
        for (int k = 0; k < 4 && known[i].lacks[k]; k++) same &= strstr(text, known[i].lacks[k]) == NULL;
        if (same) return known[i].template;
    }
    return TEMPLATE_NONE;
}

/* The special token that a text, an object with a text, an id, or the first of several ids names; or -1. */
static int special_of(const struct tokenizer *t, const json_t *token)
{
    if (json_is_object(token)) token = json_object_get(token, "content");
    if (json_is_array(token)) token = json_array_get(token, 0);
    if (json_is_string(token)) return tokenizer_special(t, json_string_value(token));
    json_int_t id = json_is_integer(token) ? json_integer_value(token) : -1;
    return id >= 0 && id < tokenizer_vocab(t) && tokenizer_is_special(t, (int)id) ? (int)id : -1;
}

/* What separates documents, where <|endoftext|> cannot. */
static void set_document(const struct foreign *m, struct tokenizer *t, struct bytes *said)
{
    char line[200], shown[60];
    size_t length;
    int id = -1;
    if (tokenizer_document(t) >= 0) return;
    for (int i = 0; i < 4 && id < 0; i++) id = special_of(t, m->document[i]);
    if (id < 0) return;
    tokenizer_set_document(t, id);
    const char *text = tokenizer_bytes(t, id, &length);
    snprintf(line, sizeof line, "documents begin with the token %s", text_escape(shown, sizeof shown, text, length));
    tell(said, line);
}

/* What ends a text by its origin and by nothing that is known here. */
static void set_stops(const struct foreign *m, struct ckpt_meta *meta, const struct chat *c, const struct tokenizer *t,
                      struct bytes *said)
{
    struct stops s = stops_of(c, t, NULL);
    int known = s.count;
    int64_t id[STOPS_MOST];
    char line[200], shown[60];
    size_t length;
    for (int i = 0; i < 3; i++) {
        size_t n = json_array_size(m->end[i]);
        if (!json_is_array(m->end[i])) stops_add(&s, special_of(t, m->end[i]));
        for (size_t k = 0; k < n; k++) stops_add(&s, special_of(t, json_array_get(m->end[i], k)));
    }
    for (int i = known; i < s.count; i++) {
        const char *text = tokenizer_bytes(t, s.id[i], &length);
        id[i - known] = s.id[i];
        snprintf(line, sizeof line, "a text ends with the token %s", text_escape(shown, sizeof shown, text, length));
        tell(said, line);
    }
    if (s.count > known) kv_set_i64s(&meta->meta, "stop", id, (size_t)(s.count - known));
}

static int take_tokenizer(struct foreign *m, struct ckpt_meta *meta, struct bytes *said, struct error *error)
{
    char line[200];
    struct tokenizer *t = NULL;
    struct chat chat;
    struct error why;
    if (m->template && (strlen(m->template) > 1 << 20 ||
                        utf8_prefix(m->template, strlen(m->template)) != strlen(m->template)))
        return fail(error, EXIT_DATA, "%s: its chat template is not valid UTF-8 of at most 1 MiB", m->from);
    if (m->template && chat_parses(m->template, &why) != 0)
        return fail(error, EXIT_DATA, "%s: its chat template is no Jinja template: %s", m->from, why.text);
    int status = m->tokenizer ? tokenizer_import_json(&t, m->tokenizer, m->from, error) : 0;
    enum chat_template known = m->template ? chat_known(m->template) : TEMPLATE_NONE;
    if (status == 0 && t && tokenizer_vocab(t) > m->config.vocab)
        status = fail(error, EXIT_DATA, "%s: the tokenizer has %d ids, the embedding only %d", m->from,
                      tokenizer_vocab(t), m->config.vocab);
    if (status == 0 && t) set_document(m, t, said);
    if (status == 0 && t) tokenizer_write(&meta->tokn, t);
    if (status == 0 && t && known && chat_bind(&chat, known, t, &why) == 0) chat_write(&chat, &meta->chat);
    if (status == 0 && t) set_stops(m, meta, meta->chat.count ? &chat : NULL, t, said);
    if (status == 0 && m->template) {
        kv_set_text(&meta->meta, "chat_template", m->template);
        snprintf(line, sizeof line, "chat template: %s", meta->chat.count ? chat_template_name(known)
                 : "not one that is known here; it is kept for export");
        tell(said, line);
    }
    if (status == 0 && !t) tell(said, "there is no tokenizer: the model knows ids only");
    tokenizer_free(t);
    return status;
}

/* ---- as an open checkpoint ---- */

bool interop_is(const char *path)
{
    char magic[4] = "";
    char *config = host_text("%s/config.json", path);
    bool found = access(config, F_OK) == 0;
    struct stat st;
    bool regular = stat(path, &st) == 0 && S_ISREG(st.st_mode);         /* a pipe would wait for its writer */
    FILE *file = found || !regular ? NULL : fopen(path, "rbe");
    if (file) found = fread(magic, 1, 4, file) == 4 && memcmp(magic, "GGUF", 4) == 0;
    if (file) fclose(file);
    free(config);
    return found;
}

/* The index of a file that has a parameter in each target. */
static int build_index(struct ckpt *c, struct error *error)
{
    const struct foreign *m = c->outside.self;
    uint64_t chunks = 0;
    c->index.tensor = host_alloc(m->count + 1, sizeof *c->index.tensor);
    c->index.count = m->count;
    for (size_t i = 0; i < m->count; i++) {
        const struct target *from = &m->target[i];
        struct ckpt_tensor *t = &c->index.tensor[i];
        *t = (struct ckpt_tensor){.name = from->name, .dtype = from->dtype, .ndim = from->ndim};
        memcpy(t->shape, from->shape, sizeof from->shape);
        if (tensor_bytes(t, error) != 0) return fail_in(error, "%s", m->from);
        t->offset = from->pieces ? from->piece[0]->offset : 0;
        t->first_chunk = (uint32_t)chunks;
        chunks += tensor_chunks(t->bytes);
        t->flags = (uint16_t)(TENSOR_TRAINABLE | (from->decay ? TENSOR_DECAY : 0));
    }
    for (int i = 0; i < m->tensors.files; i++) c->header.file_size += m->tensors.file[i].size;
    index_sort(&c->index);
    return 0;
}

static struct ckpt *new_ckpt(const char *path)
{
    struct ckpt *c = host_alloc(1, sizeof *c);
    struct foreign *m = host_alloc(1, sizeof *m);
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/') n--;
    c->path = host_text("%.*s", (int)n, path);
    m->from = c->path;
    c->input.fd = -1;
    c->outside = (struct outside){.self = m, .read = foreign_read, .close = foreign_close};
    c->header.meta.stage = STAGE_IMPORTED;
    return c;
}

static int finish(struct ckpt **out, struct ckpt *c, int status, struct error *error)
{
    const struct foreign *m = c->outside.self;
    if (status == 0) status = build_index(c, error);
    c->outside.kind = m->kind;
    if (status == 0) *out = c;
    else ckpt_close(c);
    return status;
}

static int open_model(struct ckpt **out, const char *path, const char *tokenizer, struct bytes *said,
                      struct error *error)
{
    struct ckpt *c = new_ckpt(path);
    struct foreign *m = c->outside.self;
    struct ckpt_meta *meta = &c->header.meta;
    char line[200], shown[128];
    *out = NULL;
    int status = folder_is(path) && !tokenizer ? open_folder(m, error) : open_gguf(m, tokenizer, said, error);
    if (status == 0) status = foreign_map(m, error);
    if (status == 0) status = take_tokenizer(m, meta, said, error);
    if (status == 0) {
        config_write(&m->config, &meta->conf);
        kv_set_text(&meta->meta, "name", path_name(shown, path));
        kv_set_text(&meta->meta, "program", "ckpt import");
        snprintf(meta->writer, sizeof meta->writer, "ckpt %s", QUARTET_VERSION);
        tell(said, config_line(line, sizeof line, &m->config));
    }
    return finish(out, c, status, error);
}

int interop_open(struct ckpt **out, const char *path, struct bytes *said, struct error *error)
{
    return open_model(out, path, NULL, said, error);
}

int interop_open_raw(struct ckpt **out, const char *path, struct error *error)
{
    struct ckpt *c = new_ckpt(path);
    struct foreign *m = c->outside.self;
    json_t *facts = NULL;
    *out = NULL;
    bool gguf = !folder_is(path) && interop_is(path);
    int status = gguf ? gguf_open(&m->tensors, &facts, path, error) : safetensors_open(&m->tensors, path, error);
    m->kind = gguf ? "GGUF file" : folder_is(path) ? "Hugging Face folder" : "safetensors file";
    json_decref(facts);
    if (status == 0) foreign_raw(m);
    return finish(out, c, status, error);
}

/* ---- written ---- */

int interop_import(const char *from, const char *tokenizer, const char *to, void (*say)(const char *line),
                   struct error *error)
{
    struct ckpt *c;
    struct bytes said = {0};
    if (open_model(&c, from, tokenizer, &said, error) != 0) {
        bytes_free(&said);
        return -1;
    }
    const struct foreign *m = c->outside.self;
    int status = gguf_check_values(&m->tensors, error);     /* before any message or output */
    for (char *line = said.data, *end; say && status == 0 && line && (end = strchr(line, '\n')); line = end + 1) {
        *end = 0;
        say(line);
    }
    struct save save = {.meta = &c->header.meta, .identify = true};
    if (status == 0) status = checkpoint_copy(c, to, &save, error);
    bytes_free(&said);
    ckpt_close(c);
    return status;
}
