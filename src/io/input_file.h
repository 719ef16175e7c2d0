// A regular file opened for reading at any offset. Reads with pread, not mmap: a file that another process truncates
// meanwhile gives an error, not a SIGBUS.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "io/file_descriptor.h"

namespace mpt {

class InputFile {
 public:
  // Throws MPT_ERROR_IO where the file is missing, unreadable, a folder or a device.
  explicit InputFile(const std::string& path);

  const std::string& path() const { return path_; }
  uint64_t size() const { return size_; }  // when it was opened

  // All `bytes` at `offset`. Throws MPT_ERROR_IO when the system fails, MPT_ERROR_CORRUPT when the file has become shorter.
  void read(uint64_t offset, void* to, std::size_t bytes) const;

 private:
  std::string path_;
  FileDescriptor file_;
  uint64_t size_ = 0;
};

}  // namespace mpt
