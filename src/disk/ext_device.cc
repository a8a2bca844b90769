#include "disk/ext_device.h"

#include <algorithm>
#include <cstring>

namespace reclo::disk {
namespace {

// libext2fs passes only a name to open(); this carries the object over that call.
thread_local ExtDevice* opening_device = nullptr;

ExtDevice& device_of(io_channel channel) { return *static_cast<ExtDevice*>(channel->private_data); }

errcode_t open_channel(const char* name, int /*flags*/, io_channel* out);

errcode_t close_channel(io_channel channel) {
  if (--channel->refcount > 0) return 0;
  ext2fs_free_mem(&channel->name);
  ext2fs_free_mem(&channel);
  return 0;
}

errcode_t set_block_size(io_channel channel, int block_size_bytes) {
  channel->block_size = block_size_bytes;
  return 0;
}

// A negative count is a number of bytes.
errcode_t read_blocks(io_channel channel, unsigned long long block, int count, void* out) {
  const auto block_size_bytes = static_cast<uint64_t>(channel->block_size);
  const uint64_t size_bytes =
      count < 0 ? static_cast<uint64_t>(-int64_t{count}) : block_size_bytes * uint64_t(count);
  uint64_t offset_bytes = 0;
  if (__builtin_mul_overflow(block, block_size_bytes, &offset_bytes)) return EXT2_ET_SHORT_READ;
  const MutableByteSpan bytes(static_cast<uint8_t*>(out), size_bytes);
  if (device_of(channel).read(offset_bytes, bytes)) return 0;
  std::memset(out, 0, size_bytes);
  return EXT2_ET_SHORT_READ;
}

errcode_t read_blocks_32(io_channel channel, unsigned long block, int count, void* out) {
  return read_blocks(channel, block, count, out);
}

errcode_t refuse_write(io_channel, unsigned long long, int, const void*) {
  return EXT2_ET_RO_FILSYS;
}
errcode_t refuse_write_32(io_channel, unsigned long, int, const void*) { return EXT2_ET_RO_FILSYS; }
errcode_t flush_nothing(io_channel) { return 0; }

io_manager manager() {
  static struct_io_manager instance = [] {
    struct_io_manager out{};
    out.magic = EXT2_ET_MAGIC_IO_MANAGER;
    out.name = "ReClo";
    out.open = open_channel;
    out.close = close_channel;
    out.set_blksize = set_block_size;
    out.read_blk = read_blocks_32;
    out.read_blk64 = read_blocks;
    out.write_blk = refuse_write_32;
    out.write_blk64 = refuse_write;
    out.flush = flush_nothing;
    return out;
  }();
  return &instance;
}

errcode_t open_channel(const char* name, int /*flags*/, io_channel* out) {
  io_channel channel = nullptr;
  if (const errcode_t failed = ext2fs_get_memzero(sizeof(struct struct_io_channel), &channel))
    return failed;
  if (const errcode_t failed = ext2fs_get_mem(std::strlen(name) + 1, &channel->name)) {
    ext2fs_free_mem(&channel);
    return failed;
  }
  std::memcpy(channel->name, name, std::strlen(name) + 1);
  channel->magic = EXT2_ET_MAGIC_IO_CHANNEL;
  channel->manager = manager();
  channel->block_size = 1024;
  channel->refcount = 1;
  channel->private_data = opening_device;
  *out = channel;
  return 0;
}

}  // namespace

ExtFs ExtDevice::open_file_system() {
  opening_device = this;
  ext2_filsys fs = nullptr;
  const errcode_t failed = ext2fs_open2("disk", nullptr, EXT2_FLAG_64BITS, 0, 0, manager(), &fs);
  opening_device = nullptr;
  return ExtFs(failed == 0 ? fs : nullptr);
}

bool ExtDevice::read_direct(uint64_t offset_bytes, MutableByteSpan out) {
  const Status status = volume_.read_at(offset_bytes, out);
  if (!status.ok()) error_ = status.error();
  return status.ok();
}

bool ExtDevice::read(uint64_t offset_bytes, MutableByteSpan out) {
  if (error_ || cancel_.fired() || ++read_count_ > kReadsMax) return false;
  if (offset_bytes > volume_.size_bytes || out.size() > volume_.size_bytes - offset_bytes)
    return false;
  if (out.size() > kWindowSizeBytes / 2) return read_direct(offset_bytes, out);
  const bool inside = offset_bytes >= window_offset_bytes_ &&
                      offset_bytes + out.size() <= window_offset_bytes_ + window_.size();
  if (!inside) {
    window_.resize(std::min<uint64_t>(kWindowSizeBytes, volume_.size_bytes - offset_bytes));
    window_offset_bytes_ = offset_bytes;
    if (!read_direct(offset_bytes, window_)) {
      window_.clear();
      return false;
    }
  }
  std::memcpy(out.data(), window_.data() + (offset_bytes - window_offset_bytes_), out.size());
  return true;
}

Status ExtDevice::trouble() const {
  RECLO_TRY(cancel_.check());
  if (error_) return *error_;
  return {};
}

}  // namespace reclo::disk
