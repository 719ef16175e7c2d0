#include "backend/cuda/lib/dnn_cudnn.h"

#include "backend/cuda/lib/device_cuda.h"

#if defined(MPT_HAVE_CUDNN)

// The only file that includes it: it takes most of a minute to compile.
#include <cudnn_frontend.h>

#include <array>
#include <bit>
#include <map>
#include <mutex>

#include "core/error.h"

namespace mpt::cuda {
namespace {

namespace fe = cudnn_frontend;
using Tensor = std::shared_ptr<fe::graph::Tensor_attributes>;
using TensorAttributes = fe::graph::Tensor_attributes;

enum Uid : int64_t {
  q_uid = 1,
  k_uid,
  v_uid,
  out_uid,
  stats_uid,
  lengths_uid,
  query_lengths_uid,
  dout_uid,
  dq_uid,
  dk_uid,
  dv_uid
};

class Attention {
 public:
  Attention(const AttentionProblem& problem, bool backward) : p_(problem), backward_(backward) {
    graph_.set_io_data_type(p_.type == DType::f16 ? fe::DataType_t::HALF : fe::DataType_t::BFLOAT16)
        .set_intermediate_data_type(fe::DataType_t::FLOAT)
        .set_compute_data_type(fe::DataType_t::FLOAT);
    backward_ ? add_backward() : add_forward();
  }

  fe::graph::Graph& graph() { return graph_; }

  // Chooses a plan as the heuristics have it. All FP32 within, and the same bits every time. Without a handle: for the device
  // that was described to the graph, as far as that goes.
  fe::error_t choose(cudnnHandle_t handle) {
    if (auto error = graph_.validate(); error.is_bad()) return error;
    if (auto error = graph_.build_operation_graph(handle); error.is_bad()) return error;
    if (auto error = graph_.create_execution_plans({fe::HeurMode_t::A}); error.is_bad()) return error;
    graph_.deselect_numeric_notes({fe::NumericalNote_t::NONDETERMINISTIC, fe::NumericalNote_t::DOWN_CONVERT_INPUTS,
                                   fe::NumericalNote_t::REDUCED_PRECISION_REDUCTION});
    return graph_.check_support();
  }
  fe::error_t build() {
    if (auto error = graph_.build_plans(fe::BuildPlanPolicy_t::HEURISTICS_CHOICE); error.is_bad()) return error;
    int64_t bytes = 0;
    auto error = graph_.get_workspace_size(bytes);
    workspace_bytes_ = static_cast<uint64_t>(bytes);
    return error;
  }
  uint64_t workspace_bytes() const { return workspace_bytes_; }

  fe::error_t run(cudnnHandle_t handle, const AttentionOperands& o) const {
    std::unordered_map<int64_t, void*> pointers = {{q_uid, const_cast<void*>(o.q)},
                                                   {k_uid, const_cast<void*>(o.k)},
                                                   {v_uid, const_cast<void*>(o.v)},
                                                   {out_uid, o.out},
                                                   {stats_uid, o.logsumexp}};
    if (p_.lengths) {
      pointers[lengths_uid] = const_cast<int32_t*>(o.lengths);
      pointers[query_lengths_uid] = const_cast<int32_t*>(o.query_lengths);
    }
    if (backward_) {
      pointers[dout_uid] = const_cast<void*>(o.dout);
      pointers[dq_uid] = o.dq;
      pointers[dk_uid] = o.dk;
      pointers[dv_uid] = o.dv;
    }
    return graph_.execute(handle, pointers, o.workspace);
  }

 private:
  std::vector<int64_t> sizes(bool of_queries) const {
    return {p_.batch, of_queries ? p_.heads : p_.kv_heads, of_queries ? p_.q_time : p_.kv_time, p_.head_size};
  }
  static std::vector<int64_t> strides(const AttentionProblem::Layout& l) { return {l.batch, l.head, l.time, 1}; }

