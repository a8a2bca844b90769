// What recovery reads from QEMU, the kernel and its own folder: messages, tables, records.
#include "base/check.h"
#include "recovery/accelerator.h"
#include "recovery/forward.h"
#include "recovery/instance_record.h"
#include "recovery/process_ref.h"
#include "recovery/qmp_message.h"
#include "recovery/wait_for.h"

using namespace reclo;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  recovery::LineBuffer lines;
  const size_t half = size / 2;
  const bool whole =
      lines.append(text.substr(0, half)).ok() && lines.append(text.substr(half)).ok();
  while (const auto line = whole ? lines.pop() : std::nullopt) {
    RECLO_CHECK(line->find('\n') == std::string::npos);
    ignore_error(recovery::parse_qmp_line(*line), "fuzzed");
  }
  const auto record = recovery::decode_instance(text);
  if (record.ok()) {
    const auto again = recovery::decode_instance(recovery::encode_instance(*record));
    RECLO_CHECK(again.ok() && *again == *record);
  }
  const auto forward = recovery::parse_forward(text);
  if (forward.ok())
    RECLO_CHECK(recovery::parse_forward(recovery::format_forward(*forward)).value() == *forward);
  const auto target = recovery::parse_wait_target(text, {{"127.0.0.1", 8080, 80}});
  recovery::usernet_established(text, target.ok() ? *target : recovery::WaitTarget());
  recovery::http_status(text);
  recovery::parse_process_stat(text);
  recovery::cpuinfo_names_virtualisation(text);
  return 0;
}
