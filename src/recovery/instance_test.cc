// Recovery with a real QEMU (TCG) and real NBD servers; the guest is testing/counter_disk.h.
#include "recovery/instance.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>

#include <nlohmann/json.hpp>
#include <thread>

#include "base/units.h"
#include "os/subprocess.h"
#include "recovery/hydration.h"
#include "recovery/overlay.h"
#include "recovery/testing/counter_disk.h"
#include "recovery/testing/file_exporter.h"

namespace reclo::recovery {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr uint64_t kDiskSizeBytes = 16 * kMiB;

class InstanceTest : public ::testing::Test {
 protected:
  InstanceTest()
      : folder_(os::TempDir::create("reclo-recovery-").value()),
        image_(os::join_path(folder_.path(), "disk.raw")),
        store_(os::join_path(folder_.path(), "state")),
        exporter_(image_) {
    EXPECT_TRUE(testing::write_counter_disk(image_, kDiskSizeBytes).ok());
  }
  ~InstanceTest() override {
    StopOptions options;
    options.force = true;
    options.delete_instance = true;
    const auto records = store_.list();
    EXPECT_TRUE(records.ok());
    for (const InstanceRecord& record : *records)
      EXPECT_TRUE(stop_instance(store_, record.id, options, progress_, CancelToken()).ok());
  }

  RecoverOptions options() const {
    RecoverOptions out;
    out.server = "counter";
    out.point = "0123";
    out.point_time = wall_now() - seconds(90);
    out.disks = {{0, kDiskSizeBytes}};
    out.accelerator = "tcg";
    out.memory_bytes = 64 * kMiB;
    out.cpus = 1;
    return out;
  }
  SupervisorLaunch supervisor() const {
    return {{RECLO_RECOVERY_TEST_TOOL, "supervise", image_}, &key_};
  }
  Result<RecoverResult> recover_now(const RecoverOptions& options,
                                    const SupervisorLaunch& launch = {}) {
    return recover(store_, options, exporter_, launch, progress_, CancelToken());
  }
  Result<RecoverResult> resume_now(const std::string& id, const SupervisorLaunch& launch = {}) {
    return resume_instance(store_, id, {}, &exporter_, launch, progress_, CancelToken());
  }
  std::string serial(const InstanceRecord& record) const {
    const auto content = os::read_file(store_.paths(record).serial_log(), kMiB);
    return content.ok() ? std::string(as_text(*content)) : std::string();
  }
  static bool eventually(const std::function<bool()>& condition, milliseconds limit = seconds(60)) {
    const CancelToken deadline = CancelToken().with_timeout(limit);
    while (!condition())
      if (!deadline.sleep_for(milliseconds(20)).ok()) return false;
    return true;
  }
  bool says(const InstanceRecord& record, const std::string& text) const {
    return eventually([&] { return serial(record).find(text) != std::string::npos; });
  }
  InstanceRecord load(const std::string& id) const { return store_.load(id).value(); }

