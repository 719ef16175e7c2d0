// The CUDA backend's flat passes, on the emulation and on a device: the CPU's bits, whatever the optimizer, the types, the
// sizes and the alignment.
#include "backend/cuda/flat_passes.h"

#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <random>

#include "backend/cuda/backend.h"
#include "cuda/tested_libraries.h"
#include "kernels/numerics/float16.h"

using namespace mpt;

namespace {

template <typename F>
void on(Backend& backend, F work) {
  backend.execute([](void* f) { (*static_cast<F*>(f))(); }, &work);
}

std::unique_ptr<Backend> tested() { return cuda::make_backend(test::make_tested_libraries()); }
std::unique_ptr<Backend> cpu() {
  BackendOptions options;
  options.threads = 2;
  return make_cpu_backend(options);
}

const int32_t all_kinds[] = {MPT_SGD, MPT_ADAM, MPT_ADAMW, MPT_LAMB, MPT_ADAGRAD, MPT_NOVOGRAD, MPT_LION};

// The types of a tensor's arrays, and how far they are from a 64-byte boundary.
struct Kind {
  DType copy = DType::f16, gradient = DType::f16;  // copy f32: none
  bool master = true;
  int64_t off = 0;  // elements
};
const Kind all_types[] = {{DType::f32, DType::f32}, {DType::f16, DType::f16},        {DType::bf16, DType::bf16},
                          {DType::f16, DType::f32}, {DType::f16, DType::f16, false}, {DType::bf16, DType::bf16, false}};

enum Array { master, copy, gradient, moment1, moment2, average, arrays };

// A tensor's arrays in host memory.
struct Tensor {
  int64_t count = 0;
  Kind kind;
  bool active = true;
  std::vector<char> bytes[arrays];
};

std::size_t element_bytes(const Tensor& t, int array) {
  return array == copy ? 2 : array == gradient ? size_of(t.kind.gradient) : 4;
}

void set(Tensor& t, int array, int64_t i, float x) {
  const DType type = array == copy ? t.kind.copy : array == gradient ? t.kind.gradient : DType::f32;
  char* at = t.bytes[array].data() + i * static_cast<int64_t>(element_bytes(t, array));
  const uint16_t narrow = type == DType::bf16 ? f32_to_bf16(x) : f32_to_f16(x);
  if (type == DType::f32)
    std::memcpy(at, &x, sizeof x);
  else
    std::memcpy(at, &narrow, sizeof narrow);
}

// Numbers of many magnitudes; gradients carry a scale of 64. NovoGrad's second moment is one number.
Tensor make_tensor(int64_t count, const Kind& kind, int32_t optimizer, std::mt19937& random) {
  Tensor t;
  t.count = count;
  t.kind = kind;
  for (int a = 0; a < arrays; ++a) {
    if ((a == master && !kind.master) || (a == copy && kind.copy == DType::f32)) continue;
    const int64_t n = a == moment2 && optimizer == MPT_NOVOGRAD ? 1 : count;
    t.bytes[a].resize(static_cast<std::size_t>(n) * element_bytes(t, a));
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (int64_t i = 0; i < n; ++i) {
      const float x = uniform(random);
      const float scaled = a == gradient  ? 64 * x * std::pow(10.0f, 5 * uniform(random) - 4)
                           : a == moment1 ? 0.01f * x
                           : a == moment2 ? 0.01f * x * x
                                          : x;
      set(t, a, i, i % 97 == 5 && a != master && a != copy ? 0.0f : scaled);
    }
  }
  return t;
}

using Tensors = std::vector<Tensor>;

Tensors make_tensors(const Kind& kind, int32_t optimizer) {
  std::mt19937 random(static_cast<unsigned>(optimizer) + 5);
  Tensors tensors;
  for (const int64_t count : {1, 31, 33, 257, 16384, 100, 16385, 40000})
    tensors.push_back(make_tensor(count, kind, optimizer, random));
  tensors[2].active = false;
  tensors[5].active = false;
  return tensors;
}

// The same in a backend's memory: each array an allocation of its own, or all in one.
class Placed {
 public:
  Placed(Backend& backend, const Tensors& tensors, bool together = false) : backend_(backend), tensors_(tensors) {
    uint64_t total = 0;
    for (const Tensor& t : tensors)
      for (const std::vector<char>& bytes : t.bytes) total += (bytes.size() + 63) / 64 * 64;
    char* next = nullptr;
    if (together) memory_.push_back({next = static_cast<char*>(backend.allocate(total)), total});
    for (std::size_t n = 0; n < tensors.size(); ++n) {
      const Tensor& t = tensors[n];
      void* at[arrays] = {};
      for (int a = 0; a < arrays; ++a) {
        if (t.bytes[a].empty()) continue;
        const std::size_t off = static_cast<std::size_t>(t.kind.off) * element_bytes(t, a);
        const uint64_t size = off + t.bytes[a].size();
        if (together) {
          at[a] = next;
          next += (size + 63) / 64 * 64;
        } else {
          memory_.push_back({backend.allocate(size), size});
          at[a] = static_cast<char*>(memory_.back().first) + off;
        }
        backend.copy_in(at[a], t.bytes[a].data(), t.bytes[a].size());
        places_.push_back({n, a, at[a]});
      }
      Segment s;
      s.count = t.count;
      s.master = static_cast<float*>(at[master]);
      s.copy16 = at[copy];
      s.gradient = at[gradient];
      s.copy_dtype = t.kind.copy;
      s.gradient_dtype = t.kind.gradient;
      s.moment1 = static_cast<float*>(at[moment1]);
      s.moment2 = static_cast<float*>(at[moment2]);
      s.average = static_cast<float*>(at[average]);
      s.learning_rate_factor = 0.5f + static_cast<float>(n);
      s.weight_decay = n % 2 == 0 ? 0.03f : 0;
      s.active = t.active;
      store.segments.push_back(s);
    }
    store.split();
  }
  ~Placed() {
    store.device_tables.reset();
    for (const auto& [memory, bytes] : memory_) backend_.deallocate(memory, bytes);
  }
  Placed(const Placed&) = delete;
  Placed& operator=(const Placed&) = delete;

