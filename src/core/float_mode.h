// The floating-point mode in which the library computes, whatever the host program has set.
#pragma once

#if !defined(__SSE__)
#include <cfenv>
#endif

namespace mpt {

// While one lives, this thread rounds to nearest, keeps subnormals and traps nothing; then the mode it had is back, with
// the exception flags of before.
class FloatMode {
 public:
  FloatMode() noexcept;
  ~FloatMode();
  FloatMode(const FloatMode&) = delete;
  FloatMode& operator=(const FloatMode&) = delete;

 private:
#if defined(__SSE__)
  unsigned saved_;
#else
  std::fenv_t saved_;
#endif
};

}  // namespace mpt
