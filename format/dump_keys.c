/* dump_keys.c - `ckpt config`, train, rng, data, chat, meta, eval, tokenizer: a metadata section, or one bare value of
 * it for a script. */
#include "format/dump.h"

static int show_key(struct dump *d, const struct kv *kv)
{
    const char *key = d->argument[1];
    const struct kv_entry *e = kv_find(kv, key);
    struct error error;
    struct bytes text = {0};
    char shown[200];
    if (!e) {
        fail(&error, EXIT_NOINPUT, "section %s has no key '%s'", d->section,
             text_escape(shown, sizeof shown, key, strlen(key)));
        return dump_error(&error);
    }
    json_t *facts = facts_start(d), *value = fact_entry(e);
    fact_print(&text, value, false);
    fact(facts, "key", json_string(e->key));
    fact(facts, "value", value);
    facts_say(facts, d, "%s\n", text.data ? text.data : "");
    bytes_free(&text);
    return 0;
}

int dump_keys(struct dump *d)
{
    struct ckpt *c;
    int code = dump_open(&c, d, 0, NULL);
    if (code) return code;
    const struct kv *kv = &c->header.meta.kv[section_facts(d->section)->kv];
    if (d->arguments == 2) code = show_key(d, kv);
    else {
        json_t *facts = facts_start(d);
        fact(facts, "file", fact_text(c->path));
        fact(facts, "section", json_string(d->section));
        fact(facts, "values", fact_kv(kv));
        facts_end(facts, d, "values");
        if (kv->count == 0 && !d->json) printf("%s is empty or absent\n", d->section);
    }
    ckpt_close(c);
    return code;
}

int dump_tokenizer(struct dump *d)
{
    struct ckpt *c;
    uint64_t vocabulary = 0;
    int code = dump_open(&c, d, 0, NULL);
    if (code) return code;
    const struct bytes *b = &c->header.meta.tokn;
    json_t *facts = facts_start(d);
    kv_get_u64(&c->header.meta.conf, "vocab_size", &vocabulary);
    fact(facts, "file", fact_text(c->path));
    fact(facts, "present", json_boolean(b->size > 0));
    fact(facts, "bytes", fact_u64(b->size));
    fact(facts, "crc32", fact_crc(crc32_of(0, b->data, b->size)));
    fact(facts, "vocab_size", fact_u64(vocabulary));
    facts_end(facts, d, NULL);
    ckpt_close(c);
    return 0;
}
