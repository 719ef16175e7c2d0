#include "io/atomic_file.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdio>

#include "unit/files.h"

using namespace mpt;
using namespace mpt::test;

// The system calls that can fail on a bad day, replaced in this program: they do what `faults` says and note the order.
namespace {

struct Faults {
  long bytes_until_full = -1;  // write() stores so many more bytes, then fails
  int write_error = ENOSPC;
  std::size_t max_write = SIZE_MAX;    // bytes per call
  bool interrupt_every_other = false;  // EINTR
  int file_sync_error = 0;
  int folder_sync_error = 0;
  int rename_error = 0;
  bool interrupted = false;
  std::string calls;
};
Faults* faults = nullptr;

struct WithFaults {
  explicit WithFaults(Faults* f) { faults = f; }
  ~WithFaults() { faults = nullptr; }
};

bool interrupt() {
  if (!faults->interrupt_every_other) return false;
  faults->interrupted = !faults->interrupted;
  if (faults->interrupted) errno = EINTR;
  return faults->interrupted;
}

}  // namespace

extern "C" ssize_t write(int fd, const void* data, size_t bytes) {
  if (faults) {
    if (interrupt()) return -1;
    bytes = std::min(bytes, faults->max_write);
    if (faults->bytes_until_full == 0) {
      errno = faults->write_error;
      return -1;
    }
    if (faults->bytes_until_full > 0) {
      bytes = std::min(bytes, static_cast<size_t>(faults->bytes_until_full));
      faults->bytes_until_full -= static_cast<long>(bytes);
    }
  }
  return ::syscall(SYS_write, fd, data, bytes);
}

extern "C" int fsync(int fd) {
  if (faults) {
    if (interrupt()) return -1;
    struct stat status;
    REQUIRE(::fstat(fd, &status) == 0);
    const bool folder = S_ISDIR(status.st_mode);
    faults->calls += folder ? "sync-folder " : "sync-file ";
    const int error = folder ? faults->folder_sync_error : faults->file_sync_error;
    if (error) {
      errno = error;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_fsync, fd));
}

extern "C" int renameat(int from_folder, const char* from, int to_folder, const char* to) noexcept {
  if (faults) {
    faults->calls += "rename ";
    if (faults->rename_error) {
      errno = faults->rename_error;
      return -1;
    }
  }
  return static_cast<int>(::syscall(SYS_renameat2, from_folder, from, to_folder, to, 0));
}

namespace {

// 1 MB whose bytes differ, in pieces from one byte to more than the buffer holds.
std::string sample() {
  std::string out;
  for (unsigned i = 0; i < 1'000'003; ++i) out += static_cast<char>(i * 2654435761u >> 24);
  return out;
}

void write_in_pieces(AtomicFile* file, const std::string& text) {
  std::size_t done = 0;
  for (std::size_t piece = 1; done < text.size(); piece = piece * 3 + 1) {
    const std::size_t now = std::min(piece, text.size() - done);
    file->write(text.data() + done, now);
    done += now;
  }
}

void save(const std::string& path, const std::string& text) {
  AtomicFile file(path);
  write_in_pieces(&file, text);
  file.commit();
}

mode_t mode_of(const std::string& path) {
  struct stat status;
  REQUIRE(::lstat(path.c_str(), &status) == 0);
  return status.st_mode;
}

void check_old_file_alone(const TemporaryFolder& folder, const std::string& path) {
  CHECK(contents(path) == "old");
  CHECK(folder.entries() == 1);
}

}  // namespace

TEST_CASE("atomic file: new and replaced files hold what was written, and no temporary is left") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin"), text = sample();
  save(path, text);
  CHECK(contents(path) == text);
  save(path, "short");
  CHECK(contents(path) == "short");
  save(path, "");
  CHECK(contents(path).empty());
  CHECK(folder.entries() == 1);
}

TEST_CASE("atomic file: content, then name, then folder reach the disk in this order") {
  TemporaryFolder folder;
  Faults record;
  const WithFaults use(&record);
  save(folder.file("a.bin"), "text");
  CHECK(record.calls == "sync-file rename sync-folder ");
}

TEST_CASE("atomic file: without commit the old file stays, and a new one does not appear") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin");
  { AtomicFile(path).write("new", 3); }
  CHECK(folder.entries() == 0);
  put(path, "old");
  {
    AtomicFile file(path);
    write_in_pieces(&file, sample());
    CHECK(contents(path) == "old");
  }
  check_old_file_alone(folder, path);
}

TEST_CASE("atomic file: short writes and interrupted calls are continued") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin"), text = sample();
  Faults slow;
  slow.max_write = 1000;
  slow.interrupt_every_other = true;
  const WithFaults use(&slow);
  save(path, text);
  CHECK(contents(path) == text);
}

TEST_CASE("atomic file: a full disk is an error that names the path, and the old file stays") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin"), text = sample();
  put(path, "old");
  for (long room : {0L, 1L, 262'143L, 262'144L, 900'000L, 1'000'002L}) {
    CAPTURE(room);
    Faults full;
    full.bytes_until_full = room;
    const WithFaults use(&full);
    const Failure failure = failure_of([&] { save(path, text); });
    CHECK(failure.status == MPT_ERROR_IO);
    CHECK(failure.says("cannot write '" + path + "': No space left on device"));
    check_old_file_alone(folder, path);
  }
}

