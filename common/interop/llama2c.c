/* llama2c.c - the model files of llama2.c: a header, then float32 arrays, each for all layers; and its tokenizers. */
#include "common/interop/gguf.h"
#include "format/layout.h"

#include <stdlib.h>
#include <string.h>

enum { MAGIC = 0x616b3432, HEADER = 256, NUMBERS = 7, LAYERS_MOST = 4096, SIZE_MOST = 1 << 20, TOKENS_MOST = 1 << 24 };
enum number { DIM, HIDDEN, LAYERS, HEADS, KV_HEADS, VOCAB, CONTEXT };

struct shape { int64_t n[NUMBERS]; bool shared; uint64_t data; };

/* Two headers: of version 0, seven numbers, where a negative vocabulary tells of a head of its own; and those that
 * begin with a magic number and a version. */
static int read_header(struct shape *s, bool *old, const struct st_file *f, struct error *error)
{
    uint8_t head[HEADER] = {0};
    size_t size = f->size < HEADER ? (size_t)f->size : HEADER;
    if (size < 4 * NUMBERS || file_read_at(f->fd, head, 0, size) != 0)
        return fail(error, EXIT_DATA, "%s: too short for a model of llama2.c", f->path);
    *old = load32(head) != MAGIC;
    if (!*old && load32(head + 4) != 1)
        return fail(error, EXIT_DATA, "%s: a file of llama2.c's version %u (expected 0 or 1, which hold float32)",
                    f->path, load32(head + 4));
    const uint8_t *number = *old ? head : head + 8;
    for (int i = 0; i < NUMBERS; i++) s->n[i] = (int32_t)load32(number + 4 * i);
    s->shared = *old ? s->n[VOCAB] > 0 : number[4 * NUMBERS] != 0;
    if (*old && s->n[VOCAB] < 0) s->n[VOCAB] = -s->n[VOCAB];
    s->data = *old ? 4 * NUMBERS : HEADER;
    for (int i = 0; i < NUMBERS; i++)
        if (s->n[i] < 1 || s->n[i] > (i == LAYERS ? LAYERS_MOST : i == VOCAB ? TOKENS_MOST : SIZE_MOST))
            return fail(error, EXIT_DATA, "%s: number %d of its header is %lld: it is no model of llama2.c", f->path,
                        i + 1, (long long)s->n[i]);
    if (s->n[DIM] % s->n[HEADS] != 0 || s->n[HEADS] % s->n[KV_HEADS] != 0)
        return fail(error, EXIT_DATA, "%s: %lld channels, %lld heads and %lld key heads do not divide one another",
                    f->path, (long long)s->n[DIM], (long long)s->n[HEADS], (long long)s->n[KV_HEADS]);
    return 0;
}

/* An array of `count` tensors, one behind the other from byte *at; columns 0: vectors. */
static void add(struct safetensors *s, const char *name, int64_t count, int64_t rows, int64_t columns, uint64_t *at)
{
    for (int64_t i = 0; i < count; i++) {
        struct st_tensor *t = safetensors_add(s);
        *t = (struct st_tensor){.name = count == 1 && !strchr(name, '%') ? host_text("%s", name) : NULL,
                                .dtype = DTYPE_F32, .ndim = columns ? 2 : 1, .offset = *at,
                                .shape = {(uint64_t)rows, (uint64_t)columns}};
        if (!t->name) t->name = host_text("blk.%lld.%s.weight", (long long)i, name + 1);
        t->bytes = 4 * (uint64_t)(rows * (columns ? columns : 1));
        *at += t->bytes;
    }
}

static void list_tensors(struct safetensors *s, const struct shape *m, bool old, uint64_t *at)
{
    const int64_t *n = m->n, L = n[LAYERS], C = n[DIM], head = C / n[HEADS], keys = n[KV_HEADS] * head;
    if (!old) add(s, "%attn_norm", L, C, 0, at);
    if (!old) add(s, "%ffn_norm", L, C, 0, at);
    if (!old) add(s, "output_norm.weight", 1, C, 0, at);
    add(s, "token_embd.weight", 1, n[VOCAB], C, at);
    if (old) add(s, "%attn_norm", L, C, 0, at);
    add(s, "%attn_q", L, C, C, at);
    add(s, "%attn_k", L, keys, C, at);
    add(s, "%attn_v", L, keys, C, at);
    add(s, "%attn_output", L, C, C, at);
    if (old) add(s, "%ffn_norm", L, C, 0, at);
    add(s, "%ffn_gate", L, n[HIDDEN], C, at);
    add(s, "%ffn_down", L, C, n[HIDDEN], at);
    add(s, "%ffn_up", L, n[HIDDEN], C, at);
    if (old) add(s, "output_norm.weight", 1, C, 0, at);
    if (old) *at += 4 * (uint64_t)(n[CONTEXT] * head);          /* tables of cosines and sines */
    if (!m->shared) add(s, "output.weight", 1, n[VOCAB], C, at);
}

