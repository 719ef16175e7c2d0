// The flat passes over a parameter store on the CPU (backend/backend.h says what each does). Work is split into the store's
// pieces and their partial sums are added in order, so that the number of threads changes no bit. Elements in registers are
// FP32 and no operation is fused: every instruction set gives the same bits too.
#pragma once

#include "backend/cpu/parallel.h"
#include "backend/flat_store.h"
#include "mpt.h"

namespace mpt::cpu {

void check_gradients(const Parallel& parallel, const FlatStore& store, const CheckArgs& args, CheckResult* out);
void update(const Parallel& parallel, const FlatStore& store, const UpdateArgs& args, UpdateResult* out);
void round_copies(const Parallel& parallel, const FlatStore& store);
// sums may be the FP32 gradients themselves.
void accumulate_gradients(const Parallel& parallel, const FlatStore& store, float* const* sums, float factor,
                          bool first);
void statistics(const Parallel& parallel, const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out);

}  // namespace mpt::cpu
