// S3Store against a real server: the contract, and what only a server can show. The server comes
// from the environment (tests/integration/run_s3.sh): RECLO_TEST_S3_ENDPOINT, RECLO_TEST_S3_BUCKET
// and the AWS key variables. Cases named NeedsLab drive the faults of tests/rigs/moto_s3.py.
#include "store/s3_store.h"

#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <thread>

#include "base/json.h"
#include "net/aws_credentials.h"
#include "os/file.h"
#include "store/conformance_test_suite.h"
#include "store/open_store.h"
#include "store/probe.h"

namespace reclo::store {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr uint64_t kAny = 64 * kMiB;

std::string required(const char* name) {
  const char* value = std::getenv(name);
  if (value == nullptr || *value == '\0') {
    std::fprintf(stderr, "%s is not set: run tests/integration/run_s3.sh\n", name);
    std::exit(2);
  }
  return value;
}

S3StoreOptions test_options(const std::string& prefix) {
  S3StoreOptions options;
  options.s3.bucket = required("RECLO_TEST_S3_BUCKET");
  options.s3.endpoint = required("RECLO_TEST_S3_ENDPOINT");
  options.s3.region = "us-east-1";
  options.s3.path_style = true;
  options.s3.retry.patience = seconds(20);
  options.s3.retry.first_delay = milliseconds(10);
  options.prefix = prefix;
  return options;
}

net::AwsCredentials test_credentials() {
  net::AwsCredentials credentials;
  credentials.access_key_id = required("AWS_ACCESS_KEY_ID");
  credentials.secret_access_key = required("AWS_SECRET_ACCESS_KEY");
  return credentials;
}

std::unique_ptr<S3Store> open_with(const S3StoreOptions& options,
                                   const net::AwsCredentials& credentials = test_credentials()) {
  return S3Store::open(options, std::make_shared<net::CredentialsProvider>(credentials)).value();
}

StoreFixture make_by_url() {
  StoreOptions options;
  options.url = "s3://" + required("RECLO_TEST_S3_BUCKET") + "/conformance/deep/";
  options.s3_endpoint = required("RECLO_TEST_S3_ENDPOINT");
  options.s3_region = "us-east-1";
  return {nullptr, open_store(options, CancelToken()).value()};
}

// The bucket in the host name, small list pages, and the other checksum.
StoreFixture make_virtual_host() {
  S3StoreOptions options = test_options("conformance/virtual");
  const std::string port = options.s3.endpoint.substr(options.s3.endpoint.rfind(':'));
  options.s3.endpoint = "http://localhost" + port;  // curl knows that *.localhost is this machine
  options.s3.path_style = false;
  options.sha256_checksums = true;
  options.list_page_objects = 2;
  return {nullptr, open_with(options)};
}

INSTANTIATE_TEST_SUITE_P(ByUrl, StoreConformanceTest, testing::Values(make_by_url));
INSTANTIATE_TEST_SUITE_P(VirtualHost, StoreConformanceTest, testing::Values(make_virtual_host));

class S3StoreTest : public testing::Test {
 protected:
  void TearDown() override {
    const auto store = open_with(test_options("s3-test"));
    std::vector<std::string> keys;
    const Status listed = store->list(
        "",
        [&](const ObjectInfo& info) -> Status {
          keys.push_back(info.key);
          return {};
        },
        cancel_);
    EXPECT_TRUE(listed.ok()) << listed.error().message();
    for (const std::string& key : keys) EXPECT_TRUE(store->remove(key, cancel_).ok());
  }
  S3StoreOptions options_ = test_options("s3-test");
  CancelToken cancel_;
};

TEST_F(S3StoreTest, KeepsThePromisesOfTheProbe) {
  const auto store = open_with(options_);
  const ProbeReport report = probe_store(*store, "probe/", cancel_).value();
  EXPECT_TRUE(report.atomic_create && report.list_after_put && report.range_read && report.remove)
      << report.note;
}

TEST_F(S3StoreTest, NamesWhatIsWrongWithTheKeys) {
  net::AwsCredentials wrong_secret = test_credentials();
  wrong_secret.secret_access_key += "x";
  const auto denied = open_with(options_, wrong_secret);
  for (const Status& status :
       {denied->put_if_absent("k", as_bytes("x"), cancel_),
        Status(denied->get("k", 1, cancel_).error()), Status(denied->stat("k", cancel_).error()),
        denied->remove("k", cancel_)}) {
    EXPECT_EQ(status.error().code(), Code::kUnauthenticated) << status.error().message();
    EXPECT_NE(status.error().message().find("secret key"), std::string::npos);
    EXPECT_FALSE(status.error().retryable());
  }
  net::AwsCredentials unknown = test_credentials();
  unknown.access_key_id = "AKIANOBODY0000000000";
  const Error error = open_with(options_, unknown)->stat("k", cancel_).error();
  EXPECT_EQ(error.code(), Code::kUnauthenticated);
  EXPECT_NE(error.message().find("AWS_ACCESS_KEY_ID"), std::string::npos) << error.message();
}

TEST_F(S3StoreTest, AMissingBucketIsNotAMissingObject) {
  options_.s3.bucket = "reclo-no-such-bucket";
  const auto store = open_with(options_);
  for (const Status& status :
       {store->put_if_absent("k", as_bytes("x"), cancel_),
        Status(store->get("k", 1, cancel_).error()), Status(store->stat("k", cancel_).error()),
        Status(store->list_children("", cancel_).error())}) {
    EXPECT_EQ(status.error().code(), Code::kInvalidArgument) << status.error().message();
    EXPECT_NE(status.error().message().find("no bucket 'reclo-no-such-bucket'"), std::string::npos);
  }
}

TEST_F(S3StoreTest, GivesUpOnAnEndpointThatIsNotThere) {
  options_.s3.endpoint = "http://127.0.0.1:1";
  options_.s3.retry.patience = milliseconds(300);
  const auto store = open_with(options_);
  const Error error = store->get("k", 1, cancel_).error();
  EXPECT_EQ(error.code(), Code::kUnavailable);
  EXPECT_FALSE(error.retryable());
  EXPECT_NE(error.message().find("gave up on http://127.0.0.1:1"), std::string::npos);
  EXPECT_GT(store->counters().retries, 1u);
}

TEST_F(S3StoreTest, MovesPacksFromManyThreads) {
  const auto store = open_with(options_);
  const Bytes pack(16 * kMiB, 0x5a);
  TaskPool pool(4);
  TaskGroup group(pool, cancel_);
  for (int i = 0; i < 4; ++i) {
    group.spawn([&, i]() -> Status {
      const std::string key = "packs/" + std::to_string(i);
      RECLO_TRY(store->put_if_absent(key, pack, cancel_));
      RECLO_ASSIGN_OR_RETURN(const Bytes back, store->get(key, kAny, cancel_));
      if (back != pack) return Error(Code::kCorruption, key);
      return {};
    });
  }
  const Status done = group.wait();
  EXPECT_TRUE(done.ok()) << done.error().message();
  EXPECT_EQ(store->counters().sent_bytes, 4 * 16 * kMiB);
  EXPECT_EQ(store->counters().received_bytes, 4 * 16 * kMiB);
}

// Says one word to tests/rigs/tcp_proxy.py.
void tell_proxy(const std::string& command) {
  const os::Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const std::string path = required("RECLO_TEST_S3_PROXY_CONTROL");
  ASSERT_LT(path.size(), sizeof address.sun_path);
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  ASSERT_EQ(::connect(fd.get(), reinterpret_cast<sockaddr*>(&address), sizeof address), 0);
  ASSERT_TRUE(os::write_all(fd, as_bytes(command + "\n")).ok());
  char answer[16] = {};
  ASSERT_GT(::read(fd.get(), answer, sizeof answer), 0);
  EXPECT_EQ(std::string_view(answer).substr(0, 2), "ok");
}

TEST_F(S3StoreTest, GoesOnAfterTheNetworkWasCut) {
  options_.s3.endpoint = required("RECLO_TEST_S3_PROXY");
  options_.s3.http.stall_timeout = options_.s3.http.connect_timeout = milliseconds(500);
  const auto store = open_with(options_);
  const Bytes content(kMiB, 9);
  ASSERT_TRUE(store->put_if_absent("cut/before", content, cancel_).ok());
  for (const char* cut : {"cut", "cut-hard"}) {
    tell_proxy(cut);
    std::jthread healer([] {
      std::this_thread::sleep_for(milliseconds(1500));
      tell_proxy("heal");
    });
    const Status put = store->put_if_absent(std::string("cut/") + cut, content, cancel_);
    EXPECT_TRUE(put.ok()) << cut << ": " << put.error().message();
    EXPECT_EQ(store->get(std::string("cut/") + cut, kAny, cancel_).value(), content);
  }
  EXPECT_GT(store->counters().retries, 1u);
}

// ---- with faults

class S3StoreNeedsLabTest : public S3StoreTest {
 protected:
  void TearDown() override {
    lab("POST", "/lab/fault", "[]");
    lab("POST", "/lab/clock", R"({"offset_s": 0})");
    S3StoreTest::TearDown();
  }
  std::string lab(const std::string& method, const std::string& path,
                  const std::string& body = "") {
    net::HttpRequest request;
    request.method = method;
    request.url = required("RECLO_TEST_S3_ENDPOINT") + path;
    request.body = as_bytes(body);
    const net::HttpResponse response = http_.send(request, cancel_).value();
    EXPECT_EQ(response.status, 200);
    return std::string(as_text(response.body));
  }
  void fault(std::string_view match, std::string_view mode, int times = 1) {
    lab("POST", "/lab/fault",
        fmt::format(R"({{"match": "{}", "mode": "{}", "times": {}}})", match, mode, times));
  }
  uint64_t connections() {
    const Json stats = parse_json(lab("GET", "/lab/stats"), "stats").value();
    return json_get<uint64_t>(stats, "connections").value();
  }
  net::HttpClient http_;
};

TEST_F(S3StoreNeedsLabTest, TriesAgainWhileTheServiceIsBusyOrCut) {
  const auto store = open_with(options_);
  for (const char* mode : {"503", "500", "reset", "409"}) {
    const std::string key = std::string("busy-") + mode;
    fault("PUT", mode, 3);
    EXPECT_TRUE(store->put_if_absent(key, as_bytes(key), cancel_).ok()) << mode;
    if (std::string_view(mode) == "409") continue;
    fault("GET", mode, 2);
    EXPECT_EQ(store->get(key, kAny, cancel_).value(), to_bytes(key)) << mode;
    fault("HEAD", mode, 1);
    EXPECT_TRUE(store->stat(key, cancel_).ok()) << mode;
  }
  EXPECT_GE(store->counters().retries, 18u);
}

TEST_F(S3StoreNeedsLabTest, KnowsItsOwnObjectAfterAnAmbiguousFailure) {
  const auto store = open_with(options_);
  for (const char* mode : {"reset-after", "500-after"}) {
    for (const size_t size_bytes : {size_t{0}, size_t{10}, size_t{300'000}}) {
      const std::string key = fmt::format("ambiguous-{}-{}", mode, size_bytes);
      const Bytes content(size_bytes, 7);
      fault("PUT", mode);
      const Status put = store->put_if_absent(key, content, cancel_);
      EXPECT_TRUE(put.ok()) << key << ": " << put.error().message();
      EXPECT_EQ(store->put_if_absent(key, content, cancel_).error().code(), Code::kAlreadyExists);
    }
  }
}

TEST_F(S3StoreNeedsLabTest, LosesToSomebodyElseAfterAnAmbiguousFailure) {
  const auto store = open_with(options_);
  for (const char* theirs : {"theirs", "much longer than ours", "x"}) {
    const std::string key = std::string("lost-") + std::to_string(std::string_view(theirs).size());
    ASSERT_TRUE(store->put_if_absent(key, as_bytes(theirs), cancel_).ok());
    fault("PUT", "reset");
    EXPECT_EQ(store->put_if_absent(key, as_bytes("ours!!"), cancel_).error().code(),
              Code::kAlreadyExists);
    EXPECT_EQ(store->get(key, kAny, cancel_).value(), to_bytes(theirs));
  }
}

TEST_F(S3StoreNeedsLabTest, NoticesAnAnswerThatIsCutShort) {
  const auto store = open_with(options_);
  const Bytes content(200'000, 3);
  ASSERT_TRUE(store->put_if_absent("cut", content, cancel_).ok());
  fault("GET", "truncate", 2);
  EXPECT_EQ(store->get("cut", kAny, cancel_).value(), content);
  fault("GET", "truncate", 1);
  EXPECT_EQ(store->get_range("cut", {1000, 100'000}, cancel_)->size(), 100'000u);
  fault("GET", "truncate", 1);
  EXPECT_EQ(store->list_children("", cancel_)->size(), 1u);
  EXPECT_EQ(store->counters().retries, 4u);
}

TEST_F(S3StoreNeedsLabTest, FollowsTheClockOfTheService) {
  const auto store = open_with(options_);
  for (const char* offset : {"7200", "-7200"}) {
    lab("POST", "/lab/clock", fmt::format(R"({{"offset_s": {}}})", offset));
    const std::string key = std::string("clock") + offset;
    const Status put = store->put_if_absent(key, as_bytes("x"), cancel_);
    EXPECT_TRUE(put.ok()) << put.error().message();
    EXPECT_TRUE(store->stat(key, cancel_).ok());
  }
  EXPECT_EQ(store->counters().retries, 2u) << "learnt once per change";
}

TEST_F(S3StoreNeedsLabTest, NamesTheRegionThatIsRight) {
  options_.s3.region = "eu-central-1";
  const Error error = open_with(options_)->get("k", 1, cancel_).error();
  EXPECT_EQ(error.code(), Code::kInvalidArgument);
  EXPECT_NE(error.message().find("in 'us-east-1'"), std::string::npos) << error.message();
}

TEST_F(S3StoreNeedsLabTest, RenewsExpiredCredentialsOnce) {
  const auto fixed = open_with(options_);
  fault("PUT", "expired", 1);
  const Error error = fixed->put_if_absent("e", as_bytes("x"), cancel_).error();
  EXPECT_EQ(error.code(), Code::kUnauthenticated);
  EXPECT_NE(error.message().find("expired"), std::string::npos);

  const auto renewing =
      S3Store::open(options_, std::make_shared<net::CredentialsProvider>()).value();
  fault("PUT", "expired", 1);
  EXPECT_TRUE(renewing->put_if_absent("e", as_bytes("x"), cancel_).ok());
  fault("PUT", "expired", 2);
  EXPECT_EQ(renewing->put_if_absent("f", as_bytes("x"), cancel_).error().code(),
            Code::kUnauthenticated);
}

TEST_F(S3StoreNeedsLabTest, AServerThatHangsIsLeftForAnotherTry) {
  options_.s3.http.stall_timeout = options_.s3.http.connect_timeout = milliseconds(300);
  const auto hasty = open_with(options_);
  fault("PUT", "hang", 1);
  const Stopwatch watch;
  EXPECT_TRUE(hasty->put_if_absent("h", as_bytes("x"), cancel_).ok());
  const auto patient = open_with(test_options("s3-test"));
  fault("GET", "hang", 1);
  EXPECT_EQ(patient->get("h", kAny, cancel_.with_timeout(milliseconds(100))).error().code(),
            Code::kTimeout);
  EXPECT_LT(watch.seconds(), 15) << "half a minute by itself";
}

TEST_F(S3StoreNeedsLabTest, TrustsOnlyTheAuthorityItIsTold) {
  options_.s3.endpoint = required("RECLO_TEST_S3_TLS_ENDPOINT");
  const Error error = open_with(options_)->stat("k", cancel_).error();
  EXPECT_EQ(error.code(), Code::kUnauthenticated);
  EXPECT_NE(error.message().find("RECLO_CA_FILE"), std::string::npos) << error.message();
  options_.s3.http.ca_file = required("RECLO_TEST_S3_TLS_CA");
  const auto store = open_with(options_);
  const Bytes content(3 * kMiB, 1);
  ASSERT_TRUE(store->put_if_absent("tls", content, cancel_).ok());
  EXPECT_EQ(store->get("tls", kAny, cancel_).value(), content);
}

TEST_F(S3StoreNeedsLabTest, KeepsItsConnections) {
  const auto store = open_with(options_);
  const uint64_t before = connections();
  for (int i = 0; i < 20; ++i) {
    const std::string key = "keep/" + std::to_string(i);
    ASSERT_TRUE(store->put_if_absent(key, as_bytes(key), cancel_).ok());
    ASSERT_TRUE(store->stat(key, cancel_).ok());
    ASSERT_TRUE(store->get(key, kAny, cancel_).ok());
    ASSERT_EQ(store->get("keep/none", kAny, cancel_).error().code(), Code::kNotFound);
  }
  EXPECT_LE(connections() - before, 2u);
}

}  // namespace
}  // namespace reclo::store
