/* family_rope.c - the keys of rotary positions.  Each has up to three places, and all that are filled must agree: a
 * reader of the other version would compute something else. */
#include "common/interop/families.h"

#include <stdlib.h>
#include <string.h>

/* The types, in the order of enum rope_scaling, and for each a letter in the lists below. */
static const char types[] = "default|linear|llama3|yarn|dynamic", letters[] = "dl3yn";

static const struct { const char *name, *types; size_t at; bool top; double absent; } keys[] = {
    {"rope_theta", "dl3yn", offsetof(struct config, rope_theta), true, 0},
    {"partial_rotary_factor", "dl3yn", offsetof(struct config, rope_fraction), true, 0},
    {"factor", "l3yn", offsetof(struct config, rope_factor), false, 0},
    {"low_freq_factor", "3", offsetof(struct config, rope_low), false, 0},
    {"high_freq_factor", "3", offsetof(struct config, rope_high), false, 0},
    {"beta_slow", "y", offsetof(struct config, rope_low), false, 1},
    {"beta_fast", "y", offsetof(struct config, rope_high), false, 32},
    {"attention_factor", "y", offsetof(struct config, rope_attention), false, 0}};
enum { KEYS = sizeof keys / sizeof *keys };

static bool applies(const char *list, int type) { return strchr(list, letters[type]) != NULL; }

/* Adds what an object says to what others said: they must agree. */
static int add_said(json_t *all, const json_t *object, struct error *error)
{
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        const char *key = strcmp(name, "type") == 0 ? "rope_type" : name;
        const json_t *other = json_object_get(all, key);
        bool numbers = json_is_number(value) && json_is_number(other);
        if (json_is_null(value)) continue;
        if (other && !(numbers ? json_number_value(value) == json_number_value(other) : json_equal(value, other)))
            return family_refuse(error, key, value, json_is_string(other) ? json_string_value(other)
                                 : "the value that rope_parameters or rope_scaling gives");
        json_object_set(all, key, value);
    }
    return 0;
}

/* A number from 1 up, or 0. */
static int count_of(const json_t *value)
{
    json_int_t n = json_integer_value(value);
    return n >= 1 && n <= INT32_MAX ? (int)n : 0;
}

/* One key of this type into the configuration. */
static int take_key(struct config *c, int type, const char *name, const json_t *value, struct error *error)
{
    int k = 0;
    if (strcmp(name, "rope_type") == 0) return 0;
    if (strcmp(name, "truncate") == 0 && applies("y", type))
        return json_is_false(value) ? family_refuse(error, name, value, "true") : 0;
    bool original = strcmp(name, "original_max_position_embeddings") == 0 && applies("3y", type);
    while (k < KEYS && !(strcmp(keys[k].name, name) == 0 && applies(keys[k].types, type))) k++;
    if (k == KEYS && !original) {
        size_t n;
        const char *word = word_at(types, type, &n);
        return fail(error, EXIT_DATA, "config.json: the key %s of rope type %.*s is not known and may change what the "
                    "model computes", text_shown(name).text, (int)n, word);
    }
    if (!json_is_number(value)) return family_refuse(error, name, value, "a number");
    if (original) c->rope_original = count_of(value);
    else *(double *)(void *)((char *)c + keys[k].at) = json_number_value(value);
    return 0;
}

/* Frequencies turn to those of longer texts between `original` positions and more; absent: the context. */
static int take_all(struct config *c, const json_t *all, const json_t *context, struct error *error)
{
    const json_t *word = json_object_get(all, "rope_type");
    const char *name;
    json_t *value;
    int type = word ? json_is_string(word) ? word_number(types, json_string_value(word)) : -1 : ROPE_PLAIN;
    if (type < 0) return family_refuse(error, "rope_type", word, "default, linear, llama3, yarn or dynamic");
    if (type != ROPE_PLAIN && c->position != POSITION_ROPE)
        return fail(error, EXIT_DATA, "config.json: rope_type is %s, but the positions are not rotary",
                    json_string_value(word));
    c->rope_scaling = (enum rope_scaling)type;
    c->rope_original = applies("3y", type) ? count_of(context) : 0;
    for (int k = 0; k < KEYS; k++)
        if (applies(keys[k].types, type) && keys[k].absent > 0)
            *(double *)(void *)((char *)c + keys[k].at) = keys[k].absent;
    json_object_foreach((json_t *)(uintptr_t)all, name, value)
        if (take_key(c, type, name, value, error) != 0) return -1;
    if (applies("3y", type) && c->rope_original < 1)
        return fail(error, EXIT_DATA, "config.json: original_max_position_embeddings is missing or not a number from 1 "
                    "up");
    return 0;
}

int family_rope_read(struct config *c, json_t *json, struct error *error)
{
    static const char *const names[] = {"rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"};
    const json_t *scaling = json_object_get(json, "rope_scaling");
    json_t *all = json_object(), *top = json_object();
    int status = 0;
    for (int i = 0; i < 4 && status == 0; i++) {
        json_t *said = json_object_get(json, names[i]);
        if (i >= 2) json_object_set(top, names[i], said);
        else if (said && !json_is_null(said) && !json_is_object(said))
            status = family_refuse(error, names[i], said, "an object");
        else status = add_said(all, said, error);
    }
    if (status == 0 && json_object_size(scaling) > 0 && !json_object_get(all, "rope_type"))
        status = family_refuse(error, "rope_scaling", scaling, "a rope_type in it");
    if (status == 0) status = add_said(all, top, error);
    if (status == 0) status = take_all(c, all, json_object_get(json, "max_position_embeddings"), error);
    for (int i = 0; i < 4; i++) json_object_del(json, names[i]);
    json_decref(all);
    json_decref(top);
    return status;
}

void family_rope_write(json_t *json, const struct config *c, bool partial)
{
    size_t n;
    const char *word = word_at(types, c->rope_scaling, &n);
    json_t *scaling = json_pack("{s:s%}", "rope_type", word, n);
    for (int k = 0; k < KEYS; k++) {
        double value = *(const double *)(const void *)((const char *)c + keys[k].at);
        bool wanted = !keys[k].top && applies(keys[k].types, c->rope_scaling);
        if (strcmp(keys[k].name, "attention_factor") == 0 && value <= 0) wanted = false;
        if (wanted) json_object_set_new(scaling, keys[k].name, json_real(value));
    }
    if (applies("3y", c->rope_scaling))
        json_object_set_new(scaling, "original_max_position_embeddings", json_integer(c->rope_original));
    json_t *parameters = json_copy(scaling);
    json_object_set_new(parameters, "rope_theta", json_real(c->rope_theta));
    if (partial) json_object_set_new(parameters, "partial_rotary_factor", json_real(c->rope_fraction));
    json_object_set_new(json, "rope_theta", json_real(c->rope_theta));
    json_object_set_new(json, "rope_parameters", parameters);       /* read by version 5; the rest by those before */
    if (c->rope_scaling != ROPE_PLAIN) json_object_set(json, "rope_scaling", scaling);
    json_decref(scaling);
}
