// The frame of the CPU backend, and the null backend.
#include "backend/backend.h"

#include <doctest/doctest.h>

#include <cfenv>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "core/error.h"

using namespace mpt;

namespace {

struct Counted {
  static void* allocate(void* user, uint64_t bytes, uint64_t alignment) {
    auto& self = *static_cast<Counted*>(user);
    if (bytes > self.limit) return nullptr;
    self.bytes += bytes;
    self.alignment = alignment;
    return std::aligned_alloc(alignment, (bytes + alignment - 1) / alignment * alignment);
  }
  static void deallocate(void* user, void* pointer, uint64_t bytes) {
    static_cast<Counted*>(user)->bytes -= bytes;
    std::free(pointer);
  }
  uint64_t bytes = 0, alignment = 0, limit = 1 << 20;
};

BackendOptions options_of(Counted* counted, int threads) {
  return {threads, Counted::allocate, Counted::deallocate, counted};
}

// y = x, a chain of no steps, for values of `type`.
struct OneNode {
  explicit OneNode(DType type) {
    Value value;
    value.dtype = type;
    value.shape = {4};
    graph.values.push_back(value);
    graph.values.push_back(value);
    node.kind = OpKind::elementwise;
    node.name = "same";
    node.attrs = ElementwiseAttrs{Program{1, {}, {0}}, {4}};
    node.inputs = {1};
    node.outputs = {2};
  }
  Graph graph;
  Node node;
};

template <typename F>
mpt_status status_of(F f, std::string* message = nullptr) {
  try {
    f();
    return MPT_OK;
  } catch (const Error& error) {
    if (message != nullptr) *message = error.what();
    return error.status();
  }
}

}  // namespace

TEST_CASE("cpu backend: memory comes from the context's allocator, whole and aligned") {
  Counted counted;
  const auto backend = make_cpu_backend(options_of(&counted, 2));
  CHECK(std::string(backend->name()) == "cpu");
  CHECK(backend->info().find("2 threads") != std::string::npos);
  void* memory = backend->allocate(1000);
  CHECK(counted.bytes == 1000);
  CHECK(counted.alignment == 64);
  CHECK(reinterpret_cast<uintptr_t>(memory) % 64 == 0);
  std::vector<char> out(1000, 1);
  backend->fill_zero(memory, 1000);
  backend->copy_out(out.data(), memory, 1000);
  CHECK(out == std::vector<char>(1000, 0));
  out.assign(1000, 7);
  backend->copy_in(memory, out.data(), 1000);
  CHECK(std::memcmp(memory, out.data(), 1000) == 0);
  backend->deallocate(memory, 1000);
  CHECK(counted.bytes == 0);
  CHECK(status_of([&] { backend->allocate(2 << 20); }) == MPT_ERROR_OUT_OF_MEMORY);
  CHECK(backend->allocate(0) == nullptr);
  backend->deallocate(nullptr, 0);
}

TEST_CASE("cpu backend: work runs in the library's floating-point mode and the caller's comes back") {
  const auto backend = make_cpu_backend({});
  // Arithmetic shows the mode: upwards, adding anything changes the sum.
  const auto sum = [] {
    volatile float one = 1, tiny = 0x1p-60f;
    return one + tiny;
  };
  float inside = 0;
  std::fesetround(FE_UPWARD);
  backend->execute(
      [](void* out) {
        volatile float one = 1, tiny = 0x1p-60f;
        *static_cast<float*>(out) = one + tiny;
      },
      &inside);
  const float after = sum();
  std::fesetround(FE_TONEAREST);
  CHECK(inside == 1);
  CHECK(after > 1);
}

TEST_CASE("cpu backend: prepares what it supports and names what it does not") {
  const auto backend = make_cpu_backend({});
  const OneNode supported(DType::f16);
  const auto kernel = backend->prepare(supported.graph, supported.node);
  const uint16_t x[] = {1, 2, 3, 4};
  uint16_t y[4] = {};
  const void* in[] = {x};
  void* out[] = {y};
  const StepVars vars{};
  kernel->run({in, out, nullptr, &vars});
  CHECK(std::memcmp(x, y, sizeof x) == 0);
  const OneNode unsupported(DType::f64);
  std::string message;
  CHECK(status_of([&] { backend->prepare(unsupported.graph, unsupported.node); }, &message) == MPT_ERROR_UNSUPPORTED);
  CHECK(message == "cpu: no implementation of 'same' (elementwise) for (float64[4])");
}

TEST_CASE("null backend: plans at any size and runs nothing") {
  const auto backend = make_null_backend(make_cpu_backend({}));
  CHECK_FALSE(backend->executes());
  CHECK_FALSE(backend->host_memory());
  std::set<void*> addresses;
  for (int i = 0; i < 100; ++i) {
    void* memory = backend->allocate((uint64_t{1} << 44) + 1);  // 16 TiB each
    CHECK(reinterpret_cast<uintptr_t>(memory) % 64 == 0);
    CHECK(addresses.insert(memory).second);
    backend->copy_in(memory, nullptr, uint64_t{1} << 44);
    backend->fill_zero(memory, uint64_t{1} << 44);
    backend->deallocate(memory, (uint64_t{1} << 44) + 1);
  }
  CHECK(backend->info().find("plans for cpu") != std::string::npos);
  const OneNode one(DType::f32), unsupported(DType::f64);
  const auto kernel = backend->prepare(one.graph, one.node);
  CHECK(std::string(kernel->implementation()) == make_cpu_backend({})->prepare(one.graph, one.node)->implementation());
  CHECK(status_of([&] { backend->prepare(unsupported.graph, unsupported.node); }) == MPT_ERROR_UNSUPPORTED);
  CHECK(status_of([&] { kernel->run({}); }) == MPT_ERROR_UNSUPPORTED);
  CHECK(status_of([&] { backend->copy_out(nullptr, *addresses.begin(), 1); }) == MPT_ERROR_UNSUPPORTED);
}
