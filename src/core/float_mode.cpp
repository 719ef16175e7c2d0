#include "core/float_mode.h"

#if defined(__SSE__)
#include <xmmintrin.h>
#endif

namespace mpt {

#if defined(__SSE__)
namespace {
constexpr unsigned control_default = 0x1f80;  // all exceptions masked, round to nearest, no flush to zero
}
FloatMode::FloatMode() noexcept : saved_(_mm_getcsr()) { _mm_setcsr(control_default); }
FloatMode::~FloatMode() { _mm_setcsr(saved_); }
#else
FloatMode::FloatMode() noexcept {
  std::fegetenv(&saved_);
  std::fesetenv(FE_DFL_ENV);
}
FloatMode::~FloatMode() { std::fesetenv(&saved_); }
#endif

}  // namespace mpt
