// What an NBD export serves, as text: it travels from start_nbd_export() to the nbdkit plugin
// through an inherited memory file. Holds the unlocked repository key, so: never on a disk, never
// in a log. Values only; any thread.
#pragma once

#include <string>

#include "base/bytes.h"
#include "base/ids.h"
#include "base/units.h"
#include "crypto/secret.h"
#include "store/open_store.h"

namespace reclo::image {

struct ImageSpec {
  store::StoreOptions store;
  MachineId machine;
  PointId point;
  uint32_t disk_index = 0;
  std::string cache_directory;  // empty: no cache
  uint64_t cache_size_bytes = 0;
  std::string boot_set_path;  // empty: none is recorded or used
  crypto::SecretKey box_secret_key;
};

inline constexpr size_t kImageSpecSizeBytesMax = 64 * kKiB;

/// The caller wipes the result.
Bytes encode_image_spec(const ImageSpec& spec);
/// Errors: kCorruption, kInvalidArgument (a value that makes no sense); none tells the key.
Result<ImageSpec> decode_image_spec(ByteSpan text);

}  // namespace reclo::image
