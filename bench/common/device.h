/* What the benchmarks ask of a GPU themselves, by CUDA's driver, which is loaded when it is asked for. */
#ifndef BENCH_DEVICE_H
#define BENCH_DEVICE_H

#include <stddef.h>

struct device;

#define DEVICE_COPY_BYTES ((size_t)1 << 30)                 /* more than its caches hold */
#define DEVICE_COPY_MOVES (2.0 * (double)DEVICE_COPY_BYTES) /* read and written */

/* Of "cuda" or "cuda:N"; ends the program with a message where there is none. */
struct device *device_open(const char *name);
void device_close(struct device *device);
/* Waits for all that the device does before and after. */
void device_copy_in(struct device *device, void *to, const void *from, size_t bytes);
/* A copy of DEVICE_COPY_BYTES within the device's memory, waited for: a step of common/side.h. */
double device_copy_step(void *device, int index);

#endif
