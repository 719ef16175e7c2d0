// The one way from the C API into the engine and back: nothing that is thrown leaves a C function.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <exception>
#include <memory>
#include <string>

#include "core/error.h"
#include "core/float_mode.h"
#include "core/options.h"
#include "runtime/context.h"

namespace mpt {

mpt_status report(const char* function, mpt_status status, const char* what) noexcept;
mpt_status report_current_exception(const char* function) noexcept;

// What a call leaves as the caller had it: errno and the floating-point mode, on which our results do not depend.
class CallerState {
 public:
  CallerState() noexcept : errno_(errno) {}
  ~CallerState() { errno = errno_; }
  CallerState(const CallerState&) = delete;
  CallerState& operator=(const CallerState&) = delete;

 private:
  const int errno_;
  const FloatMode mode_;
};

// Runs a call that needs no context.
template <class Body>
mpt_status guarded(const char* function, Body&& body) noexcept {
  const CallerState state;
  clear_last_error();
  try {
    body();
    return MPT_OK;
  } catch (...) {
    return report_current_exception(function);
  }
}

inline void copy_text(const std::string& text, char* buffer, uint64_t capacity, uint64_t* out_needed) {
  MPT_CHECK_ARGUMENT(buffer || capacity == 0, "buffer is NULL and capacity is %llu",
                     static_cast<unsigned long long>(capacity));
  if (out_needed) *out_needed = text.size() + 1;
  if (capacity == 0) return;
  const std::size_t n = std::min<std::size_t>(text.size(), capacity - 1);
  std::memcpy(buffer, text.data(), n);
  buffer[n] = '\0';
}

// Calls body(out handle) for create functions: on failure *out is NULL.
template <class Handle, class Body>
mpt_status created(const char* function, Handle** out, Body&& body) noexcept {
  if (out) *out = nullptr;
  return guarded(function, [&] {
    MPT_CHECK_ARGUMENT(out, "out is NULL");
    auto handle = std::make_unique<Handle>();
    body(*handle);
    *out = handle.release();
  });
}

}  // namespace mpt
