/* dump_keys.c - `ckpt config`, train, rng, data, chat, meta, eval, tokenizer: a metadata section, or one bare value of
 * it for a script. */
#include "format/dump.h"

static void one_key(struct dump *d, const struct kv *kv, json_t *facts)
{
    const char *key = d->argument[1];
    const struct kv_entry *e = kv_find(kv, key);
    struct bytes text = {0};
    char shown[200];
    text_escape(shown, sizeof shown, key, strlen(key));
    if (!e) quit(EXIT_NOINPUT, "section %s has no key '%s'", d->section, shown);
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

int dump_tokenizer(struct dump *d, struct ckpt *c, json_t *facts)
{
    uint64_t vocabulary = 0;
    const struct bytes *b = &c->header.meta.tokn;
    (void)d;
    kv_get_u64(&c->header.meta.conf, "vocab_size", &vocabulary);
    fact_members(facts, json_pack("{s:b, s:o, s:o, s:o}", "present", b->size > 0, "bytes", fact_u64(b->size), "crc32",
                                  fact_crc(crc32_of(0, b->data, b->size)), "vocab_size", fact_u64(vocabulary)));
    return 0;
}
