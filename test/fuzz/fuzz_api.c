/* fuzz_api.c - libFuzzer target: any bytes as the body of a request to chat --serve.  The first byte chooses the endpoint.
 * What is understood must keep to what is served, and what is refused must leave an error object that is JSON. */
#include "rlhf/chat/api.h"
#include "test/fuzz/small_tokenizer.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct api_model *served(void)
{
    static struct api_model m;
    static struct chat chat;
    if (m.chat) return &m;
    struct tokenizer *tokenizer = small_tokenizer();
    chat_open(&chat, TEMPLATE_QUARTET, tokenizer);
    m = (struct api_model){.name = "m", .system = "Be brief.", .tokenizer = tokenizer, .chat = &chat,
                           .standard = {.temperature = 1, .top_p = 1, .allowed = tokenizer_vocab(tokenizer)},
                           .context = 200, .max_new = 50, .most_choices = 12};
    return &m;
}

static void check_request(const struct api_request *r, const struct api_model *m)
{
    const struct sampling *s = &r->sampling;
    int begin = 0;
    if (r->n < 1 || r->n * (int)r->end.count > m->most_choices || r->most < 1 || r->top < 0 || r->top > API_TOP_LOGPROBS) abort();
    if (!(s->temperature == 0 || (s->temperature >= 0.01f && s->temperature <= 2))) abort();
    if (!(s->top_p > 0 && s->top_p <= 1) || !(s->min_p >= 0 && s->min_p <= 1) || s->top_k < 0) abort();
    for (size_t i = 0; i < r->end.count; begin = r->end.id[i++])
        if (r->end.id[i] <= begin || r->end.id[i] - begin >= m->context) abort();
    if (r->end.count == 0 || (size_t)begin != r->ids.count) abort();
    for (size_t i = 0; i < r->ids.count; i++)
        if (r->ids.id[i] < 0 || r->ids.id[i] >= s->allowed) abort();
    for (int i = 0; i < r->n_stop; i++)
        if (r->stop[i].size < 1 || r->stop[i].size > API_STOP_BYTES) abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const struct api_model *m = served();
    struct api_request r;
    struct api_error error = {0};
    if (size < 1) return 0;
    if (api_read(&r, m, data[0] & 1, (const char *)data + 1, size - 1, &error) == 0) {
        check_request(&r, m);
        api_free(&r);
        return 0;
    }
    struct bytes text = {0};
    api_error_json(&text, &error);
    json_t *json = json_loadb(text.data, text.size, 0, NULL);
    const json_t *message = json_object_get(json_object_get(json, "error"), "message");
    if ((error.status != 400 && error.status != 404) || !json_string_length(message) || r.ids.id) abort();
    json_decref(json);
    bytes_free(&text);
    return 0;
}
