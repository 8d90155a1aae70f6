/* report.c - validation and samples.  Bits per byte count the bytes of exactly those tokens that were predicted, so
 * the number can be compared between tokenizers and does not depend on how much of the held-out text is looked at. */
#include "common/base/signals.h"
#include "common/train/samples.h"
#include "pretrain/pretrain.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

struct evaluation { double loss, bits_per_byte, perplexity; uint64_t targets, bytes; };

/* Over rows of one split, at most max_tokens (0: all): the mean loss of a target token, and the loss in bits per byte
 * of text.  Returns 0, or -1 when asked to stop. */
static int measure(struct evaluation *out, struct pretrain *p, bool validation, uint64_t max_tokens,
                   struct error *error)
{
    struct evaluation e = {0};
    struct batch *b = &p->micro[0];
    uint64_t T = (uint64_t)p->row_tokens, rows = order_rows(p->order, validation);
    if (max_tokens > 0 && rows > (max_tokens + T - 1) / T) rows = (max_tokens + T - 1) / T;
    size_t each = (size_t)p->rows_per_micro, n = (rows + each - 1) / each;
    double sum = 0, *loss = host_alloc(n + 1, sizeof *loss);        /* of every micro-batch */
    int status = 0;
    for (size_t i = 0; i < n; i++) {
        if ((status = evaluation_next(&p->model, (int64_t)i, error)) != 0) break;
        batch_clear(b);
        for (uint64_t row = i * each; row < (i + 1) * each && row < rows && status == 0; row++)
            status = order_row(p->order, validation, row, b, error);
        if (status != 0) break;
        if (evaluation_mine(&p->model, (int64_t)i)) {
            model_forward(&p->model, b, false);
            loss[i] = model_cross_entropy(&p->model, b, 0, false);
        }
        for (int t = 0; t < b->N; t++) {
            e.bytes += b->mask[t] ? (uint64_t)p->token_bytes[b->targets[t]] : 0;
            e.targets += b->mask[t];
        }
    }
    status = evaluation_gather(&p->model, status, (int64_t)n, loss, n, error);
    for (size_t i = 0; i < n; i++) sum += loss[i];
    free(loss);
    if (status != 0) return -1;
    e.loss = e.targets ? sum / (double)e.targets : NAN;
    e.bits_per_byte = e.bytes ? sum / log(2) / (double)e.bytes : NAN;
    e.perplexity = exp(e.loss);
    *out = e;
    return 0;
}

int pretrain_evaluate(void *self, struct record *r, struct error *error)
{
    struct pretrain *p = self;
    struct evaluation e;
    if (measure(&e, p, true, (uint64_t)p->eval_tokens, error) != 0) return -1;
    record_real(r, "val_loss", e.loss);
    record_real(r, "val_bits_per_byte", e.bits_per_byte);
    record_real(r, "val_perplexity", e.perplexity);
    record_count(r, "val_tokens", (int64_t)e.targets);
    return 0;
}

/* Without --sample-prompt one sample begins where a document does. */
void pretrain_open_prompts(struct pretrain *p)
{
    p->n_prompts = int_max(1, p->sample_prompts.count);
    p->prompt = host_alloc((size_t)p->n_prompts, sizeof *p->prompt);
    for (int i = 0; i < p->n_prompts; i++) {
        ids_add(&p->prompt[i], tokenizer_document(p->tokenizer));
        if (i < p->sample_prompts.count) {
            const char *text = p->sample_prompts.item[i];
            tokenizer_encode(&p->prompt[i], p->tokenizer, text, strlen(text));
        }
        if (p->prompt[i].count >= (size_t)p->config.context)
            quit(EXIT_USAGE, "--sample-prompt number %d has %zu tokens, the model's context only %d", i + 1,
                 p->prompt[i].count - 1, p->config.context);
    }
}

void pretrain_sample(void *self, struct run *run, int64_t step)
{
    struct pretrain *p = self;
    struct samples how = {.tokenizer = p->tokenizer, .prompt = p->prompt, .count = p->n_prompts,
                          .tokens = (int)p->sample_tokens, .n_stop = 1,
                          .stop = {tokenizer_document(p->tokenizer)},
                          .temperature = p->temperature, .seed = (uint64_t)p->train.seed, .bare = true};
    samples_show(&how, &p->model, run, step);
}

int pretrain_eval_only(struct pretrain *p)
{
    bool held_out = option_given(p->table, "validation");
    struct error error;
    if (held_out && order_rows(p->order, true) == 0)
        quit(EXIT_DATA, "--validation %g leaves no text to evaluate", p->validation);
    if (model_load(&p->model, p->parent.ckpt, "", ROLE_WEIGHT, false, 0, &error) != 0) quit_error(&error);
    uint64_t most = option_given(p->table, "eval-tokens") ? (uint64_t)p->eval_tokens : 0;
    struct evaluation e;
    if (measure(&e, p, held_out, most, &error) != 0) quit_error(&error);
    printf("loss %.6f  bits per byte %.6f  perplexity %.4f  (%llu tokens, %llu bytes%s)\n", e.loss, e.bits_per_byte,
           e.perplexity, (unsigned long long)e.targets, (unsigned long long)e.bytes, held_out ? ", held out" : "");
    return EXIT_DONE;
}
