// The state folder's files, as a crash, a bad disk or a hostile hand may leave them: they are
// memories, so nothing they hold may do more than be forgotten.
#include "backup/chunk_index.h"
#include "backup/journal.h"
#include "backup/known_sessions.h"
#include "backup/page_tags.h"
#include "base/check.h"
#include "os/file.h"

using namespace reclo;

namespace {

// The bytes as a file of their own, so that what opens it may also write to it, and beside it.
class FuzzedFile {
 public:
  FuzzedFile(const uint8_t* data, size_t size) : folder_(os::TempDir::create("reclo-fuzz-")) {
    RECLO_CHECK(folder_.ok() && os::write_file_durably(path(), {data, size}).ok());
  }
  std::string path() const { return os::join_path(folder_->path(), "fuzzed"); }

 private:
  const Result<os::TempDir> folder_;
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
