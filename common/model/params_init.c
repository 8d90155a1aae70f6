/* params_init.c - initial values.  Numbers are drawn in blocks, block b of parameter number k from its own place in the
 * stream, so that any number of threads draws the same; the blocks of one stage lie on the host until they are put to
 * the device. */
#include "common/model/params.h"
#include "common/model/device.h"
#include "common/base/rng.h"
#include "common/base/threads.h"

#include <math.h>

enum { BLOCK = 4096, STAGE = 64 };

struct start {
    const struct config *config;
    uint64_t seed, first;
    int number;
    double std;
    float *stage;
    const struct share *share;
};

static void draw_block(void *context, int i, int thread)
{
    (void)thread;
    struct start *s = context;
    struct rng r = rng_at(s->seed, RNG_INIT, (uint64_t)s->number, s->first + (uint64_t)i);
    for (int k = 0; k < BLOCK; k += 2) {
        double pair[2];
        rng_normal_pair(&r, pair);
        s->stage[i * BLOCK + k] = (float)(s->std * pair[0]);
        s->stage[i * BLOCK + k + 1] = (float)(s->std * pair[1]);
    }
}

static void put_run(void *context, size_t at, size_t from, size_t n)
{
    const struct start *s = context;
    device_put(s->share->base + at, s->stage + from, n * sizeof(float));
}

static void init_one(void *context, const struct param *p)
{
    struct start *s = context;
    const struct config *c = s->config;
    s->number = p->number;
    s->std = p->init == INIT_NORMAL ? c->init_std
           : p->init == INIT_RESIDUAL ? c->init_std / sqrt(2.0 * c->layers)
           : p->init == INIT_SCALAR_HEAD ? 1 / sqrt(config_embed_width(c) + 1.0) : 0;
    float constant = p->init == INIT_ONES ? 1 : 0;
    for (size_t i = 0; i < p->count && i < STAGE * BLOCK && s->std == 0; i++) s->stage[i] = constant;
    for (size_t i = 0; i < p->count; i += (size_t)STAGE * BLOCK) {
        size_t n = p->count - i < (size_t)STAGE * BLOCK ? p->count - i : (size_t)STAGE * BLOCK;
        s->first = i / BLOCK;
        if (s->std > 0) threads_for((int)((n + BLOCK - 1) / BLOCK), draw_block, s);
        share_each(s->share, p, i, n, put_run, s);
        device_wait();
    }
}

void params_init_share(struct params *p, const struct config *c, const struct share *share, uint64_t seed)
{
    struct start s = {.config = c, .seed = seed, .share = share,
                      .stage = host_alloc((size_t)STAGE * BLOCK, sizeof(float))};
    params_each(p, c, init_one, &s);
    free(s.stage);
}

void params_init(struct params *p, const struct config *c, uint64_t seed)
{
    params_init_share(p, c, &(struct share){p->all, 0, p->count, 0, 1}, seed);
    params_pack(p, c);
}