  Tensor input(Uid uid, bool of_queries, const AttentionProblem::Layout& layout) {
    return graph_.tensor(TensorAttributes().set_uid(uid).set_dim(sizes(of_queries)).set_stride(strides(layout)));
  }
  Tensor lengths(Uid uid) {
    return graph_.tensor(TensorAttributes()
                             .set_uid(uid)
                             .set_dim({p_.batch, 1, 1, 1})
                             .set_stride({1, 1, 1, 1})
                             .set_data_type(fe::DataType_t::INT32));
  }
  void output(const Tensor& tensor, Uid uid, bool of_queries, const AttentionProblem::Layout& layout) {
    tensor->set_output(true).set_uid(uid).set_dim(sizes(of_queries)).set_stride(strides(layout));
  }
  template <typename Attributes>
  void set_common(Attributes& attributes) {
    attributes.set_attn_scale(static_cast<float>(p_.scale)).set_causal_mask(p_.causal);
    if (p_.lengths)
      attributes.set_padding_mask(true).set_seq_len_q(lengths(query_lengths_uid)).set_seq_len_kv(lengths(lengths_uid));
  }

  void add_forward() {
    const Tensor q = input(q_uid, true, p_.q), k = input(k_uid, false, p_.k), v = input(v_uid, false, p_.v);
    fe::graph::SDPA_attributes attributes;
    attributes.set_name("attention").set_generate_stats(true);
    set_common(attributes);
    const auto [out, stats] = graph_.sdpa(q, k, v, attributes);
    output(out, out_uid, true, p_.out);
    stats->set_output(true).set_uid(stats_uid).set_data_type(fe::DataType_t::FLOAT);
  }

  void add_backward() {
    const Tensor q = input(q_uid, true, p_.q), k = input(k_uid, false, p_.k), v = input(v_uid, false, p_.v);
    const Tensor out = input(out_uid, true, p_.out), dout = input(dout_uid, true, p_.dout);
    const Tensor stats = graph_.tensor(TensorAttributes()
                                           .set_uid(stats_uid)
                                           .set_dim({p_.batch, p_.heads, p_.q_time, 1})
                                           .set_stride({p_.heads * p_.q_time, p_.q_time, 1, 1})
                                           .set_data_type(fe::DataType_t::FLOAT));
    fe::graph::SDPA_backward_attributes attributes;
    attributes.set_name("attention_grad").set_deterministic_algorithm(true);
    set_common(attributes);
    const auto [dq, dk, dv] = graph_.sdpa_backward(q, k, v, out, dout, stats, attributes);
    output(dq, dq_uid, true, p_.dq);
    output(dk, dk_uid, false, p_.dk);
    output(dv, dv_uid, false, p_.dv);
  }

  AttentionProblem p_;
  bool backward_;
  fe::graph::Graph graph_;
  uint64_t workspace_bytes_ = 0;
};

// Until 9.15 the frontend copies lengths of its own from the host whenever the keys are no multiple of 128, which a recorded
// step would do again from memory that has gone.
bool copies_from_host(const AttentionProblem& problem, bool backward) {
  return backward && !problem.lengths && problem.kv_time % 128 != 0 && cudnnGetVersion() <= 91500;
}

class Handle {
 public:
  Handle() {
    if (const cudnnStatus_t status = cudnnCreate(&handle_); status != CUDNN_STATUS_SUCCESS)
      fail(MPT_ERROR_DEVICE, "cuDNN: %s", cudnnGetErrorString(status));
  }
  ~Handle() { cudnnDestroy(handle_); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  cudnnHandle_t get() const { return handle_; }

 private:
  cudnnHandle_t handle_ = nullptr;
};

class CudnnPlan final : public Dnn::Plan {
 public:
  CudnnPlan(std::shared_ptr<const Handle> handle, std::shared_ptr<const Attention> attention)
      : handle_(std::move(handle)), attention_(std::move(attention)) {}
  uint64_t workspace_bytes() const override { return attention_->workspace_bytes(); }
  void run(Stream stream, const AttentionOperands& operands) const override {
    const cudnnStatus_t status = cudnnSetStream(handle_->get(), static_cast<cudaStream_t>(stream));
    if (status != CUDNN_STATUS_SUCCESS) fail(MPT_ERROR_DEVICE, "cuDNN: %s", cudnnGetErrorString(status));
    if (auto error = attention_->run(handle_->get(), operands); error.is_bad())
      fail(MPT_ERROR_DEVICE, "cuDNN: attention: %s", error.get_message().c_str());
  }

