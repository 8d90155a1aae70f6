/* in_memory.h - bytes as a file that has a path, for readers of files. */
#ifndef QUARTET_IN_MEMORY_H
#define QUARTET_IN_MEMORY_H

#include "common/base/base.h"

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static char in_memory_path[40];

/* The file; its path is in_memory_path until it is closed. */
static int in_memory(const uint8_t *data, size_t size)
{
    int file = memfd_create("fuzz", MFD_CLOEXEC);
    if (file < 0 || file_write_at(file, data, 0, size) != 0) abort();
    snprintf(in_memory_path, sizeof in_memory_path, "/proc/self/fd/%d", file);
    return file;
}

#endif