  // What has become of them.
  Tensors read() {
    Tensors found = tensors_;
    for (const auto& place : places_) {
      std::vector<char>& bytes = found[place.tensor].bytes[place.array];
      backend_.copy_out(bytes.data(), place.at, bytes.size());
    }
    return found;
  }

  FlatStore store;

 private:
  struct Place {
    std::size_t tensor;
    int array;
    void* at;
  };
  Backend& backend_;
  Tensors tensors_;
  std::vector<std::pair<void*, uint64_t>> memory_;
  std::vector<Place> places_;
};

// One NaN is as good as another: a GPU's conversions give one for all.
bool same_number(const char* a, const char* b, std::size_t size, DType type) {
  if (std::memcmp(a, b, size) == 0) return true;
  float x, y;
  if (size == 4) {
    std::memcpy(&x, a, 4);
    std::memcpy(&y, b, 4);
  } else {
    uint16_t p, q;
    std::memcpy(&p, a, 2);
    std::memcpy(&q, b, 2);
    x = type == DType::bf16 ? bf16_to_f32(p) : f16_to_f32(p);
    y = type == DType::bf16 ? bf16_to_f32(q) : f16_to_f32(q);
  }
  return std::isnan(x) && std::isnan(y);
}

void check_same(const Tensors& found, const Tensors& expected) {
  const char* names[arrays] = {"master", "copy", "gradient", "moment1", "moment2", "average"};
  for (std::size_t n = 0; n < expected.size(); ++n)
    for (int a = 0; a < arrays; ++a) {
      const std::vector<char>&x = found[n].bytes[a], &y = expected[n].bytes[a];
      if (x == y) continue;
      const std::size_t size = element_bytes(found[n], a);
      for (std::size_t i = 0; i < y.size(); i += size)
        if (!same_number(&x[i], &y[i], size, found[n].kind.copy)) {
          FAIL_CHECK("tensor " << n << " of " << found[n].count << ": " << names[a] << " " << i / size);
          break;
        }
    }
}

UpdateArgs update_args(int32_t kind, uint64_t step) {
  UpdateArgs args;
  args.hyper.kind = kind;
  args.hyper.beta1 = 0.9;
  args.hyper.beta2 = 0.95;
  args.hyper.epsilon = 1e-6f;
  args.hyper.momentum = 0.9f;
  args.hyper.nesterov = step % 2 == 0;
  args.learning_rate = 0.01;
  args.step = step;
  args.inverse_scale = 1.0f / 64;
  args.clip_factor = 0.75f;
  args.clip_value = 0.9f;
  args.average_decay = 0.99f;
  return args;
}

// Two updates and their statistics on both.
void compare_updates(const Tensors& tensors, int32_t kind, Backend& device, Backend& host, bool together = false) {
  Placed there(device, tensors, together), here(host, tensors, together);
  for (const uint64_t step : {1, 6}) {
    const UpdateArgs args = update_args(kind, step);
    UpdateResult found, expected;
    mpt_update_statistics counted{}, counts{};
    on(device, [&] {
      device.statistics(there.store, args, &counted);
      device.update(there.store, args, &found);
    });
    on(host, [&] {
      host.statistics(here.store, args, &counts);
      host.update(here.store, args, &expected);
    });
    CHECK(found.overflows_16bit == expected.overflows_16bit);
    CHECK(found.first_overflow == expected.first_overflow);
    CHECK(std::memcmp(&counted, &counts, sizeof counts) == 0);
    check_same(there.read(), here.read());
  }
}

}  // namespace

