#include "core/error.h"

#include <cstdio>
#include <cstring>

namespace mpt {
namespace {

// Fixed storage: reporting out-of-memory must not allocate.
struct LastError {
  mpt_status status = MPT_OK;
  char message[1024] = {};
};
thread_local LastError last_error;

void copy_text(char* to, std::size_t capacity, const char* from) noexcept {
  std::snprintf(to, capacity, "%s", from ? from : "");
}

}  // namespace

Error::Error(mpt_status status, const char* message) noexcept : status_(status) {
  copy_text(message_, sizeof message_, message);
}

void fail(mpt_status status, const char* format, ...) {
  char text[1024];
  va_list arguments;
  va_start(arguments, format);
  std::vsnprintf(text, sizeof text, format, arguments);
  va_end(arguments);
  throw Error(status, text);
}

void set_last_error(mpt_status status, const char* message) noexcept {
  last_error.status = status;
  copy_text(last_error.message, sizeof last_error.message, message);
}

void clear_last_error() noexcept {
  last_error.status = MPT_OK;
  last_error.message[0] = '\0';
}

const char* last_error_message() noexcept { return last_error.message; }
mpt_status last_error_status() noexcept { return last_error.status; }

}  // namespace mpt
