/* dump_copy.c - `ckpt strip`: a copy that can be used but not trained on.  The weights keep their weights_id, so that
 * the copy is recognised as the same model; a section this version does not know goes along only if its flags allow.
 * `ckpt import` and `ckpt export`: models of other systems as checkpoints, and back. */
#include "format/ckpt/dump.h"

#include "common/interop/interop.h"

#include <stdlib.h>
#include <unistd.h>

/* The unknown sections that are safe to copy; the others are dropped with a message. */
static size_t keep_foreign(struct piece **out, const struct ckpt *c)
{
    struct piece *foreign = host_alloc(c->header.section_count, sizeof *foreign);
    size_t n = 0;
    for (uint32_t i = 0; i < c->header.section_count; i++) {
        const struct section *s = &c->section[i];
        if (section_facts(s->type)) continue;
        if (!(s->flags & SECTION_SAFE_TO_COPY)) {
            fprintf(stderr, "%s: section %s is unknown and not safe to copy; it is left out\n", program_name(),
                    s->type);
            continue;
        }
        foreign[n].section = *s;
        foreign[n].data.data = host_alloc((size_t)s->stored + 1, 1);
        foreign[n].data.size = (size_t)s->stored;
        if (input_read(&c->input, foreign[n].data.data, s->offset, (size_t)s->stored, NULL) != 0)
            quit(EXIT_IO, "%s: cannot be read", c->path);
        n++;
    }
    *out = foreign;
    return n;
}

int dump_strip(struct dump *d, struct ckpt *c, json_t *facts)
{
    const char *path = d->argument[1];
    char before[16], after[16];
    struct error error;
    struct header h;
    struct piece *foreign;
    struct ckpt_meta meta = c->header.meta;                /* borrowed, but for the three sections that are left out */
    meta.trns = meta.rngs = meta.dcur = (struct kv){0};
    meta.flags &= ~(uint32_t)CKPT_RESUMABLE;
    if (!d->force && access(path, F_OK) == 0) quit(EXIT_USAGE, "%s: exists already (--force replaces it)", path);
    if (ckpt_verify(c, &error) != 0) quit_error(&error);
    struct save save = {.meta = &meta, .foreigns = keep_foreign(&foreign, c)};
    save.foreign = foreign;
    if (checkpoint_copy(c, path, &save, &error) != 0 || reader_header(&h, path, &error) != 0) quit_error(&error);
    free(foreign);
    fact_members(facts, json_pack("{s:o, s:o, s:o, s:o}", "file", fact_text(path), "bytes_before",
                                  fact_u64(c->header.file_size), "bytes", fact_u64(h.file_size), "weights_id",
                                  fact_hex(h.meta.weights_id, 16)));
    d->note = host_text("%s: %s instead of %s", path, text_bytes(after, (double)h.file_size),
                        text_bytes(before, (double)c->header.file_size));
    return 0;
}

/* ---- other systems ---- */

static void say(const char *line) { fprintf(stderr, "%s: %s\n", program_name(), line); }

/* "-" is no name: a model is written under another one first and then renamed. */
static void need_name(const char *option, const char *path)
{
    if (path && strcmp(path, "-") == 0) quit(EXIT_USAGE, "--%s -: a model cannot be written to a pipe", option);
}

int dump_import(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct error error;
    struct header h;
    char size[16];
    (void)c;
    if (d->llama2c != (d->arguments == 2))
        quit(EXIT_USAGE, "import: %s", d->llama2c ? "--llama2c needs two files: MODEL.bin TOKENIZER.bin"
             : "one folder or file is imported at a time (of llama2.c: --llama2c MODEL.bin TOKENIZER.bin)");
    need_name("out", d->out);
    if (interop_import(d->argument[0], d->llama2c ? d->argument[1] : NULL, d->out, say, &error) != 0) {
        if (reader_header(&h, d->argument[0], &(struct error){0}) == 0)
            quit(EXIT_DATA, "import: %s is a checkpoint already", d->argument[0]);
        quit_error(&error);
    }
    if (reader_header(&h, d->out, &error) != 0) quit_error(&error);
    fact_members(facts, json_pack("{s:o, s:o, s:o}", "file", fact_text(d->out), "bytes", fact_u64(h.file_size),
                                  "weights_id",
                                  fact_hex(h.meta.weights_id, 16)));
    d->note = host_text("%s: %s, imported from %s", d->out, text_bytes(size, (double)h.file_size), d->argument[0]);
    return 0;
}

int dump_export(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct error error;
    if (!d->hf == !d->gguf) quit(EXIT_USAGE, "export: give one of --hf FOLDER and --gguf FILE");
    need_name("hf", d->hf);
    need_name("gguf", d->gguf);
    int status = d->hf ? interop_export(c, d->hf, (uint64_t)d->shard, say, &error)
                       : interop_export_gguf(c, d->gguf, (enum interop_type)d->type, say, &error);
    if (status != 0) quit_error(&error);
    fact(facts, d->hf ? "folder" : "file", fact_text(d->hf ? d->hf : d->gguf));
    d->note = d->gguf ? host_text("%s: written", d->gguf)
            : host_text("%s: AutoModelFor%s.from_pretrained loads it", d->hf,
                        ckpt_find(c, "score.weight", ROLE_WEIGHT) < 0 ? "CausalLM" : "SequenceClassification");
    return 0;
}
