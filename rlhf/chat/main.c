/* chat.c - talk to a model: a policy, a fine-tuned model, or (without a template) a base model that goes on with a
 * text.
 *
 * An answer is a sample like any other: rendered, drawn and stopped by the code that rlhf trains with, so what is seen
 * here is what was trained.  The whole dialogue is read again for every answer; nothing is kept but its messages. */
#include "common/text/chat.h"
#include "common/train/program.h"
#include "common/model/sample.h"
#include "common/base/threads.h"
#include "common/model/device.h"
#include "rlhf/chat/answers.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct settings {
    const char *model, *prompt, *system, *config;
    double temperature, top_p, min_p;
    int64_t top_k, max_new, seed, threads, samples;
    struct option_list prompts;
    bool raw, ema;
};

struct session {
    const struct settings *settings;
    struct parent parent;
    struct model model;
    struct chat chat;
    bool raw;                        /* no template: go on with the text */
    bool input_tty, output_tty;
    int stop[2], n_stop;             /* tokens that end an answer */
    struct dialogue dialogue;
    uint64_t answers;                /* since the start or /reset: the sample's index */
    struct ids ids;                  /* what the model reads */
    int *tokens;                     /* (context): what it draws */
    float *logprobs;
};

/* One answer as it comes: its text so far, of which `shown` bytes are written. */
struct answer { struct session *session; struct utf8_held held; struct bytes text; size_t shown; };

static volatile sig_atomic_t interrupted;

