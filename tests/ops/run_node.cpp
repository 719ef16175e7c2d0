#include "ops/run_node.h"

#include <tbb/global_control.h>

#include <algorithm>
#include <cstring>
#include <map>

#include "graph/op_def.h"
#include "runtime/devices.h"

namespace mpt::test {

namespace {

struct Call {
  Backend& backend;
  const Kernel* kernel;
  KernelArgs args;
  const StepVars& vars;
};

void run(void* pointer) {
  auto* call = static_cast<Call*>(pointer);
  call->args.vars = call->backend.place_vars(call->vars);
  call->kernel->run(call->args);
}

// Buffers with their guards, where the backend reaches them: as they are, or copied to one block of its memory.
class Placed {
 public:
  Placed(Backend& backend, const std::vector<const GuardedBuffer*>& buffers) : backend_(backend), buffers_(buffers) {
    for (const GuardedBuffer* buffer : buffers) {
      offsets_.push_back(bytes_);
      bytes_ += (buffer->whole_bytes() + 63) / 64 * 64;
    }
    if (backend.host_memory()) return;
    memory_ = static_cast<unsigned char*>(backend.allocate(bytes_));
    std::vector<unsigned char> contents(bytes_, 0xff);
    for (std::size_t i = 0; i < buffers.size(); ++i)
      std::memcpy(&contents[offsets_[i]], buffers[i]->whole(), buffers[i]->whole_bytes());
    backend.copy_in(memory_, contents.data(), bytes_);
  }
  ~Placed() { backend_.deallocate(memory_, bytes_); }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  void* data(std::size_t i) const {
    return memory_ ? memory_ + offsets_[i] + GuardedBuffer::guard : buffers_[i]->data();
  }
  void fetch() {
    if (!memory_) return;
    std::vector<unsigned char> contents(bytes_);
    backend_.copy_out(contents.data(), memory_, bytes_);
    for (std::size_t i = 0; i < buffers_.size(); ++i)
      std::memcpy(buffers_[i]->whole(), &contents[offsets_[i]], buffers_[i]->whole_bytes());
  }

 private:
  Backend& backend_;
  std::vector<const GuardedBuffer*> buffers_;
  std::vector<std::size_t> offsets_;
  std::size_t bytes_ = 0;
  unsigned char* memory_ = nullptr;
};

bool uses_once(const Node& node, int input) {
  return std::count(node.inputs.begin(), node.inputs.end(), node.inputs[static_cast<std::size_t>(input)]) == 1;
}

}  // namespace

NodeRun run_node(Backend& backend, const Graph& graph, const Node& node, const std::vector<Array>& inputs,
                 const StepVars& vars, unsigned char poison, const Sharing& sharing, const Array* initial) {
  const std::unique_ptr<Kernel> kernel = backend.prepare(graph, node);
  std::vector<GuardedBuffer> in, out;
  std::vector<bool> overwritten(inputs.size(), false);
  for (std::size_t i = 0; i < node.inputs.size(); ++i) in.emplace_back(inputs[i]);
  NodeRun result;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    Array array;
    if (node.outputs[i] != none) array = Array(graph.shape(node.outputs[i]), graph.value(node.outputs[i]).dtype);
    out.emplace_back(array.bytes.size(), poison);
    if (initial) out.back() = GuardedBuffer(*initial);
    const int shared = i < sharing.size() ? sharing[i] : -1;
    if (shared >= 0) overwritten[static_cast<std::size_t>(shared)] = true;
    result.outputs.push_back(std::move(array));
  }
  const GuardedBuffer scratch(kernel->scratch_bytes(), poison);
  std::vector<const GuardedBuffer*> buffers;
  for (const GuardedBuffer& buffer : in) buffers.push_back(&buffer);
  for (const GuardedBuffer& buffer : out) buffers.push_back(&buffer);
  buffers.push_back(&scratch);
  Placed placed(backend, buffers);
  std::vector<const void*> in_pointers;
  std::vector<void*> out_pointers;
  for (std::size_t i = 0; i < in.size(); ++i) in_pointers.push_back(node.inputs[i] == none ? nullptr : placed.data(i));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const int shared = i < sharing.size() ? sharing[i] : -1;
    out_pointers.push_back(node.outputs[i] == none ? nullptr
                           : shared >= 0           ? placed.data(static_cast<std::size_t>(shared))
                                                   : placed.data(in.size() + i));
  }
  void* const scratch_memory = placed.data(buffers.size() - 1);
  Call call{backend, kernel.get(), {in_pointers.data(), out_pointers.data(), scratch_memory, nullptr}, vars};
  backend.execute(run, &call);
  backend.synchronize();
  placed.fetch();

  if (!scratch.intact()) result.complaint += "wrote beside its scratch; ";
  for (std::size_t i = 0; i < in.size(); ++i) {
    if (!in[i].intact()) result.complaint += "wrote beside input " + std::to_string(i) + "; ";
    if (!overwritten[i] && !in[i].holds(inputs[i])) result.complaint += "changed input " + std::to_string(i) + "; ";
  }
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (!out[i].intact()) result.complaint += "wrote beside output " + std::to_string(i) + "; ";
    const int shared = i < sharing.size() ? sharing[i] : -1;
    (shared >= 0 ? in[static_cast<std::size_t>(shared)] : out[i]).copy_out(&result.outputs[i]);
  }
  return result;
}

