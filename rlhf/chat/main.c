/* main.c - chat: talk to a model: a policy, a fine-tuned model, or (without a template) a base model that continues a
 * text.
 *
 * An answer is a sample like any other: rendered, drawn and stopped by the code that rlhf trains with, so what is seen
 * here is what was trained.  The whole dialogue is read again for every answer; only its messages are kept. */
#include "common/base/threads.h"
#include "common/model/device.h"
#include "rlhf/chat/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void parse(struct session *s, int argc, char **argv)
{
    const struct option table[] = {
        {"Model", "model", OPTION_TEXT, &s->model_path, .flags = OPTION_REQUIRED,
         .help = "Run folder or checkpoint of pretrain, sft or rlhf."},
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
        {NULL, "samples", OPTION_INT, &s->samples, "1", 1, 1e6, .help = "Answers to each prompt of --prompts."},
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
        {NULL},
    };
    struct error error;
    if (options_parse(table, argc, argv, "chat --model RUN|FILE [--prompt TEXT | --prompts FILES]",
                      "Talks to a model in the terminal, or answers each line of a pipe. /reset starts anew, /quit "
                      "ends, /help helps; Ctrl-C stops an answer.", NULL, &error) != 0 ||
        option_needs(table, "samples", "prompts", &error) != 0)
        quit_error(&error);
    if (s->prompts.count && (s->prompt || s->system))
        quit(EXIT_USAGE, "--%s cannot be given with --prompts, whose files say all that is asked",
             s->prompt ? "prompt" : "system");
    if (s->logprobs.count && (s->prompt || s->system || s->prompts.count))
        quit(EXIT_USAGE, "--%s cannot be given with --logprobs, which answers nothing",
             s->prompt ? "prompt" : s->system ? "system" : "prompts");
}

/* ---- the model ---- */

static void build(void *self, struct memory *memory)
{
    struct session *s = self;
    const struct config *c = &s->parent.config;
    int slots = s->prompts.count || s->logprobs.count ? 32 : 1;
    struct model_use use = {.max_tokens = int_max(slots, int_min(c->context, 256)), .max_sequences = 1,
                            .cache_slots = slots, .cache_capacity = c->context, .logits_rows = slots};
    if (s->logprobs.count)
        use = (struct model_use){.max_tokens = c->context, .max_sequences = 1, .logits_rows = slots};
    ops_open(memory);
    model_open(&s->model, c, &use, memory);
}

static void add_stop(struct session *s, int id)
{
    if (id >= 0 && (s->n_stop == 0 || s->stop[0] != id)) s->stop[s->n_stop++] = id;
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
        add_stop(s, s->chat.end);
    }
    add_stop(s, tokenizer_special(s->parent.tokenizer, "<|endoftext|>"));
    if (s->ema && ckpt_find(s->parent.ckpt, "tok_embd.weight", ROLE_EMA) < 0)
        quit(EXIT_MISMATCH, "%s holds no averaged weights: leave --ema out", path);
}

static void open_model(struct session *s, struct memory *memory)
{
    struct error error;
    const unsigned stages = 1u << STAGE_PRETRAIN | 1u << STAGE_SFT | 1u << STAGE_RLHF | 1u << STAGE_IMPORTED;
    if (device_open((int)s->device, &error) != 0) quit_error(&error);
    if (parent_open(&s->parent, s->model_path, stages, "policy", &error)) quit_error(&error);
    read_template(s);
    build(s, memory);
    program_take(memory, build, s);
    if (model_load(&s->model, s->parent.ckpt, "", s->ema ? ROLE_EMA : ROLE_WEIGHT, false, 0, &error)) {
        fail_in(&error, "%s", ckpt_path(s->parent.ckpt));
        quit_error(&error);
    }
    s->tokens = host_alloc((size_t)s->parent.config.context, sizeof *s->tokens);
}

static void close_model(struct session *s, struct memory *memory)
{
    model_close(&s->model);
    memory_close(memory);
    parent_close(&s->parent);
    dialogue_free(&s->dialogue);
    free(s->ids.id);
    free(s->tokens);
}

/* One answer as it comes: its text so far, of which `shown` bytes are written. */
struct answer { struct session *session; struct utf8_held held; struct bytes text; size_t shown; };

