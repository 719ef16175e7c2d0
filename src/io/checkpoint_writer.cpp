#include <algorithm>
#include <unordered_set>

#include "core/error.h"
#include "io/atomic_file.h"
#include "io/checkpoint.h"
#include "io/checksums.h"
#include "io/convert.h"
#include "io/crc32c.h"
#include "io/message.h"

namespace mpt {
namespace {

constexpr std::size_t block_elements = std::size_t{1} << 14;  // converted at a time: stays in cache

// Hands the bytes that the file will hold to `consume(const void*, size_t)`, without a second copy of the tensor.
template <typename Consume>
void for_stored_bytes(const CheckpointTensor& tensor, Consume consume) {
  const auto count = static_cast<std::size_t>(tensor.shape.elements());
  if (tensor.stored == tensor.dtype) {
    consume(tensor.data, count * size_of(tensor.dtype));
    return;
  }
  const auto* data = static_cast<const char*>(tensor.data);
  std::string block(std::min(count, block_elements) * size_of(tensor.stored), '\0');
  for (std::size_t done = 0; done < count; done += block_elements) {
    const std::size_t now = std::min(block_elements, count - done);
    convert_elements(tensor.dtype, data + done * size_of(tensor.dtype), tensor.stored, block.data(), now);
    consume(block.data(), now * size_of(tensor.stored));
  }
}

void check(const std::vector<CheckpointTensor>& tensors, const Metadata& metadata) {
  std::unordered_set<std::string_view> names;
  for (const CheckpointTensor& tensor : tensors) {
    MPT_CHECK_ARGUMENT(tensor.name != "__metadata__",
                       "a tensor to save is named '__metadata__', expected a name that the file format leaves free");
    MPT_CHECK_ARGUMENT(names.insert(tensor.name).second, "two tensors to save are named %s, expected different names",
                       in_quotes(tensor.name).c_str());
    MPT_INVARIANT(tensor.shape.is_known() && is_convertible(tensor.dtype, tensor.stored));
    MPT_INVARIANT(tensor.data || tensor.shape.elements() == 0);
  }
  for (const auto& [key, value] : metadata)
    MPT_CHECK_ARGUMENT(!is_reserved_key(key),
                       "metadata to save has the key %s, expected one that is not the format's own",
                       in_quotes(key).c_str());
}

// Widest elements first: then every tensor is aligned to its elements with no hole between any two.
std::vector<const CheckpointTensor*> in_file_order(const std::vector<CheckpointTensor>& tensors) {
  std::vector<const CheckpointTensor*> order;
  for (const CheckpointTensor& tensor : tensors) order.push_back(&tensor);
  std::stable_sort(order.begin(), order.end(), [](const CheckpointTensor* a, const CheckpointTensor* b) {
    return size_of(a->stored) > size_of(b->stored);
  });
  return order;
}

SafetensorsHeader make_header(const std::vector<const CheckpointTensor*>& order, const Metadata& metadata) {
  SafetensorsHeader header;
  header.metadata = metadata;
  Metadata checksums;
  uint64_t position = 0;
  for (const CheckpointTensor* tensor : order) {
    TensorEntry entry;
    entry.name = tensor->name;
    entry.type = safetensors_type(tensor->stored);
    entry.sizes.assign(tensor->shape.begin(), tensor->shape.end());
    entry.begin = position;
    position += static_cast<uint64_t>(tensor->shape.elements()) * size_of(tensor->stored);
    entry.end = position;
    header.tensors.push_back(std::move(entry));
    uint32_t crc = 0;
    for_stored_bytes(*tensor, [&](const void* data, std::size_t bytes) { crc = crc32c(data, bytes, crc); });
    checksums.emplace(tensor->name, checksum_text(crc));
  }
  header.metadata[format_version_key] = metadata_text(format_version);
  header.metadata[checksums_key] = format_string_map(checksums);
  header.metadata[header_checksum_key] = header_checksum(header);
  return header;
}

}  // namespace

void write_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors, const Metadata& metadata) {
  check(tensors, metadata);
  AtomicFile file(path);  // before the checksums: a folder that cannot be written is told at once
  const std::vector<const CheckpointTensor*> order = in_file_order(tensors);
  const std::string header = format_safetensors_header(make_header(order, metadata));
  const uint64_t header_bytes = header.size();
  file.write(&header_bytes, sizeof header_bytes);
  file.write(header.data(), header.size());
  for (const CheckpointTensor* tensor : order)
    for_stored_bytes(*tensor, [&](const void* data, std::size_t bytes) { file.write(data, bytes); });
  file.commit();
}

}  // namespace mpt
