/* test_host_memory.c - what the kernel's files say about memory, with files of our own in their place. */
#include "common/base/base.h"
#include "test/test.h"

#include <sys/resource.h>
#include <sys/stat.h>

static char root[] = "/tmp/quartet-groups-XXXXXX";

static void write_file(const char *path, const char *text)
{
    char *name = host_text("%s%s", root, path);
    for (char *slash = name + 1; (slash = strchr(slash, '/')); *slash++ = '/') {
        *slash = 0;
        mkdir(name, 0777);
    }
    struct error error;
    CHECK(file_replace(name, text, strlen(text), &error) == 0);
    free(name);
}

/* Version 2: the limit may stand in a group far above the process, and cached files do not count as used. */
static void test_nested(void)
{
    write_file("/proc/self/cgroup", "0::/job/step/task\n");
    CHECK(cgroup_memory_left(root) == UINT64_MAX);
    write_file("/sys/fs/cgroup/job/step/task/memory.max", "max\n");
    write_file("/sys/fs/cgroup/job/step/task/memory.current", "500\n");
    CHECK(cgroup_memory_left(root) == UINT64_MAX);
    write_file("/sys/fs/cgroup/job/memory.max", "9000\n");
    write_file("/sys/fs/cgroup/job/memory.current", "1000\n");
    CHECK(cgroup_memory_left(root) == 8000);
    write_file("/sys/fs/cgroup/job/step/memory.max", "3000\n");
    write_file("/sys/fs/cgroup/job/step/memory.current", "900\n");
    CHECK(cgroup_memory_left(root) == 2100);
    write_file("/sys/fs/cgroup/job/step/memory.stat", "anon 500\ninactive_file 400\nactive_file 0\n");
    CHECK(cgroup_memory_left(root) == 2500);
    write_file("/sys/fs/cgroup/memory.max", "2000\n");                 /* a container that sees only itself */
    write_file("/sys/fs/cgroup/memory.current", "2500\n");
    CHECK(cgroup_memory_left(root) == 0);
}

static void test_version_1(void)
{
    write_file("/proc/self/cgroup", "9:name=systemd:/\n4:memory:/job/step\n3:cpuset:/\n");
    write_file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
    write_file("/sys/fs/cgroup/memory/memory.usage_in_bytes", "100\n");
    write_file("/sys/fs/cgroup/memory/job/memory.limit_in_bytes", "5000\n");
    write_file("/sys/fs/cgroup/memory/job/memory.usage_in_bytes", "1500\n");
    CHECK(cgroup_memory_left(root) == 3500);
    write_file("/sys/fs/cgroup/memory/job/memory.stat", "cache 9\ntotal_inactive_file 500\n");
    CHECK(cgroup_memory_left(root) == 4000);
}

static void test_limit(void)
{
    struct rlimit old, small;
    uint64_t before = host_memory_available();
    CHECK(before > 1 << 20 && before < 1ull << 50);
    getrlimit(RLIMIT_DATA, &old);
    small = (struct rlimit){512 << 20, old.rlim_max};
    CHECK(setrlimit(RLIMIT_DATA, &small) == 0);
    CHECK(host_memory_available() <= 512 << 20);
    setrlimit(RLIMIT_DATA, &old);
    CHECK(host_memory_available() > before / 2);
}

int main(void)
{
    if (!mkdtemp(root)) return 1;
    test_nested();
    test_version_1();
    test_limit();
    char *command = host_text("rm -r '%s'", root);
    CHECK(system(command) == 0);
    free(command);
    return test_end("test_host_memory");
}
