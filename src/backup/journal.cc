#include "backup/journal.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>

#include "base/limits.h"
#include "crypto/hash.h"

namespace reclo::backup {
namespace {

// Record: u8 kind | u32 body length | first 8 bytes of SHA-256(kind ‖ body) | body. The first
// record is the header, the second the number of runs (u32); records of packs follow.
enum RecordKind : uint8_t { kHeaderRecord = 1, kRunRecord = 2, kPackRecord = 3 };
constexpr size_t kRecordHeaderSize = 1 + 4 + 8;
constexpr size_t kBodySizeBytesMax = 16 * kMiB;
constexpr size_t kChunkSize = 16 + 16 + 4 + 2 + 4 + 4 + 2 + 2 + 4;
constexpr uint64_t kJournalSizeBytesMax = 8 * kGiB;

Bytes checksum(uint8_t kind, ByteSpan body) {
  Bytes message{kind};
  message.insert(message.end(), body.begin(), body.end());
  const auto digest = crypto::sha256(message);
  return to_bytes(ByteSpan(digest).first(8));
}

Bytes make_record(uint8_t kind, ByteSpan body) {
  Bytes record;
  ByteWriter out(record);
  out.u8(kind);
  out.u32(static_cast<uint32_t>(body.size()));
  out.raw(checksum(kind, body));
  out.raw(body);
  return record;
}

Bytes encode_header(const JournalHeader& header) {
  Bytes body;
  ByteWriter out(body);
  out.raw(header.session.bytes());
  out.u8(header.parent ? 1 : 0);
  out.raw(header.parent ? header.parent->bytes() : PointId().bytes());
  out.raw(as_bytes(header.disks));
  return body;
}

void decode_header(ByteSpan body, JournalHeader& header) {
  ByteReader in(body);
  in.copy_to(header.session.mutable_bytes());
  const bool has_parent = in.u8() == 1;
  PointId parent;
  in.copy_to(parent.mutable_bytes());
  if (has_parent) header.parent = parent;
  header.disks = std::string(as_text(in.raw(in.remaining())));
}

Bytes encode_start(const JournalHeader& header, uint32_t runs) {
  Bytes start = make_record(kHeaderRecord, encode_header(header));
  Bytes body;
  ByteWriter(body).u32(runs);
  const Bytes run = make_record(kRunRecord, body);
  start.insert(start.end(), run.begin(), run.end());
  return start;
}

void encode_chunk(ByteWriter& out, const JournaledChunk& entry) {
  out.raw(entry.chunk.id.bytes());
  out.raw(entry.chunk.at.pack.session.bytes());
  out.u32(entry.chunk.at.pack.number);
  out.u16(entry.chunk.at.slot);
  out.u32(entry.chunk.at.offset_bytes);
  out.u32(entry.chunk.at.stored_bytes);
  out.u16(entry.chunk.pages);
  out.u16(entry.disk_index);
  out.u32(entry.segment_index);
}

JournaledChunk decode_chunk(ByteReader& in) {
  JournaledChunk entry;
  in.copy_to(entry.chunk.id.mutable_bytes());
  in.copy_to(entry.chunk.at.pack.session.mutable_bytes());
  entry.chunk.at.pack.number = in.u32();
  entry.chunk.at.slot = in.u16();
  entry.chunk.at.offset_bytes = in.u32();
  entry.chunk.at.stored_bytes = in.u32();
  entry.chunk.pages = in.u16();
  entry.disk_index = in.u16();
  entry.segment_index = in.u32();
  return entry;
}

}  // namespace

std::optional<JournalContent> Journal::load(const std::string& path) {
  if (!os::path_exists(path)) return std::nullopt;
  const auto file = os::read_file(path, kJournalSizeBytesMax);
  if (!file.ok()) return std::nullopt;
  ByteReader in(*file);
  JournalContent content;
  bool has_header = false;
  while (in.remaining() >= kRecordHeaderSize) {
    const uint8_t kind = in.u8();
    const uint32_t size = in.u32();
    const ByteSpan stored_checksum = in.raw(8);
    const ByteSpan body = in.raw(size);
    if (!in.ok() || size > kBodySizeBytesMax || checksum(kind, body) != to_bytes(stored_checksum))
      break;
    if (kind == kHeaderRecord) {
      decode_header(body, content.header);
      has_header = true;
    } else if (kind == kRunRecord) {
      content.runs = ByteReader(body).u32();
    } else if (kind == kPackRecord) {
      ByteReader chunks(body);
      while (chunks.remaining() >= kChunkSize) content.chunks.push_back(decode_chunk(chunks));
    }
  }
  // Without the number of runs a pack id could be used twice (session.h, invariant 5).
  if (!has_header || content.runs == 0) return std::nullopt;
  return content;
}

Result<std::unique_ptr<Journal>> Journal::create(const std::string& path,
                                                 const JournalHeader& header) {
  RECLO_TRY_WITH(os::write_file_durably(path, encode_start(header, 1)),
                 "starting the backup's journal");
  os::Fd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open " + path);
  return std::unique_ptr<Journal>(new Journal(std::move(fd), 0));
}

Result<std::unique_ptr<Journal>> Journal::resume(const std::string& path,
                                                 const JournalContent& content) {
  // Rewritten as a whole: a damaged tail must not hide what is appended after it. The run counter
  // counts runs that were started, so it only ever grows.
  Bytes start = encode_start(content.header, content.runs + 1);
  Bytes chunks;
  ByteWriter out(chunks);
  const auto flush = [&] {
    const Bytes record = make_record(kPackRecord, chunks);
    start.insert(start.end(), record.begin(), record.end());
    chunks.clear();
  };
  for (const JournaledChunk& chunk : content.chunks) {
    encode_chunk(out, chunk);
    if (chunks.size() > kMiB) flush();
  }
  if (!chunks.empty()) flush();
  RECLO_TRY_WITH(os::write_file_durably(path, start), "continuing the backup's journal");
  os::Fd fd(::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC));
  if (!fd.valid()) return Error::from_errno(errno, "open " + path);
  return std::unique_ptr<Journal>(new Journal(std::move(fd), content.runs));
}

Status Journal::append_pack(const std::vector<JournaledChunk>& chunks) {
  Bytes body;
  body.reserve(chunks.size() * kChunkSize);
  ByteWriter out(body);
  for (const JournaledChunk& chunk : chunks) encode_chunk(out, chunk);
  const Bytes record = make_record(kPackRecord, body);
  std::lock_guard lock(mutex_);
  RECLO_TRY_WITH(os::write_all(fd_, record), "writing the backup's journal in the state folder");
  return {};
}

}  // namespace reclo::backup
