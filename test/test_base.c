/* test_base.c - the small things of base.h, memory.h and rng.h. */
#include "test/test.h"
#include "common/base/base.h"
#include "common/model/memory.h"
#include "common/base/philox.h"
#include "common/base/rng.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void test_errors(void)
{
    struct error e = {0};
    CHECK(fail(&e, EXIT_DATA, "tensor %s: expected %d", "x", 3) == -1);
    CHECK(e.exit_code == EXIT_DATA && strcmp(e.text, "tensor x: expected 3") == 0);
    CHECK(fail_in(&e, "file %s", "a.ckpt") == -1);
    CHECK(strcmp(e.text, "file a.ckpt: tensor x: expected 3") == 0 && e.exit_code == EXIT_DATA);
    char *long_text = host_text("%5000d", 1);
    fail(&e, EXIT_IO, "%s", long_text);
    fail_in(&e, "%s", long_text);
    CHECK(strlen(e.text) == sizeof e.text - 1);
    free(long_text);
    CHECK(fail(NULL, EXIT_IO, "nobody listens") == -1);
}

static void tell(void *self, int exit_code, const char *sentence) { dprintf(*(int *)self, "%d %s", exit_code, sentence); }

/* Who asked is told the code and the sentence before the process ends. */
static void test_quit(void)
{
    int pipe_of[2], status = 0;
    char heard[64] = {0};
    CHECK(pipe(pipe_of) == 0);
    pid_t child = fork();
    if (child == 0) {
        if (!freopen("/dev/null", "w", stderr)) _exit(1);
        program_at_quit(tell, &pipe_of[1]);
        quit(EXIT_DATA, "no %s in %d files", "rows", 3);
    }
    close(pipe_of[1]);
    CHECK(read(pipe_of[0], heard, sizeof heard - 1) > 0 && strcmp(heard, "65 no rows in 3 files") == 0);
    CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == EXIT_DATA);
    close(pipe_of[0]);
}

static void test_sizes(void)
{
    uint64_t r = 7;
    CHECK(size_mul(&r, 1ull << 32, 1ull << 31) && r == 1ull << 63);
    CHECK(!size_mul(&r, 1ull << 32, 1ull << 32));
    CHECK(!size_add(&r, UINT64_MAX, 1));
    CHECK(size_add(&r, UINT64_MAX, 0) && r == UINT64_MAX);
}

static void test_bytes(void)
{
    struct bytes b = {0};
    for (int i = 0; i < 1000; i++) bytes_text(&b, "%d,", i);
    CHECK(b.size == 3890 && b.data[b.size] == 0 && strncmp(b.data, "0,1,2,", 6) == 0);
    bytes_add(&b, "\0x", 2);
    CHECK(b.size == 3892 && b.data[3890] == 0 && b.data[3891] == 'x');
    bytes_free(&b);
    CHECK(b.data == NULL && b.size == 0);
    CHECK(crc32_of(0, "123456789", 9) == 0xCBF43926);
    CHECK(crc32_of(crc32_of(0, "1234", 4), "56789", 5) == 0xCBF43926);
}

