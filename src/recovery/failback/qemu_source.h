// A server that comes home from QEMU on this machine: its overlays are what it changed, so a
// cutover writes their clusters over the restored recovery point. While it runs only that base can
// be brought home: QEMU holds the overlay. One thread at a time.
#pragma once

#include "recovery/failback/failback.h"
#include "recovery/instance.h"

namespace reclo::recovery {

class QemuFailbackSource final : public FailbackSource {
 public:
  QemuFailbackSource(const InstanceStore& instances, InstanceRecord instance)
      : instances_(instances), instance_(std::move(instance)) {}

  /// A hydrated overlay holds everything.
  Result<bool> needs_base(const FailbackDisk& disk) override;
  Result<FailbackRound> bring_home(const RoundJob& job, ProgressSink& progress,
                                   const CancelToken& cancel) override;
  Status stop(const FailbackRecord& record, ProgressSink& progress,
              const CancelToken& cancel) override;
  Status clean(FailbackRecord& record, bool all, const std::function<Status()>& save,
               const CancelToken& cancel) override;

 private:
  std::string overlay_of(const FailbackDisk& disk) const;

  const InstanceStore& instances_;
  const InstanceRecord instance_;
};

}  // namespace reclo::recovery