  os::TempDir folder_;
  std::string image_;
  InstanceStore store_;
  testing::FileExporter exporter_;
  crypto::SecretKey key_ = crypto::SecretKey::random();
  NullProgress progress_;
};

TEST_F(InstanceTest, RecoversDescribesAndStopsWithoutTrace) {
  RecoverOptions wanted = options();
  wanted.name = "front";
  wanted.display = Display::kVnc;
  wanted.forwards = {{"127.0.0.1", 0, 80}};
  const RecoverResult result = recover_now(wanted).value();
  const InstanceRecord& record = result.record;
  EXPECT_TRUE(says(record, "BOOT 1\n"));
  EXPECT_EQ(record.state, InstanceState::kStarted);
  EXPECT_EQ(record.firmware, Firmware::kBios);
  EXPECT_THAT(record.vnc_address, HasSubstr("127.0.0.1:59"));
  EXPECT_GE(record.rpo_ms.value(), 90'000);
  EXPECT_EQ(record.rto_ms.value(), result.first_answer_ms);
  const nlohmann::json json = describe_instance(list_instances(store_).value().at(0));
  EXPECT_EQ(json["state"], "started");
  EXPECT_EQ(json["running"], true);
  EXPECT_EQ(json["steps"].size(), 3u);
  EXPECT_GT(json["pid"].get<int>(), 0);
  EXPECT_GT(json["disks"][0]["export_pid"].get<int>(), 0);

  StopOptions stop;
  stop.delete_instance = true;
  stop.powerdown_timeout = milliseconds(300);  // the boot sector knows no ACPI
  ASSERT_TRUE(stop_instance(store_, record.id, stop, progress_, CancelToken()).ok());
  EXPECT_FALSE(is_running(record.machine_process));
  EXPECT_FALSE(is_running(record.disks[0].export_process));
  EXPECT_FALSE(os::path_exists(store_.paths(record).folder));
  EXPECT_TRUE(list_instances(store_).value().empty());
}

TEST_F(InstanceTest, GuestWaitsForAKilledServerUntilResume) {
  const InstanceRecord record = recover_now(options()).value().record;
  ASSERT_TRUE(says(record, "BOOT 1\n..."));
  ::kill(record.disks[0].export_process.pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return !is_running(record.disks[0].export_process); }));
  std::this_thread::sleep_for(milliseconds(300));
  const size_t before = serial(record).size();
  const RecoverResult resumed = resume_now(record.id).value();
  EXPECT_EQ(resumed.record.machine_process, record.machine_process);
  EXPECT_TRUE(eventually([&] { return serial(record).size() > before + 5; }));
  EXPECT_THAT(serial(record), Not(HasSubstr("!")));
}

TEST_F(InstanceTest, SupervisorBringsBackAKilledServerAndIsReplacedByResume) {
  const InstanceRecord record = recover_now(options(), supervisor()).value().record;
  ASSERT_TRUE(says(record, "BOOT 1\n..."));
  ASSERT_TRUE(is_running(record.supervisor_process));
  const std::string log_path = store_.paths(record).supervisor_log();
  EXPECT_TRUE(eventually([&] {
    const auto log = os::read_file(log_path, kMiB);
    return log.ok() && as_text(*log).find("got a key") != std::string_view::npos;
  }));
  ::kill(record.disks[0].export_process.pid, SIGKILL);
  EXPECT_TRUE(eventually([&] {
    const DiskRecord disk = load(record.id).disks[0];
    return disk.export_process != record.disks[0].export_process && is_running(disk.export_process);
  }));
  const size_t before = serial(record).size();
  EXPECT_TRUE(eventually([&] { return serial(record).size() > before + 5; }));
  EXPECT_THAT(serial(record), Not(HasSubstr("!")));

  ::kill(record.supervisor_process.pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return !is_running(record.supervisor_process); }));
  const InstanceRecord resumed = resume_now(record.id, supervisor()).value().record;
  EXPECT_TRUE(is_running(resumed.supervisor_process));
  EXPECT_EQ(resumed.machine_process, record.machine_process);
}

TEST_F(InstanceTest, KilledMachineResumesWithItsWrites) {
  const InstanceRecord record = recover_now(options(), supervisor()).value().record;
  ASSERT_TRUE(says(record, "BOOT 1\n."));
  ::kill(record.machine_process.pid, SIGKILL);
  // The supervisor sees it, ends the servers, says so and leaves.
  EXPECT_TRUE(eventually([&] { return load(record.id).state == InstanceState::kFailed; }));
  EXPECT_TRUE(eventually([&] { return !is_running(record.supervisor_process); }));
  EXPECT_FALSE(is_running(record.disks[0].export_process));
  EXPECT_THAT(load(record.id).problem, HasSubstr("abruptly"));
  const InstanceRecord resumed = resume_now(record.id).value().record;
  EXPECT_TRUE(says(resumed, "BOOT 2\n."));
  // Stopped and resumed, as after a restart of the computer.
  StopOptions stop;
  stop.force = true;
  ASSERT_TRUE(stop_instance(store_, record.id, stop, progress_, CancelToken()).ok());
  EXPECT_EQ(load(record.id).state, InstanceState::kStopped);
  EXPECT_TRUE(resume_now(record.id).ok());
  EXPECT_TRUE(says(record, "BOOT 3\n."));
}

