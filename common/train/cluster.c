/* cluster.c - machines in words: a table of known devices, and a text that takes one from it or describes one.  Rates
 * are what programs reach, not what makers promise: about 0.8 of it. */
#include "common/train/cluster.h"
#include "common/model/device.h"
#include "common/model/ops.h"

#include <math.h>

static const struct number_bytes device_bytes = {2, 4, 12, 2, 2};       /* bfloat16, with float32 masters */
static const struct number_bytes cpu_bytes = {8, 4, 8, 4, 4};           /* float32, and its packed form */

/* Source of the rates of a100-80 and h100, and of the shares: fitted to published steps, test/test_cluster.c. */
static const struct cluster known[] = {
    {"a100-40", .flops = 312e12, .memory = 40e9, .hbm = 1.25e12, .nvlink = 230e9, .network = 20e9, .share = 0.82,
     .half = 128, .launch = 4e-6, .units = 108},
    {"a100-80", .flops = 312e12, .memory = 80e9, .hbm = 1.6e12, .nvlink = 230e9, .network = 20e9, .share = 0.82,
     .half = 128, .launch = 4e-6, .units = 108},
    {"h100", .flops = 989e12, .memory = 80e9, .hbm = 2.8e12, .nvlink = 360e9, .network = 42e9, .share = 0.6,
     .half = 256, .launch = 3e-6, .units = 132},
    {"h200", .flops = 989e12, .memory = 141e9, .hbm = 4.0e12, .nvlink = 360e9, .network = 42e9, .share = 0.6,
     .half = 256, .launch = 3e-6, .units = 132},
};
enum { KNOWN = sizeof known / sizeof *known };

/* ---- numbers with units ---- */

enum quantity { PLAIN, FLOPS, BYTES, RATE, TIME };

struct key { const char *name; enum quantity quantity; size_t at; double min, max; };
#define AT(field) offsetof(struct cluster, field)
static const struct key key[] = {
    {"peak", FLOPS, AT(flops), 1e6, 1e18},        {"memory", BYTES, AT(memory), 1e6, 1e15},
    {"hbm", RATE, AT(hbm), 1e6, 1e15},            {"nvlink", RATE, AT(nvlink), 1e3, 1e15},
    {"network", RATE, AT(network), 1e3, 1e15},    {"share", PLAIN, AT(share), 0.01, 1},
    {"half", PLAIN, AT(half), 0, 1e6},            {"launch", TIME, AT(launch), 0, 1},
    {"units", PLAIN, AT(units), 0, 1e6},          {"overlap", PLAIN, AT(overlap), 0, 1},
    {"tensor-overlap", PLAIN, AT(tensor_overlap), 0, 1},
    {"reserve", BYTES, AT(reserve), 0, 1e15},     {"storage", RATE, AT(storage), 1e3, 1e15},
    {"restart", TIME, AT(restart), 0, 1e7},       {"failure", TIME, AT(failure), 1, 1e15},
};
enum { KEYS = sizeof key / sizeof *key };

struct unit { const char *name; double factor; };
static const struct unit times[] = {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400},
                                    {NULL, 0}};
static const struct unit thousands[] = {{"", 1}, {"k", 1e3}, {"M", 1e6}, {"G", 1e9}, {"T", 1e12}, {"P", 1e15},
                                        {NULL, 0}};
static const struct { const char *end, *example; } quantities[] = {
    {"", "a number"}, {"F", "as 312TF"}, {"B", "as 80GB"}, {"B/s", "as 50GB/s"}, {"", "as 200us, 30m or 50000h"}};

/* The factor of what stands behind a number; 0 where it is not of this quantity. */
static double factor_of(const char *text, enum quantity quantity)
{
    size_t n = strlen(text), end = strlen(quantities[quantity].end);
    if (n < end || strcmp(text + n - end, quantities[quantity].end) != 0) return 0;
    for (const struct unit *u = quantity == TIME ? times : thousands; u->name; u++)
        if (strlen(u->name) == n - end && strncmp(u->name, text, n - end) == 0) return u->factor;
    return 0;
}

