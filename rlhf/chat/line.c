/* line.c - libedit when it is there and somebody types; getline otherwise.  Earlier lines are kept for as long as the
 * program runs and are not written to a file, because dialogues are private. */
#include "rlhf/chat/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBEDIT
#include <histedit.h>
#include <locale.h>
#endif

struct lines {
    bool terminal;
    char *line;
    size_t room;
#ifdef HAVE_LIBEDIT
    EditLine *edit;          /* NULL: plain reading */
    History *history;
#endif
};

#ifdef HAVE_LIBEDIT
static char *prompt(EditLine *edit)
{
    static char text[] = "> ";
    (void)edit;
    return text;
}

static void edit_open(struct lines *l)
{
    const char *kind = getenv("TERM");
    HistEvent event;
    if (!kind || strcmp(kind, "dumb") == 0) return;
    if (!setlocale(LC_CTYPE, "C.UTF-8")) setlocale(LC_CTYPE, "");        /* text is UTF-8, whatever the locale */
    if (!(l->edit = el_init("chat", stdin, stdout, stderr))) return;
    l->history = history_init();
    history(l->history, &event, H_SETSIZE, 1000);
    history(l->history, &event, H_SETUNIQUE, 1);
    el_set(l->edit, EL_PROMPT, prompt);
    el_set(l->edit, EL_EDITOR, "emacs");
    el_set(l->edit, EL_HIST, history, l->history);
    el_set(l->edit, EL_BIND, "^R", "em-inc-search-prev", NULL);
    el_source(l->edit, NULL);
}

static enum line_end edit_next(struct lines *l, const char **line, size_t *length)
{
    HistEvent event;
    int n = 0;
    const char *text = el_gets(l->edit, &n);
    if (!text) return n == 0 ? LINE_END : errno == EINTR ? LINE_INTERRUPTED : LINE_FAILED;
    while (n > 0 && (text[n - 1] == '\n' || text[n - 1] == '\r')) n--;
    if ((size_t)n + 1 > l->room) l->line = host_grow(l->line, l->room = (size_t)n + 1, 1);
    memcpy(l->line, text, (size_t)n);
    l->line[n] = 0;
    if (n > 0) history(l->history, &event, H_ENTER, l->line);
    *line = l->line;
    *length = (size_t)n;
    return LINE_READ;
}
#endif

struct lines *lines_open(bool terminal)
{
    struct lines *l = host_alloc(1, sizeof *l);
    l->terminal = terminal;
#ifdef HAVE_LIBEDIT
    if (terminal) edit_open(l);
#endif
    return l;
}

void lines_close(struct lines *l)
{
#ifdef HAVE_LIBEDIT
    if (l->edit) el_end(l->edit);
    if (l->history) history_end(l->history);
#endif
    free(l->line);
    free(l);
}

enum line_end lines_next(struct lines *l, const char **line, size_t *length)
{
#ifdef HAVE_LIBEDIT
    if (l->edit) return edit_next(l, line, length);
#endif
    if (l->terminal) fputs("> ", stdout), fflush(stdout);
    errno = 0;
    ssize_t n = getline(&l->line, &l->room, stdin);
    if (n < 0 && errno == EINTR) {
        clearerr(stdin);
        return LINE_INTERRUPTED;
    }
    if (n < 0) return ferror(stdin) ? LINE_FAILED : LINE_END;
    while (n > 0 && (l->line[n - 1] == '\n' || l->line[n - 1] == '\r')) l->line[--n] = 0;
    *line = l->line;
    *length = (size_t)n;
    return LINE_READ;
}
