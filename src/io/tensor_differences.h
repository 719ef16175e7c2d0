// How the tensors that a file has differ from those that are wanted, by name.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/dtype.h"
#include "core/shape.h"
#include "io/safetensors.h"

namespace mpt {

struct TensorExpectation {
  std::string name;
  DType dtype;  // of the buffer that is to receive it
  Shape shape;
};

struct TensorDifferences {
  struct Mismatch {
    std::string name;
    std::string found;
    std::string expected;
  };

  std::vector<std::string> missing;     // expected, not in the file
  std::vector<std::string> unexpected;  // in the file, not expected
  std::vector<Mismatch> misshapen;
  std::vector<Mismatch> mistyped;  // a dtype that does not convert to the expected one

  bool empty() const { return missing.empty() && unexpected.empty() && misshapen.empty() && mistyped.empty(); }

  // "2 missing: 'a', 'b'; 1 misshapen: 'c' is [3, 2], expected [2, 3]", the first eight of each kind by name.
  std::string text() const;
};

// In the order of `expected` and of the file. Tensors of the file whose names start with `ignored_prefix` are not
// unexpected, unless it is empty.
TensorDifferences compare_tensors(const SafetensorsFile& file, const std::vector<TensorExpectation>& expected,
                                  std::string_view ignored_prefix = {});

}  // namespace mpt
