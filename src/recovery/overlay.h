// The qcow2 file that takes a recovered disk's writes, over the recovery point as NBD.
//
// Clusters are 64 KiB, without subclusters: QEMU 7.2 ends itself ("skip_bytes < pnum") when it
// hydrates an overlay with subclusters that the guest has written to. A smaller guest write first
// fetches its surroundings, a quarter of a chunk. Whether an overlay still needs the recovery point
// is told by its own header (the backing file's name), which QEMU clears when hydration ends: the
// one truth, whatever our records say. Any thread.
#pragma once

#include <functional>
#include <string>

#include "base/bytes.h"
#include "base/cancel.h"
#include "base/result.h"

namespace reclo::recovery {

/// Makes the overlay as a whole or not at all; success when it is there already with this size.
/// Needs no running NBD server. Errors: kNotFound without qemu-img, kConflict for a file of another
/// size, kNoSpace, kIo.
Status make_overlay(const std::string& path, const std::string& base_socket, uint64_t size_bytes,
                    const CancelToken& cancel);

struct OverlayFacts {
  uint64_t size_bytes = 0;
  bool has_base = true;
};
/// Reads the header, also while QEMU uses the file. Errors: kNotFound, kCorruption, kIo.
Result<OverlayFacts> read_overlay(const std::string& path);

/// Whether the file itself, without its base, holds every block of the disk: data or explicit
/// zeros. Makes it durable first (fsync), because the answer decides whether the recovery point may
/// be let go. QEMU must have written its own caches out before. While a guest writes, a "no" can be
/// momentary, a "yes" cannot be wrong. Reads 128 MiB of tables per TiB of disk.
/// Errors: kUnsupported for an overlay of another layout than make_overlay()'s, kCorruption, kIo.
Result<bool> overlay_is_complete(const std::string& path, const CancelToken& cancel);

/// Calls for each cluster that the file itself holds, ascending, with its bytes (whole, also the
/// disk's last one). QEMU must have closed the file. Errors: as overlay_is_complete(), and
/// `take`'s own.
Status for_each_held_cluster(const std::string& path,
                             const std::function<Status(uint64_t offset_bytes, ByteSpan)>& take);

/// "nbd+unix:///?socket=%2Frun…"
std::string nbd_url(const std::string& socket_path);

}  // namespace reclo::recovery
