/* world.c - a small written world for the demonstration: twelve animals, each with a home and a food, and things they find.
 *
 *     world corpus SEED BYTES            stories and facts, one document after the other, split by <|endoftext|> lines
 *     world chats SEED N                 N instructions with demonstrations, some of them flawed, as a person's are
 *     world prompts SEED N               N instructions only
 *     world rank SEED [AGREEMENT] < A    answers {prompt, response} -> {prompt, responses, ranks}: noisy rankings that agree with the
 *                                        rule on AGREEMENT (0.73) of the pairs of one prompt
 *     world score < A                    means of gold, length, distinct-2, share of ended answers: one line of numbers
 *     world gold                         a reward program: one JSON line {prompt, response} in, gold out
 *
 * Gold is a rule, in [0, 1]: an instruction in this world has an answer that can be checked.  Instructions of `chats`, `prompts` and
 * rankings come from one set, split by seed: prompts of odd and even seeds share no story (animal, adjective, object). */
#include "common/base/base.h"
#include "common/base/rng.h"

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct animal { const char *name, *home, *food; };
static const struct animal animal[] = {
    {"fox", "forest", "berries"}, {"owl", "tree", "mice"}, {"bear", "cave", "honey"}, {"frog", "pond", "flies"},
    {"duck", "lake", "bread"}, {"mouse", "house", "cheese"}, {"cat", "garden", "fish"}, {"dog", "farm", "bones"},
    {"hen", "yard", "corn"}, {"goat", "hill", "grass"}, {"horse", "field", "apples"}, {"rabbit", "hole", "carrots"}};
static const char *const adjective[] = {"red", "old", "small", "kind", "brave", "lazy", "happy", "quiet"};
static const char *const object[] = {"ball", "boat", "key", "cake", "hat", "bell", "book", "lamp", "drum", "kite"};
static const char *const feeling[] = {"glad", "proud", "tired", "calm"};
enum { ANIMALS = 12, ADJECTIVES = 8, OBJECTS = 10, FEELINGS = 4 };

enum kind { STORY, HOME, FOOD };
struct wish { enum kind kind; int animal, adjective, object; };

static int pick(struct rng *r, int n) { return (int)rng_below(r, (uint64_t)n); }
static bool chance(struct rng *r, double p) { return rng_uniform(r) < p; }
static int other(struct rng *r, int n, int not) { return (not + 1 + pick(r, n - 1)) % n; }

/* ---- text ---- */

static const char *article(const char *word) { return strchr("aeiou", word[0]) ? "an" : "a"; }

static void add_story(struct bytes *b, struct rng *r, int a, int adj, int obj, bool home, bool end)
{
    const char *name = animal[a].name, *thing = object[obj];
    bytes_text(b, chance(r, 0.5) ? "Once there was %s %s %s." : "There was once %s %s %s.", article(adjective[adj]),
               adjective[adj], name);
    if (home) bytes_text(b, " The %s lived in the %s.", name, animal[a].home);
    bytes_text(b, chance(r, 0.5) ? " One day the %s found a %s." : " One day the %s saw a %s.", name, thing);
    int k = pick(r, 3);
    if (k == 0) bytes_text(b, " The %s took the %s home.", name, thing);
    if (k == 1) bytes_text(b, " The %s played with the %s all day.", name, thing);
    if (k == 2) {
        const char *friend = animal[other(r, ANIMALS, a)].name;
        bytes_text(b, " %s %s came to see the %s.", friend[0] == 'o' ? "An" : "A", friend, thing);
    }
    bytes_text(b, " The %s was %s.", name, feeling[pick(r, FEELINGS)]);
    if (end) bytes_text(b, " The end.");
}

static void add_fact(struct bytes *b, int a, enum kind kind)
{
    if (kind == HOME) bytes_text(b, "The %s lives in the %s.", animal[a].name, animal[a].home);
    else bytes_text(b, "The %s likes to eat %s.", animal[a].name, animal[a].food);
}

