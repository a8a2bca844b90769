#include "backup/chunk_index.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "base/log.h"
#include "base/units.h"

namespace reclo::backup {
namespace {

constexpr std::string_view kMagic = "RCLOIDX2";
constexpr size_t kHeaderSize = 4096;
constexpr size_t kEntrySize = 48;
constexpr uint64_t kCapacityFirst = 1 << 14;
constexpr uint64_t kCapacityMax = uint64_t{1} << 32;

// Entry: id 16 | epoch u32 | disk u16 | pages u16 | segment u32 | pack number u32 | offset u32 |
//        stored u32 | slot u16 | zero u16 | checksum u32. An unused entry has epoch 0.
struct Entry {
  ChunkId id;
  uint32_t epoch = 0;
  uint16_t disk = 0;
  uint16_t pages = 0;
  uint32_t segment = 0;
  uint32_t pack_number = 0;
  uint32_t offset_bytes = 0;
  uint32_t stored_bytes = 0;
  uint16_t slot = 0;
};

uint32_t checksum_of(const uint8_t* entry) {
  uint64_t mixed = 0x9e3779b97f4a7c15u;
  for (size_t i = 0; i + 8 <= kEntrySize; i += 8) {
    uint64_t word = load_le<uint64_t>(entry + i);
    if (i + 8 == kEntrySize) word &= 0xffffffffu;  // without the checksum itself
    mixed = (mixed ^ word) * 0xff51afd7ed558ccdu;
    mixed ^= mixed >> 32;
  }
  return static_cast<uint32_t>(mixed);
}

void encode_entry(const Entry& entry, uint8_t* to) {
  std::memset(to, 0, kEntrySize);
  std::memcpy(to, entry.id.bytes().data(), ChunkId::kSize);
  store_le(to + 16, entry.epoch);
  store_le(to + 20, entry.disk);
  store_le(to + 22, entry.pages);
  store_le(to + 24, entry.segment);
  store_le(to + 28, entry.pack_number);
  store_le(to + 32, entry.offset_bytes);
  store_le(to + 36, entry.stored_bytes);
  store_le(to + 40, entry.slot);
  store_le(to + 44, checksum_of(to));
}

std::optional<Entry> decode_entry(const uint8_t* from) {
  if (load_le<uint32_t>(from + 44) != checksum_of(from)) return std::nullopt;
  Entry entry;
  entry.id = ChunkId::from_bytes({from, ChunkId::kSize});
  entry.epoch = load_le<uint32_t>(from + 16);
  entry.disk = load_le<uint16_t>(from + 20);
  entry.pages = load_le<uint16_t>(from + 22);
  entry.segment = load_le<uint32_t>(from + 24);
  entry.pack_number = load_le<uint32_t>(from + 28);
  entry.offset_bytes = load_le<uint32_t>(from + 32);
  entry.stored_bytes = load_le<uint32_t>(from + 36);
  entry.slot = load_le<uint16_t>(from + 40);
  return entry;
}

uint64_t low_word(const ChunkId& id) { return load_le<uint64_t>(id.bytes().data()); }
uint64_t high_word(const ChunkId& id) { return load_le<uint64_t>(id.bytes().data() + 8); }

}  // namespace

ChunkIndex::ChunkIndex(std::string path, const SessionId& session)
    : path_(std::move(path)), session_(session) {}

ChunkIndex::~ChunkIndex() {
  if (memory_ == nullptr) return;
  store_le(memory_ + 16, count_);
  ::munmap(memory_, memory_size_);
}

Status ChunkIndex::map_file(uint64_t capacity, bool fresh) {
  const size_t size = kHeaderSize + capacity * kEntrySize;
  // Blocks are reserved up front: a full disk is an error here, not a SIGBUS later.
  if (const int failure = ::posix_fallocate(fd_.get(), 0, static_cast<off_t>(size)); failure != 0)
    return Error::from_errno(failure, "make room for " + path_);
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
  if (memory == MAP_FAILED) return Error::from_errno(errno, "map " + path_);
  memory_ = static_cast<uint8_t*>(memory);
  memory_size_ = size;
  capacity_ = capacity;
  if (fresh) {
    std::memcpy(memory_, kMagic.data(), kMagic.size());
    store_le(memory_ + 8, capacity);
    store_le(memory_ + 16, uint64_t{0});
    store_le(memory_ + 24, uint32_t{0});
  }
  return {};
}

Result<std::unique_ptr<ChunkIndex>> ChunkIndex::open(const std::string& path,
                                                     const SessionId& session) {
  std::unique_ptr<ChunkIndex> index(new ChunkIndex(path, session));
  RECLO_ASSIGN_OR_RETURN(index->fd_, os::open_file(path, os::OpenMode::kCreate));
  RECLO_ASSIGN_OR_RETURN(const uint64_t size_bytes, os::file_size_bytes(path));
  Bytes header(32);
  uint64_t capacity = 0;
  if (size_bytes >= kHeaderSize && os::read_at(index->fd_, 0, header).ok() &&
      as_text(ByteSpan(header).first(8)) == kMagic) {
    capacity = load_le<uint64_t>(header.data() + 8);
    const bool sane = capacity >= kCapacityFirst && capacity <= kCapacityMax &&
                      (capacity & (capacity - 1)) == 0 &&
                      size_bytes == kHeaderSize + capacity * kEntrySize;
    if (!sane) capacity = 0;
  }
  const bool fresh = capacity == 0;
  if (fresh && ::ftruncate(index->fd_.get(), 0) != 0)
    return Error::from_errno(errno, "reset " + path);
  RECLO_TRY(index->map_file(fresh ? kCapacityFirst : capacity, fresh));
  // A new epoch each run: whatever an earlier run left behind is a hint from now on.
  index->epoch_ = load_le<uint32_t>(index->memory_ + 24) + 1;
  store_le(index->memory_ + 24, index->epoch_);
  index->rebuild_filter();
  return index;
}

void ChunkIndex::rebuild_filter() {
  filter_.assign(std::max<uint64_t>(capacity_ / 8, 64), 0);  // 8 bits an entry of capacity
  count_ = 0;
  for (uint64_t i = 0; i < capacity_; ++i) {
    const uint8_t* entry = memory_ + kHeaderSize + i * kEntrySize;
    if (load_le<uint32_t>(entry + 16) == 0) continue;
    ++count_;
    filter_add(ChunkId::from_bytes({entry, ChunkId::kSize}));
  }
}

bool ChunkIndex::filter_may_have(const ChunkId& id) const {
  // One 64-bit block an id, five bits in it.
  const uint64_t block = filter_[high_word(id) % filter_.size()];
  uint64_t bits = low_word(id) >> 20;
  for (int i = 0; i < 5; ++i, bits >>= 6)
    if ((block >> (bits & 63) & 1) == 0) return false;
  return true;
}

void ChunkIndex::filter_add(const ChunkId& id) {
  uint64_t& block = filter_[high_word(id) % filter_.size()];
  uint64_t bits = low_word(id) >> 20;
  for (int i = 0; i < 5; ++i, bits >>= 6) block |= uint64_t{1} << (bits & 63);
}

std::optional<ChunkPlace> ChunkIndex::find(const ChunkId& id) const {
  std::lock_guard lock(mutex_);
  if (!filter_may_have(id)) return std::nullopt;
  for (uint64_t i = low_word(id) & (capacity_ - 1), probes = 0; probes < capacity_;
       i = (i + 1) & (capacity_ - 1), ++probes) {
    const uint8_t* at = memory_ + kHeaderSize + i * kEntrySize;
    if (load_le<uint32_t>(at + 16) == 0) return std::nullopt;
    if (std::memcmp(at, id.bytes().data(), ChunkId::kSize) != 0) continue;
    const auto entry = decode_entry(at);
    if (!entry) return std::nullopt;
    ChunkPlace found;
    found.disk_index = entry->disk;
    found.segment_index = entry->segment;
    if (entry->epoch == epoch_)
      found.stored = repo::ChunkRef{
          id,
          {{session_, entry->pack_number}, entry->slot, entry->offset_bytes, entry->stored_bytes},
          entry->pages};
    return found;
  }
  return std::nullopt;
}

void ChunkIndex::place(const uint8_t* entry) {
  const auto id = ChunkId::from_bytes({entry, ChunkId::kSize});
  uint64_t i = low_word(id) & (capacity_ - 1);
  for (;; i = (i + 1) & (capacity_ - 1)) {
    uint8_t* at = memory_ + kHeaderSize + i * kEntrySize;
    const bool unused = load_le<uint32_t>(at + 16) == 0;
    if (!unused && std::memcmp(at, entry, ChunkId::kSize) != 0) continue;
    if (unused) ++count_;
    std::memcpy(at, entry, kEntrySize);
    filter_add(id);
    return;
  }
}

Status ChunkIndex::grow() {
  const uint64_t old_capacity = capacity_;
  if (old_capacity >= kCapacityMax)
    return Error(Code::kResourceExhausted, "the chunk index is full");
  const std::string bigger = path_ + ".grow";
  RECLO_TRY(os::remove_file(bigger));
  RECLO_ASSIGN_OR_RETURN(os::Fd fd, os::open_file(bigger, os::OpenMode::kCreate));
  uint8_t* old_memory = memory_;
  const size_t old_size = memory_size_;
  std::swap(fd_, fd);
  if (Status mapped = map_file(old_capacity * 2, /*fresh=*/true); !mapped.ok()) {
    std::swap(fd_, fd);
    memory_ = old_memory;
    memory_size_ = old_size;
    capacity_ = old_capacity;
    ignore_error(os::remove_file(bigger), "a leftover is removed at the next growth");
    return mapped;
  }
  store_le(memory_ + 24, epoch_);
  count_ = 0;
  filter_.assign(capacity_ / 8, 0);
  for (uint64_t i = 0; i < old_capacity; ++i) {
    const uint8_t* entry = old_memory + kHeaderSize + i * kEntrySize;
    if (load_le<uint32_t>(entry + 16) != 0 && decode_entry(entry)) place(entry);
  }
  ::munmap(old_memory, old_size);
  return os::rename_durably(bigger, path_);
}

void ChunkIndex::insert(const repo::ChunkRef& chunk, uint16_t disk_index, uint64_t segment_index) {
  std::lock_guard lock(mutex_);
  if (full_) return;
  if (count_ * 10 >= capacity_ * 7) {
    if (const Status grown = grow(); !grown.ok()) {
      log_warning("content that moves will be stored again: {}", grown.error().message());
      full_ = true;
      return;
    }
  }
  Entry entry;
  entry.id = chunk.id;
  entry.epoch = epoch_;
  entry.disk = disk_index;
  entry.pages = chunk.pages;
  entry.segment = static_cast<uint32_t>(segment_index);
  entry.pack_number = chunk.at.pack.number;
  entry.offset_bytes = chunk.at.offset_bytes;
  entry.stored_bytes = chunk.at.stored_bytes;
  entry.slot = chunk.at.slot;
  uint8_t bytes[kEntrySize];
  encode_entry(entry, bytes);
  place(bytes);
}

uint64_t ChunkIndex::entry_count() const {
  std::lock_guard lock(mutex_);
  return count_;
}

}  // namespace reclo::backup
