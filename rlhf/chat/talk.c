/* talk.c - a dialogue in the terminal or through a pipe.  The whole dialogue is read again for every answer; only its
 * messages are kept.  A text that is continued is kept as a message and its continuation. */
#include "common/text/show.h"
#include "rlhf/chat/session.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#include <locale.h>
#endif

/* One answer as it comes: its text so far, of which `shown` bytes are written. */
struct answer { struct session *session; struct utf8_held held; struct bytes text; size_t shown; };

static volatile sig_atomic_t interrupts;        /* since the last line */

static void note_interrupt(int number)
{
    (void)number;
    if (interrupts < 2) interrupts++;
}

/* An interrupt makes reading a line fail; writing an answer goes on. */
static void catch_interrupt(bool reading)
{
    struct sigaction note = {.sa_handler = note_interrupt, .sa_flags = reading ? 0 : SA_RESTART};
    sigaction(SIGINT, &note, NULL);
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
    int start = tokenizer_document(s->parent.tokenizer);
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
    fprintf(stderr, "%s: an empty text cannot be continued: the tokenizer has no token that begins a document, such as "
            "<|endoftext|>\n", program_name());
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
    return interrupts == 0;
}

/* Draws an answer to what s->ids holds, shows it and appends it to *text. */
static void answer(struct session *s, struct bytes *text)
{
    struct answer a = {.session = s, .held.begun = s->raw};
    struct sample_settings how = session_sampling(s);
    struct sample sample = {.prompt = s->ids.id, .n_prompt = (int)s->ids.count, .index = s->answers++,
                            .most = (int)s->max_new, .tokens = s->tokens};
    sample_run(&s->model, &sample, 1, &how, take_token, &a);
    tokenizer_stream(&a.text, &a.held, s->parent.tokenizer, NULL, 0);
    if (a.text.size > a.shown) show_new(&a);
    show(s, "\n", 1);
    bool full = sample.n_prompt + sample.n == s->parent.config.context;
    if (interrupts) fprintf(stderr, "(stopped)\n");
    else if (!sample.stopped && full)
        fprintf(stderr, "(the answer was cut after %d tokens: the context of %d tokens is full)\n", sample.n,
                s->parent.config.context);
    else if (!sample.stopped && s->input_tty)
        fprintf(stderr, "(the answer was cut after %d tokens: --max-new-tokens)\n", sample.n);
    bytes_add(text, a.text.data, a.text.size);
    bytes_free(&a.text);
}

/* Answers the last message --samples times; the dialogue continues with the last of the answers.  If the message is too
 * long, removes it and returns false. */
static bool answer_last(struct session *s)
{
    const struct message *last = &s->dialogue.message[s->dialogue.count - 1];
    struct bytes text = {0};
    if (!(s->raw ? read_text(s, last->content, last->length) : read_dialogue(s))) {
        dialogue_pop(&s->dialogue);
        return false;
    }
    for (int64_t i = 0; i < s->samples && (i == 0 || interrupts == 0); i++) {
        text.size = 0;
        if (s->samples > 1 && s->input_tty)
            fprintf(stderr, "(%lld of %lld)\n", (long long)i + 1, (long long)s->samples);
        answer(s, &text);
    }
    dialogue_add(&s->dialogue, ROLE_ASSISTANT, text.data, text.size);
    bytes_free(&text);
    return true;
}

static bool take_message(struct session *s, const char *line, size_t length)
{
    while (s->raw && s->dialogue.count > 0) dialogue_pop(&s->dialogue);
    dialogue_add(&s->dialogue, ROLE_USER, line, length);
    return answer_last(s);
}

/* ---- commands ---- */

static void begin(struct session *s)
{
    dialogue_free(&s->dialogue);
    s->answers = 0;
    if (s->system && *s->system) dialogue_add(&s->dialogue, ROLE_SYSTEM, s->system, strlen(s->system));
}

static void note(const struct session *s, const char *text)
{
    if (s->input_tty) fprintf(stderr, "(%s)\n", text);
}

static void command_reset(struct session *s, const char *argument)
{
    (void)argument;
    begin(s);
    note(s, "a new dialogue");
}

