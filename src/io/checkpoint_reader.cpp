#include <algorithm>
#include <vector>

#include "core/error.h"
#include "io/checkpoint.h"
#include "io/checksums.h"
#include "io/convert.h"
#include "io/crc32c.h"
#include "io/message.h"

namespace mpt {

CheckpointReader::CheckpointReader(const std::string& path)
    : file_(path), is_own_(file_.metadata().count(format_version_key) != 0), checksums_(read_checksums(file_)) {}

template <typename Consume>
void CheckpointReader::stream(const TensorEntry& tensor, Consume consume) const {
  constexpr uint64_t block_bytes = uint64_t{256} << 10;  // a multiple of every element's size; stays in cache
  std::vector<char> block(static_cast<std::size_t>(std::min(block_bytes, tensor.bytes())));
  uint32_t crc = 0;
  for (uint64_t offset = 0; offset < tensor.bytes(); offset += block.size()) {
    const auto now = static_cast<std::size_t>(std::min<uint64_t>(block.size(), tensor.bytes() - offset));
    file_.read(tensor, offset, block.data(), now);
    crc = crc32c(block.data(), now, crc);
    consume(block.data(), now);
  }
  const auto expected = checksums_.find(tensor.name);
  const std::string found = checksum_text(crc);
  if (expected != checksums_.end() && expected->second != found)
    fail(MPT_ERROR_CORRUPT, "file %s: tensor %s: found checksum %s, expected %s: its data was changed",
         quoted_path(path()).c_str(), in_quotes(tensor.name).c_str(), found.c_str(),
         in_quotes(expected->second, 32).c_str());
}

void CheckpointReader::verify() const {
  for (const TensorEntry& tensor : tensors()) stream(tensor, [](const char*, std::size_t) {});
}

void CheckpointReader::read(const std::string& name, DType dtype, const Shape& shape, void* to) const {
  const std::string where = "file " + quoted_path(path()) + ": tensor " + in_quotes(name);
  const TensorEntry* tensor = file_.find(name);
  if (!tensor)
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s: found no such tensor, expected one of shape %s", where.c_str(),
         shape.text().c_str());
  if (!std::equal(tensor->sizes.begin(), tensor->sizes.end(), shape.begin(), shape.end()))
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s: found shape %s, expected %s", where.c_str(),
         sizes_text(tensor->sizes).c_str(), shape.text().c_str());
  const std::optional<DType> stored = dtype_of(tensor->type);
  if (!stored || !is_convertible(*stored, dtype))
    fail(MPT_ERROR_INVALID_ARGUMENT, "%s: found dtype %s, expected %s%s", where.c_str(), tensor->type.c_str(),
         safetensors_type(dtype), is_float(dtype) && dtype != DType::f64 ? " or another float of at most 32 bits" : "");

  auto* target = static_cast<char*>(to);
  stream(*tensor, [&](const char* block, std::size_t bytes) {
    const std::size_t count = bytes / size_of(*stored);
    convert_elements(*stored, block, dtype, target, count);
    target += count * size_of(dtype);
  });
}

}  // namespace mpt
