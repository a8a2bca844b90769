// An owned file descriptor. Movable, closed on destruction; close() says whether that worked.
#pragma once

#include <utility>

#include "base/result.h"

namespace reclo::os {

class Fd {
 public:
  Fd() = default;
  explicit Fd(int fd) : fd_(fd) {}
  Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Fd& operator=(Fd&& other) noexcept;
  ~Fd();

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  /// Gives the descriptor away.
  int release() { return std::exchange(fd_, -1); }
  Status close();

 private:
  int fd_ = -1;
};

}  // namespace reclo::os
