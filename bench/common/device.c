#include "device.h"

#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Of cuda.h: a pointer into the device's memory is an integer there. */
typedef unsigned long long device_pointer;

struct device {
  void *driver, *context;
  int index;
  device_pointer from, to;
  int (*synchronize)(void);
  int (*copy_in)(device_pointer, const void *, size_t);
  int (*copy)(device_pointer, device_pointer, size_t);
  int (*allocate)(device_pointer *, size_t);
  int (*release)(device_pointer);
  int (*make_current)(void *);
};

static void check(int status, const char *what) {
  if (status == 0) return;
  fprintf(stderr, "%s: CUDA's driver gives error %d\n", what, status);
  exit(1);
}

static void find(struct device *device, const char *name, void *function) {
  void *found = dlsym(device->driver, name);
  if (found == NULL) {
    fprintf(stderr, "found no %s in libcuda.so.1\n", name);
    exit(1);
  }
  memcpy(function, &found, sizeof found); /* ISO C has no conversion */
}

struct device *device_open(const char *name) {
  struct device *device = calloc(1, sizeof *device);
  if (device == NULL) abort();
  device->driver = dlopen("libcuda.so.1", RTLD_NOW);
  if (device->driver == NULL) {
    fprintf(stderr, "there is no CUDA driver: %s\n", dlerror());
    exit(1);
  }
  const char *colon = strchr(name, ':');
  device->index = colon == NULL ? 0 : atoi(colon + 1);
  int (*init)(unsigned), (*get)(int *, int), (*retain)(void **, int);
  find(device, "cuInit", &init);
  find(device, "cuDeviceGet", &get);
  find(device, "cuDevicePrimaryCtxRetain", &retain);
  find(device, "cuCtxSetCurrent", &device->make_current);
  find(device, "cuCtxSynchronize", &device->synchronize);
  find(device, "cuMemcpyHtoD_v2", &device->copy_in);
  find(device, "cuMemcpyDtoD_v2", &device->copy);
  find(device, "cuMemAlloc_v2", &device->allocate);
  find(device, "cuMemFree_v2", &device->release);
  int handle = 0;
  check(init(0), "cuInit");
  check(get(&handle, device->index), "cuDeviceGet");
  check(retain(&device->context, handle), "cuDevicePrimaryCtxRetain"); /* the one that CUDA's runtime uses */
  return device;
}

void device_close(struct device *device) {
  device->make_current(device->context);
  if (device->from != 0) device->release(device->from);
  if (device->to != 0) device->release(device->to);
  free(device); /* the driver stays until the process ends */
}

void device_copy_in(struct device *device, void *to, const void *from, size_t bytes) {
  check(device->make_current(device->context), "cuCtxSetCurrent");
  check(device->synchronize(), "cuCtxSynchronize");
  check(device->copy_in((device_pointer)(size_t)to, from, bytes), "cuMemcpyHtoD");
  check(device->synchronize(), "cuCtxSynchronize");
}

double device_copy_step(void *user, int index) {
  struct device *device = user;
  (void)index;
  check(device->make_current(device->context), "cuCtxSetCurrent");
  if (device->from == 0) {
    check(device->allocate(&device->from, DEVICE_COPY_BYTES), "cuMemAlloc");
    check(device->allocate(&device->to, DEVICE_COPY_BYTES), "cuMemAlloc");
  }
  check(device->copy(device->to, device->from, DEVICE_COPY_BYTES), "cuMemcpyDtoD");
  check(device->synchronize(), "cuCtxSynchronize");
  return 0;
}
