/* test_kv.c - key-values: what goes in comes out, in order; and every byte of an encoding matters. */
#include "format/kv.h"
#include "format/layout.h"
#include "test/test.h"

static void fill(struct kv *kv)
{
    int64_t i[] = {INT64_MIN, -1, 0, INT64_MAX};
    uint64_t u[] = {0, UINT64_MAX};
    double f[] = {-0.0, 1e308, 5e-324};
    char *texts[] = {"", "a", "\xC3\xA9t\xC3\xA9", "longer than eight"};
    kv_set_text(kv, "z.text", "caf\xC3\xA9");
    kv_set_bool(kv, "b", true);
    kv_set_i64(kv, "i", -5);
    kv_set_u64(kv, "u", UINT64_MAX);
    kv_set_f64(kv, "f", 0.1);
    kv_set_bytes(kv, "bytes", "\0\1\2", 3);
    kv_set_i64s(kv, "is", i, 4);
    kv_set_u64s(kv, "us", u, 2);
    kv_set_f64s(kv, "fs", f, 3);
    kv_set_texts(kv, "ts", texts, 4);
    kv_set_texts(kv, "ts0", NULL, 0);
    kv_set_text(kv, "empty", "");
}

static void check_values(const struct kv *kv)
{
    bool b = false;
    int64_t i;
    uint64_t u;
    double f;
    const char *text;
    const void *bytes;
    size_t n;
    const int64_t *is;
    const uint64_t *us;
    const double *fs;
    char **ts;
    CHECK(kv_get_bool(kv, "b", &b) == 1 && b);
    CHECK(kv_get_i64(kv, "i", &i) == 1 && i == -5);
    CHECK(kv_get_u64(kv, "u", &u) == 1 && u == UINT64_MAX);
    CHECK(kv_get_f64(kv, "f", &f) == 1 && f == 0.1);
    CHECK(kv_get_text(kv, "z.text", &text) == 1 && strcmp(text, "caf\xC3\xA9") == 0);
    CHECK(kv_get_text(kv, "empty", &text) == 1 && strcmp(text, "") == 0);
    CHECK(kv_get_array(kv, "bytes", KV_BYTES, &bytes, &n) == 1 && n == 3 && memcmp(bytes, "\0\1\2", 3) == 0);
    CHECK(kv_get_array(kv, "is", KV_I64S, &is, &n) == 1 && n == 4 && is[0] == INT64_MIN && is[3] == INT64_MAX);
    CHECK(kv_get_array(kv, "us", KV_U64S, &us, &n) == 1 && n == 2 && us[1] == UINT64_MAX);
    CHECK(kv_get_array(kv, "fs", KV_F64S, &fs, &n) == 1 && n == 3 && signbit(fs[0]) &&
          fs[1] == 1e308 && fs[2] == 5e-324);
    CHECK(kv_get_array(kv, "ts", KV_TEXTS, &ts, &n) == 1 && n == 4);
    CHECK(strcmp(ts[0], "") == 0 && strcmp(ts[3], "longer than eight") == 0);
    CHECK(kv_get_array(kv, "ts0", KV_TEXTS, &ts, &n) == 1 && n == 0);
}

static void test_getters(void)
{
    struct kv kv = {0};
    uint64_t u = 7;
    const char *text = "untouched";
    fill(&kv);
    check_values(&kv);
    CHECK(kv.count == 12);
    for (size_t i = 1; i < kv.count; i++) CHECK(strcmp(kv.entry[i - 1].key, kv.entry[i].key) < 0);
    CHECK(kv_get_u64(&kv, "nothing", &u) == 0 && u == 7);
    CHECK(kv_get_u64(&kv, "i", &u) == -1 && u == 7);           /* never a cast */
    CHECK(kv_get_text(&kv, "bytes", &text) == -1 && strcmp(text, "untouched") == 0);
    kv_set_u64(&kv, "i", 9);                                    /* again, and of another type */
    CHECK(kv.count == 12 && kv_get_u64(&kv, "i", &u) == 1 && u == 9);
    kv_free(&kv);
    CHECK(kv.count == 0 && kv.entry == NULL);
    CHECK(!kv_find(&kv, "i"));
}

static void test_bytes(void)
{
    struct kv kv = {0}, copy = {0}, back = {0};
    struct bytes one = {0}, two = {0};
    struct error error;
    fill(&kv);
    kv_copy(&copy, &kv);
    check_values(&copy);
    kv_encode(&one, &kv);
    CHECK(kv_decode(&back, one.data, one.size, &error) == 0);
    check_values(&back);
    kv_encode(&two, &back);
    CHECK(one.size == two.size && memcmp(one.data, two.data, one.size) == 0);
    for (size_t cut = 0; cut < one.size; cut++) CHECK(kv_decode(&back, one.data, cut, &error) == -1);
    bytes_add(&two, "", 1);
    CHECK(kv_decode(&back, two.data, two.size, &error) == -1 && strstr(error.text, "[K13]"));
    check_values(&back);                                        /* a refusal leaves what was there */
    bytes_free(&one);
    bytes_free(&two);
    kv_free(&kv);
    kv_free(&copy);
    kv_free(&back);
}

/* Any changed bit gives a refusal or another content: no bit is without meaning. */
static void test_every_bit(void)
{
    struct kv kv = {0}, back = {0};
    struct bytes b = {0};
    size_t refused = 0, other = 0, same = 0;
    fill(&kv);
    kv_encode(&b, &kv);
    for (size_t bit = 0; bit < 8 * b.size; bit++) {
        struct bytes again = {0};
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        if (kv_decode(&back, b.data, b.size, NULL) != 0) refused++;
        else {
            kv_encode(&again, &back);
            if (again.size == b.size && memcmp(again.data, b.data, b.size) == 0) other++;
            else same++;
        }
        b.data[bit / 8] ^= (char)(1 << bit % 8);
        bytes_free(&again);
    }
    CHECK(same == 0 && refused > other && other > 0);
    bytes_free(&b);
    kv_free(&kv);
    kv_free(&back);
}

/* A worked example, byte for byte: {"a": true, "b1": "hi"}. */
static void test_worked_bytes(void)
{
    static const char want[] =
        "\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
        "\1\0\1\0\10\0\0\0" "a\0\0\0\0\0\0\0" "\1\0\0\0\0\0\0\0"
        "\5\0\2\0\2\0\0\0" "b1\0\0\0\0\0\0" "hi\0\0\0\0\0\0";
    struct kv kv = {0};
    struct bytes b = {0};
    kv_set_text(&kv, "b1", "hi");
    kv_set_bool(&kv, "a", true);
    kv_encode(&b, &kv);
    CHECK(b.size == sizeof want - 1 && memcmp(b.data, want, b.size) == 0);
    bytes_free(&b);
    kv_free(&kv);
}

int main(void)
{
    test_getters();
    test_bytes();
    test_every_bit();
    test_worked_bytes();
    return test_end("test_kv");
}
