#include "api/handles.h"

using mpt::checked;
using mpt::guarded;

namespace {

mpt_context_options default_options() {
  mpt_context_options o{};
  o.struct_size = sizeof o;
  o.device = "cpu";
  o.log_level = MPT_LOG_INFO;
  return o;
}

}  // namespace

mpt_context_options mpt::read_context_options(const mpt_context_options* options, mpt_allocator* allocator) {
  mpt_context_options o = read_options("mpt_context_options", options, default_options());
  if (o.allocator) {
    *allocator = read_options("mpt_allocator", o.allocator, mpt_allocator{});
    o.allocator = allocator;
  }
  return o;
}

extern "C" {

mpt_status mpt_context_options_init(mpt_context_options* options, uint64_t struct_size) {
  return guarded("mpt_context_options_init",
                 [&] { mpt::init_struct("mpt_context_options", options, struct_size, default_options()); });
}

mpt_status mpt_allocator_init(mpt_allocator* allocator, uint64_t struct_size) {
  return guarded("mpt_allocator_init",
                 [&] { mpt::init_struct("mpt_allocator", allocator, struct_size, mpt_allocator{}); });
}

mpt_status mpt_context_create(mpt_context** out, const mpt_context_options* options) {
  return mpt::created("mpt_context_create", out, [&](mpt_context& handle) {
    mpt_allocator allocator{};
    handle.context = std::make_shared<mpt::Context>(mpt::read_context_options(options, &allocator));
  });
}

void mpt_context_destroy(mpt_context* context) { mpt::destroy_handle(context); }

mpt_status mpt_context_synchronize(mpt_context* context) {
  return guarded("mpt_context_synchronize", [&] {
    const mpt::Call call(checked(context, "context").context, mpt::Context::Access::use);
    context->context->backend().synchronize();
  });
}

int32_t mpt_context_threads(const mpt_context* context) {
  return context && context->tag == mpt_context::expected_tag ? context->context->threads() : 0;
}

const char* mpt_context_device(const mpt_context* context) {
  return context && context->tag == mpt_context::expected_tag ? context->context->device().c_str() : "";
}

}  // extern "C"
