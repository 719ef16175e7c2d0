#include <algorithm>

#include "backend/cpu/attention.h"
#include "backend/cpu/attention_tiles.h"

namespace mpt::cpu {
namespace {

// A task is one head of keys in one batch item: for each query head of its group and each block of queries it walks the keys
// in tiles (one B panel wide). Scores are made again as scores[query][key] and become probabilities p by the stored
// logsumexp; with dp = dout v^T and ds = p (dp - delta), delta = sum(dout out):
//   dv^T += dout^T p,  dk^T += q^T ds  (p and ds are already packed operands),  dq^T += k^T ds^T  (ds is transposed).
// dv and dk are summed over the task, dq over a block of queries, all in FP32. Where few heads would leave threads idle the
// work is split further: tasks for chunks of keys (dk, dv) and for blocks of queries (dq), at the price of making scores twice.
constexpr int64_t query_block = 128;
constexpr int64_t key_chunk = 256;
constexpr int64_t enough_tasks = 16;

// Which keys and gradients a task is for.
struct Part {
  int64_t first_key, last_key;
  bool keys, queries;
};

class AttentionGrad final : public Kernel {
 public:
  AttentionGrad(const Graph& graph, const Node& node, const Target& target)
      : problem_(graph, node, true),
        parallel_(target.parallel),
        kernels_(attention_kernels(target.isa)),
        scores_product_(tile_product(target.isa, problem_.q.type, false, problem_.k.type, true)),
        dp_product_(tile_product(target.isa, problem_.dout.type, false, problem_.v.type, true)),
        dv_product_(tile_product(target.isa, problem_.dout.type, true, DType::f32, false)),
        dk_product_(tile_product(target.isa, problem_.q.type, true, DType::f32, false)),
        dq_product_(tile_product(target.isa, problem_.k.type, true, DType::f32, true)),
        level_(target.isa) {
    const int64_t d = problem_.head_size;
    tile_ = dv_product_.kernel.columns;
    const int64_t pairs = problem_.batch * problem_.kv_heads;
    query_blocks_ = (problem_.queries + query_block - 1) / query_block;
    key_chunks_ = (problem_.keys + key_chunk - 1) / key_chunk;
    split_ = pairs < enough_tasks && (query_blocks_ > 1 || key_chunks_ > 1);
    key_tasks_ = split_ ? pairs * key_chunks_ : pairs;
    tasks_ = split_ ? key_tasks_ + problem_.batch * problem_.heads * query_blocks_ : pairs;

    q_ = layout_.add(scores_product_.a_floats(query_block, d));
    dout_ = layout_.add(dp_product_.a_floats(query_block, d));
    q_transposed_ = layout_.add(dk_product_.a_floats(d, query_block));
    dout_transposed_ = layout_.add(dv_product_.a_floats(d, query_block));
    k_ = layout_.add(scores_product_.b_floats(d));
    v_ = layout_.add(dp_product_.b_floats(d));
    k_transposed_ = layout_.add(dq_product_.a_floats(d, tile_));
    scores_ = layout_.add(query_block * tile_);
    dp_ = layout_.add(query_block * tile_);
    ds_transposed_ = layout_.add(dq_product_.b_floats(tile_));
    delta_ = layout_.add(query_block);
    dq_sum_ = layout_.add(query_block * d);
    buffer_ = layout_.add(attention_buffer(d, tile_));
    const int64_t summed_keys = split_ ? std::min(problem_.keys, key_chunk) : problem_.keys;
    const int64_t sum_floats = (summed_keys + tile_ - 1) / tile_ * tile_ * d;
    dk_sum_ = layout_.add(sum_floats);
    dv_sum_ = layout_.add(sum_floats);
  }

  uint64_t scratch_bytes() const override {
    return static_cast<uint64_t>(layout_.size()) * sizeof(float) * static_cast<uint64_t>(parallel_.threads());
  }

  const char* implementation() const override {
    switch (level_) {
      case Isa::portable:
        return "attention_grad.portable";
      case Isa::avx2:
        return "attention_grad.avx2";
      case Isa::avx512:
        return "attention_grad.avx512";
      default:
        return scores_product_.kernel.k_unit == 2 ? "attention_grad.avx512_bf16" : "attention_grad.avx512";
    }
  }

  void run(const KernelArgs& args) const override {
    parallel_.run(tasks_, [&](int64_t task, int worker) {
      float* scratch = static_cast<float*>(args.scratch) + worker * layout_.size();
      if (task < key_tasks_) {
        const int64_t chunk = split_ ? task % key_chunks_ : 0, pair = split_ ? task / key_chunks_ : task;
        const int64_t first = chunk * key_chunk,
                      last = split_ ? std::min(first + key_chunk, problem_.keys) : problem_.keys;
        run_keys(args, pair / problem_.kv_heads, pair % problem_.kv_heads, {first, last, true, !split_}, scratch);
      } else {
        const int64_t rest = task - key_tasks_, head = rest / query_blocks_;
        run_queries(args, head / problem_.heads, head % problem_.heads, rest % query_blocks_ * query_block,
                    {0, problem_.keys, false, true}, scratch);
      }
    });
  }

