// What the opaque handles of mpt.h are: a tag that tells one kind from another, and a reference on the object.
#pragma once

#include <memory>
#include <type_traits>

#include "api/guard.h"
#include "runtime/optimizer.h"
#include "runtime/params.h"
#include "runtime/trainer.h"

namespace mpt {

// The options of a context with their defaults (api/context.cpp); the allocator's struct is read into `allocator`.
mpt_context_options read_context_options(const mpt_context_options* options, mpt_allocator* allocator);

template <class Handle>
constexpr const char* handle_name = "handle";

// Found instead of a handle, NULL or something else is told apart from the right kind before anything is read of it.
template <class Handle>
Handle& checked(Handle* handle, const char* argument) {
  using Plain = std::remove_const_t<Handle>;
  MPT_CHECK_ARGUMENT(handle, "%s is NULL, expected a %s", argument, handle_name<Plain>);
  MPT_CHECK_ARGUMENT(handle->tag == Plain::expected_tag, "%s is no %s (or one that was destroyed)", argument,
                     handle_name<Plain>);
  return *handle;
}

// The destroy functions: now, or after the call that is running on the context. From any thread.
template <class Handle>
void destroy_handle(Handle* handle) noexcept {
  if (!handle || handle->tag != Handle::expected_tag) return;
  const CallerState state;
  const std::shared_ptr<Context> context = handle->context;
  handle->tag = 0;
  context->destroy_later([handle] { delete handle; });
}

}  // namespace mpt

#define MPT_HANDLE(name, number, members)            \
  struct name {                                      \
    static constexpr uint32_t expected_tag = number; \
    uint32_t tag = expected_tag;                     \
    std::shared_ptr<mpt::Context> context;           \
    members                                          \
  };                                                 \
  template <>                                        \
  inline constexpr const char* mpt::handle_name<name> = #name;

MPT_HANDLE(mpt_context, 0x6d707401, )
MPT_HANDLE(mpt_model, 0x6d707402, std::shared_ptr<mpt::Model> model;)
MPT_HANDLE(mpt_params, 0x6d707403, std::shared_ptr<mpt::Params> params; std::shared_ptr<mpt::Model> model;)
MPT_HANDLE(mpt_workspace, 0x6d707404, std::shared_ptr<mpt::Workspace> workspace;)
MPT_HANDLE(mpt_scaler, 0x6d707405, std::shared_ptr<mpt::Scaler> scaler;)
MPT_HANDLE(mpt_optimizer, 0x6d707406, std::shared_ptr<mpt::Optimizer> optimizer;)
MPT_HANDLE(mpt_plan, 0x6d707407, std::shared_ptr<mpt::Params> params; std::shared_ptr<mpt::Model> model;
           std::shared_ptr<mpt::Optimizer> optimizer; mpt::PlanRequest request; std::unique_ptr<mpt::Plan> plan;)
MPT_HANDLE(mpt_trainer, 0x6d707408, std::shared_ptr<mpt::Model> model; std::unique_ptr<mpt::Trainer> trainer;)

namespace mpt {

// A part of a parameter where it lies (api/params.cpp). Inside a Call.
void describe_part(mpt_params& params, const char* name, int32_t part, mpt_array* out);

}  // namespace mpt
