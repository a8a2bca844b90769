// Ports of this machine that lead to the guest, and what `--wait-for` waits at. Values; any thread.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace reclo::recovery {

struct Forward {
  std::string host_address = "127.0.0.1";  // IPv4: QEMU's user network forwards nothing else
  uint16_t host_port = 0;                  // 0: a free one is picked when the machine is made
  uint16_t guest_port = 0;
  bool operator==(const Forward&) const = default;
};

/// "HOST:GUEST", HOST being "PORT" or "ADDR:PORT"; TCP. Errors: kInvalidArgument.
Result<Forward> parse_forward(std::string_view text);
std::string format_forward(const Forward& forward);

/// Puts a free port of this machine where host_port is 0. Errors: kUnavailable.
Status pick_free_ports(std::vector<Forward>& forwards);

/// Where the first answer of a recovered server is awaited.
struct WaitTarget {
  bool http = false;    // an HTTP status below 500; else an accepted TCP connection
  std::string address;  // numeric
  uint16_t port = 0;
  std::string path = "/";  // http only
  std::string host_header;
  bool forwarded = false;  // the port is one of the machine's own forwards
};

/// "tcp:PORT", "tcp:ADDR:PORT", "http:PORT/PATH", "http://ADDR:PORT/PATH": this machine's side.
/// A bare port takes the address of the forward that has it; a port that no forward has on this
/// side but one has on the guest's means that forward. Errors: kInvalidArgument.
Result<WaitTarget> parse_wait_target(std::string_view text, const std::vector<Forward>& forwards);
/// Whether the text could be a target at all: for checking flags early.
Status check_wait_target(std::string_view text);

}  // namespace reclo::recovery
