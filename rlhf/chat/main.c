/* main.c - chat: talk to a model: a policy, a fine-tuned model, or (without a template) a base model that continues a
 * text.
 *
 * An answer is a sample like any other: rendered, drawn and stopped by the code that rlhf trains with, so what is seen
 * here is what was trained.  This file opens the model; session.h says where the rest is. */
#include "common/base/threads.h"
#include "common/model/device.h"
#include "rlhf/chat/session.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void parse(struct session *s, int argc, char **argv)
{
    const struct option table[] = {
        {"Model", "model", OPTION_TEXT, &s->model_path, .flags = OPTION_REQUIRED,
         .help = "Run folder or checkpoint of pretrain, sft or rlhf; or a Hugging Face folder or GGUF file."},
        {NULL, "ema", OPTION_FLAG, &s->ema, .help = "Use the averaged weights of the checkpoint."},
        {NULL, "config", OPTION_TEXT, &s->config, .help = "File of \"name = value\" lines; the command line beats it."},
        {NULL, "threads", OPTION_INT, &s->threads, "0", 0, 4096,
         .help = "Number of threads; 0: one per core. Answers do not depend on it."},
        {NULL, "device", OPTION_INT, &s->device, "0", 0, 4096,
         .help = "Number of the GPU, in a build for CUDA; the CPU is device 0."},
        {"Dialogue", "prompt", OPTION_TEXT, &s->prompt,
         .help = "Answer this and exit; without it, every input line is a message."},
        {NULL, "prompts", OPTION_LIST, &s->prompts,
         .help = "Answer these files of prompts (as rlhf takes them), one JSON line per answer."},
        {NULL, "logprobs", OPTION_LIST, &s->logprobs,
         .help = "Score these files of JSON lines with a \"text\" or \"tokens\" and end: the log-probability of each token."},
        {NULL, "samples", OPTION_INT, &s->samples, "1", 1, 1e6, .help = "Answers to each prompt or message."},
        {NULL, "system", OPTION_TEXT, &s->system, .help = "System message at the start of the dialogue."},
        {NULL, "raw", OPTION_FLAG, &s->raw,
         .help = "Continue the text instead of answering it; always so for a model without a chat template."},
        {NULL, "max-new-tokens", OPTION_INT, &s->max_new, "256", 1, 1e6, .help = "Longest answer, in tokens."},
        {"Sampling", "temperature", OPTION_REAL, &s->temperature, "0.8", 0.01, 100, .flags = OPTION_OR_ZERO,
         .help = "Sampling temperature; 0: always the most likely token."},
        {NULL, "top-k", OPTION_INT, &s->top_k, "0", 0, 1e6,
         .help = "Sample from the k most likely tokens; 0: from all."},
        {NULL, "top-p", OPTION_REAL, &s->top_p, "0.95", 1e-6, 1,
         .help = "Sample from the smallest set of tokens with this total probability."},
        {NULL, "min-p", OPTION_REAL, &s->min_p, "0", 0, 1,
         .help = "Sample from tokens at least this probable, relative to the most likely."},
        {NULL, "seed", OPTION_INT, &s->seed, "1", 0, 9e18,
         .help = "The same seed, model and messages give the same answers."},
        {"Server", "serve", OPTION_TEXT, &s->serve,
         .help = "Serve the model at this ADDRESS:PORT (127.0.0.1:8080) with the OpenAI-compatible endpoints."},
        {NULL, "slots", OPTION_INT, &s->slots, "16", 1, 4096, .help = "Answers made at the same time."},
        {NULL, "queue", OPTION_INT, &s->queue, "64", 0, 1e6, .help = "Further answers that may wait for a free slot."},
        {NULL, "max-body", OPTION_SIZE, &s->max_body, "1M", 1024, 1 << 30, .help = "Largest request, in bytes."},
        {NULL, "max-time", OPTION_SECONDS, &s->max_time, "10m", 0.1, 1e6,
         .help = "Longest time for an answer, with its time in the queue."},
        {NULL, "grace", OPTION_SECONDS, &s->grace, "30s", 0, 1e6,
         .help = "Time that answers under way get after SIGTERM or Ctrl-C."},
        {NULL},
    };
    struct error error;
    if (options_parse(table, argc, argv, "chat --model RUN|FILE [--prompt TEXT | --prompts FILES]",
                      "Talks to a model in the terminal, answers each line of a pipe, or serves the model (--serve). "
                      "/help lists the commands; Ctrl-C stops an answer.", NULL, &error) != 0)
        quit_error(&error);
    if (s->serve && !session_serves())
        quit(EXIT_UNAVAILABLE, "this chat was built without libmicrohttpd, which --serve needs: install "
             "libmicrohttpd-dev and build again (make clean all)");
    static const char *const of_serve[] = {"slots", "queue", "max-body", "max-time", "grace"};
    for (size_t i = 0; i < sizeof of_serve / sizeof *of_serve; i++)
        if (option_needs(table, of_serve[i], "serve", &error) != 0) quit_error(&error);
    if (option_excludes(table, "serve", "prompt|prompts|logprobs|samples", "whose clients say what is asked", &error) ||
        option_excludes(table, "prompts", "prompt|system", "whose files say all that is asked", &error) ||
        option_excludes(table, "logprobs", "prompt|system|prompts|samples", "which answers nothing", &error))
        quit_error(&error);
}