TEST_CASE("atomic file: failing sync and rename leave the old file") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin");
  put(path, "old");
  Faults sync;
  sync.file_sync_error = EIO;
  Faults rename;
  rename.rename_error = EACCES;
  for (Faults* fault : {&sync, &rename}) {
    const WithFaults use(fault);
    const Failure failure = failure_of([&] { save(path, "new"); });
    CHECK(failure.status == MPT_ERROR_IO);
    CHECK(failure.says(fault == &sync ? "sync to the disk" : "rename"));
    CHECK(failure.says(path));
    check_old_file_alone(folder, path);
  }
}

TEST_CASE("atomic file: a folder that cannot be synced is told, but not where folders have no sync") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin");
  Faults fault;
  const WithFaults use(&fault);
  fault.folder_sync_error = EIO;
  CHECK(failure_of([&] { save(path, "new"); }).status == MPT_ERROR_IO);
  CHECK(contents(path) == "new");  // the rename has happened
  fault.folder_sync_error = EINVAL;
  CHECK(failure_of([&] { save(path, "newer"); }).status == MPT_OK);
  CHECK(contents(path) == "newer");
  CHECK(folder.entries() == 1);
}

TEST_CASE("atomic file: the system's own limit on file sizes") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin"), text = sample();
  put(path, "old");
  rlimit before;
  REQUIRE(::getrlimit(RLIMIT_FSIZE, &before) == 0);
  auto* const handler = std::signal(SIGXFSZ, SIG_IGN);
  const rlimit limited{100'000, before.rlim_max};
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &limited) == 0);
  const Failure failure = failure_of([&] { save(path, text); });
  REQUIRE(::setrlimit(RLIMIT_FSIZE, &before) == 0);
  std::signal(SIGXFSZ, handler);
  CHECK(failure.status == MPT_ERROR_IO);
  CHECK(failure.says("File too large"));
  check_old_file_alone(folder, path);
}

TEST_CASE("atomic file: paths that cannot be written are refused with the reason") {
  TemporaryFolder folder;
  put(folder.file("file"), "old");
  struct Case {
    std::string path;
    const char* reason;
  };
  const Case cases[] = {
      {"", "No such file"},
      {folder.file("absent/a.bin"), "No such file"},
      {folder.file("file/a.bin"), "Not a directory"},
      {folder.path(), "Is a directory"},
      {folder.file("absent/"), "Is a directory"},
      {"/proc/self/a.bin", ""},  // refused even to root; the reason depends on the kernel
  };
  for (const Case& c : cases) {
    CAPTURE(c.path);
    const Failure failure = failure_of([&] { AtomicFile file(c.path); });
    CHECK(failure.status == MPT_ERROR_IO);
    CHECK(failure.says("'" + c.path + "'"));
    CHECK(failure.says(c.reason));
  }
  check_old_file_alone(folder, folder.file("file"));
}

TEST_CASE("atomic file: read-only folders and files are refused") {
  if (::geteuid() == 0)
    return;  // root may write everywhere; "/proc/self" above is the case that holds for root as well
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin");
  put(path, "old");
  REQUIRE(::chmod(path.c_str(), 0444) == 0);
  CHECK(failure_of([&] { AtomicFile file(path); }).says("Permission denied"));
  REQUIRE(::chmod(path.c_str(), 0644) == 0);
  REQUIRE(::chmod(folder.path().c_str(), 0555) == 0);
  const Failure failure = failure_of([&] { AtomicFile file(path); });
  REQUIRE(::chmod(folder.path().c_str(), 0755) == 0);
  CHECK(failure.status == MPT_ERROR_IO);
  CHECK(failure.says("Permission denied"));
  check_old_file_alone(folder, path);
}

TEST_CASE("atomic file: devices and pipes are never replaced") {
  TemporaryFolder folder;
  const std::string pipe = folder.file("pipe"), link = folder.file("null");
  REQUIRE(::mkfifo(pipe.c_str(), 0644) == 0);
  REQUIRE(::symlink("/dev/null", link.c_str()) == 0);
  for (const std::string& path : {pipe, link}) {
    const Failure failure = failure_of([&] { AtomicFile file(path); });
    CHECK(failure.status == MPT_ERROR_IO);
    CHECK(failure.says("expected a regular file"));
  }
  CHECK(S_ISFIFO(mode_of(pipe)));
  CHECK(S_ISCHR(mode_of("/dev/null")));
}

TEST_CASE("atomic file: a link is followed, its target replaced") {
  TemporaryFolder folder;
  std::filesystem::create_directory(folder.file("data"));
  put(folder.file("data/real.bin"), "old");
  REQUIRE(::symlink("data/real.bin", folder.file("link.bin").c_str()) == 0);
  save(folder.file("link.bin"), "new");
  CHECK(S_ISLNK(mode_of(folder.file("link.bin"))));
  CHECK(contents(folder.file("data/real.bin")) == "new");
}

TEST_CASE("atomic file: a replaced file keeps its permissions, a new one follows the umask") {
  TemporaryFolder folder;
  const std::string path = folder.file("a.bin");
  const mode_t before = ::umask(027);
  save(path, "new");
  CHECK((mode_of(path) & 0777) == 0640);
  REQUIRE(::chmod(path.c_str(), 0606) == 0);
  save(path, "newer");
  CHECK((mode_of(path) & 0777) == 0606);
  ::umask(before);
}

TEST_CASE("atomic file: the longest name that the system takes") {
  TemporaryFolder folder;
  const std::string path = folder.file(std::string(255, 'n'));
  save(path, "new");
  CHECK(contents(path) == "new");
  CHECK(failure_of([&] { save(folder.file(std::string(256, 'n')), "new"); }).says("File name too long"));
}
