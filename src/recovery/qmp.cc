#include "recovery/qmp.h"

#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>

#include <cerrno>

#include "base/json.h"
#include "recovery/unix_socket.h"

namespace reclo::recovery {
namespace {

constexpr size_t kEventsKeptMax = 256;

Error connection_lost(int os_error) {
  return Error(Code::kUnavailable,
               os_error == 0 ? std::string("QEMU closed its control socket")
                             : Error::from_errno(os_error, "QEMU's control socket").message());
}

}  // namespace

Result<QmpClient> QmpClient::connect(const std::string& socket_path, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(os::Fd fd, connect_unix(socket_path));
  QmpClient client(std::move(fd));
  RECLO_ASSIGN_OR_RETURN(const QmpMessage greeting, client.receive(cancel));
  if (greeting.kind != QmpMessage::Kind::kGreeting)
    return Error(Code::kCorruption, fmt::format("{} does not greet as QEMU does", socket_path));
  RECLO_TRY(client.execute("qmp_capabilities", cancel));
  return client;
}

Result<Json> QmpClient::execute(std::string_view command, const CancelToken& cancel) {
  return execute(command, Json(), cancel);
}

Result<Json> QmpClient::execute(std::string_view command, const Json& arguments,
                                const CancelToken& cancel) {
  const uint64_t id = next_id_++;
  Json request{{"execute", command}, {"id", id}};
  if (!arguments.is_null()) request["arguments"] = arguments;
  RECLO_TRY_WITH(send(request.dump() + "\n", cancel), fmt::format("QEMU command {}", command));
  for (;;) {
    RECLO_ASSIGN_OR_RETURN_WITH(QmpMessage message, receive(cancel),
                                fmt::format("QEMU command {}", command));
    if (message.kind == QmpMessage::Kind::kEvent) {
      keep_event(std::move(message));
      continue;
    }
    // An answer to an earlier command whose caller gave up: not ours.
    if (message.id != id) continue;
    if (message.kind == QmpMessage::Kind::kReturn) return std::move(message.data);
    const Code code = message.name == "DeviceNotFound" ? Code::kNotFound : Code::kInternal;
    return Error(code, fmt::format("QEMU refused {}: {}", command, message.text));
  }
}

Result<std::string> QmpClient::human(const std::string& line, const CancelToken& cancel) {
  RECLO_ASSIGN_OR_RETURN(const Json value,
                         execute("human-monitor-command", {{"command-line", line}}, cancel));
  if (!value.is_string()) return Error(Code::kCorruption, "QEMU's monitor answered no text");
  return value.get<std::string>();
}

Result<QmpMessage> QmpClient::wait_event(std::string_view name, const CancelToken& cancel) {
  for (;;) {
    for (auto at = events_.begin(); at != events_.end(); ++at) {
      if (at->name != name) continue;
      QmpMessage found = std::move(*at);
      events_.erase(at);
      return found;
    }
    RECLO_ASSIGN_OR_RETURN(QmpMessage message, receive(cancel));
    if (message.kind == QmpMessage::Kind::kEvent) keep_event(std::move(message));
  }
}

Status QmpClient::send(std::string_view text, const CancelToken& cancel) {
  while (!text.empty()) {
    const ssize_t sent = ::send(fd_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      text.remove_prefix(static_cast<size_t>(sent));
    } else if (errno == EAGAIN) {
      RECLO_TRY(wait_ready(fd_, POLLOUT, cancel));
    } else if (errno != EINTR) {
      return connection_lost(errno);
    }
  }
  return {};
}

Result<QmpMessage> QmpClient::receive(const CancelToken& cancel) {
  for (;;) {
    if (const auto line = lines_.pop()) {
      if (!line->empty()) return parse_qmp_line(*line);
      continue;
    }
    char buffer[16384];
    const ssize_t got = ::recv(fd_.get(), buffer, sizeof buffer, 0);
    if (got > 0) {
      RECLO_TRY(lines_.append({buffer, static_cast<size_t>(got)}));
    } else if (got < 0 && errno == EAGAIN) {
      RECLO_TRY(wait_ready(fd_, POLLIN, cancel));
    } else if (got == 0 || errno != EINTR) {
      return connection_lost(got == 0 ? 0 : errno);
    }
  }
}

void QmpClient::keep_event(QmpMessage event) {
  if (events_.size() == kEventsKeptMax) events_.pop_front();
  events_.push_back(std::move(event));
}

}  // namespace reclo::recovery
