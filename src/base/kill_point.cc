#include "base/kill_point.h"

#include <unistd.h>

#include <atomic>
#include <cstdlib>
#include <string>

namespace reclo {
namespace {

struct Armed {
  std::string name;
  std::atomic<long> left{0};
  Armed() {
    const char* text = std::getenv("RECLO_KILL_POINT");
    if (text == nullptr) return;
    name = text;
    left = 1;
    const size_t colon = name.rfind(':');
    if (colon == std::string::npos) return;
    left = std::strtol(name.c_str() + colon + 1, nullptr, 10);
    name.resize(colon);
  }
};

}  // namespace

void kill_point_reached(const char* name) {
  static Armed armed;
  if (armed.name.empty() || armed.name != name) return;
  if (armed.left.fetch_sub(1) == 1) _exit(137);
}

}  // namespace reclo