TEST_F(InstanceTest, HydratesEndsTheServerAndStandsAlone) {
  RecoverOptions wanted = options();
  wanted.hydrate = true;
  const InstanceRecord record = recover_now(wanted, supervisor()).value().record;
  ASSERT_TRUE(
      eventually([&] { return load(record.id).hydration == HydrationState::kDone; }, seconds(90)))
      << load(record.id).problem;
  const InstanceRecord done = load(record.id);
  const InstancePaths paths = store_.paths(done);
  EXPECT_TRUE(done.disks[0].hydrated);
  EXPECT_FALSE(is_running(record.disks[0].export_process));
  EXPECT_FALSE(os::path_exists(paths.cache(0)));
  EXPECT_FALSE(needs_repository(store_, done).value());
  EXPECT_EQ(describe_instance(done)["hydration"]["done_bytes"], kDiskSizeBytes);
  // The worst moment to lose QEMU: nothing but the overlay file is left.
  ASSERT_TRUE(says(done, "BOOT 1\n."));
  ::kill(done.machine_process.pid, SIGKILL);
  ASSERT_TRUE(eventually([&] { return load(record.id).state == InstanceState::kFailed; }));
  ASSERT_TRUE(resume_instance(store_, record.id, {}, nullptr, {}, progress_, CancelToken()).ok());
  EXPECT_TRUE(says(done, "BOOT 2\n....."));
  EXPECT_THAT(serial(done), Not(HasSubstr("!")));

  StopOptions stop;
  stop.force = true;
  ASSERT_TRUE(stop_instance(store_, record.id, stop, progress_, CancelToken()).ok());
  const std::string copy = os::join_path(folder_.path(), "copy.raw");
  ASSERT_TRUE(
      os::run_checked({"qemu-img", "convert", "-O", "raw", paths.overlay(0), copy}, CancelToken())
          .ok());
  const Bytes got = os::read_file(copy, kDiskSizeBytes).value();
  Bytes expected = os::read_file(image_, kDiskSizeBytes).value();
  expected[testing::kCounterOffsetBytes] = 2;
  EXPECT_TRUE(got == expected);
}

TEST_F(InstanceTest, HydrationSurvivesTheSupervisorsDeathBeforeItsEnd) {
  RecoverOptions wanted = options();
  wanted.hydrate = true;
  SupervisorLaunch doomed = supervisor();
  doomed.argv.insert(doomed.argv.begin(), {"env", "RECLO_KILL_POINT=recovery.before_finalize"});
  const InstanceRecord record = recover_now(wanted, doomed).value().record;
  ASSERT_TRUE(eventually([&] { return !is_running(record.supervisor_process); }));
  EXPECT_TRUE(is_running(record.machine_process));
  EXPECT_TRUE(read_overlay(store_.paths(record).overlay(0)).value().has_base);
  EXPECT_TRUE(resume_now(record.id, supervisor()).ok());
  EXPECT_TRUE(eventually([&] { return load(record.id).hydration == HydrationState::kDone; }))
      << load(record.id).problem;
}