static void test_text(void)
{
    char out[64];
    CHECK(utf8_length("a", 1) == 1 && utf8_length("\xc3\xa9", 2) == 2 && utf8_length("\xe7\xba\xa2", 3) == 3);
    CHECK(utf8_length("\xf0\x9f\x98\x80", 4) == 4 && utf8_length("", 0) == 0);
    CHECK(utf8_length("\xc0\xaf", 2) == 0 && utf8_length("\xe0\x80\xaf", 3) == 0 && utf8_length("\xed\xa0\x80", 3) == 0);
    CHECK(utf8_length("\xf4\x90\x80\x80", 4) == 0 && utf8_length("\xf5\x80\x80\x80", 4) == 0 && utf8_length("\xe7\xba", 2) == 0);
    CHECK(utf8_length("\xe1\x41\x80", 3) == 0 && utf8_length("\xe1\x80\x41", 3) == 0 && utf8_length("\xec\xbf\xbf", 3) == 3);
    CHECK(strcmp(text_escape(out, sizeof out, "a\x1b[31mb", 7), "a\\x1b[31mb") == 0);
    CHECK(strcmp(text_escape(out, sizeof out, "\xe2\x80\xae", 3), "\\xe2\\x80\\xae") == 0);
    CHECK(strcmp(text_escape(out, sizeof out, "\xff\xc3\xa9", 3), "\\xff\xc3\xa9") == 0);
    char small[8];
    CHECK(strcmp(text_escape(small, sizeof small, "0123456789", 10), "0123...") == 0);
    CHECK(strcmp(text_count(out, 999), "999") == 0 && strcmp(text_count(out, 1e6), "1.00M") == 0);
    CHECK(strcmp(text_count(out, 123456), "123k") == 0 && strcmp(text_bytes(out, 1536), "1.50 KiB") == 0);
    CHECK(strcmp(text_duration(out, 170000), "47h 13m") == 0 && strcmp(text_duration(out, 950400), "11 days") == 0);
    CHECK(strcmp(text_duration(out, 3725), "1h 02m") == 0 && strcmp(text_duration(out, NAN), "?") == 0);
    CHECK(strcmp(text_real(out, 0.1, 1), "0.1") == 0 && strcmp(text_real(out, 1.0 / 3, 6), "0.3333333333333333") == 0);
    CHECK(strcmp(text_real(out, 100000, 1), "1e+05") == 0 && strcmp(text_real(out, 100000, 6), "100000") == 0);
    char name[128];
    static const char *const path[][2] = {{"runs/rm", "rm"}, {"runs/rm/", "rm"}, {"rm", "rm"}, {"rm//", "rm"}, {"/", ""},
                                          {"", ""}, {"a/\xff", "\\xff"}};
    for (int i = 0; i < 7; i++) CHECK(strcmp(path_name(name, path[i][0]), path[i][1]) == 0);
}

static void test_words(void)
{
    static const char *const word[][2] = {{"runs/a-1.ckpt", "runs/a-1.ckpt"}, {"", "''"}, {"a run", "'a run'"},
                                          {"it's", "'it'\\''s'"}, {"$x", "'$x'"}, {"\xC3\xA9", "'\xC3\xA9'"}};
    for (size_t i = 0; i < sizeof word / sizeof *word; i++) {
        struct bytes b = {0};
        bytes_quoted(&b, word[i][0]);
        CHECK(strcmp(b.data, word[i][1]) == 0);
        bytes_free(&b);
    }
    size_t length;
    CHECK(word_number("a|bc|d", "bc") == 1 && word_number("a|bc|d", "b") == -1 && word_number("a|bc|d", "") == -1);
    CHECK(strcmp(word_at("a|bc|d", 2, &length), "d") == 0 && length == 1 && !word_at("a|bc|d", 3, &length));
    CHECK(path_named("x/rows.jsonl.gz", ".json|.jsonl") && path_named("rows.jsonl", ".jsonl") && !path_named("gz", ".gz"));
    CHECK(text_ends("a.gz", ".txt|.gz") && !text_ends("gz", ".gz"));
    char *folder[] = {path_folder("a/b"), path_folder("/b"), path_folder("b")};
    CHECK(strcmp(folder[0], "a") == 0 && strcmp(folder[1], "/") == 0 && strcmp(folder[2], ".") == 0);
    for (int i = 0; i < 3; i++) free(folder[i]);
}

static void test_files(void)
{
    char folder[] = "/tmp/quartet-base-XXXXXX", path[64];
    struct error e;
    struct bytes b = {0};
    if (!mkdtemp(folder)) { CHECK(false); return; }
    snprintf(path, sizeof path, "%s/file", folder);
    CHECK(file_read(&b, path, 100, &e) == -1 && e.exit_code == EXIT_NOINPUT && strstr(e.text, path));
    CHECK(file_replace(path, "old", 3, &e) == 0 && file_replace(path, "new!", 4, &e) == 0);
    CHECK(file_read(&b, path, 100, &e) == 0 && b.size == 4 && strcmp(b.data, "new!") == 0);
    char link[80];
    struct stat st;
    snprintf(link, sizeof link, "%s/link", folder);
    CHECK(symlink("file", link) == 0 && file_replace(link, "new!", 4, &e) == 0);
    CHECK(lstat(link, &st) == 0 && S_ISLNK(st.st_mode) && unlink(link) == 0);
    CHECK(mkfifo(link, 0600) == 0);                         /* as /dev/stdout may be: it is written to, and stays */
    int fifo = open(link, O_RDWR);
    char got[5] = "";
    CHECK(file_replace(link, "pipe", 4, &e) == 0 && read(fifo, got, 4) == 4 && strcmp(got, "pipe") == 0);
    CHECK(lstat(link, &st) == 0 && S_ISFIFO(st.st_mode) && close(fifo) == 0 && unlink(link) == 0);
    CHECK(file_replace(folder, "x", 1, &e) == -1 && e.exit_code == EXIT_IO && strstr(e.text, "cannot be written"));
    struct bytes c = {0};
    CHECK(file_read(&c, path, 3, &e) == -1 && e.exit_code == EXIT_DATA && c.data == NULL);
    bytes_free(&b);
    CHECK(file_replace("/tmp/quartet-no-such-folder/x", "", 0, &e) == -1 && e.exit_code == EXIT_IO);
    char deep[80];
    snprintf(deep, sizeof deep, "%s/one/two/", folder);
    CHECK(folder_make(deep, &e) == 0 && folder_make(deep, &e) == 0 && rmdir(deep) == 0);
    snprintf(deep, sizeof deep, "%s/one", folder);
    CHECK(rmdir(deep) == 0);
    snprintf(deep, sizeof deep, "%s/three", path);
    CHECK(folder_make(deep, &e) == -1 && e.exit_code == EXIT_IO && strstr(e.text, "cannot be created"));
    unlink(path);
    CHECK(rmdir(folder) == 0);      /* nothing else was left in it */
}

