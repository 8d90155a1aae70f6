/* dump_info.c - `ckpt info`, sections, tensors, hash, limits and the metadata sections: what a file holds.  No tensor
 * is read, so 10 GB answer at once.  A damaged file is shown as far as it can be understood. */
#include "common/text/chat.h"
#include "format/ckpt/dump.h"

#include <inttypes.h>
#include <stdlib.h>
#include <time.h>

static char *time_text(char out[32], int64_t nanoseconds)
{
    time_t seconds = (time_t)(nanoseconds / 1000000000);
    struct tm tm;
    if (!gmtime_r(&seconds, &tm) || !strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm)) snprintf(out, 32, "?");
    return out;
}

/* ---- info ---- */

/* Elements and bytes of the tensors of one role and dtype. */
struct group { uint32_t role, dtype; uint64_t tensors, elements, bytes; };
enum { GROUPS = 64 };

static void info_tensors(json_t *facts, const struct ckpt *c)
{
    struct group group[GROUPS];
    uint64_t parameters = 0;
    int n = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[i];
        int g = 0;
        while (g < n && (group[g].role != t->role || group[g].dtype != t->dtype)) g++;
        if (t->role == ROLE_WEIGHT || t->role == ROLE_HEAD) parameters += tensor_elements(t);
        if (g == GROUPS) continue;
        if (g == n) group[n++] = (struct group){.role = t->role, .dtype = t->dtype};
        group[g].tensors++;
        group[g].elements += tensor_elements(t);
        group[g].bytes += t->bytes;
    }
    json_t *rows = json_array();
    for (struct group *g = group; g < group + n; g++)
        fact(rows, NULL, json_pack("{s:s, s:s, s:o, s:o, s:o}", "role", role_name(g->role), "dtype",
                                   dtype_name(g->dtype), "tensors", fact_u64(g->tensors), "elements",
                                   fact_u64(g->elements), "bytes", fact_u64(g->bytes)));
    fact(facts, "parameters", fact_u64(parameters));
    fact(facts, "tensors", rows);
}

/* One text per parent: its role and the chain that led to it. */
static json_t *info_lineage(const struct kv *line)
{
    json_t *list = json_array();
    for (uint64_t p = 0; p < lineage_parents(line); p++) {
        struct bytes text = {0};
        struct link link;
        char **chain;
        size_t n = lineage_chain(&chain, line, p);
        bytes_text(&text, "%s: ", lineage_role(line, p));
        for (size_t k = 0; k < n; k++)
            if (lineage_parse(&link, chain[k])) bytes_text(&text, "%s%s", k ? " -> " : "", link.name);
        fact(list, NULL, fact_text(text.data));
        bytes_free(&text);
    }
    return list;
}

/* What is known of a model of another system: only what its files say. */
static int info_foreign(struct dump *d, struct ckpt *c, json_t *facts)
{
    const struct ckpt_meta *m = &c->header.meta;
    const char *template = NULL;
    kv_get_text(&m->chat, "template", &template);
    fact_members(facts, json_pack("{s:o, s:s, s:s, s:o, s:b, s:s}", "bytes", fact_u64(c->header.file_size), "kind",
                                  c->outside.kind, "names", m->conf.count ? "ours" : "its own", "config",
                                  fact_kv(&m->conf), "tokenizer", m->tokn.size > 0, "chat_template",
                                  template ? template : "-"));
    info_tensors(facts, c);
    d->note = host_text("The tensors were not read: `ckpt verify` does that.");
    return 0;
}