TEST_F(InstanceTest, CompletenessIsReadFromTheOverlayItself) {
  const std::string overlay = os::join_path(folder_.path(), "o.qcow2");
  // 300 KiB: the last cluster is not whole.
  constexpr uint64_t kSmallSizeBytes = 300 * kKiB;
  ASSERT_TRUE(make_overlay(overlay, "/nowhere.sock", kSmallSizeBytes, CancelToken()).ok());
  ASSERT_TRUE(make_overlay(overlay, "/nowhere.sock", kSmallSizeBytes, CancelToken()).ok());
  EXPECT_EQ(make_overlay(overlay, "/nowhere.sock", kMiB, CancelToken()).error().code(),
            Code::kConflict);
  EXPECT_FALSE(overlay_is_complete(overlay, CancelToken()).value());
  ASSERT_TRUE(os::run_checked({"qemu-img", "rebase", "-u", "-b", "", overlay}, CancelToken()).ok());
  EXPECT_FALSE(read_overlay(overlay).value().has_base);
  const auto write = [&](const std::string& command) {
    return os::run_checked({"qemu-io", "-c", command, overlay}, CancelToken()).ok();
  };
  ASSERT_TRUE(write("write 0 256k"));
  EXPECT_FALSE(overlay_is_complete(overlay, CancelToken()).value());
  ASSERT_TRUE(write("write -z 256k 44k"));
  EXPECT_TRUE(overlay_is_complete(overlay, CancelToken()).value());
  EXPECT_EQ(overlay_is_complete(image_, CancelToken()).error().code(), Code::kCorruption);
}

TEST_F(InstanceTest, KilledAtAnyStepItResumesOrStops) {
  for (const std::string point :
       {"recovery.export_started", "recovery.after_exports", "recovery.after_overlays",
        "recovery.machine_started", "recovery.after_machine"}) {
    SCOPED_TRACE(point);
    const auto output =
        os::run_command({RECLO_RECOVERY_TEST_TOOL, "recover", image_, store_.state_dir()},
                        CancelToken().with_timeout(seconds(60)), {{"RECLO_KILL_POINT", point}});
    ASSERT_TRUE(output.ok());
    ASSERT_NE(output->exit_code, 0) << output->err;
    const InstanceRecord record = store_.list().value().at(0);
    const auto resumed = resume_now(record.id);
    ASSERT_TRUE(resumed.ok()) << resumed.error().message();
    EXPECT_TRUE(says(record, "BOOT 1\n."));
    StopOptions stop;
    stop.force = true;
    stop.delete_instance = true;
    ASSERT_TRUE(stop_instance(store_, record.id, stop, progress_, CancelToken()).ok());
    EXPECT_FALSE(is_running(resumed->record.machine_process));
    EXPECT_FALSE(is_running(resumed->record.disks[0].export_process));
  }
  const auto output = os::run_command(
      {RECLO_RECOVERY_TEST_TOOL, "recover", image_, store_.state_dir()},
      CancelToken().with_timeout(seconds(60)), {{"RECLO_KILL_POINT", "recovery.machine_started"}});
  ASSERT_TRUE(output.ok());
  const InstanceRecord record = store_.list().value().at(0);
  const std::string qmp = store_.paths(record).qmp_socket();
  const std::string nbd = store_.paths(record).nbd_socket(0);
  // Also without waiting until QEMU listens: it is found by its arguments.
  StopOptions stop;
  stop.force = true;
  ASSERT_TRUE(stop_instance(store_, record.id, stop, progress_, CancelToken()).ok());
  EXPECT_FALSE(listening_process(qmp));
  EXPECT_FALSE(listening_process(nbd));
  EXPECT_FALSE(process_with_argument(store_.paths(record).pid_file()).known());
  EXPECT_FALSE(process_with_argument(nbd).known());
}

TEST_F(InstanceTest, ALostOverlayIsNotReplacedInSilence) {
  const InstanceRecord record = recover_now(options()).value().record;
  StopOptions stop;
  stop.force = true;
  ASSERT_TRUE(stop_instance(store_, record.id, stop, progress_, CancelToken()).ok());
  ASSERT_TRUE(os::remove_file(store_.paths(record).overlay(0)).ok());
  EXPECT_EQ(resume_now(record.id).error().code(), Code::kNotFound);
}

