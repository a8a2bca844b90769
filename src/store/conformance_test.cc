// The contract, kept by the stores that need no server. S3Store: store_s3_test.cc.
#include "os/file.h"
#include "store/conformance_test_suite.h"
#include "store/folder_store.h"
#include "store/memory_store.h"

namespace reclo::store {
namespace {

StoreFixture make_memory() { return {nullptr, std::make_unique<MemoryStore>()}; }

StoreFixture make_folder() {
  auto folder = std::make_shared<os::TempDir>(os::TempDir::create("reclo-test-").value());
  return {folder, FolderStore::open(folder->path(), false).value()};
}

INSTANTIATE_TEST_SUITE_P(Memory, StoreConformanceTest, testing::Values(make_memory));
INSTANTIATE_TEST_SUITE_P(Folder, StoreConformanceTest, testing::Values(make_folder));

}  // namespace
}  // namespace reclo::store
