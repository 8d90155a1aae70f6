/* host_memory.c - how much memory this process may still take.  Control groups are nested, each with its own limit;
 * what they count as used includes cached files, which the kernel drops on demand. */
#include "common/base/base.h"

#include <sys/resource.h>
#include <unistd.h>

static uint64_t left_of(uint64_t limit, uint64_t used) { return limit > used ? limit - used : 0; }
static uint64_t least_of(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* The number behind `key` ("": the first one) in the file root/group/file, or UINT64_MAX ("max", missing). */
static uint64_t number_in(const char *root, const char *group, const char *file, const char *key)
{
    scoped char *path = host_text("%s%s/%s", root, group, file);
    char *end;
    scoped_bytes struct bytes text = {0};
    uint64_t n = UINT64_MAX;
    const char *at = file_read(&text, path, 1 << 20, NULL) == 0 ? strstr(text.data, key) : NULL;
    if (at) {
        unsigned long long value = strtoull(at += strlen(key), &end, 10);
        if (end > at) n = value;
    }
    return n;
}

/* Versions 2 and 1: where the groups are, and the files of a group. */
static const struct version { const char *base, *limit, *used, *cached; } versions[] = {
    {"/sys/fs/cgroup", "memory.max", "memory.current", "\ninactive_file "},
    {"/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "\ntotal_inactive_file "}};

/* The least that the group of `line` ("0::/a/b", "4:memory:/a/b") and those above it leave. */
static uint64_t line_left(const char *root, const char *line)
{
    const char *controllers = strchr(line, ':'), *name = controllers ? strchr(controllers + 1, ':') : NULL;
    bool memory = name && strncmp(controllers, ":memory:", 8) == 0;
    uint64_t least = UINT64_MAX;
    if (!memory && (!name || name > controllers + 1)) return least;
    const struct version *v = &versions[memory];
    scoped char *group = host_text("%s%s", v->base, name + 1);
    char *end = group + strlen(group);
    for (; end; end = strrchr(group + strlen(v->base), '/')) {
        *end = 0;
        uint64_t limit = number_in(root, group, v->limit, ""), used = number_in(root, group, v->used, ""),
                 cached = number_in(root, group, "memory.stat", v->cached);
        if (limit == UINT64_MAX || used == UINT64_MAX) continue;
        least = least_of(least, left_of(limit, cached == UINT64_MAX ? used : left_of(used, cached)));
    }
    return least;
}

uint64_t cgroup_memory_left(const char *root)
{
    scoped_bytes struct bytes text = {0};
    uint64_t least = UINT64_MAX;
    scoped char *path = host_text("%s/proc/self/cgroup", root);
    char *rest = NULL;
    if (file_read(&text, path, 1 << 16, NULL) == 0)
        for (char *line = strtok_r(text.data, "\n", &rest); line; line = strtok_r(NULL, "\n", &rest))
            least = least_of(least, line_left(root, line));
    return least;
}

static uint64_t limit_left(int resource, uint64_t pages)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY) return UINT64_MAX;
    return left_of(limit.rlim_cur, pages * (uint64_t)sysconf(_SC_PAGESIZE));
}

uint64_t host_memory_available(void)
{
    unsigned long long size = 0, data = 0;
    scoped_bytes struct bytes text = {0};
    if (file_read(&text, "/proc/self/statm", 4096, NULL) == 0)
        sscanf(text.data, "%llu %*u %*u %*u %*u %llu", &size, &data);
    uint64_t free_kib = number_in("", "/proc", "meminfo", "MemAvailable:");
    uint64_t machine = free_kib == UINT64_MAX ? free_kib : 1024 * free_kib;
    uint64_t limits = least_of(limit_left(RLIMIT_AS, size), limit_left(RLIMIT_DATA, data));
    return least_of(least_of(machine, cgroup_memory_left("")), limits);
}
