// What the network, the environment and shared files say in text: headers, URLs, times, ini files.
#include "base/check.h"
#include "base/time.h"
#include "base/units.h"
#include "net/aws_config.h"
#include "net/http_client.h"
#include "net/url.h"
#include "store/content_range.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  store::parse_content_range(text);
  net::parse_http_date(std::string(text));
  ignore_error(net::parse_ini(std::string(text), "fuzzed"), "fuzzed");
  ignore_error(parse_size_bytes(text), "fuzzed");
  const auto url = net::parse_url(text);
  if (url.ok()) RECLO_CHECK(net::parse_url(url->text()).value().text() == url->text());
  const auto decoded = net::percent_decode(text);
  if (decoded.ok())
    RECLO_CHECK(net::percent_decode(net::percent_encode(*decoded)).value() == *decoded);
  const auto time = parse_time(text);
  if (time.ok()) RECLO_CHECK(parse_time(format_time(*time)).value() == *time);
  return 0;
}
