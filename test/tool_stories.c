/* tool_stories.c - turns the story model and its tokenizer (stories.h) into a checkpoint, so that the programs can be held
 * against a model that others trained:   tool_stories MODEL TOKENIZER FOLDER NAME
 *
 * The tokenizer's pieces become tokens of the same ids.  A piece of one byte is that byte's token, and the <0xNN> beside it
 * an unused id; <s> begins a text, so it becomes <|endoftext|>.  SentencePiece joins the neighbours whose joint piece has the best score:
 * every two pieces that make up a third are a merge, in the order of the thirds.  (Pieces of three bytes and more that are one character
 * have no halves here; such characters are spelled in bytes.) */
#include "format/checkpoint.h"
#include "common/text/tokenizer.h"
#include "test/on_device.h"
#include "test/stories.h"

enum { BEGIN = 1, FIRST_BYTE = 3, FIRST_PIECE = 259, NORMAL = 1, SPECIAL = 3, UNUSED = 5 };

struct piece { const char *bytes; uint32_t length; unsigned char type; };

static void add_u32(struct bytes *b, uint32_t x) { bytes_add(b, &x, sizeof x); }       /* a little-endian machine */

static int find(const struct piece *piece, const char *bytes, uint32_t length)
{
    for (int i = 0; i < STORY_TOKENS; i++)
        if (piece[i].type == NORMAL && piece[i].length == length && memcmp(piece[i].bytes, bytes, length) == 0) return i;
    return -1;
}

static void name_pieces(struct piece *piece, const struct story_token *token, char single[256])
{
    static const char begin[] = "<|endoftext|>";
    for (int i = 0; i < STORY_TOKENS; i++) {
        bool byte = i >= FIRST_BYTE && i < FIRST_PIECE;
        piece[i] = (struct piece){token[i].bytes, (uint32_t)token[i].length, i >= FIRST_PIECE ? NORMAL : UNUSED};
        if (byte) single[i - FIRST_BYTE] = (char)(i - FIRST_BYTE);
    }
    for (int i = 0; i < 256; i++)
        if (find(piece, single + i, 1) < 0) piece[FIRST_BYTE + i] = (struct piece){single + i, 1, NORMAL};
    piece[BEGIN] = (struct piece){begin, sizeof begin - 1, SPECIAL};
    for (int i = 0; i < STORY_TOKENS; i++)
        if (piece[i].type == UNUSED) piece[i].length = 0;
}

/* Section TOKN as docs/tokenizer.md lays it out. */
static void write_tokenizer(struct bytes *out, const struct story_token *token)
{
    static const char expression[] = " ?[^ \\n]+|[ \\n]";        /* a word with the space before it */
    struct piece piece[STORY_TOKENS];
    struct bytes merges = {0}, area = {0};
    char single[256];
    uint32_t n_merges = 0;
    name_pieces(piece, token, single);
    for (int i = FIRST_PIECE; i < STORY_TOKENS; i++)
        for (uint32_t cut = 1; cut < piece[i].length; cut++) {
            int left = find(piece, piece[i].bytes, cut), right = find(piece, piece[i].bytes + cut, piece[i].length - cut);
            if (left < 0 || right < 0) continue;
            add_u32(&merges, (uint32_t)left);
            add_u32(&merges, (uint32_t)right);
            add_u32(&merges, (uint32_t)i);
            n_merges++;
        }
    for (int i = 0; i < STORY_TOKENS; i++) bytes_add(&area, piece[i].bytes, piece[i].length);
    const uint32_t head[16] = {1, STORY_TOKENS, n_merges, 1, PATTERN_CUSTOM, 0, sizeof expression - 1, (uint32_t)area.size};
    bytes_add(out, head, sizeof head);
    for (uint32_t i = 0, at = 0; i <= STORY_TOKENS; i++) {
        add_u32(out, at);
        if (i < STORY_TOKENS) at += piece[i].length;
    }
    bytes_add(out, merges.data, merges.size);
    add_u32(out, BEGIN);
    add_u32(out, 0);
    for (int i = 0; i < STORY_TOKENS; i++) bytes_add(out, &piece[i].type, 1);
    bytes_add(out, expression, sizeof expression - 1);
    bytes_add(out, area.data, area.size);
    bytes_free(&merges);
    bytes_free(&area);
}

struct sources { struct ckpt_source list[64]; size_t count; };

static void fetch(void *self, void *host, uint64_t offset, size_t bytes) { from_device(host, (const char *)self + offset, bytes); }

static void add_source(void *context, const struct param *p)
{
    struct sources *s = context;
    struct ckpt_source *source = &s->list[s->count++];
    *source = (struct ckpt_source){.role = ROLE_WEIGHT, .dtype = DTYPE_F32, .ndim = p->ndim, .self = *p->data, .fetch = fetch};
    snprintf(source->name, sizeof source->name, "%s", p->name);
    for (int i = 0; i < p->ndim; i++) source->shape[i] = (uint64_t)p->shape[i];
}

int main(int argc, char **argv)
{
    program_begin("tool_stories");
    if (argc != 5) quit(EXIT_USAGE, "usage: tool_stories MODEL TOKENIZER FOLDER NAME");
    FILE *file = fopen(argv[1], "rb");
    if (!file) quit(EXIT_NOINPUT, "%s cannot be opened", argv[1]);
    struct error error;
    struct memory memory = {0};
    struct params params = {0};
    struct sources sources = {.count = 0};
    struct ckpt_meta meta = {.stage = STAGE_IMPORTED, .flags = CKPT_FINAL, .weights_id = {2, 6, 0}};
    struct config c = stories_config(file);
    params_open(&params, &c, &memory, MEMORY_PARAMS, 1, false);
    if (memory_open(&memory, &error) != 0) quit_error(&error);
    params_open(&params, &c, &memory, MEMORY_PARAMS, 1, false);
    stories_weights(file, &params, &c);
    fclose(file);
    params_each(&params, &c, add_source, &sources);
    struct story_token *token = stories_tokens(argv[2]);
    write_tokenizer(&meta.tokn, token);
    config_write(&c, &meta.conf);
    snprintf(meta.writer, sizeof meta.writer, "tool_stories");
    if (ckpt_save(argv[3], argv[4], &meta, sources.list, sources.count, &error) != 0) quit_error(&error);
    ckpt_meta_free(&meta);
    free(token);
    params_close(&params);
    memory_close(&memory);
    return 0;
}
