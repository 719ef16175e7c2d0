// The flat passes over a parameter store, enqueued: tables in device memory, and passes that read what changes from step to
// step from a FlatControl in device memory.
#pragma once

#include "backend/cuda/lib/device.h"
#include "backend/flat_store.h"
#include "kernels/flat_passes.h"

namespace mpt::cuda {

class FlatPasses {
 public:
  FlatPasses(Device& device, Stream stream) : device_(device), stream_(stream) {}

  // The store's tables in device memory. Copies there what differs from what is there, so it may not be called while recording.
  // They live with the store (FlatStore::device_tables); their addresses stay as long as the numbers of its segments and pieces
  // do and it is not moved, so that recorded passes stay right if this is called before each replay.
  FlatTables tables(const FlatStore& store);

  // Everything below is enqueued and reads no host memory after it returns, so it may be recorded.
  // Fills the part of `control` that the check finds; reads inverse_scale and clip_value from it.
  void check(const FlatTables& tables, FlatControl* control);
  // Where control->apply is 0 nothing is written. Fills what the update finds.
  void update(const FlatTables& tables, const OptimizerHyper& hyper, FlatControl* control);
  // Before the first update that is applied (control->step == 1 and apply): weight averages begin as the weights are.
  void seed_averages(const FlatTables& tables, const FlatControl* control);
  void round_copies(const FlatTables& tables);
  // sums: device memory, a pointer for each segment. Where `first`, sums are written, else added to.
  void accumulate(const FlatTables& tables, float* const* sums, float factor, bool first);
  // Before update(), of what it would do: `out` is device memory. Adds nothing to the control. Where control->apply is 0 nothing
  // is written.
  void statistics(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control,
                  mpt_update_statistics* out);

 private:
  Device& device_;
  Stream stream_;
};

}  // namespace mpt::cuda
