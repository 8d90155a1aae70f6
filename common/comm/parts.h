/* parts.h - what comm.c and sums.c know of each other: transfers between members of a group, and arrays in pieces. */
#ifndef QUARTET_COMM_PARTS_H
#define QUARTET_COMM_PARTS_H

#include "common/model/comm.h"

struct sum { enum group g; float *x, *room; size_t n; };

struct comm {
    struct place place;
    struct engine *engine;
    struct control *control;
    float *strip, *sum;                  /* device: 2 strips per rank, by turns; and a strip's sum */
    struct sum bucket;                   /* under way; x NULL: none */
    char *parts;                         /* device: what comm_sum gets */
    size_t strip_floats, parts_bytes;
    struct transfer *move;               /* to be begun next */
    int moves;
    const char *under_way;               /* what was begun and is not waited for yet, since when, bytes sent */
    double begun;
    size_t sent;
};

/* How many ranks the group has, and which of them this one is. */
int comm_members(const struct comm *c, enum group g, int *mine);

enum way { GIVE, GIVE_HOST, GET, GET_HOST };
/* Bytes to or from member r of the group, when the next begin starts them; none with itself. */
void comm_move(struct comm *c, enum group g, int r, enum way way, const void *data, size_t bytes);
/* Starts them.  For a trace: what was begun first since the last wait names all of it. */
void comm_begin(struct comm *c, const char *name);

struct span { size_t from, to; };

static inline struct span overlap(struct span a, struct span b)
{
    size_t from = a.from > b.from ? a.from : b.from, to = a.to < b.to ? a.to : b.to;
    return (struct span){from, to > from ? to : from};
}

static inline size_t length_of(struct span s) { return s.to - s.from; }

/* What lies in piece r of what is in pieces of this size. */
static inline struct span in_piece(struct span all, size_t piece, int r)
{
    return overlap(all, (struct span){(size_t)r * piece, ((size_t)r + 1) * piece});
}

#endif
