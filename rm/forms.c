/* forms.c - one function a shape; recognition is by keys alone, from the most telling one down. */
#include "rm/data.h"

#include <stdlib.h>
#include <string.h>

static const char *const pair_key[][2] = {
    {"chosen_messages", "rejected_messages"}, {"chosen", "rejected"}, {"response_j", "response_k"}};
enum { PAIRS = sizeof pair_key / sizeof *pair_key };

static void ranking_free(struct ranking *r)
{
    dialogue_free(&r->prompt);
    dialogue_free(&r->answers);
    free(r->quality);
    *r = (struct ranking){0};
}

static void add_answer(struct ranking *r, const struct message *m, double quality)
{
    dialogue_add(&r->answers, ROLE_ASSISTANT, m->content, m->length);
    r->quality = host_grow(r->quality, (size_t)r->answers.count, sizeof *r->quality);
    r->quality[r->answers.count - 1] = quality;
}

static bool same_messages(const struct dialogue *a, const struct dialogue *b)
{
    if (a->count != b->count) return false;
    for (int i = 0; i < a->count; i++) {
        const struct message *x = &a->message[i], *y = &b->message[i];
        if (x->role != y->role || x->length != y->length || memcmp(x->content, y->content, x->length) != 0)
            return false;
    }
    return true;
}

/* ---- whole dialogues ---- */

static bool ends_with_answer(const struct dialogue *d)
{
    return d->count > 0 && d->message[d->count - 1].role == ROLE_ASSISTANT;
}

/* The last message of a whole dialogue is an answer, the rest its prompt, which must be that of the answers before. */
static void add_whole(struct ranking *r, struct dialogue *d, double quality)
{
    if (!ends_with_answer(d)) {
        r->fault = "a dialogue that does not end with an answer";
        return;
    }
    add_answer(r, &d->message[d->count - 1], quality);
    dialogue_pop(d);
    if (r->answers.count == 1) {
        dialogue_free(&r->prompt);
        r->prompt = *d;
        *d = (struct dialogue){0};
    } else if (!same_messages(&r->prompt, d)) {
        r->fault = "the answers' prompts differ";
    }
}

/* A whole dialogue as messages or text. */
static int whole_from(struct ranking *r, json_t *value, double quality, struct error *error)
{
    struct dialogue d = {.unused = r->prompt.unused};
    int bad = json_is_string(value) ? dialogue_from_hh(&d, json_string_value(value), json_string_length(value), error)
                                    : dialogue_add_messages(&d, value, ROLE_USER, error);
    if (!bad) add_whole(r, &d, quality);
    dialogue_free(&d);
    return bad;
}

/* ---- answers beside a prompt ---- */

static bool repeats_question(const struct dialogue *d)
{
    for (int i = 1; i < d->count; i++)
        if (d->message[i].role == ROLE_USER) return true;
    return false;
}

/* Readers of messages skip an assistant nobody has asked, so that an answer alone is read behind a question. */
static int answer_from(struct ranking *r, json_t *value, double quality, struct error *error)
{
    struct dialogue d = {.marked = r->prompt.marked, .unused = r->prompt.unused};
    json_t *again = json_is_array(value) ? json_deep_copy(value) : NULL;       /* reading uses it up */
    dialogue_add(&d, ROLE_USER, "?", 1);
    int bad = dialogue_add_messages(&d, value, ROLE_ASSISTANT, error);
    if (!bad && again && repeats_question(&d)) {
        bad = whole_from(r, again, quality, error);      /* messages that repeat the prompt */
    } else if (!bad && (d.count != 2 || d.message[1].role != ROLE_ASSISTANT)) {
        bad = fail(error, EXIT_DATA, "an answer should be a string or one message of the assistant");
    } else if (!bad) {
        add_answer(r, &d.message[1], quality);
    }
    json_decref(again);
    dialogue_free(&d);
    return bad;
}

/* The value of a key, which leaves the row; to json_decref. */
static json_t *take_key(json_t *row, const char *key)
{
    json_t *value = json_incref(json_object_get(row, key));
    json_object_del(row, key);
    return value;
}

/* The answers, of the quality sign * order[i] (NULL: none), behind the prompt in the row's other keys, or as whole
 * dialogues where a pair has no prompt.  name: of each answer of a pair, NULL for responses[i]. */
static int answers_from(struct ranking *r, json_t *row, json_t *answers, json_t *order, double sign,
                        const char *const *name, struct error *error)
{
    bool asked = !name || dialogue_asked(row);
    int bad = asked ? dialogue_from_json(&r->prompt, row, FORMAT_QUESTION, error) : 0;
    if (!asked) dialogue_unused(&r->prompt, "", row);
    for (size_t i = 0; i < json_array_size(answers) && !bad; i++) {
        json_t *number = json_array_get(order, i);
        if (order && !json_is_number(number))
            return fail(error, EXIT_DATA, "%s[%zu] is not a number", sign < 0 ? "ranks" : "scores", i);
        double quality = sign * json_number_value(number);
        bad = (asked ? answer_from : whole_from)(r, json_array_get(answers, i), quality, error);
        if (bad && name) fail_in(error, "%s", name[i]);
        else if (bad) fail_in(error, "responses[%zu]", i);
    }
    return bad;
}

