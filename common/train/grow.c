/* grow.c - a parent's weights in a model whose vocabulary has new tokens.  New rows lie behind the old ones, so the
 * parent's tensors fit the front of the grown ones: the parent is loaded through a view of the model that has the
 * parent's vocabulary, and the rows behind are filled. */
#include "common/train/program.h"
#include "common/model/device.h"

#include <assert.h>
#include <stdlib.h>

/* table (rows,C): rows known.. become the mean of those before, summed in double in row order. */
static void fill_rows(float *table, int known, int rows, int C)
{
    size_t n = (size_t)known, more = (size_t)(rows - known), width = (size_t)C;
    float *old = host_alloc(n * width, sizeof *old), *new = host_alloc(more * width, sizeof *new);
    double *sum = host_alloc(width, sizeof *sum);
    device_get(old, table, n * width * sizeof *old);
    device_wait();
    for (size_t i = 0; i < n * width; i++) sum[i % width] += (double)old[i];
    for (size_t i = 0; i < more * width; i++) new[i] = (float)(sum[i % width] / known);
    device_put(table + n * width, new, more * width * sizeof *new);
    device_wait();
    free(old);
    free(new);
    free(sum);
}

int parent_load(struct model *m, struct parent *p, int known_ids, uint64_t seed, struct error *error)
{
    struct model view = *m;
    int V = m->config.vocab, C = m->config.channels, ids = tokenizer_vocab(p->tokenizer);
    assert(known_ids > 0 && known_ids <= ids && p->config.vocab <= V && ids <= V);
    view.config.vocab = p->config.vocab;
    if (model_load(&view, p->ckpt, "", ROLE_WEIGHT, true, seed, error) != 0) return -1;
    int rows = p->config.vocab < V ? V : ids;
    if (known_ids < rows) {
        fill_rows(m->params.embed, known_ids, rows, C);
        if (m->config.head == HEAD_VOCABULARY && !m->config.tied) fill_rows(m->params.head.weight, known_ids, rows, C);
    }
    params_pack(&m->params, &m->config);
    return 0;
}
