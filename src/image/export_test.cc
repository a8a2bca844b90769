#include <gtest/gtest.h>
#include <signal.h>

#include <thread>

#include "image/export_format.h"
#include "image/image_test_util.h"
#include "image/nbd_server.h"
#include "image/writable_export.h"
#include "os/subprocess.h"

namespace reclo::image {
namespace {

using testing::must;
using testing::test_limit;
using testing::TestServer;

class ExportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = must(store::FolderStore::open(path("repository"), true));
    server_ = std::make_unique<TestServer>(*store_);
    disk_ = testing::make_disk(20 * kMiB + 512 * 3, 31);
    std::fill_n(disk_.begin() + 8 * kMiB, 8 * kMiB, uint8_t{0});
    server_->back_up(disk_);
    must(os::write_file_durably(path("disk.raw"), disk_));
  }
  std::string path(const std::string& name) const { return os::join_path(folder_.path(), name); }
  NbdExportOptions source() const {
    NbdExportOptions options;
    options.store.url = path("repository");
    options.machine = server_->machine();
    options.point = server_->points().back().record.id;
    return options;
  }
  WritableExportOptions writable() const {
    WritableExportOptions options;
    options.base = source();
    options.overlay_path = path("overlay.qcow2");
    options.socket_path = path("nbd.sock");
    return options;
  }
  void run(const std::vector<std::string>& argv) {
    const auto out = os::run_checked(argv, test_limit());
    EXPECT_TRUE(out.ok()) << (out.ok() ? "" : out.error().message());
  }
  void qemu_io(const std::string& command) {
    const auto out =
        must(os::run_command({"qemu-io", "-f", "raw", "-c", command, uri()}, test_limit()));
    EXPECT_EQ(out.exit_code, 0) << out.out << out.err;
    EXPECT_EQ(out.out.find("failed"), std::string::npos) << command << ": " << out.out;
  }
  std::string uri() const { return nbd_uri(path("nbd.sock"), ""); }

  os::TempDir folder_ = must(os::TempDir::create("reclo-export-test-"));
  std::unique_ptr<store::ObjectStore> store_;
  std::unique_ptr<TestServer> server_;
  Bytes disk_;
};

TEST_F(ExportTest, EveryFormatHoldsTheDisk) {
  struct Case {
    const char* name;
    const char* driver;
  };
  for (const Case& one :
       {Case{"qcow2", "qcow2"}, Case{"vhd", "vpc"}, Case{"vhdx", "vhdx"}, Case{"vmdk", "vmdk"}}) {
    const std::string target = path(std::string("disk.") + one.name);
    NullProgress progress;
    ExportRequest request{source(), target, must(parse_export_format(one.name)), false};
    const uint64_t size =
        must(export_disk(request, server_->box_secret_key(), progress, test_limit()));
    EXPECT_GT(size, kMiB);
    EXPECT_LT(size, 26 * kMiB) << one.name;  // VHDX has blocks of 8 MiB
    run({"qemu-img", "compare", "-f", "raw", "-F", one.driver, path("disk.raw"), target});
    const auto again = export_disk(request, server_->box_secret_key(), progress, test_limit());
    ASSERT_FALSE(again.ok());
    EXPECT_EQ(again.error().code(), Code::kAlreadyExists);
  }
  EXPECT_FALSE(parse_export_format("iso").ok());
}

TEST_F(ExportTest, AFailedExportLeavesNothing) {
  std::stop_source stop;
  NullProgress progress;
  const ExportRequest request{source(), path("missing/disk.qcow2"), ExportFormat::kQcow2, false};
  EXPECT_FALSE(export_disk(request, server_->box_secret_key(), progress, test_limit()).ok());
  const auto names = must(os::list_directory(folder_.path()));
  EXPECT_EQ(names.size(), 2u);  // the repository and disk.raw
}

TEST_F(ExportTest, WritesGoToTheOverlayAndStay) {
  {
    const auto served =
        must(WritableExport::start(writable(), server_->box_secret_key(), test_limit()));
    EXPECT_EQ(served->size_bytes(), disk_.size());
    run({"qemu-img", "compare", "-f", "raw", "-F", "raw", path("disk.raw"), uri()});
    qemu_io("write -P 0x5a 1M 64k");
  }
  {
    const auto served =
        must(WritableExport::start(writable(), server_->box_secret_key(), test_limit()));
    qemu_io("read -P 0x5a 1M 64k");
    qemu_io("read -P 0 8M 8M");
    WritableExportOptions second = writable();
    second.socket_path = path("other.sock");
    const auto in_use = WritableExport::start(second, server_->box_secret_key(), test_limit());
    ASSERT_FALSE(in_use.ok());
    EXPECT_EQ(in_use.error().code(), Code::kConflict) << in_use.error().message();
  }
  // The point itself is as it was.
  EXPECT_TRUE(must(os::read_file(path("disk.raw"), kGiB)) == disk_);
}

TEST_F(ExportTest, AnOverlayOfAnotherPointIsRefused) {
  {
    const auto served =
        must(WritableExport::start(writable(), server_->box_secret_key(), test_limit()));
  }
  testing::change_pages(disk_, 1, 3);
  server_->back_up(disk_);
  auto other = WritableExport::start(writable(), server_->box_secret_key(), test_limit());
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), Code::kConflict) << other.error().message();
  WritableExportOptions not_overlay = writable();
  not_overlay.overlay_path = path("disk.raw");
  other = WritableExport::start(not_overlay, server_->box_secret_key(), test_limit());
  ASSERT_FALSE(other.ok());
  EXPECT_EQ(other.error().code(), Code::kInvalidArgument) << other.error().message();
}

TEST_F(ExportTest, ServersThatDieAreStartedAgain) {
  const auto served =
      must(WritableExport::start(writable(), server_->box_secret_key(), test_limit()));
  qemu_io("write -P 0x77 2M 64k");
  const pid_t base = served->base_pid();
  std::stop_source stop;
  Status supervised;
  {
    std::jthread supervisor([&] { supervised = served->supervise(CancelToken(stop.get_token())); });
    ::kill(base, SIGKILL);
    qemu_io("read 16M 4M");  // waits until the base is back
    qemu_io("read -P 0x77 2M 64k");
    stop.request_stop();
  }
  EXPECT_TRUE(supervised.ok());
}

}  // namespace
}  // namespace reclo::image
