// Named tensors and text metadata in one safetensors file: complete checkpoints and plain weights alike.
// The file is described in docs/checkpoint-format.md.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "io/metadata.h"
#include "io/safetensors.h"
#include "io/tensor_differences.h"

namespace mpt {

// By convention tensors that are no weights (moments, averages, random state) have names with this prefix, and weights
// their own names alone, so that the weights of a checkpoint can be loaded from it as from any safetensors file.
constexpr std::string_view checkpoint_state_prefix = "mpt.";

struct CheckpointTensor {
  std::string name;
  DType dtype;  // of `data`
  Shape shape;
  const void* data;      // host memory, dense, row-major
  DType stored = dtype;  // in the file: converted on the way, block by block
};

// Writes the file whole or not at all (atomic_file.h), with a checksum for every tensor and for the header. Throws
// MPT_ERROR_IO where the system fails and MPT_ERROR_INVALID_ARGUMENT on duplicate or reserved names and on text that
// is not UTF-8. The data must not change meanwhile.
void write_checkpoint(const std::string& path, const std::vector<CheckpointTensor>& tensors, const Metadata& metadata);

class CheckpointReader {
 public:
  // Reads and checks the header. Throws MPT_ERROR_IO where the system fails, MPT_ERROR_CORRUPT where the file is no
  // complete safetensors file or its header was changed, MPT_ERROR_UNSUPPORTED on a newer format version.
  explicit CheckpointReader(const std::string& path);

  const std::string& path() const { return file_.path(); }
  // False for files that other programs wrote: they have no checksums and nothing but weights.
  bool is_own() const { return is_own_; }
  const Metadata& metadata() const { return file_.metadata(); }
  const std::vector<TensorEntry>& tensors() const { return file_.tensors(); }  // in the order of their data
  bool contains(const std::string& name) const { return file_.find(name) != nullptr; }

  // Exact numbers from the metadata, as metadata_text() wrote them; MPT_ERROR_CORRUPT where they are missing.
  const std::string& text(const std::string& key) const { return metadata_string(metadata(), key, path()); }
  int64_t int64(const std::string& key) const { return metadata_int64(metadata(), key, path()); }
  uint64_t uint64(const std::string& key) const { return metadata_uint64(metadata(), key, path()); }
  float float32(const std::string& key) const { return metadata_float(metadata(), key, path()); }
  double float64(const std::string& key) const { return metadata_double(metadata(), key, path()); }

  TensorDifferences compare(const std::vector<TensorExpectation>& expected,
                            std::string_view ignored_prefix = {}) const {
    return compare_tensors(file_, expected, ignored_prefix);
  }

  // Reads all data and compares the checksums: MPT_ERROR_CORRUPT with the first tensor that was changed. Before the
  // first read() into memory that must stay as it is when the file turns out to be bad.
  void verify() const;

  // The tensor's elements as `dtype`, dense, to host memory for shape.elements() of them; FP32, FP16 and BF16 convert.
  // Throws MPT_ERROR_INVALID_ARGUMENT where the tensor is missing or has another shape or dtype, and MPT_ERROR_CORRUPT
  // where its checksum is wrong: what is in `to` is then undefined.
  void read(const std::string& name, DType dtype, const Shape& shape, void* to) const;

 private:
  template <typename Consume>
  void stream(const TensorEntry& tensor, Consume consume) const;

  SafetensorsFile file_;
  bool is_own_;
  Metadata checksums_;  // by tensor name; empty where the file has none
};

}  // namespace mpt
