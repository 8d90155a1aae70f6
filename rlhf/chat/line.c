/* line.c - libedit when it is there and somebody types; getline otherwise.  Earlier lines are kept for as long as the
 * program runs and are not written to a file, because dialogues are private. */
#include "rlhf/chat/line.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef HAVE_LIBEDIT
#include <editline/readline.h>
#include <locale.h>
#endif

struct lines {
    bool terminal, edited;               /* edited: by libedit */
    char *line;
    size_t room;
};

struct lines *lines_open(bool terminal)
{
    struct lines *l = host_alloc(1, sizeof *l);
    l->terminal = terminal;
#ifdef HAVE_LIBEDIT
    const char *kind = getenv("TERM");
    l->edited = terminal && kind && strcmp(kind, "dumb") != 0;
    rl_readline_name = "chat";
    rl_catch_signals = 0;
    if (l->edited) stifle_history(1000);
    if (l->edited && !setlocale(LC_CTYPE, "C.UTF-8")) setlocale(LC_CTYPE, "");      /* text is UTF-8 in any locale */
#endif
    return l;
}

void lines_close(struct lines *l)
{
    free(l->line);
    free(l);
}

/* The length of a line in l->line, or -1. */
static ssize_t read_line(struct lines *l)
{
    errno = 0;
#ifdef HAVE_LIBEDIT
    if (l->edited) {
        free(l->line);
        l->line = readline("> ");
        if (l->line && *l->line) add_history(l->line);
        return l->line ? (ssize_t)strlen(l->line) : -1;
    }
#endif
    if (l->terminal) fputs("> ", stdout), fflush(stdout);
    return getline(&l->line, &l->room, stdin);
}

enum line_end lines_next(struct lines *l, const char **line, size_t *length)
{
    ssize_t n = read_line(l);
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
