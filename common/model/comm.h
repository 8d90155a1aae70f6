/* comm.h - what ranks say to each other.  A rank is a process; several of them train one model together.  What they say
 * is the same on every machine (common/comm/comm.c); an engine moves the bytes, and the linker chooses it: MPI, or none
 * for a build that trains on one rank, whose handle is NULL and to which every call is the identity.  None of them
 * fails: a lost peer ends the process.
 *
 * rank = tensor + t (data + d pipe): t tensor ranks split every layer, d data ranks read different micro-batches, p
 * stages split the row of layers. */
#ifndef QUARTET_COMM_H
#define QUARTET_COMM_H

#include "common/model/memory.h"

struct comm;
/* Which, of how many; local: on this host. */
struct place { int rank, world, tensor, t, data, d, pipe, p, local, locals; };
enum group { GROUP_WORLD, GROUP_TENSOR, GROUP_DATA, GROUP_PIPE,
             GROUP_ENDS };                                    /* the first and the last stage, which alone may use it */
enum number { NUMBER_FLOAT, NUMBER_ACT };                      /* act_t is summed in float32 and rounded once */

/* Finds the other ranks; folder (may be NULL) is that of the run, beside which they can meet; t ranks are to split every
 * layer, and p the row of layers.  Returns 0, or -1: EXIT_USAGE when a launcher's variables are incomplete,
 * EXIT_UNAVAILABLE when there are more ranks than this build can join, or the launcher's ranks do not find each other.
 * connect: as soon as device_open has chosen this rank's device. */
int comm_open(struct comm **out, const char *folder, int t, int p, struct error *error);
int comm_connect(struct comm *c, struct error *error);
void comm_close(struct comm *c);                               /* after all ranks have ended well */
struct place comm_place(const struct comm *c);
/* The engine, for --version: "MPI (Open MPI 4.1.4)"; "" where there is none. */
const char *comm_engine(void);

/* --devices, "all" or "0,1,3": 0 with the one that this process takes.  A process that is asked for several starts one
 * of itself (argv) for each, passes signals on to them, waits, and exits with their code.  -1: EXIT_USAGE or
 * EXIT_UNAVAILABLE. */
int devices_start(const char *devices, int64_t *device, char **argv, struct error *error);

/* Takes the scratch of sums, from MEMORY_WORK, in each run of the build (memory.h): of sum_scatter over data ranks for
 * pieces of so many floats, and of sum and sum_piece over other ranks for arrays of so many bytes (sum: of any size). */
void comm_take(struct comm *c, struct memory *memory, size_t piece, size_t bytes);

/* Device memory.  They may return early: arguments stay untouched until comm_wait, after which ops see the result.
 * sum_scatter: x holds elements from..to of an array that is cut into pieces, one per rank; sum is this rank's piece,
 * and what x has of it becomes x_0 + x_1 + ... in rank order, from 0, or, with add, from what sum holds.  sum may be
 * this rank's piece of x.
 * gather_range: the other way round, in bytes: x becomes those from..to of the array, of which this rank has its piece,
 * mine.
 * sum: the whole of it, in place, the same bits on all; sum_piece: of n numbers, this rank's piece alone.   gather:
 * equal pieces of `bytes`, by rank; mine may lie in all.   share: everyone gets what `from` has. */
void comm_sum_scatter(struct comm *c, enum group g, float *sum, const float *x, size_t from, size_t to, size_t piece,
                      bool add);
void comm_sum(struct comm *c, enum group g, float *x, size_t n);
void comm_gather(struct comm *c, enum group g, void *all, const void *mine, size_t bytes);
void comm_sum_piece(struct comm *c, enum group g, void *x, size_t n, size_t piece, enum number k);
void comm_gather_range(struct comm *c, enum group g, void *x, const void *mine, size_t from, size_t to, size_t piece);
void comm_share(struct comm *c, enum group g, void *x, size_t bytes, int from);
void comm_wait(struct comm *c);

/* Sums in buckets, while the device computes.  overlaps: whether it pays.   bucket: the n floats at x are cut into parts of
 * comm_part; part r becomes x_0 + x_1 + ... from 0 on rank r, in place, once bucket_end is called or the next bucket.
 * room: floats for as many parts as ranks.   home: x, an array in pieces, has been summed in these buckets: every sum goes
 * from the rank that has it to the rank whose piece it is in. */
bool comm_overlaps(const struct comm *c);
struct bucket { size_t from, n; };
static inline size_t comm_part(size_t n, int ranks) { return (n + (size_t)ranks - 1) / (size_t)ranks; }
void comm_bucket(struct comm *c, enum group g, float *x, size_t n, float *room);
void comm_bucket_end(struct comm *c);
void comm_bucket_home(struct comm *c, enum group g, float *x, const struct bucket *bucket, int n, size_t piece);

/* Between single ranks of a group, device memory, done on return: both at once, so that two ranks which give each other
 * something cannot wait for ever.  bytes 0: nothing. */
struct parcel { void *data; size_t bytes; int peer; };
void comm_exchange(struct comm *c, enum group g, const struct parcel *out, const struct parcel *in);

/* Host memory, small, done on return.  add: the first n_sums of x become their sums over the group, in rank order, and
 * the n_maxima behind them the largest. */
void comm_gather_host(struct comm *c, enum group g, void *all, const void *mine, size_t bytes);
void comm_share_host(struct comm *c, enum group g, void *x, size_t bytes, int from);
void comm_add(struct comm *c, enum group g, double *x, int n_sums, int n_maxima);
/* One rank to another, without a third: both must make the call. */
void comm_send_host(struct comm *c, const void *x, size_t bytes, int to);
void comm_receive_host(struct comm *c, void *x, size_t bytes, int from);
/* The rank of this tensor rank's data rank and stage of these numbers. */
int comm_rank_of(const struct comm *c, int data, int pipe);

/* What all ranks do next together: 0 when every rank's status is 0.  Else all of them get -1 and the error of the rank
 * with the lowest number that failed for another reason than being asked to stop, or that was asked to. */
int comm_agree(struct comm *c, int status, struct error *error);

/* One rank after the other: rank 0 does first what lies between begin and end, and what it has left in the run folder
 * the others find. */
void comm_turn_begin(struct comm *c);
void comm_turn_end(struct comm *c);

/* tell(self, sentence): called on rank 0, or on rank 1 when rank 0 was lost, by any thread, when all ranks are about to
 * leave because of one; without it the sentence goes to stderr.  stall: seconds after which a rank that neither gets on
 * nor waits for another is taken to hang; 0: never. */
void comm_watch(struct comm *c, double stall, void (*tell)(void *self, const char *sentence), void *self);

/* All ranks leave with this code; the sentence says why.  self is the struct comm: the hook of program_at_quit.  With
 * one rank it returns: the caller says the sentence. */
void comm_leave(void *self, int exit_code, const char *sentence);

#endif
