#include <string>

#include "api/handles.h"
#include "backend/cuda_entry.h"
#include "mpt_cuda.h"

using mpt::checked;
using mpt::guarded;

extern "C" {

mpt_status mpt_cuda_device_count(int32_t* out) {
  return guarded("mpt_cuda_device_count", [&] {
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    *out = 0;
    *out = mpt::count_cuda_devices();
  });
}

mpt_status mpt_cuda_options_init(mpt_cuda_options* options, uint64_t struct_size) {
  return guarded("mpt_cuda_options_init",
                 [&] { mpt::init_struct("mpt_cuda_options", options, struct_size, mpt_cuda_options{}); });
}

mpt_status mpt_cuda_context_create(mpt_context** out, const mpt_context_options* options,
                                   const mpt_cuda_options* cuda) {
  return mpt::created("mpt_cuda_context_create", out, [&](mpt_context& handle) {
    const mpt_cuda_options c = mpt::read_options("mpt_cuda_options", cuda, mpt_cuda_options{});
    constexpr int32_t most_devices = 100;
    MPT_CHECK_ARGUMENT(c.device >= 0 && c.device < most_devices, "cuda->device is %d, expected 0 to %d", c.device,
                       most_devices - 1);
    const std::string device = "cuda:" + std::to_string(c.device);
    mpt_allocator allocator{};
    mpt_context_options own = mpt::read_context_options(options, &allocator);
    own.device = device.c_str();
    handle.context = std::make_shared<mpt::Context>(own, c.stream);
  });
}

mpt_status mpt_cuda_stream(mpt_context* context, void** out) {
  return guarded("mpt_cuda_stream", [&] {
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    *out = nullptr;
    const mpt::Backend& backend = checked(context, "context").context->backend();
    if (backend.device_type() != MPT_DEVICE_CUDA)
      mpt::fail(MPT_ERROR_INVALID_STATE, "the context is on '%s', which has no stream",
                context->context->device().c_str());
    *out = backend.stream();
  });
}

}  // extern "C"
