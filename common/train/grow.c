/* grow.c - new rows lie behind the old ones, so the parent's tensors fit the front of the grown ones: the parent is
 * loaded through a view of the model that has the parent's vocabulary, and the rows behind are filled. */
#include "common/train/grow.h"
#include "common/model/device.h"

#include <assert.h>
#include <stdlib.h>

/* table (rows,C): rows known.. become the mean of those before, summed in double in row order. */
static void fill_rows(float *table, int known, int rows, int C)
{
    float *row = host_alloc((size_t)C, sizeof *row);
    double *sum = host_alloc((size_t)C, sizeof *sum);
    for (int i = 0; i < known; i++) {
        device_get(row, table + (size_t)i * (size_t)C, (size_t)C * sizeof *row);
        for (int k = 0; k < C; k++) sum[k] += (double)row[k];
    }
    for (int k = 0; k < C; k++) row[k] = (float)(sum[k] / known);
    for (int i = known; i < rows; i++) device_put(table + (size_t)i * (size_t)C, row, (size_t)C * sizeof *row);
    free(row);
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
