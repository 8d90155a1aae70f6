/* blocks.c (CPU) - a block is a task of a thread. */
#include "common/cpu/blocks.h"
#include "common/base/threads.h"

struct blocks { size_t n, block; void (*task)(const void *context, size_t from, size_t end); const void *context; };

static void block_task(void *self, int i, int thread)
{
    const struct blocks *b = self;
    size_t from = (size_t)i * b->block;
    (void)thread;
    b->task(b->context, from, b->n - from < b->block ? b->n : from + b->block);
}

void blocks_for(size_t n, size_t block, void (*task)(const void *context, size_t from, size_t end),
                const void *context)
{
    threads_for((int)((n + block - 1) / block), block_task, &(struct blocks){n, block, task, context});
}

void rows_for(int n, int width, void (*task)(const void *context, size_t from, size_t end), const void *context)
{
    blocks_for((size_t)n, (size_t)int_max(1, BLOCK_FLOATS / width), task, context);
}
