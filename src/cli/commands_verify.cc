// verify: whether every recovery point is whole.
#include <fmt/format.h>

#include "base/units.h"
#include "cli/commands.h"
#include "repo/verify.h"

namespace reclo::cli {
namespace {

Json problem_json(const repo::Problem& problem) {
  Json affected = Json::array();
  for (const repo::AffectedRange& range : problem.affected) {
    Json entry = {{"server", range.server},
                  {"point", range.point.hex()},
                  {"disk", nullptr},
                  {"offset_bytes", range.offset_bytes},
                  {"length_bytes", range.size_bytes}};
    if (range.disk_index) entry["disk"] = *range.disk_index;
    affected.push_back(std::move(entry));
  }
  return {{"object", problem.object},
          {"what", problem.what},
          {"affected", affected},
          {"affected_cut", problem.affected_cut}};
}

std::string problem_text(const repo::Problem& problem) {
  constexpr size_t kShownMax = 8;
  std::string out = fmt::format("DAMAGED {}\n  {}\n", problem.object, problem.what);
  for (size_t i = 0; i < problem.affected.size() && i < kShownMax; ++i) {
    const repo::AffectedRange& range = problem.affected[i];
    out += range.disk_index
               ? fmt::format("  affects {} point {} disk {} bytes {}-{}\n", range.server,
                             range.point.short_hex(), *range.disk_index, range.offset_bytes,
                             range.offset_bytes + range.size_bytes - 1)
               : fmt::format("  affects {} point {} as a whole\n", range.server,
                             range.point.short_hex());
  }
  if (problem.affected.size() > kShownMax || problem.affected_cut)
    out += "  and more: --json lists them\n";
  return out;
}

Json report_json(const repo::VerifyReport& report) {
  Json problems = Json::array();
  for (const repo::Problem& problem : report.problems) problems.push_back(problem_json(problem));
  return {{"points_checked", report.points_checked},
          {"nodes_checked", report.nodes_checked},
          {"chunks_checked", report.chunks_checked},
          {"packs_present", report.packs_present},
          {"packs_unreferenced", report.packs_unreferenced},
          {"data_bytes_read", report.data_bytes_read},
          {"open_sessions", report.open_sessions},
          {"servers_not_checked", report.servers_not_checked},
          {"problems", problems},
          {"problems_cut", report.problems_cut}};
}

}  // namespace

Status run_verify(Context& context, const VerifyArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const crypto::BoxKeyPair box, unlock(context, *open.repository));
  repo::VerifyOptions options;
  options.read_data = args.read_data;
  options.box = &box;
  const Stopwatch watch;
  RECLO_ASSIGN_OR_RETURN(
      const repo::VerifyReport report,
      repo::verify_repository(*open.repository, options, *context.progress, context.cancel));
  context.progress.reset();
  if (context.options.json) {
    RECLO_TRY(print_json(report_json(report)));
  } else {
    for (const repo::Problem& problem : report.problems) RECLO_TRY(print(problem_text(problem)));
    RECLO_TRY(print(fmt::format(
        "Checked {} recovery points, {} map nodes, {} chunks in {} packs{} in {}: {}\n",
        report.points_checked, report.nodes_checked, report.chunks_checked, report.packs_present,
        args.read_data ? ", " + format_bytes(report.data_bytes_read) + " read" : "",
        format_duration(watch.elapsed()),
        report.problems.empty() ? "all whole"
                                : fmt::format("{} problems", report.problems.size()))));
  }
  if (report.problems.empty()) return {};
  return Error(Code::kCorruption,
               fmt::format("{} damaged objects; what they do not affect can still be restored",
                           report.problems.size()));
}

}  // namespace reclo::cli
