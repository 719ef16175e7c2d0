// The one exception type of the engine and the thread-local detail of the last failure.
#pragma once

#include <cstdarg>
#include <cstdint>
#include <exception>

#include "mpt.h"

namespace mpt {

// Thrown inside the library only; the API guard turns it into a status. The message lives in the object so that
// raising an error needs no memory.
class Error : public std::exception {
 public:
  Error(mpt_status status, const char* message) noexcept;
  const char* what() const noexcept override { return message_; }
  mpt_status status() const noexcept { return status_; }

 private:
  mpt_status status_;
  char message_[1024];
};

// Throws Error with a printf-style message: say what was found and what was expected.
[[noreturn]] void fail(mpt_status status, const char* format, ...) __attribute__((format(printf, 2, 3)));

#define MPT_CHECK_ARGUMENT(condition, ...)                                  \
  do {                                                                      \
    if (!(condition)) ::mpt::fail(MPT_ERROR_INVALID_ARGUMENT, __VA_ARGS__); \
  } while (0)

// An internal invariant: reaching this is a bug of ours, and still only a status for the host.
#define MPT_INVARIANT(condition)                                                                          \
  do {                                                                                                    \
    if (!(condition))                                                                                     \
      ::mpt::fail(MPT_ERROR_INTERNAL, "%s:%d: invariant '%s' is broken", __FILE__, __LINE__, #condition); \
  } while (0)

void set_last_error(mpt_status status, const char* message) noexcept;
void clear_last_error() noexcept;
const char* last_error_message() noexcept;
mpt_status last_error_status() noexcept;

}  // namespace mpt
