// An object store in a folder of a file system.
//
// An object is a file whose path below the folder is its key.
//   put:  write .tmp-<random> in the object's folder → fsync → link to the name → fsync the folder
// link(2) is what makes exactly one of many writers win; file systems without hard links get
// renameat2(RENAME_NOREPLACE). A crash at any instruction leaves the whole object, or nothing and a
// .tmp- file, which no reading call shows; listing removes those that are older than a day.
// Files whose path is no valid key (lost+found) are not objects and are left alone.
// Thread rule: as ObjectStore. Several processes, also on several machines, may share the folder.
#pragma once

#include <memory>

#include "store/folder_tree.h"
#include "store/object_store.h"

namespace reclo::store {

class FolderStore final : public ObjectStore {
 public:
  /// Errors: kNotFound when the folder is missing and `create` is false.
  static Result<std::unique_ptr<FolderStore>> open(const std::string& folder, bool create);

  Status put_if_absent(const std::string& key, ByteSpan content,
                       const CancelToken& cancel) override;
  Result<Bytes> get(const std::string& key, uint64_t size_bytes_max,
                    const CancelToken& cancel) override;
  Result<Bytes> get_range(const std::string& key, ByteRange range,
                          const CancelToken& cancel) override;
  Result<ObjectInfo> stat(const std::string& key, const CancelToken& cancel) override;
  Status list(const std::string& prefix, const std::function<Status(const ObjectInfo&)>& visit,
              const CancelToken& cancel) override;
  Result<std::vector<std::string>> list_children(const std::string& prefix,
                                                 const CancelToken& cancel) override;
  Status remove(const std::string& key, const CancelToken& cancel) override;
  StoreCounters counters() const override { return counters_.snapshot(); }
  std::string description() const override { return tree_.root(); }

 private:
  struct Entry {
    std::string name;  // ends in '/' for a folder, so that sorting gives the order of keys
    uint64_t size_bytes = 0;
    WallTime modified;
  };
  using Visit = std::function<Status(const ObjectInfo&)>;

  explicit FolderStore(FolderTree tree) : tree_(std::move(tree)) {}
  Result<os::Fd> open_object(const std::string& key, uint64_t& size_bytes) const;
  Status write_temp(const os::Fd& folder, const std::string& temp, const std::string& key,
                    ByteSpan content, const CancelToken& cancel) const;
  Status link_into_place(const os::Fd& folder, const std::string& temp,
                         const std::string& key) const;
  Result<std::vector<Entry>> read_folder(const std::string& folder, std::string_view name_prefix,
                                         bool clean_up) const;
  Status list_folder(const std::string& folder, std::string_view name_prefix, const Visit& visit,
                     const CancelToken& cancel) const;
  Result<bool> holds_objects(const std::string& folder, const CancelToken& cancel) const;
  Error failed(int os_error, std::string_view what, const std::string& key) const;

  FolderTree tree_;
  AtomicCounters counters_;
};

}  // namespace reclo::store
