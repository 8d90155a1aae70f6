/* options_saved.c - options are saved and compared as text, so that a type or unit may change without a new format. */
#include "common/train/options_saved.h"
#include "common/base/options_value.h"

#include <stdlib.h>
#include <string.h>

/* The name in a checkpoint: dashes as underscores. */
static void key_of(char key[160], const struct option *o)
{
    snprintf(key, 160, "option.%s", o->name);
    for (char *p = key; *p; p++)
        if (*p == '-') *p = '_';
}

void options_save(struct kv *kv, const struct option *table)
{
    char key[160];
    for (const struct option *o = table; o->name; o++) {
        if (o->flags & OPTION_NOT_SAVED || option_unset(o)) continue;
        char *value = option_text(o);
        key_of(key, o);
        kv_set_text(kv, key, value);
        free(value);
    }
}

void options_adopt(const struct option *table, const struct kv *saved)
{
    char key[160];
    for (const struct option *o = table; o->name; o++) {
        struct error none;
        const char *old = NULL;
        key_of(key, o);
        if (option_auto(o) && kv_get_text(saved, key, &old) == 1) option_set(o, old, &none);
    }
}

int options_compare(const struct option *table, const struct kv *saved, struct error *error)
{
    char key[160], a[300], b[300];
    for (const struct option *o = table; o->name; o++) {
        if (o->flags & (OPTION_NOT_SAVED | OPTION_MAY_CHANGE)) continue;
        const char *old = NULL;
        key_of(key, o);
        if (kv_get_text(saved, key, &old) < 0) return fail(error, EXIT_DATA, "%s: not a text", key);
        char *standard = old ? NULL : option_default_text(o), *now = option_text(o);
        if (!old) old = standard;
        bool same = strcmp(old, now) == 0;
        if (!same)
            fail(error, EXIT_MISMATCH,
                 "--%s is %s now, but the run was started with %s: give the same value, or another --out "
                 "for a new run",
                 o->name, *now ? text_escape(a, sizeof a, now, strlen(now)) : "not set",
                 *old ? text_escape(b, sizeof b, old, strlen(old)) : "none");
        free(standard);
        free(now);
        if (!same) return -1;
    }
    return 0;
}