static int pair_from(struct ranking *r, json_t *row, const char *const name[2], struct error *error)
{
    if (!json_object_get(row, name[1]))
        return fail(error, EXIT_DATA, "expected the key \"%s\" beside \"%s\"", name[1], name[0]);
    json_t *answers = json_pack("[o,o]", take_key(row, name[0]), take_key(row, name[1]));
    json_t *order = json_pack("[i,i]", 1, 0);
    int bad = answers_from(r, row, answers, order, 1, name, error);
    json_decref(answers);
    json_decref(order);
    return bad;
}

/* Responses with ranks (the lower, the better) or scores (the higher, the better). */
static int responses_from(struct ranking *r, json_t *row, bool ranked, struct error *error)
{
    const char *key = json_object_get(row, "ranks") ? "ranks" : "scores";
    json_t *responses = take_key(row, "responses"), *order = take_key(row, key);
    size_t K = json_array_size(responses);
    int bad;
    if (!json_is_array(responses)) bad = fail(error, EXIT_DATA, "expected the key \"responses\" to be a list");
    else if (!order && ranked)
        bad = fail(error, EXIT_DATA, "expected the key \"ranks\" or \"scores\" beside \"responses\"");
    else if (order && json_array_size(order) != K)
        bad = fail(error, EXIT_DATA, "%zu responses, but %zu %s", K, json_array_size(order), key);
    else bad = answers_from(r, row, responses, order, *key == 'r' ? -1 : 1, NULL, error);
    json_decref(responses);
    json_decref(order);
    return bad;
}

/* ---- message trees ---- */

struct tree { void (*take)(void *self, struct ranking *r); void *self; bool ranked; struct dialogue path; };

static bool is_assistant(json_t *node)
{
    const char *role = json_string_value(json_object_get(node, "role"));
    return role && strcmp(role, "assistant") == 0;
}

static int push(struct dialogue *d, json_t *node, struct error *error)
{
    json_t *text = json_object_get(node, "text");
    if (!json_is_string(text)) return fail(error, EXIT_DATA, "a message of the tree without \"text\"");
    dialogue_add(d, is_assistant(node) ? ROLE_ASSISTANT : ROLE_USER, json_string_value(text), json_string_length(text));
    return 0;
}

/* The node's replies that can be compared, behind the path that leads to them. */
static int emit(struct tree *t, json_t *replies, struct error *error)
{
    struct ranking r = {0};
    int bad = 0;
    for (size_t i = 0; i < json_array_size(replies) && !bad; i++) {
        json_t *reply = json_array_get(replies, i), *rank = json_object_get(reply, "rank");
        if (!is_assistant(reply) || json_is_true(json_object_get(reply, "deleted")) ||
            (t->ranked && !json_is_number(rank)))
            continue;
        bad = push(&t->path, reply, error);
        if (bad) break;
        add_answer(&r, &t->path.message[t->path.count - 1], -json_number_value(rank));
        dialogue_pop(&t->path);
    }
    if (!bad && r.answers.count >= (t->ranked ? 2 : 1)) {
        for (int i = 0; i < t->path.count; i++)
            dialogue_add(&r.prompt, t->path.message[i].role, t->path.message[i].content, t->path.message[i].length);
        t->take(t->self, &r);
    }
    ranking_free(&r);
    return bad;
}

static int walk(struct tree *t, json_t *node, struct error *error)
{
    json_t *replies = json_object_get(node, "replies");
    if (push(&t->path, node, error) != 0) return -1;
    int bad = is_assistant(node) ? 0 : emit(t, replies, error);
    for (size_t i = 0; i < json_array_size(replies) && !bad; i++) bad = walk(t, json_array_get(replies, i), error);
    dialogue_pop(&t->path);
    return bad;
}

/* ---- any row ---- */

/* One answer: the last message of a dialogue, or the response beside its messages, as in what rlhf and chat write. */
static int single_from(struct ranking *r, json_t *row, struct error *error)
{
    struct dialogue d = {.unused = r->prompt.unused};
    json_t *response = json_object_get(row, "messages") ? take_key(row, "response") : NULL;
    int bad = dialogue_from_json(&d, row, FORMAT_AUTO, error);
    if (!bad && json_is_string(response) && !ends_with_answer(&d))
        dialogue_add(&d, ROLE_ASSISTANT, json_string_value(response), json_string_length(response));
    if (!bad) add_whole(r, &d, 0);
    json_decref(response);
    dialogue_free(&d);
    return bad;
}

int rankings_from_json(json_t *row, bool ranked, struct tally *unused, void (*take)(void *self, struct ranking *r),
                       void *self, struct error *error)
{
    struct ranking r = {.prompt.unused = unused};
    json_t *prompt = json_object_get(row, "prompt");
    int bad;
    if (!json_is_object(row)) return fail(error, EXIT_DATA, "expected an object");
    if (json_is_object(prompt) && json_object_get(prompt, "replies")) {
        struct tree t = {take, self, ranked, {0}};
        bad = walk(&t, take_key(row, "prompt"), error);
        dialogue_unused(&r.prompt, "", row);
        json_decref(prompt);
        dialogue_free(&t.path);
        return bad;
    }
    int k = 0;
    while (k < PAIRS && !json_object_get(row, pair_key[k][0])) k++;
    if (k < PAIRS) bad = pair_from(&r, row, pair_key[k], error);
    else if (json_object_get(row, "responses")) bad = responses_from(&r, row, ranked, error);
    else if (!ranked) bad = single_from(&r, row, error);
    else bad = fail(error, EXIT_DATA,
                    "not a ranking: expected chosen and rejected, responses with ranks or scores, chosen_messages and "
                    "rejected_messages, or a message tree");
    if (!bad) take(self, &r);
    ranking_free(&r);
    return bad;
}
