// The structs of DLPack's ABI, versions 0.x and 1.x, as https://dmlc.github.io/dlpack documents them. Written here so that the
// library needs no header of another project; a test compares them with the real one.
#pragma once

#include <cstdint>

extern "C" {

struct DLDevice {
  int32_t device_type;  // 1: host, 2: CUDA, 3: pinned host memory
  int32_t device_id;
};
struct DLDataType {
  uint8_t code;  // 0: signed integer, 1: unsigned, 2: IEEE float, 4: bfloat
  uint8_t bits;
  uint16_t lanes;
};
struct DLTensor {
  void* data;
  DLDevice device;
  int32_t ndim;
  DLDataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; may be null: dense and row-major
  uint64_t byte_offset;
};
struct DLManagedTensor {
  DLTensor dl_tensor;
  void* manager_ctx;
  void (*deleter)(DLManagedTensor* self);
};
struct DLPackVersion {
  uint32_t major, minor;
};
struct DLManagedTensorVersioned {
  DLPackVersion version;
  void* manager_ctx;
  void (*deleter)(DLManagedTensorVersioned* self);
  uint64_t flags;  // bit 0: read only, bit 1: a copy
  DLTensor dl_tensor;
};

}  // extern "C"
