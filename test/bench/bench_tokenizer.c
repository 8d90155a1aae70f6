/* bench_tokenizer.c - MB/s of training and of encoding on one core.  Text: the files named on the command line, else
 * the novels of the optional data collection, else a made-up language whose words follow Zipf's law. */
#include "common/base/rng.h"
#include "common/base/threads.h"
#include "common/text/tokenizer.h"
#include "test/test.h"

static bool once(void *self, const char **text, size_t *length)
{
    struct bytes *b = self;
    if (!b->size) return false;
    *text = b->data;
    *length = b->size;
    *b = (struct bytes){0};
    return true;
}

static void make_text(struct bytes *b, size_t size)
{
    enum { WORDS = 30000 };
    static char word[WORDS][12];
    struct rng r = rng_at(1, 1, 0, 0);
    for (int i = 0; i < WORDS; i++)
        for (uint32_t k = 0, n = 1 + rng_u32(&r) % 10; k < n; k++) word[i][k] = "etaoinshrdlucmfw"[rng_u32(&r) % 16];
    while (b->size < size) {
        int i = (int)(pow(WORDS, (double)rng_u32(&r) / 4294967296.0)) - 1;         /* P(word i) is about 1 / i */
        bytes_text(b, "%s%s", word[i], rng_u32(&r) % 12 ? " " : ".\n");
    }
}

static double encode_speed(const struct tokenizer *t, const struct bytes *text, double *bytes_per_token)
{
    double best = 0;
    for (int k = 0; k < 3; k++) {
        struct ids ids = {0};
        double start = seconds_now();
        tokenizer_encode(&ids, t, text->data, text->size);
        best = fmax(best, (double)text->size / 1e6 / (seconds_now() - start));
        *bytes_per_token = (double)text->size / (double)ids.count;
        free(ids.id);
    }
    return best;
}

int main(int argc, char **argv)
{
    static const char *const novels[] = {"data/pretrain-gutenberg/moby_dick_2701.txt",
                                         "data/pretrain-gutenberg/pride_prejudice_1342.txt",
                                         "data/pretrain-tinystories/tinystories_944k.txt"};
    struct bytes text = {0};
    struct error error;
    char path[400];
    for (int i = 1; i < argc; i++) {
        struct bytes file = {0};
        if (file_read(&file, argv[i], (size_t)1 << 32, &error)) quit_error(&error);
        bytes_add(&text, file.data, file.size);
        bytes_free(&file);
    }
    for (size_t i = 0; argc < 2 && i < sizeof novels / sizeof *novels; i++) {
        struct bytes file = {0};
        if (!test_shared(path, sizeof path, novels[i]) || file_read(&file, path, 64 << 20, &error)) continue;
        bytes_add(&text, file.data, file.size);
        bytes_free(&file);
    }
    if (!text.size) make_text(&text, 3 << 20);
    threads_start(0);
    printf("tokenizer: %.1f MB of text, %d threads\n", (double)text.size / 1e6, threads_count());
    static const enum pattern patterns[] = {PATTERN_GPT2, PATTERN_QWEN2};
    for (int i = 0; i < 2; i++) {
        for (int vocab = 4096; vocab <= 32768; vocab *= 8) {
            struct tokenizer *t;
            struct tokenizer_training how = {.vocab = vocab, .pattern = patterns[i]};
            struct bytes whole = text;
            double start = seconds_now(), bytes_per_token;
            if (tokenizer_train(&t, once, &whole, &how, &error)) quit_error(&error);
            double seconds = seconds_now() - start, encode = encode_speed(t, &text, &bytes_per_token);
            printf("%-7s %6d tokens  train %6.1f MB/s (%.2f s)  encode %5.1f MB/s a core  %.2f bytes a token\n",
                   pattern_name(patterns[i]), vocab, (double)text.size / 1e6 / seconds, seconds, encode,
                   bytes_per_token);
            tokenizer_free(t);
        }
    }
    bytes_free(&text);
    threads_stop();
    return 0;
}
