// The passes over a parameter store, in double, segment by segment, element by element.
#pragma once

#include "backend/backend.h"

namespace mpt::ref {

void check_gradients(const FlatStore& store, const CheckArgs& args, CheckResult* out);
void update(const FlatStore& store, const UpdateArgs& args, UpdateResult* out);
void round_copies(const FlatStore& store);
void accumulate_gradients(const FlatStore& store, float* const* sums, float factor, bool first);
void statistics(const FlatStore& store, const UpdateArgs& args, mpt_update_statistics* out);

}  // namespace mpt::ref
