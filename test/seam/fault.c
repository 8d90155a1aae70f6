/* fault.c NAME - one planted fault each, for check_seam.sh: the checking build must stop all but "none". */
#include "common/model/device.h"
#include "common/model/ops.h"
#include "common/base/threads.h"

#include <stdio.h>
#include <string.h>

enum { N = 1000 };

static void read_there(void *context, int i, int thread)
{
    (void)thread;
    if (((volatile float *)context)[i] > 0) return;
}

int main(int argc, char **argv)
{
    const char *fault = argc > 1 ? argv[1] : "none";
    float host[N], back[N];
    float *x = device_alloc(sizeof host), *y = device_alloc(4 << 20);
    threads_start(2);
    for (int i = 0; i < N; i++) host[i] = (float)i;
    fill(y, 1, N);
    device_put(x, host, sizeof host);
    if (strcmp(fault, "put") == 0) host[N / 2] = -1;
    ema_update(x, y, 0.5f, N);
    device_get(back, x, sizeof back);
    if (strcmp(fault, "get") == 0) back[0] = 0;
    if (strcmp(fault, "early") == 0 && back[2] != 1.5f) return 3;
    device_wait();
    if (back[2] != 1.5f) return 4;
    if (strcmp(fault, "read") == 0) printf("%f\n", (double)x[5]);
    if (strcmp(fault, "write") == 0) y[N - 1] = 1;
    if (strcmp(fault, "host thread") == 0) threads_for(N, read_there, x);
    double squares;
    sum_squares(&squares, y, N);
    if (squares != N) return 4;
    if (strcmp(fault, "copy") == 0) memcpy(back, y + 3, 40);
    device_free(x, sizeof host);
    device_free(y, 4 << 20);
    return 0;
}
