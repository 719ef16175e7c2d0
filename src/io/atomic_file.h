// A file that appears under its name complete, or not at all.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <string>

#include "io/file_descriptor.h"

namespace mpt {

// Writes to a temporary file in the folder of `path`; commit() syncs it to the disk, renames it to `path` and syncs
// the folder. Without commit() the destructor removes the temporary, and what was at `path` before is untouched.
// Every failure of the system throws MPT_ERROR_IO with what was tried, the path and the reason.
//
// A symbolic link is followed: its target is replaced, not the link. A file that is replaced keeps its permission bits;
// a new one gets 0644 less the umask. Only regular files are replaced, and only those the caller may write.
class AtomicFile {
 public:
  explicit AtomicFile(const std::string& path);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;

  void write(const void* data, std::size_t bytes);  // buffered: a failure may show at a later call
  void commit();

 private:
  void find_target();
  void check_target();
  void create_temporary();
  void write_through(const char* data, std::size_t bytes);
  void flush();

  std::string path_;  // as the caller gave it, for messages
  std::string folder_path_;
  std::string name_;            // of the final file within the folder
  std::string temporary_name_;  // empty when there is none to remove
  FileDescriptor folder_;
  FileDescriptor file_;
  mode_t mode_ = 0;  // of the file that is replaced; 0 when there is none
  std::string buffer_;
};

}  // namespace mpt
