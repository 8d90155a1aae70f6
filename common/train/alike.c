/* alike.c - ranks must run one program on one thing: what differs would show up as numbers that are wrong, or as ranks
 * that wait for each other for ever. */
#include "common/base/options.h"
#include "common/train/train_state.h"

/* One fact a line: the build, every option that a rank may not have for itself, and where the data begins. */
static void facts(struct bytes *out, const struct train_state *s)
{
    bytes_text(out, "%s %s (%s)\n", program_name(), QUARTET_VERSION, program_build());
    for (const struct option *o = s->table; o->name; o++) {
        scoped char *text = word_number("threads|device|devices", o->name) < 0 ? option_text(o) : NULL;
        if (text) bytes_text(out, "--%s %s\n", o->name, text);
    }
    bytes_text(out, "data: ");
    data_position(out, s);
    bytes_text(out, "\n");
}

/* The line of which text[at] is part, for a message. */
static struct shown_text line_at(const char *text, size_t at)
{
    size_t from = at;
    while (from > 0 && text[from - 1] != '\n') from--;
    struct shown_text shown;
    text_escape(shown.text, sizeof shown.text, text + from, strcspn(text + from, "\n"));
    return shown;
}

int ranks_alike(struct train_state *s, struct error *error)
{
    struct comm *comm = s->o->comm;
    scoped_bytes struct bytes mine = {0};
    int status = 0;
    if (comm_place(comm).world == 1) return 0;
    facts(&mine, s);
    size_t size = mine.size, at = 0;
    comm_share_host(comm, GROUP_WORLD, &size, sizeof size, 0);
    scoped char *first = host_alloc(size + 1, 1);
    if (comm_place(comm).rank == 0) memcpy(first, mine.data, size);
    comm_share_host(comm, GROUP_WORLD, first, size, 0);
    while (at < size && at < mine.size && first[at] == mine.data[at]) at++;
    if (at < size || at < mine.size)
        status = fail(error, EXIT_MISMATCH, "\"%s\" here, but \"%s\" on rank 0: start all ranks from one build, with "
                      "the same options, on the same data", line_at(mine.data, at).text, line_at(first, at).text);
    return comm_agree(comm, status, error);
}