int dump_info(struct dump *d, struct ckpt *c, json_t *facts)
{
    char created[32], flags[64];
    const struct header *h = &c->header;
    const struct ckpt_meta *m = &h->meta;
    if (c->outside.read) return info_foreign(d, c, facts);
    json_t *sections = json_array();
    for (uint32_t i = 0; i < h->section_count; i++) fact(sections, NULL, json_string(c->section[i].type));
    fact_members(facts, json_pack(
        "{s:o, s:i, s:i, s:o, s:o, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}", "bytes", fact_u64(h->file_size),
        "major", h->major, "minor", h->minor, "writer", fact_text(m->writer),
        "created", fact_text(time_text(created, m->created)), "stage", stage_name((enum stage)m->stage),
        "flags", flags_text(flags, m->flags), "step", fact_u64(m->step), "tokens", fact_u64(m->tokens_seen),
        "uuid", fact_hex(m->uuid, 16), "run_uuid", fact_hex(m->run_uuid, 16),
        "weights_id", fact_hex(m->weights_id, 16), "config", fact_kv(&m->conf)));
    info_tensors(facts, c);
    fact_members(facts, json_pack("{s:o, s:o, s:o, s:o}", "sections", sections, "eval", fact_kv(&m->eval), "parents",
                                  fact_u64(lineage_parents(&m->line)), "lineage", info_lineage(&m->line)));
    d->note = host_text("The tensors were not read: `%sckpt verify` does that.", program_prefix());
    return 0;
}

/* ---- sections ---- */

/* Is the stored CRC right?  Tensor data has none of its own. */
static const char *section_state(const struct ckpt *c, const struct section *s)
{
    struct bytes b = {0};
    if (s == c->tdat) return "-";
    bool good = section_read(&b, c, s, NULL) == 0;
    bytes_free(&b);
    return good ? "ok" : "bad";
}

int dump_sections(struct dump *d, struct ckpt *c, json_t *facts)
{
    json_t *rows = json_array();
    (void)d;
    for (uint32_t i = 0; i < c->header.section_count; i++) {
        const struct section *s = &c->section[i];
        fact(rows, NULL, json_pack("{s:s, s:o, s:o, s:o, s:o, s:s, s:o, s:s, s:b, s:b, s:b}", "type", s->type,
                                   "offset", fact_u64(s->offset), "stored", fact_u64(s->stored), "raw",
                                   fact_u64(s->raw), "instance", fact_u64(s->instance), "codec",
                                   s->codec == CODEC_ZLIB ? "zlib" : "none", "crc32", fact_crc(s->crc), "state",
                                   section_state(c, s), "critical", (s->flags & SECTION_CRITICAL) != 0, "safe_to_copy",
                                   (s->flags & SECTION_SAFE_TO_COPY) != 0, "known", section_facts(s->type) != NULL));
    }
    fact(facts, "sections", rows);
    return 0;
}

/* ---- tensors ---- */

static int by_size(const void *a, const void *b)
{
    const struct ckpt_tensor *x = *(const struct ckpt_tensor *const *)a, *y = *(const struct ckpt_tensor *const *)b;
    if (x->bytes != y->bytes) return x->bytes < y->bytes ? 1 : -1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The tensors asked for, in the order asked for; their number. */
static size_t select_tensors(const struct ckpt_tensor ***out, const struct dump *d, const struct ckpt *c)
{
    const struct ckpt_tensor **list = host_alloc(c->index.count, sizeof *list);
    size_t n = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[d->sort == SORT_NAME ? c->index.order[i] : i];
        if (dump_wants(d, t, d->match)) list[n++] = t;
    }
    if (n && d->sort == SORT_SIZE) qsort(list, n, sizeof *list, by_size);
    *out = list;
    return n;
}

static json_t *tensor_row(const struct ckpt *c, const struct ckpt_tensor *t)
{
    json_t *shape = json_array();
    for (int k = 0; k < t->ndim; k++) fact(shape, NULL, fact_u64(t->shape[k]));
    json_t *row = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o}", "name", t->name, "role",
                            role_name(t->role), "dtype", dtype_name(t->dtype), "shape", shape, "bytes",
                            fact_u64(t->bytes), "offset", fact_u64((c->tdat ? c->tdat->offset : 0) + t->offset));
    if (!c->outside.read)
        fact_members(row, json_pack("{s:o, s:b, s:b}", "crc32", fact_crc(t->crc), "trainable",
                                    (t->flags & TENSOR_TRAINABLE) != 0, "decay", (t->flags & TENSOR_DECAY) != 0));
    return row;
}

