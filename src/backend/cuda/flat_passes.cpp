#include "backend/cuda/flat_passes.h"

#include <cstring>
#include <limits>

#include "backend/cuda/registry.h"
#include "core/error.h"

namespace mpt::cuda {
namespace {

// A store's tables in device memory: those that the host writes first, then room for the passes.
class FlatStoreTables {
 public:
  FlatStoreTables(Device& device, Stream stream, const FlatStore& store)
      : device_(device),
        stream_(stream),
        owner_(&store),
        segments_(store.segments.size()),
        pieces_(store.pieces.size()) {
    constexpr auto most = static_cast<std::size_t>(std::numeric_limits<int32_t>::max());
    MPT_INVARIANT(segments_.size() <= most && pieces_.size() <= most);  // 3.5e13 elements
    uint64_t bytes = 0;
    const auto reserve = [&](std::size_t count, std::size_t size) {
      const uint64_t at = bytes;
      bytes += (count * size + 63) / 64 * 64;
      return at;
    };
    reserve(segments_.size(), sizeof(FlatSegment));
    pieces_at_ = reserve(pieces_.size(), sizeof(FlatPiece));
    host_bytes_ = bytes;
    const uint64_t rules = reserve(segments_.size(), sizeof(RuleConstants));
    const uint64_t factors = reserve(segments_.size(), sizeof(float));
    const uint64_t sums1 = reserve(pieces_.size(), sizeof(double));
    const uint64_t sums2 = reserve(pieces_.size(), sizeof(double));
    const uint64_t found = reserve(pieces_.size(), sizeof(FlatFound));
    if (bytes == 0) return;
    try {
      memory_ = static_cast<char*>(device.allocate(bytes));
      pinned_ = static_cast<char*>(device.allocate_pinned(host_bytes_));
      uploaded_ = device.create_event();
    } catch (...) {
      release();
      throw;
    }
    tables_.segments = reinterpret_cast<FlatSegment*>(memory_);
    tables_.pieces = reinterpret_cast<FlatPiece*>(memory_ + pieces_at_);
    tables_.rules = reinterpret_cast<RuleConstants*>(memory_ + rules);
    tables_.factors = reinterpret_cast<float*>(memory_ + factors);
    tables_.sums1 = reinterpret_cast<double*>(memory_ + sums1);
    tables_.sums2 = reinterpret_cast<double*>(memory_ + sums2);
    tables_.found = reinterpret_cast<FlatFound*>(memory_ + found);
    tables_.n_segments = static_cast<int32_t>(segments_.size());
    tables_.n_pieces = static_cast<int32_t>(pieces_.size());
  }
  ~FlatStoreTables() {
    try {
      const CurrentDevice current(device_);
      device_.synchronize(stream_);  // passes may still read them
    } catch (...) {                  // the device is lost: nothing reads them
    }
    release();
  }
  FlatStoreTables(const FlatStoreTables&) = delete;
  FlatStoreTables& operator=(const FlatStoreTables&) = delete;

  // A copy of a store shares its pointer to the tables but needs tables of its own.
  bool are_of(const Device& device, const FlatStore& store) const {
    return &device_ == &device && owner_ == &store && segments_.size() == store.segments.size() &&
           pieces_.size() == store.pieces.size();
  }

