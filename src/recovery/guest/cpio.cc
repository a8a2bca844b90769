#include "recovery/guest/cpio.h"

#include <fmt/format.h>

#include <charconv>

#include "base/units.h"

namespace reclo::recovery {
namespace {

constexpr size_t kHeaderSizeBytes = 110;  // magic and 13 numbers of 8 hex digits
constexpr uint32_t kNameSizeBytesMax = 4096;
constexpr uint64_t kContentSizeBytesMax = kMiB;
constexpr size_t kEntriesMax = 500'000;
constexpr std::string_view kEndName = "TRAILER!!!";

Result<uint32_t> field(std::string_view header, size_t index) {
  const std::string_view digits = header.substr(6 + index * 8, 8);
  uint32_t value = 0;
  const auto [end, failure] =
      std::from_chars(digits.data(), digits.data() + digits.size(), value, 16);
  if (failure != std::errc() || end != digits.data() + digits.size())
    return Error(Code::kCorruption, "a cpio header holds what is no number");
  return value;
}

}  // namespace

Result<size_t> CpioScanner::feed(ByteSpan piece) {
  size_t used = 0;
  while (state_ != State::kEnded) {
    const size_t skipped = std::min<uint64_t>(skip_, piece.size() - used);
    skip_ -= skipped;
    used += skipped;
    const size_t taken = std::min<uint64_t>(needed_ - part_.size(), piece.size() - used);
    part_.insert(part_.end(), piece.begin() + static_cast<ptrdiff_t>(used),
                 piece.begin() + static_cast<ptrdiff_t>(used + taken));
    used += taken;
    if (skip_ > 0 || part_.size() < needed_) break;
    RECLO_TRY(step());
  }
  return used;
}

// `part_` holds all that the state waits for.
Status CpioScanner::step() {
  if (state_ == State::kHeader) {
    const std::string_view header = as_text(part_);
    if (!header.starts_with("070701") && !header.starts_with("070702"))
      return Error(Code::kCorruption, "a cpio header is missing where one has to be");
    RECLO_ASSIGN_OR_RETURN(entry_.mode, field(header, 1));
    RECLO_ASSIGN_OR_RETURN(const uint32_t content_size, field(header, 6));
    RECLO_ASSIGN_OR_RETURN(name_size_, field(header, 11));
    if (name_size_ == 0 || name_size_ > kNameSizeBytesMax || ++entries_ > kEntriesMax)
      return Error(Code::kCorruption, "a cpio archive goes past all bounds");
    content_size_ = content_size;
    needed_ = round_up(kHeaderSizeBytes + name_size_, 4) - kHeaderSizeBytes;
    state_ = State::kName;
  } else if (state_ == State::kName) {
    std::string_view name = as_text(part_).substr(0, name_size_ - 1);
    if (name.starts_with("./")) name.remove_prefix(2);
    entry_.name = std::string(name);
    entry_.content.clear();
    if (name == kEndName) {
      state_ = State::kEnded;
      return {};
    }
    keeps_content_ = content_size_ <= kContentSizeBytesMax && wants_content_(entry_.name);
    const uint64_t padded = round_up(content_size_, 4);
    needed_ = keeps_content_ ? padded : 0;
    skip_ = keeps_content_ ? 0 : padded;
    state_ = State::kContent;
  } else {
    if (keeps_content_) {
      part_.resize(content_size_);
      entry_.content = std::move(part_);
    }
    on_entry_(std::move(entry_));
    entry_ = {};
    needed_ = kHeaderSizeBytes;
    state_ = State::kHeader;
  }
  part_.clear();
  return {};
}

void CpioWriter::add(const std::string& name, ByteSpan content, uint32_t mode, uint32_t links) {
  // Inode, mode, owner, group, links, time, size, device (2), its own device (2), name, check sum.
  const std::string header = fmt::format(
      "070701{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}{:08x}",
      inode_++, mode, 0, 0, links, 0, content.size(), 0, 0, 0, 0, name.size() + 1, 0);
  out_.insert(out_.end(), header.begin(), header.end());
  out_.insert(out_.end(), name.begin(), name.end());
  out_.push_back(0);
  out_.resize(round_up(out_.size(), 4));
  out_.insert(out_.end(), content.begin(), content.end());
  out_.resize(round_up(out_.size(), 4));
}

void CpioWriter::add_folder(const std::string& name) { add(name, {}, 040755, 2); }

void CpioWriter::add_file(const std::string& name, ByteSpan content, uint32_t mode) {
  add(name, content, 0100000 | mode, 1);
}

Bytes CpioWriter::finish() && {
  add(std::string(kEndName), {}, 0, 1);
  return std::move(out_);
}

}  // namespace reclo::recovery
