// Fuzz target: any bytes as a checkpoint file. Nothing but an Error may come out, and an own file whose checksums hold
// must be read whole.
#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "core/error.h"
#include "io/checkpoint.h"

namespace {

using namespace mpt;

// The file's name without a file system: the loader opens it like any other.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, std::size_t size) : fd_(::memfd_create("checkpoint", MFD_CLOEXEC)) {
    if (fd_ < 0) std::abort();
    for (std::size_t done = 0; done < size;) {
      const ssize_t now = ::write(fd_, data + done, size - done);
      if (now <= 0) std::abort();
      done += static_cast<std::size_t>(now);
    }
  }
  ~MemoryFile() { ::close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  int fd_;
};

template <typename Action>
bool succeeds(Action action) {
  try {
    action();
    return true;
  } catch (const Error& error) {
    if (error.what()[0] == '\0') std::abort();  // a failure without a message
    return false;
  }
}

void read_all(const CheckpointReader& file) {
  const bool verified = succeeds([&] { file.verify(); });
  for (const TensorEntry& tensor : file.tensors()) {
    const std::optional<DType> dtype = dtype_of(tensor.type);
    if (!dtype || tensor.sizes.size() > Shape::max_rank) continue;
    const Shape shape(static_cast<int>(tensor.sizes.size()), tensor.sizes.data());
    const bool as_float = *dtype == DType::f16 || *dtype == DType::bf16;
    const std::size_t count = tensor.bytes() / size_of(*dtype);
    std::vector<char> same(tensor.bytes()), wide(as_float ? count * sizeof(float) : 0);
    const bool read = succeeds([&] { file.read(tensor.name, *dtype, shape, same.data()); }) &&
                      (!as_float || succeeds([&] { file.read(tensor.name, DType::f32, shape, wide.data()); }));
    if (verified && !read) std::abort();
  }
}

void load(const std::string& path) {
  const CheckpointReader file(path);
  for (const auto& [key, value] : file.metadata()) {
    succeeds([&, &k = key] { file.int64(k); });
    succeeds([&, &k = key] { file.uint64(k); });
    succeeds([&, &k = key] { file.float32(k); });
    succeeds([&, &k = key] { file.float64(k); });
  }
  const std::vector<TensorExpectation> expected = {{"w", DType::f32, {2, 3}}, {"absent", DType::i64, {}}};
  const TensorDifferences differences = file.compare(expected, checkpoint_state_prefix);
  if (differences.empty() != differences.text().empty()) std::abort();
  read_all(file);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, std::size_t size) {
  const MemoryFile file(data, size);
  succeeds([&] { load(file.path()); });
  return 0;
}
