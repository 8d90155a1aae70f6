/* dump_keys.c - `ckpt config`, train, rng, data, chat, meta, eval, tokenizer: a metadata section, or one bare value of
 * it for a script. */
#include "format/dump.h"

#include <stdlib.h>

static const struct kv *kv_of_command(const struct ckpt_meta *m, const char *command, const char **section)
{
    const struct { const char *command, *section; const struct kv *kv; } map[] = {
        {"config", "CONF", &m->conf}, {"train", "TRNS", &m->trns}, {"rng", "RNGS", &m->rngs},
        {"data", "DCUR", &m->dcur},
        {"chat", "CHAT", &m->chat}, {"meta", "META", &m->meta}, {"eval", "EVAL", &m->eval}};
    for (size_t i = 0; i < sizeof map / sizeof *map; i++)
        if (strcmp(map[i].command, command) == 0) {
            *section = map[i].section;
            return map[i].kv;
        }
    die("no section for '%s'", command);
}

static int print_key(const struct dump *d, const struct kv *kv, const char *section)
{
    const struct kv_entry *e = kv_find(kv, d->argument[1]);
    struct bytes text = {0};
    struct json j;
    if (!e) {
        fprintf(stderr, "%s: section %s has no key '%s'\n", program_name(), section, d->argument[1]);
        return EXIT_NOINPUT;
    }
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "key", e->key);
        json_entry(&j, "value", e);
        json_end(&j);
        return 0;
    }
    entry_text(&text, e, false);
    printf("%s\n", text.data ? text.data : "");
    bytes_free(&text);
    return 0;
}

int dump_keys(struct dump *d)
{
    struct ckpt *c;
    struct json j;
    const char *section;
    int code = dump_open(&c, d, 0, NULL);
    if (code) return code;
    const struct kv *kv = kv_of_command(&c->meta, d->command, &section);
    if (d->arguments == 2) code = print_key(d, kv, section);
    else if (d->json) {
        json_start(&j, d);
        json_text(&j, "file", c->path);
        json_text(&j, "section", section);
        json_kv(&j, "values", kv);
        json_end(&j);
    } else {
        for (size_t i = 0; i < kv->count; i++) {
            struct bytes text = {0};
            entry_text(&text, &kv->entry[i], true);
            printf("%-28s %s\n", kv->entry[i].key, text.data ? text.data : "");
            bytes_free(&text);
        }
        if (kv->count == 0) printf("%s is empty or absent\n", section);
    }
    ckpt_close(c);
    return code;
}

int dump_tokenizer(struct dump *d)
{
    struct ckpt *c;
    struct json j;
    uint64_t vocabulary = 0;
    int code = dump_open(&c, d, 0, NULL);
    if (code) return code;
    const struct bytes *b = &c->meta.tokn;
    uint32_t crc = crc32_of(0, b->data, b->size);
    kv_get_u64(&c->meta.conf, "vocab_size", &vocabulary);
    if (d->json) {
        json_start(&j, d);
        json_text(&j, "file", c->path);
        json_bool(&j, "present", b->size > 0);
        json_u64(&j, "bytes", b->size);
        json_crc(&j, "crc32", crc);
        json_u64(&j, "vocab_size", vocabulary);
        json_end(&j);
    } else if (b->size)
        printf("tokenizer %08x, %zu bytes, for a model of %llu ids\n", crc, b->size, (unsigned long long)vocabulary);
    else printf("TOKN is absent\n");
    ckpt_close(c);
    return 0;
}