/* The known answers published with the Random123 library. */
static void test_philox(void)
{
    uint32_t out[4];
    philox_block(out, 0, 0, 0, 0, 0, 0);
    CHECK(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c && out[3] == 0x9b00dbd8);
    philox_block(out, ~0u, ~0u, ~0u, ~0u, ~0u, ~0u);
    CHECK(out[0] == 0x408f276d && out[1] == 0x41c83b0e && out[2] == 0xa20bc7c6 && out[3] == 0x6d5451fd);
    philox_block(out, 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0);
    CHECK(out[0] == 0xd16cfe09 && out[1] == 0x94fdcceb && out[2] == 0x5001e420 && out[3] == 0x24126ea1);
}

static void test_streams(void)
{
    struct rng a = rng_at(1, RNG_TEST, 2, 3), b = rng_at(1, RNG_TEST, 2, 3), c = rng_at(1, RNG_TEST, 2, 4);
    int same = 0, same_other = 0;
    double sum = 0, squares = 0, uniform = 0;
    for (int i = 0; i < 1000; i++) {
        uint32_t x = rng_u32(&a);
        same += x == rng_u32(&b);
        same_other += x == rng_u32(&c);
    }
    CHECK(same == 1000 && same_other < 3);
    for (int i = 0; i < 50000; i++) {
        double pair[2];
        rng_normal_pair(&a, pair);
        sum += pair[0] + pair[1];
        squares += pair[0] * pair[0] + pair[1] * pair[1];
        double u = rng_uniform(&a);
        uniform += u;
        if (u < 0 || u >= 1) CHECK(false);
    }
    CHECK(fabs(sum / 1e5) < 0.015 && fabs(squares / 1e5 - 1) < 0.02 && fabs(uniform / 5e4 - 0.5) < 0.006);
    int seen[7] = {0};
    for (int i = 0; i < 70000; i++) seen[rng_below(&a, 7)]++;
    for (int i = 0; i < 7; i++) CHECK(abs(seen[i] - 10000) < 500);
    uint32_t order[100];
    bool there[100] = {false};
    rng_shuffle(order, 100, &a);
    int moved = 0;
    for (uint32_t i = 0; i < 100; i++) { there[order[i]] = true; moved += order[i] != i; }
    for (int i = 0; i < 100; i++) CHECK(there[i]);
    CHECK(moved > 80);
}

static void build(struct memory *m, void **a, void **b, void **c)
{
    *a = memory_take(m, MEMORY_PARAMS, 100, 4);
    size_t mark = memory_mark(m, MEMORY_WORK);
    *b = memory_take(m, MEMORY_WORK, 1000, 8);
    memory_release(m, MEMORY_WORK, mark);
    *c = memory_take(m, MEMORY_WORK, 1, 1);
    memory_release(m, MEMORY_WORK, mark);
}

