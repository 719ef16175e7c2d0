#include "mutations.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <set>

namespace abi {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();
const double not_a_number = std::nan("");

// Pointers that may be NULL beside all options, as the header says.
const std::set<std::string> nullable = {
    "mpt_model_dump.out_needed",           "mpt_plan_dump.out_needed",
    "mpt_trainer_dump.out_needed",         "mpt_transpose.axes",
    "mpt_params_use_buffers.copy16",       "mpt_params_use_buffers.gradient",
    "mpt_optimizer_add_group.out_matched", "mpt_optimizer_step.result",
    "mpt_trainer_create.optimizer",        "mpt_trainer_create.scaler",
    "mpt_trainer_add_objective.scaler",    "mpt_trainer_step.result",
    "mpt_trainer_backward.out_loss",       "mpt_trainer_update.result",
};

// Allowed, but not in every state: the gradients carry the scale of the scaler that began the pass.
const std::set<std::string> nullable_in_other_states = {"mpt_optimizer_step.scaler"};

// Options that a function cannot do without.
const std::set<std::string> needed_options = {"mpt_custom.options"};

// int32_t that stand for one of a few things, or are counts from 1 or positions in something small.
const std::set<std::string> small_numbers = {
    "op_class",    "part",        "objective",          "axis",
    "heads",       "channels",    "reduction",          "mode",
    "skip_policy", "device_type", "accumulation_steps", "growth_interval",
    "hysteresis",  "max_plans",
};
// int32_t where anything but 0 means yes, and numbers that are free.
const std::set<std::string> large_is_fine = {"accumulation_steps", "growth_interval", "hysteresis", "max_plans"};

// Numbers that are not read in the row's call, or where an infinity has a meaning.
const std::set<std::string> not_read = {
    "mpt_param_options.a",
    "mpt_param_options.b",
    "mpt_linear_options.weight_a",
    "mpt_linear_options.weight_b",
    "mpt_linear_options.bias_a",
    "mpt_linear_options.bias_b",
    "mpt_schedule_options.final_factor",
    "mpt_schedule_options.gamma",
    "mpt_schedule_options.power",
};
const std::set<std::string> infinity_is_fine = {"mpt_clamp.low", "mpt_clamp.high", "mpt_pad.value"};

class Collector {
 public:
  void add(std::string what, Value value, Expect expect, std::shared_ptr<void> memory = nullptr) {
    found.push_back({std::move(what), value, expect, std::move(memory)});
  }
  void numbers(const std::vector<double>& values, Expect expect) {
    for (const double v : values) add(std::to_string(v), v, expect);
  }
  void integers(const std::vector<int64_t>& values, Expect expect) {
    for (const int64_t v : values) add(std::to_string(v), v, expect);
  }
  std::vector<Mutation> found;
};

std::shared_ptr<unsigned char> copy_of(const void* bytes, std::size_t size) {
  std::shared_ptr<unsigned char> memory(new unsigned char[size], std::default_delete<unsigned char[]>());
  std::memcpy(memory.get(), bytes, size);
  return memory;
}

std::shared_ptr<unsigned char> copy_of(const std::string& text) { return copy_of(text.c_str(), text.size() + 1); }

void add_handles(Collector* c, const World& world, const std::string& type, Expect null) {
  c->add("NULL", nullptr, null);
  for (const std::string& other : handles)
    if (other != type) c->add("a " + other, Value(world.handle(other)), Expect::refused);
}

void add_texts(Collector* c, bool is_path, Expect null, Expect empty) {
  c->add("NULL", nullptr, null);
  const auto add = [&](const char* what, const std::string& text, Expect expect) {
    const auto memory = copy_of(text);
    c->add(what, Value(memory.get()), expect, memory);
  };
  add("an empty text", "", empty);
  add("a very long text", std::string(70000, 'n'), Expect::unusual);
  add("a text that is no UTF-8", "\xff\xfe", Expect::unusual);
  if (is_path) add("a path without a folder", "no/such/folder/file", Expect::unusual);
}

void add_i32(Collector* c, const std::string& name) {
  constexpr int32_t low = INT32_MIN, high = INT32_MAX;
  if (small_numbers.count(name)) {
    const bool from_the_end = name == "axis";
    c->integers({from_the_end ? -99 : -1, low}, Expect::refused);
    c->integers({99, high}, large_is_fine.count(name) ? Expect::unusual : Expect::refused);
    if (name == "heads" || name == "channels" || large_is_fine.count(name)) c->add("0", 0, Expect::refused);
  } else if (name == "rank") {
    c->integers({-1, 9, low, high}, Expect::refused);
  } else if (name == "count" || name.rfind("n_", 0) == 0) {
    // More than there are would be a lie about the memory behind the pointer, which no library can see.
    c->integers({-1, low}, Expect::refused);
    c->add("0", 0, Expect::unusual);
  } else if (name == "index") {
    c->integers({-1, 99, low, high}, Expect::refused);
  } else {
    c->integers({-1, 0, 1, 99, low, high}, Expect::unusual);
  }
}

void add_i64(Collector* c, const std::string& name) {
  constexpr int64_t low = INT64_MIN, high = INT64_MAX;
  if (name == "features" || name == "count") {
    c->integers({0, -1, low, high}, Expect::refused);
    c->add("2^40", int64_t{1} << 40, Expect::unusual);
  } else if (name == "step") {
    c->integers({-1, low}, Expect::refused);
    c->add("huge", high, Expect::unusual);
  } else if (name == "before" || name == "after") {
    c->integers({low, high}, Expect::refused);
    c->integers({0, -1}, Expect::unusual);
  } else if (name == "table_length") {
    c->integers({0, -1, low}, Expect::unusual);
  } else {
    c->integers({0, -1, low, high}, Expect::unusual);
  }
}

void add_f64(Collector* c, const std::string& full_name) {
  const Expect bad = not_read.count(full_name) ? Expect::unusual : Expect::refused;
  c->numbers({not_a_number}, bad);
  c->numbers({infinity, -infinity}, infinity_is_fine.count(full_name) ? Expect::unusual : bad);
  c->numbers({0, -1, 1, 1e308, -1e308, 1e-320}, Expect::unusual);
}

std::vector<Value> bad_elements(const std::string& type, const std::string& name) {
  if (type == "mpt_tensor" || name == "inputs" || name == "outputs" || name == "tensors")
    return {-1, 100000, INT32_MIN};
  if (name == "axes") return {-9, 9, INT32_MIN, INT32_MAX};
  if (name == "out_ranks") return {-1, 9, INT32_MIN, INT32_MAX};
  return {0, INT64_MIN, INT64_MAX, -1000};
}

void add_data(Collector* c, const Function& function, const Parameter& parameter, const Value& valid) {
  const std::string full_name = function.name + "." + parameter.name;
  c->add("NULL", nullptr, nullable.count(full_name) ? Expect::accepted : Expect::refused);
  const std::string type = pointed_type(parameter.type);
  if (parameter.type == "const char*const*") {
    std::shared_ptr<const char*> names(
        new const char* [1] { nullptr }, std::default_delete<const char*[]>());
    c->add("a name that is NULL", Value(names.get()), Expect::refused, names);
    return;
  }
  const std::size_t width = type == "int64_t" ? 8 : 4;
  if (type == "float") {
    for (const float bad : {std::nanf(""), std::numeric_limits<float>::infinity()}) {
      const auto memory = copy_of(valid.pointer, width * static_cast<std::size_t>(valid.count));
      std::memcpy(memory.get(), &bad, width);
      c->add("with " + std::to_string(bad), Value(memory.get(), valid.count), Expect::refused, memory);
    }
    return;
  }
  const int changed = parameter.name == "shape" ? 2 : 1;  // of that many elements each in turn
  for (int at = 0; at < changed; ++at)
    for (const Value& bad : bad_elements(type, parameter.name)) {
      const auto memory = copy_of(valid.pointer, width * static_cast<std::size_t>(valid.count));
      // The low bytes come first on every machine that is supported.
      std::memcpy(memory.get() + width * static_cast<std::size_t>(at), &bad.integer, width);
      c->add("with element " + std::to_string(bad.integer), Value(memory.get(), valid.count), Expect::refused, memory);
    }
}

// What can be wrong with a member of a struct.
std::vector<Mutation> member_mutations(const World& world, const Struct& type, const Member& member) {
  Collector c;
  const std::string full_name = type.name + "." + member.name;
  switch (member.kind) {
    case Kind::u32:
      c.integers({0, 1, static_cast<int64_t>(type.size) - 1, 65537, UINT32_MAX}, Expect::refused);
      break;
    case Kind::i32:
      if (member.name == "rank")
        add_i32(&c, "rank");
      else if (member.name == "threads")
        c.integers({-1, 1025, INT32_MIN, INT32_MAX}, Expect::refused);
      else
        add_i32(&c, member.name);
      break;
    case Kind::enumeration:
      c.integers({-1, 99, INT32_MIN, INT32_MAX}, Expect::refused);
      break;
    case Kind::tensor:
      c.integers({-1, 100000, INT32_MIN, INT32_MAX}, Expect::refused);
      break;
    case Kind::i64:
      add_i64(&c, member.name);
      break;
    case Kind::u64:
      c.integers({0, -1}, Expect::unusual);
      break;
    case Kind::f64:
      add_f64(&c, full_name);
      break;
    case Kind::text:
      add_texts(&c, false, Expect::unusual, Expect::unusual);
      break;
    case Kind::handle:
      add_handles(&c, world, pointed_type(member.type), Expect::accepted);
      break;
    case Kind::data:
      for (const int64_t bad : {int64_t{-1}, INT64_MIN, INT64_MAX})
        if (member.name == "shape") {
          const auto memory = copy_of(&bad, sizeof bad);
          c.add("first " + std::to_string(bad), Value(memory.get()), Expect::refused, memory);
        }
      break;
    case Kind::function:
    case Kind::struct_in:
    case Kind::data_out:
      c.add("NULL", nullptr, Expect::unusual);
      break;
    default:  // data_in: what it points to is described by another member
      break;
  }
  return std::move(c.found);
}

void write_member(unsigned char* bytes, const Member& member, const Value& value) {
  if (member.kind == Kind::data)
    std::memcpy(bytes + member.offset, value.pointer, sizeof(int64_t));
  else if (member.kind == Kind::f64)
    std::memcpy(bytes + member.offset, &value.number, sizeof value.number);
  else if (member.type.back() == '*' || member.kind == Kind::function)
    std::memcpy(bytes + member.offset, &value.pointer, sizeof value.pointer);
  else
    std::memcpy(bytes + member.offset, &value.integer, member.size);
}

// Structs that the library reads, or the size that it is told of one that it writes.
void add_struct(Collector* c, const World& world, const Struct& type, const Value& valid, const std::string& path,
                bool written) {
  const std::size_t size = type.size * static_cast<std::size_t>(valid.count);
  for (const Member& member : type.members) {
    if (written && member.name != "struct_size") continue;
    if (member.kind == Kind::struct_in) {
      const void* inner = nullptr;
      std::memcpy(&inner, static_cast<const unsigned char*>(valid.pointer) + member.offset, sizeof inner);
      if (inner) {
        Collector nested;
        add_struct(&nested, world, *find_struct(pointed_type(member.type)), Value(inner), path + member.name + ".",
                   false);
        for (Mutation& m : nested.found) {
          const auto memory = copy_of(valid.pointer, size);
          write_member(memory.get(), member, m.value);
          const auto both = std::make_shared<std::pair<std::shared_ptr<void>, std::shared_ptr<void>>>(m.memory, memory);
          c->add(m.what, Value(memory.get(), valid.count), m.expect, both);
        }
      }
    }
    for (const Mutation& m : member_mutations(world, type, member)) {
      if (written && (m.value.integer == 65537 || m.value.integer == UINT32_MAX)) continue;  // a lie about the memory
      const auto memory = copy_of(valid.pointer, size);
      write_member(memory.get(), member, m.value);
      const auto both = std::make_shared<std::pair<std::shared_ptr<void>, std::shared_ptr<void>>>(m.memory, memory);
      c->add(path + member.name + " " + m.what, Value(memory.get(), valid.count), m.expect, both);
    }
  }
}

}  // namespace