static void command_system(struct session *s, const char *argument)
{
    struct dialogue *d = &s->dialogue, rest = *d;
    if (s->raw) {
        fprintf(stderr, "%s: a model without a chat template reads no system message\n", program_name());
        return;
    }
    if (*argument && !chat_has_system(&s->chat)) {
        fprintf(stderr, "%s: the chat template %s has no system message\n", program_name(),
                chat_template_name(s->chat.template));
        return;
    }
    free(s->own_system);
    s->system = s->own_system = host_text("%s", argument);
    *d = (struct dialogue){0};
    if (*argument) dialogue_add(d, ROLE_SYSTEM, argument, strlen(argument));
    for (int i = 0; i < rest.count; i++)
        if (rest.message[i].role != ROLE_SYSTEM)
            dialogue_add(d, rest.message[i].role, rest.message[i].content, rest.message[i].length);
    dialogue_free(&rest);
    note(s, *argument ? "a new system message" : "no system message");
}

static void command_regenerate(struct session *s, const char *argument)
{
    struct dialogue *d = &s->dialogue;
    (void)argument;
    if (d->count < 1 || d->message[d->count - 1].role != ROLE_ASSISTANT) {
        fprintf(stderr, "%s: there is no answer yet to be given anew\n", program_name());
        return;
    }
    dialogue_pop(d);
    answer_last(s);
}

/* The dialogue as a row for sft, or the text as one for pretrain. */
static void command_save(struct session *s, const char *argument)
{
    static const char *const role[] = {"system", "user", "assistant", "tool"};
    struct bytes out = {0}, text = {0};
    struct error error;
    if (!*argument) {
        fprintf(stderr, "%s: /save needs the name of a file\n", program_name());
        return;
    }
    json_t *messages = json_array();
    for (int i = 0; i < s->dialogue.count; i++) {
        const struct message *m = &s->dialogue.message[i];
        bytes_add(&text, m->content, m->length);
        json_array_append_new(messages, json_pack("{s:s, s:o}", "role", role[m->role], "content",
                                                  json_text(m->content, m->length)));
    }
    show_json_value(&out, s->raw ? json_pack("{s:o}", "text", json_text(text.data, text.size))
                                 : json_pack("{s:O}", "messages", messages));
    bytes_text(&out, "\n");
    if (file_replace(argument, out.data, out.size, &error) == 0) note(s, "saved");
    else fprintf(stderr, "%s: %s\n", program_name(), error.text);
    json_decref(messages);
    bytes_free(&text);
    bytes_free(&out);
}

static void command_help(struct session *s, const char *argument);

static const struct command {
    const char *name, *argument;                 /* argument NULL: the line is the name alone */
    void (*run)(struct session *s, const char *argument);
    const char *help;
} command[] = {
    {"/reset", NULL, command_reset, "forget the dialogue"},
    {"/system", "TEXT", command_system, "another system message for the dialogue; without TEXT: none"},
    {"/regenerate", NULL, command_regenerate, "answer the last message anew"},
    {"/save", "FILE", command_save, "write the dialogue to FILE as a line of JSON, as sft reads it"},
    {"/help", NULL, command_help, "this list"},
    {"/quit", NULL, NULL, "end (also Ctrl-D)"},
};
enum { COMMANDS = sizeof command / sizeof *command };

static void command_help(struct session *s, const char *argument)
{
    (void)s, (void)argument;
    for (int i = 0; i < COMMANDS; i++)
        fprintf(stderr, "%s%s%-*s  %s\n", command[i].name, command[i].argument ? " " : "",
                16 - (int)strlen(command[i].name) - (command[i].argument ? 1 : 0),
                command[i].argument ? command[i].argument : "", command[i].help);
    fprintf(stderr, "Ctrl-C            stop an answer; a second one, or two while waiting for you: end\n");
}

/* The command that a line is, with what follows its name; NULL for a message. */
static const struct command *find_command(const char *line, const char **argument)
{
    for (int i = 0; i < COMMANDS; i++) {
        size_t n = strlen(command[i].name);
        if (strncmp(line, command[i].name, n) != 0) continue;
        if (line[n] && !(command[i].argument && line[n] == ' ')) continue;
        *argument = line + n + strspn(line + n, " ");
        return &command[i];
    }
    return NULL;
}

/* ---- lines: by libedit when it is there and somebody types, by getline otherwise ---- */

/* terminal: stdin and stdout are one.  There a prompt is shown and, by libedit, a line can be edited and earlier ones
 * come back with the arrow keys (~/.editrc may change the keys).  They are kept for as long as the program runs and not
 * written to a file, because dialogues are private. */
