/* host_memory.c - how much memory this process may still take: a batch job has less than the machine has.  Control
 * groups are nested, and every one above the process has its say; what they count as used includes cached files,
 * which the kernel drops on demand. */
#include "common/base/base.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

/* The number behind `key` (NULL: the first one) in a small file under root, or UINT64_MAX ("max", missing). */
static uint64_t number_in(const char *root, const char *path, const char *key)
{
    char *name = host_text("%s%s", root, path);
    struct bytes text = {0};
    uint64_t n = UINT64_MAX;
    if (file_read(&text, name, 1 << 20, NULL) == 0 && text.size > 0) {
        const char *at = key ? strstr(text.data, key) : text.data;
        char *end;
        if (at) {
            at += key ? strlen(key) : 0;
            unsigned long long value = strtoull(at, &end, 10);
            if (end > at) n = value;
        }
    }
    bytes_free(&text);
    free(name);
    return n;
}

static uint64_t left_of(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }

/* Version 2 and 1: where its groups are, and the files of a group. */
struct version { const char *base, *limit, *used, *cached; };
static const struct version versions[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", "\ninactive_file "},
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "\ntotal_inactive_file "}};

/* What one group leaves; UINT64_MAX without a limit. */
static uint64_t group_left(const char *root, const struct version *v, const char *group)
{
    char *file[3] = {host_text("%s%s/%s", v->base, group, v->limit), host_text("%s%s/%s", v->base, group, v->used),
                     host_text("%s%s/memory.stat", v->base, group)};
    uint64_t limit = number_in(root, file[0], NULL), used = number_in(root, file[1], NULL),
             cached = number_in(root, file[2], v->cached);
    for (int i = 0; i < 3; i++) free(file[i]);
    if (limit == UINT64_MAX || used == UINT64_MAX) return UINT64_MAX;
    return left_of(limit, cached == UINT64_MAX ? used : left_of(used, cached));
}

/* The least that the group of `line` ("0::/a/b", "4:memory:/a/b") and those above it leave. */
static uint64_t line_left(const char *root, char *line)
{
    char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
    uint64_t least = UINT64_MAX;
    if (!group) return least;
    *group++ = 0;
    controllers++;
    if (*controllers && strcmp(controllers, "memory") != 0) return least;
    const struct version *v = &versions[*controllers != 0];
    for (char *end = group + strlen(group);; end = strrchr(group, '/')) {
        if (end) *end = 0;
        uint64_t left = group_left(root, v, group);
        if (left < least) least = left;
        if (!end || !*group) return least;
    }
}

uint64_t cgroup_memory_left(const char *root)
{
    struct bytes text = {0};
    uint64_t least = UINT64_MAX;
    char *path = host_text("%s/proc/self/cgroup", root), *rest = NULL;
    if (file_read(&text, path, 1 << 16, NULL) == 0 && text.size > 0)
        for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest)) {
            uint64_t left = line_left(root, line);
            if (left < least) least = left;
        }
    bytes_free(&text);
    free(path);
    return least;
}

/* What setrlimit leaves of a resource of which `pages` are used. */
static uint64_t limit_left(int resource, uint64_t pages)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
    return left_of(limit.rlim_cur, pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

uint64_t host_memory_available(void)
{
    unsigned long long size = 0, data = 0;
    struct bytes text = {0};
    if (file_read(&text, "/proc/self/statm", 4096, NULL) == 0 && text.size > 0)
        sscanf(text.data, "%llu %*u %*u %*u %*u %llu", &size, &data);
    bytes_free(&text);
    uint64_t least = number_in("", "/proc/meminfo", "MemAvailable:");
    if (least != UINT64_MAX) least *= 1024;
    uint64_t other[] = {cgroup_memory_left(""), limit_left(RLIMIT_AS, size), limit_left(RLIMIT_DATA, data)};
    for (int i = 0; i < 3; i++)
        if (other[i] < least) least = other[i];
    return least;
}
