/* family_rope.c - the keys of rotary positions.  Each has up to three places, and all that are filled must agree: a
 * reader of the other version would compute something else. */
#include "common/interop/families.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* The types, in the order of enum rope_scaling, and for each a letter in the lists below. */
static const char *const types[] = {"default", "linear", "llama3", "yarn", "dynamic"};
static const char letters[] = "dl3yn";
enum { TYPES = sizeof types / sizeof *types };

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

static int read_type(enum rope_scaling *type, bool *found, const json_t *object, struct error *error)
{
    const json_t *names[] = {json_object_get(object, "rope_type"), json_object_get(object, "type")};
    for (int i = 0; i < 2; i++) {
        int t = 0;
        if (!names[i]) continue;
        while (t < TYPES && (!json_is_string(names[i]) || strcmp(types[t], json_string_value(names[i])) != 0)) t++;
        if (t == TYPES) return family_refuse(error, "rope_type", names[i], "default, linear, llama3, yarn or dynamic");
        if (*found && *type != (enum rope_scaling)t) return family_refuse(error, "rope_type", names[i], types[*type]);
        *type = (enum rope_scaling)t;
        *found = true;
    }
    return 0;
}

static bool applies(const char *list, enum rope_scaling type) { return strchr(list, letters[type]) != NULL; }

/* A key that is none of the type's, in one of the two objects. */
static int check_keys(const json_t *object, enum rope_scaling type, struct error *error)
{
    static const char *const others[][2] = {
        {"rope_type", "dl3yn"}, {"type", "dl3yn"}, {"original_max_position_embeddings", "3y"}, {"truncate", "y"}};
    const char *name;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)object, name, value) {
        bool known = false;
        for (int k = 0; k < KEYS && !known; k++)
            known = strcmp(keys[k].name, name) == 0 && applies(keys[k].types, type);
        for (int k = 0; k < 4 && !known; k++)
            known = strcmp(others[k][0], name) == 0 && applies(others[k][1], type);
        if (!known && !json_is_null(value))
            return fail(error, EXIT_DATA, "config.json: the key %s of rope type %s is not known and may change what the "
                        "model computes", text_shown(name).text, types[type]);
        if (strcmp(name, "truncate") == 0 && json_is_false(value)) return family_refuse(error, name, value, "true");
    }
    return 0;
}

/* The value of a key in whichever of the places has one; NULL: none.  They must agree. */
static int agreed(const json_t **value, const json_t *const place[3], const char *name, struct error *error)
{
    *value = NULL;
    for (int i = 0; i < 3; i++) {
        const json_t *found = json_object_get(place[i], name);
        if (!found || json_is_null(found)) continue;
        if (!json_is_number(found)) return family_refuse(error, name, found, "a number");
        if (*value && json_number_value(*value) != json_number_value(found))
            return family_refuse(error, name, found, "the value that rope_parameters or rope_scaling gives");
        *value = found;
    }
    return 0;
}

/* Frequencies turn to those of longer texts between `original` positions and more; absent: the context. */
static int read_original(struct config *c, const json_t *const place[3], const json_t *context, struct error *error)
{
    const json_t *value;
    if (agreed(&value, place, "original_max_position_embeddings", error) != 0) return -1;
    json_int_t n = json_integer_value(value ? value : context);
    if (n < 1 || n > INT32_MAX)
        return fail(error, EXIT_DATA, "config.json: original_max_position_embeddings is missing or not a number from 1 "
                    "up");
    c->rope_original = (int)n;
    return 0;
}

int family_rope_read(struct config *c, json_t *json, struct error *error)
{
    const json_t *objects[2] = {json_object_get(json, "rope_parameters"), json_object_get(json, "rope_scaling")};
    enum rope_scaling type = ROPE_PLAIN;
    bool found = false;
    for (int i = 0; i < 2; i++) {
        static const char *const name[] = {"rope_parameters", "rope_scaling"};
        if (objects[i] && !json_is_null(objects[i]) && !json_is_object(objects[i]))
            return family_refuse(error, name[i], objects[i], "an object");
        if (read_type(&type, &found, objects[i], error) != 0) return -1;
        if (i == 1 && json_object_size(objects[1]) > 0 && !found)
            return family_refuse(error, "rope_scaling", objects[1], "a rope_type in it");
    }
    if (type != ROPE_PLAIN && c->position != POSITION_ROPE)
        return fail(error, EXIT_DATA, "config.json: rope_type is %s, but the positions are not rotary", types[type]);
    for (int i = 0; i < 2; i++)
        if (check_keys(objects[i], type, error) != 0) return -1;
    c->rope_scaling = type;
    for (int k = 0; k < KEYS; k++) {
        const json_t *const place[3] = {objects[0], objects[1], keys[k].top ? json : NULL}, *value;
        double *field = (double *)(void *)((char *)c + keys[k].at);
        if (!applies(keys[k].types, type)) continue;
        if (agreed(&value, place, keys[k].name, error) != 0) return -1;
        if (value) *field = json_number_value(value);
        else if (keys[k].absent > 0) *field = keys[k].absent;
    }
    const json_t *const both[3] = {objects[0], objects[1], NULL};
    if (applies("3y", type) &&
        read_original(c, both, json_object_get(json, "max_position_embeddings"), error) != 0) return -1;
    static const char *const done[] = {"rope_parameters", "rope_scaling", "rope_theta", "partial_rotary_factor"};
    for (int i = 0; i < 4; i++) json_object_del(json, done[i]);
    return 0;
}

void family_rope_write(json_t *json, const struct config *c, bool partial)
{
    json_t *scaling = json_pack("{s:s}", "rope_type", types[c->rope_scaling]);
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
