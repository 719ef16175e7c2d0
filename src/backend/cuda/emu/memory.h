// The emulated device's memory: ranges of addresses of its own that the host cannot touch except while device work
// runs.
//
// Every allocation lies between pages that nobody may touch and ends at one (up to its alignment); what alignment
// leaves over is filled with a pattern that is checked after each piece of work. Fresh memory holds NaN bytes.
// Addresses are not used again before the whole range was handed out once, so that a pointer to freed memory faults.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>

namespace mpt::cuda::emu {

constexpr unsigned char poison_byte = 0xff;  // NaN in every float type, -1 in every integer type

class Memory {
 public:
  // `range_bytes`: of the addresses.
  explicit Memory(uint64_t limit, uint64_t range_bytes = uint64_t{64} << 30);
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  void* allocate(uint64_t bytes, bool pinned);  // aligned to 256 bytes
  // A complaint where the pointer is no such allocation, or something was written beside it; else empty.
  std::string deallocate(void* pointer, bool pinned);
  uint64_t allocated() const { return allocated_; }  // bytes of device memory

  bool is_pinned(const void* pointer) const;
  // Throws unless all bytes belong to one live allocation.
  void check_device(const void* pointer, uint64_t bytes, const char* what) const;
  void check_pinned(const void* pointer, uint64_t bytes, const char* what) const;
  // Memory that kernels reach: the device's or pinned.
  void check_reachable(const void* pointer, uint64_t bytes, const char* what) const;
  // Throws where something was written beside an allocation. Within Access.
  void check_zones(const char* what) const;

  bool holds(const void* address) const;            // the address is one of this device's range
  std::string describe(const void* address) const;  // "4 bytes beyond the end of an allocation of 128 bytes"

  // While one lives, device memory can be touched.
  class Access {
   public:
    explicit Access(Memory& memory) : memory_(memory) { memory_.unlock(); }
    ~Access() { memory_.lock(); }
    Access(const Access&) = delete;
    Access& operator=(const Access&) = delete;

   private:
    Memory& memory_;
  };

 private:
  struct Block {
    uintptr_t pages = 0, pages_end = 0;  // what may be touched
    uint64_t bytes = 0;
    bool pinned = false;
  };
  using Blocks = std::map<uintptr_t, Block>;  // by the first byte of the data

  void lock();
  void unlock();
  uintptr_t find_room(uint64_t bytes);
  const Blocks::value_type* block_of(const void* pointer) const;
  static bool zones_intact(const Blocks::value_type& block);
  void check(const void* pointer, uint64_t bytes, const char* what, int pinned) const;

  uint64_t limit_, range_bytes_, allocated_ = 0;
  uintptr_t begin_ = 0, end_ = 0, next_ = 0;
  Blocks blocks_;
  std::deque<std::pair<uintptr_t, uint64_t>> freed_;  // the latest
  int access_ = 0;
};

}  // namespace mpt::cuda::emu
