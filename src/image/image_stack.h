// Everything between an object store and a readable disk, opened from a specification:
//
//   store (S3, folder) → hedged requests → ciphertext cache → SlotReader → MapReader → BlockImage
//
// A folder is as fast as a cache would be: neither hedging nor cache then.
// Thread rule: open() from one thread; what it returns is as safe as its parts.
#pragma once

#include <memory>
#include <optional>

#include "image/block_image.h"
#include "image/boot_set.h"
#include "image/cached_store.h"
#include "image/hedged_store.h"
#include "image/image_spec.h"
#include "repo/repository.h"

namespace reclo::image {

class ImageStack {
 public:
  /// Errors: the store's; kNotFound (no such machine, point or disk); kUnauthenticated when the key
  /// is not this repository's.
  static Result<std::unique_ptr<ImageStack>> open(const ImageSpec& spec, const CancelToken& cancel);
  ~ImageStack();

  uint64_t size_bytes() const { return image_->size_bytes(); }
  /// As BlockImage::read_at(), and notes it for the boot set.
  Status read_at(uint64_t offset_bytes, MutableByteSpan out, const CancelToken& cancel);
  BlockImage& image() { return *image_; }

 private:
  ImageStack() = default;
  Status open_store(const ImageSpec& spec, const CancelToken& cancel);
  Status open_image(const ImageSpec& spec, const CancelToken& cancel);
  void start_boot_set(const std::string& path);

  std::unique_ptr<store::ObjectStore> base_store_;
  std::unique_ptr<HedgedStore> hedged_store_;
  std::unique_ptr<CachedStore> cached_store_;
  store::ObjectStore* pack_store_ = nullptr;  // the outermost of them
  std::optional<repo::Repository> repository_;
  std::unique_ptr<repo::SlotReader> slots_;
  std::unique_ptr<repo::MapReader> maps_;
  std::unique_ptr<BlockImage> image_;
  std::unique_ptr<BootSetRecorder> recorder_;
  std::stop_source stop_;
  std::unique_ptr<TaskPool> boot_set_pool_;  // last: its thread uses the above
};

}  // namespace reclo::image
