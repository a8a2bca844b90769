#include "cli/terminal.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <mutex>

#include "base/json.h"
#include "base/time.h"
#include "base/units.h"
#include "os/file.h"

namespace reclo::cli {
namespace {

// Draws at most ten times a second; the rate is over the whole run, which is what an estimate
// needs.
class BarProgress final : public ProgressSink {
 public:
  ~BarProgress() override {
    std::lock_guard lock(mutex_);
    if (drawn_) std::fputs("\r\033[K", stderr);
  }
  void update(const ProgressUpdate& update) override {
    std::lock_guard lock(mutex_);
    if (drawn_ && since_drawn_.seconds() < 0.1) return;
    since_drawn_.restart();
    drawn_ = true;
    std::fputs(("\r\033[K" + line_of(update)).c_str(), stderr);
    std::fflush(stderr);
  }
  void note(std::string_view text) override {
    std::lock_guard lock(mutex_);
    std::fputs(fmt::format("\r\033[K{}\n", text).c_str(), stderr);
    drawn_ = false;
  }

 private:
  std::string line_of(const ProgressUpdate& update) const {
    std::string line = std::string(update.stage);
    if (update.total_bytes > 0) {
      const double part = std::min(
          1.0, static_cast<double>(update.done_bytes) / static_cast<double>(update.total_bytes));
      constexpr int kWidth = 24;
      const int full = static_cast<int>(part * kWidth);
      line += fmt::format(" [{}{}] {:3.0f}%", std::string(static_cast<size_t>(full), '#'),
                          std::string(static_cast<size_t>(kWidth - full), '.'), part * 100);
      line +=
          fmt::format(" {} of {}", format_bytes(std::min(update.done_bytes, update.total_bytes)),
                      format_bytes(update.total_bytes));
      const double seconds = watch_.seconds();
      if (seconds > 1 && part > 0.01 && part < 1)
        line += fmt::format(", {} left",
                            format_duration(std::chrono::milliseconds(
                                static_cast<int64_t>(seconds * (1 - part) / part * 1000))));
    }
    if (update.uploaded_bytes > 0)
      line += fmt::format(", {} sent", format_bytes(update.uploaded_bytes));
    if (!update.detail.empty()) line += fmt::format(" ({})", update.detail);
    return line.substr(0, columns());
  }
  static size_t columns() {
    winsize size{};
    if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col < 20) return 79;
    return size.ws_col - 1u;
  }
  std::mutex mutex_;
  const Stopwatch watch_;
  Stopwatch since_drawn_;
  bool drawn_ = false;
};

class JsonProgress final : public ProgressSink {
 public:
  void update(const ProgressUpdate& update) override {
    std::lock_guard lock(mutex_);
    if (any_ && since_.seconds() < 0.5) return;
    since_.restart();
    any_ = true;
    print({{"event", "progress"},
           {"time", format_time(wall_now())},
           {"stage", update.stage},
           {"done_bytes", update.done_bytes},
           {"total_bytes", update.total_bytes},
           {"uploaded_bytes", update.uploaded_bytes},
           {"detail", update.detail}});
  }
  void note(std::string_view text) override {
    std::lock_guard lock(mutex_);
    print({{"event", "note"}, {"time", format_time(wall_now())}, {"text", text}});
  }

 private:
  static void print(const Json& json) {
    std::fputs((json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n").c_str(), stderr);
    std::fflush(stderr);
  }
  std::mutex mutex_;
  Stopwatch since_;
  bool any_ = false;
};

// Milestones only: for pipes and log files.
class PlainProgress final : public ProgressSink {
 public:
  void update(const ProgressUpdate&) override {}
  void note(std::string_view text) override {
    std::fputs(fmt::format("{}\n", text).c_str(), stderr);
  }
};

}  // namespace

std::unique_ptr<ProgressSink> make_progress(ProgressMode mode) {
  if (mode == ProgressMode::kAuto)
    mode = ::isatty(STDERR_FILENO) == 1 ? ProgressMode::kBar : ProgressMode::kNone;
  switch (mode) {
    case ProgressMode::kBar:
      return std::make_unique<BarProgress>();
    case ProgressMode::kJson:
      return std::make_unique<JsonProgress>();
    default:
      return std::make_unique<PlainProgress>();
  }
}

std::string format_table(const std::vector<std::vector<std::string>>& rows) {
  std::vector<size_t> widths;
  for (const auto& row : rows)
    for (size_t i = 0; i < row.size(); ++i) {
      if (i >= widths.size()) widths.push_back(0);
      widths[i] = std::max(widths[i], row[i].size());
    }
  std::string out;
  for (const auto& row : rows) {
    std::string line;
    for (size_t i = 0; i < row.size(); ++i) line += fmt::format("{:<{}}  ", row[i], widths[i]);
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
  }
  return out;
}

Result<std::string> prompt_secret(const std::string& question) {
  auto terminal = os::open_file("/dev/tty", os::OpenMode::kReadWrite);
  if (!terminal.ok())
    return Error(
        Code::kUnauthenticated,
        "a passphrase is needed and there is no terminal to ask on: give --passphrase-file "
        "or RECLO_PASSPHRASE_FILE");
  termios before{};
  if (::tcgetattr(terminal->get(), &before) != 0) return Error::from_errno(errno, "the terminal");
  termios silent = before;
  silent.c_lflag &= static_cast<tcflag_t>(~ECHO);
  RECLO_TRY(os::write_all(*terminal, as_bytes(question)));
  ::tcsetattr(terminal->get(), TCSAFLUSH, &silent);
  std::string answer;
  char c = 0;
  ssize_t got = 0;
  while ((got = ::read(terminal->get(), &c, 1)) == 1 && c != '\n' && answer.size() < 4096)
    answer.push_back(c);
  ::tcsetattr(terminal->get(), TCSAFLUSH, &before);
  RECLO_TRY(os::write_all(*terminal, as_bytes("\n")));
  if (got <= 0 && answer.empty()) return Error(Code::kCancelled, "no passphrase was typed");
  return answer;
}

}  // namespace reclo::cli