TEST_CASE("flat passes: every optimizer's update and statistics have the CPU's bits, in all types") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  for (const int32_t kind : all_kinds)
    for (const Kind& types : all_types) {
      INFO("optimizer " << kind << " copy " << name_of(types.copy) << " master " << types.master);
      compare_updates(make_tensors(types, kind), kind, *device, *host);
    }
}

TEST_CASE("flat passes: plain SGD keeps no moments") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  Tensors tensors = make_tensors(Kind{}, MPT_SGD);
  for (Tensor& t : tensors) t.bytes[moment1].clear(), t.bytes[moment2].clear(), t.bytes[average].clear();
  Placed there(*device, tensors), here(*host, tensors);
  UpdateArgs args = update_args(MPT_SGD, 3);
  args.hyper.momentum = 0;
  args.clip_value = 0;
  UpdateResult result;
  on(*device, [&] { device->update(there.store, args, &result); });
  on(*host, [&] { host->update(here.store, args, &result); });
  check_same(there.read(), here.read());
}

TEST_CASE("flat passes: buffers of the user's that no 16-byte access may touch") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  for (const int32_t kind : {MPT_ADAMW, MPT_LAMB, MPT_NOVOGRAD})
    for (const int64_t off : {1, 2, 3}) compare_updates(make_tensors({.off = off}, kind), kind, *device, *host);
}

TEST_CASE("flat passes: the check's sums have the CPU's bits, with and without clipping by value") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  for (const Kind& types : all_types)
    for (const double clip : {0.0, 0.25}) {
      const Tensors tensors = make_tensors(types, MPT_ADAM);
      Placed there(*device, tensors), here(*host, tensors);
      CheckResult found, expected;
      on(*device, [&] { device->check_gradients(there.store, {1.0 / 64, clip}, &found); });
      on(*host, [&] { host->check_gradients(here.store, {1.0 / 64, clip}, &expected); });
      CHECK(expected.sum_of_squares > 0);
      CHECK(found.sum_of_squares == expected.sum_of_squares);
      CHECK(found.non_finite == 0);
      CHECK(found.first_segment == -1);
      check_same(there.read(), tensors);
    }
}

TEST_CASE("flat passes: sums over more pieces than there are chains") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  std::mt19937 random(3);
  Tensors tensors;
  for (int64_t n = 0; n < 600; ++n) tensors.push_back(make_tensor(1 + n % 40, Kind{}, MPT_LAMB, random));
  for (std::size_t n = 0; n < tensors.size(); n += 7) tensors[n].active = false;
  {
    Placed there(*device, tensors, true), here(*host, tensors, true);
    CheckResult found, expected;
    on(*device, [&] { device->check_gradients(there.store, {1.0 / 64, 0}, &found); });
    on(*host, [&] { host->check_gradients(here.store, {1.0 / 64, 0}, &expected); });
    CHECK(found.sum_of_squares == expected.sum_of_squares);
  }
  compare_updates(tensors, MPT_LAMB, *device, *host, true);
}

