// Programs that were compiled against an older or a newer mpt.h know structs of another size. Each struct is given to its
// init function and to every function that reads or writes it in each shorter and longer size, between canaries.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>

#include "calls.h"

namespace {

using namespace abi;

constexpr std::size_t canary_bytes = 64, longer_by = 40;
constexpr unsigned char canary = 0xA5;

int problems = 0, cases = 0;

void problem(const std::string& who, std::size_t size, const std::string& text) {
  std::printf("%s of %zu bytes: %s\n", who.c_str(), size, text.c_str());
  ++problems;
}

// A client's struct of `size` bytes, whatever it knows of it.
class Guarded {
 public:
  explicit Guarded(std::size_t size) : size_(size), bytes_(size + 2 * canary_bytes, canary) {}
  unsigned char* data() { return bytes_.data() + canary_bytes; }
  std::size_t size() const { return size_; }
  void set_struct_size(uint32_t size) { std::memcpy(data(), &size, std::min(size_, sizeof size)); }
  bool canaries_intact() const {
    const auto is_canary = [](unsigned char byte) { return byte == canary; };
    return std::all_of(bytes_.begin(), bytes_.begin() + canary_bytes, is_canary) &&
           std::all_of(bytes_.end() - canary_bytes, bytes_.end(), is_canary);
  }
  bool untouched() const {
    return std::all_of(bytes_.begin(), bytes_.end(), [](unsigned char byte) { return byte == canary; });
  }

