// The HTTP client against a server that misbehaves as told.
#include "net/http_client.h"

#include <gtest/gtest.h>

#include <future>

#include "base/units.h"
#include "net/test_server.h"

namespace reclo::net {
namespace {

using std::chrono::milliseconds;

HttpRequest get(const std::string& url) {
  HttpRequest request;
  request.url = url;
  return request;
}

TEST(HttpClientTest, SendsAndReceivesWhole) {
  TestServer server([](const SeenRequest& seen) {
    EXPECT_EQ(seen.headers.count("expect"), 0u);
    EXPECT_EQ(seen.headers.count("content-type"), 0u);
    EXPECT_EQ(seen.target, "/a/../b//c%2F?x=1&y");
    return TestServer::answer(201, seen.method + seen.headers.at("x-test") + seen.body,
                              "X-Twice: a\r\nx-twice: b\r\n"
                              "Date: Mon, 23 Nov 2026 07:05:09 GMT\r\n");
  });
  HttpClient client;
  const std::string body(3'000'000, 'b');
  uint64_t sent_bytes = 0;
  HttpRequest request = get(server.url() + "/a/../b//c%2F?x=1&y");
  request.method = "PUT";
  request.headers = {{"X-Test", "value"}};
  request.body = as_bytes(body);
  request.on_progress = [&](uint64_t sent, uint64_t) { sent_bytes = sent; };
  const HttpResponse response = client.send(request, CancelToken()).value();
  EXPECT_EQ(response.status, 201);
  EXPECT_EQ(as_text(response.body), "PUTvalue" + body);
  EXPECT_EQ(response.header("x-twice"), "a, b");
  EXPECT_EQ(format_time(*response.server_time), "2026-11-23T07:05:09.000Z");
  EXPECT_EQ(sent_bytes, body.size());
}

TEST(HttpClientTest, ReusesConnections) {
  TestServer server([](const SeenRequest& seen) {
    return TestServer::answer(seen.method == "DELETE" ? 404 : 200,
                              seen.method == "HEAD" ? "" : "x");
  });
  HttpClient client;
  for (const char* method : {"GET", "HEAD", "DELETE", "POST", "GET", "PUT", "GET"}) {
    HttpRequest request = get(server.url());
    request.method = method;
    if (request.method == "POST" || request.method == "PUT") request.body = as_bytes("body");
    EXPECT_TRUE(client.send(request, CancelToken()).ok()) << method;
  }
  EXPECT_EQ(server.connections(), 1);
}

TEST(HttpClientTest, ATruncatedAnswerIsAnError) {
  TestServer server([](const SeenRequest& seen) -> std::string {
    if (seen.target == "/length")
      return "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort<close>";
    return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n<close>";
  });
  HttpClient client;
  for (const char* path : {"/length", "/chunked"}) {
    const auto response = client.send(get(server.url() + path), CancelToken());
    ASSERT_FALSE(response.ok()) << path;
    EXPECT_EQ(response.error().code(), Code::kUnavailable);
    EXPECT_TRUE(response.error().retryable());
  }
}

TEST(HttpClientTest, AnswersAreBounded) {
  TestServer server([](const SeenRequest& seen) {
    if (seen.target == "/headers")
      return TestServer::answer(200, "", "X: " + std::string(200'000, 'h') + "\r\n");
    return TestServer::answer(200, std::string(1001, 'x'));
  });
  HttpClient client;
  HttpRequest request = get(server.url());
  request.response_size_bytes_max = 1001;
  EXPECT_TRUE(client.send(request, CancelToken()).ok());
  request.response_size_bytes_max = 1000;
  EXPECT_EQ(client.send(request, CancelToken()).error().code(), Code::kResourceExhausted);
  EXPECT_FALSE(client.send(get(server.url() + "/headers"), CancelToken()).ok());
}

TEST(HttpClientTest, AnUploadIsNeverSentTwiceBehindTheCallersBack) {
  std::atomic<int> puts = 0;
  TestServer server([&](const SeenRequest& seen) -> std::string {
    if (seen.method == "GET") return TestServer::answer(200, "");
    ++puts;
    return "";  // done, but the connection dies
  });
  for (const char* body : {"", "body"}) {
    HttpClient client;
    ASSERT_TRUE(client.send(get(server.url()), CancelToken()).ok());  // leaves a kept connection
    puts = 0;
    HttpRequest request = get(server.url());
    request.method = "PUT";
    request.body = as_bytes(body);
    EXPECT_TRUE(client.send(request, CancelToken()).error().retryable());
    EXPECT_EQ(puts, 1) << "body '" << body << "'";
  }
}

TEST(HttpClientTest, StopsAtOnceWhenTold) {
  std::promise<void> release;
  std::shared_future<void> released = release.get_future().share();
  TestServer server([&](const SeenRequest&) {
    released.wait();
    return TestServer::answer(200, "");
  });
  HttpClient client;  // would wait for half a minute by itself
  std::stop_source stop;
  std::jthread stopper([&] {
    std::this_thread::sleep_for(milliseconds(50));
    stop.request_stop();
  });
  const Stopwatch watch;
  EXPECT_EQ(client.send(get(server.url()), CancelToken(stop.get_token())).error().code(),
            Code::kCancelled);
  const auto late = CancelToken().with_timeout(milliseconds(30));
  EXPECT_EQ(client.send(get(server.url()), late).error().code(), Code::kTimeout);
  EXPECT_LT(watch.seconds(), 10);
  HttpClientOptions options;
  options.stall_timeout = options.connect_timeout = milliseconds(200);
  HttpClient hasty(options);
  const Error stalled = hasty.send(get(server.url()), CancelToken()).error();
  EXPECT_EQ(stalled.code(), Code::kTimeout);
  EXPECT_TRUE(stalled.retryable());
  release.set_value();
}

TEST(HttpClientTest, SaysWhyItCannotReachAServer) {
  HttpClient client;
  const Error refused = client.send(get("http://127.0.0.1:1/x"), CancelToken()).error();
  EXPECT_EQ(refused.code(), Code::kUnavailable);
  EXPECT_TRUE(refused.retryable());
  EXPECT_NE(refused.message().find("http://127.0.0.1:1"), std::string::npos);
  EXPECT_EQ(client.send(get("ftp://host/"), CancelToken()).error().code(), Code::kInvalidArgument);
}

// Without a network no name resolves, and the same is tried again until it does.
TEST(HttpClientTest, ANameThatDoesNotResolveIsAskedAgain) {
  HttpClientOptions options;
  options.connections_max = 1;
  HttpClient client(options);
  for (int i = 0; i < 3; ++i) {
    const Error unknown = client.send(get("http://reclo-test.invalid/x"), CancelToken()).error();
    EXPECT_TRUE(unknown.retryable()) << unknown.message();
    EXPECT_NE(unknown.message().find("reclo-test.invalid"), std::string::npos);
  }
  TestServer server([](const SeenRequest&) { return TestServer::answer(200, "back"); });
  EXPECT_TRUE(client.send(get(server.url()), CancelToken()).ok());
}

TEST(HttpClientTest, WaitsForAFreeConnection) {
  std::atomic<int> now = 0;
  std::atomic<int> most = 0;
  TestServer server([&](const SeenRequest&) {
    most = std::max<int>(most, ++now);
    std::this_thread::sleep_for(milliseconds(10));
    --now;
    return TestServer::answer(200, "");
  });
  HttpClientOptions options;
  options.connections_max = 2;
  HttpClient client(options);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < 8; ++i)
      threads.emplace_back(
          [&] { EXPECT_TRUE(client.send(get(server.url()), CancelToken()).ok()); });
  }
  EXPECT_EQ(most, 2);
  EXPECT_EQ(server.connections(), 2);
}

}  // namespace
}  // namespace reclo::net
