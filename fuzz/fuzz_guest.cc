// What is read from a server that is prepared: all of it was written by others.
#include <string>

#include "recovery/guest/guest_changes.h"
#include "recovery/guest/guest_facts.h"
#include "recovery/guest/initramfs.h"
#include "recovery/guest/kernel_modules.h"
#include "recovery/guest/prepared_overlay.h"
#include "recovery/guest/read_log.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace reclo;
  using namespace reclo::recovery;
  if (size == 0) return 0;
  const ByteSpan input(data + 1, size - 1);
  const std::string text(as_text(input));
  switch (data[0] % 6) {
    case 0: {
      const auto facts = scan_initramfs(input);
      if (facts.ok()) static_cast<void>(modules_in(*facts));
      break;
    }
    case 1: {
      const KernelModules kernel = parse_modules(text, text, text);
      static_cast<void>(with_dependencies(kernel, {"nvme", "virtio_blk"}));
      static_cast<void>(encode_index(kernel.aliases));
      break;
    }
    case 2:
      ignore_error(decode_changes(text), "any answer will do");
      break;
    case 3: {
      GuestFacts facts;
      facts.volumes = {{"/dev/sda1", 0, 1, "ext4", "aa", "root", "bb"},
                       {"/dev/a/b", -1, 0, "", "", "", ""}};
      for (const FstabLine& line : parse_fstab(text)) {
        static_cast<void>(resolve_device(facts, line.fields[0]));
        static_cast<void>(is_named_by_place(line.fields[0]));
      }
      break;
    }
    case 4:
      ignore_error(decode_prepared(text), "any answer will do");
      break;
    default: {
      std::vector<disk::Range> ranges;
      add_reads(text, ranges);
      static_cast<void>(merge_ranges(std::move(ranges), 1 << 30));
    }
  }
  return 0;
}
