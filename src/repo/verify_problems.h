// The bounded list of what a check found. Thread rule: all methods are safe from any thread.
#pragma once

#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "repo/verify.h"

namespace reclo::repo {

/// Whether an error says that stored bytes are gone or wrong, and not that the store is out of
/// reach or somebody wants to stop.
bool is_damage(const Error& error);

class ProblemList {
 public:
  ProblemList(size_t problems_max, size_t ranges_max)
      : problems_max_(problems_max), ranges_max_(ranges_max) {}

  /// Notes a problem of `object`: one entry for each object, that says what was met first and how
  /// much followed. Returns its number for affect().
  size_t add(const std::string& object, std::string_view what);
  /// Adds addresses to a problem; joins them to the ones before where they touch.
  void affect(size_t number, const AffectedRange& range);
  /// Says that not all of a problem's addresses are known.
  void cut_affected(size_t number);
  /// Moves the list into `report`.
  void finish(VerifyReport& report);

 private:
  struct Entry {
    Problem problem;
    uint64_t times = 1;
  };
  const size_t problems_max_;
  const size_t ranges_max_;
  std::mutex mutex_;
  std::vector<Entry> entries_;
  std::map<std::string, size_t> by_object_;
  bool cut_ = false;
};

}  // namespace reclo::repo
