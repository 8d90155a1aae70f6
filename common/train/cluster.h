/* cluster.h - what training on many devices takes, before there are any: one function a question; cluster_plan.c asks
 * them all for --plan --cluster.
 *
 * Memory is measured: the code that takes it runs on the shape of one rank (memory.h).  All else is calculated from the
 * numbers of the devices; docs/distributed.md says how far from published runs the formulas are.
 * Letters as in docs/model.md, and: t, p, d ranks that split layers, the row of layers, and the data; b sequences of s
 * tokens in a micro-batch; m micro-batches a replica and step. */
#pragma once

#include "common/model/config.h"

/* ---- machines (cluster.c) ---- */

/* Bytes a parameter: weights to compute with, gradient, master weights and moments, and a weight as it is gathered; and
 * bytes of an activation. */
struct number_bytes { double weight, gradient, optimizer, gathered, activation; };

struct cluster {
    char name[24];                  /* of the device */
    int64_t devices, host;          /* all; in a host, where nvlink joins them */
    bool measured;                  /* the device is the one of this process */
    struct number_bytes bytes;
    double flops, memory;           /* peak, flop/s; bytes */
    double hbm, nvlink, network;    /* bytes/s that a device reaches: its own memory, within a host, between hosts */
    double share, half, launch;     /* products reach share K / (K + half) of the peak for an inner size K, and take
                                       `launch` seconds more */
    double units;                   /* processors that fill with tiles of 128 x 256; 0: no such effect */
    double overlap, tensor_overlap; /* shares of the data and the tensor ranks' traffic that are hidden by computing */
    double reserve;                 /* bytes that the runtime and fragmentation take */
    double storage, restart, failure;   /* bytes/s of all writers; seconds from a failure to training again; seconds
                                           between failures of one device */
};

/* "a100-80 x 384, network 50GB/s", or a device in numbers: "peak 312TF, memory 80GB, hbm 1.6TB/s, ... x 1024".
 * Returns 0, or -1 (EXIT_USAGE) naming what was expected; *c is then undefined. */
int cluster_read(struct cluster *c, const char *text, struct error *error);

/* Text for the plan: every number of the cluster in the words of cluster_read. */
void cluster_print(struct bytes *out, const struct cluster *c);

/* ---- a way to share the work ---- */

enum cluster_recompute { RECOMPUTE_NONE, RECOMPUTE_ATTENTION, RECOMPUTE_BLOCK };

struct layout {
    int t, p, d, zero;
    int s, b, m;
    enum cluster_recompute recompute;
    /* what published runs did otherwise than Quartet, which has 1, false, false, false */
    int chunks;                     /* v: stages hold this many stretches of layers, which shortens the bubble */
    bool plain_attention;           /* all of the T x T square goes through memory */
    bool whole_rows;                /* no sequence parallel: what lies between the blocks is not cut by t */
    bool whole_borders;             /* all t ranks of a stage send the same rows */
};

/* Layers of the largest stage; the first and last get fewer where they do not divide evenly. */
int layout_layers(const struct layout *l, const struct config *c);

/* Parameters of a rank, N / (t p), before ZeRO. */
double layout_parameters(const struct layout *l, const struct config *c);

/* ---- memory and traffic (cluster_cost.c) ---- */

/* Of a rank with psi parameters, the largest part (a layer, or the embedding) having `part`: bytes held, and bytes sent
 * in a step of m micro-batches.  Source: Rajbhandari et al. 2020 (ZeRO), sections 5 and 7. */
double state_held(const struct number_bytes *k, int zero, int d, double psi, double part);
double state_sent(const struct number_bytes *k, int zero, int d, int m, double psi);

/* Sent by a rank in a step to its tensor ranks and to its neighbours in the pipeline, in `bytes` a number. */
double tensor_sent(const struct layout *l, const struct config *c, double bytes);
double pipeline_sent(const struct layout *l, const struct config *c, double bytes);

/* Activations of one micro-batch and layer that are kept for backward, in bytes: (4C + (qkv + heads + up + F) / t)
 * numbers a token; with RECOMPUTE_BLOCK C. */
double acts_formula(const struct layout *l, const struct config *c, double bytes);

struct rank_memory { double state, acts, work, total; double acts_formula; };
/* Runs model_open, measuring, for the first stage's rank. */
void rank_memory(struct rank_memory *out, const struct layout *l, const struct config *c,
                 const struct cluster *cluster);

/* The four models of rlhf, two that learn and two that are only run, at ZeRO stage `zero` over d ranks; bytes. */
double rlhf_held(const struct number_bytes *k, int zero, int d, double policy, double critic, double reference,
                 double reward);

/* ---- time (cluster_cost.c) ---- */

/* Seconds of a step on the slowest rank. */
struct step_time { double compute, tensor, pipeline, bubble, data, optimizer, total; };
void cluster_step(struct step_time *out, const struct layout *l, const struct config *c, const struct cluster *cluster);

/* Days of `work` flop at `rate` flop/s a device. */
double cluster_days(double work, double devices, double rate);

/* Seconds between saves that lose least, sqrt(2 save failure), and the share of time that is training when saving every
 * `every` seconds.  save: seconds a save takes; failure: seconds between failures of the whole.
 * Source: Young 1974. */
double save_cadence(double save, double failure);
double goodput(double every, double save, double failure, double restart);

/* ---- the plan (cluster_plan.c) ---- */

/* What is to be planned; -1 in t, p, d, zero, micro_tokens: to be searched. */
struct cluster_work {
    struct config config;
    int sequence;                   /* s */
    double tokens;                  /* of the whole run */
    int64_t batch_tokens, micro_tokens;
    int64_t t, p, d, zero;
    int recompute;                  /* RECOMPUTE_NONE or _BLOCK; -1: to be searched */
    double gpu_hour;
};

/* The fastest layout that fits: 0, or -1 (EXIT_USAGE) with what stands in the way. */
int cluster_search(struct layout *best, const struct cluster_work *w, const struct cluster *c, struct error *error);

/* Prints the plan of that layout. */
void cluster_plan(const struct layout *l, const struct cluster_work *w, const struct cluster *c);