TEST_F(InstanceTest, AForwardedPortNobodyServesIsNoAnswer) {
  RecoverOptions wanted = options();
  wanted.forwards = {{"127.0.0.1", 0, 80}};
  wanted.wait_timeout = seconds(5);  // the boot sector has said its line by then
  for (const std::string target : {"tcp:80", "http:80/"}) {
    wanted.wait_for = target;
    const auto result = recover_now(wanted);
    EXPECT_EQ(result.error().code(), Code::kTimeout) << target;
    EXPECT_THAT(result.error().message(), HasSubstr("the machine runs on"));
    EXPECT_THAT(result.error().message(), HasSubstr("BOOT 1"));
  }
  const auto left = store_.list().value();
  for (const InstanceRecord& record : left) EXPECT_TRUE(is_running(record.machine_process));
}

// A listener of our own, for targets that are not forwards: speaks just enough HTTP.
class Listener {
 public:
  explicit Listener(std::string response) : response_(std::move(response)) {
    std::vector<Forward> forwards{{"127.0.0.1", 0, 1}};
    EXPECT_TRUE(pick_free_ports(forwards).ok());
    port_ = forwards[0].host_port;
    fd_ = os::Fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    EXPECT_EQ(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(fd_.get(), 8), 0);
    thread_ = std::jthread([this] {
      for (;;) {
        const os::Fd client(::accept(fd_.get(), nullptr, nullptr));
        if (!client.valid()) return;
        char request[1024];
        if (::recv(client.get(), request, sizeof request, 0) > 0)
          ::send(client.get(), response_.data(), response_.size(), MSG_NOSIGNAL);
      }
    });
  }
  ~Listener() { ::shutdown(fd_.get(), SHUT_RDWR); }
  uint16_t port() const { return port_; }

 private:
  std::string response_;
  uint16_t port_ = 0;
  os::Fd fd_;
  std::jthread thread_;
};

TEST_F(InstanceTest, FirstAnswerIsTimed) {
  const Listener up("HTTP/1.1 200 OK\r\n\r\nhello");
  RecoverOptions wanted = options();
  wanted.wait_for = "http://127.0.0.1:" + std::to_string(up.port()) + "/";
  const RecoverResult result = recover_now(wanted).value();
  EXPECT_TRUE(result.answered);
  EXPECT_EQ(result.record.state, InstanceState::kAnswering);
  EXPECT_EQ(result.record.steps.back().name, "answer");
  EXPECT_GT(result.record.rto_ms.value(), 0);
}

TEST_F(InstanceTest, ABrokenServiceIsNoAnswer) {
  const Listener broken("HTTP/1.1 503 Service Unavailable\r\n\r\n");
  RecoverOptions wanted = options();
  wanted.wait_for = "http://127.0.0.1:" + std::to_string(broken.port()) + "/";
  wanted.wait_timeout = milliseconds(500);
  EXPECT_EQ(recover_now(wanted).error().code(), Code::kTimeout);
}

TEST_F(InstanceTest, AMachineThatDiesWhileAwaitedIsAnEarlyError) {
  RecoverOptions wanted = options();
  wanted.forwards = {{"127.0.0.1", 0, 80}};
  wanted.wait_for = "tcp:80";
  std::jthread killer([&] {
    EXPECT_TRUE(eventually([&] {
      const auto records = store_.list();
      if (!records.ok() || records->empty() || records->at(0).state != InstanceState::kStarted)
        return false;
      ::kill(records->at(0).machine_process.pid, SIGKILL);
      return true;
    }));
  });
  const Stopwatch watch;
  const auto result = recover_now(wanted);
  EXPECT_EQ(result.error().code(), Code::kInternal);
  EXPECT_LT(watch.seconds(), 60);
  EXPECT_EQ(store_.list().value().at(0).state, InstanceState::kFailed);
  EXPECT_FALSE(is_running(store_.list().value().at(0).disks[0].export_process));
}

