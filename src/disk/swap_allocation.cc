#include "disk/swap_allocation.h"

#include <array>

#include "base/units.h"

namespace reclo::disk {

Result<std::string> collect_swap_free(const Readable& volume, uint64_t base_bytes,
                                      RangeCollector& out) {
  constexpr size_t kMagicSizeBytes = 10;
  constexpr uint64_t kHeaderOffsetBytes = 1024;
  bool hibernated = false;
  for (const uint64_t page_size_bytes : {4 * kKiB, 8 * kKiB, 16 * kKiB, 64 * kKiB}) {
    if (volume.size_bytes < 2 * page_size_bytes) break;
    std::array<uint8_t, kMagicSizeBytes> magic{};
    RECLO_TRY(volume.read_at(page_size_bytes - kMagicSizeBytes, magic));
    const std::string_view text = as_text(magic);
    hibernated = hibernated || text.substr(0, 9) == "S1SUSPEND" ||
                 text.substr(0, 9) == "S2SUSPEND" || text.substr(0, 9) == "ULSUSPEND" ||
                 text.substr(0, 9) == "LINHIB000";
    if (text != "SWAPSPACE2") continue;
    std::array<uint8_t, 8> header{};  // version, last page
    RECLO_TRY(volume.read_at(kHeaderOffsetBytes, header));
    const uint64_t page_count = uint64_t{load_le<uint32_t>(&header[4])} + 1;
    if (load_le<uint32_t>(&header[0]) != 1 || page_count < 2 ||
        page_count > volume.size_bytes / page_size_bytes)
      return std::string("its swap header does not make sense");
    out.add({base_bytes + page_size_bytes, (page_count - 1) * page_size_bytes});
    return std::string();
  }
  return std::string(hibernated ? "holds a hibernated machine's memory" : "unknown kind of swap");
}

}  // namespace reclo::disk