  const FlatTables& refreshed(const FlatStore& store) {
    if (memory_ == nullptr) return tables_;
    const bool was_empty = !filled_;
    bool counts_differ = was_empty, differ = was_empty;
    int64_t first_piece = 0;
    for (std::size_t i = 0; i < segments_.size(); ++i) {
      const FlatSegment now = segment_of(store.segments[i], first_piece);
      counts_differ = counts_differ || segments_[i].count != now.count;
      differ = differ || std::memcmp(&segments_[i], &now, sizeof now) != 0;
      segments_[i] = now;
      first_piece += (now.count + FlatStore::chunk - 1) / FlatStore::chunk;
    }
    if (!differ) return tables_;
    MPT_INVARIANT(first_piece == static_cast<int64_t>(store.pieces.size()));
    if (counts_differ)
      for (std::size_t i = 0; i < pieces_.size(); ++i) {
        const FlatStore::Piece& piece = store.pieces[i];
        pieces_[i] = {piece.segment, static_cast<int32_t>(piece.count), piece.begin};
      }
    // What an earlier call left in pinned memory may still be on its way.
    if (!was_empty) device_.synchronize_event(uploaded_);
    std::memcpy(pinned_, segments_.data(), segments_.size() * sizeof(FlatSegment));
    std::memcpy(pinned_ + pieces_at_, pieces_.data(), pieces_.size() * sizeof(FlatPiece));
    device_.copy_in(stream_, memory_, pinned_, counts_differ ? host_bytes_ : segments_.size() * sizeof(FlatSegment));
    device_.record(uploaded_, stream_);
    filled_ = true;
    return tables_;
  }

 private:
  static FlatSegment segment_of(const Segment& s, int64_t first_piece) {
    FlatSegment to;
    std::memset(&to, 0, sizeof to);  // compared as bytes
    to.count = s.count;
    to.master = s.master;
    to.copy = static_cast<uint16_t*>(s.copy16);
    to.gradient = s.gradient;
    to.moment1 = s.moment1;
    to.moment2 = s.moment2;
    to.average = s.average;
    to.first_piece = first_piece;
    to.copy_type = element_of(s.copy_dtype);
    to.gradient_type = element_of(s.gradient_dtype);
    to.learning_rate_factor = s.learning_rate_factor;
    to.weight_decay = s.weight_decay;
    to.active = s.active && s.gradient != nullptr ? 1 : 0;
    return to;
  }

  void release() noexcept {
    if (uploaded_ != nullptr) device_.destroy_event(uploaded_);
    if (pinned_ != nullptr) device_.deallocate_pinned(pinned_);
    if (memory_ != nullptr) device_.deallocate(memory_);
  }

  Device& device_;
  Stream stream_;
  const FlatStore* owner_;
  std::vector<FlatSegment> segments_;  // what is in device memory, once filled_
  std::vector<FlatPiece> pieces_;
  bool filled_ = false;
  uint64_t pieces_at_ = 0, host_bytes_ = 0;
  char* memory_ = nullptr;
  char* pinned_ = nullptr;
  Event uploaded_ = nullptr;
  FlatTables tables_{};
};

static_assert(flat_piece == FlatStore::chunk);

}  // namespace

FlatTables FlatPasses::tables(const FlatStore& store) {
  MPT_INVARIANT(store.partials.size() == store.pieces.size());
  auto tables = std::static_pointer_cast<FlatStoreTables>(store.device_tables);
  if (tables == nullptr || !tables->are_of(device_, store)) {
    tables = std::make_shared<FlatStoreTables>(device_, stream_, store);
    store.device_tables = tables;
  }
  return tables->refreshed(store);
}

void FlatPasses::check(const FlatTables& tables, FlatControl* control) { flat_check(tables, control, stream_); }

void FlatPasses::update(const FlatTables& tables, const OptimizerHyper& hyper, FlatControl* control) {
  flat_rules(tables, hyper, control, control, nullptr, stream_);
  flat_factors(tables, hyper, control, false, stream_);
  flat_update(tables, hyper, control, stream_);
}

void FlatPasses::seed_averages(const FlatTables& tables, const FlatControl* control) {
  flat_seed_averages(tables, control, stream_);
}

void FlatPasses::round_copies(const FlatTables& tables) { flat_round_copies(tables, stream_); }

void FlatPasses::accumulate(const FlatTables& tables, float* const* sums, float factor, bool first) {
  flat_accumulate(tables, sums, factor, first, stream_);
}

void FlatPasses::statistics(const FlatTables& tables, const OptimizerHyper& hyper, const FlatControl* control,
                            mpt_update_statistics* out) {
  flat_rules(tables, hyper, control, nullptr, out, stream_);
  flat_factors(tables, hyper, control, true, stream_);
  flat_statistics(tables, hyper, control, out, stream_);
}

}  // namespace mpt::cuda