/* "blk.3.attn_qkv.weight" belongs to "blk.3", anything else to what stands before its first dot. */
static size_t block_length(const char *name)
{
    const char *dot = strchr(name, '.');
    if (!dot) return strlen(name);
    size_t digits = strspn(dot + 1, "0123456789");
    return digits && dot[1 + digits] == '.' ? (size_t)(dot - name) + 1 + digits : (size_t)(dot - name);
}

/* A row per block: neighbours in data order share one. */
static json_t *group_rows(const struct ckpt_tensor **list, size_t n, uint64_t total)
{
    json_t *rows = json_array();
    for (size_t i = 0; i < n;) {
        const char *name = list[i]->name;
        size_t length = block_length(name), first = i;
        uint64_t bytes = 0, elements = 0;
        for (; i < n && list[i]->role == list[first]->role &&
               block_length(list[i]->name) == length && memcmp(list[i]->name, name, length) == 0; i++) {
            bytes += list[i]->bytes;
            elements += tensor_elements(list[i]);
        }
        fact(rows, NULL, json_pack("{s:o, s:s, s:I, s:o, s:o, s:o}", "block", json_sprintf("%.*s", (int)length, name),
                                   "role", role_name(list[first]->role), "tensors", (json_int_t)(i - first),
                                   "elements", fact_u64(elements), "bytes", fact_u64(bytes), "percent",
                                   json_sprintf("%.1f", 100.0 * (double)bytes / (double)(total ? total : 1))));
    }
    return rows;
}

int dump_tensors(struct dump *d, struct ckpt *c, json_t *facts)
{
    const struct ckpt_tensor **list;
    char size[16];
    uint64_t total = 0;
    size_t n = select_tensors(&list, d, c);
    json_t *rows = json_array();
    for (size_t i = 0; i < n; i++) {
        total += list[i]->bytes;
        if (!d->group || d->json) fact(rows, NULL, tensor_row(c, list[i]));
    }
    fact(facts, "tensors", rows);
    if (d->group) {
        fact(facts, "blocks", group_rows(list, n, total));
        d->show = "blocks";
    }
    d->note = host_text("%zu tensor%s, %s", n, plural((int64_t)n), text_bytes(size, (double)total));
    free(list);
    return 0;
}

/* ---- hash ---- */

/* Independent of layout, order and metadata: of the weights' names, dtypes, shapes and CRCs in name order. */
static uint32_t content_crc(const struct ckpt *c)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[c->index.order[i]];
        if (t->role != ROLE_WEIGHT && t->role != ROLE_HEAD) continue;
        uint8_t fixed[8 + 64 + 4];
        store32(fixed, t->dtype);
        store32(fixed + 4, (uint32_t)t->ndim);
        for (int k = 0; k < 8; k++) store64(fixed + 8 + 8 * k, t->shape[k]);
        store32(fixed + 72, t->crc);
        crc = crc32_of(crc32_of(crc, t->name, strlen(t->name) + 1), fixed, sizeof fixed);
    }
    return crc;
}

int dump_hash(struct dump *d, struct ckpt *c, json_t *facts)
{
    json_t *rows = json_array();
    struct error error;
    (void)d;
    if (c->outside.read && reader_identify(c, &error) != 0) quit_error(&error);
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[c->index.order[i]];
        fact(rows, NULL, json_pack("{s:o, s:o, s:s, s:s}", "crc32", fact_crc(t->crc), "bytes", fact_u64(t->bytes),
                                   "role", role_name(t->role), "name", t->name));
    }
    fact_members(facts, json_pack("{s:o, s:o, s:o}", "weights_id", fact_hex(c->header.meta.weights_id, 16),
                                  "weights_crc32", fact_crc(content_crc(c)), "tensors", rows));
    return 0;
}

/* ---- keys: config, train, rng, data, chat, meta, eval: a section, or one bare value of it for a script ---- */

static void one_key(struct dump *d, const struct kv *kv, json_t *facts)
{
    const char *key = d->argument[1];
    const struct kv_entry *e = kv_find(kv, key);
    struct bytes text = {0};
    if (!e) quit(EXIT_NOINPUT, "section %s has no key '%s'", d->section, text_shown(key).text);
    json_t *value = fact_entry(e);
    bytes_add(&text, "", 0);
    fact_print(&text, value, false);
    fact(facts, "key", json_string(e->key));
    fact(facts, "value", value);
    d->show = "";
    d->note = text.data;
}

