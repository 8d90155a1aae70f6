/* words.h - for tests of data: a byte tokenizer, files in a folder of their own, and rows made of words. */
#ifndef QUARTET_TEST_WORDS_H
#define QUARTET_TEST_WORDS_H

#include "common/data/dataset.h"
#include "common/text/chat.h"
#include "test/test.h"

#include <sys/stat.h>
#include <zlib.h>

static bool words_once(void *self, const char **text, size_t *length)
{
    bool *done = self;
    if (*done) return false;
    *done = true;
    *text = "aa aa aa bb bb";
    *length = strlen(*text);
    return true;
}

/* Every byte is a token, a few pairs too; <|endoftext|> is the only special token. */
__attribute__((unused))
static struct tokenizer *words_tokenizer(void)
{
    static const char *const special[] = {"<|endoftext|>"};
    struct tokenizer_training how = {.vocab = 260, .pattern = PATTERN_GPT2, .special = special, .n_special = 1};
    struct tokenizer *t = NULL;
    struct error error;
    bool done = false;
    if (tokenizer_train(&t, words_once, &done, &how, &error)) die("%s", error.text);
    return t;
}

/* Writes text to a file in the temporary folder of this process and returns its path; words_clean removes the folder. */
__attribute__((unused))
static char *words_file(const char *name, const char *text, size_t size)
{
    struct error error;
    char *path = host_text("/tmp/quartet-words-%ld/%s", (long)getpid(), name),
         *folder = host_text("/tmp/quartet-words-%ld", (long)getpid());
    mkdir(folder, 0700);
    if (file_replace(path, text, size, &error) != 0) die("%s", error.text);
    free(folder);
    return path;
}

__attribute__((unused))
static void words_gzip(const char *path, const char *text, size_t size)
{
    gzFile file = gzopen(path, "wb");
    if (!file || gzwrite(file, text, (unsigned)size) != (int)size || gzclose(file) != Z_OK) die("%s: cannot write", path);
}

/* Whether a "question N", N below 500, is among both. */
__attribute__((unused))
static bool words_overlap(const struct tokenizer *t, const struct sequences *a, const struct sequences *b)
{
    bool held[500] = {0}, overlap = false;
    for (int second = 0; second < 2; second++) {
        const struct sequences *s = second ? b : a;
        for (uint32_t i = 0; i < s->count; i++) {
            struct bytes text = {0};
            tokenizer_decode(&text, t, s->id + s->start[i], s->length[i]);
            int q = atoi(strstr(text.data, "question ") + 9);
            if (second) overlap = overlap || held[q];
            else held[q] = true;
            bytes_free(&text);
        }
    }
    return overlap;
}

__attribute__((unused))
static void words_clean(void)
{
    char *command = host_text("rm -rf /tmp/quartet-words-%ld", (long)getpid());
    if (system(command) != 0) die("%s failed", command);
    free(command);
}

#endif
