#include "store/fault_store.h"

namespace reclo::store {
namespace {

Error fault(std::string_view what) {
  return Error(Code::kUnavailable, std::string(what)).set_retryable(true);
}

}  // namespace

FaultStore::FaultStore(std::unique_ptr<ObjectStore> inner, const FaultPlan& plan)
    : inner_(std::move(inner)), plan_(plan), random_(plan.seed) {}

void FaultStore::heal() {
  const std::lock_guard lock(mutex_);
  plan_ = FaultPlan{};
}

bool FaultStore::roll(unsigned percent) { return percent != 0 && random_() % 100 < percent; }

Status FaultStore::before(const CancelToken& cancel) {
  bool delayed = false;
  bool failed = false;
  std::chrono::milliseconds delay{};
  {
    const std::lock_guard lock(mutex_);
    delayed = roll(plan_.delay_percent);
    failed = roll(plan_.fail_before_percent);
    delay = plan_.delay;
  }
  if (delayed) RECLO_TRY(cancel.sleep_for(delay));
  if (failed) return fault("injected failure before the call");
  return {};
}

Status FaultStore::after_success() {
  const std::lock_guard lock(mutex_);
  if (roll(plan_.fail_after_percent)) return fault("injected failure after the call");
  return {};
}

Result<Bytes> FaultStore::after_get(Result<Bytes> content) {
  if (!content.ok()) return content;
  const std::lock_guard lock(mutex_);
  if (roll(plan_.truncate_get_percent)) return fault("injected truncation of the answer");
  return content;
}

Status FaultStore::put_if_absent(const std::string& key, ByteSpan content,
                                 const CancelToken& cancel) {
  RECLO_TRY(before(cancel));
  RECLO_TRY(inner_->put_if_absent(key, content, cancel));
  return after_success();
}

Result<Bytes> FaultStore::get(const std::string& key, uint64_t size_bytes_max,
                              const CancelToken& cancel) {
  RECLO_TRY(before(cancel));
  return after_get(inner_->get(key, size_bytes_max, cancel));
}

Result<Bytes> FaultStore::get_range(const std::string& key, ByteRange range,
                                    const CancelToken& cancel) {
  RECLO_TRY(before(cancel));
  return after_get(inner_->get_range(key, range, cancel));
}

Result<ObjectInfo> FaultStore::stat(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(before(cancel));
  return inner_->stat(key, cancel);
}

Status FaultStore::list(const std::string& prefix,
                        const std::function<Status(const ObjectInfo&)>& visit,
                        const CancelToken& cancel) {
  RECLO_TRY(before(cancel));
  return inner_->list(prefix, visit, cancel);
}

Result<std::vector<std::string>> FaultStore::list_children(const std::string& prefix,
                                                           const CancelToken& cancel) {
  RECLO_TRY(before(cancel));
  return inner_->list_children(prefix, cancel);
}

Status FaultStore::remove(const std::string& key, const CancelToken& cancel) {
  RECLO_TRY(before(cancel));
  RECLO_TRY(inner_->remove(key, cancel));
  return after_success();
}

}  // namespace reclo::store
