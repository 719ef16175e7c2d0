// Memory through the host's allocator: what is planned is what is allocated, and running out of it harms nothing.
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "session.h"

using namespace e2e;

namespace {

// Counts, and fails allocation number `fail_at` (0: none).
struct Memory {
  std::atomic<int64_t> bytes{0}, blocks{0};
  std::atomic<int64_t> calls{0};
  int64_t fail_at = 0;
  int released = 0;

  static void* allocate(void* user, uint64_t bytes, uint64_t alignment) {
    auto& self = *static_cast<Memory*>(user);
    if (++self.calls == self.fail_at) return nullptr;
    void* pointer = nullptr;
    if (posix_memalign(&pointer, alignment, bytes) != 0) return nullptr;
    self.bytes += static_cast<int64_t>(bytes);
    ++self.blocks;
    return pointer;
  }
  static void deallocate(void* user, void* pointer, uint64_t bytes) {
    auto& self = *static_cast<Memory*>(user);
    self.bytes -= static_cast<int64_t>(bytes);
    --self.blocks;
    std::free(pointer);
  }
  static void release(void* user) { ++static_cast<Memory*>(user)->released; }

  mpt_allocator allocator() {
    mpt_allocator a;
    mpt_allocator_init(&a, sizeof a);
    a.allocate = allocate;
    a.deallocate = deallocate;
    a.release = release;
    a.user = this;
    return a;
  }
};

}  // namespace