static void note_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* Ctrl-C ends an answer, or a wait for a line (no SA_RESTART: reading fails then). */
static void catch_interrupt(void)
{
    struct sigaction note = {.sa_handler = note_interrupt}, ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGINT, &note, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

static void parse(struct settings *s, int argc, char **argv)
{
    const struct option table[] = {
        {"Model", "model", OPTION_TEXT, &s->model, .flags = OPTION_REQUIRED,
         .help = "Run folder or checkpoint of pretrain, sft or rlhf."},
        {NULL, "ema", OPTION_FLAG, &s->ema, .help = "Use the averaged weights of the checkpoint."},
        {NULL, "config", OPTION_TEXT, &s->config, .help = "File of \"name = value\" lines; the command line beats it."},
        {NULL, "threads", OPTION_INT, &s->threads, "0", 0, 4096,
         .help = "Threads; 0: one a core. Answers do not depend on it."},
        {"Talk", "prompt", OPTION_TEXT, &s->prompt,
         .help = "Answer this and end; without it, every line of the input is a message."},
        {NULL, "prompts", OPTION_LIST, &s->prompts,
         .help = "Answer these files of prompts (as rlhf takes them), one JSON line an answer."},
        {NULL, "samples", OPTION_INT, &s->samples, "1", 1, 1e6, .help = "Answers to each prompt of --prompts."},
        {NULL, "system", OPTION_TEXT, &s->system, .help = "System message that the dialogue begins with."},
        {NULL, "raw", OPTION_FLAG, &s->raw,
         .help = "Go on with the text instead of answering it; always so for a model without a chat template."},
        {NULL, "max-new-tokens", OPTION_INT, &s->max_new, "256", 1, 1e6, .help = "Longest answer."},
        {"Drawing", "temperature", OPTION_REAL, &s->temperature, "0.8", 0, 100,
         .help = "0: always the most likely token."},
        {NULL, "top-k", OPTION_INT, &s->top_k, "0", 0, 1e6, .help = "Draw from the k most likely tokens; 0: from all."},
        {NULL, "top-p", OPTION_REAL, &s->top_p, "0.95", 1e-6, 1,
         .help = "Draw from the fewest tokens that have this probability together."},
        {NULL, "min-p", OPTION_REAL, &s->min_p, "0", 0, 1,
         .help = "Draw from tokens at least this probable, relative to the most likely."},
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
}

/* ---- the model ---- */

static void build(void *self, struct memory *memory)
{
    struct session *s = self;
    const struct config *c = &s->parent.config;
    int slots = s->settings->prompts.count ? 32 : 1;
    struct model_use use = {.max_tokens = int_max(slots, int_min(c->context, 256)), .max_sequences = 1,
                            .cache_slots = slots,
                            .cache_capacity = c->context, .logits_rows = slots};
    ops_open(memory);
    model_open(&s->model, c, &use, memory);
}

static bool has_role(const struct ckpt *c, enum role role)
{
    for (size_t i = 0; i < ckpt_tensor_count(c); i++)
        if (ckpt_tensor_at(c, i)->role == role) return true;
    return false;
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
    s->raw = s->settings->raw || s->parent.meta->chat.count == 0;
    if (s->parent.config.head != HEAD_VOCABULARY)
        quit(EXIT_MISMATCH,
             "%s: a model with a scalar head gives rewards, not text: chat needs one of pretrain, sft or rlhf", path);
    if (s->raw && s->settings->system)
        quit(EXIT_USAGE, "--system needs a model with a chat template, and %s %s", path,
             s->settings->raw ? "is used without its own (--raw)" : "has none: it was not fine-tuned with sft");
    if (s->parent.meta->chat.count) {
        if (chat_read(&s->chat, &s->parent.meta->chat, s->parent.tokenizer, &error)) {
            fail_in(&error, "%s", path);
            quit_error(&error);
        }
        add_stop(s, s->chat.end);
    }
    add_stop(s, tokenizer_special(s->parent.tokenizer, "<|endoftext|>"));
    if (s->settings->ema && !has_role(s->parent.ckpt, ROLE_EMA))
        quit(EXIT_MISMATCH, "%s holds no averaged weights: leave --ema out", path);
}

static void open_model(struct session *s, struct memory *memory)
{
    struct error error;
    const unsigned stages = 1u << STAGE_PRETRAIN | 1u << STAGE_SFT | 1u << STAGE_RLHF | 1u << STAGE_IMPORTED;
    if (device_open(0, &error) != 0) quit_error(&error);
    if (parent_open(&s->parent, s->settings->model, stages, "policy", &error)) quit_error(&error);
    read_template(s);
    build(s, memory);
    program_take(memory, build, s);
    if (model_load(&s->model, s->parent.ckpt, "", s->settings->ema ? ROLE_EMA : ROLE_WEIGHT, false, 0, &error)) {
        fail_in(&error, "%s", ckpt_path(s->parent.ckpt));
        quit_error(&error);
    }
    s->tokens = host_alloc((size_t)s->parent.config.context, sizeof *s->tokens);
    s->logprobs = host_alloc((size_t)s->parent.config.context, sizeof *s->logprobs);
}

static void close_model(struct session *s, struct memory *memory)
{
    model_close(&s->model);
    memory_close(memory);
    parent_close(&s->parent);
    dialogue_free(&s->dialogue);
    free(s->ids.id);
    free(s->tokens);
    free(s->logprobs);
}

/* ---- what the model reads ---- */

/* Tokens kept free for the answer. */
static int answer_room(const struct session *s)
{
    int quarter = int_max(1, s->parent.config.context / 4);
    return s->settings->max_new < quarter ? (int)s->settings->max_new : quarter;
}

/* Fills s->ids with the dialogue, less its oldest turns where the context would not hold it.  False when even the
 * newest message alone is too long. */
static bool read_dialogue(struct session *s)
{
    int context = s->parent.config.context, before = s->dialogue.count;
    for (;;) {
        s->ids.count = 0;
        chat_render(&s->chat, &s->dialogue, CHAT_TRAIN_ASSISTANT, true, &s->ids, NULL, NULL);
        if (s->ids.count + (size_t)answer_room(s) <= (size_t)context || !dialogue_forget_turn(&s->dialogue)) break;
    }
    if (s->dialogue.count < before)
        fprintf(stderr, "(the context of %d tokens is full: the oldest %d messages are forgotten)\n", context,
                before - s->dialogue.count);
    if (s->ids.count < (size_t)context) return true;
    fprintf(stderr, "%s: the message is %zu tokens long with its template, and the context of this model is %d\n",
            program_name(),
            s->ids.count, context);
    return false;
}

/* Fills s->ids with a text to go on with: as a document begins in pretraining.  Of a long text only the end is read. */
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
    fprintf(stderr, "%s: an empty text cannot be gone on with: this tokenizer has no <|endoftext|>\n", program_name());
    return false;
}

/* ---- the answer ---- */

/* Writes text; on a terminal control characters of the model's are shown, not sent. */
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

static bool take_token(void *self, int request, int token)
{
    struct answer *a = self;
    const struct session *s = a->session;
    (void)request;
    for (int i = 0; i < s->n_stop; i++)
        if (s->stop[i] == token) return false;
    tokenizer_stream(&a->text, &a->held, s->parent.tokenizer, &token, 1);
    if (a->text.size > a->shown) show_new(a);
    return !interrupted;
}

static struct sample_settings how_to_draw(const struct session *s)
{
    const struct settings *o = s->settings;
    return (struct sample_settings){
        .sampling = {.temperature = (float)o->temperature, .top_k = (int)o->top_k, .top_p = (float)o->top_p,
                     .min_p = (float)o->min_p},
        .stop = s->stop, .n_stop = s->n_stop, .allowed = tokenizer_vocab(s->parent.tokenizer), .stream = RNG_SAMPLE,
    };
}

/* Draws an answer to what s->ids holds, shows it and appends it to *text. */
static void answer(struct session *s, struct bytes *text)
{
    const struct settings *o = s->settings;
    struct answer a = {.session = s};
    struct sample_settings how = how_to_draw(s);
    struct sample_request request = {.prompt = s->ids.id, .n_prompt = (int)s->ids.count, .seed = (uint64_t)o->seed,
                                     .index = s->answers++, .max_new = (int)o->max_new};
    struct sample_result result = {.tokens = s->tokens, .logprobs = s->logprobs};
    interrupted = 0;
    sample_run(&s->model, &how, &request, &result, 1, take_token, &a);
    tokenizer_stream(&a.text, &a.held, s->parent.tokenizer, NULL, 0);
    if (a.text.size > a.shown) show_new(&a);
    show(s, "\n", 1);
    if (interrupted) fprintf(stderr, "(stopped)\n");
    else if (!result.stopped && s->input_tty) fprintf(stderr, "(cut after %d tokens)\n", result.n);
    bytes_add(text, a.text.data, a.text.size);
    bytes_free(&a.text);
}

/* Takes one message and answers it.  False when it could not be read. */
static bool turn(struct session *s, const char *line, size_t length)
{
    struct bytes text = {0};
    bool ok;
    if (s->raw) {
        ok = read_text(s, line, length);
        if (ok) answer(s, &text);
    } else {
        dialogue_add(&s->dialogue, ROLE_USER, line, length);
        ok = read_dialogue(s);
        if (ok) {
            answer(s, &text);
            dialogue_add(&s->dialogue, ROLE_ASSISTANT, text.data, text.size);
        } else {
            dialogue_pop(&s->dialogue);
        }
    }
    bytes_free(&text);
    return ok;
}

/* ---- the talk ---- */

static void reset(struct session *s)
{
    dialogue_free(&s->dialogue);
    s->answers = 0;
    if (s->settings->system) dialogue_add(&s->dialogue, ROLE_SYSTEM, s->settings->system, strlen(s->settings->system));
}

static void greet(const struct session *s)
{
    char line[300];
    const struct ckpt_meta *meta = s->parent.meta;
    fprintf(stderr, "%s: %s, step %llu, %s\n%s  (/help)\n", ckpt_path(s->parent.ckpt),
            stage_name((enum stage)meta->stage),
            (unsigned long long)meta->step, config_line(line, sizeof line, &s->parent.config),
            s->raw ? "It goes on with what you write." : "It answers what you write.");
}

/* Handles a command; false ends the talk. */
static bool command(struct session *s, const char *line, bool *was_command)
{
    *was_command = true;
    if (strcmp(line, "/quit") == 0) return false;
    if (strcmp(line, "/reset") == 0) {
        reset(s);
        if (s->input_tty) fprintf(stderr, "(a new dialogue)\n");
    } else if (strcmp(line, "/help") == 0) {
        fprintf(stderr,
                "/reset  forget the dialogue\n/quit   end (also Ctrl-D)\n"
                "Ctrl-C  stop an answer; while waiting for you: end\n");
    } else {
        *was_command = false;
    }
    return true;
}

static void talk(struct session *s)
{
    char *line = NULL;
    size_t room = 0;
    bool was_command;
    if (s->input_tty) greet(s);
    for (;;) {
        if (s->input_tty && s->output_tty) show(s, "> ", 2);
        ssize_t n = getline(&line, &room, stdin);
        if (n < 0) break;
        while (n > 0 && (line[n - 1] == '\n' || line[n - 1] == '\r')) line[--n] = 0;
        if (!command(s, line, &was_command)) break;
        if (was_command || n == 0) continue;
        turn(s, line, (size_t)n);
        if (interrupted && !s->input_tty) break;
    }
    if (ferror(stdin) && !interrupted) quit(EXIT_IO, "the input cannot be read: %s", strerror(errno));
    if (interrupted && s->input_tty) fputc('\n', stderr);
    free(line);
}

/* Answers the files of --prompts on stdout. */
static void answer_files(struct session *s)
{
    const struct settings *o = s->settings;
    struct error error;
    struct sample_settings how = how_to_draw(s);
    struct chat chat = s->chat;
    if (s->raw) chat = (struct chat){.template = TEMPLATE_NONE, .tokenizer = s->parent.tokenizer,
                                     .bos = tokenizer_special(s->parent.tokenizer, "<|endoftext|>")};
    struct answers_options answers = {.prompts = &o->prompts, .how = &how, .samples = (int)o->samples,
                                      .max_new = int_min((int)o->max_new, s->parent.config.context),
                                      .seed = (uint64_t)o->seed};
    if (answers_write(stdout, &s->model, &chat, &answers, &error) != 0) quit_error(&error);
}

int main(int argc, char **argv)
{
    struct settings settings = {0};
    struct session s = {.settings = &settings};
    struct memory memory = {0};
    int code = EXIT_DONE;
    program_begin("chat");
    parse(&settings, argc, argv);
    threads_start((int)settings.threads);
    bool files = settings.prompts.count > 0;
    s.input_tty = isatty(STDIN_FILENO) && !settings.prompt && !files;
    s.output_tty = isatty(STDOUT_FILENO);
    bool reads_input = !settings.prompt && !files;
    if (reads_input && program_input_closed()) quit(EXIT_IO, "the input cannot be read: stdin is closed");
    open_model(&s, &memory);
    if (!files) catch_interrupt();
    reset(&s);
    if (files) answer_files(&s);
    else if (!settings.prompt) talk(&s);
    else if (!turn(&s, settings.prompt, strlen(settings.prompt))) code = EXIT_DATA;
    close_model(&s, &memory);
    threads_stop();
    return code;
}
