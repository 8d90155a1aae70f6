/* model_rows.c - the micro-batch in use, and what moves between the ranks that share its rows or its layers. */
#include "common/model/model_acts.h"

void rows_use(struct model *m, int N, int S)
{
    int most = rows_of(N, m->place.t);
    m->N = m->acts->N = N;
    m->S = m->acts->S = S;
    m->first_row = int_min(m->place.tensor * most, N);
    m->rows = int_min(most, N - m->first_row);
}

void flight_use(struct model *m, int64_t number)
{
    m->acts = &m->flight[number % m->use.flights];
    m->tokens = m->acts->tokens;
    m->positions = m->acts->positions;
    m->offsets = m->acts->offsets;
    rows_use(m, m->acts->N, m->acts->S);
}

const act_t *all_rows(const struct model *m, act_t *to, const act_t *x, int width)
{
    size_t row = (size_t)width * sizeof *x;
    if (m->place.t == 1) return x;
    comm_gather_range(m->use.comm, GROUP_TENSOR, to, x, 0, (size_t)m->N * row, (size_t)rows_of(m->N, m->place.t) * row);
    comm_wait(m->use.comm);
    return to;
}

act_t *part_of(const struct model *m, act_t *own) { return m->place.t == 1 ? own : m->acts->part; }

act_t *sum_parts(const struct model *m, act_t *part, int width)
{
    size_t row = (size_t)width, piece = (size_t)rows_of(m->N, m->place.t) * row;
    if (m->place.t == 1) return part;
    comm_sum_piece(m->use.comm, GROUP_TENSOR, part, (size_t)m->N * row, piece, NUMBER_ACT);
    return part + (size_t)m->first_row * row;
}

void stage_border(struct model *m, act_t *x, int from)
{
    size_t bytes = own_count(m, m->config.channels) * sizeof *x;
    comm_exchange(m->use.comm, GROUP_PIPE, &m->out, &(struct parcel){x, x ? bytes : 0, from});
    m->out.bytes = 0;
}

void stage_leave(struct model *m, act_t *x, int to)
{
    m->out = (struct parcel){x, own_count(m, m->config.channels) * sizeof *x, to};
}

void model_flush(struct model *m) { stage_border(m, NULL, 0); }
