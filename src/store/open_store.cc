#include "store/open_store.h"

#include <fmt/format.h>

#include "store/folder_store.h"

namespace reclo::store {

Result<std::unique_ptr<ObjectStore>> open_store(const StoreOptions& options,
                                                const CancelToken& cancel) {
  RECLO_TRY(cancel.check());
  std::string folder = options.url;
  if (folder.starts_with("file://")) folder = folder.substr(7);
  if (folder.empty() || folder.find("://") != std::string::npos)
    return Error(Code::kInvalidArgument,
                 fmt::format("'{}' names no repository: give a folder, file:///folder or "
                             "s3://bucket/prefix",
                             options.url));
  RECLO_ASSIGN_OR_RETURN(std::unique_ptr<FolderStore> store,
                         FolderStore::open(folder, options.create_folder));
  return std::unique_ptr<ObjectStore>(std::move(store));
}

}  // namespace reclo::store
