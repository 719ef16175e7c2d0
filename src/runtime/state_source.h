// State that moves on a device while the host's copy stands still: brought home before the host looks at it.
#pragma once

namespace mpt {

class StateSource {
 public:
  virtual ~StateSource() = default;
  // Brings the host's copies up to date; waits for the device where it is ahead. May throw what the device reports.
  virtual void bring_home() = 0;
};

}  // namespace mpt
