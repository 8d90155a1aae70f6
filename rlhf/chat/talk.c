/* talk.c - messages in, answers out.
 *
 * An answer is a sample like any other: rendered, drawn and stopped by the code that rlhf trains with, so what is seen
 * here is what was trained.  The whole dialogue is read again for every answer; only its messages are kept. */
#include "rlhf/chat/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

/* One answer as it comes: its text so far, of which `shown` bytes are written. */
struct answer { struct session *session; struct utf8_held held; struct bytes text; size_t shown; };

static volatile sig_atomic_t interrupted;

static void note_interrupt(int number)
{
    (void)number;
    interrupted = 1;
}

/* No SA_RESTART: reading a line fails then. */
void session_catch_interrupt(void)
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

bool session_turn(struct session *s, const char *line, size_t length)
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

void session_reset(struct session *s)
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
        session_reset(s);
        if (s->input_tty) fprintf(stderr, "(a new dialogue)\n");
        return true;
    }
    if (strcmp(line, "/help") != 0) return false;
    fprintf(stderr, "/reset  forget the dialogue\n/quit   end (also Ctrl-D)\n"
            "Ctrl-C  stop an answer; while waiting for you: end\n");
    return true;
}

void session_talk(struct session *s)
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
        session_turn(s, line, (size_t)n);
        if (interrupted && !s->input_tty) break;
    }
    if (ferror(stdin) && !interrupted) quit(EXIT_IO, "the input cannot be read: %s", strerror(errno));
    if (interrupted && s->input_tty) fputc('\n', stderr);
    free(line);
}
