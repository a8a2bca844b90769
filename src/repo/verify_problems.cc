#include "repo/verify_problems.h"

#include <fmt/format.h>

namespace reclo::repo {

bool is_damage(const Error& error) {
  switch (error.code()) {
    case Code::kNotFound:
    case Code::kCorruption:
    case Code::kUnsupported:
    case Code::kResourceExhausted:
    case Code::kIo:
      return true;
    default:
      return false;
  }
}

size_t ProblemList::add(const std::string& object, std::string_view what) {
  std::lock_guard lock(mutex_);
  const auto found = by_object_.find(object);
  if (found != by_object_.end()) {
    ++entries_[found->second].times;
    return found->second;
  }
  if (entries_.size() >= problems_max_) {
    cut_ = true;
    return problems_max_;
  }
  Entry entry;
  entry.problem.object = object;
  // Errors name the object themselves; here it has a field of its own.
  if (what.starts_with(object + ": ")) what.remove_prefix(object.size() + 2);
  entry.problem.what = what;
  entries_.push_back(std::move(entry));
  by_object_[object] = entries_.size() - 1;
  return entries_.size() - 1;
}

void ProblemList::affect(size_t number, const AffectedRange& range) {
  std::lock_guard lock(mutex_);
  if (number >= entries_.size()) return;
  Problem& problem = entries_[number].problem;
  if (!problem.affected.empty()) {
    AffectedRange& last = problem.affected.back();
    if (last.point == range.point && last.disk_index == range.disk_index &&
        last.offset_bytes + last.size_bytes == range.offset_bytes) {
      last.size_bytes += range.size_bytes;
      return;
    }
  }
  if (problem.affected.size() >= ranges_max_) {
    problem.affected_cut = true;
    return;
  }
  problem.affected.push_back(range);
}

void ProblemList::cut_affected(size_t number) {
  std::lock_guard lock(mutex_);
  if (number < entries_.size()) entries_[number].problem.affected_cut = true;
}

void ProblemList::finish(VerifyReport& report) {
  std::lock_guard lock(mutex_);
  for (Entry& entry : entries_) {
    if (entry.times > 1)
      entry.problem.what += fmt::format(" (and {} more problems in it)", entry.times - 1);
    report.problems.push_back(std::move(entry.problem));
  }
  report.problems_cut = cut_;
}

}  // namespace reclo::repo
