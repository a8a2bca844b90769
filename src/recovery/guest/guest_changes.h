// What is changed in a guest, so that it can be taken back.
//
// Every change of a preparation goes through here. The list is kept in the guest itself,
// /var/lib/reclo/prepared/manifest.json, with the originals beside it: whoever brings the server
// home finds there all that has to be undone, whatever became of the machine that prepared it.
//   replaced  the original's content is kept; taken back when the file is still as we wrote it
//   appended  bytes were added at the end; taken back by cutting them off
//   added     the file was not there; taken back by removing it
//   aside     renamed to .reclo-aside-NAME in its folder, where nothing reads it
// A second preparation goes on with the first one's list, so originals stay the first ones.
// Thread rule: one thread at a time.
#pragma once

#include <string>
#include <vector>

#include "recovery/guest/guest_files.h"

namespace reclo::recovery {

inline constexpr const char* kPreparedFolder = "/var/lib/reclo/prepared";
inline constexpr const char* kPreparedManifest = "/var/lib/reclo/prepared/manifest.json";

enum class ChangeKind { kReplaced, kAppended, kAdded, kAside, kFolder };

struct GuestChange {
  ChangeKind kind = ChangeKind::kReplaced;
  std::string path;
  std::string original;  // replaced: where its content is; aside: its new name
  uint64_t size_before_bytes = 0;
  std::string hash_after;  // SHA-256 of what we left there, in hex
  bool operator==(const GuestChange&) const = default;
};

class GuestChanges {
 public:
  /// Reads the list that an earlier preparation left. Errors: kCorruption.
  static Result<GuestChanges> open(GuestFiles& files);

  /// Gives the file this content. What has it already is left alone.
  Status replace(const std::string& path, ByteSpan content);
  Status replace(const std::string& path, std::string_view text) {
    return replace(path, as_bytes(text));
  }
  /// A new file (or, when it is there, replace()); folders above it are made.
  Status add(const std::string& path, std::string_view text, uint32_t mode = 0644);
  Status add_link(const std::string& path, const std::string& target);
  Status append(const std::string& path, ByteSpan content);
  Status set_aside(const std::string& path);
  /// Writes the list, when there is anything in it. Call it last.
  Status finish();

  const std::vector<GuestChange>& changes() const { return changes_; }
  /// Paths touched since the last call, for a fix's report.
  std::vector<std::string> take_touched() { return std::exchange(touched_, {}); }

 private:
  explicit GuestChanges(GuestFiles& files) : files_(&files) {}
  GuestChange* find(const std::string& path);
  Status make_folders(const std::string& path);
  Status keep_original(GuestChange& change, ByteSpan content);
  Status label(const std::string& path);

  GuestFiles* files_;
  std::vector<GuestChange> changes_;
  std::vector<std::string> touched_;
};

struct UnprepareReport {
  std::vector<std::string> restored;
  std::vector<std::string> left;  // changed by somebody since, with the reason
};
/// Takes back what the list says, last change first. Nothing to do is success with an empty
/// report. Interrupted, it can be run again: what was taken back is as it was and is skipped.
Result<UnprepareReport> take_back_changes(GuestFiles& files);

std::string encode_changes(const std::vector<GuestChange>& changes);
/// Errors: kCorruption, kUnsupported (a newer version). Paths are absolute and hold no "..".
Result<std::vector<GuestChange>> decode_changes(std::string_view text);

}  // namespace reclo::recovery