struct lines {
    bool terminal, edited;               /* edited: by libedit */
    char *line, *kept;                   /* kept: the newest earlier line; one repeated in a row is kept once */
    size_t room;
};

static void open_lines(struct lines *l)
{
#ifdef HAVE_LIBEDIT
    const char *kind = getenv("TERM");
    l->edited = l->terminal && kind && strcmp(kind, "dumb") != 0;
    rl_readline_name = "chat";
    rl_catch_signals = 0;
    if (l->edited) stifle_history(1000);
    if (l->edited && !setlocale(LC_CTYPE, "C.UTF-8")) setlocale(LC_CTYPE, "");      /* text is UTF-8 in any locale */
#else
    l->edited = false;
#endif
}

/* The length of a line in l->line, or -1. */
static ssize_t read_line(struct lines *l)
{
    errno = 0;
#ifdef HAVE_LIBEDIT
    if (l->edited) {
        free(l->line);
        l->line = readline("> ");
        if (l->line && *l->line && !(l->kept && strcmp(l->kept, l->line) == 0)) {
            add_history(l->line);
            free(l->kept);
            l->kept = host_text("%s", l->line);
        }
        return l->line ? (ssize_t)strlen(l->line) : -1;
    }
#endif
    if (l->terminal) fputs("> ", stdout), fflush(stdout);
    return getline(&l->line, &l->room, stdin);
}

/* LINE_INTERRUPTED: a signal came first, and what was typed is gone.  LINE_FAILED: errno says why. */
enum line_end { LINE_READ, LINE_END, LINE_INTERRUPTED, LINE_FAILED };

/* The next line without its end, valid until the next call. */
static enum line_end next_line(struct lines *l, const char **line, size_t *length)
{
    ssize_t n = read_line(l);
    if (n < 0 && errno == EINTR) {
        clearerr(stdin);
        return LINE_INTERRUPTED;
    }
    if (n < 0) return (l->edited ? errno != 0 : ferror(stdin)) ? LINE_FAILED : LINE_END;
    while (n > 0 && (l->line[n - 1] == '\n' || l->line[n - 1] == '\r')) l->line[--n] = 0;
    *line = l->line;
    *length = (size_t)n;
    return LINE_READ;
}

/* ---- the talk ---- */

static void greet(const struct session *s)
{
    char line[300];
    const struct ckpt_meta *meta = s->parent.meta;
    fprintf(stderr, "%s: %s, step %llu, %s\n%s  (/help)\n", ckpt_path(s->parent.ckpt),
            stage_name((enum stage)meta->stage), (unsigned long long)meta->step,
            config_line(line, sizeof line, &s->parent.config),
            s->raw ? "It continues what you write." : "It answers what you write.");
}

static void talk(struct session *s)
{
    struct lines lines = {.terminal = s->input_tty && s->output_tty};
    enum line_end end;
    const char *line, *argument;
    size_t length;
    open_lines(&lines);
    if (s->input_tty) greet(s);
    for (;;) {
        catch_interrupt(true);
        end = interrupts < 2 ? next_line(&lines, &line, &length) : LINE_INTERRUPTED;
        catch_interrupt(false);
        if (end == LINE_INTERRUPTED && s->input_tty && interrupts < 2) {
            fprintf(stderr, "\n(Ctrl-C again or Ctrl-D: end)\n");
            continue;
        }
        if (end != LINE_READ) break;
        interrupts = 0;
        const struct command *c = length ? find_command(line, &argument) : NULL;
        if (c && !c->run) break;
        if (c) c->run(s, argument);
        else if (length) {
            if (*line == '/') note(s, "no command, so the model reads it: /help lists the commands");
            take_message(s, line, length);
        }
        if (interrupts && !s->input_tty) break;
    }
    if (end == LINE_FAILED && interrupts == 0) quit(EXIT_IO, "the input cannot be read: %s", strerror(errno));
    if (end != LINE_READ && s->input_tty) fputc('\n', stderr);
    free(lines.line);
    free(lines.kept);
}

bool session_talk(struct session *s)
{
    bool answered = true;
    catch_interrupt(false);
    sigaction(SIGPIPE, &(struct sigaction){.sa_handler = SIG_IGN}, NULL);
    begin(s);
    if (s->prompt) answered = take_message(s, s->prompt, strlen(s->prompt));
    else talk(s);
    dialogue_free(&s->dialogue);
    free(s->own_system);
    return answered;
}
