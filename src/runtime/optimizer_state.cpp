// What of an optimizer goes into a checkpoint.
#include <cmath>

#include "core/error.h"
#include "runtime/optimizer.h"

namespace mpt {
namespace {

const char* name_of_kind(int32_t kind) {
  switch (kind) {
    case MPT_SGD:
      return "sgd";
    case MPT_ADAM:
      return "adam";
    case MPT_ADAMW:
      return "adamw";
    case MPT_LAMB:
      return "lamb";
    case MPT_ADAGRAD:
      return "adagrad";
    case MPT_NOVOGRAD:
      return "novograd";
    case MPT_LION:
      return "lion";
    default:
      return "unknown";
  }
}

}  // namespace

std::vector<Optimizer::StateTensor> Optimizer::state_tensors() const {
  std::vector<StateTensor> tensors;
  for (std::size_t i = 0; i < slots_.size(); ++i) {
    const Parameter& p = params_->parameter(slots_[i]);
    if (has_moment1(hyper_)) tensors.push_back({"moment1." + p.name, p.shape, moment1_[i]});
    if (has_moment2(hyper_)) tensors.push_back({"moment2." + p.name, p.shape, moment2_[i]});
    if (has_tensor_moment2(hyper_)) tensors.push_back({"moment2." + p.name, Shape(), moment2_[i]});
    if (average_decay_ > 0) tensors.push_back({"average." + p.name, p.shape, average_[i]});
  }
  return tensors;
}

void Optimizer::export_state(const std::string& prefix, Metadata* out) const {
  (*out)[prefix + "kind"] = name_of_kind(hyper_.kind);
  (*out)[prefix + "applied_steps"] = metadata_text(applied_steps());
  (*out)[prefix + "learning_rate"] = metadata_text(base_rate_);
  scaler_off_.export_state(prefix + "unscaled.", out);
}

Optimizer::Counters Optimizer::read_state(const std::string& prefix, const Metadata& from,
                                          const std::string& path) const {
  const std::string& kind = metadata_string(from, prefix + "kind", path);
  MPT_CHECK_ARGUMENT(kind == name_of_kind(hyper_.kind), "%s: optimizer: found the state of %s, expected that of %s",
                     path.c_str(), kind.c_str(), name_of_kind(hyper_.kind));
  Counters counters;
  counters.applied_steps = metadata_uint64(from, prefix + "applied_steps", path);
  counters.learning_rate = metadata_double(from, prefix + "learning_rate", path);
  if (!std::isfinite(counters.learning_rate) || counters.learning_rate < 0)
    fail(MPT_ERROR_CORRUPT, "%s: %slearning_rate: found %g, expected a finite number of 0 or more", path.c_str(),
         prefix.c_str(), counters.learning_rate);
  counters.scaler_off = scaler_off_.read_state(prefix + "unscaled.", from, path);
  return counters;
}

void Optimizer::set_state(const Counters& counters) {
  applied_steps_ = counters.applied_steps;
  base_rate_ = counters.learning_rate;
  ++version_;
  scaler_off_.set_state(counters.scaler_off);
  clear_sums();
  source_ = Source::none;
}

}  // namespace mpt
