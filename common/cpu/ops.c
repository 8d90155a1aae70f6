/* ops.c (CPU) - the scratch of the operations: one piece a thread, so that nothing is allocated while they run. */
#include "common/cpu/scratch.h"
#include "common/threads.h"

_Static_assert(SCRATCH_STRIPS + SCRATCH_PANEL + SCRATCH_TILE + SCRATCH_BETWEEN <= SCRATCH_ATTENTION,
               "products fit the scratch");

static struct { float *base; int threads; } all;

void ops_open(struct memory *memory)
{
    all.threads = threads_count();
    all.base = memory_take(memory, MEMORY_WORK, (size_t)all.threads * SCRATCH_ATTENTION, sizeof(float));
}

struct scratch scratch_of(int thread)
{
    if (!all.base || thread >= all.threads)
        die("thread %d works, but ops_open took scratch for %d", thread, all.threads);
    struct scratch s = {.attention = all.base + (size_t)thread * SCRATCH_ATTENTION};
    s.strips = s.attention;
    s.panel = s.strips + SCRATCH_STRIPS;
    s.tile = s.panel + SCRATCH_PANEL;
    s.between = s.tile + SCRATCH_TILE;
    return s;
}
