/* le.h - little-endian numbers in bytes, whatever the order of the machine. */
#pragma once

#include <stdint.h>
#include <string.h>

static inline uint16_t load16(const void *p) { const uint8_t *b = p; return (uint16_t)(b[0] | b[1] << 8); }
static inline uint32_t load32(const void *p) { return load16(p) | (uint32_t)load16((const uint8_t *)p + 2) << 16; }
static inline uint64_t load64(const void *p) { return load32(p) | (uint64_t)load32((const uint8_t *)p + 4) << 32; }
static inline double load_f64(const void *p) { uint64_t u = load64(p); double d; memcpy(&d, &u, 8); return d; }
static inline void store16(void *p, uint16_t v) { uint8_t *b = p; b[0] = (uint8_t)v; b[1] = (uint8_t)(v >> 8); }
static inline void store32(void *p, uint32_t v)
{
    store16(p, (uint16_t)v);
    store16((char *)p + 2, (uint16_t)(v >> 16));
}
static inline void store64(void *p, uint64_t v)
{
    store32(p, (uint32_t)v);
    store32((char *)p + 4, (uint32_t)(v >> 32));
}
