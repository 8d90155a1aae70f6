/* tokenizer_model.c - SentencePiece's tokenizer.model, a protobuf message; and vocabularies of pieces with scores.
 *
 * Only what decides ids is read: the pieces, and from the two specifications how a text is prepared.
 * Source: sentencepiece_model.proto. */
#include "common/text/tokenizer_import.h"

#include <stdlib.h>

enum { MODEL_MAX = 64 << 20, NORMAL = 1, UNKNOWN = 2, CONTROL = 3, USER = 4, UNUSED = 5, BYTE = 6 };

/* A message, or a field of one: its number, wire type, and value or bytes. */
struct message { const unsigned char *at, *end; };
struct field { uint64_t number, value; int type; struct message body; };

static bool take_varint(struct message *m, uint64_t *out)
{
    *out = 0;
    for (int shift = 0; m->at < m->end && shift < 64; shift += 7) {
        unsigned char b = *m->at++;
        *out |= (uint64_t)(b & 0x7F) << shift;
        if (b < 0x80) return true;
    }
    return false;
}

/* 1 with the next field, 0 at the end, -1 when it is no message. */
static int take_field(struct message *m, struct field *f)
{
    uint64_t key;
    if (m->at == m->end) return 0;
    if (!take_varint(m, &key)) return -1;
    *f = (struct field){.number = key >> 3, .type = (int)(key & 7)};
    size_t left = (size_t)(m->end - m->at), n = f->type == 1 ? 8 : 4;
    if (f->type == 0) return take_varint(m, &f->value) ? 1 : -1;
    if (f->type == 2) {
        if (!take_varint(m, &f->value) || f->value > (size_t)(m->end - m->at)) return -1;
        n = (size_t)f->value;
    } else if ((f->type != 1 && f->type != 5) || left < n) return -1;
    f->body = (struct message){m->at, m->at + n};
    for (size_t i = 0; i < n && f->type != 2; i++) f->value |= (uint64_t)m->at[i] << 8 * i;
    m->at += n;
    return 1;
}

struct model { json_t *pieces; uint64_t type; bool fallback, suffix, prefix, squeeze, escape, mapped; char normalizer[40]; };

static bool take_piece(struct model *m, struct message body)
{
    struct field f;
    struct message text = {0};
    uint32_t bits = 0;
    uint64_t type = NORMAL;
    float score;
    int more;
    while ((more = take_field(&body, &f)) == 1) {
        if (f.number == 1 && f.type == 2) text = f.body;
        if (f.number == 2 && f.type == 5) bits = (uint32_t)f.value;
        if (f.number == 3 && f.type == 0) type = f.value;
    }
    memcpy(&score, &bits, 4);
    json_t *string = more == 0 && text.at ? json_stringn((const char *)text.at, (size_t)(text.end - text.at)) : NULL;
    json_t *one = string ? json_pack("[o, f, I]", string, (double)score, (json_int_t)type) : NULL;
    return one && json_array_append_new(m->pieces, one) == 0;
}

/* The trainer's (number 2) and the normalizer's (3) specification; a denormalizer (5) is like the latter. */
static bool take_specification(struct model *m, uint64_t number, struct message body)
{
    struct field f;
    int more;
    while ((more = take_field(&body, &f)) == 1) {
        bool on = f.type == 0 && f.value != 0;
        if (number == 2 && f.number == 3) m->type = f.value;
        if (number == 2 && f.number == 24) m->suffix = on;
        if (number == 2 && f.number == 35) m->fallback = on;
        if (number == 3 && f.number == 1 && f.type == 2)
            text_escape(m->normalizer, sizeof m->normalizer, (const char *)f.body.at, (size_t)(f.body.end - f.body.at));
        if (number != 2 && f.number == 2 && f.type == 2) m->mapped |= f.body.end > f.body.at;
        if (number == 3 && f.number == 3) m->prefix = on;
        if (number == 3 && f.number == 4) m->squeeze = on;
        if (number == 3 && f.number == 5) m->escape = on;
    }
    return more == 0;
}

static int check_model(const struct model *m, struct error *error)
{
    static const char *const type[] = {"?", "Unigram", "BPE", "Word", "Char"};
    if (m->type != 2)
        return fail(error, EXIT_DATA, "its model is %s, expected BPE", type[m->type < 5 ? m->type : 0]);
    if (!m->fallback) return fail(error, EXIT_DATA, "its model does not fall back to bytes (byte_fallback)");
    if (m->mapped) return fail(error, EXIT_DATA, "it has the normalizer %s, and only identity is known", m->normalizer);
    if (m->squeeze || m->suffix || !m->escape)
        return fail(error, EXIT_DATA, "it has %s, which is not known here", m->squeeze ? "remove_extra_whitespaces"
                    : m->suffix ? "treat_whitespace_as_suffix" : "escape_whitespaces false");
    return 0;
}

