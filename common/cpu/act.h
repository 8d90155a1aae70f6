/* act.h (CPU) - activations and packed weights: float32, or with PRECISION=bf16 bfloat16, the upper half of a float32.
 * A backend's act.h is found through the include path. */
#ifndef QUARTET_ACT_H
#define QUARTET_ACT_H

#include <stddef.h>
#include <stdint.h>

#ifdef ACT_BF16
typedef struct { uint16_t bits; } act_t;
/* The array itself where it is one of floats, else NULL. */
static inline float *act_floats(const act_t *p) { (void)p; return NULL; }
#else
typedef float act_t;
static inline float *act_floats(const act_t *p) { return (float *)(uintptr_t)p; }
#endif

#endif
