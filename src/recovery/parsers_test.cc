#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <atomic>

#include "base/task_pool.h"
#include "os/file.h"
#include "recovery/accelerator.h"
#include "recovery/forward.h"
#include "recovery/overlay.h"
#include "recovery/process_ref.h"
#include "recovery/qmp_message.h"
#include "recovery/wait_for.h"

namespace reclo::recovery {
namespace {

TEST(QmpMessageTest, KnowsTheFourKinds) {
  const auto greeting = parse_qmp_line(R"({"QMP": {"version": {}, "capabilities": []}})").value();
  EXPECT_EQ(greeting.kind, QmpMessage::Kind::kGreeting);
  const auto answer = parse_qmp_line(R"({"return": {"running": true}, "id": 7})").value();
  EXPECT_EQ(answer.kind, QmpMessage::Kind::kReturn);
  EXPECT_EQ(answer.id, 7u);
  EXPECT_TRUE(answer.data["running"].get<bool>());
  const auto error =
      parse_qmp_line(R"({"error": {"class": "GenericError", "desc": "no"}, "id": 8})").value();
  EXPECT_EQ(error.kind, QmpMessage::Kind::kError);
  EXPECT_EQ(error.text, "no");
  const auto event =
      parse_qmp_line(R"({"event": "STOP", "timestamp": {"seconds": 1, "microseconds": 2}})");
  EXPECT_EQ(event->name, "STOP");
}

TEST(QmpMessageTest, RefusesEverythingElse) {
  for (const char* line : {"", "[]", "7", "{}", "{\"event\": 3}", "{\"error\": \"x\"}",
                           "{\"id\":1}", "{\"QMP\"", "\xff\xfe", "{\"error\": {\"class\": \"x\"}}"})
    EXPECT_EQ(parse_qmp_line(line).error().code(), Code::kCorruption) << line;
}

TEST(LineBufferTest, CutsLinesHoweverTheyArrive) {
  LineBuffer lines;
  ASSERT_TRUE(lines.append("one\r\ntw").ok());
  EXPECT_EQ(lines.pop(), "one");
  EXPECT_EQ(lines.pop(), std::nullopt);
  ASSERT_TRUE(lines.append("o\n\nthree\n").ok());
  EXPECT_EQ(lines.pop(), "two");
  EXPECT_EQ(lines.pop(), "");
  EXPECT_EQ(lines.pop(), "three");
  EXPECT_EQ(lines.pop(), std::nullopt);
}

TEST(LineBufferTest, RefusesAnEndlessLine) {
  LineBuffer lines;
  const std::string part(1 << 20, 'x');
  Status status;
  for (int i = 0; i < 5 && status.ok(); ++i) status = lines.append(part);
  EXPECT_EQ(status.error().code(), Code::kCorruption);
}

TEST(AcceleratorTest, NeedsTheDeviceAndTheCpuFlag) {
  EXPECT_EQ(choose_accelerator("auto", {true, true}).value(), Accelerator::kKvm);
  EXPECT_EQ(choose_accelerator("auto", {true, false}).value(), Accelerator::kTcg);
  EXPECT_EQ(choose_accelerator("auto", {false, true}).value(), Accelerator::kTcg);
  EXPECT_EQ(choose_accelerator("tcg", {true, true}).value(), Accelerator::kTcg);
  EXPECT_EQ(choose_accelerator("kvm", {true, false}).error().code(), Code::kUnsupported);
  EXPECT_EQ(choose_accelerator("kvm", {false, true}).error().code(), Code::kUnsupported);
  EXPECT_EQ(choose_accelerator("xen", {true, true}).error().code(), Code::kInvalidArgument);
}

TEST(AcceleratorTest, ReadsCpuFlagsAsWords) {
  EXPECT_TRUE(cpuinfo_names_virtualisation("model\t: x\nflags\t\t: fpu vmx sse\n"));
  EXPECT_TRUE(cpuinfo_names_virtualisation("flags : fpu svm"));
  EXPECT_FALSE(cpuinfo_names_virtualisation("flags : fpu svm_lock vmx2\nbugs : vmx\n"));
  EXPECT_FALSE(cpuinfo_names_virtualisation("vmx flags\t\t: ept_ad\nflags"));
  EXPECT_FALSE(cpuinfo_names_virtualisation(""));
}

TEST(ForwardTest, ReadsPortsAndAddresses) {
  EXPECT_EQ(parse_forward("8080:80").value(), (Forward{"127.0.0.1", 8080, 80}));
  EXPECT_EQ(parse_forward("0.0.0.0:25:25").value(), (Forward{"0.0.0.0", 25, 25}));
  EXPECT_EQ(parse_forward("0:22").value().host_port, 0);
  EXPECT_EQ(format_forward({"10.0.0.1", 1, 2}), "10.0.0.1:1:2");
  for (const char* text : {"", "80", ":", "80:", ":80", "80:0", "70000:80", "80:-1", "host:80:80",
                           "::1:80:80", "8080:80/udp", " 80:80"})
    EXPECT_EQ(parse_forward(text).error().code(), Code::kInvalidArgument) << text;
}

TEST(ForwardTest, PicksDifferentFreePorts) {
  std::vector<Forward> forwards{{"127.0.0.1", 0, 80}, {"127.0.0.1", 0, 22}, {"127.0.0.1", 9, 9}};
  ASSERT_TRUE(pick_free_ports(forwards).ok());
  EXPECT_NE(forwards[0].host_port, 0);
  EXPECT_NE(forwards[0].host_port, forwards[1].host_port);
  EXPECT_EQ(forwards[2].host_port, 9);
}

TEST(WaitTargetTest, ReadsAllForms) {
  const std::vector<Forward> forwards{{"127.0.0.1", 8080, 80}, {"127.0.0.9", 40123, 22}};
  const auto plain = parse_wait_target("tcp:8080", forwards).value();
  EXPECT_TRUE(plain.forwarded);
  EXPECT_FALSE(plain.http);
  const auto by_guest = parse_wait_target("tcp:22", forwards).value();
  EXPECT_EQ(by_guest.address, "127.0.0.9");
  EXPECT_EQ(by_guest.port, 40123);
  const auto page = parse_wait_target("http:8080/a?b=c", forwards).value();
  EXPECT_TRUE(page.http);
  EXPECT_EQ(page.path, "/a?b=c");
  EXPECT_EQ(page.host_header, "127.0.0.1:8080");
  const auto url = parse_wait_target("http://localhost:8080", forwards).value();
  EXPECT_EQ(url.path, "/");
  EXPECT_TRUE(url.forwarded);
  EXPECT_FALSE(parse_wait_target("http://10.1.1.1:8080/", forwards)->forwarded);
  EXPECT_EQ(parse_wait_target("http://[::1]:81/x", {})->address, "::1");
  EXPECT_EQ(parse_wait_target("http://[::1]:81/x", {})->host_header, "[::1]:81");
  for (const char* text : {"", "tcp:", "tcp:0", "tcp:x", "udp:53", "http://", "http:80 /", "8080",
                           "http://example.org:80/", "http:80/a b", "tcp:1:2:3"})
    EXPECT_EQ(check_wait_target(text).error().code(), Code::kInvalidArgument) << text;
}

TEST(WaitForTest, ReadsUsernetTable) {
  const std::string table =
      "Hub -1 (net0):\r\n  Protocol[State]    FD  Source Address  Port   Dest. Address  Port RecvQ "
      "SendQ\r\n  TCP[SYN_SENT]      17       127.0.0.1 18399       10.0.2.15    80     0     0\r\n"
      "  TCP[ESTABLISHED]   11       127.0.0.1 18400       10.0.2.15    80     0     0\r\n";
  WaitTarget target;
  target.port = 18399;
  EXPECT_FALSE(usernet_established(table, target));
  target.port = 18400;
  EXPECT_TRUE(usernet_established(table, target));
  EXPECT_FALSE(usernet_established("TCP[ESTABLISHED]", target));
}

TEST(WaitForTest, ReadsHttpStatus) {
  EXPECT_EQ(http_status("HTTP/1.1 200 OK\r\n"), 200);
  EXPECT_EQ(http_status("HTTP/1.0 503"), 503);
  EXPECT_EQ(http_status("HTTP/1.1 2"), 0);
  EXPECT_EQ(http_status("SSH-2.0-OpenSSH"), 0);
  EXPECT_EQ(http_status("HTTP/1.1 abc def"), 0);
}

TEST(ProcessRefTest, ReadsStatWhateverTheName) {
  const std::string rest = " S 1 1 1 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2";
  EXPECT_EQ(parse_process_stat("12 (a b) c)" + rest)->start_ticks, 987654u);
  EXPECT_EQ(parse_process_stat("12 (x)" + rest)->state, 'S');
  for (const char* text : {"", "12 x", "12 (x)", "12 (x) S 1 2",
                           "1 (x) S 1 1 1 0 -1 4 1 2 3 4 5 6 7 "
                           "8 20 0 1 0 x 1"})
    EXPECT_FALSE(parse_process_stat(text)) << text;
}

TEST(OverlayTest, QuotesSocketPathsInUrls) {
  EXPECT_EQ(nbd_url("/run/a b,c.sock"), "nbd+unix:///?socket=/run/a%20b%2Cc.sock");
}

TEST(PauseTest, AGuestThatIsNotReadyIsLeftInPeace) {
  using std::chrono::milliseconds;
  EXPECT_LE(pause_after(Probe::kNobody, milliseconds(500)), milliseconds(200));
  EXPECT_GE(pause_after(Probe::kNotReady, milliseconds(0)), milliseconds(500));
  EXPECT_GE(pause_after(Probe::kNotReady, milliseconds(1500)), milliseconds(3000));
  EXPECT_LE(pause_after(Probe::kNotReady, milliseconds(30'000)), milliseconds(5000));
}

// A server that says `words` to whoever connects; its port in `port`.
class OneAnswer {
 public:
  explicit OneAnswer(std::string words) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    RECLO_CHECK(::bind(fd_.get(), reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                ::listen(fd_.get(), 1) == 0 &&
                ::getsockname(fd_.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0);
    port = ntohs(address.sin_port);
    pool_.run([this, words = std::move(words)] {
      const os::Fd client(::accept(fd_.get(), nullptr, nullptr));
      char request[512];
      asked = ::recv(client.get(), request, sizeof request, 0) > 0;
      if (asked) ignore_error(os::write_all(client, as_bytes(words)), "the test sees what arrived");
      ended = true;
    });
  }
  uint16_t port = 0;
  std::atomic<bool> asked = false;
  std::atomic<bool> ended = false;

 private:
  os::Fd fd_;
  TaskPool pool_{1};
};

Result<Probe> probe_http(uint16_t port, bool guest_accepts = true) {
  WaitTarget target;
  target.forwarded = true;
  target.http = true;
  target.address = "127.0.0.1";
  target.host_header = "127.0.0.1";
  target.port = port;
  target.path = "/";
  return probe_target(
      target, [&](const WaitTarget&) -> Result<bool> { return guest_accepts; },
      CancelToken().with_timeout(std::chrono::seconds(20)));
}

TEST(ProbeTest, TellsNobodyFromNotReadyFromAnswered) {
  EXPECT_EQ(probe_http(OneAnswer("HTTP/1.1 503 Service Unavailable\r\n\r\n").port).value(),
            Probe::kNotReady);
  EXPECT_EQ(probe_http(OneAnswer("HTTP/1.1 200 OK\r\n\r\nhello").port).value(), Probe::kAnswered);
  EXPECT_EQ(probe_http(OneAnswer("").port).value(), Probe::kNotReady);
  EXPECT_EQ(probe_http(1).value(), Probe::kNobody);
}

TEST(ProbeTest, AsksNothingBeforeTheGuestHasAccepted) {
  OneAnswer server("HTTP/1.1 200 OK\r\n\r\nhello");
  EXPECT_EQ(probe_http(server.port, false).value(), Probe::kNobody);
  while (!server.ended) std::this_thread::yield();
  EXPECT_FALSE(server.asked);
}

}  // namespace
}  // namespace reclo::recovery
