/* pipeline.c - one slice's micro-batches through the stages of a row of layers.  Every stage goes through its turns in
 * an order that depends on its number alone; what it needs from its neighbours it waits for. */
#include "common/train/train_state.h"
#include "common/model/device.h"

#include <string.h>

struct turn pipeline_turn(int stage, int p, int m, int turn)
{
    int ahead = int_min(p - 1 - stage, m), left = turn - ahead;
    if (left < 0) return (struct turn){turn, false};
    if (left >= 2 * (m - ahead)) return (struct turn){turn - m, true};
    return (struct turn){left % 2 ? left / 2 : ahead + left / 2, left % 2};
}

void train_pipeline(const struct task *task, int from, int to, double scale, struct slice *sums)
{
    struct model *model = task->learner[0].model;
    struct place place = comm_place(model->use.comm);
    for (int i = 0; i < 2 * (to - from); i++) {
        struct turn turn = pipeline_turn(place.pipe, place.p, to - from, i);
        if (turn.backward) {
            device_range("backward");
            model_backward(model);
            device_range_end();
            continue;
        }
        const struct batch *b = task->batch(task->self, from + turn.micro, 0);
        device_range("forward");
        model_forward(model, b, true);
        device_range_end();
        sums->rows += b->N;
        if (model_last(model)) sums->loss += task->head(task->self, from + turn.micro, 0, scale);
    }
    model_flush(model);
    comm_share_host(model->use.comm, GROUP_PIPE, &sums->loss, sizeof sums->loss, place.p - 1);
    if (task->sums)
        comm_share_host(model->use.comm, GROUP_PIPE, task->sums,
                        (size_t)(task->n_sums + task->n_maxima) * sizeof *task->sums, place.p - 1);
}
