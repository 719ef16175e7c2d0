// Finds and loads libmpt_cuda.so, so that libmpt.so itself needs no CUDA library.
#include <dlfcn.h>

#include <atomic>
#include <mutex>
#include <string>

#include "backend/cuda_entry.h"
#include "core/error.h"

#define MPT_TEXT_OF(x) #x
#define MPT_TEXT(x) MPT_TEXT_OF(x)

namespace mpt {
namespace {

constexpr const char* library_name = "libmpt_cuda.so." MPT_TEXT(MPT_VERSION_MAJOR) "." MPT_TEXT(MPT_VERSION_MINOR);

std::atomic<const CudaEntry*> loaded{nullptr};

// The folder of the library or program that this code is part of, with a slash at its end.
std::string own_folder() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&make_cuda_backend), &info) == 0 || info.dli_fname == nullptr) return {};
  const std::string path = info.dli_fname;
  const std::size_t slash = path.rfind('/');
  return slash == std::string::npos ? std::string() : path.substr(0, slash + 1);
}

const CudaEntry& load() {
  static std::mutex lock;
  const std::lock_guard<std::mutex> guard(lock);
  if (const CudaEntry* entry = loaded.load()) return *entry;
  // Beside libmpt first, then where the dynamic linker looks.
  void* library = dlopen((own_folder() + library_name).c_str(), RTLD_NOW | RTLD_LOCAL);
  std::string reason = library ? "" : dlerror();
  if (!library) {
    // A file that is there but can't be loaded tells more than one that isn't.
    const bool absent =
        reason.find(std::string(library_name) + ": cannot open shared object file") != std::string::npos;
    library = dlopen(library_name, RTLD_NOW | RTLD_LOCAL);
    if (!library && absent) reason = dlerror();
  }
  if (!library) fail(MPT_ERROR_UNSUPPORTED, "the CUDA backend could not be loaded: %.700s", reason.c_str());
  auto* function = reinterpret_cast<CudaEntryFunction*>(dlsym(library, "mpt_cuda_entry"));
  const CudaEntry* entry = function ? function() : nullptr;
  if (entry == nullptr || entry->struct_size != sizeof(CudaEntry) ||
      std::string(entry->version) != cuda_entry_version() || std::string(entry->compiler) != __VERSION__) {
    const std::string found = entry && entry->struct_size == sizeof(CudaEntry) ? entry->version : "another version";
    dlclose(library);
    fail(MPT_ERROR_UNSUPPORTED, "%s is of another build: found %s, expected %s, both built together", library_name,
         found.c_str(), cuda_entry_version());
  }
  loaded.store(entry);
  return *entry;
}

}  // namespace

const char* cuda_entry_version() {
  return MPT_TEXT(MPT_VERSION_MAJOR) "." MPT_TEXT(MPT_VERSION_MINOR) "." MPT_TEXT(MPT_VERSION_PATCH);
}

std::unique_ptr<Backend> make_cuda_backend(const BackendOptions& options, int device) {
  return load().create(options, device);
}

int count_cuda_devices() { return load().count(); }

std::string cuda_build_info() {
  const CudaEntry* entry = loaded.load();
  return entry ? entry->build_info() : "";
}

}  // namespace mpt
