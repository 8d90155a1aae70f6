/* serve.c - chat --serve: this thread works the model, another one speaks HTTP. */
#include "common/base/signals.h"
#include "rlhf/chat/http.h"
#include "rlhf/chat/session.h"

#include <string.h>

static bool asked_to_stop(void) { return signals_stop() != NULL; }

void session_serve(struct session *s)
{
    struct error error;
    char name[128], at[80];
    bool local;
    struct sample_settings how = session_sampling(s);
    struct service sv = {
        .model = {.name = path_name(name, s->model_path), .system = s->system, .tokenizer = s->parent.tokenizer,
                  .chat = s->raw ? NULL : &s->chat, .standard = how.sampling, .context = s->parent.config.context,
                  .max_new = (int)s->max_new, .most_choices = int_min(API_CHOICES, (int)(s->slots + s->queue))},
        .m = &s->model, .stop = how.stop, .n_stop = how.n_stop, .seed = how.seed, .slots = (int)s->slots,
        .queue = (int)s->queue, .seconds = s->max_time, .wake = http_wake};
    int socket = http_listen(s->serve, at, &local, &error);
    if (socket < 0) quit_error(&error);
    service_open(&sv);
    signals_install(0);
    struct http *http = http_start(&sv, socket, (size_t)s->max_body);
    if (!local)
        fprintf(stderr, "warning: %s can be reached from other machines, and there is no password: anyone there can "
                "use the model\n", at);
    fprintf(stderr, "%s is served at http://%s/v1: %d answers at a time, %d may wait\n", sv.model.name, at, sv.slots,
            sv.queue);
    service_run(&sv, asked_to_stop, s->grace);
    http_stop(http, 5);
    service_close(&sv);
    fprintf(stderr, "stopped by %s\n", signals_stop());
}
