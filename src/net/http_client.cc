#include "net/http_client.h"

#include <curl/curl.h>
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <mutex>

#include "net/url.h"

namespace reclo::net {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr size_t kHeadersMax = 256;
constexpr size_t kHeaderSizeBytesMax = 64 << 10;  // all of them together
constexpr milliseconds kPollMax{1000};

std::string lower_case(std::string_view text) {
  std::string out(text);
  for (char& c : out)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  return out;
}

std::string_view trim(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r\n";
  const size_t begin = text.find_first_not_of(kSpace);
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(kSpace) - begin + 1);
}

std::string environment_or_empty(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

void initialise_curl_once() {
  static const CURLcode code = curl_global_init(CURL_GLOBAL_DEFAULT);
  RECLO_CHECK(code == CURLE_OK);
}

// OpenSSL writes to sockets without MSG_NOSIGNAL. Holding SIGPIPE back in this thread leaves the
// program's own handling of it alone.
class SigpipeHeldBack {
 public:
  SigpipeHeldBack() {
    sigset_t pending;
    sigpending(&pending);
    was_pending_ = sigismember(&pending, SIGPIPE) == 1;
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~SigpipeHeldBack() {
    const timespec no_wait{0, 0};
    if (!was_pending_)
      while (sigtimedwait(&pipe_, nullptr, &no_wait) == SIGPIPE) continue;
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  SigpipeHeldBack(const SigpipeHeldBack&) = delete;
  SigpipeHeldBack& operator=(const SigpipeHeldBack&) = delete;

 private:
  sigset_t pipe_{};
  sigset_t before_{};
  bool was_pending_ = false;
};

// What curl's callbacks work on during one call.
struct Transfer {
  const HttpRequest* request = nullptr;
  size_t body_offset = 0;
  HttpResponse response;
  uint64_t received_bytes = 0;
  size_t header_bytes = 0;
  bool too_large = false;
  bool bad_headers = false;
  Clock::time_point last_activity = Clock::now();

  void active() {
    last_activity = Clock::now();
    if (request->on_progress) request->on_progress(body_offset, received_bytes);
  }
};

size_t read_body(char* to, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const ByteSpan rest = transfer.request->body.subspan(transfer.body_offset);
  const size_t piece_bytes = std::min(size * count, rest.size());
  if (piece_bytes != 0) std::memcpy(to, rest.data(), piece_bytes);
  transfer.body_offset += piece_bytes;
  transfer.active();
  return piece_bytes;
}

// curl rewinds the body when it found its kept connection dead and means to send the request again
// by itself. The first copy may have been carried out, and the caller must know: refuse.
int refuse_to_rewind(void*, curl_off_t, int) { return CURL_SEEKFUNC_FAIL; }

size_t take_body(char* from, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const size_t piece_bytes = size * count;
  Bytes& body = transfer.response.body;
  if (piece_bytes > transfer.request->response_size_bytes_max - body.size()) {
    transfer.too_large = true;
    return 0;
  }
  body.insert(body.end(), from, from + piece_bytes);
  transfer.received_bytes += piece_bytes;
  transfer.active();
  return piece_bytes;
}

size_t take_header(char* from, size_t size, size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  const std::string_view line(from, size * count);
  auto& headers = transfer.response.headers;
  transfer.header_bytes += line.size();
  if (transfer.header_bytes > kHeaderSizeBytesMax || headers.size() > kHeadersMax) {
    transfer.bad_headers = true;
    return 0;
  }
  transfer.active();
  if (line.starts_with("HTTP/")) {  // a new answer after a 100 Continue
    headers.clear();
    return line.size();
  }
  const size_t colon = line.find(':');
  if (colon == std::string_view::npos) return line.size();
  const std::string name = lower_case(trim(line.substr(0, colon)));
  const std::string_view value = trim(line.substr(colon + 1));
  if (std::string& known = headers[name]; known.empty())
    known = value;
  else
    known += ", " + std::string(value);
  if (name == "content-length") {
    const uint64_t announced = std::strtoull(std::string(value).c_str(), nullptr, 10);
    if (announced <= transfer.request->response_size_bytes_max)
      transfer.response.body.reserve(announced);
  }
  return line.size();
}

Error retryable(Code code, std::string message) {
  return Error(code, std::move(message)).set_retryable(true);
}

Error transport_error(CURLcode code, const std::string& where, const char* detail) {
  const std::string text = *detail != '\0' ? detail : curl_easy_strerror(code);
  switch (code) {
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_SSL_ISSUER_ERROR:
      return Error(
          Code::kUnauthenticated,
          fmt::format("the certificate of {} is not trusted ({}): name the authority's PEM "
                      "file in RECLO_CA_FILE",
                      where, text));
    case CURLE_URL_MALFORMAT:
    case CURLE_UNSUPPORTED_PROTOCOL:
      return Error(Code::kInvalidArgument, fmt::format("{}: {}", where, text));
    case CURLE_OPERATION_TIMEDOUT:
      return retryable(Code::kTimeout, fmt::format("{} does not answer: {}", where, text));
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_COULDNT_RESOLVE_PROXY:
      return retryable(Code::kUnavailable, fmt::format("cannot reach {}: {}", where, text));
    case CURLE_PARTIAL_FILE:
      return retryable(Code::kUnavailable, fmt::format("{} cut its answer short: {}", where, text));
    case CURLE_OUT_OF_MEMORY:
      return Error(Code::kResourceExhausted, fmt::format("{}: {}", where, text));
    default:
      return retryable(Code::kUnavailable,
                       fmt::format("the connection to {} broke: {}", where, text));
  }
}

struct HeaderListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};
using HeaderList = std::unique_ptr<curl_slist, HeaderListDeleter>;

HeaderList make_header_list(const HttpRequest& request) {
  HeaderList list;
  const auto append = [&](const std::string& line) {
    curl_slist* longer = curl_slist_append(list.get(), line.c_str());
    RECLO_CHECK(longer != nullptr);
    static_cast<void>(list.release());
    list.reset(longer);
  };
  append("Expect:");  // a round trip of waiting for each upload otherwise
  if (request.header("content-type").empty()) append("Content-Type:");
  for (const auto& [name, value] : request.headers)
    append(value.empty() ? name + ";" : name + ": " + value);
  return list;
}

}  // namespace

std::string_view HttpRequest::header(std::string_view name) const {
  for (const auto& [known, value] : headers)
    if (lower_case(known) == name) return value;
  return {};
}

std::string_view HttpResponse::header(std::string_view name) const {
  const auto found = headers.find(std::string(name));
  return found == headers.end() ? std::string_view() : found->second;
}

std::optional<WallTime> parse_http_date(const std::string& text) {
  const time_t seconds = text.empty() ? -1 : curl_getdate(text.c_str(), nullptr);
  if (seconds < 0) return std::nullopt;
  return WallTime(std::chrono::seconds(seconds));
}

// One connection: a multi handle keeps it open between calls, and can be woken from other threads.
class HttpClient::Connection {
 public:
  Connection() : multi_(curl_multi_init()), easy_(curl_easy_init()) {
    RECLO_CHECK(multi_ != nullptr && easy_ != nullptr);
    curl_multi_setopt(multi_, CURLMOPT_MAXCONNECTS, 2L);
  }
  ~Connection() {
    curl_easy_cleanup(easy_);
    curl_multi_cleanup(multi_);
  }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  Result<HttpResponse> send(const HttpRequest& request, const HttpClientOptions& options,
                            const CancelToken& cancel);

 private:
  void set_options(const HttpRequest& request, const HttpClientOptions& options,
                   curl_slist* headers);
  Result<CURLcode> drive(const HttpClientOptions& options, const CancelToken& cancel);

  CURLM* multi_;
  CURL* easy_;
  Transfer transfer_;
  char detail_[CURL_ERROR_SIZE] = {};
};

void HttpClient::Connection::set_options(const HttpRequest& request,
                                         const HttpClientOptions& options, curl_slist* headers) {
  curl_easy_reset(easy_);
  const auto set = [&](CURLoption option, auto value) {
    RECLO_CHECK(curl_easy_setopt(easy_, option, value) == CURLE_OK);
  };
  set(CURLOPT_URL, request.url.c_str());
  set(CURLOPT_PROTOCOLS_STR, "http,https");
  set(CURLOPT_PATH_AS_IS, 1L);  // a signed path must not be tidied
  set(CURLOPT_HTTP_VERSION, static_cast<long>(CURL_HTTP_VERSION_1_1));
  set(CURLOPT_NOSIGNAL, 1L);
  set(CURLOPT_HTTPHEADER, headers);
  set(CURLOPT_USERAGENT, "reclo");
  set(CURLOPT_ERRORBUFFER, static_cast<char*>(detail_));
  set(CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options.connect_timeout.count()));
  set(CURLOPT_TCP_KEEPALIVE, 1L);
  set(CURLOPT_BUFFERSIZE, 256L << 10);
  set(CURLOPT_UPLOAD_BUFFERSIZE, 256L << 10);
  set(CURLOPT_SSLVERSION, static_cast<long>(CURL_SSLVERSION_TLSv1_2));
  if (!options.ca_file.empty()) set(CURLOPT_CAINFO, options.ca_file.c_str());
  if (options.bypass_proxy) set(CURLOPT_NOPROXY, "*");
  set(CURLOPT_WRITEFUNCTION, &take_body);
  set(CURLOPT_WRITEDATA, static_cast<void*>(&transfer_));
  set(CURLOPT_HEADERFUNCTION, &take_header);
  set(CURLOPT_HEADERDATA, static_cast<void*>(&transfer_));
  const bool has_body =
      !request.body.empty() || request.method == "PUT" || request.method == "POST";
  if (request.method == "HEAD") {
    set(CURLOPT_NOBODY, 1L);
  } else if (has_body) {
    set(CURLOPT_UPLOAD, 1L);
    set(CURLOPT_INFILESIZE_LARGE, static_cast<curl_off_t>(request.body.size()));
    set(CURLOPT_READFUNCTION, &read_body);
    set(CURLOPT_READDATA, static_cast<void*>(&transfer_));
    set(CURLOPT_SEEKFUNCTION, &refuse_to_rewind);
    // Without a body there is no rewinding to refuse, see refuse_to_rewind().
    if (request.body.empty()) set(CURLOPT_FRESH_CONNECT, 1L);
  }
  if (request.method != "HEAD") set(CURLOPT_CUSTOMREQUEST, request.method.c_str());
}

