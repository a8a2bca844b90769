// cpio archives of the "newc" kind, as the kernel unpacks them into its first root
// (Documentation/driver-api/early-userspace/buffer-format.rst). Any thread, one at a time.
#pragma once

#include <functional>
#include <set>
#include <string>

#include "base/bytes.h"
#include "base/result.h"

namespace reclo::recovery {

struct CpioEntry {
  std::string name;  // as stored: "usr/lib/x", without a leading "./"
  uint32_t mode = 0;
  Bytes content;  // only when it was asked for
};

/// Reads one archive from pieces of any size. Bounded: names of 4 KiB, 500,000 entries, and content
/// of 1 MiB for the names that are wanted; other content is skipped.
class CpioScanner {
 public:
  using OnEntry = std::function<void(CpioEntry)>;
  CpioScanner(std::function<bool(const std::string&)> wants_content, OnEntry on_entry)
      : wants_content_(std::move(wants_content)), on_entry_(std::move(on_entry)) {}

  /// Returns how much of `piece` belonged to the archive: less than all once it has ended.
  /// Errors: kCorruption.
  Result<size_t> feed(ByteSpan piece);
  bool ended() const { return state_ == State::kEnded; }

 private:
  enum class State { kHeader, kName, kContent, kEnded };
  Status step();

  std::function<bool(const std::string&)> wants_content_;
  OnEntry on_entry_;
  State state_ = State::kHeader;
  Bytes part_;  // of what `state_` waits for
  uint64_t needed_ = 110;
  uint64_t skip_ = 0;
  uint32_t name_size_ = 0;
  uint64_t content_size_ = 0;
  bool keeps_content_ = false;
  size_t entries_ = 0;
  CpioEntry entry_;
};

/// Writes one archive.
class CpioWriter {
 public:
  void add_folder(const std::string& name);
  void add_file(const std::string& name, ByteSpan content, uint32_t mode = 0644);
  /// The archive with its end mark, a multiple of four bytes long.
  Bytes finish() &&;

 private:
  void add(const std::string& name, ByteSpan content, uint32_t mode, uint32_t links);
  Bytes out_;
  uint32_t inode_ =
      0x7ec10000;  // unlike those of the archive before it: no hard links between them
};

}  // namespace reclo::recovery