int tokenizer_model_parse(json_t **out, const void *data, size_t size, struct error *error)
{
    struct model m = {.pieces = json_array(), .type = 1, .prefix = true, .squeeze = true, .escape = true};
    struct message all = {data, (const unsigned char *)data + size};
    struct field f;
    int more, status = 0;
    bool ok = true;
    while (ok && (more = take_field(&all, &f)) == 1) {
        if (f.number == 1) ok = f.type == 2 && take_piece(&m, f.body);
        else if (f.number == 2 || f.number == 3 || f.number == 5) ok = f.type == 2 && take_specification(&m, f.number, f.body);
    }
    if (!ok || more < 0 || json_array_size(m.pieces) == 0)
        status = fail(error, EXIT_DATA, "it is not a SentencePiece model (a vocabulary of tiktoken is not read; take the "
                      "tokenizer.json of that model)");
    if (status == 0) status = check_model(&m, error);
    if (status == 0) *out = json_pack("{s:O, s:b, s:b}", "pieces", m.pieces, "prefix", m.prefix, "escaped", 1);
    json_decref(m.pieces);
    return status;
}

int tokenizer_model_json(json_t **out, const char *path, struct error *error)
{
    struct bytes data = {0};
    if (file_read(&data, path, MODEL_MAX, error)) return -1;
    int status = tokenizer_model_parse(out, data.data, data.size, error);
    bytes_free(&data);
    return status ? fail_in(error, "%s", path) : 0;
}

/* ---- pieces ---- */

static int place_piece(struct import *im, const json_t *one, int id, bool escaped, struct error *error)
{
    const char *text = json_string_value(json_array_get(one, 0));
    size_t length = json_string_length(json_array_get(one, 0)), start = im->area.size;
    int type = (int)json_integer_value(json_array_get(one, 2)), byte = text && type == BYTE ? import_byte(text) : -1;
    char shown[60] = "";
    if (text) text_escape(shown, sizeof shown, text, length);
    if (type == UNUSED && !escaped) return 0;
    if (!text || length == 0 || strlen(text) != length || type < NORMAL || type > BYTE || type == UNUSED ||
        (type == BYTE && byte < 0) || (type == NORMAL && strchr(text, ' ')))
        return fail(error, EXIT_DATA, "its piece %d \"%s\" of type %d is not known here", id, shown, type);
    if (byte >= 0) bytes_add(&im->area, &(char){(char)byte}, 1);
    else bytes_add(&im->area, text, length);
    if (type == NORMAL || (type == USER && escaped)) text_unmark(&im->area, start);
    if (import_place(im, id, start, type == UNKNOWN ? TOKEN_SPECIAL : (unsigned char)type, error)) return -1;
    if (type == USER && escaped) im->t->token[id].flags = TOKEN_NORMALIZED;
    im->t->score[id] = (float)json_number_value(json_array_get(one, 1));
    return 0;
}

/* Merging begins with characters that are tokens, so every character of a token has to be one. */
static int check_characters(const struct import *im, struct error *error)
{
    json_t *alone = json_object();
    int status = 0;
    char c[8] = "", shown[2][60];
    for (int pass = 0; pass < 2; pass++)
        for (int id = 0; id < im->t->n_vocab && status == 0; id++) {
            const struct token *k = &im->t->token[id];
            const char *text = im->area.data + im->start[id];
            if (k->type != TOKEN_NORMAL) continue;
            for (size_t i = 0, n; i < k->length && status == 0; i += n) {
                n = (size_t)utf8_length(text + i, k->length - i);
                snprintf(c, sizeof c, "%.*s", (int)n, text + i);
                if (pass == 0 && n == k->length) json_object_set_new(alone, c, json_true());
                else if (pass == 1 && !json_object_get(alone, c))
                    status = fail(error, EXIT_DATA, "its piece \"%s\" has the character \"%s\", which is no piece of its own",
                                  text_escape(shown[0], sizeof shown[0], text, k->length),
                                  text_escape(shown[1], sizeof shown[1], c, n));
            }
        }
    json_decref(alone);
    return status;
}

int import_pieces(struct import *im, const json_t *root, struct error *error)
{
    const json_t *pieces = json_object_get(root, "pieces");
    size_t n = json_array_size(pieces);
    bool escaped = json_is_true(json_object_get(root, "escaped"));
    if (n < 256 || n >= TOKENIZER_VOCAB_MAX)
        return fail(error, EXIT_DATA, "it has %zu pieces, expected 256 to %d", n, TOKENIZER_VOCAB_MAX);
    im->t->pattern = PATTERN_WHOLE;
    im->t->flags = TOKENIZER_SCORES;
    if (json_is_true(json_object_get(root, "prefix")))
        im->t->flags |= TOKENIZER_PREFIX | TOKENIZER_SECTIONS | TOKENIZER_STRIP;
    im->t->n_vocab = (int)n;
    im->t->token = host_alloc(n, sizeof *im->t->token);
    im->t->score = host_alloc(n, sizeof *im->t->score);
    im->start = host_alloc(n, sizeof *im->start);
    for (size_t i = 0; i < n; i++) im->t->token[i].type = TOKEN_UNUSED;
    for (size_t i = 0; i < n; i++)
        if (place_piece(im, json_array_get(pieces, i), (int)i, escaped, error)) return -1;
    return check_characters(im, error);
}
