// The agent's memory of what each 4 KiB page of a disk held at the last recovery point: one 16-byte
// page tag per page (0.4 % of the used size), in a sparse file in the state folder.
//
// Losing the file costs upload, never correctness. What would cost correctness is a file that
// describes another point than the parent, so:
//  1. The file is stamped with the point it describes; a stamp that is not the parent's means
//  "lost".
//  2. A backup writes its new tags to a separate updates file, fsynced before the commit. Its end
//  names the root of the map that was made with it: updates of another attempt, as a state folder
//  that was set back to an earlier day may hold, fit no point.
//  3. Only after the commit are they applied: the stamp is first cleared and fsynced, then pages
//  are
//     written and fsynced, then the new stamp. A crash in between leaves a cleared stamp and the
//     updates file, and applying again is idempotent.
//  4. Each segment's tags have a sum, kept in a file beside (16 bytes a segment), and the stamp
//  holds
//     a digest of all sums: what a failing disk, a file system check or a careless copy of the
//     folder did to the tags is noticed, segment by segment.
// An all-zero tag means the page was a hole (zeros or free).
// Thread rule: read() is safe from any thread; the rest from one.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "base/ids.h"
#include "base/limits.h"
#include "os/file.h"

namespace reclo::backup {

using SegmentTags = std::array<PageTag, kPagesPerSegment>;

/// The updates of one session for one disk: records of (segment index, its tags, their sum),
/// append-only.
class TagUpdates {
 public:
  /// `from_scratch`: what no record names is a hole, whatever the tag file said before.
  static Result<TagUpdates> create(const std::string& path, bool from_scratch);
  Status append(uint64_t segment_index, const SegmentTags& tags);
  /// Ends the file with the identity of the disk's map root (zero: no map), and fsyncs.
  Status finish(const ChunkId& map_root);

 private:
  explicit TagUpdates(os::Fd fd) : fd_(std::move(fd)) {}
  Status flush();
  os::Fd fd_;
  Bytes buffer_;
};

class PageTagFile {
 public:
  /// Opens or creates. A malformed file is started afresh (its content is only a memory).
  static Result<PageTagFile> open(const std::string& path);
  /// The point whose pages this file describes, if it is trustworthy.
  std::optional<PointId> described_point() const { return point_; }
  /// Tags of a segment; one that was never recorded is all holes. False: they are damaged, so
  /// nothing is known of this segment.
  Result<bool> read(uint64_t segment_index, SegmentTags& tags) const;
  /// Applies an updates file and stamps the file with `point`. Errors: kCorruption when the updates
  /// are cut off, damaged, or do not belong to `map_root`: they are worthless then.
  Status apply(const std::string& updates_path, const PointId& point, const ChunkId& map_root);

 private:
  PageTagFile(os::Fd fd, os::Fd sums_fd) : fd_(std::move(fd)), sums_fd_(std::move(sums_fd)) {}
  Result<Bytes> make_header(const std::optional<PointId>& point) const;
  Status write_stamp(const std::optional<PointId>& point);
  os::Fd fd_;
  os::Fd sums_fd_;
  std::optional<PointId> point_;
};

}  // namespace reclo::backup
