/* dump_import.c - `ckpt import` and `ckpt export`: models of other systems as checkpoints, and back. */
#include "format/ckpt/dump.h"

#include "common/interop/interop.h"

static void say(const char *line) { fprintf(stderr, "%s: %s\n", program_name(), line); }

int dump_import(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct error error;
    struct header h;
    char size[16];
    (void)c;
    if (d->llama2c != (d->arguments == 2))
        quit(EXIT_USAGE, "import: %s", d->llama2c ? "--llama2c needs two files: MODEL.bin TOKENIZER.bin"
             : "one folder or file is imported at a time (of llama2.c: --llama2c MODEL.bin TOKENIZER.bin)");
    if (interop_import(d->argument[0], d->llama2c ? d->argument[1] : NULL, d->out, say, &error) != 0 ||
        reader_header(&h, d->out, &error) != 0)
        quit_error(&error);
    fact_members(facts, json_pack("{s:o, s:o, s:o}", "file", fact_text(d->out), "bytes", fact_u64(h.file_size),
                                  "weights_id",
                                  fact_hex(h.meta.weights_id, 16)));
    d->note = host_text("%s: %s, imported from %s", d->out, text_bytes(size, (double)h.file_size), d->argument[0]);
    return 0;
}

int dump_export(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct error error;
    if (!d->hf == !d->gguf) quit(EXIT_USAGE, "export: one of --hf FOLDER and --gguf FILE is needed");
    int status = d->hf ? interop_export(c, d->hf, (uint64_t)d->shard, say, &error)
                       : interop_export_gguf(c, d->gguf, (enum interop_type)d->type, &error);
    if (status != 0) quit_error(&error);
    fact(facts, d->hf ? "folder" : "file", fact_text(d->hf ? d->hf : d->gguf));
    d->note = d->gguf ? host_text("%s: written", d->gguf)
            : host_text("%s: AutoModelFor%s.from_pretrained loads it", d->hf,
                        ckpt_find(c, "score.weight", ROLE_WEIGHT) < 0 ? "CausalLM" : "SequenceClassification");
    return 0;
}
