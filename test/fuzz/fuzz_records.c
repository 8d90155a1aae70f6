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
    struct document_rules rules = {"text", "---", true};
    struct documents *d;
    struct part part;
    struct error error;
    bool inside = false;
    documents_open(&d, &rules);
    documents_over(d, (char *[]){(char *)path}, 1, 1, 0);
    while (documents_next(d, &part, &error) == 1) {
        if (part.first == inside || part.length == 0 || part.length > PART_LIMIT) abort();
        for (size_t i = 0; i < part.length;) {
            int n = utf8_length(part.text + i, part.length - i);
            if (n == 0 || part.text[i] == '\r') abort();
            i += (size_t)n;
        }
        inside = !part.last;
    }
    documents_close(d);
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
