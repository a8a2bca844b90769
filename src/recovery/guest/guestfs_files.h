// A mounted guest's files through libguestfs: its daemon does each call inside the guest's root.
// Thread rule: one thread at a time.
#pragma once

#include "recovery/guest/guest_facts.h"
#include "recovery/guest/guest_files.h"
#include "recovery/guest/guestfs_library.h"

namespace reclo::recovery {

/// What libguestfs said last. kNotFound, kNoSpace … from its errno.
Error guestfs_error(const GuestfsLibrary& library, guestfs_h* handle, const std::string& what);

/// PRETTY_NAME, ID and ID_LIKE.
void read_os_release(std::string_view text, GuestFacts& facts);

class GuestfsFiles final : public GuestFiles {
 public:
  GuestfsFiles(const GuestfsLibrary& library, guestfs_h* handle)
      : library_(library), handle_(handle) {}

  Result<std::optional<GuestFileFacts>> stat(const std::string& path) override;
  Result<Bytes> read(const std::string& path, uint64_t size_bytes_max) override;
  Result<std::vector<std::string>> list(const std::string& folder) override;
  Status write(const std::string& path, ByteSpan content) override;
  Status append(const std::string& path, ByteSpan content) override;
  Status truncate(const std::string& path, uint64_t size_bytes) override;
  Status set_mode(const std::string& path, uint32_t mode) override;
  Status make_folder(const std::string& path, uint32_t mode) override;
  Status make_link(const std::string& path, const std::string& target) override;
  Status remove(const std::string& path) override;
  Status rename(const std::string& from, const std::string& to) override;
  Result<std::optional<Bytes>> attribute(const std::string& path, const std::string& name) override;
  Status set_attribute(const std::string& path, const std::string& name, ByteSpan value) override;

 private:
  Status call(int answer, std::string_view verb, const std::string& path);

  const GuestfsLibrary& library_;
  guestfs_h* handle_;
};

}  // namespace reclo::recovery