static int set_key(struct cluster *c, const struct key *k, const char *text, struct error *error)
{
    char *end, unit[40];
    double x = strtod(text, &end);
    const char *word = end;
    bool per_host = false;
    snprintf(unit, sizeof unit, "%s", word + strspn(word, " "));
    char *behind = strstr(unit, " per host");
    if (behind && k->quantity == RATE && strcmp(behind, " per host") == 0) {
        *behind = 0;
        per_host = true;
    }
    x *= factor_of(unit, k->quantity) / (per_host ? (double)c->host : 1);
    if (end == text || !(factor_of(unit, k->quantity) > 0))
        return fail(error, EXIT_USAGE, "--cluster: %s '%s' (expected %s%s)", k->name, text_shown(text).text,
                    quantities[k->quantity].example,
                    k->quantity == RATE ? ", of one device, or with 'per host' behind it" : "");
    if (!(x >= k->min && x <= k->max))
        return fail(error, EXIT_USAGE, "--cluster: %s %s is out of range (expected %g to %g)", k->name,
                    text_shown(text).text, k->min, k->max);
    *(double *)(void *)((char *)c + k->at) = x;
    return 0;
}

/* ---- the text ---- */

/* This process's own device: what it reaches in products that do not leave the registers, and in copying. */
static void measure_here(struct cluster *c)
{
    enum { BYTES_COPIED = 128 << 20, TRIES = 5 };
    char *a = device_alloc(BYTES_COPIED), *b = device_alloc(BYTES_COPIED);
    double best = 0;
    for (int i = 0; i < TRIES; i++) {
        double start = seconds_now();
        device_copy(b, a, BYTES_COPIED);
        device_wait();
        best = fmax(best, 2.0 * BYTES_COPIED / (seconds_now() - start));
    }
    device_free(a, BYTES_COPIED);
    device_free(b, BYTES_COPIED);
    *c = (struct cluster){.name = "here", .measured = true, .host = 1, .flops = device_peak_flops(), .hbm = best,
                          .memory = (double)device_memory_available(), .nvlink = 1e9, .network = 1e9, .share = 0.6,
                          .bytes = device_shares_host() ? cpu_bytes : device_bytes};
}

static int choose_device(struct cluster *c, const char *name, struct error *error)
{
    scoped_bytes struct bytes names = {0};
    if (strcmp(name, "here") == 0) {
        measure_here(c);
        return 0;
    }
    for (int i = 0; i < KNOWN; i++) {
        if (strcmp(known[i].name, name) == 0) {
            *c = known[i];
            return 0;
        }
        bytes_text(&names, "%s, ", known[i].name);
    }
    fail(error, EXIT_USAGE, "--cluster: '%s' is no known device (expected %shere, or one in numbers: \"peak 312TF, "
         "memory 80GB, hbm 1.6TB/s, nvlink 230GB/s, network 20GB/s x 1024\")", text_shown(name).text, names.data);
    return -1;
}

/* Cuts " x 384" off an item: the number, 0 where there is none, -1 where it is none. */
static int64_t cut_count(char *item)
{
    char *x = strstr(item, " x ");
    if (!x) return 0;
    char *end;
    long long n = strtoll(x + 3, &end, 10);
    end += strspn(end, " ");
    *x = 0;
    return *end || n < 1 || n > 1 << 24 ? -1 : n;
}

enum { MOST_ITEMS = 32 };

/* Items between commas, without blanks around them; returns their number, or -1 for too many. */
static int cut_items(char *item[MOST_ITEMS], char *text)
{
    int n = 0;
    for (char *rest, *p = strtok_r(text, ",", &rest); p; p = strtok_r(NULL, ",", &rest)) {
        if (n == MOST_ITEMS) return -1;
        item[n] = p + strspn(p, " ");
        for (char *end = p + strlen(p); end > item[n] && end[-1] == ' ';) *--end = 0;
        n++;
    }
    return n;
}

