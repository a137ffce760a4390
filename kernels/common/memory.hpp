#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string>

namespace microbench {

// Says how much was asked for; recorded as `out_of_memory`.
class OutOfMemory : public std::bad_alloc {
 public:
  explicit OutOfMemory(std::int64_t bytes) : message_(std::to_string(bytes) + " bytes asked for at once") {}
  const char* what() const noexcept override { return message_.c_str(); }

 private:
  std::string message_;
};

// Cache-line aligned host memory, first touched by the threads that will use it, so that on machines with
// several memory nodes the pages lie near them.
class Memory {
 public:
  explicit Memory(std::int64_t bytes) : bytes_(bytes) {
    if (bytes == 0) return;
    const std::int64_t rounded = (bytes + kAlignment - 1) / kAlignment * kAlignment;
    data_.reset(std::aligned_alloc(kAlignment, static_cast<std::size_t>(rounded)));
    if (!data_) throw OutOfMemory(bytes);
    auto* first = static_cast<char*>(data_.get());
#pragma omp parallel for schedule(static)
    for (std::int64_t offset = 0; offset < bytes; offset += kPage) {
      std::memset(first + offset, 0, static_cast<std::size_t>(std::min(kPage, bytes - offset)));
    }
  }

  std::int64_t bytes() const { return bytes_; }
  void* data() { return data_.get(); }
  const void* data() const { return data_.get(); }

 private:
  struct Free {
    void operator()(void* pointer) const { std::free(pointer); }
  };
  static constexpr std::int64_t kAlignment = 64;
  static constexpr std::int64_t kPage = 4096;
  std::int64_t bytes_;
  std::unique_ptr<void, Free> data_;
};

}  // namespace microbench
