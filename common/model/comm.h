/* comm.h - what ranks say to each other.  A rank is a process; several of them can train one model together.  An
 * engine (common/comm/) moves the bytes; the linker chooses it.  Today's only engine is one rank: its handle is NULL,
 * and every call is the identity and returns at once.  None of them fails: a lost peer ends the process.
 *
 * rank = tensor + t (data + d pipe): t tensor ranks split every layer, d data ranks read different micro-batches, p
 * stages split the row of layers. */
#ifndef QUARTET_COMM_H
#define QUARTET_COMM_H

#include "common/base/base.h"

struct comm;
/* Which, of how many; local: on this host. */
struct place { int rank, world, tensor, t, data, d, pipe, p, local, locals; };
enum group { GROUP_WORLD, GROUP_TENSOR, GROUP_DATA };
enum number { NUMBER_FLOAT, NUMBER_ACT };                      /* act_t is summed in float32 and rounded once */

/* Finds the other ranks.  Returns 0, or -1 (EXIT_UNAVAILABLE) when a launcher started more ranks than there can be. */
int comm_open(struct comm **out, struct error *error);
struct place comm_place(const struct comm *c);

/* Device memory.  They may return early: arguments stay untouched until comm_wait, after which ops see the result.
 * sum_scatter: shard = x_0 + x_1 + ... in rank order, of this rank's piece of the n numbers.   sum: the whole of it, in
 * place, the same bits on all.   gather: equal pieces of `bytes`, by rank.   shard and mine may lie in x and all. */
void comm_sum_scatter(struct comm *c, enum group g, void *shard, const void *x, size_t n, enum number k);
void comm_sum(struct comm *c, enum group g, void *x, size_t n, enum number k);
void comm_gather(struct comm *c, enum group g, void *all, const void *mine, size_t bytes);
void comm_share(struct comm *c, enum group g, void *x, size_t bytes, int from);
void comm_wait(struct comm *c);

/* Host memory, small, done on return.  add: the first n_sums of x become their sums over the group, in rank order, and
 * the n_maxima behind them the largest. */
void comm_gather_host(struct comm *c, enum group g, void *all, const void *mine, size_t bytes);
void comm_add(struct comm *c, enum group g, double *x, int n_sums, int n_maxima);

/* All ranks leave with this code; the sentence says why.  self is the struct comm: the hook of program_at_quit. */
void comm_leave(void *self, int exit_code, const char *sentence);

#endif