 private:
  void run_keys(const KernelArgs& args, int64_t b, int64_t kv_head, const Part& part, float* scratch) const {
    const int64_t d = problem_.head_size, group = problem_.heads / problem_.kv_heads;
    const int64_t sum_floats = (part.last_key - part.first_key + tile_ - 1) / tile_ * tile_ * d;
    std::fill_n(scratch + dk_sum_, sum_floats, 0.0f);
    std::fill_n(scratch + dv_sum_, sum_floats, 0.0f);
    for (int64_t h = kv_head * group; h < (kv_head + 1) * group; ++h) {
      for (int64_t query = 0; query < problem_.queries; query += query_block)
        run_queries(args, b, h, query, part, scratch);
    }
    store_keys(args, b, kv_head * d, part, dk_sum_, problem_.dk, 1, scratch);
    store_keys(args, b, kv_head * d, part, dv_sum_, problem_.dv, 2, scratch);
  }

  // Everything that queries [query, query + query_block) of head h have to do with the part's keys.
  void run_queries(const KernelArgs& args, int64_t b, int64_t h, int64_t query, const Part& part,
                   float* scratch) const {
    const AttentionTensors tensors(args, problem_);
    const int64_t d = problem_.head_size, count = std::min(query_block, problem_.queries - query);
    const int64_t key_end = std::min(part.last_key, problem_.key_end(tensors.lengths, b, query + count));
    if (part.queries) std::fill_n(scratch + dq_sum_, query_block * d, 0.0f);
    if (part.first_key < key_end) {
      pack_queries(args, tensors, b, h, query, count, part, scratch);
      const float* logsumexp =
          static_cast<const float*>(args.inputs[6]) + (b * problem_.heads + h) * problem_.queries + query;
      for (int64_t key = part.first_key; key < key_end; key += tile_) {
        const int64_t keys = std::min(tile_, key_end - key);
        pack_keys(tensors, b, h, key, keys, part, scratch);
        add_tile(tensors, b, h, query, count, key, keys, logsumexp, part, scratch);
      }
    }
    if (part.queries && args.outputs[0] != nullptr) {
      for (int64_t i = 0; i < count; i += tile_) {
        const int64_t tile_count = std::min(tile_, count - i);
        kernels_.store_transposed(scratch + dq_sum_ + i * d, d, width_of(tile_count), tile_count, nullptr,
                                  problem_.dq.at(args.outputs[0], b, query + i, h * d), element_of(problem_.dq.type),
                                  problem_.dq.row, scratch + buffer_);
      }
    }
  }

  void pack_queries(const KernelArgs& args, const AttentionTensors& tensors, int64_t b, int64_t h, int64_t query,
                    int64_t count, const Part& part, float* scratch) const {
    const int64_t d = problem_.head_size;
    const HeadRows &q = problem_.q, &out = problem_.out, &dout = problem_.dout;
    const void* q_rows = q.at(tensors.q, b, query, h * d);
    const void* out_rows = out.at(args.inputs[5], b, query, h * d);
    const void* dout_rows = dout.at(args.inputs[7], b, query, h * d);
    scores_product_.kernel.pack_a(q_rows, q.row, count, d, scratch + q_);
    dp_product_.kernel.pack_a(dout_rows, dout.row, count, d, scratch + dout_);
    if (part.keys) {
      dk_product_.kernel.pack_a(q_rows, q.row, d, count, scratch + q_transposed_);
      dv_product_.kernel.pack_a(dout_rows, dout.row, d, count, scratch + dout_transposed_);
    }
    kernels_.row_products(dout_rows, element_of(dout.type), dout.row, out_rows, element_of(out.type), out.row, count, d,
                          scratch + delta_);
  }

  void pack_keys(const AttentionTensors& tensors, int64_t b, int64_t h, int64_t key, int64_t keys, const Part& part,
                 float* scratch) const {
    const int64_t d = problem_.head_size, kv_offset = h / (problem_.heads / problem_.kv_heads) * d;
    const void* k_rows = problem_.k.at(tensors.k, b, key, kv_offset);
    scores_product_.kernel.pack_b(k_rows, problem_.k.row, keys, d, scratch + k_);
    dp_product_.kernel.pack_b(problem_.v.at(tensors.v, b, key, kv_offset), problem_.v.row, keys, d, scratch + v_);
    if (part.queries) dq_product_.kernel.pack_a(k_rows, problem_.k.row, d, keys, scratch + k_transposed_);
  }

