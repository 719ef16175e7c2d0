// Every optimizer for 20 steps and every schedule against optax (Adagrad: PyTorch's formula) in double: optimizers.py.
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <optional>
#include <sstream>
#include <string>
#include <vector>

#include "backend/backend.h"
#include "io/safetensors.h"
#include "runtime/optimizer.h"

using namespace mpt;

namespace {

// Nothing, and a word that makes the test skipped, where the script could not make the answers.
std::optional<SafetensorsFile> answers() {
  const char* folder = std::getenv("MPT_KNOWN_ANSWERS");
  const std::string path = std::string(folder != nullptr ? folder : ".") + "/optimizers.safetensors";
  if (!std::ifstream(path)) {
    MESSAGE("SKIPPED: there is no ", path, ": it takes a Python with jax and optax");
    return std::nullopt;
  }
  return std::optional<SafetensorsFile>(path);
}

template <typename T>
std::vector<T> read(const SafetensorsFile& file, const std::string& name) {
  const TensorEntry* entry = file.find(name);
  REQUIRE_MESSAGE(entry != nullptr, name);
  std::vector<T> values(entry->bytes() / sizeof(T));
  file.read(*entry, 0, values.data(), entry->bytes());
  return values;
}

std::vector<std::string> list(const SafetensorsFile& file, const std::string& key) {
  std::vector<std::string> names;
  std::istringstream text(file.metadata().at(key));
  for (std::string name; std::getline(text, name, ',');) names.push_back(name);
  return names;
}

double number(const SafetensorsFile& file, const std::string& key, double otherwise) {
  const auto found = file.metadata().find(key);
  return found == file.metadata().end() ? otherwise : std::strtod(found->second.c_str(), nullptr);
}

mpt_schedule_options schedule_options(const SafetensorsFile& file, const std::string& prefix, const char* kind) {
  mpt_schedule_options o{};
  o.kind = static_cast<int32_t>(number(file, prefix + kind, 0));
  o.warmup_steps = static_cast<int64_t>(number(file, prefix + "warmup_steps", 0));
  o.total_steps = static_cast<int64_t>(number(file, prefix + "total_steps", 0));
  o.final_factor = number(file, prefix + "final_factor", 0);
  o.step_size = static_cast<int64_t>(number(file, prefix + "step_size", 1000));
  o.gamma = number(file, prefix + "gamma", 0.1);
  o.power = number(file, prefix + "power", 1);
  return o;
}

mpt_optimizer_options optimizer_options(const SafetensorsFile& file, const std::string& prefix) {
  const auto kind = static_cast<int32_t>(number(file, prefix + "kind", 0));
  mpt_optimizer_options o = Optimizer::default_options(kind, "test");
  o.learning_rate = number(file, prefix + "learning_rate", o.learning_rate);
  o.beta1 = number(file, prefix + "beta1", o.beta1);
  o.beta2 = number(file, prefix + "beta2", o.beta2);
  o.epsilon = number(file, prefix + "epsilon", o.epsilon);
  o.weight_decay = number(file, prefix + "weight_decay", o.weight_decay);
  o.momentum = number(file, prefix + "momentum", o.momentum);
  o.nesterov = static_cast<int32_t>(number(file, prefix + "nesterov", 0));
  o.clip_norm = number(file, prefix + "clip_norm", 0);
  o.clip_value = number(file, prefix + "clip_value", 0);
  o.average_decay = number(file, prefix + "average_decay", 0);
  return o;
}

// Per update the rule takes fewer than 16 roundings of numbers that the tensor's greatest update bounds, and the weight one
// of its own; 20 updates of either add up to
//   |error| <= 20 (16 * 2^-24 max|u| + 2^-24 |w|) < 1.3e-6 |w| + 2e-5 max|u|,
// and the expected weight has been rounded once too. 1e-5 |w| leaves the weights room for their history.
void check_close(const std::vector<float>& found, const float* expected, const std::vector<float>& before, double reach,
                 const std::string& what) {
  for (std::size_t i = 0; i < found.size(); ++i) {
    const double largest = std::fmax(std::fabs(expected[i]), std::fabs(before[i]));
    const double error = std::fabs(static_cast<double>(found[i]) - expected[i]);
    CHECK_MESSAGE(error <= 1e-5 * largest + 2e-5 * reach, what, " element ", i, ": found ", found[i], ", expected ",
                  expected[i]);
  }
}

std::vector<float> floats_at(Backend& backend, const float* device, std::size_t count) {
  std::vector<float> values(count);
  backend.copy_out(values.data(), device, count * sizeof(float));
  return values;
}

void run_case(const SafetensorsFile& file, const std::string& name, const std::shared_ptr<Backend>& backend) {
  const char* tensors[] = {"a", "b"};
  auto params = std::make_shared<Params>(backend, ParamsConfig{});
  for (const char* t : tensors) {
    const TensorEntry* entry = file.find(name + ".weights." + t);
    REQUIRE(entry != nullptr);
    params->add(t, Shape(static_cast<int>(entry->sizes.size()), entry->sizes.data()), InitializerInfo(), false);
  }
  params->allocate();
  std::vector<float> start[2], gradients[2], expected[2];
  for (int t = 0; t < 2; ++t) {
    start[t] = read<float>(file, name + ".weights." + tensors[t]);
    gradients[t] = read<float>(file, name + ".gradients." + tensors[t]);
    expected[t] = read<float>(file, name + ".expected." + tensors[t]);
    params->write_master(t, start[t].data());
  }
  mpt_optimizer_options options = optimizer_options(file, name + ".");
  const mpt_schedule_options schedule = schedule_options(file, name + ".", "schedule");
  options.schedule = &schedule;
  Optimizer optimizer(params, options);

  const std::size_t steps = gradients[0].size() / start[0].size();
  REQUIRE(steps == 20);
  for (std::size_t step = 0; step < steps; ++step) {
    for (int t = 0; t < 2; ++t)
      backend->copy_in(params->data(t, Part::gradient), gradients[t].data() + step * start[t].size(),
                       start[t].size() * sizeof(float));
    optimizer.step(nullptr, nullptr);
    for (int t = 0; t < 2; ++t) {
      const std::size_t n = start[t].size();
      double reach = 0;  // greatest update of the tensor so far
      for (std::size_t i = 0; i < n * (step + 1); ++i)
        reach = std::fmax(reach,
                          std::fabs(static_cast<double>(expected[t][i]) - (i < n ? start[t][i] : expected[t][i - n])));
      const std::string what = name + " step " + std::to_string(step + 1) + " tensor " + tensors[t];
      std::vector<float> found(n);
      params->read_master(t, found.data());
      check_close(found, expected[t].data() + n * step, start[t], reach, what);
      if (options.average_decay > 0) {
        const std::vector<float> average = read<float>(file, name + ".average." + tensors[t]);
        check_close(floats_at(*backend, optimizer.average(t), n), average.data() + n * step, start[t], reach,
                    what + " average");
      }
    }
  }
}

}  // namespace

