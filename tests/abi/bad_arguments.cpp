// Every function of mpt.h is called with one argument wrong at a time: the answer is a status and a message that begins with
// the function's name, or for an op function 0 and a mistake that the model tells; nothing changes, and the valid call
// succeeds afterwards with the same handles. `bad_arguments [NAME]` runs one function alone.
#include <cstdio>
#include <cstring>
#include <memory>

#include "mutations.h"

namespace {

using namespace abi;

int problems = 0;

void problem(const std::string& who, const std::string& text) {
  std::printf("%s: %s\n", who.c_str(), text.c_str());
  ++problems;
}

bool is_op(const Function& f) { return f.result == "mpt_tensor" || f.name == "mpt_model_dim"; }
bool records_mistake(const Function& f) { return is_op(f) && f.name != "mpt_model_find"; }

// What a call came to.
struct Outcome {
  bool failed = false;
  mpt_status status = MPT_OK;
  std::string message;
};

Outcome outcome_of(const World& world, const Function& f, const Result& result, bool model_is_valid) {
  Outcome o;
  if (f.result == "mpt_status") {
    o.status = static_cast<mpt_status>(result.integer);
    o.failed = o.status != MPT_OK;
    o.message = mpt_last_error_message();
  } else if (records_mistake(f)) {
    o.failed = result.integer == 0;
    o.message = mpt_last_error_message();
    o.status = o.failed ? MPT_ERROR_INVALID_ARGUMENT : MPT_OK;
    if (o.failed && model_is_valid) {
      // Later ops pass it through silently and leave the message alone.
      if (mpt_relu(world.model, 0) != 0 || mpt_relu(world.model, world.x) != 0 || *mpt_last_error_message())
        problem(f.name, "an op after a mistake is not passed through silently");
      o.status = mpt_model_check(world.model);
      constexpr std::size_t surely_whole = 900;  // messages end where their buffer does
      if (std::string(mpt_last_error_message()).rfind("mpt_model_check: " + o.message.substr(0, surely_whole), 0) != 0)
        problem(f.name,
                std::string("mpt_model_check tells '") + mpt_last_error_message() + "', not '" + o.message + "'");
      mpt_model_clear_error(world.model);
    }
  } else if (f.result.back() == '*') {
    const auto* text = static_cast<const char*>(result.pointer);
    o.failed = !text || !*text || std::strncmp(text, "unknown", 7) == 0;
  } else {
    o.failed = result.integer == 0;
  }
  return o;
}

void check_failure(const std::string& who, const Function& f, const Outcome& o, const Mutation& m) {
  if (f.result != "mpt_status" && !records_mistake(f)) return;  // a getter tells no more
  if (m.expect == Expect::refused && o.status != MPT_ERROR_INVALID_ARGUMENT)
    problem(who, std::string(mpt_status_name(o.status)) + ", expected MPT_ERROR_INVALID_ARGUMENT: " + o.message);
  if (o.status >= MPT_OK || o.status <= MPT_ERROR_INTERNAL)
    problem(who, "status " + std::to_string(o.status) + ": " + o.message);
  if (o.message.rfind(f.name + ": ", 0) != 0 || o.message.size() < f.name.size() + 5)
    problem(who, "the message does not begin with the function: '" + o.message + "'");
}

Result call(World& world, const Function& f, const Row& row, std::vector<Value>* arguments) {
  if (row.prepare) row.prepare(world);
  *arguments = row.arguments(world);
  return f.call(arguments->data());
}

void check_valid_call(World& world, const Function& f, const Row& row, const std::string& when) {
  std::vector<Value> arguments;
  const Result result = call(world, f, row, &arguments);
  const Outcome o = outcome_of(world, f, result, true);
  const bool can_fail = f.result != "void" && f.name != "mpt_last_error_message";
  if (can_fail && o.failed) problem(f.name, "the valid call failed " + when + ": " + o.message);
  destroy_out(world, f);
}

// Returns false if the world may have changed.
bool check_mutation(World& world, const Function& f, const Row& row, std::size_t index, const Mutation& m) {
  const std::string who = f.name + ", " + f.parameters[index].name + " = " + m.what;
  if (row.prepare) row.prepare(world);
  std::vector<Value> arguments = row.arguments(world);
  const bool model_is_valid = f.parameters[index].type.find("mpt_model*") == std::string::npos;
  arguments[index] = m.value;
  const std::string before = world.state();
  world.out = &world;  // something that is no handle
  const Result result = f.call(arguments.data());
  if (f.result == "void") return true;
  const Outcome o = outcome_of(world, f, result, model_is_valid);
  const bool creates = !f.parameters.empty() && f.parameters[0].kind == Kind::handle_out;
  if (!o.failed) {
    if (m.expect == Expect::refused) problem(who, "was accepted");
    if (creates) destroy_out(world, f);
    return false;
  }
  if (m.expect == Expect::accepted) problem(who, "was refused: " + o.message);
  check_failure(who, f, o, m);
  if (creates && index != 0 && world.out) problem(who, "*out is not NULL after a failure");
  if (world.state() != before) problem(who, "a model, weights or a scaler are not as before");
  if (mpt_model_check(world.model) != MPT_OK)
    problem(who, std::string("the model keeps a mistake: ") + mpt_last_error_message());
  return true;
}

int check_function(const Function& f) {
  const Row* row = find_row(f.name);
  if (!row) {
    problem(f.name, "has no row in tests/abi/calls.cpp: add a valid call of it");
    return 0;
  }
  auto world = std::make_unique<World>();
  check_valid_call(*world, f, *row, "in a new world");
  world = std::make_unique<World>();
  if (row->arguments(*world).size() != f.parameters.size()) {
    problem(f.name, "its row in tests/abi/calls.cpp has another number of arguments");
    return 0;
  }
  int calls = 0;
  for (std::size_t i = 0; i < f.parameters.size(); ++i) {
    // The list is made anew in each new world, for it holds handles.
    std::size_t done = 0;
    for (bool more = true; more;) {
      const std::vector<Mutation> mutations = mutations_of(*world, f, row->arguments(*world), i);
      bool same = true;
      while (same && done < mutations.size()) {
        same = check_mutation(*world, f, *row, i, mutations[done++]);
        ++calls;
      }
      more = done < mutations.size();
      if (!same) world = std::make_unique<World>();
    }
  }
  check_valid_call(*world, f, *row, "after bad ones");
  return calls;
}

}  // namespace

int main(int count, char** names) {
  int calls = 0;
  for (const Function& f : functions)
    if (count < 2 || f.name == names[1]) calls += check_function(f);
  for (const std::string& name : rows_without_function()) problem(name, "has a row, but is not in mpt.h");
  std::printf("%d calls with a bad argument, %d problems\n", calls, problems);
  return problems == 0 && calls > 0 ? 0 : 1;
}
