/* files.h - files of a test, in a folder of its own: mkdtemp(folder) makes it. */
#include "test/test.h"

#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

static char folder[] = "/tmp/quartet_test_XXXXXX";

/* The path of a file in the folder, good for the next seven calls. */
static char *in(const char *name)
{
    static char path[8][300];
    static int n;
    n = (n + 1) % 8;
    snprintf(path[n], sizeof path[n], "%s/%s", folder, name);
    return path[n];
}

static void put(const char *name, const void *data, size_t size)
{
    struct error error;
    if (file_replace(in(name), data, size, &error) != 0) die("%s", error.text);
}

static void put_gzip(const char *name, const void *data, size_t size)
{
    gzFile gz = gzopen(in(name), "wb");
    if (!gz || gzwrite(gz, data, (unsigned)size) != (int)size || gzclose(gz) != Z_OK) die("cannot write %s", name);
}
