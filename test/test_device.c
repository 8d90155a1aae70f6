/* test_device.c - copies between host and device, of all sizes, many under way at once, each in its place and in the order
 * of the calls.  The simulator does what is asked for as late as it may. */
#include "common/base/base.h"
#include "common/base/threads.h"
#include "common/model/device.h"
#include "common/model/ops.h"
#include "test/test.h"

enum { COPIES = 40, LARGE = (5 << 20) + 12 };

static void fill_bytes(unsigned char *p, size_t n, unsigned seed)
{
    for (size_t i = 0; i < n; i++) p[i] = (unsigned char)((i * 31 + seed * 7 + (i >> 12)) & 0xFF);
}

/* Many small puts and gets, and only then a wait. */
static void check_many(void)
{
    size_t n[COPIES];
    unsigned char *host[COPIES], *back[COPIES], *device[COPIES];
    for (int i = 0; i < COPIES; i++) {
        n[i] = (size_t)(i * i * 37 % 5000 + 4);
        host[i] = host_alloc(n[i], 1);
        back[i] = host_alloc(n[i], 1);
        device[i] = device_alloc(n[i]);
        fill_bytes(host[i], n[i], (unsigned)i);
        device_put(device[i], host[i], n[i]);
    }
    for (int i = 0; i < COPIES; i++) device_get(back[i], device[i], n[i]);
    device_wait();
    for (int i = 0; i < COPIES; i++) {
        CHECK(memcmp(host[i], back[i], n[i]) == 0);
        free(host[i]); free(back[i]);
        device_free(device[i], n[i]);
    }
}

/* Larger than any staging memory: there, on the device to another place, and back. */
static void check_large(void)
{
    unsigned char *host = host_alloc(LARGE, 1), *back = host_alloc(LARGE, 1), *a = device_alloc(LARGE), *b = device_alloc(LARGE);
    fill_bytes(host, LARGE, 5);
    device_put(a, host, LARGE);
    device_copy(b, a, LARGE);
    device_clear(a, LARGE);
    device_get(back, b, LARGE);
    device_wait();
    CHECK(memcmp(host, back, LARGE) == 0);
    device_get(back, a, LARGE);
    device_wait();
    bool clear = true;
    for (size_t i = 0; i < LARGE; i++) clear &= back[i] == 0;
    CHECK(clear);
    free(host); free(back);
    device_free(a, LARGE);
    device_free(b, LARGE);
}

/* A get between two operations has the number that was there then. */
static void check_order(void)
{
    float *x = device_alloc(3 * sizeof *x), back[COPIES], three[3];
    for (int i = 0; i < COPIES; i++) {
        fill(x, (float)i, 3);
        device_get(&back[i], x + 1, sizeof *x);
    }
    device_get(three, x, sizeof three);
    fill(x, -1, 3);
    device_wait();
    for (int i = 0; i < COPIES; i++) CHECK(back[i] == (float)i);
    CHECK(three[0] == COPIES - 1 && three[2] == COPIES - 1);
    device_free(x, 3 * sizeof *x);
}

int main(void)
{
    setenv("CUDASIM_STREAMS", "lazy", 0);
    threads_start(2);
    check_many();
    check_large();
    check_order();
    threads_stop();
    return test_end("test_device");
}
