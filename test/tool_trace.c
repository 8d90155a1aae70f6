/* trace FILE: checks that it is what --trace writes, and says how often each rank has each span: "forward 0 24". */
#include "common/base/base.h"

#include <jansson.h>
#include <string.h>

enum { SPANS = 64, RANKS = 8, DEPTH = 16 };
struct row { const char *name; int rank, count; };

static double number(const json_t *e, const char *key)
{
    const json_t *x = json_object_get(e, key);
    if (!json_is_number(x)) die("an event without %s", key);
    return json_number_value(x);
}

/* Spans of a row lie within each other or apart: those that end later come later, and may only hold whole ones. */
static void nest(double ends[RANKS][2][SPANS * 64], int *n, int rank, int thread, double from, double to)
{
    double *end = ends[rank][thread];
    int *count = &n[2 * rank + thread];
    while (*count > 1 && end[*count - 2] >= from - 0.002) *count -= 2;
    if (*count > 0 && end[*count - 1] > from + 0.002) die("spans of rank %d cross", rank);
    if (*count + 2 > SPANS * 64) *count = 0;
    end[(*count)++] = from;
    end[(*count)++] = to;
}

int main(int argc, char **argv)
{
    static double ends[RANKS][2][SPANS * 64];
    static struct row row[SPANS * RANKS];
    int rows = 0, n[2 * RANKS] = {0};
    json_error_t why;
    if (argc != 2) die("usage: tool_trace FILE");
    json_t *all = json_load_file(argv[1], 0, &why), *e;
    if (!json_is_array(all)) die("%s:%d: %s", argv[1], why.line, why.text);
    size_t i;
    json_array_foreach(all, i, e) {
        const char *name = json_string_value(json_object_get(e, "name"));
        const char *kind = json_string_value(json_object_get(e, "ph"));
        int rank = (int)number(e, "pid"), thread = (int)number(e, "tid"), k = 0;
        if (!name || !kind || rank < 0 || rank >= RANKS || thread < 0 || thread > 1) die("event %zu makes no sense", i);
        if (strcmp(kind, "M") == 0) continue;
        double from = number(e, "ts"), length = number(e, "dur");
        if (strcmp(kind, "X") != 0 || from < 0 || length < 0) die("event %zu makes no sense", i);
        nest(ends, n, rank, thread, from, from + length);
        if (strncmp(name, "step ", 5) == 0) name = "step";
        while (k < rows && (strcmp(row[k].name, name) != 0 || row[k].rank != rank)) k++;
        if (k == SPANS * RANKS) die("too many names");
        if (k == rows) row[rows++] = (struct row){name, rank, 0};
        row[k].count++;
    }
    for (int k = 0; k < rows; k++) printf("%s %d %d\n", row[k].name, row[k].rank, row[k].count);
    json_decref(all);
    return 0;
}
