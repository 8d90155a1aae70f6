/* decode_model.c - decodes the model of a checkpoint on demand.  For each number of sequences on stdin, a line: tokens a
 * second of so many side by side, 32 tokens each from a prompt of one token, drawn at temperature 1.  For 0: what this
 * machine reaches now in bytes read and operations a second, and the model's weights in products.  Part of
 * bench_decode.sh.     decode_model CHECKPOINT THREADS */
#include "common/model/sample.h"
#include "common/train/program.h"
#include "test/bench/limits.h"
#include "test/bench/train_step.h"

#include <unistd.h>

enum { SLOTS = 32, LENGTH = 32, CAPACITY = 64 };

static double rate(struct model *m, int n)
{
    int tokens[SLOTS][LENGTH], prompt = 11;
    struct sample sample[SLOTS];
    struct sample_settings settings = {.sampling = {.temperature = 1, .top_p = 1}, .stream = RNG_SAMPLE, .seed = 1};
    for (int i = 0; i < n; i++)
        sample[i] = (struct sample){.prompt = &prompt, .n_prompt = 1, .index = (uint64_t)i, .most = LENGTH, .tokens = tokens[i]};
    double start = seconds_now();
    sample_run(m, sample, n, &settings, NULL, NULL);
    return n * LENGTH / (seconds_now() - start);
}

int main(int argc, char **argv)
{
    struct error error;
    struct parent parent;
    struct subject s;
    int n, answers = argc == 3 ? dup(1) : -1;
    if (answers < 0 || dup2(2, 1) < 0) die("usage: decode_model CHECKPOINT THREADS");     /* what the limits print */
    threads_start(atoi(argv[2]));
    if (parent_open(&parent, argv[1], NULL, 1u << STAGE_PRETRAIN, "init", &error) != 0) quit_error(&error);
    subject_open(&s, &parent.config, &(struct model_use){.max_tokens = SLOTS, .max_sequences = 1, .cache_slots = SLOTS,
                                                         .cache_capacity = CAPACITY, .logits_rows = SLOTS});
    if (model_load(&s.m, parent.ckpt, "", ROLE_WEIGHT, false, 0, &error) != 0) quit_error(&error);
    while (scanf("%d", &n) == 1 && n <= SLOTS) {
        if (n > 0) {
            dprintf(answers, "%g\n", rate(&s.m, n));
            continue;
        }
        struct bench_limits limits = bench_limits();
        dprintf(answers, "%g %g %g\n", limits.rate[BENCH_READ], bench_peak_now(), (double)config_matmul_parameters(&parent.config));
    }
    subject_close(&s);
    parent_close(&parent);
    threads_stop();
    return 0;
}
