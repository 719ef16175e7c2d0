#include "runtime/devices.h"

#include <mutex>
#include <vector>

#include "backend/cuda_entry.h"
#include "core/error.h"

namespace mpt {
namespace {

struct Kind {
  const char* name;
  bool numbered;  // may be followed by ":index"
  MakeBackend* make;
};

struct Kinds {
  std::mutex lock;
  std::vector<Kind> list{
      {"cpu", false, [](const BackendOptions& options, int) { return make_cpu_backend(options); }},
      {"cuda", true, make_cuda_backend},
      {"reference", false, [](const BackendOptions& options, int) { return make_ref_backend(options); }},
  };
};

Kinds& kinds() {
  static Kinds all;
  return all;
}

// "cuda" and "cuda:3"; -1 for what is no number.
int index_of(const std::string& text) {
  if (text.empty()) return 0;
  constexpr std::size_t longest = 4;
  if (text.size() < 2 || text.size() > longest || text[0] != ':') return -1;
  int index = 0;
  for (std::size_t i = 1; i < text.size(); ++i) {
    if (text[i] < '0' || text[i] > '9') return -1;
    index = 10 * index + (text[i] - '0');
  }
  return index;
}

}  // namespace

void register_device(const char* name, MakeBackend* make) {
  const std::lock_guard<std::mutex> guard(kinds().lock);
  kinds().list.push_back({name, true, make});
}

std::unique_ptr<Backend> make_backend(const std::string& device, const BackendOptions& options) {
  if (device == "null") return make_null_backend(make_cpu_backend(options));
  if (device == "null:cuda") return make_null_backend(make_cuda_backend(options, cuda_planning));
  if (device.rfind("null:", 0) == 0 && device.rfind("null:null", 0) != 0)
    return make_null_backend(make_backend(device.substr(device.find(':') + 1), options));
  const std::string name = device.substr(0, device.find(':'));
  const int index = index_of(device.substr(name.size()));
  MakeBackend* make = nullptr;
  {
    const std::lock_guard<std::mutex> guard(kinds().lock);
    for (const Kind& kind : kinds().list)
      if (name == kind.name && (index == 0 || kind.numbered) && (kind.numbered || device == name)) make = kind.make;
  }
  if (make == nullptr || index < 0)
    fail(MPT_ERROR_INVALID_ARGUMENT,
         "device '%s' is unknown; expected \"cpu\", \"cuda:0\", \"reference\", or \"null:\" before one of these",
         device.c_str());
  return make(options, index);
}

}  // namespace mpt
