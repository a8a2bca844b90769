// The state folder's files, as a crash, a bad disk or a hostile hand may leave them: they are
// memories, so nothing they hold may do more than be forgotten.
#include <sys/mman.h>
#include <unistd.h>

#include "backup/chunk_index.h"
#include "backup/journal.h"
#include "backup/known_sessions.h"
#include "backup/page_tags.h"
#include "base/check.h"
#include "os/file.h"

using namespace reclo;

namespace {

// The bytes as a file of their own, so that what opens it may also write to it.
class FuzzedFile {
 public:
  FuzzedFile(const uint8_t* data, size_t size) : fd_(::memfd_create("fuzzed", 0)) {
    RECLO_CHECK(fd_ >= 0 && ::write(fd_, data, size) == static_cast<ssize_t>(size));
  }
  ~FuzzedFile() { ::close(fd_); }
  std::string path() const { return "/proc/self/fd/" + std::to_string(fd_); }

 private:
  const int fd_;
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  backup::Journal::load(FuzzedFile(data, size).path());
  backup::load_known_sessions(FuzzedFile(data, size).path());
  {
    const FuzzedFile file(data, size);
    const auto tags = backup::PageTagFile::open(file.path());
    backup::SegmentTags segment;
    if (tags.ok()) ignore_error(tags->read(size, segment), "fuzzed");
  }
  {
    const FuzzedFile updates(data, size);
    const FuzzedFile file(nullptr, 0);
    auto tags = backup::PageTagFile::open(file.path());
    if (tags.ok()) ignore_error(tags->apply(updates.path(), PointId(), ChunkId()), "fuzzed");
  }
  {
    const FuzzedFile file(data, size);
    const auto index = backup::ChunkIndex::open(file.path(), SessionId());
    ChunkId id;
    if (size >= ChunkId::kSize)
      id = ChunkId::from_bytes(ByteSpan(data + size - ChunkId::kSize, ChunkId::kSize));
    if (index.ok()) (*index)->find(id);
  }
  return 0;
}