/* ---- the model ---- */

static void build(void *self, struct memory *memory)
{
    struct session *s = self;
    const struct config *c = &s->parent.config;
    int slots = s->serve ? (int)s->slots : s->prompts.count || s->logprobs.count ? 32 : 1;
    struct model_use use = {.max_tokens = int_max(slots, int_min(c->context, 256)), .max_sequences = 1,
                            .cache_slots = slots, .cache_capacity = c->context, .logits_rows = slots};
    if (s->logprobs.count)
        use = (struct model_use){.max_tokens = c->context, .max_sequences = 1, .logits_rows = slots};
    ops_open(memory);
    model_open(&s->model, c, &use, memory);
}

/* What the checkpoint says about talking to it. */
static void read_template(struct session *s)
{
    struct error error;
    const char *path = ckpt_path(s->parent.ckpt);
    bool asked = s->raw;
    s->raw = asked || s->parent.meta->chat.count == 0;
    if (s->parent.config.head != HEAD_VOCABULARY)
        quit(EXIT_MISMATCH,
             "%s: a model with a scalar head gives rewards, not text: chat needs one of pretrain, sft or rlhf", path);
    if (s->raw && s->system)
        quit(EXIT_USAGE, "--system needs a model with a chat template, and %s %s", path,
             asked ? "is used without its own (--raw)" : "has none: it was not fine-tuned with sft");
    if (s->parent.meta->chat.count) {
        if (chat_read(&s->chat, &s->parent.meta->chat, s->parent.tokenizer, &error)) {
            fail_in(&error, "%s", path);
            quit_error(&error);
        }
        if (s->system && *s->system && !chat_has_system(&s->chat))
            quit(EXIT_USAGE, "--system: the chat template %s of %s has no system message",
                 chat_template_name(s->chat.template), path);
    }
    s->stops = stops_of(&s->chat, s->parent.tokenizer, &s->parent.meta->meta);
    if (s->ema && ckpt_find(s->parent.ckpt, "tok_embd.weight", ROLE_EMA) < 0)
        quit(EXIT_MISMATCH, "%s holds no averaged weights: leave --ema out", path);
}

static void open_model(struct session *s, struct memory *memory)
{
    struct error error;
    const unsigned stages = 1u << STAGE_PRETRAIN | 1u << STAGE_SFT | 1u << STAGE_RLHF | 1u << STAGE_IMPORTED;
    if (device_open((int)s->device, &error) != 0) quit_error(&error);
    if (parent_open(&s->parent, s->model_path, NULL, stages, "policy", &error)) quit_error(&error);
    read_template(s);
    build(s, memory);
    program_take(memory, build, s);
    if (model_load(&s->model, s->parent.ckpt, "", s->ema ? ROLE_EMA : ROLE_WEIGHT, false, 0, &error))
        quit_error(&error);
    s->tokens = host_alloc((size_t)s->parent.config.context, sizeof *s->tokens);
}

static void close_model(struct session *s, struct memory *memory)
{
    model_close(&s->model);
    memory_close(memory);
    parent_close(&s->parent);
    free(s->ids.id);
    free(s->tokens);
}

struct sample_settings session_sampling(const struct session *s)
{
    return (struct sample_settings){
        .sampling = {.temperature = (float)s->temperature, .top_k = (int)s->top_k, .top_p = (float)s->top_p,
                     .min_p = (float)s->min_p, .allowed = tokenizer_vocab(s->parent.tokenizer)},
        .stop = s->stops.id, .n_stop = s->stops.count, .stream = RNG_SAMPLE, .seed = (uint64_t)s->seed,
    };
}

/* ---- the program ---- */

int main(int argc, char **argv)
{
    struct session s = {0};
    struct memory memory = {0};
    int code = EXIT_DONE;
    program_begin("chat");
    program_set_build(device_build());
    parse(&s, argc, argv);
    threads_start((int)s.threads);
    bool scores = s.logprobs.count > 0, files = s.prompts.count > 0 || scores;
    bool reads_input = !s.prompt && !files && !s.serve;
    s.input_tty = isatty(STDIN_FILENO) && reads_input;
    s.output_tty = isatty(STDOUT_FILENO);
    if (reads_input && program_input_closed()) quit(EXIT_IO, "the input cannot be read: stdin is closed");
    open_model(&s, &memory);
    if (scores) session_logprobs(&s);
    else if (files) session_answer_files(&s);
    else if (s.serve) session_serve(&s);
    else if (!session_talk(&s)) code = EXIT_DATA;
    close_model(&s, &memory);
    threads_stop();
    return code;
}
