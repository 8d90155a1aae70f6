/* act.h (CUDA) - activations and packed weights: bfloat16, or float32 in the build that checks it (PRECISION=f32).
 * Host code sees two bytes that it only copies. */
#ifndef QUARTET_ACT_H
#define QUARTET_ACT_H

#if !defined(ACT_BF16)
typedef float act_t;
#elif defined(__cplusplus)
#include <cuda_bf16.h>
typedef __nv_bfloat16 act_t;
#else
#include <stdint.h>
typedef struct { uint16_t bits; } act_t;
#endif

#endif
