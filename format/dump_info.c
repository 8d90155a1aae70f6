/* dump_info.c - `ckpt info`, sections, tensors, hash, limits: what a file holds, from its metadata alone, so that 10 GB
 * answer at once.  A damaged file is shown as far as it can be understood, with every problem, and ends with 65. */
#include "format/dump.h"

#include <inttypes.h>
#include <stdlib.h>

/* Elements and bytes of the tensors of one role and dtype. */
struct group { uint32_t role, dtype; uint64_t tensors, elements, bytes; };
enum { GROUPS = 64 };

static int group_tensors(struct group *group, const struct ckpt *c)
{
    int n = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[i].public;
        int g = 0;
        while (g < n && (group[g].role != t->role || group[g].dtype != t->dtype)) g++;
        if (g == GROUPS) continue;
        if (g == n) group[n++] = (struct group){.role = t->role, .dtype = t->dtype};
        group[g].tensors++;
        group[g].elements += tensor_elements(t);
        group[g].bytes += t->bytes;
    }
    return n;
}

static uint64_t parameters(const struct group *group, int n)
{
    uint64_t sum = 0;
    for (int g = 0; g < n; g++)
        if (group[g].role == ROLE_WEIGHT || group[g].role == ROLE_HEAD) sum += group[g].elements;
    return sum;
}

static int finish_text(const struct findings *f)
{
    for (int i = 0; i < f->shown; i++) fprintf(stderr, "%s: %s\n", program_name(), f->text[i]);
    return f->exit_code;
}

/* ---- info ---- */

static void info_json(struct dump *d, const struct ckpt *c, const struct findings *f)
{
    const struct header *h = &c->header;
    struct group group[GROUPS];
    int groups = group_tensors(group, c);
    char text[64];
    struct json j;
    json_start(&j, d);
    json_text(&j, "file", c->path);
    json_u64(&j, "bytes", h->file_size);
    json_u64(&j, "major", h->major);
    json_u64(&j, "minor", h->minor);
    json_text(&j, "writer", h->writer);
    json_text(&j, "created", time_text(text, h->created));
    json_text(&j, "stage", stage_name((enum stage)h->stage));
    json_text(&j, "flags", flags_text(text, h->flags));
    json_u64(&j, "step", h->step);
    json_u64(&j, "tokens", h->tokens_seen);
    json_hex(&j, "uuid", h->uuid, 16);
    json_hex(&j, "run_uuid", h->run_uuid, 16);
    json_hex(&j, "weights_id", h->weights_id, 16);
    json_kv(&j, "config", &c->meta.conf);
    json_u64(&j, "parameters", parameters(group, groups));
    json_open(&j, "tensors", '[');
    for (int g = 0; g < groups; g++) {
        json_open(&j, NULL, '{');
        json_text(&j, "role", role_name(group[g].role));
        json_text(&j, "dtype", dtype_name(group[g].dtype));
        json_u64(&j, "tensors", group[g].tensors);
        json_u64(&j, "elements", group[g].elements);
        json_u64(&j, "bytes", group[g].bytes);
        json_close(&j, '}');
    }
    json_close(&j, ']');
    json_open(&j, "sections", '[');
    for (uint32_t i = 0; i < h->section_count; i++) json_text(&j, NULL, c->section[i].type);
    json_close(&j, ']');
    json_kv(&j, "eval", &c->meta.eval);
    json_u64(&j, "parents", lineage_parents(&c->meta.line));
    json_findings(&j, f);
    json_end(&j);
}

/* All settings on as few lines as they need. */
static void print_config(const struct kv *conf)
{
    const char *arch = "?";
    char shown[80];
    kv_get_text(conf, "arch", &arch);
    int column = printf("model      %s", text_escape(shown, sizeof shown, arch, strlen(arch)));
    for (size_t i = 0; i < conf->count; i++) {
        const struct kv_entry *e = &conf->entry[i];
        struct bytes value = {0};
        if (strcmp(e->key, "arch") == 0) continue;
        entry_text(&value, e, true);
        if (column + 3 + (int)strlen(e->key) + (int)value.size > 110) column = printf("\n         ") - 1;
        column += printf("  %s %s", e->key, value.data);
        bytes_free(&value);
    }
    printf("\n");
}

