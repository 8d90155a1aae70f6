/* ops.c (CPU) - the scratch of the operations: one piece a thread, so that nothing is allocated while they run. */
#include "common/cpu/scratch.h"
#include "common/base/threads.h"

static struct { float *base; int threads; } all;

void ops_open(struct memory *memory)
{
    all.threads = threads_count();
    all.base = memory_take(memory, MEMORY_WORK, (size_t)all.threads * SCRATCH_FLOATS, sizeof(float));
}

struct scratch scratch_of(int thread)
{
    if (!all.base || thread >= all.threads)
        die("thread %d works, but ops_open took scratch for %d", thread, all.threads);
    struct scratch s = {.attention = all.base + (size_t)thread * SCRATCH_FLOATS};
    s.strips = (act_t *)(void *)s.attention;
    s.panels = (act_t *)(void *)(s.attention + SCRATCH_STRIPS);
    s.tile = s.attention + SCRATCH_STRIPS + SCRATCH_PANELS;
    s.between = s.tile + SCRATCH_TILE;
    return s;
}