static int open_model(struct safetensors *s, json_t *facts, const char *path, struct error *error)
{
    struct shape m = {.shared = true};
    bool old = true;
    const struct st_file *f = safetensors_file(s, path, error);
    if (!f) return -1;
    if (read_header(&m, &old, f, error) != 0) return -1;
    uint64_t end = m.data;
    list_tensors(s, &m, old, &end);
    if (end != f->size)
        return fail(error, EXIT_DATA, "%s: it has %llu bytes (expected %llu by its header)", path,
                    (unsigned long long)f->size, (unsigned long long)end);
    if (safetensors_sort(s, path, error) != 0) return -1;
    json_object_update_new(facts, json_pack("{s:s, s:f, s:I, s:I, s:I, s:I, s:I, s:I}", "general.architecture", "llama",
        "llama.attention.layer_norm_rms_epsilon", 1e-5, "llama.embedding_length", (json_int_t)m.n[DIM],
        "llama.feed_forward_length", (json_int_t)m.n[HIDDEN], "llama.block_count", (json_int_t)m.n[LAYERS],
        "llama.attention.head_count", (json_int_t)m.n[HEADS], "llama.attention.head_count_kv", (json_int_t)m.n[KV_HEADS],
        "llama.context_length", (json_int_t)m.n[CONTEXT]));
    return 0;
}

/* ---- tokenizer ---- */

enum { BEGIN = 1, END = 2, FIRST_BYTE = 3, FIRST_PIECE = 259, CONTROL = 3, UNKNOWN = 2, NORMAL = 1, BYTE = 6 };

/* A piece as SentencePiece has it: blanks are U+2581, and <s> and </s> stand between newlines in these files. */
static json_t *piece_of(const char *text, size_t length, size_t id)
{
    struct bytes piece = {0};
    if (id == BEGIN || id == END) bytes_text(&piece, id == BEGIN ? "<s>" : "</s>");
    else
        for (size_t i = 0; i < length; i++)
            if (text[i] == ' ') bytes_text(&piece, "\xe2\x96\x81");
            else bytes_add(&piece, text + i, 1);
    json_t *value = json_stringn(piece.data ? piece.data : "", piece.size);     /* only valid UTF-8 */
    bytes_free(&piece);
    return value;
}

static int type_of(size_t id)
{
    return id == 0 ? UNKNOWN : id < FIRST_BYTE ? CONTROL : id < FIRST_PIECE ? BYTE : NORMAL;
}

static int open_tokenizer(json_t *facts, const char *path, struct error *error)
{
    struct bytes file = {0};
    if (file_read(&file, path, 256 << 20, error) != 0) return -1;
    json_t *tokens = json_array(), *scores = json_array(), *types = json_array();
    const uint8_t *data = (const uint8_t *)file.data;
    int status = 0;                                             /* the first four bytes: the longest length */
    for (size_t at = 4, id = 0; status == 0 && at < file.size; id++) {
        bool room = file.size - at >= 8;
        uint32_t bits = room ? load32(data + at) : 0, length = room ? load32(data + at + 4) : 0;
        float score;
        char byte[8];
        memcpy(&score, &bits, sizeof score);
        snprintf(byte, sizeof byte, "<0x%02X>", (unsigned)(id - FIRST_BYTE) & 0xff);
        room = room && length <= file.size - at - 8;
        json_t *piece = room ? piece_of(file.data + at + 8, length, id) : NULL;
        json_t *real = json_real((double)score);
        if (!piece || !real || (type_of(id) == BYTE && strcmp(json_string_value(piece), byte) != 0))
            status = fail(error, EXIT_DATA, "%s: token %zu, at byte %zu, is not one of a tokenizer of llama2.c", path,
                          id, at);
        if (piece) json_array_append_new(tokens, piece);
        if (real) json_array_append_new(scores, real);
        json_array_append_new(types, json_integer(type_of(id)));
        at += 8 + (size_t)length;
    }
    if (status == 0 && json_array_size(tokens) < FIRST_PIECE)
        status = fail(error, EXIT_DATA, "%s: it has %zu tokens (expected 259 or more)", path, json_array_size(tokens));
    json_object_update_new(facts, json_pack("{s:s, s:o, s:o, s:o, s:i}", "tokenizer.ggml.model", "llama",
        "tokenizer.ggml.tokens", tokens, "tokenizer.ggml.scores", scores, "tokenizer.ggml.token_type", types,
        "tokenizer.ggml.bos_token_id", BEGIN));
    bytes_free(&file);
    return status;
}

int llama2c_open(struct safetensors *s, json_t **facts, const char *model, const char *tokenizer, struct error *error)
{
    *s = (struct safetensors){0};
    *facts = json_object();
    if (open_model(s, *facts, model, error) == 0 && open_tokenizer(*facts, tokenizer, error) == 0) return 0;
    safetensors_close(s);
    json_decref(*facts);
    *facts = NULL;
    return -1;
}
