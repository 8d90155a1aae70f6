/* line.h - the lines a person types, or those of a pipe. */
#ifndef QUARTET_LINE_H
#define QUARTET_LINE_H

#include "common/base/base.h"

/* terminal: stdin and stdout are one.  There a prompt is shown and, where libedit was at hand when chat was built, a
 * line can be edited and earlier ones come back with the arrow keys (~/.editrc may change the keys). */
struct lines;
struct lines *lines_open(bool terminal);
void lines_close(struct lines *l);

/* The next line without its end, valid until the next call.  LINE_INTERRUPTED: a signal came first, and what was typed
 * is gone.  LINE_FAILED: errno says why. */
enum line_end { LINE_READ, LINE_END, LINE_INTERRUPTED, LINE_FAILED };
enum line_end lines_next(struct lines *l, const char **line, size_t *length);

#endif