TEST_F(InstanceTest, FailuresNameTheReasonAndLeaveNothingRunning) {
  const Listener taken("");
  RecoverOptions wanted = options();
  wanted.forwards = {{"127.0.0.1", taken.port(), 80}};
  const auto busy = recover_now(wanted);
  EXPECT_THAT(busy.error().message(), HasSubstr("forwarding rule"));
  wanted = options();
  wanted.disks[0].size_bytes = 2 * kDiskSizeBytes;
  EXPECT_EQ(recover_now(wanted).error().code(), Code::kConflict);
  const auto left = store_.list().value();
  for (const InstanceRecord& record : left) {
    EXPECT_EQ(record.state, InstanceState::kFailed);
    EXPECT_FALSE(listening_process(store_.paths(record).nbd_socket(0)));
  }
  const size_t before = store_.list().value().size();
  for (const auto& spoil : std::vector<std::function<void(RecoverOptions&)>>{
           [](RecoverOptions& o) { o.disks.clear(); },
           [](RecoverOptions& o) { o.disks.push_back(o.disks[0]); },
           [](RecoverOptions& o) { o.accelerator = "fast"; },
           [](RecoverOptions& o) { o.memory_bytes = 1; }, [](RecoverOptions& o) { o.cpus = 1000; },
           [](RecoverOptions& o) { o.wait_for = "soon"; }}) {
    wanted = options();
    spoil(wanted);
    EXPECT_EQ(recover_now(wanted).error().code(), Code::kInvalidArgument);
  }
  EXPECT_EQ(store_.list().value().size(), before);
}

TEST_F(InstanceTest, BootsFromEveryBusAndWithManyDisks) {
  for (const auto& [bus, count] : {std::pair(DiskBus::kSata, 8u), std::pair(DiskBus::kNvme, 2u),
                                   std::pair(DiskBus::kVirtio, 18u)}) {
    RecoverOptions wanted = options();
    wanted.disk_bus = bus;
    wanted.isolated = true;
    for (uint32_t i = 1; i < count; ++i) wanted.disks.push_back({i, kDiskSizeBytes});
    const auto result = recover_now(wanted);
    ASSERT_TRUE(result.ok()) << disk_bus_name(bus) << ": " << result.error().message();
    EXPECT_TRUE(says(result->record, "BOOT 1\n.")) << disk_bus_name(bus);
    StopOptions stop;
    stop.force = true;
    EXPECT_TRUE(stop_instance(store_, result->record.id, stop, progress_, CancelToken()).ok());
  }
}

TEST_F(InstanceTest, UefiGetsVariablesOfItsOwn) {
  RecoverOptions wanted = options();
  wanted.firmware = Firmware::kUefi;
  wanted.display = Display::kVncSocket;
  const auto result = recover_now(wanted);
  ASSERT_TRUE(result.ok()) << result.error().message();
  EXPECT_TRUE(os::path_exists(store_.paths(result->record).uefi_vars()));
  EXPECT_TRUE(listening_process(result->record.vnc_address));
}

TEST_F(InstanceTest, QmpSpeaksWithTheRunningMachine) {
  const InstanceRecord record = recover_now(options()).value().record;
  const std::string socket = store_.paths(record).qmp_socket();
  const CancelToken limit = CancelToken().with_timeout(seconds(30));
  QmpClient qmp = QmpClient::connect(socket, limit).value();
  EXPECT_EQ(qmp.execute("no-such-command", limit).error().code(), Code::kInternal);
  EXPECT_TRUE(qmp.execute("stop", limit).ok());
  EXPECT_EQ(qmp.wait_event("STOP", limit).value().name, "STOP");
  EXPECT_THAT(qmp.human("info status", limit).value(), HasSubstr("paused"));
  // QEMU serves one client at a time: the second waits, and says so.
  EXPECT_EQ(
      QmpClient::connect(socket, CancelToken().with_timeout(milliseconds(200))).error().code(),
      Code::kTimeout);
  ::kill(record.machine_process.pid, SIGKILL);
  EXPECT_EQ(qmp.wait_event("SHUTDOWN", limit).error().code(), Code::kUnavailable);
  EXPECT_EQ(QmpClient::connect("/nowhere.sock", limit).error().code(), Code::kUnavailable);
}

}  // namespace
}  // namespace reclo::recovery
