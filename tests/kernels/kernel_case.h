// One node on hand-made tensors: storage of every type between guard words, and runs of the kernel that a preparing function
// makes for it, at every instruction-set level of this machine and with several numbers of threads.
#pragma once

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "backend/cpu/registry.h"
#include "kernels/numerics/float16.h"

namespace mpt::test {

// A tensor's memory, with guard words on both sides.
class Tensor {
 public:
  Tensor() = default;  // none
  Tensor(DType type, Shape shape)
      : type_(type),
        shape_(shape),
        count_(shape.elements()),
        bytes_(static_cast<std::size_t>(count_) * size_of(type)),
        memory_(bytes_ + 2 * guard, guard_byte) {}

  DType type() const { return type_; }
  const Shape& shape() const { return shape_; }
  int64_t count() const { return count_; }
  std::size_t bytes() const { return bytes_; }
  void* data() { return memory_.data() + guard; }
  const void* data() const { return memory_.data() + guard; }

  double get(int64_t i) const {
    const unsigned char* at = memory_.data() + guard + static_cast<std::size_t>(i) * size_of(type_);
    if (type_ == DType::u8) return *at;
    if (type_ == DType::f32) return read<float>(at);
    if (type_ == DType::i32) return read<int32_t>(at);
    const auto bits = read<uint16_t>(at);
    return type_ == DType::f16 ? f16_to_f32(bits) : bf16_to_f32(bits);
  }
  void set(int64_t i, double value) {
    unsigned char* at = memory_.data() + guard + static_cast<std::size_t>(i) * size_of(type_);
    const auto real = static_cast<float>(value);
    if (type_ == DType::u8)
      *at = static_cast<unsigned char>(value);
    else if (type_ == DType::f32)
      write(at, real);
    else if (type_ == DType::i32)
      write(at, static_cast<int32_t>(value));
    else
      write(at, type_ == DType::f16 ? f32_to_f16(real) : f32_to_bf16(real));
  }
  std::vector<double> values() const {
    std::vector<double> all(static_cast<std::size_t>(count_));
    for (int64_t i = 0; i < count_; ++i) all[static_cast<std::size_t>(i)] = get(i);
    return all;
  }
  Tensor& fill(const std::function<double(int64_t)>& f) {
    for (int64_t i = 0; i < count_; ++i) set(i, f(i));
    return *this;
  }
  Tensor& fill_normal(unsigned seed, double scale = 1, double mean = 0) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal(mean, scale);
    return fill([&](int64_t) { return normal(random); });
  }

  bool guards_hold() const {
    for (std::size_t i = 0; i < guard; ++i)
      if (memory_[i] != guard_byte || memory_[guard + bytes_ + i] != guard_byte) return false;
    return true;
  }
  bool same_bits(const Tensor& other) const {
    return bytes_ == other.bytes_ && std::memcmp(data(), other.data(), bytes_) == 0;
  }

 private:
  static constexpr std::size_t guard = 64;
  static constexpr unsigned char guard_byte = 0xa5;
  template <typename T>
  static T read(const unsigned char* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
  }
  template <typename T>
  static void write(unsigned char* at, T value) {
    std::memcpy(at, &value, sizeof value);
  }

  DType type_ = DType::f32;
  Shape shape_;
  int64_t count_ = 0;
  std::size_t bytes_ = 0;
  std::vector<unsigned char> memory_ = std::vector<unsigned char>(2 * guard, guard_byte);
};

// Half a unit in the last place of a value stored as `type`, relative to it; below `smallest` the distance of numbers is
// fixed at that of the smallest normal number.
inline double rounding(DType type) { return type == DType::f32 ? 0x1p-24 : type == DType::f16 ? 0x1p-11 : 0x1p-8; }
inline double smallest(DType type) { return type == DType::f16 ? 0x1p-14 : 0x1p-126; }

// How far the stored `value` may be from an exact result that was computed with an absolute error up to `error`.
inline bool close(double value, double exact, DType type, double error) {
  if (std::isnan(exact)) return std::isnan(value);
  if (std::isinf(exact)) return value == exact;
  return std::fabs(value - exact) <= error + rounding(type) * std::max(std::fabs(exact) + error, smallest(type));
}

// Every element within its own error.
inline void check_close(const Tensor& tensor, const std::vector<double>& exact, const std::vector<double>& error) {
  REQUIRE(tensor.count() == static_cast<int64_t>(exact.size()));
  int64_t wrong = 0;
  double worst = 0;
  for (int64_t i = 0; i < tensor.count(); ++i) {
    const auto at = static_cast<std::size_t>(i);
    if (close(tensor.get(i), exact[at], tensor.type(), error[at])) continue;
    ++wrong;
    worst = std::max(worst, std::fabs(tensor.get(i) - exact[at]));
  }
  CAPTURE(worst);
  CHECK(wrong == 0);
}
inline void check_close(const Tensor& tensor, const std::vector<double>& exact, double error) {
  CAPTURE(error);
  check_close(tensor, exact, std::vector<double>(exact.size(), error));
}

