#include "image/image_stack.h"

#include <fmt/format.h>

#include "base/log.h"

namespace reclo::image {

namespace {
// Leaves are about 1 KiB each: all of a disk of some 30 GiB stay in memory.
constexpr size_t kCachedNodes = 8192;
}  // namespace

Result<std::unique_ptr<ImageStack>> ImageStack::open(const ImageSpec& spec,
                                                     const CancelToken& cancel) {
  std::unique_ptr<ImageStack> stack(new ImageStack);
  RECLO_TRY(stack->open_store(spec, cancel));
  RECLO_TRY(stack->open_image(spec, cancel));
  if (!spec.boot_set_path.empty()) stack->start_boot_set(spec.boot_set_path);
  return stack;
}

ImageStack::~ImageStack() {
  stop_.request_stop();
  boot_set_pool_.reset();
}

Status ImageStack::open_store(const ImageSpec& spec, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(base_store_, store::open_store(spec.store, cancel));
  pack_store_ = base_store_.get();
  const bool is_remote = spec.store.url.starts_with("s3://");
  if (!is_remote) return {};
  hedged_store_ = std::make_unique<HedgedStore>(*pack_store_);
  pack_store_ = hedged_store_.get();
  if (spec.cache_directory.empty() || spec.cache_size_bytes == 0) return {};
  RECLO_ASSIGN_OR_RETURN(
      cached_store_, CachedStore::open(*pack_store_, spec.cache_directory, spec.cache_size_bytes));
  pack_store_ = cached_store_.get();
  return {};
}

Status ImageStack::open_image(const ImageSpec& spec, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(repo::Repository repository, repo::Repository::open(*base_store_, cancel));
  repository_ = std::move(repository);
  crypto::BoxKeyPair box{crypto::box_public_key(spec.box_secret_key), spec.box_secret_key.clone()};
  if (box.public_key != repository_->config().public_key)
    return Error(
        Code::kUnauthenticated,
        fmt::format("the key given is not that of the repository {}", base_store_->description()));
  RECLO_ASSIGN_OR_RETURN(const repo::MachineRecord machine,
                         repo::load_machine(*base_store_, repository_->id(), spec.machine, cancel));
  RECLO_ASSIGN_OR_RETURN(const repo::Point point, repository_->point(machine, spec.point, cancel));
  if (spec.disk_index >= point.record.disks.size())
    return Error(Code::kNotFound,
                 fmt::format("recovery point {} has {} disks, there is no disk {}",
                             spec.point.short_hex(), point.record.disks.size(), spec.disk_index));
  RECLO_ASSIGN_OR_RETURN(crypto::SecretKey map_key, repository_->map_key(machine, box));
  slots_ = std::make_unique<repo::SlotReader>(*pack_store_, repository_->id(), machine.id,
                                              std::move(map_key), std::move(box));
  maps_ = std::make_unique<repo::MapReader>(*slots_, kCachedNodes);
  image_ = std::make_unique<BlockImage>(*maps_, point.record.disks[spec.disk_index],
                                        BlockImageOptions());
  return {};
}

void ImageStack::start_boot_set(const std::string& path) {
  auto known = load_boot_set(path, image_->size_bytes());
  if (!known.ok() && known.error().code() != Code::kNotFound)
    log_warning("the boot set {} is of no use, recording a new one: {}", path,
                known.error().message());
  recorder_ = std::make_unique<BootSetRecorder>(path, image_->size_bytes());
  // Fetching ahead only pays where there is a cache to keep it.
  if (!known.ok() || !cached_store_) return;
  constexpr size_t kPrefetchThreads = 4;
  boot_set_pool_ = std::make_unique<TaskPool>(kPrefetchThreads, known->size() + 1);
  for (const disk::Range& range : *known)
    boot_set_pool_->run([this, range] {
      const CancelToken cancel(stop_.get_token());
      if (cancel.fired()) return;
      ignore_error(image_->warm(range, cancel), "the reader of that range will be told");
    });
}

Status ImageStack::read_at(uint64_t offset_bytes, MutableByteSpan out, const CancelToken& cancel) {
  if (recorder_) recorder_->note_read({offset_bytes, out.size()});
  return image_->read_at(offset_bytes, out, cancel);
}

}  // namespace reclo::image