TEST_SUITE("end_to_end.memory") {
  TEST_CASE("planned bytes are allocated bytes") {
    if (!host_reads_device()) return;  // the allocator is the host's
    for (mpt_precision precision : {MPT_PRECISION_FP32, MPT_PRECISION_FP16, MPT_PRECISION_BF16})
      for (int32_t accumulation : {1, 4}) {
        CAPTURE(name_of(precision));
        CAPTURE(accumulation);
        Memory memory;
        const mpt_allocator allocator = memory.allocator();
        {
          Settings s;
          s.precision = precision;
          s.allocator = &allocator;
          s.tune_optimizer = [](mpt_optimizer_options& o) { o.average_decay = 0.9; };
          s.tune_trainer = [&](mpt_trainer_options& o) { o.accumulation_steps = accumulation; };
          Session session(s);
          Data data(64);
          session.step(data);
          mpt_memory_report report;
          mpt_memory_report_init(&report, sizeof report);
          MPT_OKAY(mpt_trainer_memory(session.trainer, &report));
          CHECK(report.total == report.master + report.copy16 + report.gradients + report.optimizer +
                                    report.activations + report.scratch + report.library);
          CHECK(static_cast<int64_t>(report.total) == memory.bytes);
        }
        CHECK(memory.blocks == 0);
        CHECK(memory.bytes == 0);
        CHECK(memory.released == 1);
      }
  }

  TEST_CASE("a plan says before a step what the step then takes") {
    Session session;
    const mpt_tensor outputs[] = {session.loss};
    const char* names[] = {"batch"};
    const int64_t sizes[] = {64};
    mpt_plan_options options;
    mpt_plan_options_init(&options, sizeof options);
    options.optimizer = session.optimizer;
    mpt_plan* plan = nullptr;
    MPT_OKAY(mpt_plan_create(&plan, session.params, 1, outputs, 1, names, sizes, &options));
    mpt_memory_report planned, taken;
    mpt_memory_report_init(&planned, sizeof planned);
    mpt_memory_report_init(&taken, sizeof taken);
    MPT_OKAY(mpt_plan_memory(plan, &planned));
    mpt_plan_destroy(plan);
    Data data(64);
    session.step(data);
    MPT_OKAY(mpt_trainer_memory(session.trainer, &taken));
    CHECK(planned.total == taken.total);
    CHECK(planned.activations == taken.activations);
  }

  TEST_CASE("running out of memory is a status; nothing leaks and the handles still work") {
    // Allocation number n fails, for n = 1, 2, ... until none does.
    for (int64_t n = 1;; ++n) {
      REQUIRE(n < 200);
      Memory memory;
      memory.fail_at = n;
      const mpt_allocator allocator = memory.allocator();
      bool failed = false;
      const auto went_wrong = [&](mpt_status status) {
        if (status == MPT_OK) return false;
        CHECK(status == MPT_ERROR_OUT_OF_MEMORY);
        CHECK(std::string(mpt_last_error_message()) != "");
        failed = true;
        return true;
      };
      mpt_context_options co;
      mpt_context_options_init(&co, sizeof co);
      co.allocator = &allocator;
      mpt_context* context = nullptr;
      mpt_model* model = nullptr;
      mpt_params* params = nullptr;
      mpt_optimizer* optimizer = nullptr;
      mpt_trainer* trainer = nullptr;
      Data data(16);
      // A call that fails is made again: it finds everything as it was.
      while (went_wrong(mpt_context_create(&context, &co))) CHECK(context == nullptr);
      while (went_wrong(mpt_model_create(&model, context))) CHECK(model == nullptr);
      const int64_t batch = mpt_model_dim(model, "batch"), xs[] = {batch, 8}, ys[] = {batch};
      const mpt_tensor x = mpt_input(model, "x", MPT_FLOAT32, 2, xs), y = mpt_input(model, "y", MPT_INT32, 1, ys);
      const mpt_tensor loss = mpt_cross_entropy(model, mpt_linear(model, "fc", x, 4, nullptr), y, nullptr);
      mpt_params_options po;
      mpt_params_options_init(&po, sizeof po);
      po.precision = MPT_PRECISION_FP16;
      while (went_wrong(mpt_params_create(&params, model, &po))) CHECK(params == nullptr);
      while (went_wrong(mpt_optimizer_create(&optimizer, params, nullptr))) CHECK(optimizer == nullptr);
      while (went_wrong(mpt_trainer_create(&trainer, loss, params, optimizer, nullptr, nullptr)))
        CHECK(trainer == nullptr);
      while (went_wrong(mpt_trainer_step(trainer, data.arrays, 2, nullptr))) {
      }
      double value = 0;
      while (went_wrong(mpt_trainer_evaluate(trainer, data.arrays, 2, 0, &value))) {
      }
      while (went_wrong(mpt_trainer_save(trainer, "memory_test.safetensors"))) {
      }
      while (went_wrong(mpt_trainer_load(trainer, "memory_test.safetensors"))) {
      }
      std::remove("memory_test.safetensors");
      mpt_step_result r;
      mpt_step_result_init(&r, sizeof r);
      MPT_OKAY(mpt_trainer_step(trainer, data.arrays, 2, &r));
      CHECK(r.applied_steps == 2);
      mpt_context_destroy(context);
      mpt_params_destroy(params);
      mpt_trainer_destroy(trainer);
      mpt_model_destroy(model);
      mpt_optimizer_destroy(optimizer);
      CHECK(memory.blocks == 0);
      CHECK(memory.bytes == 0);
      CHECK(memory.released == 1);
      if (!failed) break;
    }
  }

  TEST_CASE("a workspace keeps to its limit") {
    Settings s;
    Session session(s);
    mpt_workspace_options wo;
    mpt_workspace_options_init(&wo, sizeof wo);
    wo.max_bytes = 4096;
    mpt_workspace* workspace = nullptr;
    MPT_OKAY(mpt_workspace_create(&workspace, session.context, &wo));
    mpt_trainer_options to;
    mpt_trainer_options_init(&to, sizeof to);
    to.workspace = workspace;
    mpt_trainer* trainer = nullptr;
    MPT_OKAY(mpt_trainer_create(&trainer, session.loss, session.params, session.optimizer, nullptr, &to));
    Data data(512);
    CHECK(mpt_trainer_step(trainer, data.arrays, 2, nullptr) == MPT_ERROR_OUT_OF_MEMORY);
    CHECK(std::string(mpt_last_error_message()).find("4096") != std::string::npos);
    CHECK(mpt_workspace_bytes(workspace) <= 4096);
    mpt_trainer_destroy(trainer);
    mpt_workspace_destroy(workspace);
  }
}
