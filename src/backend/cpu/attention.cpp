#include "backend/cpu/attention.h"

#include <algorithm>
#include <limits>

#include "backend/cpu/attention_tiles.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/row_kernels.h"

namespace mpt::cpu {
namespace {

// A task is one head's chunk of queries. It walks the keys in blocks; for each, every tile of queries (one B panel wide) gets
// its scores transposed, scores[key][query], updates its running softmax and adds to its transposed output out[d][query].
// Transposed, the probabilities are already the packed operand of the second product.
constexpr int64_t query_chunk = 128;
constexpr int64_t key_block = 128;

class Attention final : public Kernel {
 public:
  Attention(const Graph& graph, const Node& node, const Target& target)
      : problem_(graph, node, false),
        parallel_(target.parallel),
        kernels_(attention_kernels(target.isa)),
        scores_product_(tile_product(target.isa, problem_.k.type, false, problem_.q.type, true)),
        out_product_(tile_product(target.isa, problem_.v.type, true, DType::f32, false)),
        level_(target.isa) {
    const int64_t d = problem_.head_size;
    tile_ = out_product_.kernel.columns;
    chunks_ = (problem_.queries + query_chunk - 1) / query_chunk;
    q_ = layout_.add(query_chunk / tile_ * scores_product_.b_floats(d));
    k_ = layout_.add(scores_product_.a_floats(key_block, d));
    v_ = layout_.add(out_product_.a_floats(d, key_block));
    scores_ = layout_.add(key_block * tile_);
    out_ = layout_.add(query_chunk * d);
    maximum_ = layout_.add(query_chunk);
    sum_ = layout_.add(query_chunk);
    factor_ = layout_.add(tile_);
    logsumexp_ = layout_.add(tile_);
    buffer_ = layout_.add(attention_buffer(d, tile_));
  }

  uint64_t scratch_bytes() const override {
    return static_cast<uint64_t>(layout_.size()) * sizeof(float) * static_cast<uint64_t>(parallel_.threads());
  }

  const char* implementation() const override {
    switch (level_) {
      case Isa::portable:
        return "attention.portable";
      case Isa::avx2:
        return "attention.avx2";
      case Isa::avx512:
        return "attention.avx512";
      default:
        return scores_product_.kernel.k_unit == 2 ? "attention.avx512_bf16" : "attention.avx512";
    }
  }

  void run(const KernelArgs& args) const override {
    parallel_.run(problem_.batch * problem_.heads * chunks_, [&](int64_t task, int worker) {
      float* scratch = static_cast<float*>(args.scratch) + worker * layout_.size();
      run_chunk(args, task / chunks_ / problem_.heads, task / chunks_ % problem_.heads, task % chunks_ * query_chunk,
                scratch);
    });
  }

 private:
  void run_chunk(const KernelArgs& args, int64_t b, int64_t h, int64_t first_query, float* scratch) const {
    const AttentionTensors tensors(args, problem_);
    const int64_t d = problem_.head_size, kv_offset = h / (problem_.heads / problem_.kv_heads) * d;
    const int64_t count = std::min(query_chunk, problem_.queries - first_query);
    for (int64_t i = 0; i < count; i += tile_) {
      scores_product_.kernel.pack_b(problem_.q.at(tensors.q, b, first_query + i, h * d), problem_.q.row,
                                    std::min(tile_, count - i), d,
                                    scratch + q_ + i / tile_ * scores_product_.b_floats(d));
    }
    std::fill_n(scratch + maximum_, query_chunk, -std::numeric_limits<float>::infinity());
    std::fill_n(scratch + sum_, query_chunk, 0.0f);

    const int64_t key_end = problem_.key_end(tensors.lengths, b, first_query + count);
    if (key_end == 0) std::fill_n(scratch + out_, query_chunk * d, 0.0f);
    for (int64_t key = 0; key < key_end; key += key_block) {
      const int64_t keys = std::min(key_block, key_end - key);
      scores_product_.kernel.pack_a(problem_.k.at(tensors.k, b, key, kv_offset), problem_.k.row, keys, d, scratch + k_);
      out_product_.kernel.pack_a(problem_.v.at(tensors.v, b, key, kv_offset), problem_.v.row, d, keys, scratch + v_);
      for (int64_t i = 0; i < count; i += tile_) {
        const int64_t query = first_query + i, tile_count = std::min(tile_, count - i);
        const int64_t seen = problem_.causal ? std::min(keys, query + tile_count - key) : keys;
        if (seen > 0) add_keys(tensors, b, h, query, tile_count, key, seen, keys, i, scratch);
      }
    }
    store(args, b, h, first_query, count, scratch);
  }