TEST_CASE("optimizers follow optax and PyTorch for 20 steps") {
  const std::optional<SafetensorsFile> file = answers();
  if (!file) return;
  BackendOptions options;
  options.threads = 2;
  const std::shared_ptr<Backend> backends[] = {make_cpu_backend(options), make_ref_backend(options)};
  const std::vector<std::string> cases = list(*file, "cases");
  CHECK(cases.size() >= 16);
  for (const auto& backend : backends)
    for (const std::string& name : cases) {
      INFO(backend->name());
      run_case(*file, name, backend);
    }
}

TEST_CASE("schedules follow optax") {
  const std::optional<SafetensorsFile> file = answers();
  if (!file) return;
  const std::vector<double> table = read<double>(*file, "table");
  const std::vector<std::string> names = list(*file, "schedules");
  CHECK(names.size() >= 12);
  for (const std::string& name : names) {
    mpt_schedule_options options = schedule_options(*file, "schedule." + name + ".", "kind");
    options.table = table.data();
    options.table_length = static_cast<int64_t>(table.size());
    const Schedule schedule(options, "test");
    const std::vector<double> expected = read<double>(*file, "schedule." + name);
    for (std::size_t step = 0; step < expected.size(); ++step)
      // A few roundings in double on either side; optax's own in single precision for some of them.
      CHECK_MESSAGE(std::fabs(schedule.factor(step) - expected[step]) <= 2e-7, name, " step ", step, ": found ",
                    schedule.factor(step), ", expected ", expected[step]);
  }
}
