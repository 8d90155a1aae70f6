/* columns.h - sums over rows, for the gradients of weights that all rows share: groups of rows first, then the groups
 * in ascending order.  The groups follow from the numbers of rows and columns alone. */
#ifndef QUARTET_COLUMNS_H
#define QUARTET_COLUMNS_H

#include "common/cuda/kernel.h"

enum { COLUMN_THREADS = 8, GROUP_ROWS_LEAST = 128, GROUPS_MOST = 256 };

/* partial[group, c] = sum of term(row, c) over the rows of a group.   Blocks of WARP columns x COLUMN_THREADS rows. */
template <class Term>
static __global__ void column_groups(typename Term::sum *partial, Term term, int N, int C, int group_rows)
{
    __shared__ typename Term::sum part[COLUMN_THREADS][WARP];
    int c = (int)(blockIdx.x * WARP + threadIdx.x), first = (int)blockIdx.y * group_rows;
    int end = first + group_rows < N ? first + group_rows : N;
    typename Term::sum sum = 0;
    if (c < C)
        for (int row = first + (int)threadIdx.y; row < end; row += COLUMN_THREADS) sum += term(row, c);
    part[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    if (threadIdx.y > 0 || c >= C) return;
    for (int i = 1; i < COLUMN_THREADS; i++) sum += part[i][threadIdx.x];
    partial[(size_t)blockIdx.y * (size_t)C + (size_t)c] = sum;
}

/* sums[c] += partial[0, c] + partial[1, c] + ... */
template <class Sum> static __global__ void column_add(float *sums, const Sum *partial, int groups, int C)
{
    int c = (int)thread_of_grid();
    if (c >= C) return;
    Sum sum = 0;
    for (int i = 0; i < groups; i++) sum += partial[(size_t)i * (size_t)C + (size_t)c];
    sums[c] += (float)sum;
}

/* sums[c] += term(0, c) + ... + term(N - 1, c), for c < C.   Term: a struct of a name that no other file
 * uses, with operator()(int row, int c) and the type `sum` that is added in, float or double */
template <class Term> static void add_columns(float *sums, const Term &term, int N, int C)
{
    typedef typename Term::sum Sum;
    Sum *partial = (Sum *)cuda_scratch();
    int most = int_min(GROUPS_MOST, (int)(SCRATCH_FLOATS * sizeof(float) / sizeof(Sum)) / C);
    if (most < 1) die("sums over rows of %d columns need more scratch than there is", C);
    int group_rows = int_max(GROUP_ROWS_LEAST, (N + most - 1) / most), groups = (N + group_rows - 1) / group_rows;
    if (groups == 0) return;
    column_groups<Term><<<dim3(blocks_of((size_t)C, WARP), (unsigned)groups), dim3(WARP, COLUMN_THREADS), 0,
                          cuda_stream()>>>(partial, term, N, C, group_rows);
    cuda_launched("column_groups");
    column_add<Sum><<<blocks_of((size_t)C, BLOCK), BLOCK, 0, cuda_stream()>>>(sums, partial, groups, C);
    cuda_launched("column_add");
}

#endif
