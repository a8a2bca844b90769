#include "disk/ext_journal.h"

#include <algorithm>

#include "disk/endian.h"

namespace reclo::disk {
namespace {

constexpr uint32_t kMagic = 0xc03b3998;
constexpr uint32_t kTypeDescriptor = 1;
constexpr uint32_t kTypeCommit = 2;
constexpr uint32_t kTypeSuperV1 = 3;
constexpr uint32_t kTypeSuperV2 = 4;
constexpr uint32_t kTypeRevoke = 5;

constexpr uint32_t kFeatureRevoke = 0x1;
constexpr uint32_t kFeature64Bit = 0x2;
constexpr uint32_t kFeatureAsyncCommit = 0x4;
constexpr uint32_t kFeatureCsumV2 = 0x8;
constexpr uint32_t kFeatureCsumV3 = 0x10;
// Fast commits (0x20) describe inodes and extents, not blocks: they are not followed here.
constexpr uint32_t kFeaturesKnown =
    kFeatureRevoke | kFeature64Bit | kFeatureAsyncCommit | kFeatureCsumV2 | kFeatureCsumV3;

constexpr uint32_t kTagEscaped = 0x1;
constexpr uint32_t kTagSameUuid = 0x2;
constexpr uint32_t kTagLast = 0x8;

constexpr size_t kHeaderSizeBytes = 12;
constexpr size_t kUuidSizeBytes = 16;

size_t tag_size_bytes(uint32_t features) {
  if ((features & kFeatureCsumV3) != 0) return 16;
  return size_t{8} + ((features & kFeature64Bit) != 0 ? 4 : 0) +
         ((features & kFeatureCsumV2) != 0 ? 2 : 0);
}

struct BlockMapping {
  std::vector<uint64_t>* blocks = nullptr;
  uint64_t block_count_max = 0;  // of the file system
  size_t calls = 0;
  bool sound = true;
};

int map_one_block(ext2_filsys, blk64_t* block, e2_blkcnt_t index, blk64_t, int, void* user_data) {
  auto& mapping = *static_cast<BlockMapping*>(user_data);
  // Blocks of pointers count too: crafted ones that point to each other must not keep us busy.
  mapping.sound = ++mapping.calls <= 2 * ExtJournal::kJournalBlocksMax &&
                  *block < mapping.block_count_max &&
                  (index < 0 || (static_cast<size_t>(index) == mapping.blocks->size() &&
                                 mapping.blocks->size() < ExtJournal::kJournalBlocksMax));
  if (!mapping.sound) return BLOCK_ABORT;
  if (index >= 0) mapping.blocks->push_back(*block);
  return 0;
}

}  // namespace

ExtJournal ExtJournal::read(ext2_filsys fs, ExtDevice& device) {
  ExtJournal journal(fs, device);
  if (!ext2fs_has_feature_journal(fs->super)) return journal;
  const bool dirty = ext2fs_has_feature_journal_needs_recovery(fs->super);
  if (fs->super->s_journal_inum == 0) {
    if (dirty) journal.why_not_ = "dirty, and its journal is on another device";
    return journal;
  }
  Superblock super;
  if (!journal.map_blocks() || !journal.read_superblock(super)) {
    if (journal.why_not_.empty()) journal.why_not_ = "its journal cannot be read";
    return journal;
  }
  if (super.start != 0) journal.walk_log(super);
  return journal;
}

bool ExtJournal::map_blocks() {
  BlockMapping mapping;
  mapping.blocks = &blocks_;
  mapping.block_count_max = ext2fs_blocks_count(fs_->super);
  const errcode_t failed = ext2fs_block_iterate3(
      fs_, fs_->super->s_journal_inum, BLOCK_FLAG_READ_ONLY, nullptr, map_one_block, &mapping);
  return failed == 0 && mapping.sound && !blocks_.empty();
}

bool ExtJournal::read_block(uint32_t index, MutableByteSpan out) const {
  return index < blocks_.size() && device_->read(blocks_[index] * fs_->blocksize, out);
}

bool ExtJournal::read_superblock(Superblock& out) {
  Bytes block(fs_->blocksize);
  if (!read_block(0, block)) return false;
  const auto field = [&](size_t offset) { return load_be<uint32_t>(&block[offset]); };
  const uint32_t type = field(4);
  if (field(0) != kMagic || (type != kTypeSuperV1 && type != kTypeSuperV2)) return false;
  out.block_count = field(16);
  out.first = field(20);
  out.sequence = field(24);
  out.start = field(28);
  out.features = type == kTypeSuperV2 ? field(40) : 0;
  if (field(32) != 0) {
    why_not_ = "its journal has recorded an error: check the file system";
    return false;
  }
  const bool fast_commit = ext2fs_has_feature_fast_commit(fs_->super);
  if (out.start != 0 && ((out.features & ~kFeaturesKnown) != 0 || fast_commit)) {
    why_not_ = "dirty, and its journal uses features (fast commits) that are not followed";
    return false;
  }
  return field(12) == fs_->blocksize && out.block_count <= blocks_.size() && out.first >= 1 &&
         out.first < out.block_count && out.start < out.block_count;
}

void ExtJournal::walk_log(const Superblock& super) {
  Bytes block(fs_->blocksize);
  uint32_t sequence = super.sequence;
  uint32_t index = super.start;
  // No block of the log is visited twice.
  for (uint32_t steps_left = super.block_count; steps_left > 0; --steps_left) {
    if (!read_block(index, block)) {
      why_not_ = "its journal cannot be read";
      return;
    }
    if (load_be<uint32_t>(&block[0]) != kMagic || load_be<uint32_t>(&block[8]) != sequence) break;
    const auto type = load_be<uint32_t>(&block[4]);
    if (type != kTypeDescriptor && type != kTypeCommit && type != kTypeRevoke) break;
    if (++index >= super.block_count) index = super.first;
    if (type == kTypeDescriptor) index = read_descriptor(block, index, super, steps_left);
    if (type == kTypeCommit) ++sequence;
  }
  std::sort(copies_.begin(), copies_.end(),
            [](const Copy& a, const Copy& b) { return a.target_block < b.target_block; });
}

uint32_t ExtJournal::read_descriptor(ByteSpan block, uint32_t index, const Superblock& super,
                                     uint32_t& steps_left) {
  const size_t tag_size = tag_size_bytes(super.features);
  const bool has_tail = (super.features & (kFeatureCsumV2 | kFeatureCsumV3)) != 0;
  const size_t end = block.size() - (has_tail ? 4 : 0);
  size_t at = kHeaderSizeBytes;
  while (at + tag_size <= end && steps_left > 1) {
    const uint8_t* tag = &block[at];
    const bool v3 = (super.features & kFeatureCsumV3) != 0;
    const uint32_t flags = v3 ? load_be<uint32_t>(tag + 4) : load_be<uint16_t>(tag + 6);
    Copy copy;
    copy.target_block = load_be<uint32_t>(tag);
    if ((super.features & kFeature64Bit) != 0)
      copy.target_block |= uint64_t{load_be<uint32_t>(tag + 8)} << 32;
    copy.journal_block = index;
    copy.escaped = (flags & kTagEscaped) != 0;
    copies_.push_back(copy);
    --steps_left;
    if (++index >= super.block_count) index = super.first;
    at += tag_size + ((flags & kTagSameUuid) != 0 ? 0 : kUuidSizeBytes);
    if ((flags & kTagLast) != 0) break;
  }
  return index;
}

bool ExtJournal::has_copy(uint64_t block) const {
  return std::binary_search(
      copies_.begin(), copies_.end(), Copy{block},
      [](const Copy& a, const Copy& b) { return a.target_block < b.target_block; });
}

bool ExtJournal::for_each_copy(uint64_t block, const std::function<void(ByteSpan)>& visit) const {
  Bytes content;
  auto copy =
      std::lower_bound(copies_.begin(), copies_.end(), block,
                       [](const Copy& a, uint64_t wanted) { return a.target_block < wanted; });
  for (; copy != copies_.end() && copy->target_block == block; ++copy) {
    content.resize(fs_->blocksize);
    if (!read_block(copy->journal_block, content)) return false;
    // A block that starts like a journal header was stored with zeros there.
    if (copy->escaped)
      for (size_t i = 0; i < 4; ++i) content[i] = static_cast<uint8_t>(kMagic >> (24 - 8 * i));
    visit(content);
  }
  return true;
}

}  // namespace reclo::disk