static const struct key *key_of(const char *item)
{
    for (int i = 0; i < KEYS; i++) {
        size_t n = strlen(key[i].name);
        if (strncmp(item, key[i].name, n) == 0 && item[n] == ' ') return &key[i];
    }
    return NULL;
}

/* The device is read first, wherever it stands: the other items change the values it has in the table. */
static int read_items(struct cluster *c, char **item, int n, struct error *error)
{
    bool named = false;
    int64_t devices = 0, host = 0;
    for (int i = 0; i < n; i++) {
        int64_t count = cut_count(item[i]);
        if (count < 0 || (count > 0 && devices > 0))
            return fail(error, EXIT_USAGE, "--cluster: expected the number of devices once, as in \"a100-80 x 384\"");
        if (count > 0) devices = count;
        if (strncmp(item[i], "host ", 5) == 0) {
            host = atoll(item[i] + 5);
            if (host < 1 || host > 4096)
                return fail(error, EXIT_USAGE, "--cluster: '%s' (expected devices in a host, as in \"host 8\")",
                            text_shown(item[i]).text);
            item[i] += strlen(item[i]);
        } else if (*item[i] && !key_of(item[i])) {
            if (named)
                return fail(error, EXIT_USAGE, "--cluster: '%s' is a second device, or no number that can be given",
                            text_shown(item[i]).text);
            if (choose_device(c, item[i], error) != 0) return -1;
            named = true;
        }
    }
    if (devices == 0) return fail(error, EXIT_USAGE, "--cluster: how many devices? (as in \"a100-80 x 384\")");
    if (!named) *c = (struct cluster){.name = "device", .share = 0.7, .half = 128, .launch = 4e-6};
    c->devices = devices;
    if (!c->measured) c->bytes = device_bytes;
    if (host || !c->host) c->host = host ? host : 8;
    c->reserve = c->measured ? 0 : 6e9;
    c->restart = 1800;
    c->failure = 50000 * 3600.0;
    c->storage = 1e9 * ceil((double)devices / (double)c->host);
    for (int i = 0; i < n; i++) {
        const struct key *k = key_of(item[i]);
        const char *value = k ? item[i] + strlen(k->name) : NULL;
        if (k && set_key(c, k, value + strspn(value, " "), error) != 0) return -1;
    }
    return 0;
}

int cluster_read(struct cluster *c, const char *text, struct error *error)
{
    char *item[MOST_ITEMS];
    scoped char *copy = host_text("%s", text);
    *c = (struct cluster){0};
    int n = cut_items(item, copy);
    if (n < 0) return fail(error, EXIT_USAGE, "--cluster: more than %d items", MOST_ITEMS);
    if (read_items(c, item, n, error) != 0) return -1;
    if (!(c->nvlink > 0)) c->nvlink = c->network;
    if (!(c->network > 0)) c->network = c->nvlink;
    if (c->flops > 0 && c->memory > 0 && c->hbm > 0 && c->network > 0) return 0;
    return fail(error, EXIT_USAGE, "--cluster: a device in numbers needs peak, memory, hbm, and nvlink or network");
}

static void print_quantity(struct bytes *out, double x, enum quantity quantity)
{
    const struct unit *u = quantity == TIME ? times : thousands;
    while (quantity != PLAIN && u[1].name && x >= u[1].factor && u[1].factor != 86400) u++;
    bytes_text(out, quantity == TIME ? "%.6g%s%s" : "%.4g%s%s", x / u->factor, u->name, quantities[quantity].end);
}

void cluster_print(struct bytes *out, const struct cluster *c)
{
    bytes_text(out, "%s x %lld, host %lld", c->name, (long long)c->devices, (long long)c->host);
    for (int i = 0; i < KEYS; i++) {
        bytes_text(out, ", %s ", key[i].name);
        print_quantity(out, *(const double *)(const void *)((const char *)c + key[i].at), key[i].quantity);
    }
}
