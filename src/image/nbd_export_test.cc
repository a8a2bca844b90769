#include "image/nbd_export.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "image/image_test_util.h"
#include "image/nbd_server.h"
#include "os/subprocess.h"

namespace reclo::image {
namespace {

using testing::must;
using testing::test_limit;
using testing::TestServer;

std::string free_port() {
  const os::Fd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  RECLO_CHECK(::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0);
  RECLO_CHECK(::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
  return std::to_string(ntohs(address.sin_port));
}

class NbdExportTest : public ::testing::Test {
 protected:
  void SetUp() override {
    store_ = must(store::FolderStore::open(path("repository"), true));
    server_ = std::make_unique<TestServer>(*store_);
    disk_ = testing::make_disk(24 * kMiB + 512 * 7, 11);
    std::fill_n(disk_.begin() + 8 * kMiB, 6 * kMiB, uint8_t{0});
    server_->back_up(disk_);
    testing::change_pages(disk_, 5, 50);
    std::fill_n(disk_.begin() + 8 * kMiB, 6 * kMiB, uint8_t{0});
    server_->back_up(disk_);
    must(os::write_file_durably(path("disk.raw"), disk_));
  }
  void TearDown() override {
    if (export_) stop_nbd_export(export_->pid);
  }
  std::string path(const std::string& name) const { return os::join_path(folder_.path(), name); }

  NbdExportOptions options() const {
    NbdExportOptions options;
    options.store.url = path("repository");
    options.machine = server_->machine();
    options.point = server_->points().back().record.id;
    options.socket_path = path("nbd.sock");
    options.cache_directory = path("cache");
    options.log_path = path("nbdkit.log");
    return options;
  }
  void start(const NbdExportOptions& options) {
    export_ = must(start_nbd_export(options, server_->box_secret_key(), test_limit()));
  }
  std::string uri() const { return "nbd+unix:///?socket=" + path("nbd.sock"); }
  std::string run(const std::vector<std::string>& argv) {
    auto out = os::run_checked(argv, test_limit());
    EXPECT_TRUE(out.ok()) << (out.ok() ? "" : out.error().message());
    return out.ok() ? *out : "";
  }

  os::TempDir folder_ = must(os::TempDir::create("reclo-nbd-test-"));
  std::unique_ptr<store::ObjectStore> store_;
  std::unique_ptr<TestServer> server_;
  Bytes disk_;
  std::optional<NbdExport> export_;
};

TEST_F(NbdExportTest, PassesTheClientsOfLibnbdAndQemu) {
  start(options());
  EXPECT_EQ(export_->size_bytes, disk_.size());
  const std::string info = run({"nbdinfo", "--json", uri()});
  EXPECT_NE(info.find("\"is_read_only\": true"), std::string::npos) << info;
  EXPECT_NE(info.find("\"can_multi_conn\": true"), std::string::npos) << info;
  const std::string map = run({"nbdinfo", "--map", uri()});
  EXPECT_NE(map.find("hole,zero"), std::string::npos) << map;
  run({"nbdcopy", uri(), path("copy.raw")});
  EXPECT_TRUE(must(os::read_file(path("copy.raw"), kGiB)) == disk_);
  run({"qemu-img", "compare", "-f", "raw", "-F", "raw", path("disk.raw"), uri()});
  run({"qemu-img", "convert", "-m", "8", "-W", "-f", "raw", "-O", "raw", uri(), path("conv.raw")});
  EXPECT_TRUE(must(os::read_file(path("conv.raw"), kGiB)) == disk_);
  const std::string io = run({"qemu-io", "-r", "-f", "raw", "-c", "read -P 0 8M 6M", "-c",
                              "read 512 512", "-c", "read 4095k 8M", uri()});
  EXPECT_EQ(io.find("error"), std::string::npos) << io;
  EXPECT_EQ(io.find("failed"), std::string::npos) << io;
}

TEST_F(NbdExportTest, OutlivesItsStarterOnlyWhenAsked) {
  for (const bool outlive : {true, false}) {
    NbdExportOptions wanted = options();
    wanted.die_with_parent = !outlive;
    int fds[2];
    ASSERT_EQ(::pipe(fds), 0);
    const os::Fd in(fds[0]);
    os::Fd out(fds[1]);
    const pid_t starter = ::fork();
    if (starter == 0) {
      const auto server = start_nbd_export(wanted, server_->box_secret_key(), test_limit());
      const pid_t pid = server.ok() ? server->pid : -1;
      const ssize_t put = ::write(out.get(), &pid, sizeof pid);
      ::_exit(put == sizeof pid ? 0 : 1);
    }
    must(out.close());
    pid_t pid = -1;
    ASSERT_EQ(::read(in.get(), &pid, sizeof pid), static_cast<ssize_t>(sizeof pid));
    ASSERT_GT(pid, 0);
    ::waitpid(starter, nullptr, 0);
    NbdAddress address;
    address.socket_path = wanted.socket_path;
    const auto answers = [&] { return ask_nbd_size(address).ok(); };
    for (int i = 0; i < (outlive ? 10 : 500) && answers(); ++i)
      must(CancelToken().sleep_for(std::chrono::milliseconds(20)));
    EXPECT_EQ(answers(), outlive);
    stop_nbd_export(pid);
  }
}

TEST_F(NbdExportTest, FiosNbdEngineReads) {
  start(options());
  const std::string out =
      run({"fio", "--name=t", "--ioengine=nbd", "--uri=" + uri(), "--rw=randread", "--bs=4k",
           "--iodepth=16", "--size=16M", "--io_size=8M", "--output-format=terse"});
  EXPECT_FALSE(out.empty());
}

TEST_F(NbdExportTest, ListensOnTcp) {
  NbdExportOptions tcp = options();
  const std::string port = free_port();
  tcp.socket_path.clear();
  tcp.listen_address = "127.0.0.1:" + port;
  start(tcp);
  run({"qemu-img", "compare", "-f", "raw", "-F", "raw", path("disk.raw"),
       "nbd://127.0.0.1:" + port});
}

TEST_F(NbdExportTest, OlderPointsGiveTheOlderContent) {
  NbdExportOptions old = options();
  old.point = server_->points().front().record.id;
  start(old);
  const auto compared = must(os::run_command(
      {"qemu-img", "compare", "-f", "raw", "-F", "raw", path("disk.raw"), uri()}, test_limit()));
  EXPECT_EQ(compared.exit_code, 1);
}

TEST_F(NbdExportTest, DamageIsAnInputOutputError) {
  // Every data pack of the first point loses a bit in each of its slots.
  const std::string packs = path("repository") + "/machines/" + server_->machine().hex() + "/packs";
  const std::string first = packs + "/" + server_->points().front().record.id.hex() + "/00000000";
  Bytes pack = must(os::read_file(first, kGiB));
  for (size_t at = 600; at + 2000 < pack.size(); at += 4096) pack[at] ^= 0x10;
  must(os::write_file_durably(first, pack));
  start(options());
  const auto out = must(os::run_command({"nbdcopy", uri(), path("copy.raw")}, test_limit()));
  EXPECT_NE(out.exit_code, 0);
  EXPECT_NE(out.err.find("Input/output error"), std::string::npos) << out.err;
  EXPECT_NE(end_of_log(path("nbdkit.log")).find("corruption"), std::string::npos);
}

TEST_F(NbdExportTest, FailuresToStartSayWhy) {
  NbdExportOptions wrong = options();
  wrong.disk_index = 3;
  auto result = start_nbd_export(wrong, server_->box_secret_key(), test_limit());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kNotFound) << result.error().message();
  EXPECT_NE(result.error().message().find("no disk 3"), std::string::npos)
      << result.error().message();

  const crypto::SecretKey other = crypto::SecretKey::random();
  result = start_nbd_export(options(), other, test_limit());
  ASSERT_FALSE(result.ok());
  EXPECT_EQ(result.error().code(), Code::kUnauthenticated) << result.error().message();

  wrong = options();
  wrong.listen_address = "127.0.0.1:1";
  EXPECT_EQ(start_nbd_export(wrong, other, test_limit()).error().code(), Code::kInvalidArgument);
}

TEST_F(NbdExportTest, AKilledServerStartsAgainOnTheSameSocket) {
  start(options());
  ::kill(export_->pid, SIGKILL);
  stop_nbd_export(export_->pid);
  start(options());
  run({"nbdinfo", "--size", uri()});
  EXPECT_EQ(start_nbd_export(options(), server_->box_secret_key(), test_limit()).error().code(),
            Code::kConflict);
}

TEST_F(NbdExportTest, NoSecretIsInTheServersArgumentsOrEnvironment) {
  start(options());
  const std::string key = to_base64(server_->box_secret_key().bytes());
  for (const char* file : {"cmdline", "environ"}) {
    const Bytes text = must(os::read_file(fmt::format("/proc/{}/{}", export_->pid, file), 1 << 20));
    EXPECT_EQ(as_text(text).find(key), std::string_view::npos) << file;
  }
}

TEST_F(NbdExportTest, WhatWasReadFirstIsRecorded) {
  start(options());
  run({"qemu-io", "-r", "-f", "raw", "-c", "read 1M 64k", uri()});
  stop_nbd_export(export_->pid);
  export_.reset();
  const std::string file =
      path("cache") + fmt::format("/boot-set-{}-0", server_->machine().short_hex());
  EXPECT_TRUE(os::path_exists(file));
}

}  // namespace
}  // namespace reclo::image
