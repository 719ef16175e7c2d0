#include "api/handles.h"

using mpt::checked;
using mpt::guarded;

extern "C" {

mpt_status mpt_workspace_options_init(mpt_workspace_options* options, uint64_t struct_size) {
  return guarded("mpt_workspace_options_init",
                 [&] { mpt::init_struct("mpt_workspace_options", options, struct_size, mpt_workspace_options{}); });
}

mpt_status mpt_workspace_create(mpt_workspace** out, mpt_context* context, const mpt_workspace_options* options) {
  return mpt::created("mpt_workspace_create", out, [&](mpt_workspace& handle) {
    const mpt::Call call(checked(context, "context").context, mpt::Context::Access::use);
    const mpt_workspace_options o = mpt::read_options("mpt_workspace_options", options, mpt_workspace_options{});
    handle.context = context->context;
    handle.workspace = std::make_shared<mpt::Workspace>(context->context, o.bytes, o.max_bytes);
  });
}

void mpt_workspace_destroy(mpt_workspace* workspace) { mpt::destroy_handle(workspace); }

uint64_t mpt_workspace_bytes(const mpt_workspace* workspace) {
  return workspace && workspace->tag == mpt_workspace::expected_tag ? workspace->workspace->bytes() : 0;
}

}  // extern "C"