static void corpus(uint64_t seed, uint64_t bytes)
{
    uint64_t done = 0;
    for (uint64_t i = 0; done < bytes; i++) {
        struct rng r = rng_at(seed, RNG_TEST, 1, i);
        struct bytes b = {0};
        if (chance(&r, 0.75)) {
            int a = pick(&r, ANIMALS), adj = pick(&r, ADJECTIVES), obj = pick(&r, OBJECTS);
            if (chance(&r, 0.7)) bytes_text(&b, "The %s %s and the %s.\n", adjective[adj], animal[a].name, object[obj]);     /* a title */
            add_story(&b, &r, a, adj, obj, chance(&r, 0.6), chance(&r, 0.7));
        } else {
            int about = chance(&r, 0.6) ? pick(&r, ANIMALS) : -1;        /* one animal under its title, or any */
            if (about >= 0) bytes_text(&b, "The %s.\n", animal[about].name);
            for (int n = 2 + pick(&r, 2); n > 0; n--) {
                add_fact(&b, about >= 0 ? about : pick(&r, ANIMALS), chance(&r, 0.5) ? HOME : FOOD);
                if (n > 1) bytes_text(&b, " ");
            }
        }
        done += b.size + 15;
        printf("%s\n<|endoftext|>\n", b.data);
        bytes_free(&b);
    }
}

/* Stories are split in two halves by their number, so that prompts of odd seeds never occur under even ones. */
static struct wish wish_at(struct rng *r, uint64_t seed)
{
    struct wish w = {.kind = chance(r, 0.7) ? STORY : chance(r, 0.5) ? HOME : FOOD};
    do {
        w.animal = pick(r, ANIMALS);
        w.adjective = pick(r, ADJECTIVES);
        w.object = pick(r, OBJECTS);
    } while (w.kind == STORY && (uint64_t)(w.animal + w.adjective + w.object) % 2 != seed % 2);
    return w;
}

static void add_wish(struct bytes *b, struct rng *r, const struct wish *w)
{
    const char *name = animal[w->animal].name, *adj = adjective[w->adjective], *thing = object[w->object];
    int k = pick(r, 2);
    if (w->kind == STORY) bytes_text(b, k ? "Tell me a story about %s %s %s and a %s." : "Write about %s %s %s who finds a %s.",
                                     article(adj), adj, name, thing);
    if (w->kind == HOME) bytes_text(b, k ? "Where does the %s live?" : "Tell me where the %s lives.", name);
    if (w->kind == FOOD) bytes_text(b, k ? "What does the %s like to eat?" : "Tell me what the %s eats.", name);
}

/* A demonstration as a hurried person writes it: each part may be wrong or missing. */
static void add_answer(struct bytes *b, struct rng *r, const struct wish *w)
{
    int a = w->animal, adj = w->adjective, obj = w->object;
    bool astray = w->kind != STORY && chance(r, 0.12);          /* a story where a fact was asked for */
    if (w->kind != STORY && !astray) {
        add_fact(b, chance(r, 0.2) ? other(r, ANIMALS, a) : a, w->kind);
        return;
    }
    if (chance(r, 0.25)) adj = other(r, ADJECTIVES, adj);
    if (chance(r, 0.3)) obj = other(r, OBJECTS, obj);
    add_story(b, r, a, adj, obj, chance(r, 0.5), chance(r, 0.6));
}

static void print_row(json_t *row)
{
    char *text = json_dumps(row, JSON_COMPACT | JSON_PRESERVE_ORDER);
    puts(text);
    free(text);
    json_decref(row);
}

static void chats(uint64_t seed, uint64_t n, bool answers)
{
    for (uint64_t i = 0; i < n; i++) {
        struct rng r = rng_at(seed, RNG_TEST, answers ? 2 : 3, i);
        struct wish w = wish_at(&r, seed);
        struct bytes prompt = {0}, answer = {0};
        add_wish(&prompt, &r, &w);
        add_answer(&answer, &r, &w);
        json_t *row = json_pack("{s:s}", "prompt", prompt.data);
        if (answers) json_object_set_new(row, "response", json_string(answer.data));
        print_row(row);
        bytes_free(&prompt);
        bytes_free(&answer);
    }
}

/* ---- gold ---- */

static bool has_word(const char *text, const char *word)
{
    size_t n = strlen(word);
    for (const char *p = text; (p = strstr(p, word)); p += n) {
        bool left = p == text || p[-1] == ' ', right = !p[n] || strchr(" .,?!", p[n]);
        if (left && right) return true;
    }
    return false;
}

/* Sentences of the text; *repeated: one of them occurs twice. */
static int sentences(const char *text, bool *repeated)
{
    const char *start[64];
    size_t length[64];
    int n = 0;
    *repeated = false;
    while (*text && n < 64) {
        size_t k = strcspn(text, ".?!");
        while (*text == ' ' && k) { text++; k--; }
        if (k) {
            for (int i = 0; i < n; i++) *repeated |= length[i] == k && memcmp(start[i], text, k) == 0;
            start[n] = text;
            length[n++] = k;
        }
        text += k;
        if (*text) text++;
    }
    return n;
}