TEST_CASE("flat passes: non-finite gradients are counted and the first is told, wherever they are") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  const float inf = INFINITY;
  for (const Kind& types : {all_types[0], all_types[1], all_types[2]})
    for (const double clip : {0.0, 0.25})
      for (const auto& [tensor, element] : std::vector<std::pair<std::size_t, int64_t>>{
               {0, 0}, {1, 30}, {3, 256}, {6, 16384}, {7, 16383}, {7, 39999}}) {
        for (const float bad : {inf, -inf, NAN}) {
          Tensors tensors = make_tensors(types, MPT_ADAM);
          set(tensors[tensor], gradient, element, bad);
          set(tensors[7], gradient, 39999, bad);
          set(tensors[2], gradient, 3, bad);  // inactive
          Placed there(*device, tensors), here(*host, tensors);
          CheckResult found, expected;
          on(*device, [&] { device->check_gradients(there.store, {1.0 / 64, clip}, &found); });
          on(*host, [&] { host->check_gradients(here.store, {1.0 / 64, clip}, &expected); });
          CHECK(found.non_finite == (element == 39999 ? 1 : 2));
          CHECK(found.first_segment == static_cast<int32_t>(tensor));
          CHECK(found.first_element == element);
          CHECK(found.non_finite == expected.non_finite);
          CHECK(found.first_segment == expected.first_segment);
          CHECK(found.first_element == expected.first_element);
          CHECK(std::isfinite(found.sum_of_squares) == std::isfinite(expected.sum_of_squares));
        }
      }
}

TEST_CASE("flat passes: weights beyond the range of 16 bits are counted and the first tensor is told") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  for (const DType type : {DType::f16, DType::bf16}) {
    Tensors tensors = make_tensors({type, type}, MPT_ADAMW);
    const float large = type == DType::f16 ? 70000.0f : 3.4028e38f;
    for (const int64_t i : {3, 16384, 20000, 20001}) set(tensors[7], master, i, large);
    set(tensors[4], master, 77, -large);
    set(tensors[4], master, 78, INFINITY);  // not finite in FP32: no overflow
    Placed there(*device, tensors), here(*host, tensors);
    UpdateResult found, expected;
    on(*device, [&] { device->update(there.store, update_args(MPT_ADAMW, 1), &found); });
    on(*host, [&] { host->update(here.store, update_args(MPT_ADAMW, 1), &expected); });
    CHECK(found.overflows_16bit == 5);
    CHECK(found.first_overflow == 4);
    CHECK(found.overflows_16bit == expected.overflows_16bit);
    check_same(there.read(), here.read());
  }
}

// A device, and passes over a store on it by a control of the test's.
class Direct {
 public:
  Direct() : Direct(test::make_tested_libraries()) {}
  Backend& backend() { return *backend_; }

  // work(passes, tables, the control in device memory)
  template <typename F>
  cuda::FlatControl run(FlatStore& store, const cuda::FlatControl& control, F work) {
    cuda::FlatControl found = control;
    void* at = backend_->allocate(sizeof control);
    backend_->copy_in(at, &control, sizeof control);
    on(*backend_, [&] {
      const cuda::Stream stream = device_->create_stream();
      cuda::FlatPasses passes(*device_, stream);
      work(passes, passes.tables(store), static_cast<cuda::FlatControl*>(at));
      device_->synchronize(stream);
      store.device_tables.reset();
      device_->destroy_stream(stream);
    });
    backend_->copy_out(&found, at, sizeof found);
    backend_->deallocate(at, sizeof control);
    return found;
  }

 private:
  explicit Direct(cuda::Libraries libraries)
      : device_(libraries.device.get()), backend_(cuda::make_backend(std::move(libraries))) {}
  cuda::Device* device_;
  std::unique_ptr<Backend> backend_;
};

cuda::FlatControl some_control() {
  cuda::FlatControl control{};
  control.inverse_scale = 1.0 / 64;
  control.learning_rate = 1;
  control.step = 1;
  control.clip_factor = 1;
  control.overflows = 17;
  control.first_overflow = 3;
  control.sum_of_squares = 5;
  return control;
}

TEST_CASE("flat passes: an update that is not to be applied writes nothing") {
  Direct direct;
  for (const int32_t kind : all_kinds) {
    const Tensors tensors = make_tensors(Kind{}, kind);
    Placed there(direct.backend(), tensors);
    const cuda::FlatControl before = some_control();
    mpt_update_statistics counts{}, counts_before{};
    counts.updates = counts_before.updates = 23;
    void* counts_at = direct.backend().allocate(sizeof counts);
    direct.backend().copy_in(counts_at, &counts, sizeof counts);
    const cuda::FlatControl after =
        direct.run(there.store, before, [&](cuda::FlatPasses& passes, const cuda::FlatTables& tables, auto* control) {
          const OptimizerHyper hyper = update_args(kind, 1).hyper;
          passes.statistics(tables, hyper, control, static_cast<mpt_update_statistics*>(counts_at));
          passes.seed_averages(tables, control);
          passes.update(tables, hyper, control);
        });
    check_same(there.read(), tensors);
    direct.backend().copy_out(&counts, counts_at, sizeof counts);
    CHECK(std::memcmp(&after, &before, sizeof before) == 0);
    CHECK(std::memcmp(&counts, &counts_before, sizeof counts) == 0);
    direct.backend().deallocate(counts_at, sizeof counts);
  }
}

