/* dump_lineage.c - `ckpt lineage`: the chains of all parents, grown together by weights_id into one tree.  One file
 * is enough; --dir only marks which ancestors are still at hand. */
#include "format/ckpt/dump.h"

#include <dirent.h>
#include <inttypes.h>
#include <stdlib.h>

/* The links' texts belong to the file's LINE, and self. */
struct node { struct link link; const char *role; char *found; int parent; bool itself; };
struct tree { struct node *node; int count; char *self; };

/* The node of this link below `parent`, made when it is new. */
static int grow(struct tree *t, int parent, const char *text, const char *role)
{
    struct link link;
    if (!lineage_parse(&link, text)) return parent;
    for (int i = 0; i < t->count; i++)
        if (t->node[i].parent == parent && strcmp(t->node[i].link.weights_id, link.weights_id) == 0) {
            if (role) t->node[i].role = role;
            return i;
        }
    t->node = host_grow(t->node, (size_t)t->count + 1, sizeof *t->node);
    t->node[t->count] = (struct node){.link = link, .role = role, .parent = parent};
    return t->count++;
}

static void grow_tree(struct tree *t, const struct ckpt *c)
{
    const struct kv *line = &c->header.meta.line;
    int below = -1;
    for (uint64_t p = 0; p < lineage_parents(line); p++) {
        char **chain;
        int at = -1;
        size_t n = lineage_chain(&chain, line, p);
        for (size_t k = 0; k < n; k++) at = grow(t, at, chain[k], k + 1 == n ? lineage_role(line, p) : NULL);
        if (p == 0) below = at;
    }
    const char *name = c->path + strlen(c->path);             /* the run's folder and the file */
    for (int slashes = 0; name > c->path && (name[-1] != '/' || ++slashes < 2);) name--;
    t->self = lineage_link(&c->header.meta, name);
    int self = grow(t, below, t->self, NULL);
    if (self >= 0) t->node[self].itself = true;
}

/* ---- --dir ---- */

static void mark(struct tree *t, const char *path)
{
    struct header h;
    char id[33];
    if (reader_header(&h, path, NULL) != 0) return;
    hex_text(id, h.meta.weights_id, 16);
    for (int i = 0; i < t->count; i++)
        if (!t->node[i].found && strcmp(t->node[i].link.weights_id, id) == 0) t->node[i].found = host_text("%s", path);
}

/* Checkpoints in the folder, and in the folders directly in it. */
static void mark_folder(struct tree *t, const char *folder, int depth)
{
    DIR *directory = opendir(folder);
    if (!directory) return;
    for (struct dirent *e; (e = readdir(directory));) {
        if (e->d_name[0] == '.') continue;
        char *path = host_text("%s/%s", folder, e->d_name);
        if (text_ends(e->d_name, ".ckpt")) mark(t, path);
        else if (depth > 0 && folder_is(path)) mark_folder(t, path, depth - 1);
        free(path);
    }
    closedir(directory);
}

/* ---- output ---- */

static void print_node(struct bytes *out, const struct tree *t, int i, const char *indent, bool last, bool marked)
{
    const struct node *n = &t->node[i];
    char step[32], tokens[16];
    bytes_text(out, "%s%s%-8s %s  step %s  tokens %s%s%s  %.8s", indent, n->parent < 0 ? "" : last ? "`- " : "|- ",
               n->link.stage, text_shown(n->link.name).text, with_commas(step, n->link.step),
               text_count(tokens, (double)n->link.tokens), *n->link.metric ? "  " : "",
               text_shown(n->link.metric).text, n->link.weights_id);
    if (n->role && *n->role) bytes_text(out, "  (%s)", text_shown(n->role).text);
    if (n->itself) bytes_text(out, "  <- this file");
    else if (n->found) bytes_text(out, "  found: %s", text_shown(n->found).text);
    else if (marked) bytes_text(out, "  not found");
    bytes_text(out, "\n");
}

static void print_below(struct bytes *out, const struct tree *t, int parent, const char *indent, bool marked)
{
    int left = 0;
    for (int i = 0; i < t->count; i++) left += t->node[i].parent == parent;
    for (int i = 0; i < t->count; i++) {
        if (t->node[i].parent != parent) continue;
        print_node(out, t, i, indent, --left == 0, marked);
        char *deeper = host_text("%s%s", indent, parent < 0 ? "" : left ? "|  " : "   ");
        print_below(out, t, i, deeper, marked);
        free(deeper);
    }
}

static json_t *node_row(const struct node *n)
{
    const struct link *link = &n->link;
    json_t *row = json_pack("{s:i, s:o, s:o, s:o, s:o, s:o, s:s}", "parent", n->parent, "stage", fact_text(link->stage),
                            "name", fact_text(link->name), "step", fact_u64(link->step), "tokens",
                            fact_u64(link->tokens), "metric", fact_text(link->metric), "weights_id",
                            link->weights_id);
    if (n->role) fact(row, "role", fact_text(n->role));
    if (n->found) fact(row, "found", fact_text(n->found));
    fact(row, "this_file", json_boolean(n->itself));
    return row;
}

static void free_tree(struct tree *t)
{
    for (int i = 0; i < t->count; i++) free(t->node[i].found);
    free(t->node);
    free(t->self);
}

void family_find(struct family *f, const struct ckpt *c, const char *dir)
{
    struct tree t = {0};
    *f = (struct family){0};
    grow_tree(&t, c);
    mark_folder(&t, dir, 1);
    print_below(&f->text, &t, -1, "", true);
    f->path = host_alloc((size_t)t.count + 1, sizeof *f->path);
    for (int i = 0; i < t.count; i++)
        if (t.node[i].found && !t.node[i].itself) f->path[f->count++] = host_text("%s", t.node[i].found);
    free_tree(&t);
}

void family_free(struct family *f)
{
    for (int i = 0; i < f->count; i++) free(f->path[i]);
    free(f->path);
    bytes_free(&f->text);
}

int dump_lineage(struct dump *d, struct ckpt *c, json_t *facts)
{
    struct tree t = {0};
    struct bytes text = {0};
    json_t *rows = json_array();
    grow_tree(&t, c);
    if (d->dir) mark_folder(&t, d->dir, 1);
    for (int i = 0; i < t.count; i++) fact(rows, NULL, node_row(&t.node[i]));
    fact(facts, "nodes", rows);
    if (!d->json) print_below(&text, &t, -1, "", d->dir != NULL);
    if (text.size) fputs(text.data, stdout);
    bytes_free(&text);
    free_tree(&t);
    return 0;
}
