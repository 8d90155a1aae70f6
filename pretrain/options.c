/* options.c - the options of pretrain, and the model they describe. */
#include "pretrain/pretrain.h"

#include <math.h>
#include <string.h>

static const struct train_defaults defaults = {
    .lr = "auto", .schedule = "cosine", .beta2 = "0.95", .eps = "1e-8", .weight_decay = "0.1", .epochs = "1",
    .eval_every = "200", .save_every = "500", .sample_every = "500",
};

void pretrain_options(struct option table[PRETRAIN_ROWS], struct pretrain *p)
{
    const int moved = OPTION_MAY_CHANGE;        /* files may have moved: what they hold is checked on resume (main.c) */
    const struct option rows[] = {
        {"Data", "data", OPTION_LIST, &p->data, .flags = OPTION_REQUIRED | moved,
         .help = "Text files, JSON lines, folders or globs, each also gzip; NAME=WEIGHT repeats it WEIGHT times per "
                 "epoch."},
        {NULL, "text-key", OPTION_TEXT, &p->text_key, "text", .flags = moved,
         .help = "Key of JSON rows that holds the text."},
        {NULL, "document-separator", OPTION_TEXT, &p->separator, .flags = moved,
         .help = "A line that ends a document in text files, besides <|endoftext|>."},
        {NULL, "skip-bad-rows", OPTION_TEXT, &p->skip_bad_rows, "0", .flags = moved,
         .help = "How many JSON rows without text to skip and list: a number or a share (0.01, 1%)."},
        {NULL, "allow-invalid-utf8", OPTION_FLAG, &p->allow_invalid, .flags = moved,
         .help = "Read files of which more than one byte in a hundred is not UTF-8; each becomes U+FFFD."},
        {NULL, "validation", OPTION_REAL, &p->validation, "0.01", 0, 0.5, .help = "Share of the documents held out."},
        {NULL, "shards", OPTION_TEXT, &p->shards_folder, .flags = OPTION_MAY_CHANGE,
         .help = "Folder for the tokenised data, which several runs may share; by default the run's own."},
        {"Tokenizer", "tokenizer", OPTION_TEXT, &p->tokenizer_path, .flags = OPTION_COMMON | moved,
         .help = "Tokenizer of a checkpoint, a run, a GGUF file, a tokenizer.json or .model, or a folder with one or with "
                 "GPT-2's two files; else one is trained."},
        {NULL, "vocab-size", OPTION_INT, &p->vocab_size, "8192", 257, 1 << 24, .flags = OPTION_COMMON,
         .help = "Vocabulary size of a trained tokenizer."},
        {NULL, "pattern", OPTION_CHOICE, &p->pattern, "gpt2", .choices = "gpt2|llama3|qwen2",
         .help = "How a trained tokenizer splits text into words."},
        {NULL, "tokenizer-bytes", OPTION_SIZE, &p->tokenizer_bytes, "100M", 1, 1e13,
         .help = "Train the tokenizer on about this much text, sampled from a larger corpus."},
        {"Model", "preset", OPTION_TEXT, &p->preset, "llama", .flags = OPTION_COMMON,
         .help = "Family - gpt2, llama, bloom, opt, falcon, gptj, gpt_neox, codegen, phi, mistral, qwen2, qwen3, glm4, glm or "
                 "baichuan - or a published size such as gpt3-125m, llama3-8b or pythia-160m."},
        {NULL, "layers", OPTION_INT, &p->layers, "0", 0, 4096, .flags = OPTION_COMMON,
         .help = "Number of layers; 0: the preset's."},
        {NULL, "channels", OPTION_INT, &p->channels, "0", 0, 1 << 20, .flags = OPTION_COMMON,
         .help = "Width of the model; 0: the preset's."},
        {NULL, "heads", OPTION_INT, &p->heads, "0", 0, 4096, .flags = OPTION_COMMON,
         .help = "Attention heads; 0: the preset's, or one per 64 channels."},
        {NULL, "kv-heads", OPTION_INT, &p->kv_heads, "0", 0, 4096,
         .help = "Key/value heads; 0: the preset's, or as many as --heads."},
        {NULL, "ffn", OPTION_INT, &p->ffn, "0", 0, 1 << 22,
         .help = "Feed-forward width; 0: the preset's, or follows from --channels."},
        {NULL, "init-std", OPTION_REAL, &p->init_std, "0", 0, 10,
         .help = "Standard deviation of new weights; 0: sqrt(2 / (5 channels))."},
        {NULL, "context", OPTION_INT, &p->context, "0", 0, 1 << 20,
         .flags = OPTION_COMMON, .help = "Longest sequence, in tokens; 0: the preset's."},
        {NULL, "model", OPTION_TEXT, &p->model_path, .flags = OPTION_COMMON | moved,
         .help = "Start from the weights of this checkpoint, run, Hugging Face folder or GGUF file instead."},
        {"Reports", "eval-tokens", OPTION_INT, &p->eval_tokens, "32k", 0, 1e15, .flags = OPTION_MAY_CHANGE,
         .help = "Most held-out tokens per evaluation during training; 0: all."},
        {NULL, "eval-only", OPTION_FLAG, &p->eval_only, .flags = OPTION_NOT_SAVED,
         .help = "Print loss, bits per byte and perplexity of --model on the data (with --validation: on that share of "
                 "it) and exit."},
        {NULL, "sample-prompt", OPTION_LIST, &p->sample_prompts, .flags = OPTION_MAY_CHANGE,
         .help = "Texts that the model continues every --sample-every steps."},
        {NULL, "sample-tokens", OPTION_INT, &p->sample_tokens, "64", 1, 1 << 20, .flags = OPTION_MAY_CHANGE,
         .help = "Longest continuation, in tokens."},
        {NULL, "temperature", OPTION_REAL, &p->temperature, "0.8", 0.01, 10,
         .flags = OPTION_MAY_CHANGE | OPTION_OR_ZERO,
         .help = "Sampling temperature of these texts; 0: the most likely token."},
    };
    int n = sizeof rows / sizeof *rows;
    memset(table, 0, PRETRAIN_ROWS * sizeof *table);
    memcpy(table, rows, sizeof rows);
    train_option_rows(table + n, &p->train, &defaults);
    for (struct option *o = table; o->name; o++)
        if (strcmp(o->name, "cluster") == 0) o->flags |= OPTION_ALONE | OPTION_COMMON;     /* needs no data */
    p->table = table;
}