TEST_CASE("flat passes: averages begin as the weights are, before the first update alone") {
  Direct direct;
  for (const Kind& types : all_types)
    for (const uint64_t step : {1, 2}) {
      const Tensors tensors = make_tensors(types, MPT_ADAMW);
      Placed there(direct.backend(), tensors);
      cuda::FlatControl control = some_control();
      control.apply = 1;
      control.step = step;
      direct.run(there.store, control, [&](cuda::FlatPasses& passes, const cuda::FlatTables& tables, auto* at) {
        passes.seed_averages(tables, at);
      });
      Tensors expected = tensors;
      for (Tensor& t : expected)
        for (int64_t i = 0; step == 1 && i < t.count; ++i) {
          float w;
          uint16_t narrow;
          if (t.kind.master) {
            std::memcpy(&w, &t.bytes[master][static_cast<std::size_t>(4 * i)], 4);
          } else {
            std::memcpy(&narrow, &t.bytes[copy][static_cast<std::size_t>(2 * i)], 2);
            w = t.kind.copy == DType::bf16 ? bf16_to_f32(narrow) : f16_to_f32(narrow);
          }
          set(t, average, i, w);
        }
      check_same(there.read(), expected);
    }
}

TEST_CASE("flat passes: 16-bit copies and accumulators have the CPU's bits") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  for (const Kind& types : all_types)
    for (const int64_t off : {0, 1}) {
      Kind kind = types;
      kind.off = off;
      // Sums live where the averages are; without them the third tensor is left alone.
      const Tensors tensors = make_tensors(kind, MPT_ADAM);
      Placed there(*device, tensors), here(*host, tensors);
      const auto run = [&](Backend& backend, FlatStore& store) {
        std::vector<float*> sums;
        for (const Segment& s : store.segments) sums.push_back(s.average);
        on(backend, [&] {
          backend.round_copies(store);
          backend.accumulate_gradients(store, sums.data(), 0.3f, true);
          backend.accumulate_gradients(store, sums.data(), 1.0f / 64, false);
        });
      };
      run(*device, there.store);
      run(*host, here.store);
      check_same(there.read(), here.read());
    }
}

TEST_CASE("flat passes: what a store says is followed from call to call, and a copy of it goes its own way") {
  const std::unique_ptr<Backend> device = tested(), host = cpu();
  const Tensors tensors = make_tensors(Kind{}, MPT_ADAMW);
  Placed there(*device, tensors), here(*host, tensors);
  const UpdateArgs args = update_args(MPT_ADAMW, 2);
  const auto run = [&](Backend& backend, FlatStore& store) {
    UpdateResult result;
    on(backend, [&] {
      backend.update(store, args, &result);
      FlatStore copy = store;
      copy.segments[0].active = false;
      copy.segments[7].learning_rate_factor = 3;
      backend.update(copy, args, &result);
      store.segments[1].active = false;
      std::swap(store.segments[3].weight_decay, store.segments[4].weight_decay);
      backend.update(store, args, &result);
      backend.update(copy, args, &result);
      store.segments[1].active = true;
      backend.update(store, args, &result);
    });
  };
  run(*device, there.store);
  run(*host, here.store);
  check_same(there.read(), here.read());
}

TEST_CASE("flat passes: tables keep their addresses and go to the device only when they differ") {
  cuda::Libraries libraries = test::make_tested_libraries();
  cuda::Device* lib = libraries.device.get();
  const std::unique_ptr<Backend> device = cuda::make_backend(std::move(libraries));
  Placed there(*device, make_tensors(Kind{}, MPT_ADAMW));
  on(*device, [&] {
    const cuda::Stream stream = lib->create_stream();
    cuda::FlatPasses passes(*lib, stream);
    const cuda::FlatTables first = passes.tables(there.store);
    there.store.segments[2].active = true;
    const cuda::FlatTables again = passes.tables(there.store);
    CHECK(std::memcmp(&first, &again, sizeof first) == 0);
    lib->synchronize(stream);
    // Nothing differs now, so that even while recording nothing is asked of the device.
    lib->begin_recording(stream);
    passes.tables(there.store);
    lib->end_recording(stream);
    there.store.device_tables.reset();
    lib->destroy_stream(stream);
  });
}
