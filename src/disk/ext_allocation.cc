#include "disk/ext_allocation.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "disk/ext_device.h"
#include "disk/ext_journal.h"

namespace reclo::disk {
namespace {

constexpr uint64_t kSuperOffsetBytes = 1024;
constexpr size_t kSuperSizeBytes = 1024;
constexpr uint16_t kStateClean = 0x1;
constexpr uint16_t kStateErrors = 0x2;

// A run of file system blocks.
struct BlockRun {
  uint64_t first = 0;
  uint64_t end = 0;
};

// What libext2fs would allocate memory by is checked before it sees the superblock.
bool superblock_is_plausible(ByteSpan super, uint64_t volume_size_bytes) {
  const auto u16 = [&](size_t at) { return load_le<uint16_t>(&super[at]); };
  const auto u32 = [&](size_t at) { return load_le<uint32_t>(&super[at]); };
  constexpr uint32_t kIncompat64Bit = 0x80;
  if (u16(0x38) != 0xEF53 || u32(0x18) > 6 || u32(0x4C) > 1) return false;
  const uint64_t block_size_bytes = uint64_t{1024} << u32(0x18);
  const bool is_64bit = (u32(0x60) & kIncompat64Bit) != 0;
  const uint64_t block_count = u32(0x04) | (is_64bit ? uint64_t{u32(0x150)} << 32 : 0);
  const uint32_t blocks_per_group = u32(0x20);
  const uint32_t inodes_per_group = u32(0x28);
  if (block_count == 0 || block_count > volume_size_bytes / block_size_bytes) return false;
  const uint32_t clusters_per_group = u32(0x24);
  if (blocks_per_group < 256 || blocks_per_group % 8 != 0) return false;
  if (clusters_per_group == 0 || clusters_per_group > 8 * block_size_bytes) return false;
  if (inodes_per_group == 0 || inodes_per_group > 8 * block_size_bytes) return false;
  const uint64_t group_count = divide_up(block_count, blocks_per_group);
  const uint64_t descriptor_size_bytes = is_64bit ? u16(0xFE) : 32;
  return (descriptor_size_bytes == 32 || descriptor_size_bytes == 64 ||
          descriptor_size_bytes == 128) &&
         group_count * descriptor_size_bytes <= kExtDescriptorsSizeBytesMax;
}

// Why the file system as a whole cannot be judged, or "".
std::string why_not_trusted(ext2_filsys fs) {
  const ext2_super_block& super = *fs->super;
  if ((super.s_feature_ro_compat & ~EXT2_LIB_FEATURE_RO_COMPAT_SUPP) != 0)
    return "uses features that are newer than this program";
  if ((super.s_state & kStateErrors) != 0) return "has recorded errors: check the file system";
  if (ext2fs_has_feature_bigalloc(fs->super) && super.s_first_data_block != 0)
    return "has an unusual cluster layout";
  const bool dirty_without_journal =
      (super.s_state & kStateClean) == 0 && !ext2fs_has_feature_journal_needs_recovery(fs->super);
  if (dirty_without_journal) return "was not cleanly unmounted and has no journal to replay";
  return "";
}

/// Walks the groups of one open file system.
class GroupWalk {
 public:
  GroupWalk(ext2_filsys fs, ExtDevice& device, const ExtJournal& journal, uint64_t base_bytes,
            RangeCollector& out)
      : fs_(fs), device_(device), journal_(journal), base_bytes_(base_bytes), out_(out) {}

  /// Adds what is free; returns the number of groups that had to be kept whole.
  uint64_t run();

 private:
  // What the log says about one group's descriptor.
  struct DescriptorCopies {
    bool initialised = false;  // some copy has the group's bitmap in use
    bool moved = false;        // some copy has the bitmap elsewhere
    std::vector<uint32_t> bitmap_checksums;
  };