 private:
  std::size_t size_;
  std::vector<unsigned char> bytes_;
};

std::vector<unsigned char> defaults_of(const Struct& type) {
  std::vector<unsigned char> bytes(type.size);
  World::require(type.init(bytes.data(), type.size) == MPT_OK, type.name.c_str());
  return bytes;
}

uint32_t struct_size_of(const unsigned char* bytes) {
  uint32_t size;
  std::memcpy(&size, bytes, sizeof size);
  return size;
}

void check_init(const Struct& type) {
  const std::vector<unsigned char> defaults = defaults_of(type);
  const std::string who = type.name + "_init";
  for (std::size_t size = 0; size <= type.size + longer_by; ++size) {
    Guarded client(size);
    const mpt_status status = type.init(client.data(), size);
    ++cases;
    if (!client.canaries_intact()) problem(who, size, "wrote beyond the size");
    if (size < type.first_size) {
      if (status != MPT_ERROR_INVALID_ARGUMENT) problem(who, size, "shorter than any version was, but accepted");
      if (!client.untouched()) problem(who, size, "was refused and written to");
      continue;
    }
    if (status != MPT_OK) {
      problem(who, size, mpt_last_error_message());
      continue;
    }
    if (struct_size_of(client.data()) != size) problem(who, size, "struct_size is not the client's size");
    const std::size_t known = std::min(size, type.size);
    for (const Member& member : type.members)
      if (member.name != "struct_size" && member.offset + member.size <= known &&
          std::memcmp(client.data() + member.offset, defaults.data() + member.offset, member.size) != 0)
        problem(who, size, member.name + " has another default");
    if (std::any_of(client.data() + known, client.data() + size, [](unsigned char byte) { return byte != 0; }))
      problem(who, size, "what this library does not know is not zero");
  }
}

// Where in a call a struct is given: an argument, or a member of the struct that the argument points to.
struct Place {
  const Function* function;
  const Row* row;
  std::size_t argument;
  const Member* member;  // null: the argument itself
  bool written;
};

// Calls with the client's struct instead of the row's.
mpt_status call_with(const Place& place, World& world, Guarded* client) {
  if (place.row->prepare) place.row->prepare(world);
  std::vector<Value> arguments = place.row->arguments(world);
  std::vector<unsigned char> outer;
  if (place.member) {
    const auto* bytes = static_cast<const unsigned char*>(arguments[place.argument].pointer);
    outer.assign(bytes, bytes + find_struct(pointed_type(place.function->parameters[place.argument].type))->size);
    const void* inner = client->data();
    std::memcpy(outer.data() + place.member->offset, &inner, sizeof inner);
    arguments[place.argument].pointer = outer.data();
  } else {
    arguments[place.argument].pointer = client->data();
  }
  const Result result = place.function->call(arguments.data());
  if (place.function->result == "mpt_tensor") return result.integer ? MPT_OK : mpt_model_check(world.model);
  destroy_out(world, *place.function);
  return static_cast<mpt_status>(result.integer);
}

// The members that the row gave, as far as the client knows them.
void fill(const Place& place, World& world, const Struct& type, Guarded* client) {
  const std::vector<Value> arguments = place.row->arguments(world);
  const void* valid = arguments[place.argument].pointer;
  if (place.member) std::memcpy(&valid, static_cast<const unsigned char*>(valid) + place.member->offset, sizeof valid);
  std::memset(client->data(), 0, client->size());
  std::memcpy(client->data(), valid, std::min(type.size, client->size()));
  client->set_struct_size(static_cast<uint32_t>(client->size()));
}

void check_size(const Place& place, const Struct& type, std::size_t size) {
  const std::string who = place.function->name + ", " + type.name;
  World world;
  Guarded client(size);
  fill(place, world, type, &client);
  const std::vector<unsigned char> before(client.data(), client.data() + size);
  const mpt_status status = call_with(place, world, &client);
  ++cases;
  if (!client.canaries_intact()) problem(who, size, "wrote beyond the size");
  if (size < type.first_size) {
    if (status != MPT_ERROR_INVALID_ARGUMENT) problem(who, size, "shorter than any version was, but accepted");
  } else if (status != MPT_OK) {
    problem(who, size, mpt_last_error_message());
  }
  const bool same = std::memcmp(before.data(), client.data(), size) == 0;
  if (!same && (!place.written || status != MPT_OK)) problem(who, size, "was changed");
  if (place.written && struct_size_of(client.data()) != size) problem(who, size, "struct_size was changed");
}

// Members of a later version that are set mean something to the client which this library cannot do.
void check_unknown_members(const Place& place, const Struct& type) {
  for (const std::size_t set : {type.size, type.size + longer_by - 1}) {
    World world;
    Guarded client(type.size + longer_by);
    fill(place, world, type, &client);
    client.data()[set] = 1;
    ++cases;
    if (call_with(place, world, &client) != MPT_ERROR_INVALID_ARGUMENT)
      problem(place.function->name + ", " + type.name, client.size(), "an unknown member is set, but was accepted");
  }
}

std::vector<Place> places_of(const Struct& type) {
  std::vector<Place> places;
  for (const Function& f : functions) {
    const Row* row = find_row(f.name);
    if (!row || f.name.find("_options_init") != std::string::npos || f.name == type.name + "_init") continue;
    for (std::size_t i = 0; i < f.parameters.size(); ++i) {
      const Parameter& p = f.parameters[i];
      if (p.kind != Kind::struct_in && p.kind != Kind::struct_out) continue;
      const Struct& pointed = *find_struct(pointed_type(p.type));
      if (pointed.name == type.name) places.push_back({&f, row, i, nullptr, p.kind == Kind::struct_out});
      for (const Member& member : pointed.members)
        if (member.kind == Kind::struct_in && pointed_type(member.type) == type.name)
          places.push_back({&f, row, i, &member, false});
    }
  }
  return places;
}

void check_struct(const Struct& type) {
  check_init(type);
  const std::vector<Place> places = places_of(type);
  if (places.empty()) problem(type.name, type.size, "no row of tests/abi/calls.cpp gives it to a function");
  for (const Place& place : places) {
    for (std::size_t size = sizeof(uint32_t); size <= type.size + longer_by; ++size) check_size(place, type, size);
    if (!place.written) check_unknown_members(place, type);
  }
}

}  // namespace

int main() {
  for (const Struct& type : structs)
    if (type.init) check_struct(type);
  std::printf("%d cases, %d problems\n", cases, problems);
  return problems == 0 && cases > 0 ? 0 : 1;
}
