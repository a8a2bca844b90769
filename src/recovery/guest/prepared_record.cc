// PreparedRecord as JSON.
#include <fmt/format.h>

#include "base/json.h"
#include "base/limits.h"
#include "recovery/guest/prepared_overlay.h"

namespace reclo::recovery {
namespace {

constexpr uint32_t kRecordVersion = 1;
constexpr size_t kPreparedRecordSizeBytesMax = 64 * kMiB;
constexpr size_t kRunsMax = 2'000'000;
constexpr size_t kFixesMax = 100;
constexpr size_t kFilesMax = 10'000;

Json encode_runs(const std::vector<PreparedRun>& runs) {
  Json out = Json::array();
  for (const PreparedRun& run : runs) {
    out.push_back(run.disk);
    out.push_back(run.range.offset_bytes);
    out.push_back(run.range.size_bytes);
  }
  return out;
}

Result<std::vector<PreparedRun>> decode_runs(const Json& json, std::string_view key,
                                             const std::vector<uint64_t>& sizes) {
  RECLO_ASSIGN_OR_RETURN(const Json* list, json_array(json, key));
  if (list->size() % 3 != 0 || list->size() / 3 > kRunsMax)
    return Error(Code::kCorruption, "its list of ranges is none");
  std::vector<PreparedRun> out;
  for (size_t i = 0; i < list->size(); i += 3) {
    for (size_t k = 0; k < 3; ++k)
      if (!(*list)[i + k].is_number_unsigned())
        return Error(Code::kCorruption, "a range has to be numbers");
    PreparedRun run;
    const auto disk = (*list)[i].get<uint64_t>();
    run.range = {(*list)[i + 1].get<uint64_t>(), (*list)[i + 2].get<uint64_t>()};
    if (disk >= sizes.size() || run.range.offset_bytes > sizes[disk] ||
        run.range.size_bytes > sizes[disk] - run.range.offset_bytes)
      return Error(Code::kCorruption, "a range is outside its disk");
    run.disk = static_cast<uint32_t>(disk);
    out.push_back(run);
  }
  return out;
}

Result<std::vector<std::string>> decode_texts(const Json& json, std::string_view key) {
  RECLO_ASSIGN_OR_RETURN(const Json* list, json_array(json, key));
  if (list->size() > kFilesMax) return Error(Code::kCorruption, "too many texts");
  std::vector<std::string> out;
  for (const Json& entry : *list) {
    if (!entry.is_string()) return Error(Code::kCorruption, "a text has to be one");
    out.push_back(entry.get<std::string>());
  }
  return out;
}

Result<FixReport> decode_fix(const Json& json) {
  FixReport out;
  RECLO_ASSIGN_OR_RETURN(out.name, json_get<std::string>(json, "name"));
  RECLO_ASSIGN_OR_RETURN(out.needed, json_get<bool>(json, "needed"));
  RECLO_ASSIGN_OR_RETURN(out.why, json_get<std::string>(json, "why"));
  RECLO_ASSIGN_OR_RETURN(out.blocker, json_get<std::string>(json, "blocker"));
  RECLO_ASSIGN_OR_RETURN(out.files, decode_texts(json, "files"));
  return out;
}

}  // namespace

std::string encode_prepared(const PreparedRecord& record) {
  Json fixes = Json::array();
  for (const FixReport& fix : record.fixes)
    fixes.push_back({{"name", fix.name},
                     {"needed", fix.needed},
                     {"why", fix.why},
                     {"blocker", fix.blocker},
                     {"files", fix.files}});
  return dump_json({{"version", kRecordVersion},
                    {"id", record.id},
                    {"point", record.point},
                    {"target", record.target},
                    {"options", record.options},
                    {"program", record.program},
                    {"made", record.made},
                    {"system", record.system},
                    {"disk_sizes_bytes", record.disk_sizes_bytes},
                    {"fixes", std::move(fixes)},
                    {"notes", record.notes},
                    {"verdict", record.verdict},
                    {"runs", encode_runs(record.runs)},
                    {"reads", encode_runs(record.reads)}});
}

Result<PreparedRecord> decode_prepared(std::string_view text) {
  RECLO_ASSIGN_OR_RETURN(const Json json,
                         parse_json(text, "the overlay's record", kPreparedRecordSizeBytesMax));
  RECLO_ASSIGN_OR_RETURN(const uint32_t version, json_get<uint32_t>(json, "version"));
  if (version != kRecordVersion)
    return Error(Code::kUnsupported, fmt::format("the overlay's record is of version {}", version));
  PreparedRecord out;
  for (const auto& [key, field] : {std::pair{"id", &out.id},
                                   {"point", &out.point},
                                   {"target", &out.target},
                                   {"options", &out.options},
                                   {"program", &out.program},
                                   {"made", &out.made},
                                   {"system", &out.system},
                                   {"verdict", &out.verdict}}) {
    RECLO_ASSIGN_OR_RETURN(*field, json_get<std::string>(json, key));
  }
  RECLO_ASSIGN_OR_RETURN(const Json* sizes, json_array(json, "disk_sizes_bytes"));
  if (sizes->size() > kDisksPerServerMax) return Error(Code::kCorruption, "too many disks");
  for (const Json& size : *sizes) {
    if (!size.is_number_unsigned()) return Error(Code::kCorruption, "a size has to be a number");
    out.disk_sizes_bytes.push_back(size.get<uint64_t>());
  }
  RECLO_ASSIGN_OR_RETURN(const Json* fixes, json_array(json, "fixes"));
  if (fixes->size() > kFixesMax) return Error(Code::kCorruption, "too many fixes");
  for (const Json& entry : *fixes) {
    RECLO_ASSIGN_OR_RETURN(FixReport fix, decode_fix(entry));
    out.fixes.push_back(std::move(fix));
  }
  RECLO_ASSIGN_OR_RETURN(out.notes, decode_texts(json, "notes"));
  RECLO_ASSIGN_OR_RETURN(out.runs, decode_runs(json, "runs", out.disk_sizes_bytes));
  RECLO_ASSIGN_OR_RETURN(out.reads, decode_runs(json, "reads", out.disk_sizes_bytes));
  return out;
}

}  // namespace reclo::recovery