static void print_lineage(const struct ckpt *c)
{
    uint64_t parents = lineage_parents(&c->meta.line);
    char shown[160];
    printf("parents    %s", parents ? "" : "none: this is a root");
    for (uint64_t p = 0; p < parents; p++) {
        char **chain;
        size_t n = lineage_chain(&chain, &c->meta.line, p);
        struct link link;
        printf("%s%s: ", p ? "; " : "", text_escape(shown, sizeof shown, lineage_role(&c->meta.line, p),
                                                    strlen(lineage_role(&c->meta.line, p))));
        for (size_t k = 0; k < n; k++)
            if (lineage_parse(&link, chain[k]))
                printf("%s%s", k ? " -> " : "", text_escape(shown, sizeof shown, link.name, strlen(link.name)));
    }
    printf("\n");
}

static void info_text(const struct ckpt *c, const struct findings *f)
{
    const struct header *h = &c->header;
    struct group group[GROUPS];
    int groups = group_tensors(group, c);
    char big[32], when[32], small[16], id[33], flags[64];
    const char *metric;
    double value;
    printf("QCK %u.%u    %s B  written by %s  %s\n", h->major, h->minor, with_commas(big, h->file_size), h->writer,
           time_text(when, h->created));
    printf("stage      %s  step %s", stage_name((enum stage)h->stage), with_commas(big, h->step));
    printf("  tokens %s  weights %s  %s\n", text_count(small, (double)h->tokens_seen), hex_text(id, h->weights_id, 16),
           flags_text(flags, h->flags));
    print_config(&c->meta.conf);
    printf("parameters %s", with_commas(big, parameters(group, groups)));
    for (int g = 0; g < groups; g++)
        printf("%s%s %s %s", g ? " | " : "  ", dtype_name(group[g].dtype), role_name(group[g].role),
               text_bytes(small, (double)group[g].bytes));
    printf("\nsections   %u:", h->section_count);
    for (uint32_t i = 0; i < h->section_count; i++) printf(" %s", c->section[i].type);
    printf("\n");
    if (lineage_metric(&c->meta.eval, &metric, &value)) printf("metric     %s %g\n", metric, value);
    print_lineage(c);
    printf("result     %s\n", f->shown ? "corrupt (65)" : "ok (tensors not read; `ckpt verify` does)");
}

int dump_info(struct dump *d)
{
    struct findings f = {0};
    struct problems problems = {findings_add, &f, 0};
    struct ckpt *c;
    int code = dump_open(&c, d, 0, &problems);
    if (code) return code;
    if (d->json) info_json(d, c, &f);
    else info_text(c, &f);
    code = d->json ? f.exit_code : finish_text(&f);
    findings_free(&f);
    ckpt_close(c);
    return code;
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

int dump_sections(struct dump *d)
{
    struct findings f = {0};
    struct problems problems = {findings_add, &f, 0};
    struct ckpt *c;
    struct json j;
    int code = dump_open(&c, d, 0, &problems);
    if (code) return code;
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "file", c->path);
        json_open(&j, "sections", '[');
    } else
        printf("%-4s %16s %16s %16s %-5s %-8s %-4s %s\n", "type", "offset", "stored", "raw", "codec", "crc32", "",
               "flags");
    for (uint32_t i = 0; i < c->header.section_count; i++) {
        const struct section *s = &c->section[i];
        const char *codec = s->codec == CODEC_ZLIB ? "zlib" : "none", *state = section_state(c, s);
        if (!d->json) {
            printf("%-4s %16" PRIu64 " %16" PRIu64 " %16" PRIu64 " %-5s %08x %-4s %s%s%s\n", s->type, s->offset,
                   s->stored, s->raw, codec, s->crc,
                   state, s->flags & SECTION_CRITICAL ? "critical " : "",
                   s->flags & SECTION_SAFE_TO_COPY ? "safe-to-copy " : "",
                   section_facts(s->type) ? "" : "unknown");
            continue;
        }
        json_open(&j, NULL, '{');
        json_text(&j, "type", s->type);
        json_u64(&j, "instance", s->instance);
        json_u64(&j, "offset", s->offset);
        json_u64(&j, "stored", s->stored);
        json_u64(&j, "raw", s->raw);
        json_text(&j, "codec", codec);
        json_crc(&j, "crc32", s->crc);
        json_text(&j, "state", state);
        json_bool(&j, "critical", s->flags & SECTION_CRITICAL);
        json_bool(&j, "safe_to_copy", s->flags & SECTION_SAFE_TO_COPY);
        json_bool(&j, "known", section_facts(s->type) != NULL);
        json_close(&j, '}');
    }
    if (d->json) {
        json_close(&j, ']');
        json_findings(&j, &f);
        json_end(&j);
    } else finish_text(&f);
    code = f.exit_code;
    findings_free(&f);
    ckpt_close(c);
    return code;
}

