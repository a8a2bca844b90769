// The EBS direct APIs: snapshots written and read block by block, without a volume.
//
// Source: "EBS direct APIs" in the Amazon EBS user guide, API version 2019-11-02. A snapshot is
// started, gets its blocks, and is completed; one whose parent is given holds what it was not given
// as the parent has it: a block that became zero must be put as zeros. Throttled requests are tried
// again at a lower rate. Safe from any thread.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/bytes.h"
#include "base/units.h"
#include "cloud/resource_id.h"
#include "cloud/service.h"
#include "net/digest.h"

namespace reclo::cloud {

inline constexpr size_t kEbsBlockSizeBytes = 512 * kKiB;
inline constexpr uint32_t kEbsBlocksPerGib = kGiB / kEbsBlockSizeBytes;
inline constexpr uint32_t kEbsVolumeGibMax = 65'536;

struct StartSnapshot {
  uint32_t volume_size_gib = 1;  // 1 … kEbsVolumeGibMax, at least the parent's
  std::optional<SnapshotId> parent;
  std::string description;
  Tags tags;
  std::string client_token;  // the same token again gives the same snapshot
  /// Without a put for so long the service gives the snapshot up: 10 … 4320 minutes.
  std::chrono::minutes timeout{60};
};

/// Which block, and the token to read it with (good for seven days).
struct BlockToken {
  uint32_t index = 0;
  std::string token;
};
struct ChangedBlock {
  uint32_t index = 0;
  std::string first_token;   // empty: only in the second snapshot
  std::string second_token;  // empty: only in the first one
};

class EbsClient {
 public:
  /// Quotas of an account, adjustable for some: requests a second.
  struct Rates {
    uint64_t put = 1000;
    uint64_t get = 1000;
    uint64_t list = 50;
    uint64_t start = 10;
    uint64_t complete = 10;
  };
  explicit EbsClient(const ServiceOptions& options) : EbsClient(options, Rates()) {}
  EbsClient(const ServiceOptions& options, const Rates& rates);

  Result<SnapshotId> start(const StartSnapshot& wanted, const CancelToken& cancel);
  /// `block` has kEbsBlockSizeBytes. Returns its SHA-256, which the service has checked.
  /// Putting the same index again replaces it.
  Result<net::Sha256> put_block(const SnapshotId& snapshot, uint32_t index, ByteSpan block,
                                const CancelToken& cancel);
  /// `linear_sha256`: SHA-256 over the digests of all blocks put, by ascending index. The snapshot
  /// is "pending" for a while after.
  Status complete(const SnapshotId& snapshot, uint32_t blocks_put, const net::Sha256& linear_sha256,
                  const CancelToken& cancel);

  /// Ascending. Stops at the first error that `visit` returns and returns it.
  Status list_blocks(const SnapshotId& snapshot,
                     const std::function<Status(const BlockToken&)>& visit,
                     const CancelToken& cancel);
  /// One block's token; nothing when the snapshot has no such block.
  Result<std::optional<BlockToken>> find_block(const SnapshotId& snapshot, uint32_t index,
                                               const CancelToken& cancel);
  /// Blocks in which `second` differs from `first`; both of one lineage. Ascending.
  Status list_changed_blocks(const SnapshotId& first, const SnapshotId& second,
                             const std::function<Status(const ChangedBlock&)>& visit,
                             const CancelToken& cancel);
  /// kEbsBlockSizeBytes, its checksum verified. Errors: kCorruption when that does not fit.
  Result<Bytes> get_block(const SnapshotId& snapshot, const BlockToken& block,
                          const CancelToken& cancel);

 private:
  Result<net::HttpResponse> send(Service& service, net::HttpRequest request,
                                 std::string_view action, const CancelToken& cancel);
  Result<net::HttpResponse> list_page(const std::string& path, std::string_view action,
                                      const std::string& page_token, const CancelToken& cancel);

  Service put_;
  Service get_;
  Service list_;
  Service start_;
  Service complete_;
  // A snapshot that was just started may be "not found" for two minutes (eventual consistency).
  std::atomic<std::chrono::steady_clock::time_point> last_started_;
};

}  // namespace reclo::cloud