static void preset_config(struct pretrain *p, struct config *c)
{
    struct error error;
    if (config_preset(c, p->preset, &error) != 0) quit_error(&error);
    if (p->layers) c->layers = (int)p->layers;
    if (p->channels) {
        c->channels = (int)p->channels;
        c->heads = int_max(1, c->channels / 64);
        while (c->channels % c->heads != 0) c->heads--;
        /* three matrices of 8/3 C cost what two of 4 C do */
        c->ffn = c->activation == ACTIVATION_SWIGLU ? (8 * c->channels / 3 + 31) / 32 * 32 : 4 * c->channels;
    }
    if (p->heads) c->heads = (int)p->heads;
    if (p->kv_heads) c->kv_heads = (int)p->kv_heads;
    else if ((p->heads || p->channels) && c->kv_heads > 1) c->kv_heads = c->heads;
    if (p->ffn) c->ffn = (int)p->ffn;
    if (p->context) c->context = (int)p->context;
    /* narrow models started at the 0.02 of wide ones learn to attend late (Nguyen & Salazar 2019) */
    c->init_std = p->init_std > 0 ? p->init_std : sqrt(2.0 / (5.0 * c->channels));
    if (p->tokenizer && !p->sampled) c->vocab = tokenizer_vocab(p->tokenizer);
    else if (!p->train.parallel.cluster || option_given(p->table, "vocab-size")) c->vocab = (int)p->vocab_size;
    if ((p->channels || p->heads) && c->channels % c->heads != 0)
        quit(EXIT_USAGE, "%d channels cannot be cut into %d heads of equal width", c->channels, c->heads);
    if (p->channels || p->heads) c->head_dim = c->channels / c->heads;
    if (config_check(c, &error) != 0) quit_error(&error);
}

void pretrain_config(struct pretrain *p)
{
    struct error error;
    /* a model trained before keeps its sizes, a tokenizer its ids: giving one is a misunderstanding to point out */
    const char *why = "which brings its own";
    if (option_excludes(p->table, "model", "preset|layers|channels|heads|kv-heads|ffn|init-std|tokenizer|vocab-size|"
                        "pattern|tokenizer-bytes", why, &error) != 0 ||
        option_excludes(p->table, "tokenizer", "vocab-size|pattern|tokenizer-bytes", why, &error) != 0)
        quit_error(&error);
    if (p->parent.ckpt) {
        p->config = p->parent.config;
        if (p->context > p->config.context)
            quit(EXIT_USAGE, "--context %lld is above the model's %d", (long long)p->context, p->config.context);
    } else {
        preset_config(p, &p->config);
    }
    p->row_tokens = p->context ? (int)p->context : p->config.context;
    if (p->row_tokens < 2) quit(EXIT_USAGE, "--context must be at least 2, so that a token has one to predict");
}