/* ---- tensors ---- */

static int by_size(const void *a, const void *b)
{
    const struct tensor *x = *(const struct tensor *const *)a, *y = *(const struct tensor *const *)b;
    if (x->stored != y->stored) return x->stored < y->stored ? 1 : -1;
    return (x->offset > y->offset) - (x->offset < y->offset);
}

/* The tensors asked for, in the order asked for; their number. */
static size_t select_tensors(const struct tensor ***out, const struct dump *d, const struct ckpt *c)
{
    const struct tensor **list = host_alloc(c->index.count, sizeof *list);
    bool by_name = d->sort && strcmp(d->sort, "name") == 0;
    size_t n = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct tensor *t = &c->index.tensor[by_name ? c->index.order[i] : i];
        if (d->role && strcmp(d->role, role_name(t->public.role)) != 0) continue;
        if (d->match && !glob_match(d->match, t->public.name)) continue;
        list[n++] = t;
    }
    if (n && d->sort && strcmp(d->sort, "size") == 0) qsort(list, n, sizeof *list, by_size);
    *out = list;
    return n;
}

static void tensor_json(struct json *j, const struct ckpt *c, const struct tensor *t)
{
    json_open(j, NULL, '{');
    json_text(j, "name", t->public.name);
    json_text(j, "role", role_name(t->public.role));
    json_text(j, "dtype", dtype_name(t->public.dtype));
    json_open(j, "shape", '[');
    for (int k = 0; k < t->public.ndim; k++) json_u64(j, NULL, t->public.shape[k]);
    json_close(j, ']');
    json_u64(j, "offset", c->tdat->offset + t->offset);
    json_u64(j, "bytes", t->stored);
    json_crc(j, "crc32", t->public.crc);
    json_bool(j, "trainable", t->flags & TENSOR_TRAINABLE);
    json_bool(j, "decay", t->flags & TENSOR_DECAY);
    json_close(j, '}');
}

/* "blk.3.attn_qkv.weight" belongs to "blk.3", anything else to what stands before its first dot. */
static size_t block_length(const char *name)
{
    const char *dot = strchr(name, '.');
    if (!dot) return strlen(name);
    size_t digits = strspn(dot + 1, "0123456789");
    return digits && dot[1 + digits] == '.' ? (size_t)(dot - name) + 1 + digits : (size_t)(dot - name);
}

/* Lines per block: neighbours in data order share one. */
static void print_groups(const struct tensor **list, size_t n, uint64_t total)
{
    for (size_t i = 0; i < n;) {
        size_t length = block_length(list[i]->public.name), first = i;
        uint64_t bytes = 0, elements = 0;
        for (; i < n && list[i]->public.role == list[first]->public.role &&
             block_length(list[i]->public.name) == length &&
               memcmp(list[i]->public.name, list[first]->public.name, length) == 0; i++) {
            bytes += list[i]->stored;
            elements += tensor_elements(&list[i]->public);
        }
        char size[16], count[16];
        printf("%-24.*s %-6s %4zu tensors %8s values %10s %5.1f %%\n", (int)length, list[first]->public.name,
               role_name(list[first]->public.role), i - first, text_count(count, (double)elements),
               text_bytes(size, (double)bytes), 100.0 * (double)bytes / (double)(total ? total : 1));
    }
}

