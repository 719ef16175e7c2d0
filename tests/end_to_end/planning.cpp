// The device "null": plans what another device would take, byte for byte, and takes nothing itself.
#include <cstdlib>
#include <string>

#include "session.h"

using namespace e2e;

namespace {

struct Sizes {
  int64_t batch, context, width, heads, layers;
};

mpt_tensor build_gpt(mpt_model* m, const Sizes& s) {
  const int64_t batch = mpt_model_dim(m, "batch"), shape[] = {batch, s.context};
  const mpt_tensor x = mpt_input(m, "x", MPT_INT32, 2, shape), y = mpt_input(m, "y", MPT_INT32, 2, shape);
  mpt_attention_options attention;
  mpt_attention_options_init(&attention, sizeof attention);
  attention.causal = 1;
  mpt_tensor h = mpt_embedding(m, "byte", x, 256, s.width, nullptr);
  for (int64_t i = 0; i < s.layers; ++i) {
    const std::string block = "block" + std::to_string(i);
    mpt_tensor n = mpt_layer_norm(m, (block + ".norm1").c_str(), h, nullptr);
    h = mpt_add(m, h,
                mpt_multi_head_attention(m, (block + ".attention").c_str(), n, static_cast<int32_t>(s.heads),
                                         &attention, nullptr));
    n = mpt_layer_norm(m, (block + ".norm2").c_str(), h, nullptr);
    n = mpt_gelu_tanh(m, mpt_linear(m, (block + ".up").c_str(), n, 4 * s.width, nullptr));
    h = mpt_add(m, h, mpt_dropout(m, mpt_linear(m, (block + ".down").c_str(), n, s.width, nullptr), 0.1));
  }
  h = mpt_layer_norm(m, "norm", h, nullptr);
  return mpt_cross_entropy(m, mpt_linear(m, "head", h, 256, nullptr), y, nullptr);
}

mpt_tensor build_mlp(mpt_model* m, const Sizes& s) {
  const int64_t batch = mpt_model_dim(m, "batch"), xs[] = {batch, s.context}, ys[] = {batch};
  const mpt_tensor x = mpt_input(m, "x", MPT_FLOAT32, 2, xs), y = mpt_input(m, "y", MPT_INT32, 1, ys);
  mpt_tensor h = x;
  for (int64_t i = 0; i < s.layers; ++i)
    h = mpt_relu(m, mpt_linear(m, ("fc" + std::to_string(i)).c_str(), h, s.width, nullptr));
  return mpt_cross_entropy(m, mpt_linear(m, "head", h, 10, nullptr), y, nullptr);
}

struct Calls {
  int64_t count = 0;
  static void* allocate(void* user, uint64_t bytes, uint64_t alignment) {
    ++static_cast<Calls*>(user)->count;
    void* pointer = nullptr;
    return posix_memalign(&pointer, alignment, bytes) == 0 ? pointer : nullptr;
  }
  static void deallocate(void*, void* pointer, uint64_t) { std::free(pointer); }
};

struct Wanted {
  mpt_tensor (*build)(mpt_model*, const Sizes&);
  Sizes sizes;
  mpt_precision precision;
  int32_t training, threads;
};

// What a plan on `device` says; with `dump` its text too.
mpt_memory_report planned(const char* device, const Wanted& w, Calls* calls = nullptr, std::string* dump = nullptr) {
  mpt_allocator allocator;
  mpt_allocator_init(&allocator, sizeof allocator);
  allocator.allocate = Calls::allocate;
  allocator.deallocate = Calls::deallocate;
  allocator.user = calls;
  mpt_context_options co;
  mpt_context_options_init(&co, sizeof co);
  co.device = device;
  co.threads = w.threads;
  if (calls) co.allocator = &allocator;
  mpt_context* context = nullptr;
  mpt_model* model = nullptr;
  mpt_params* params = nullptr;
  mpt_optimizer* optimizer = nullptr;
  mpt_plan* plan = nullptr;
  MPT_OKAY(mpt_context_create(&context, &co));
  CHECK(std::string(mpt_context_device(context)) == device);
  MPT_OKAY(mpt_model_create(&model, context));
  const mpt_tensor loss = w.build(model, w.sizes);
  MPT_OKAY(mpt_model_check(model));
  mpt_params_options po;
  mpt_params_options_init(&po, sizeof po);
  po.precision = w.precision;
  MPT_OKAY(mpt_params_create(&params, model, &po));
  mpt_optimizer_options oo;
  mpt_optimizer_options_init(&oo, sizeof oo);
  oo.average_decay = 0.9;
  MPT_OKAY(mpt_optimizer_create(&optimizer, params, &oo));
  mpt_plan_options options;
  mpt_plan_options_init(&options, sizeof options);
  options.optimizer = optimizer;
  options.training = w.training;
  const char* names[] = {"batch"};
  const int64_t sizes[] = {w.sizes.batch};
  MPT_OKAY(mpt_plan_create(&plan, params, 1, &loss, 1, names, sizes, &options));
  mpt_memory_report report;
  mpt_memory_report_init(&report, sizeof report);
  MPT_OKAY(mpt_plan_memory(plan, &report));
  if (dump) {
    uint64_t needed = 0;
    MPT_OKAY(mpt_plan_dump(plan, nullptr, 0, &needed));
    std::vector<char> text(needed);
    MPT_OKAY(mpt_plan_dump(plan, text.data(), needed, nullptr));
    *dump = text.data();
  }
  mpt_plan_destroy(plan);
  mpt_optimizer_destroy(optimizer);
  mpt_params_destroy(params);
  mpt_model_destroy(model);
  mpt_context_destroy(context);
  return report;
}

void check_same(const mpt_memory_report& a, const mpt_memory_report& b) {
  CHECK(a.master == b.master);
  CHECK(a.copy16 == b.copy16);
  CHECK(a.gradients == b.gradients);
  CHECK(a.optimizer == b.optimizer);
  CHECK(a.activations == b.activations);
  CHECK(a.scratch == b.scratch);
  CHECK(a.library == b.library);
  CHECK(a.total == b.total);
  CHECK(a.fp32_activations == b.fp32_activations);
  CHECK(a.fp32_scratch == b.fp32_scratch);
  CHECK(a.fp32_total == b.fp32_total);
  CHECK(a.flops == b.flops);
}

}  // namespace

