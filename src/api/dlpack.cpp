#include <array>
#include <memory>

#include "api/dlpack_abi.h"
#include "api/handles.h"

using mpt::checked;
using mpt::guarded;

namespace {

enum DLDeviceKind : int32_t { dl_cpu = 1, dl_cuda = 2, dl_cuda_host = 3, dl_cuda_managed = 13 };
enum DLTypeCode : uint8_t { dl_int = 0, dl_uint = 1, dl_float = 2, dl_bfloat = 4 };
constexpr uint32_t dlpack_major = 1, dlpack_minor = 0;

struct TypePair {
  mpt_dtype own;
  DLDataType dl;
};
constexpr TypePair type_pairs[] = {
    {MPT_FLOAT32, {dl_float, 32, 1}}, {MPT_FLOAT16, {dl_float, 16, 1}}, {MPT_BFLOAT16, {dl_bfloat, 16, 1}},
    {MPT_FLOAT64, {dl_float, 64, 1}}, {MPT_INT32, {dl_int, 32, 1}},     {MPT_INT64, {dl_int, 64, 1}},
    {MPT_UINT8, {dl_uint, 8, 1}},
};

mpt_array array_of(const DLTensor& tensor) {
  mpt_array array{};
  for (const TypePair& pair : type_pairs)
    if (pair.dl.code == tensor.dtype.code && pair.dl.bits == tensor.dtype.bits && tensor.dtype.lanes == 1)
      array.dtype = pair.own;
  if (array.dtype == 0)
    mpt::fail(
        MPT_ERROR_UNSUPPORTED,
        "the tensor's type has code %d, %d bits, %d lanes; expected a 16- to 64-bit float, bfloat16, int32, int64 or "
        "uint8 of one lane",
        tensor.dtype.code, tensor.dtype.bits, tensor.dtype.lanes);
  if (tensor.ndim < 0 || tensor.ndim > MPT_MAX_RANK)
    mpt::fail(MPT_ERROR_UNSUPPORTED, "the tensor has %d dimensions, expected 0 to %d", tensor.ndim, MPT_MAX_RANK);
  switch (tensor.device.device_type) {
    case dl_cpu:
    case dl_cuda_host:
      array.device_type = MPT_DEVICE_CPU;
      break;
    case dl_cuda:
    case dl_cuda_managed:
      array.device_type = MPT_DEVICE_CUDA;
      array.device_index = tensor.device.device_id;
      break;
    default:
      mpt::fail(MPT_ERROR_UNSUPPORTED, "the tensor is on a device of type %d, expected the host (1) or CUDA (2)",
                tensor.device.device_type);
  }
  MPT_CHECK_ARGUMENT(tensor.ndim == 0 || tensor.shape, "the tensor has %d dimensions and no shape", tensor.ndim);
  array.rank = tensor.ndim;
  for (int d = 0; d < tensor.ndim; ++d) {
    array.shape[d] = tensor.shape[d];
    if (tensor.strides) array.strides[d] = tensor.strides[d];
  }
  if (tensor.data) array.data = static_cast<char*>(tensor.data) + tensor.byte_offset;
  return array;
}

// What a tensor that was handed out points to, and keeps alive.
template <class Managed>
struct Export {
  Managed managed{};
  std::shared_ptr<mpt::Context> context;
  std::shared_ptr<mpt::Params> params;
  std::array<int64_t, MPT_MAX_RANK> shape{}, strides{};
};

template <class Managed>
void destroy_export(Managed* managed) {
  if (!managed) return;
  auto* self = static_cast<Export<Managed>*>(managed->manager_ctx);
  const std::shared_ptr<mpt::Context> context = self->context;
  context->destroy_later([self] { delete self; });
}

template <class Managed>
Managed* export_part(mpt_params* params, const char* name, int32_t part) {
  const mpt::Call call(checked(params, "params").context, mpt::Context::Access::read);
  mpt_array array{};
  mpt::describe_part(*params, name, part, &array);
  auto self = std::make_unique<Export<Managed>>();
  self->context = params->context;
  self->params = params->params;
  DLTensor& tensor = self->managed.dl_tensor;
  tensor.data = array.data;
  tensor.device = {array.device_type == MPT_DEVICE_CUDA ? dl_cuda : dl_cpu, array.device_index};
  tensor.ndim = array.rank;
  for (const TypePair& pair : type_pairs)
    if (pair.own == array.dtype) tensor.dtype = pair.dl;
  int64_t stride = 1;
  for (int d = array.rank - 1; d >= 0; --d) {
    self->shape[d] = array.shape[d];
    self->strides[d] = stride;
    stride *= array.shape[d];
  }
  tensor.shape = self->shape.data();
  tensor.strides = self->strides.data();
  self->managed.manager_ctx = self.get();
  self->managed.deleter = destroy_export<Managed>;
  return &self.release()->managed;
}

}  // namespace

extern "C" {

mpt_status mpt_array_from_dlpack(const DLManagedTensor* tensor, mpt_array* out) {
  return guarded("mpt_array_from_dlpack", [&] {
    MPT_CHECK_ARGUMENT(tensor && out, "tensor or out is NULL");
    *out = array_of(tensor->dl_tensor);
  });
}

mpt_status mpt_array_from_dlpack_versioned(const DLManagedTensorVersioned* tensor, mpt_array* out) {
  return guarded("mpt_array_from_dlpack_versioned", [&] {
    MPT_CHECK_ARGUMENT(tensor && out, "tensor or out is NULL");
    if (tensor->version.major != dlpack_major)
      mpt::fail(MPT_ERROR_UNSUPPORTED, "the tensor is of DLPack %u.%u, expected %u.x", tensor->version.major,
                tensor->version.minor, dlpack_major);
    *out = array_of(tensor->dl_tensor);
  });
}

mpt_status mpt_params_to_dlpack(mpt_params* params, const char* name, int32_t part, DLManagedTensor** out) {
  return guarded("mpt_params_to_dlpack", [&] {
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    *out = nullptr;
    *out = export_part<DLManagedTensor>(params, name, part);
  });
}

mpt_status mpt_params_to_dlpack_versioned(mpt_params* params, const char* name, int32_t part,
                                          DLManagedTensorVersioned** out) {
  return guarded("mpt_params_to_dlpack_versioned", [&] {
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    *out = nullptr;
    auto* tensor = export_part<DLManagedTensorVersioned>(params, name, part);
    tensor->version = {dlpack_major, dlpack_minor};
    *out = tensor;
  });
}

}  // extern "C"
