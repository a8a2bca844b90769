#include "store/probe.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <mutex>

#include "base/task_pool.h"
#include "os/random.h"

namespace reclo::store {
namespace {

constexpr int kWriters = 32;
constexpr int kRounds = 4;
constexpr size_t kObjectSizeBytes = 1024;
constexpr auto kCleanUpTimeout = std::chrono::seconds(10);

class Probe {
 public:
  Probe(ObjectStore& store, std::string folder, const CancelToken& cancel)
      : store_(store), folder_(std::move(folder)), cancel_(cancel) {}

  Result<ProbeReport> run() {
    Status done = check_reading();
    for (int round = 0; round < kRounds && done.ok(); ++round) done = race(round);
    if (!done.ok()) {
      // What stopped us must not stop the cleaning up, nor may that take for ever.
      const CancelToken limited = CancelToken().with_timeout(kCleanUpTimeout);
      for (const std::string& key : keys_)
        if (!store_.remove(key, limited).ok()) break;
      return std::move(done).error();
    }
    RECLO_TRY(check_removing());
    return report_;
  }

 private:
  void complain(std::string_view what) {
    if (!report_.note.empty()) report_.note += "; ";
    report_.note += what;
  }
  std::string new_key(const std::string& name) {
    keys_.push_back(folder_ + name);
    return keys_.back();
  }
  Bytes content_of(int writer) const {
    Bytes content(kObjectSizeBytes, static_cast<uint8_t>('a' + writer % 26));
    ByteWriter out(content);
    out.u32(static_cast<uint32_t>(writer));
    return content;
  }

  // Fails when the store could not be asked, which says nothing about its promises.
  static Status check_asked(const Status& status) {
    if (status.ok()) return {};
    const Code code = status.error().code();
    if (code == Code::kNotFound || code == Code::kCorruption || code == Code::kUnsupported ||
        code == Code::kResourceExhausted)
      return {};
    return status;
  }
  template <class T>
  static Status check_asked(const Result<T>& result) {
    return result.ok() ? ok_status() : check_asked(Status(Error(result.error())));
  }

  Status check_reading();
  Status race(int round);
  Status check_removing();

  ObjectStore& store_;
  const std::string folder_;
  const CancelToken cancel_;
  std::vector<std::string> keys_;
  ProbeReport report_{.atomic_create = true,
                      .list_after_put = true,
                      .range_read = true,
                      .remove = true,
                      .latency_ms = 0,
                      .note = ""};
};

// Puts some objects one after the other and looks at each right away.
Status Probe::check_reading() {
  std::vector<double> put_ms;
  for (int i = 0; i < 5; ++i) {
    const std::string key = new_key(fmt::format("read-{}", i));
    const Bytes content = content_of(i);
    const Stopwatch watch;
    RECLO_TRY_WITH(store_.put_if_absent(key, content, cancel_), "probing the store");
    put_ms.push_back(watch.seconds() * 1000);

    const Result<Bytes> got = store_.get(key, content.size(), cancel_);
    RECLO_TRY(check_asked(got));
    bool seen = got.ok() && *got == content;
    const Result<ObjectInfo> info = store_.stat(key, cancel_);
    RECLO_TRY(check_asked(info));
    seen = info.ok() && info->size_bytes == content.size() && seen;
    bool listed = false;
    const Status list = store_.list(
        folder_,
        [&](const ObjectInfo& object) -> Status {
          listed = listed || (object.key == key && object.size_bytes == content.size());
          return {};
        },
        cancel_);
    RECLO_TRY(check_asked(list));
    seen = list.ok() && listed && seen;
    if (!seen && report_.list_after_put) complain("an object just written was not seen");
    report_.list_after_put = report_.list_after_put && seen;

    const Result<Bytes> middle = store_.get_range(key, {100, 200}, cancel_);
    RECLO_TRY(check_asked(middle));
    const Result<Bytes> past_end = store_.get_range(key, {content.size() - 1, 2}, cancel_);
    const bool refused = !past_end.ok() && past_end.error().code() == Code::kCorruption;
    const bool exact =
        middle.ok() && refused && std::ranges::equal(*middle, ByteSpan(content).subspan(100, 200));
    if (!exact && report_.range_read) complain("ranges of objects are not served exactly");
    report_.range_read = report_.range_read && exact;
  }
  std::nth_element(put_ms.begin(), put_ms.begin() + 2, put_ms.end());
  report_.latency_ms = put_ms[2];
  return {};
}

// All writers put the same key with different bytes at the same time.
Status Probe::race(int round) {
  const std::string key = new_key(fmt::format("race-{}", round));
  std::mutex mutex;
  std::vector<int> winners;
  {
    TaskPool pool(kWriters);
    TaskGroup group(pool, cancel_);
    for (int writer = 0; writer < kWriters; ++writer) {
      group.spawn([&, writer]() -> Status {
        const Status put = store_.put_if_absent(key, content_of(writer), cancel_);
        if (!put.ok()) {
          if (put.error().code() == Code::kAlreadyExists) return {};
          return put;
        }
        const std::lock_guard lock(mutex);
        winners.push_back(writer);
        return {};
      });
    }
    RECLO_TRY_WITH(group.wait(), "probing the store with concurrent writers");
  }
  const Result<Bytes> stored = store_.get(key, 2 * kObjectSizeBytes, cancel_);
  RECLO_TRY(check_asked(stored));
  const bool one_winner =
      stored.ok() && winners.size() == 1 && *stored == content_of(winners.front());
  if (!one_winner && report_.atomic_create)
    complain(fmt::format("of {} writers of one key {} were told that they had created it", kWriters,
                         winners.size()));
  report_.atomic_create = report_.atomic_create && one_winner;
  return {};
}

Status Probe::check_removing() {
  for (const std::string& key : keys_) {
    const Status removed = store_.remove(key, cancel_);
    if (!removed.ok()) {
      RECLO_TRY(cancel_.check());
      report_.remove = false;
      complain("removing failed: " + removed.error().message());
      return {};
    }
  }
  const Result<ObjectInfo> gone = store_.stat(keys_.front(), cancel_);
  report_.remove = !gone.ok() && gone.error().code() == Code::kNotFound;
  if (!report_.remove) complain("a removed object is still there");
  return {};
}

}  // namespace

Result<ProbeReport> probe_store(ObjectStore& store, const std::string& key_prefix,
                                const CancelToken& cancel) {
  RECLO_TRY(check_folder_prefix(key_prefix));
  uint8_t random[8];
  os::fill_random(random);
  return Probe(store, key_prefix + to_hex(random) + "/", cancel).run();
}

}  // namespace reclo::store