std::vector<Mutation> mutations_of(const World& world, const Function& function, const std::vector<Value>& arguments,
                                   std::size_t index) {
  const Parameter& parameter = function.parameters[index];
  const Value& valid = arguments[index];
  const std::string full_name = function.name + "." + parameter.name;
  const Expect null = nullable.count(full_name)                   ? Expect::accepted
                      : nullable_in_other_states.count(full_name) ? Expect::unusual
                                                                  : Expect::refused;
  Collector c;
  switch (parameter.kind) {
    case Kind::i32:
      add_i32(&c, parameter.name);
      break;
    case Kind::enumeration:
      if (parameter.type != "mpt_status") c.add("-1", -1, Expect::refused);
      c.integers({99, INT32_MIN, INT32_MAX}, Expect::refused);
      break;
    case Kind::tensor:
      c.integers({0, -1, 100000, INT32_MIN, INT32_MAX}, Expect::refused);
      break;
    case Kind::i64:
      add_i64(&c, parameter.name);
      break;
    case Kind::u64:
      if (parameter.name == "struct_size")
        c.integers(
            {0, 1, static_cast<int64_t>(find_struct(pointed_type(function.parameters[0].type))->size) - 1, 65537, -1},
            Expect::refused);
      else
        c.integers({0, 1}, Expect::accepted);  // capacities
      break;
    case Kind::f64:
      add_f64(&c, full_name);
      break;
    case Kind::text:
      add_texts(&c, parameter.name == "path", null, Expect::refused);
      break;
    case Kind::handle:
      add_handles(&c, world, pointed_type(parameter.type), null);
      break;
    case Kind::handle_out:
      c.add("NULL", nullptr, Expect::refused);
      break;
    case Kind::struct_in: {
      const bool options = parameter.type.find("_options*") != std::string::npos;
      c.add("NULL", nullptr, options && !needed_options.count(full_name) ? Expect::accepted : Expect::refused);
      add_struct(&c, world, *find_struct(pointed_type(parameter.type)), valid, "", false);
      break;
    }
    case Kind::struct_out: {
      c.add("NULL", nullptr, null);
      const bool initialised = function.name.find("_init") == std::string::npos;
      if (initialised) add_struct(&c, world, *find_struct(pointed_type(parameter.type)), valid, "", true);
      break;
    }
    case Kind::data_in:
      add_data(&c, function, parameter, valid);
      break;
    case Kind::data_out:
      c.add("NULL", nullptr, null);
      break;
    default:
      break;
  }
  return std::move(c.found);
}

}  // namespace abi