constexpr DType float_types[] = {DType::f32, DType::f16, DType::bf16};
constexpr double unit = 0x1p-24;  // half a unit in the last place of FP32: the relative error of one operation

inline std::vector<cpu::Isa> levels() {
  std::vector<cpu::Isa> all;
  for (int level = 0; level <= static_cast<int>(cpu::detected_isa()); ++level)
    all.push_back(static_cast<cpu::Isa>(level));
  return all;
}

class KernelCase {
 public:
  using Prepare = std::unique_ptr<Kernel> (*)(const Graph&, const Node&, const cpu::Target&);

  KernelCase(OpKind kind, Attrs attrs) {
    node_.kind = kind;
    node_.name = "case";
    node_.attrs = std::move(attrs);
  }
  void input(const Tensor& tensor) {
    inputs_.push_back(tensor);
    node_.inputs.push_back(value_of(tensor));
  }
  void no_input() {
    inputs_.emplace_back();
    node_.inputs.push_back(none);
  }
  // alias: the input whose memory the output takes; -1 for memory of its own.
  void output(DType type, Shape shape, int alias = -1) {
    outputs_.emplace_back(type, shape);
    aliases_.push_back(alias);
    node_.outputs.push_back(value_of(outputs_.back()));
  }
  void no_output() {
    outputs_.emplace_back();
    aliases_.push_back(-1);
    node_.outputs.push_back(none);
  }

  // The outputs of one run; checks guard words and that inputs are left alone.
  std::vector<Tensor> run(Prepare prepare, cpu::Isa level, int threads) const {
    const cpu::Parallel parallel(threads);
    const std::unique_ptr<Kernel> kernel = prepare(graph_, node_, {parallel, level});
    std::vector<Tensor> inputs = inputs_, outputs = outputs_;
    std::vector<const void*> in;
    std::vector<void*> out;
    for (std::size_t i = 0; i < inputs.size(); ++i) in.push_back(node_.inputs[i] == none ? nullptr : inputs[i].data());
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      void* own = aliases_[i] < 0 ? outputs[i].data() : inputs[static_cast<std::size_t>(aliases_[i])].data();
      out.push_back(node_.outputs[i] == none ? nullptr : own);
    }
    Tensor scratch(DType::f32, {static_cast<int64_t>(kernel->scratch_bytes() / 4 + 32)});
    scratch.fill([](int64_t) { return std::nan(""); });
    auto at = reinterpret_cast<uintptr_t>(scratch.data());
    at = (at + 63) / 64 * 64;
    auto* end = reinterpret_cast<unsigned char*>(at + kernel->scratch_bytes());
    const std::vector<unsigned char> behind(end, static_cast<unsigned char*>(scratch.data()) + scratch.bytes());
    const StepVars vars = {};
    kernel->run({in.data(), out.data(), reinterpret_cast<void*>(at), &vars});
    CHECK(std::memcmp(end, behind.data(), behind.size()) == 0);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      bool aliased = false;
      for (int alias : aliases_) aliased = aliased || alias == static_cast<int>(i);
      CHECK(inputs[i].guards_hold());
      if (!aliased) CHECK(inputs[i].same_bits(inputs_[i]));
    }
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      CHECK(outputs[i].guards_hold());
      if (aliases_[i] >= 0) std::memcpy(outputs[i].data(), out[i], outputs[i].bytes());
    }
    return outputs;
  }

  // One run at every level; at each, more threads must give the same bits.
  void run_all(Prepare prepare, const std::function<void(const std::vector<Tensor>&)>& check) const {
    for (cpu::Isa level : levels()) {
      const std::string level_name = cpu::name_of(level);
      CAPTURE(level_name);
      const std::vector<Tensor> outputs = run(prepare, level, 1);
      for (int threads : {2, 3}) {
        CAPTURE(threads);
        const std::vector<Tensor> again = run(prepare, level, threads);
        for (std::size_t i = 0; i < outputs.size(); ++i) CHECK(again[i].same_bits(outputs[i]));
      }
      check(outputs);
    }
  }

 private:
  ValueId value_of(const Tensor& tensor) {
    Value value;
    value.shape = tensor.shape();
    value.dtype = tensor.type();
    graph_.values.push_back(value);
    return static_cast<ValueId>(graph_.values.size()) - 1;
  }

  Graph graph_;
  Node node_;
  std::vector<Tensor> inputs_, outputs_;
  std::vector<int> aliases_;
};

}  // namespace mpt::test