  // One tile of queries meets keys [key, key + seen) of the packed block of `packed` keys.
  void add_keys(const AttentionTensors& tensors, int64_t b, int64_t h, int64_t query, int64_t count, int64_t key,
                int64_t seen, int64_t packed, int64_t i, float* scratch) const {
    const int64_t d = problem_.head_size, steps = scores_product_.steps(d);
    const int width = width_of(count);
    float* scores = scratch + scores_;
    float* out = scratch + out_ + i * d;
    scores_product_.multiply(seen, width, scratch + k_, steps, 0, steps,
                             scratch + q_ + i / tile_ * scores_product_.b_floats(d), scores, width, false);
    hide(tensors, b, h, query, count, key, seen, width, scores);
    kernels_.softmax(scores, seen, width, problem_.scale, scratch + maximum_ + i, scratch + sum_ + i,
                     scratch + factor_);
    if (key > 0) kernels_.rescale(out, d, width, scratch + factor_);
    out_product_.multiply(d, width, scratch + v_, packed, 0, seen, scores, out, width, key > 0);
  }

  void hide(const AttentionTensors& tensors, int64_t b, int64_t h, int64_t query, int64_t count, int64_t key,
            int64_t seen, int width, float* scores) const {
    const float hidden = problem_.hidden();
    if (problem_.causal) {
      for (int64_t row = std::max<int64_t>(query + 1 - key, 0); row < seen; ++row) {
        std::fill_n(scores + row * width, std::min<int64_t>(key + row - query, width), hidden);
      }
    }
    if (tensors.mask == nullptr) return;
    for (int64_t column = 0; column < count; ++column) {
      const uint8_t* mask = problem_.mask_row(tensors.mask, b, h, query + column) + key;
      float* score = scores + column;
      for (int64_t row = 0; row < seen; ++row) score[row * width] = mask[row] != 0 ? score[row * width] : hidden;
    }
  }

  void store(const KernelArgs& args, int64_t b, int64_t h, int64_t first_query, int64_t count, float* scratch) const {
    float* logsumexp = static_cast<float*>(args.outputs[1]) + (b * problem_.heads + h) * problem_.queries + first_query;
    float* factor = scratch + factor_;
    for (int64_t i = 0; i < count; i += tile_) {
      const int64_t tile_count = std::min(tile_, count - i);
      kernels_.finish(scratch + maximum_ + i, scratch + sum_ + i, tile_, scratch + logsumexp_, factor);
      std::copy_n(scratch + logsumexp_, tile_count, logsumexp + i);
      kernels_.store_transposed(scratch + out_ + i * problem_.head_size, problem_.head_size, width_of(tile_count),
                                tile_count, factor,
                                problem_.out.at(args.outputs[0], b, first_query + i, h * problem_.head_size),
                                element_of(problem_.out.type), problem_.out.row, scratch + buffer_);
    }
  }

  int width_of(int64_t count) const { return static_cast<int>(count <= tile_ / 2 ? tile_ / 2 : tile_); }

  AttentionProblem problem_;
  const Parallel& parallel_;
  AttentionKernels kernels_;
  TileProduct scores_product_, out_product_;
  Isa level_;
  int64_t tile_ = 0, chunks_ = 0;
  ScratchLayout layout_;  // of one worker
  int64_t q_ = 0, k_ = 0, v_ = 0, scores_ = 0, out_ = 0, maximum_ = 0, sum_ = 0, factor_ = 0;
  int64_t logsumexp_ = 0, buffer_ = 0;
};

bool supports(const Graph& graph, const Node& node, const Target&) { return has_element_types(graph, node); }

}  // namespace

std::unique_ptr<Kernel> make_attention(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<Attention>(graph, node, target);
}

void register_attention(Registry& registry) {
  registry.add(OpKind::attention, {"attention", supports, make_attention});
  registry.add(OpKind::attention_grad, {"attention_grad", supports, make_attention_grad});
}

}  // namespace mpt::cpu
