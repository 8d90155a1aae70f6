/* amx.h (CPU) - what the products use of Intel AMX: eight tiles of up to 16 rows of 64 bytes, a set for each thread.
 * `tile` is a literal, 0 to 7; `ld` the distance of rows in bytes.   A test build replaces this file (test/amx).
 * Source: Intel SDM, volume 1, Programming with Intel Advanced Matrix Extensions; volume 2, LDTILECFG, TILELOADD,
 * TDPBF16PS, TILESTORED, TILEZERO, TILERELEASE. */
#ifndef QUARTET_AMX_H
#define QUARTET_AMX_H

#include <cpuid.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <unistd.h>

#define WITH_AMX __attribute__((target("amx-tile,amx-bf16")))

/* The memory that LDTILECFG reads.  A tile without rows is not there. */
struct amx_shapes { uint8_t palette, start_row, reserved[14]; uint16_t row_bytes[16]; uint8_t rows[16]; };

/* Whether processor and system let this process use tiles.  Linux grants them to a process that asks: to all of its
 * threads, for good (Documentation/arch/x86/xstate.rst). */
static inline bool amx_granted(void)
{
    enum { OSXSAVE = 27, AMX_BF16 = 22, AMX_TILE = 24, XTILECFG = 17, XTILEDATA = 18, ARCH_REQ_XCOMP_PERM = 0x1023 };
    unsigned a, b, c, d, enabled, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> OSXSAVE & 1)) return false;
    __asm__ volatile("xgetbv" : "=a"(enabled), "=d"(high) : "c"(0));
    if (!(enabled >> XTILECFG & enabled >> XTILEDATA & 1)) return false;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d >> AMX_BF16 & d >> AMX_TILE & 1)) return false;
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XTILEDATA) == 0;
}

/* Shapes the thread's tiles; they are 0 then. */
#define amx_configure(shapes) __asm__ volatile("ldtilecfg %0" : : "m"(*(shapes)))
/* Gives them up: the system need not save them any more. */
#define amx_release() __asm__ volatile("tilerelease")
#define amx_zero(tile) __asm__ volatile("tilezero %%tmm" #tile : :)
#define amx_load(tile, from, ld) \
    __asm__ volatile("tileloadd (%0,%1), %%tmm" #tile : : "r"(from), "r"((size_t)(ld)) : "memory")
#define amx_store(tile, to, ld) \
    __asm__ volatile("tilestored %%tmm" #tile ", (%0,%1)" : : "r"(to), "r"((size_t)(ld)) : "memory")
/* sums[m][n] += sum over k of a[m][2k] b[k][2n] + sum over k of a[m][2k + 1] b[k][2n + 1]: each of the two from zero,
 * step after step rounded to nearest; denormals are 0. */
#define amx_dot(sums, a, b) __asm__ volatile("tdpbf16ps %%tmm" #b ", %%tmm" #a ", %%tmm" #sums : :)

#endif