Result<CURLcode> HttpClient::Connection::drive(const HttpClientOptions& options,
                                               const CancelToken& cancel) {
  const std::stop_callback wake(cancel.stop_token(), [this] { curl_multi_wakeup(multi_); });
  for (;;) {
    RECLO_TRY(cancel.check());
    int running = 0;
    RECLO_CHECK(curl_multi_perform(multi_, &running) == CURLM_OK);
    if (running == 0) {
      int left = 0;
      const CURLMsg* message = curl_multi_info_read(multi_, &left);
      RECLO_CHECK(message != nullptr && message->msg == CURLMSG_DONE);
      return message->data.result;
    }
    const auto now = Clock::now();
    const auto stalls_at =
        transfer_.last_activity + std::max(options.stall_timeout, options.connect_timeout);
    if (now >= stalls_at) return CURLE_OPERATION_TIMEDOUT;
    auto wait = std::chrono::ceil<milliseconds>(stalls_at - now);
    if (cancel.deadline())
      wait = std::min(wait, std::chrono::ceil<milliseconds>(*cancel.deadline() - now));
    wait = std::clamp(wait, milliseconds(0), kPollMax);
    RECLO_CHECK(curl_multi_poll(multi_, nullptr, 0, static_cast<int>(wait.count()), nullptr) ==
                CURLM_OK);
  }
}

