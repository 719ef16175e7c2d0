#include "io/input_file.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>

#include "core/error.h"
#include "io/message.h"

namespace mpt {

InputFile::InputFile(const std::string& path) : path_(path) {
  int fd;
  do {
    fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);  // O_NONBLOCK: a pipe must not hang the host
  } while (fd < 0 && errno == EINTR);
  if (fd < 0) fail_io("open", path_, errno);
  file_.reset(fd);

  struct stat status;
  if (::fstat(fd, &status) != 0) fail_io("read the size of", path_, errno);
  if (S_ISDIR(status.st_mode)) fail_io("read", path_, EISDIR);
  if (!S_ISREG(status.st_mode))
    fail(MPT_ERROR_IO, "cannot read %s: found a device, pipe or socket, expected a regular file",
         quoted_path(path_).c_str());
  size_ = static_cast<uint64_t>(status.st_size);
}

void InputFile::read(uint64_t offset, void* to, std::size_t bytes) const {
  constexpr std::size_t max_call = std::size_t{1} << 30;  // below Linux's own limit of 2 GiB per call
  auto* position = static_cast<unsigned char*>(to);
  std::size_t left = bytes;
  while (left > 0) {
    const ssize_t got = ::pread(file_.get(), position, std::min(left, max_call), static_cast<off_t>(offset));
    if (got < 0) {
      if (errno == EINTR) continue;
      fail_io("read", path_, errno);
    }
    if (got == 0)
      fail(MPT_ERROR_CORRUPT,
           "file %s: found its end at byte %" PRIu64 ", expected at least %" PRIu64
           " bytes: it was truncated while it was read",
           quoted_path(path_).c_str(), offset, offset + left);
    position += got;
    offset += static_cast<uint64_t>(got);
    left -= static_cast<std::size_t>(got);
  }
}

}  // namespace mpt