TEST_SUITE("end_to_end.planning") {
  TEST_CASE("null plans the bytes of every class and the kernels that the device would have") {
    for (mpt_tensor (*build)(mpt_model*, const Sizes&) : {build_gpt, build_mlp})
      for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16})
        for (int32_t training : {1, 0})
          for (int32_t threads : {1, 3}) {
            CAPTURE(build == build_gpt);
            CAPTURE(name_of(precision));
            CAPTURE(training);
            CAPTURE(threads);
            const Wanted w{build, {8, 32, 64, 4, 2}, precision, training, threads};
            Calls calls;
            std::string on_cpu, on_null;
            const mpt_memory_report real = planned("cpu", w, nullptr, &on_cpu);
            check_same(real, planned("null", w, &calls, &on_null));
            CHECK(calls.count == 0);
            CHECK(on_null == on_cpu);
            check_same(real, planned("null:cpu", w));
            if (build == build_gpt) CHECK(real.scratch > 0);
          }
  }

  TEST_CASE("null plans for the reference device too") {
    const Wanted w{build_mlp, {8, 32, 64, 4, 2}, MPT_PRECISION_FP16, 1, 1};
    check_same(planned("reference", w), planned("null:reference", w));
  }

  TEST_CASE("null plans what no machine has") {
    const Wanted w{build_gpt, {1024, 4096, 8192, 64, 48}, MPT_PRECISION_FP16, 1, 64};
    const mpt_memory_report report = planned("null", w);
    CHECK(report.total > uint64_t{1} << 44);  // 16 TiB
    CHECK(report.total < report.fp32_total);
  }

  TEST_CASE("null plans for no device that is unknown or not in this build") {
    for (const char* device : {"null:", "null:tpu", "null:null", "nullcpu"}) {
      mpt_context_options co;
      mpt_context_options_init(&co, sizeof co);
      co.device = device;
      mpt_context* context = nullptr;
      CHECK(mpt_context_create(&context, &co) == MPT_ERROR_INVALID_ARGUMENT);
      CHECK(context == nullptr);
      CHECK(std::string(mpt_last_error_message()).find("null:") != std::string::npos);
    }
  }
}