  void collect_metadata();
  bool load_descriptor_copies(dgrp_t first_group);
  void read_descriptor_copy(ByteSpan block, dgrp_t first_group);
  bool add_group(dgrp_t group);
  void add_uninitialised_group(dgrp_t group);
  bool bitmap_is_trusted(dgrp_t group, MutableByteSpan bitmap, bool in_journal) const;
  void add_clear_bits(dgrp_t group, ByteSpan bitmap);
  void add_run(uint64_t first_block, uint64_t end_block);

  uint64_t first_block(dgrp_t group) const { return ext2fs_group_first_block2(fs_, group); }
  uint64_t end_block(dgrp_t group) const { return ext2fs_group_last_block2(fs_, group) + 1; }

  ext2_filsys fs_;
  ExtDevice& device_;
  const ExtJournal& journal_;
  const uint64_t base_bytes_;
  RangeCollector& out_;
  std::vector<BlockRun> metadata_;  // all groups' bitmaps and inode tables, merged, ascending
  std::vector<DescriptorCopies> descriptor_copies_;  // of the groups of one descriptor block
};

uint64_t GroupWalk::run() {
  collect_metadata();
  const auto groups_per_block = static_cast<dgrp_t>(EXT2_DESC_PER_BLOCK(fs_->super));
  uint64_t kept_count = 0;
  bool copies_are_read = true;
  for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
    if (group % groups_per_block == 0) copies_are_read = load_descriptor_copies(group);
    if (!copies_are_read || !add_group(group)) ++kept_count;
    if (group % 256 == 0 && !device_.trouble().ok()) break;
  }
  return kept_count;
}

void GroupWalk::collect_metadata() {
  if (!ext2fs_has_group_desc_csum(fs_)) return;  // no uninitialised groups then
  for (dgrp_t group = 0; group < fs_->group_desc_count; ++group) {
    const uint64_t block_bitmap = ext2fs_block_bitmap_loc(fs_, group);
    const uint64_t inode_bitmap = ext2fs_inode_bitmap_loc(fs_, group);
    const uint64_t inode_table = ext2fs_inode_table_loc(fs_, group);
    metadata_.push_back({block_bitmap, block_bitmap + 1});
    metadata_.push_back({inode_bitmap, inode_bitmap + 1});
    metadata_.push_back({inode_table, inode_table + fs_->inode_blocks_per_group});
  }
  const uint64_t block_count = ext2fs_blocks_count(fs_->super);
  std::erase_if(metadata_, [&](const BlockRun& run) { return run.first >= block_count; });
  std::sort(metadata_.begin(), metadata_.end(),
            [](const BlockRun& a, const BlockRun& b) { return a.first < b.first; });
  size_t kept = 0;
  for (const BlockRun& run : metadata_) {
    if (kept > 0 && run.first <= metadata_[kept - 1].end) {
      metadata_[kept - 1].end = std::max(metadata_[kept - 1].end, run.end);
    } else {
      metadata_[kept++] = run;
    }
  }
  metadata_.resize(kept);
}

bool GroupWalk::load_descriptor_copies(dgrp_t first_group) {
  descriptor_copies_.clear();
  if (journal_.empty()) return true;
  const auto groups_per_block = static_cast<dgrp_t>(EXT2_DESC_PER_BLOCK(fs_->super));
  const uint64_t block = ext2fs_descriptor_block_loc2(fs_, fs_->super->s_first_data_block,
                                                      first_group / groups_per_block);
  if (!journal_.has_copy(block)) return true;
  descriptor_copies_.resize(std::min(groups_per_block, fs_->group_desc_count - first_group));
  return journal_.for_each_copy(block,
                                [&](ByteSpan copy) { read_descriptor_copy(copy, first_group); });
}

void GroupWalk::read_descriptor_copy(ByteSpan block, dgrp_t first_group) {
  const size_t size_bytes = EXT2_DESC_SIZE(fs_->super);
  for (size_t i = 0; i < descriptor_copies_.size(); ++i) {
    const uint8_t* descriptor = &block[i * size_bytes];
    uint64_t bitmap_block = load_le<uint32_t>(descriptor);
    uint32_t checksum = load_le<uint16_t>(descriptor + 0x18);
    if (size_bytes >= 64) {
      bitmap_block |= uint64_t{load_le<uint32_t>(descriptor + 0x20)} << 32;
      checksum |= uint32_t{load_le<uint16_t>(descriptor + 0x38)} << 16;
    }
    DescriptorCopies& copies = descriptor_copies_[i];
    const auto group = static_cast<dgrp_t>(first_group + i);
    if (bitmap_block != ext2fs_block_bitmap_loc(fs_, group)) copies.moved = true;
    if ((load_le<uint16_t>(descriptor + 0x12) & EXT2_BG_BLOCK_UNINIT) == 0) {
      copies.initialised = true;
      if (std::find(copies.bitmap_checksums.begin(), copies.bitmap_checksums.end(), checksum) ==
          copies.bitmap_checksums.end())
        copies.bitmap_checksums.push_back(checksum);
    }
  }
}

// False when the group's bitmap cannot be trusted: all of it is kept.
bool GroupWalk::add_group(dgrp_t group) {
  if (!ext2fs_group_desc_csum_verify(fs_, group)) return false;
  const auto groups_per_block = static_cast<dgrp_t>(EXT2_DESC_PER_BLOCK(fs_->super));
  const DescriptorCopies* copies =
      descriptor_copies_.empty() ? nullptr : &descriptor_copies_[group % groups_per_block];
  if (copies != nullptr && copies->moved) return false;
  const uint64_t bitmap_block = ext2fs_block_bitmap_loc(fs_, group);
  const bool in_journal = journal_.has_copy(bitmap_block);
  const bool uninitialised = ext2fs_has_group_desc_csum(fs_) &&
                             ext2fs_bg_flags_test(fs_, group, EXT2_BG_BLOCK_UNINIT) &&
                             !in_journal && (copies == nullptr || !copies->initialised);
  if (uninitialised) {
    add_uninitialised_group(group);
    return true;
  }
  Bytes bitmap(fs_->blocksize);
  if (bitmap_block >= ext2fs_blocks_count(fs_->super) ||
      !device_.read(bitmap_block * fs_->blocksize, bitmap) ||
      !bitmap_is_trusted(group, bitmap, in_journal))
    return false;
  const bool all_read = journal_.for_each_copy(bitmap_block, [&](ByteSpan copy) {
    for (size_t i = 0; i < bitmap.size(); ++i) bitmap[i] |= copy[i];
  });
  if (all_read) add_clear_bits(group, bitmap);
  return all_read;
}

bool GroupWalk::bitmap_is_trusted(dgrp_t group, MutableByteSpan bitmap, bool in_journal) const {
  if (!ext2fs_has_feature_metadata_csum(fs_->super)) return true;
  const size_t size_bytes = fs_->super->s_clusters_per_group / 8;
  if (ext2fs_block_bitmap_csum_verify(fs_, group, reinterpret_cast<char*>(bitmap.data()),
                                      static_cast<int>(size_bytes)))
    return true;
  // The log writes a bitmap and its descriptor together, but they reach their places apart: the
  // one on disk may belong to a descriptor that is still in the log, or may be replaced from there.
  if (in_journal) return true;
  if (descriptor_copies_.empty()) return false;
  const auto groups_per_block = static_cast<dgrp_t>(EXT2_DESC_PER_BLOCK(fs_->super));
  const auto& known = descriptor_copies_[group % groups_per_block].bitmap_checksums;
  uint32_t checksum = ext2fs_crc32c_le(fs_->csum_seed, bitmap.data(), size_bytes);
  if (EXT2_DESC_SIZE(fs_->super) < 64) checksum &= 0xFFFF;
  return std::find(known.begin(), known.end(), checksum) != known.end();
}

// Such a group holds nothing but file system metadata, which need not be its own (flex_bg).
void GroupWalk::add_uninitialised_group(dgrp_t group) {
  const uint64_t cluster_blocks = uint64_t{1} << fs_->cluster_ratio_bits;
  uint64_t at = first_block(group);
  const uint64_t end = end_block(group);
  // Room for copies of the superblock and the descriptors, taken generously.
  if (ext2fs_bg_has_super(fs_, group))
    at += 1 + fs_->desc_blocks + fs_->super->s_reserved_gdt_blocks;
  at += 2;  // with meta_bg, the block of descriptors stands first or second
  auto run = std::lower_bound(metadata_.begin(), metadata_.end(), first_block(group),
                              [](const BlockRun& a, uint64_t block) { return a.end <= block; });
  for (; run != metadata_.end() && run->first < end; ++run) {
    if (run->first > at)
      add_run(round_up(at, cluster_blocks), run->first / cluster_blocks * cluster_blocks);
    at = std::max(at, run->end);
  }
  add_run(round_up(at, cluster_blocks), end);
}

void GroupWalk::add_clear_bits(dgrp_t group, ByteSpan bitmap) {
  const uint64_t start = first_block(group);
  const uint64_t end = end_block(group);
  const auto ratio_bits = static_cast<unsigned>(fs_->cluster_ratio_bits);
  const uint64_t bit_count =
      std::min<uint64_t>(divide_up(end - start, uint64_t{1} << ratio_bits), bitmap.size() * 8);
  uint64_t run_start = 0;
  bool in_run = false;
  for (uint64_t bit = 0; bit < bit_count;) {
    const uint8_t byte = bitmap[bit / 8];
    const bool whole_byte = bit % 8 == 0 && bit + 8 <= bit_count && (byte == 0 || byte == 0xFF);
    const bool is_free = ((byte >> (bit % 8)) & 1) == 0;
    if (is_free && !in_run) run_start = bit;
    if (!is_free && in_run) add_run(start + (run_start << ratio_bits), start + (bit << ratio_bits));
    in_run = is_free;
    bit += whole_byte ? 8 : 1;
  }
  if (in_run)
    add_run(start + (run_start << ratio_bits), std::min(end, start + (bit_count << ratio_bits)));
}

void GroupWalk::add_run(uint64_t first_block, uint64_t end_block) {
  if (end_block <= first_block) return;
  out_.add(
      {base_bytes_ + first_block * fs_->blocksize, (end_block - first_block) * fs_->blocksize});
}

}  // namespace