static double gold_story(const struct wish *w, const char *answer)
{
    char named[64];
    bool repeated;
    int n = sentences(answer, &repeated), strange = 0;
    snprintf(named, sizeof named, "%s %s", adjective[w->adjective], animal[w->animal].name);
    size_t length = strlen(answer);
    bool ends = length >= 8 && strcmp(answer + length - 8, "The end.") == 0;
    for (int o = 0; o < OBJECTS; o++) strange += o != w->object && has_word(answer, object[o]);
    double gold = has_word(answer, named) ? 0.25 : has_word(answer, animal[w->animal].name) ? 0.1 : 0;
    gold += has_word(answer, object[w->object]) ? 0.25 : 0;
    gold += ends ? 0.2 : 0;
    gold += n >= 3 && n <= 7 && !repeated ? 0.1 : 0;
    gold += has_word(answer, animal[w->animal].home) ? 0.2 : 0;
    gold -= 0.1 * strange;
    return gold > 0 ? gold : 0;
}

static double gold_fact(const struct wish *w, const char *answer)
{
    bool repeated;
    int wrong = 0, n = sentences(answer, &repeated);
    for (int a = 0; a < ANIMALS; a++)
        if (a != w->animal) wrong += has_word(answer, w->kind == HOME ? animal[a].home : animal[a].food);
    bool right = has_word(answer, w->kind == HOME ? animal[w->animal].home : animal[w->animal].food);
    return (right && wrong == 0 ? 0.7 : 0) + (n == 1 && has_word(answer, animal[w->animal].name) ? 0.3 : 0);
}

static int find(const char *text, const char *const *word, int n)
{
    for (int i = 0; i < n; i++)
        if (has_word(text, word[i])) return i;
    return 0;
}

static double gold(const char *prompt, const char *answer)
{
    const char *name[ANIMALS];
    for (int a = 0; a < ANIMALS; a++) name[a] = animal[a].name;
    while (*answer == ' ' || *answer == '\n') answer++;
    struct wish w = {.animal = find(prompt, name, ANIMALS), .adjective = find(prompt, adjective, ADJECTIVES),
                     .object = find(prompt, object, OBJECTS)};
    w.kind = has_word(prompt, "about") ? STORY : strstr(prompt, "here") ? HOME : FOOD;
    return w.kind == STORY ? gold_story(&w, answer) : gold_fact(&w, answer);
}

/* ---- answers from outside ---- */

struct answer { char *prompt, *response; double gold, noise; int rank; bool stopped; };

static bool read_answer(struct answer *a, FILE *in)
{
    char *line = NULL;
    size_t room = 0;
    json_t *row = getline(&line, &room, in) > 0 ? json_loads(line, JSON_ALLOW_NUL, NULL) : NULL;
    free(line);
    const char *prompt = json_string_value(json_object_get(row, "prompt"));
    const char *response = json_string_value(json_object_get(row, "response"));
    json_t *stopped = json_object_get(row, "stopped");
    bool ok = prompt && response;
    if (ok) *a = (struct answer){host_text("%s", prompt), host_text("%s", response), gold(prompt, response), 0, 0,
                                 !stopped || json_is_true(stopped)};
    json_decref(row);
    return ok;
}

static struct answer *read_answers(size_t *count)
{
    struct answer *all = NULL, a;
    size_t n = 0;
    while (read_answer(&a, stdin)) {
        all = host_grow(all, n + 1, sizeof *all);
        all[n++] = a;
    }
    *count = n;
    return all;
}

static bool same_prompt(const struct answer *a, const struct answer *b) { return strcmp(a->prompt, b->prompt) == 0; }

/* Share of the pairs of one prompt with different gold that gold + scale * noise orders as gold does. */
static double agreement(const struct answer *a, size_t n, double scale)
{
    double agree = 0, pairs = 0;
    for (size_t i = 0; i < n; i++)
        for (size_t j = i + 1; j < n && same_prompt(&a[i], &a[j]); j++) {
            double d = a[i].gold - a[j].gold, seen = d + scale * (a[i].noise - a[j].noise);
            if (fabs(d) < 1e-9) continue;
            pairs++;
            agree += (d > 0) == (seen > 0);
        }
    return pairs ? agree / pairs : 1;
}

