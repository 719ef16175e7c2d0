#include "backend/cuda/flat_passes.h"

#include "core/error.h"

namespace mpt::cuda {

FlatTables FlatPasses::tables(const FlatStore&) { fail(MPT_ERROR_UNSUPPORTED, "cuda: flat passes"); }
void FlatPasses::check(const FlatTables&, FlatControl*) {}
void FlatPasses::update(const FlatTables&, const OptimizerHyper&, FlatControl*) {}
void FlatPasses::seed_averages(const FlatTables&, const FlatControl*) {}
void FlatPasses::round_copies(const FlatTables&) {}
void FlatPasses::accumulate(const FlatTables&, float* const*, float, bool) {}
void FlatPasses::statistics(const FlatTables&, const OptimizerHyper&, const FlatControl*, mpt_update_statistics*) {}

}  // namespace mpt::cuda
