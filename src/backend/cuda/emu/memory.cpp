#include "backend/cuda/emu/memory.h"

#include <sys/mman.h>
#include <unistd.h>

#include <cstring>
#include <iterator>

#include "core/error.h"

namespace mpt::cuda::emu {

namespace {

constexpr uint64_t alignment = 256, zone = 256, remembered = 4096;

uint64_t page_bytes() {
  static const uint64_t bytes = static_cast<uint64_t>(sysconf(_SC_PAGESIZE));
  return bytes;
}
uint64_t rounded_up(uint64_t x, uint64_t to) { return (x + to - 1) / to * to; }

unsigned char* at(uintptr_t address) { return reinterpret_cast<unsigned char*>(address); }

void protect(uintptr_t begin, uintptr_t end, int protection) {
  if (mprotect(at(begin), end - begin, protection) != 0)
    fail(MPT_ERROR_DEVICE, "emu: mprotect: %s", std::strerror(errno));
}

bool is_poison(uintptr_t begin, uintptr_t end) {
  for (uintptr_t a = begin; a < end; ++a)
    if (*at(a) != poison_byte) return false;
  return true;
}

}  // namespace

Memory::Memory(uint64_t limit, uint64_t range_bytes) : limit_(limit), range_bytes_(range_bytes) {
  void* range = mmap(nullptr, range_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (range == MAP_FAILED) fail(MPT_ERROR_DEVICE, "emu: no range of addresses: %s", std::strerror(errno));
  begin_ = reinterpret_cast<uintptr_t>(range);
  end_ = begin_ + range_bytes;
  next_ = begin_;
}

Memory::~Memory() { munmap(at(begin_), range_bytes_); }

// The next addresses after those handed out last, with a page in front that nobody may touch; from the start again at
// the end.
uintptr_t Memory::find_room(uint64_t bytes) {
  const uint64_t page = page_bytes();
  bool again = false;
  for (;;) {
    const uintptr_t first = next_ + page, last = first + bytes;
    if (last + page > end_) {
      if (again)
        fail(MPT_ERROR_DEVICE_OUT_OF_MEMORY, "emu: no room for %llu bytes", static_cast<unsigned long long>(bytes));
      again = true;
      next_ = begin_;
      continue;
    }
    // The first block that ends behind `first`.
    auto block = blocks_.upper_bound(first);
    if (block != blocks_.begin() && std::prev(block)->second.pages_end > next_) --block;
    if (block == blocks_.end() || block->second.pages >= last + page) {
      next_ = last;
      return first;
    }
    next_ = block->second.pages_end;
  }
}

void* Memory::allocate(uint64_t bytes, bool pinned) {
  if (!pinned && (bytes > limit_ || allocated_ > limit_ - bytes))
    fail(MPT_ERROR_DEVICE_OUT_OF_MEMORY, "emu: %llu bytes are allocated, no room for %llu more",
         static_cast<unsigned long long>(allocated_), static_cast<unsigned long long>(bytes));
  const uint64_t room = rounded_up(bytes < 1 ? 1 : bytes, alignment), pages = rounded_up(room, page_bytes());
  Block block;
  block.pages = find_room(pages);
  block.pages_end = block.pages + pages;
  block.bytes = bytes;
  block.pinned = pinned;
  protect(block.pages, block.pages_end, PROT_READ | PROT_WRITE);
  std::memset(at(block.pages), poison_byte, pages);
  if (!pinned && access_ == 0) protect(block.pages, block.pages_end, PROT_NONE);
  const uintptr_t data = block.pages_end - room;
  blocks_[data] = block;
  if (!pinned) allocated_ += bytes;
  return at(data);
}

std::string Memory::deallocate(void* pointer, bool pinned) {
  const auto found = blocks_.find(reinterpret_cast<uintptr_t>(pointer));
  if (found == blocks_.end() || found->second.pinned != pinned)
    return "emu: deallocated what is no allocation: " + describe(pointer);
  const Block& block = found->second;
  std::string complaint;
  if (block.pinned && !zones_intact(*found)) complaint = "emu: something was written beside pinned memory";
  if (!block.pinned) allocated_ -= block.bytes;
  madvise(at(block.pages), block.pages_end - block.pages, MADV_DONTNEED);
  mprotect(at(block.pages), block.pages_end - block.pages, PROT_NONE);
  freed_.emplace_back(found->first, block.bytes);
  if (freed_.size() > remembered) freed_.pop_front();
  blocks_.erase(found);
  return complaint;
}

const Memory::Blocks::value_type* Memory::block_of(const void* pointer) const {
  const auto address = reinterpret_cast<uintptr_t>(pointer);
  auto block = blocks_.upper_bound(address);
  if (block == blocks_.begin()) return nullptr;
  --block;
  return address < block->second.pages_end ? &*block : nullptr;
}

bool Memory::is_pinned(const void* pointer) const {
  const auto* block = block_of(pointer);
  return block && block->second.pinned;
}

void Memory::check(const void* pointer, uint64_t bytes, const char* what, int pinned) const {
  const auto* block = block_of(pointer);
  const uint64_t offset = block ? reinterpret_cast<uintptr_t>(pointer) - block->first : 0;
  if (!block || offset > block->second.bytes || block->second.bytes - offset < bytes)
    fail(MPT_ERROR_DEVICE, "emu: %s: %llu bytes from %p: %s", what, static_cast<unsigned long long>(bytes), pointer,
         describe(pointer).c_str());
  if (pinned >= 0 && block->second.pinned != (pinned != 0))
    fail(MPT_ERROR_DEVICE, "emu: %s: expected %s memory", what, pinned ? "pinned host" : "device");
}

void Memory::check_device(const void* pointer, uint64_t bytes, const char* what) const {
  check(pointer, bytes, what, 0);
}
void Memory::check_pinned(const void* pointer, uint64_t bytes, const char* what) const {
  check(pointer, bytes, what, 1);
}
void Memory::check_reachable(const void* pointer, uint64_t bytes, const char* what) const {
  check(pointer, bytes, what, -1);
}

bool Memory::zones_intact(const Blocks::value_type& entry) {
  const auto& [data, block] = entry;
  const uintptr_t before = data - block.pages > zone ? data - zone : block.pages;
  return is_poison(before, data) && is_poison(data + block.bytes, block.pages_end);
}

void Memory::check_zones(const char* what) const {
  for (const auto& entry : blocks_)
    if (!zones_intact(entry))
      fail(MPT_ERROR_DEVICE, "emu: %s: something was written beside an allocation of %llu bytes", what,
           static_cast<unsigned long long>(entry.second.bytes));
}

bool Memory::holds(const void* address) const {
  const auto a = reinterpret_cast<uintptr_t>(address);
  return a >= begin_ && a < end_;
}

std::string Memory::describe(const void* address) const {
  if (!holds(address)) return address ? "host memory" : "a null pointer";
  const auto a = reinterpret_cast<uintptr_t>(address);
  for (auto freed = freed_.rbegin(); freed != freed_.rend(); ++freed)
    if (a >= freed->first && a - freed->first < (freed->second < 1 ? 1 : freed->second))
      return std::to_string(a - freed->first) + " bytes into an allocation of " + std::to_string(freed->second) +
             " bytes that was freed";
  const auto after = blocks_.upper_bound(a);
  if (after != blocks_.begin()) {
    const auto& [data, block] = *std::prev(after);
    if (a - data < block.bytes)
      return std::to_string(a - data) + " bytes into an allocation of " + std::to_string(block.bytes) + " bytes";
    if (after == blocks_.end() || a - data - block.bytes <= after->first - a)
      return std::to_string(a - data - block.bytes) + " bytes beyond the end of an allocation of " +
             std::to_string(block.bytes) + " bytes";
  }
  if (after != blocks_.end())
    return std::to_string(after->first - a) + " bytes before an allocation of " + std::to_string(after->second.bytes) +
           " bytes";
  return "no allocation";
}

void Memory::unlock() {
  if (access_++ > 0) return;
  for (const auto& [data, block] : blocks_)
    if (!block.pinned) protect(block.pages, block.pages_end, PROT_READ | PROT_WRITE);
}

void Memory::lock() {
  if (--access_ > 0) return;
  for (const auto& [data, block] : blocks_)
    if (!block.pinned) mprotect(at(block.pages), block.pages_end - block.pages, PROT_NONE);
}

}  // namespace mpt::cuda::emu
