#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <memory>

#include "core/error.h"
#include "io/message.h"

namespace mpt {
namespace {

constexpr std::size_t buffer_capacity = std::size_t{256} << 10;
constexpr mode_t new_file_mode = 0644;
constexpr mode_t permission_bits = 0777;

// Repeats a system call that a signal interrupted.
template <typename Call>
auto uninterrupted(Call call) {
  auto result = call();
  while (result < 0 && errno == EINTR) result = call();
  return result;
}

}  // namespace

AtomicFile::AtomicFile(const std::string& path) : path_(path) {
  find_target();
  folder_.reset(uninterrupted([&] { return ::open(folder_path_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); }));
  if (!folder_.is_open()) fail_io("open the folder of", path_, errno);
  check_target();
  buffer_.reserve(buffer_capacity);
  create_temporary();
}

AtomicFile::~AtomicFile() {
  file_.close();
  if (!temporary_name_.empty()) ::unlinkat(folder_.get(), temporary_name_.c_str(), 0);
}

void AtomicFile::find_target() {
  std::string target = path_;
  const std::unique_ptr<char, decltype(&std::free)> resolved(::realpath(path_.c_str(), nullptr), &std::free);
  if (resolved)
    target = resolved.get();
  else if (errno != ENOENT)
    fail_io("write", path_, errno);
  const std::size_t slash = target.rfind('/');
  folder_path_ = slash == std::string::npos ? "." : target.substr(0, slash + 1);
  name_ = slash == std::string::npos ? target : target.substr(slash + 1);
  if (name_.empty()) fail_io("write", path_, path_.empty() ? ENOENT : EISDIR);
}

void AtomicFile::check_target() {
  struct stat status;
  if (::fstatat(folder_.get(), name_.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) {
    if (errno == ENOENT) return;
    fail_io("write", path_, errno);
  }
  if (S_ISLNK(status.st_mode)) return;  // it points nowhere, or it would have been resolved: replaced itself
  if (S_ISDIR(status.st_mode)) fail_io("write", path_, EISDIR);
  if (!S_ISREG(status.st_mode))
    fail(MPT_ERROR_IO, "cannot write %s: found a device, pipe or socket, expected a regular file or nothing",
         quoted_path(path_).c_str());
  if (::faccessat(folder_.get(), name_.c_str(), W_OK, AT_EACCESS) != 0) fail_io("write", path_, errno);
  mode_ = status.st_mode & permission_bits;
}

void AtomicFile::create_temporary() {
  // A name that nobody can foresee, and O_EXCL: nobody can plant a link in a folder that others may write. It does not
  // contain the final name, which may already be as long as the system allows.
  constexpr int max_attempts = 16;
  for (int attempt = 0; attempt < max_attempts; ++attempt) {
    uint64_t random = 0;
    if (uninterrupted([&] { return ::getrandom(&random, sizeof random, 0); }) != sizeof random)
      fail_io("get random bytes to write", path_, errno);
    char name[40];
    std::snprintf(name, sizeof name, ".mpt-%016" PRIx64 ".tmp", random);
    temporary_name_ = name;  // before the file exists: from here on nothing can throw between creation and ownership
    file_.reset(uninterrupted([&] {
      return ::openat(folder_.get(), temporary_name_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, new_file_mode);
    }));
    if (file_.is_open()) break;
    temporary_name_.clear();
    if (errno != EEXIST || attempt + 1 == max_attempts) fail_io("create a temporary file beside", path_, errno);
  }
  if (mode_ == 0 || ::fchmod(file_.get(), mode_) == 0) return;
  const int error = errno;
  ::unlinkat(folder_.get(), temporary_name_.c_str(), 0);  // a constructor that throws has no destructor
  fail_io("set the permissions of", path_, error);
}

void AtomicFile::write(const void* data, std::size_t bytes) {
  MPT_INVARIANT(file_.is_open());
  const auto* from = static_cast<const char*>(data);
  if (buffer_.size() + bytes > buffer_capacity) flush();
  if (bytes >= buffer_capacity)
    write_through(from, bytes);
  else if (bytes > 0)
    buffer_.append(from, bytes);
}

void AtomicFile::flush() {
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
}

void AtomicFile::write_through(const char* data, std::size_t bytes) {
  constexpr std::size_t max_call = std::size_t{1} << 30;  // below Linux's own limit of 2 GiB per call
  while (bytes > 0) {
    const ssize_t written = uninterrupted([&] { return ::write(file_.get(), data, std::min(bytes, max_call)); });
    if (written <= 0) fail_io("write", path_, written < 0 ? errno : EIO);
    data += written;
    bytes -= static_cast<std::size_t>(written);
  }
}

void AtomicFile::commit() {
  MPT_INVARIANT(file_.is_open());
  flush();
  if (uninterrupted([&] { return ::fsync(file_.get()); }) != 0) fail_io("sync to the disk", path_, errno);
  if (file_.close() != 0 && errno != EINTR) fail_io("close", path_, errno);
  if (::renameat(folder_.get(), temporary_name_.c_str(), folder_.get(), name_.c_str()) != 0)
    fail_io("rename the temporary file to", path_, errno);
  temporary_name_.clear();
  // Some file systems cannot sync a folder and say EINVAL; there the rename is as durable as it gets.
  if (uninterrupted([&] { return ::fsync(folder_.get()); }) != 0 && errno != EINVAL)
    fail_io("sync to the disk the folder that now holds the new", path_, errno);
}

}  // namespace mpt
