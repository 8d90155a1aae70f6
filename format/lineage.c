/* lineage.c - section LINE: who the parents were.  Files are known by weights_id, never by path, so a run may be moved
 * or renamed; each file carries the whole chain to the root, so that it can be told with no other file at hand. */
#include "format/reader.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* The metric that `main_metric` names, else the first that is known to tell a model's worth. */
bool lineage_metric(const struct kv *eval, const char **name, double *value)
{
    static const char *const usual[] = {"val_loss", "val_accuracy", "reward", "loss"};
    if (kv_get_text(eval, "main_metric", name) == 1 && kv_get_f64(eval, *name, value) == 1) return true;
    for (size_t i = 0; i < sizeof usual / sizeof *usual; i++) {
        *name = usual[i];
        if (kv_get_f64(eval, *name, value) == 1) return true;
    }
    return false;
}

char *hex_text(char *out, const uint8_t *data, size_t size)
{
    for (size_t i = 0; i < size; i++) snprintf(out + 2 * i, 3, "%02x", data[i]);
    out[2 * size] = 0;
    return out;
}

char *lineage_link(const struct ckpt_meta *m, const char *name)
{
    char id[33], metric[160] = "";
    const char *key;
    double value;
    if (lineage_metric(&m->eval, &key, &value)) snprintf(metric, sizeof metric, "%s=%.6g", key, value);
    return host_text("%s:%" PRIu64 ":%" PRIu64 ":%s:%s:%s", stage_name((enum stage)m->stage), m->step, m->tokens_seen,
                     hex_text(id, m->weights_id, 16), metric, name);
}

bool lineage_parse(struct link *out, const char *link)
{
    char step[24], tokens[24];
    int at = 0;
    *out = (struct link){.name = link};
    sscanf(link, "%15[^:]:%23[0-9]:%23[0-9]:%32[0-9a-f]:%n", out->stage, step, tokens, out->weights_id, &at);
    size_t length = strcspn(link + at, ":");
    if (at == 0 || strlen(out->weights_id) != 32 || link[at + (int)length] != ':' || length >= sizeof out->metric)
        return false;
    memcpy(out->metric, link + at, length);
    out->name = link + at + length + 1;
    errno = 0;
    out->step = strtoull(step, NULL, 10);
    out->tokens = strtoull(tokens, NULL, 10);
    return errno == 0;
}

static const char *key_of(char out[64], uint64_t parent, const char *what)
{
    snprintf(out, 64, "parent.%" PRIu64 ".%s", parent, what);
    return out;
}

uint64_t lineage_parents(const struct kv *line)
{
    char key[64];
    uint64_t n = 0;
    while (n < LINEAGE_PARENTS && kv_find(line, key_of(key, n, "weights_id"))) n++;
    return n;
}

size_t lineage_chain(char ***chain, const struct kv *line, uint64_t parent)
{
    char key[64];
    size_t count;
    return kv_get_array(line, key_of(key, parent, "chain"), KV_TEXTS, chain, &count) == 1 ? count : 0;
}

const char *lineage_role(const struct kv *line, uint64_t parent)
{
    char key[64];
    const char *role;
    return kv_get_text(line, key_of(key, parent, "role"), &role) == 1 ? role : "parent";
}

void lineage_add(struct kv *line, const struct ckpt_meta *parent, const char *role, const char *name)
{
    char key[64];
    uint64_t n = lineage_parents(line);
    if (n == LINEAGE_PARENTS) die("more than %d parents", LINEAGE_PARENTS);
    kv_set_bytes(line, key_of(key, n, "weights_id"), parent->weights_id, 16);
    kv_set_bytes(line, key_of(key, n, "uuid"), parent->uuid, 16);
    kv_set_text(line, key_of(key, n, "role"), role);
    kv_set_text(line, key_of(key, n, "stage"), stage_name((enum stage)parent->stage));
    kv_set_text(line, key_of(key, n, "name"), name);
    kv_set_u64(line, key_of(key, n, "step"), parent->step);
    kv_set_u64(line, key_of(key, n, "tokens"), parent->tokens_seen);
    const char *metric;
    double value;
    if (lineage_metric(&parent->eval, &metric, &value)) {
        kv_set_text(line, key_of(key, n, "metric"), metric);
        kv_set_f64(line, key_of(key, n, "value"), value);
    }
    /* The parent's own chain runs through its first parent; the others are in that file's LINE. */
    char **before = NULL;
    size_t count = lineage_chain(&before, &parent->line, 0), kept = count < LINEAGE_LENGTH ? count : LINEAGE_LENGTH;
    char **chain = host_alloc(kept + 1, sizeof *chain);
    if (kept) memcpy(chain, before + (count - kept), kept * sizeof *chain);
    chain[kept] = lineage_link(parent, name);
    kv_set_texts(line, key_of(key, n, "chain"), chain, kept + 1);
    free(chain[kept]);
    free(chain);
}