int dump_keys(struct dump *d, struct ckpt *c, json_t *facts)
{
    const struct kv *kv = &c->header.meta.kv[section_facts(d->section)->kv];
    if (d->arguments == 2) one_key(d, kv, facts);
    else {
        fact(facts, "section", json_string(d->section));
        fact(facts, "values", fact_kv(kv));
        if (kv->count == 0) d->note = host_text("%s is empty or absent", d->section);
    }
    return 0;
}

static json_t *token_fact(const struct tokenizer *t, int id)
{
    char shown[100];
    size_t length;
    const char *text = tokenizer_bytes(t, id, &length);
    return fact_text(text_escape(shown, sizeof shown, text, length));
}

int dump_tokenizer(struct dump *d, struct ckpt *c, json_t *facts)
{
    uint64_t vocabulary = 0;
    const struct bytes *b = &c->header.meta.tokn;
    (void)d;
    kv_get_u64(&c->header.meta.conf, "vocab_size", &vocabulary);
    fact_members(facts, json_pack("{s:b, s:o, s:o, s:o}", "present", b->size > 0, "bytes", fact_u64(b->size), "crc32",
                                  fact_crc(crc32_of(0, b->data, b->size)), "vocab_size", fact_u64(vocabulary)));
    if (!b->size) return 0;
    fact(facts, "unicode", json_string(TOKENIZER_UNICODE));
    fact(facts, "nfc", json_string(TOKENIZER_UNICODE_NFC));
    struct tokenizer *t;
    struct error error;
    if (tokenizer_read(&t, b->data, b->size, &error) != 0) return 0;      /* `verify` says why */
    struct chat chat = {0};
    const struct ckpt_meta *m = &c->header.meta;
    if (m->chat.count) chat_read(&chat, &m->chat, t, &error);
    struct stops stops = stops_of(&chat, t, &m->meta);
    json_t *list = json_array();
    for (int i = 0; i < stops.count; i++) json_array_append_new(list, token_fact(t, stops.id[i]));
    if (tokenizer_document(t) >= 0) fact(facts, "document", token_fact(t, tokenizer_document(t)));
    fact(facts, "stops", list);
    tokenizer_free(t);
    return 0;
}

/* ---- limits ---- */

int dump_limits(struct dump *d, struct ckpt *c, json_t *facts)
{
    static const struct { const char *name; uint64_t value; } limit[] = {
        {"format.major", CKPT_MAJOR}, {"format.minor", CKPT_MINOR}, {"header.bytes", CKPT_PAGE},
        {"section.entry", CKPT_SECTION_ENTRY}, {"index.entry", CKPT_INDEX_ENTRY}, {"chunk.bytes", CKPT_CHUNK},
        {"sections", CKPT_MAX_SECTIONS}, {"metadata.bytes", CKPT_MAX_METADATA},
        {"tokenizer.bytes", CKPT_MAX_TOKENIZER}, {"keys", CKPT_MAX_KEYS}, {"key.bytes", CKPT_MAX_KEY},
        {"value.bytes", CKPT_MAX_VALUE}, {"tensors", CKPT_MAX_TENSORS}, {"name.bytes", CKPT_MAX_NAME},
        {"dimensions", CKPT_MAX_DIMS}, {"dimension", CKPT_MAX_DIM}, {"elements", CKPT_MAX_ELEMENTS},
        {"tensor.bytes", CKPT_MAX_TENSOR}, {"file.bytes", CKPT_MAX_FILE}, {"align.min", CKPT_MIN_ALIGN},
        {"align.max", CKPT_MAX_ALIGN}, {"inflate.ratio", CKPT_MAX_INFLATE}, {"parents", LINEAGE_PARENTS}};
    (void)d;
    (void)c;
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) fact(facts, limit[i].name, fact_u64(limit[i].value));
    return 0;
}