static void rank(uint64_t seed, double wanted)
{
    size_t n;
    struct answer *a = read_answers(&n);
    double low = 0, high = 10;
    for (size_t i = 0; i < n; i++) {
        struct rng r = rng_at(seed, RNG_TEST, 4, i);
        a[i].noise = -log(-log(1 - 0.999999 * (1 - rng_uniform(&r)) - 5e-7));     /* Gumbel: Plackett-Luce rankings */
    }
    for (int k = 0; k < 50; k++) {
        double middle = (low + high) / 2;
        *(agreement(a, n, middle) > wanted ? &low : &high) = middle;
    }
    for (size_t i = 0, j; i < n; i = j) {
        json_t *responses = json_array(), *ranks = json_array();
        for (j = i; j < n && same_prompt(&a[i], &a[j]); j++) {}
        for (size_t k = i; k < j; k++) {
            int better = 0;
            for (size_t m = i; m < j; m++) better += a[m].gold + low * a[m].noise > a[k].gold + low * a[k].noise;
            json_array_append_new(responses, json_string(a[k].response));
            json_array_append_new(ranks, json_integer(better + 1));
        }
        print_row(json_pack("{s:s,s:o,s:o}", "prompt", a[i].prompt, "responses", responses, "ranks", ranks));
    }
    fprintf(stderr, "world: %zu answers ranked, agreement with the rule %.3f\n", n, agreement(a, n, low));
}

static uint64_t pair_hash(const char *a, size_t na, const char *b, size_t nb)
{
    return (uint64_t)crc32_of(0, a, na) << 32 | crc32_of(7, b, nb);
}

static int compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return x < y ? -1 : x > y;
}

/* Different pairs of neighbouring words / all pairs of neighbouring words. */
static double distinct_2(const struct answer *a, size_t n)
{
    uint64_t *pair = NULL;
    size_t pairs = 0, different = 0;
    for (size_t i = 0; i < n; i++) {
        const char *last = NULL;
        size_t last_length = 0;
        for (const char *p = a[i].response; *p;) {
            size_t k = strcspn(p, " ");
            if (k && last) {
                pair = host_grow(pair, pairs + 1, sizeof *pair);
                pair[pairs++] = pair_hash(last, last_length, p, k);
            }
            if (k) { last = p; last_length = k; }
            p += k + (p[k] == ' ');
        }
    }
    if (pairs) qsort(pair, pairs, sizeof *pair, compare_u64);
    for (size_t i = 0; i < pairs; i++) different += i == 0 || pair[i] != pair[i - 1];
    free(pair);
    return pairs ? (double)different / (double)pairs : 0;
}

static void score(void)
{
    size_t n;
    struct answer *a = read_answers(&n);
    double sum = 0, words = 0, stopped = 0;
    for (size_t i = 0; i < n; i++) {
        sum += a[i].gold;
        stopped += a[i].stopped;
        for (const char *p = a[i].response; *p; p++) words += *p == ' ';
        words++;
    }
    if (n == 0) quit(EXIT_DATA, "no answers on stdin");
    printf("%.4f %.1f %.3f %.3f %zu\n", sum / (double)n, words / (double)n, distinct_2(a, n), stopped / (double)n, n);
}

int main(int argc, char **argv)
{
    const char *what = argc > 1 ? argv[1] : "";
    uint64_t seed = argc > 2 ? strtoull(argv[2], NULL, 10) : 1, n = argc > 3 ? strtoull(argv[3], NULL, 10) : 0;
    program_begin("world");
    if (strcmp(what, "corpus") == 0) corpus(seed, n);
    else if (strcmp(what, "chats") == 0) chats(seed, n, true);
    else if (strcmp(what, "prompts") == 0) chats(seed, n, false);
    else if (strcmp(what, "rank") == 0) rank(seed, argc > 3 ? strtod(argv[3], NULL) : 0.73);
    else if (strcmp(what, "score") == 0) score();
    else if (strcmp(what, "gold") == 0) {
        struct answer a;
        while (read_answer(&a, stdin)) {
            printf("%.6f\n", a.gold);
            fflush(stdout);
            free(a.prompt);
            free(a.response);
        }
    } else quit(EXIT_USAGE, "expected corpus, chats, prompts, rank, score or gold");
    return fflush(stdout) != 0 ? EXIT_IO : EXIT_DONE;
}