Result<std::string> collect_ext_free(const Readable& volume, uint64_t base_bytes,
                                     RangeCollector& out, const CancelToken& cancel) {
  if (volume.size_bytes < kSuperOffsetBytes + kSuperSizeBytes) return std::string("too small");
  Bytes super(kSuperSizeBytes);
  RECLO_TRY(volume.read_at(kSuperOffsetBytes, super));
  if (!superblock_is_plausible(super, volume.size_bytes))
    return std::string("its superblock does not make sense");

  ExtDevice device(volume, cancel);
  const ExtFs fs = device.open_file_system();
  RECLO_TRY(device.trouble());
  if (!fs) return std::string("libext2fs does not know its features or layout");
  std::string note = why_not_trusted(fs.get());
  if (!note.empty()) return note;
  const ExtJournal journal = ExtJournal::read(fs.get(), device);
  RECLO_TRY(device.trouble());
  if (!journal.why_not().empty()) return journal.why_not();

  const uint64_t kept_count = GroupWalk(fs.get(), device, journal, base_bytes, out).run();
  RECLO_TRY(device.trouble());
  if (kept_count > 0)
    note = fmt::format("{} of {} block groups are kept whole: their checksums or copies disagree",
                       kept_count, fs->group_desc_count);
  return note;
}

}  // namespace reclo::disk