Result<HttpResponse> HttpClient::Connection::send(const HttpRequest& request,
                                                  const HttpClientOptions& options,
                                                  const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Url url, parse_url(request.url));
  const std::string where = url.scheme + "://" + url.authority;
  transfer_ = Transfer();
  transfer_.request = &request;
  detail_[0] = '\0';
  const HeaderList headers = make_header_list(request);
  set_options(request, options, headers.get());
  const SigpipeHeldBack no_sigpipe;
  RECLO_CHECK(curl_multi_add_handle(multi_, easy_) == CURLM_OK);
  const Result<CURLcode> driven = drive(options, cancel);
  // Removing an unfinished transfer closes its connection.
  curl_multi_remove_handle(multi_, easy_);
  if (!driven.ok()) return Error(driven.error()).with(where);
  if (transfer_.too_large)
    return Error(Code::kResourceExhausted, fmt::format("the answer of {} is larger than {} bytes",
                                                       where, request.response_size_bytes_max));
  if (transfer_.bad_headers)
    return Error(Code::kUnavailable, fmt::format("{} sent too many headers", where));
  if (*driven != CURLE_OK) return transport_error(*driven, where, detail_);

  HttpResponse response = std::move(transfer_.response);
  long status = 0;
  curl_easy_getinfo(easy_, CURLINFO_RESPONSE_CODE, &status);
  response.status = static_cast<int>(status);
  response.server_time = parse_http_date(std::string(response.header("date")));
  return response;
}

