/* act.h (CPU) - activations and packed weights are float32.  A backend's act.h is found through the include path. */
#ifndef QUARTET_ACT_H
#define QUARTET_ACT_H

typedef float act_t;

#endif
