/* peak.c (CPU) - the multiply-adds that all threads reach together when every operand is in a register: the limit that
 * speeds are compared with.  Chains enough to hide the latency, in short tries, of which the fastest counts. */
#include "common/cpu/product_tile.h"
#include "common/model/device.h"
#include "common/base/base.h"
#include "common/base/threads.h"

enum { CHAINS = 12, STEPS = 40000, TRIES = 40, TASKS_A_THREAD = 4 };

static void chains_task(void *context, int i, int thread)
{
    volatile float *sink = context;
    if (product_chains(sink, STEPS)) return;
    vf sum[CHAINS], x = v_pin(v_set(1.0f + (float)i * 0)), y = v_pin(v_set(1e-9f));
    for (int c = 0; c < CHAINS; c++) sum[c] = v_set((float)c);
    for (int s = 0; s < STEPS; s++)
#pragma GCC unroll 16
        for (int c = 0; c < CHAINS; c++) sum[c] = v_pin(sum[c] * x + y);
    for (int c = 1; c < CHAINS; c++) sum[0] += sum[c];
    if (v_sum(sum[0]) == 0.5f) *sink = (float)thread;       /* never; but the sums must seem needed */
}

double device_peak_flops(void)
{
    static double peak;
    static int threads;                             /* of the measurement */
    if (threads == threads_count()) return peak;
    threads = threads_count();
    peak = 0;
    float sink = 0;
    int tasks = TASKS_A_THREAD * threads_count();
    int own = product_chains(&sink, 0);
    double flops = 2.0 * (own ? own : CHAINS * VW) * STEPS * tasks;
    for (int try = 0; try < TRIES; try++) {
        double start = seconds_now();
        threads_for(tasks, chains_task, &sink);
        double rate = flops / (seconds_now() - start);
        if (rate > peak) peak = rate;
    }
    return peak;
}
