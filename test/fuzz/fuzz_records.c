/* fuzz_records.c - libFuzzer target: any bytes as a file of rows and as a file of documents, strict, lenient and repaired.  What is
 * handed out must be valid, whole and in pieces of bounded size; nothing may crash or hang. */
#include "common/data/documents.h"
#include "common/data/records.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void write_whole(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    if (!file || fwrite(data, 1, size, file) != size || fclose(file) != 0) abort();
}

static void read_rows(const char *path, bool lenient, bool repair)
{
    struct text_counts counts = {0};
    struct records *r;
    struct error error = {0};
    json_t *row;
    const char *where;
    int got;
    if (records_open(&r, path, lenient, NULL, repair ? &counts : NULL, &error) == 0) {
        while ((got = records_next(r, &row, &where, &error)) == 1)
            if (!row || !where || strncmp(where, path, strlen(path)) != 0) abort();
        records_close(r);
    } else {
        got = -1;
    }
    if (got < 0 && (error.exit_code != EXIT_DATA || !strstr(error.text, path))) abort();
}

static void read_documents(const char *path)
{
    struct document_rules rules = {"text", "---"};
    struct pieces *p;
    struct piece piece;
    struct error error;
    bool inside = false;
    pieces_open(&p, &rules);
    if (pieces_file(p, path, &error) == 0)
        while (pieces_next(p, &piece, &error) == 1) {
            if (piece.first == inside || piece.length == 0 || piece.length > PIECE_LIMIT) abort();
            for (size_t i = 0; i < piece.length;) {
                int n = utf8_length(piece.text + i, piece.length - i);
                if (n == 0 || piece.text[i] == '\r') abort();
                i += (size_t)n;
            }
            inside = !piece.last;
        }
    pieces_close(p);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static char text[64], rows[64];
    if (!*text) {
        snprintf(text, sizeof text, "/tmp/fuzz_records_%ld.txt", (long)getpid());
        snprintf(rows, sizeof rows, "/tmp/fuzz_records_%ld.jsonl", (long)getpid());
    }
    write_whole(text, data, size);
    write_whole(rows, data, size);
    read_rows(rows, false, false);
    read_rows(rows, true, false);
    read_rows(rows, false, true);
    read_documents(text);
    read_documents(rows);
    unlink(text);
    unlink(rows);
    return 0;
}