// Idle connections, most recently used first, and the count of all.
class HttpClient::Pool {
 public:
  explicit Pool(size_t connections_max) : connections_max_(connections_max) {}

  Result<std::unique_ptr<Connection>> take(const CancelToken& cancel) {
    std::unique_lock lock(mutex_);
    const auto available = [&] { return in_use_ < connections_max_; };
    if (cancel.deadline())
      changed_.wait_until(lock, cancel.stop_token(), *cancel.deadline(), available);
    else
      changed_.wait(lock, cancel.stop_token(), available);
    RECLO_TRY(cancel.check());
    ++in_use_;
    if (idle_.empty()) return std::make_unique<Connection>();
    std::unique_ptr<Connection> connection = std::move(idle_.back());
    idle_.pop_back();
    return connection;
  }
  /// Null: it is gone, and another one may be made.
  void give_back(std::unique_ptr<Connection> connection) {
    const std::lock_guard lock(mutex_);
    if (connection) idle_.push_back(std::move(connection));
    --in_use_;
    changed_.notify_one();
  }

 private:
  const size_t connections_max_;
  std::mutex mutex_;
  std::condition_variable_any changed_;
  size_t in_use_ = 0;
  std::vector<std::unique_ptr<Connection>> idle_;
};

HttpClient::HttpClient(HttpClientOptions options) : options_(std::move(options)) {
  initialise_curl_once();
  if (options_.ca_file.empty()) options_.ca_file = environment_or_empty("RECLO_CA_FILE");
  if (options_.ca_file.empty()) options_.ca_file = environment_or_empty("AWS_CA_BUNDLE");
  pool_ = std::make_unique<Pool>(std::max<size_t>(1, options_.connections_max));
}

HttpClient::~HttpClient() = default;

Result<HttpResponse> HttpClient::send(const HttpRequest& request, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(std::unique_ptr<Connection> connection, pool_->take(cancel));
  Result<HttpResponse> response = connection->send(request, options_, cancel);
  // curl keeps what a transfer that never got a connection (a name that does not resolve) was
  // given, and then refuses other options: who failed is not asked again.
  if (!response.ok()) connection.reset();
  pool_->give_back(std::move(connection));
  return response;
}

}  // namespace reclo::net