std::vector<Sharing> allowed_sharing(const Graph& graph, const Node& node) {
  const OpDef& def = op_def(node.kind);
  std::vector<Sharing> all;
  if (!def.in_place) return all;
  const auto fits = [&](int input, int output) {
    const ValueId x = node.inputs[static_cast<std::size_t>(input)], y = node.outputs[static_cast<std::size_t>(output)];
    return x != none && y != none && graph.shape(x) == graph.shape(y) &&
           size_of(graph.value(x).dtype) == size_of(graph.value(y).dtype) && uses_once(node, input) &&
           def.in_place(graph, node, input, output);
  };
  const int inputs = static_cast<int>(node.inputs.size()), outputs = static_cast<int>(node.outputs.size());
  for (int y = 0; y < outputs; ++y) {
    for (int x = 0; x < inputs; ++x) {
      if (!fits(x, y)) continue;
      Sharing one(static_cast<std::size_t>(outputs), -1);
      one[static_cast<std::size_t>(y)] = x;
      all.push_back(one);
      for (int y2 = y + 1; y2 < outputs; ++y2) {
        for (int x2 = 0; x2 < inputs; ++x2) {
          if (x2 == x || !fits(x2, y2)) continue;
          Sharing two = one;
          two[static_cast<std::size_t>(y2)] = x2;
          all.push_back(two);
        }
      }
    }
  }
  return all;
}

Backend& cpu_backend(int threads) {
  // Three threads on any machine.
  static const tbb::global_control allowed(tbb::global_control::max_allowed_parallelism, 3);
  static std::map<int, std::unique_ptr<Backend>> made;
  std::unique_ptr<Backend>& backend = made[threads];
  if (!backend) {
    BackendOptions options;
    options.threads = threads;
    backend = make_cpu_backend(options);
  }
  return *backend;
}

Backend& ref_backend() {
  static const std::unique_ptr<Backend> backend = make_ref_backend({});
  return *backend;
}

Backend& tested_backend(int variant) {
  const std::string device = tested_device();
  if (device == "cpu") return cpu_backend(variant);
  // Never destroyed: what the emulation keeps may be gone before.
  static auto& made = *new std::map<int, std::unique_ptr<Backend>>;
  const bool emulated = device.starts_with("emu");
  std::unique_ptr<Backend>& backend = made[emulated ? variant : 0];
  if (!backend) backend = make_backend(emulated ? device + ":" + std::to_string(variant) : device, {});
  return *backend;
}

}  // namespace mpt::test