static volatile sig_atomic_t interrupted;

static void note_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* No SA_RESTART: reading a line fails then. */
static void catch_interrupt(void)
{
    struct sigaction note = {.sa_handler = note_interrupt}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &note, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

/* ---- what the model reads ---- */

/* Tokens kept free for the answer. */
static int answer_room(const struct session *s)
{
    int quarter = int_max(1, s->parent.config.context / 4);
    return s->max_new < quarter ? (int)s->max_new : quarter;
}

/* Fills s->ids with the dialogue, less its oldest turns where the context would not hold it.  False when even the
 * newest message alone is too long. */
static bool read_dialogue(struct session *s)
{
    int context = s->parent.config.context;
    int forgotten = chat_render_prompt(&s->ids, &s->chat, &s->dialogue, context - answer_room(s));
    if (forgotten > 0)
        fprintf(stderr, "(the context of %d tokens is full: the oldest %d messages are forgotten)\n", context,
                forgotten);
    if (s->ids.count < (size_t)context) return true;
    fprintf(stderr, "%s: the message is %zu tokens long with its template, and the context of this model is %d\n",
            program_name(), s->ids.count, context);
    return false;
}

/* Fills s->ids with a text to continue: as a document begins in pretraining.  Of a long text only the end is read. */
static bool read_text(struct session *s, const char *text, size_t length)
{
    size_t most = (size_t)(s->parent.config.context - answer_room(s));
    int start = tokenizer_special(s->parent.tokenizer, "<|endoftext|>");
    s->ids.count = 0;
    if (start >= 0) ids_add(&s->ids, start);
    size_t begin = s->ids.count;
    tokenizer_encode(&s->ids, s->parent.tokenizer, text, length);
    if (s->ids.count > most) {
        size_t cut = s->ids.count - most;
        fprintf(stderr, "(the context is %d tokens: the first %zu tokens of the text are left out)\n",
                s->parent.config.context, cut);
        memmove(s->ids.id + begin, s->ids.id + begin + cut, (s->ids.count - begin - cut) * sizeof *s->ids.id);
        s->ids.count -= cut;
    }
    if (s->ids.count) return true;
    fprintf(stderr, "%s: an empty text cannot be continued: this tokenizer has no <|endoftext|>\n", program_name());
    return false;
}

/* ---- the answer ---- */

/* Writes text; on a terminal control characters are shown, not sent. */
static void show(const struct session *s, const char *text, size_t length)
{
    size_t at = 0;
    while (s->output_tty && at < length) {
        size_t n = 0;
        while (at + n < length && text[at + n] != '\n' && text[at + n] != '\t' && n < 200) n++;
        while (n == 200 && (text[at + n] & 0xC0) == 0x80) n--;          /* not through a character */
        char safe[1000];
        fputs(text_escape(safe, sizeof safe, text + at, n), stdout);
        at += n;
        if (at < length && (text[at] == '\n' || text[at] == '\t')) fputc(text[at++], stdout);
    }
    if (!s->output_tty) fwrite(text, 1, length, stdout);
    if (fflush(stdout) != 0) quit(EXIT_IO, "the answer cannot be written: %s", strerror(errno));
}

static void show_new(struct answer *a)
{
    show(a->session, a->text.data + a->shown, a->text.size - a->shown);
    a->shown = a->text.size;
}

static bool take_token(void *self, const struct sample *sample, int token)
{
    struct answer *a = self;
    const struct session *s = a->session;
    (void)sample;
    tokenizer_stream(&a->text, &a->held, s->parent.tokenizer, &token, 1);
    if (a->text.size > a->shown) show_new(a);
    return !interrupted;
}

struct sample_settings session_sampling(const struct session *s)
{
    return (struct sample_settings){
        .sampling = {.temperature = (float)s->temperature, .top_k = (int)s->top_k, .top_p = (float)s->top_p,
                     .min_p = (float)s->min_p, .allowed = tokenizer_vocab(s->parent.tokenizer)},
        .stop = s->stop, .n_stop = s->n_stop, .stream = RNG_SAMPLE, .seed = (uint64_t)s->seed,
    };
}

/* Draws an answer to what s->ids holds, shows it and appends it to *text. */
static void answer(struct session *s, struct bytes *text)
{
    struct answer a = {.session = s};
    struct sample_settings how = session_sampling(s);
    struct sample sample = {.prompt = s->ids.id, .n_prompt = (int)s->ids.count, .index = s->answers++,
                            .most = (int)s->max_new, .tokens = s->tokens};
    interrupted = 0;
    sample_run(&s->model, &sample, 1, &how, take_token, &a);
    tokenizer_stream(&a.text, &a.held, s->parent.tokenizer, NULL, 0);
    if (a.text.size > a.shown) show_new(&a);
    show(s, "\n", 1);
    bool full = sample.n_prompt + sample.n == s->parent.config.context;
    if (interrupted) fprintf(stderr, "(stopped)\n");
    else if (!sample.stopped && full)
        fprintf(stderr, "(the answer was cut after %d tokens: the context of %d tokens is full)\n", sample.n,
                s->parent.config.context);
    else if (!sample.stopped && s->input_tty)
        fprintf(stderr, "(the answer was cut after %d tokens: --max-new-tokens)\n", sample.n);
    bytes_add(text, a.text.data, a.text.size);
    bytes_free(&a.text);
}

static bool take_message(struct session *s, const char *line, size_t length)
{
    struct bytes text = {0};
    if (!s->raw) dialogue_add(&s->dialogue, ROLE_USER, line, length);
    bool ok = s->raw ? read_text(s, line, length) : read_dialogue(s);
    if (ok) answer(s, &text);
    if (!s->raw && ok) dialogue_add(&s->dialogue, ROLE_ASSISTANT, text.data, text.size);
    else if (!s->raw) dialogue_pop(&s->dialogue);
    bytes_free(&text);
    return ok;
}

/* ---- the talk ---- */

static void reset(struct session *s)
{
    dialogue_free(&s->dialogue);
    s->answers = 0;
    if (s->system) dialogue_add(&s->dialogue, ROLE_SYSTEM, s->system, strlen(s->system));
}

static void greet(const struct session *s)
{
    char line[300];
    const struct ckpt_meta *meta = s->parent.meta;
    fprintf(stderr, "%s: %s, step %llu, %s\n%s  (/help)\n", ckpt_path(s->parent.ckpt),
            stage_name((enum stage)meta->stage), (unsigned long long)meta->step,
            config_line(line, sizeof line, &s->parent.config),
            s->raw ? "It continues what you write." : "It answers what you write.");
}

/* Handles "/reset" and "/help"; false for a line that is neither. */
static bool command(struct session *s, const char *line)
{
    if (strcmp(line, "/reset") == 0) {
        reset(s);
        if (s->input_tty) fprintf(stderr, "(a new dialogue)\n");
        return true;
    }
    if (strcmp(line, "/help") != 0) return false;
    fprintf(stderr, "/reset  forget the dialogue\n/quit   end (also Ctrl-D)\n"
            "Ctrl-C  stop an answer; while waiting for you: end\n");
    return true;
}

static void talk(struct session *s)
{
    char *line = NULL;
    size_t room = 0;
    if (s->input_tty) greet(s);
    for (;;) {
        if (s->input_tty && s->output_tty) show(s, "> ", 2);
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (strcmp(line, "/quit") == 0) break;
        if (n == 0 || command(s, line)) continue;
        take_message(s, line, (size_t)n);
        if (interrupted && !s->input_tty) break;
    }
    if (ferror(stdin) && !interrupted) quit(EXIT_IO, "the input cannot be read: %s", strerror(errno));
    if (interrupted && s->input_tty) fputc('\n', stderr);
    free(line);
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
    s.input_tty = isatty(STDIN_FILENO) && !s.prompt && !files;
    s.output_tty = isatty(STDOUT_FILENO);
    bool reads_input = !s.prompt && !files;
    if (reads_input && program_input_closed()) quit(EXIT_IO, "the input cannot be read: stdin is closed");
    open_model(&s, &memory);
    if (!files) catch_interrupt();
    reset(&s);
    if (scores) session_logprobs(&s);
    else if (files) session_answer_files(&s);
    else if (!s.prompt) talk(&s);
    else if (!take_message(&s, s.prompt, strlen(s.prompt))) code = EXIT_DATA;
    close_model(&s, &memory);
    threads_stop();
    return code;
}