static void test_memory(void)
{
    struct memory m = {0};
    struct error e;
    void *a, *b, *c;
    build(&m, &a, &b, &c);
    CHECK(!a && !b && !c && memory_bytes(&m, MEMORY_PARAMS) == 448 && memory_bytes(&m, MEMORY_WORK) == 8000);
    CHECK(memory_open(&m, &e) == 0);
    build(&m, &a, &b, &c);
    CHECK(a && b && b == c && ((uintptr_t)a & 63) == 0 && memory_total(&m, SIDE_DEVICE) == 8448);
    memory_seal(&m);
    memory_close(&m);
    struct memory huge = {0};
    memory_take(&huge, MEMORY_ACTS, 1ull << 40, 64);
    CHECK(memory_open(&huge, &e) == -1 && strstr(e.text, "--micro-tokens"));

    struct memory both = {0};                   /* 1 MiB on the device, 3 on the host */
    memory_take(&both, MEMORY_CACHE, 1 << 20, 1);
    memory_take(&both, MEMORY_DATA, 1 << 20, 1);
    memory_take(&both, MEMORY_ROLLOUTS, 1 << 20, 2);
    CHECK(memory_total(&both, SIDE_DEVICE) == 1 << 20 && memory_total(&both, SIDE_HOST) == 3 << 20);
    CHECK(memory_fits_in(&both, 3 << 20, 1 << 20, false, &e) == 0 && memory_fits_in(&both, 4 << 20, 4 << 20, true, &e) == 0);
    CHECK(memory_fits_in(&both, 3 << 20, 1 << 19, false, &e) == -1 && e.exit_code == EXIT_INTERNAL &&
          strstr(e.text, "device memory") && strstr(e.text, "cache") && strstr(e.text, "--slots"));
    CHECK(memory_fits_in(&both, 2 << 20, 1 << 30, false, &e) == -1 && strstr(e.text, "host memory") &&
          strstr(e.text, "rollouts") && strstr(e.text, "--episodes"));
    CHECK(memory_fits_in(&both, 4 << 20, 3 << 20, true, &e) == -1 && strstr(e.text, "4.00 MiB of memory"));
    memory_take(&both, MEMORY_MOMENTS, 2 << 20, 1);
    CHECK(memory_fits_in(&both, 3 << 20, 1 << 20, false, &e) == -1 && strstr(e.text, "moments with 2.00 MiB: --offload moments"));
    CHECK(memory_fits_in(&both, 4 << 20, 1 << 20, true, &e) == -1 && strstr(e.text, "a smaller model"));
    memory_take(&both, MEMORY_OFFLOADED, 4 << 20, 1);
    CHECK(memory_fits_in(&both, 3 << 20, 4 << 20, false, &e) == -1 && strstr(e.text, "host memory") &&
          strstr(e.text, "offloaded with 4.00 MiB"));
}

static size_t most_memory(void)
{
    struct rusage usage;
    getrusage(RUSAGE_SELF, &usage);
    return 1024 * (size_t)usage.ru_maxrss;
}

/* A large array moves into its arena without both taking their memory at once.  In a process of its own, whose peak is
 * not that of the tests before. */
static void test_settle(void)
{
    enum { N = (32 << 20) + 77 };
    pid_t child = fork();
    if (child == 0) {
        struct memory m = {0};
        int *data = host_alloc(N, sizeof *data), *settled = memory_settle(&m, data, N, sizeof *data);
        for (int i = 0; i < N; i++) data[i] = i;
        bool ok = settled == data && memory_open(&m, NULL) == 0;
        size_t before = most_memory();
        settled = memory_settle(&m, data, N, sizeof *data);
        for (int i = 0; i < N; i++) ok &= settled[i] == i;
        ok &= most_memory() < before + N * sizeof *data / 2;
        memory_seal(&m);
        memory_close(&m);
        _exit(ok ? 0 : 1);
    }
    int status;
    CHECK(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static void test_append(void)
{
    int *list = NULL;
    for (size_t n = 0, more; n < 3000; n += more) {
        more = 1 + n % 7;
        list = host_append(list, n, more, sizeof *list);
        for (size_t i = 0; i < more; i++) list[n + i] = (int)(n + i);
        CHECK(list[0] == 0 && list[n] == (int)n && list[n / 2] == (int)(n / 2));
    }
    CHECK(host_append(list, 1025, 1023, sizeof *list) == (void *)list);
    free(list);
}

int main(void)
{
    test_settle();
    test_append();
    test_errors();
    test_quit();
    test_sizes();
    test_bytes();
    test_text();
    test_words();
    test_files();
    test_philox();
    test_streams();
    test_memory();
    return test_end("test_base");
}