  // A block of queries meets one tile of keys.
  void add_tile(const AttentionTensors& tensors, int64_t b, int64_t h, int64_t query, int64_t count, int64_t key,
                int64_t keys, const float* logsumexp, const Part& part, float* scratch) const {
    const int64_t d = problem_.head_size;
    const int width = width_of(keys);
    // Causal: earlier queries see none of these keys. Whole panels are left out.
    const int64_t panel = scores_product_.kernel.rows;
    const int64_t first = problem_.causal ? std::max<int64_t>(key - query, 0) / panel * panel : 0, rows = count - first;
    const int64_t panel_start = first / panel * scores_product_.kernel.row_lanes;
    float *scores = scratch + scores_ + first * width, *dp = scratch + dp_ + first * width;
    const int64_t score_steps = scores_product_.steps(d), dp_steps = dp_product_.steps(d);
    scores_product_.multiply(rows, width, scratch + q_ + panel_start * score_steps, score_steps, 0, score_steps,
                             scratch + k_, scores, width, false);
    hide(tensors, b, h, query + first, rows, key, keys, width, scores);
    kernels_.probabilities(scores, rows, width, problem_.scale, logsumexp + first);
    dp_product_.multiply(rows, width, scratch + dout_ + panel_start * dp_steps, dp_steps, 0, dp_steps, scratch + v_, dp,
                         width, false);
    kernels_.score_gradients(scores, dp, rows, width, problem_.scale, scratch + delta_ + first);
    if (part.keys) {
      const int64_t sum = (key - part.first_key) * d;
      dv_product_.multiply(d, width, scratch + dout_transposed_, count, first, count, scores, scratch + dv_sum_ + sum,
                           tile_, true);
      dk_product_.multiply(d, width, scratch + q_transposed_, count, first, count, dp, scratch + dk_sum_ + sum, tile_,
                           true);
    }
    if (part.queries) add_to_queries(count, keys, first, width, scratch);
  }

  void add_to_queries(int64_t count, int64_t keys, int64_t first, int width, float* scratch) const {
    const int64_t d = problem_.head_size, first_tile = first / tile_ * tile_;
    std::fill_n(scratch + dp_ + first_tile * width, (first - first_tile) * width, 0.0f);
    for (int64_t i = first_tile; i < count; i += tile_) {
      const int64_t tile_count = std::min(tile_, count - i);
      const int query_width = width_of(tile_count);
      dq_product_.kernel.pack_b(scratch + dp_ + i * width, width, tile_count, keys, scratch + ds_transposed_);
      dq_product_.multiply(d, query_width, scratch + k_transposed_, keys, 0, keys, scratch + ds_transposed_,
                           scratch + dq_sum_ + i * d, query_width, true);
    }
  }

  void hide(const AttentionTensors& tensors, int64_t b, int64_t h, int64_t query, int64_t rows, int64_t key,
            int64_t keys, int width, float* scores) const {
    const float hidden = problem_.hidden();
    // Columns beyond the tile's keys are stored as the gradients of keys that nobody sees.
    if (keys < width) {
      for (int64_t row = 0; row < rows; ++row)
        std::fill(scores + row * width + keys, scores + (row + 1) * width, hidden);
    }
    if (problem_.causal) {
      for (int64_t row = 0; row < std::min(rows, key + width - 1 - query); ++row) {
        const int64_t seen = std::max<int64_t>(query + row + 1 - key, 0);
        std::fill(scores + row * width + seen, scores + (row + 1) * width, hidden);
      }
    }
    if (tensors.mask == nullptr) return;
    for (int64_t row = 0; row < rows; ++row) {
      const uint8_t* mask = problem_.mask_row(tensors.mask, b, h, query + row) + key;
      float* score = scores + row * width;
      for (int64_t column = 0; column < keys; ++column) score[column] = mask[column] != 0 ? score[column] : hidden;
    }
  }

  // Rounds the sums over one head of keys; positions that no query saw get zeros.
  void store_keys(const KernelArgs& args, int64_t b, int64_t offset, const Part& part, int64_t sums,
                  const HeadRows& gradient, int output, float* scratch) const {
    void* tensor = args.outputs[problem_.packed ? 0 : output];
    if (tensor == nullptr) return;
    const int64_t d = problem_.head_size;
    for (int64_t key = part.first_key; key < part.last_key; key += tile_) {
      kernels_.store_transposed(scratch + sums + (key - part.first_key) * d, d, static_cast<int>(tile_),
                                std::min(tile_, part.last_key - key), nullptr, gradient.at(tensor, b, key, offset),
                                element_of(gradient.type), gradient.row, scratch + buffer_);
    }
  }

  int width_of(int64_t count) const { return static_cast<int>(count <= tile_ / 2 ? tile_ / 2 : tile_); }

  AttentionProblem problem_;
  const Parallel& parallel_;
  AttentionKernels kernels_;
  TileProduct scores_product_, dp_product_, dv_product_, dk_product_, dq_product_;
  Isa level_;
  int64_t tile_ = 0, query_blocks_ = 0, key_chunks_ = 0, key_tasks_ = 0, tasks_ = 0;
  bool split_ = false;
  ScratchLayout layout_;  // of one worker
  int64_t q_ = 0, dout_ = 0, q_transposed_ = 0, dout_transposed_ = 0, k_ = 0, v_ = 0, k_transposed_ = 0;
  int64_t scores_ = 0, dp_ = 0, ds_transposed_ = 0, delta_ = 0, dq_sum_ = 0, dk_sum_ = 0, dv_sum_ = 0, buffer_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> make_attention_grad(const Graph& graph, const Node& node, const Target& target) {
  return std::make_unique<AttentionGrad>(graph, node, target);
}

}  // namespace mpt::cpu
