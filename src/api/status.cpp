// Statuses, error detail and versions.
#include <cstdio>
#include <string>

#include "api/guard.h"
#include "backend/backend.h"
#include "core/dtype.h"

#define MPT_TEXT_(x) #x
#define MPT_TEXT(x) MPT_TEXT_(x)

namespace mpt {

mpt_status report(const char* function, mpt_status status, const char* what) noexcept {
  char text[1024];
  const std::size_t length = std::strlen(function);
  if (std::strncmp(what, function, length) == 0 && what[length] == ':')
    std::snprintf(text, sizeof text, "%s", what);
  else
    std::snprintf(text, sizeof text, "%s: %s", function, what);
  set_last_error(status, text);
  return status;
}

mpt_status report_current_exception(const char* function) noexcept {
  try {
    throw;
  } catch (const Error& error) {
    return report(function, error.status(), error.what());
  } catch (const std::bad_alloc&) {
    return report(function, MPT_ERROR_OUT_OF_MEMORY, "host memory ran out");
  } catch (const std::exception& error) {
    return report(function, MPT_ERROR_INTERNAL, error.what());
  } catch (...) {
    return report(function, MPT_ERROR_INTERNAL, "an unknown exception");
  }
}

}  // namespace mpt

extern "C" {

const char* mpt_status_name(mpt_status status) {
  switch (status) {
    case MPT_OK:
      return "MPT_OK";
    case MPT_ERROR_INVALID_ARGUMENT:
      return "MPT_ERROR_INVALID_ARGUMENT";
    case MPT_ERROR_INVALID_STATE:
      return "MPT_ERROR_INVALID_STATE";
    case MPT_ERROR_UNSUPPORTED:
      return "MPT_ERROR_UNSUPPORTED";
    case MPT_ERROR_OUT_OF_MEMORY:
      return "MPT_ERROR_OUT_OF_MEMORY";
    case MPT_ERROR_DEVICE_OUT_OF_MEMORY:
      return "MPT_ERROR_DEVICE_OUT_OF_MEMORY";
    case MPT_ERROR_DEVICE:
      return "MPT_ERROR_DEVICE";
    case MPT_ERROR_DEVICE_LOST:
      return "MPT_ERROR_DEVICE_LOST";
    case MPT_ERROR_NUMERIC:
      return "MPT_ERROR_NUMERIC";
    case MPT_ERROR_CORRUPT:
      return "MPT_ERROR_CORRUPT";
    case MPT_ERROR_IO:
      return "MPT_ERROR_IO";
    case MPT_ERROR_COMM:
      return "MPT_ERROR_COMM";
    case MPT_ERROR_CANCELLED:
      return "MPT_ERROR_CANCELLED";
    case MPT_ERROR_INTERNAL:
      return "MPT_ERROR_INTERNAL";
    default:
      return "unknown status";
  }
}

const char* mpt_last_error_message(void) { return mpt::last_error_message(); }

const char* mpt_version(void) {
  return MPT_TEXT(MPT_VERSION_MAJOR) "." MPT_TEXT(MPT_VERSION_MINOR) "." MPT_TEXT(MPT_VERSION_PATCH);
}

const char* mpt_build_info(void) {
  // Made once; should memory be short, the version alone.
  static const char* const text = []() -> const char* {
    try {
      static const std::string info =
          std::string("libmpt ") + mpt_version() + "; backends: cpu (" + mpt::cpu_build_info() + "), reference, null";
      return info.c_str();
    } catch (...) {
      return mpt_version();
    }
  }();
  return text;
}

uint64_t mpt_dtype_size(mpt_dtype dtype) {
  return mpt::is_known(dtype) ? mpt::size_of(static_cast<mpt::DType>(dtype)) : 0;
}

const char* mpt_dtype_name(mpt_dtype dtype) {
  return mpt::is_known(dtype) ? mpt::name_of(static_cast<mpt::DType>(dtype)) : "unknown";
}

}  // extern "C"