 private:
  std::shared_ptr<const Handle> handle_;
  std::shared_ptr<const Attention> attention_;
};

class Cudnn final : public Dnn {
 public:
  std::unique_ptr<Plan> attention(const AttentionProblem& problem) override { return plan(problem, false); }
  std::unique_ptr<Plan> attention_grad(const AttentionProblem& problem) override { return plan(problem, true); }

 private:
  using Key = std::array<int64_t, 35>;

  static Key key_of(const AttentionProblem& p, bool backward) {
    Key key{};
    std::size_t n = 0;
    for (int64_t x : {static_cast<int64_t>(backward), static_cast<int64_t>(p.type), p.batch, p.heads, p.kv_heads,
                      p.q_time, p.kv_time, p.head_size, std::bit_cast<int64_t>(p.scale), static_cast<int64_t>(p.causal),
                      static_cast<int64_t>(p.lengths)})
      key[n++] = x;
    for (const AttentionProblem::Layout* l : {&p.q, &p.k, &p.v, &p.out, &p.dq, &p.dk, &p.dv, &p.dout})
      for (int64_t x : {l->batch, l->head, l->time}) key[n++] = x;
    return key;
  }

  std::unique_ptr<Plan> plan(const AttentionProblem& problem, bool backward) {
    const std::lock_guard lock(mutex_);
    const Key key = key_of(problem, backward);
    auto found = plans_.find(key);
    if (found == plans_.end()) {
      // Shapes that come and go must not fill the host's memory.
      if (plans_.size() >= most_plans) plans_.clear();
      found = plans_.emplace(key, make(problem, backward)).first;
    }
    if (found->second == nullptr) return nullptr;
    return std::make_unique<CudnnPlan>(handle_, found->second);
  }

  std::shared_ptr<const Attention> make(const AttentionProblem& problem, bool backward) {
    if (copies_from_host(problem, backward)) return nullptr;
    try {
      if (handle_ == nullptr) handle_ = std::make_shared<Handle>();
      auto attention = std::make_shared<Attention>(problem, backward);
      if (attention->choose(handle_->get()).is_bad() || attention->build().is_bad()) return nullptr;
      return attention;
    } catch (const std::exception&) {  // a cuDNN that the driver is too old for, or that lacks what is asked of it
      return nullptr;
    }
  }

  static constexpr std::size_t most_plans = 256;
  std::mutex mutex_;
  std::shared_ptr<const Handle> handle_;                   // made with the first plan
  std::map<Key, std::shared_ptr<const Attention>> plans_;  // null: refused
};

}  // namespace

std::unique_ptr<Dnn> make_cudnn() {
  if (cudnnGetVersion() == 0) return nullptr;
  return std::make_unique<Cudnn>();
}

int cudnn_version() { return static_cast<int>(cudnnGetVersion()); }

std::string cudnn_refusal(const AttentionProblem& problem, bool backward, const DescribedDevice& device) {
  try {
    const auto properties = std::make_shared<fe::DeviceProperties>();
    const std::vector<uint8_t> bytes(device.properties.begin(), device.properties.end());
    if (auto error = properties->deserialize(bytes); error.is_bad()) return error.get_message();
    Attention attention(problem, backward);
    attention.graph().set_device_properties(properties);
    attention.graph().set_sm_version(device.capability);
    auto error = attention.choose(nullptr);
    if (error.is_good()) return {};
    return error.get_message().empty() ? "refused" : error.get_message();
  } catch (const std::exception& e) {
    return e.what();
  }
}

}  // namespace mpt::cuda

#else

namespace mpt::cuda {

std::unique_ptr<Dnn> make_cudnn() { return nullptr; }
int cudnn_version() { return 0; }
std::string cudnn_refusal(const AttentionProblem&, bool, const DescribedDevice&) { return "built without cuDNN"; }

}  // namespace mpt::cuda

#endif