int dump_tensors(struct dump *d)
{
    struct findings f = {0};
    struct problems problems = {findings_add, &f, 0};
    const struct tensor **list;
    struct ckpt *c;
    struct json j;
    char shape[200], size[16];
    uint64_t total = 0;
    int code = dump_open(&c, d, 0, &problems);
    if (code) return code;
    size_t n = select_tensors(&list, d, c);
    for (size_t i = 0; i < n; i++) total += list[i]->stored;
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "file", c->path);
        json_open(&j, "tensors", '[');
        for (size_t i = 0; i < n; i++) tensor_json(&j, c, list[i]);
        json_close(&j, ']');
        json_findings(&j, &f);
        json_end(&j);
    } else {
        if (d->group) print_groups(list, n, total);
        else for (size_t i = 0; i < n; i++)
            printf("%-36s %-6s %-5s %-18s %12" PRIu64 " at %-12" PRIu64 " crc %08x\n", list[i]->public.name,
                   role_name(list[i]->public.role),
                   dtype_name(list[i]->public.dtype), shape_text(shape,
                                                                 &list[i]->public), list[i]->stored,
                                                                 c->tdat->offset + list[i]->offset,
                   list[i]->public.crc);
        printf("%zu tensor%s, %s\n", n, n == 1 ? "" : "s", text_bytes(size, (double)total));
        finish_text(&f);
    }
    code = f.exit_code;
    free(list);
    findings_free(&f);
    ckpt_close(c);
    return code;
}

/* ---- hash ---- */

/* Independent of layout, order and metadata: of the weights' names, dtypes, shapes and CRCs in name order. */
static uint32_t content_crc(const struct ckpt *c)
{
    uint32_t crc = 0;
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[c->index.order[i]].public;
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

int dump_hash(struct dump *d)
{
    struct ckpt *c;
    struct json j;
    char id[33];
    int code = dump_open(&c, d, 0, NULL);
    if (code) return code;
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "file", c->path);
        json_hex(&j, "weights_id", c->header.weights_id, 16);
        json_crc(&j, "weights_crc32", content_crc(c));
        json_open(&j, "tensors", '[');
    } else printf("%s  weights_id\n%08x  weights_crc32\n", hex_text(id, c->header.weights_id, 16), content_crc(c));
    for (size_t i = 0; i < c->index.count; i++) {
        const struct ckpt_tensor *t = &c->index.tensor[c->index.order[i]].public;
        if (d->json) {
            json_open(&j, NULL, '{');
            json_text(&j, "name", t->name);
            json_text(&j, "role", role_name(t->role));
            json_u64(&j, "bytes", t->bytes);
            json_crc(&j, "crc32", t->crc);
            json_close(&j, '}');
        } else printf("%08x  %12" PRIu64 "  %s %s\n", t->crc, t->bytes, t->name, role_name(t->role));
    }
    if (d->json) {
        json_close(&j, ']');
        json_end(&j);
    }
    ckpt_close(c);
    return 0;
}

/* ---- limits ---- */

int dump_limits(struct dump *d)
{
    static const struct { const char *name; uint64_t value; } limit[] = {
        {"format.major", CKPT_MAJOR}, {"format.minor", CKPT_MINOR}, {"header.bytes", CKPT_PAGE},
        {"section.entry", CKPT_SECTION_ENTRY},
        {"index.entry", CKPT_INDEX_ENTRY}, {"chunk.bytes", CKPT_CHUNK}, {"sections", CKPT_MAX_SECTIONS},
        {"metadata.bytes", CKPT_MAX_METADATA}, {"tokenizer.bytes", CKPT_MAX_TOKENIZER}, {"keys", CKPT_MAX_KEYS},
        {"key.bytes", CKPT_MAX_KEY}, {"value.bytes", CKPT_MAX_VALUE}, {"tensors", CKPT_MAX_TENSORS},
        {"name.bytes", CKPT_MAX_NAME},
        {"dimensions", CKPT_MAX_DIMS}, {"dimension", CKPT_MAX_DIM}, {"elements", CKPT_MAX_ELEMENTS},
        {"tensor.bytes", CKPT_MAX_TENSOR},
        {"file.bytes", CKPT_MAX_FILE}, {"align.min", CKPT_MIN_ALIGN}, {"align.max", CKPT_MAX_ALIGN},
        {"inflate.ratio", CKPT_MAX_INFLATE},
        {"parents", LINEAGE_PARENTS}};
    struct json j;
    if (d->json) json_start(&j, d);
    for (size_t i = 0; i < sizeof limit / sizeof *limit; i++) {
        if (d->json) json_u64(&j, limit[i].name, limit[i].value);
        else printf("%-16s %" PRIu64 "\n", limit[i].name, limit[i].value);
    }
    if (d->json) json_end(&j);
    return 0;
}
