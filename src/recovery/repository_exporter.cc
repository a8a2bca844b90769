#include "recovery/repository_exporter.h"

#include <fmt/format.h>

#include <charconv>
#include <filesystem>

#include "image/nbd_export.h"

namespace reclo::recovery {
namespace {

using Source = std::map<std::string, std::string>;

Result<std::string> must(const Source& source, const std::string& key) {
  const auto found = source.find(key);
  if (found == source.end())
    return Error(
        Code::kCorruption,
        fmt::format("the instance does not say where its recovery point is: no '{}'", key));
  return found->second;
}

std::optional<bool> flag(const Source& source, const std::string& key) {
  const auto found = source.find(key);
  if (found == source.end()) return std::nullopt;
  return found->second == "true";
}

std::string text(const Source& source, const std::string& key) {
  const auto found = source.find(key);
  return found == source.end() ? std::string() : found->second;
}

// The supervisor may run in another working folder than the command that recovered.
std::string absolute_url(const std::string& url) {
  if (url.find("://") != std::string::npos) return url;
  std::error_code failure;
  const auto full = std::filesystem::absolute(url, failure);
  return failure ? url : full.string();
}

}  // namespace

Source source_of(const store::StoreOptions& store, MachineId machine, PointId point) {
  Source out{
      {"repository", absolute_url(store.url)}, {"machine", machine.hex()}, {"point", point.hex()}};
  if (!store.s3_endpoint.empty()) out["s3_endpoint"] = store.s3_endpoint;
  if (!store.s3_region.empty()) out["s3_region"] = store.s3_region;
  if (store.s3_path_style) out["s3_path_style"] = *store.s3_path_style ? "true" : "false";
  if (store.s3_sha256_checksums)
    out["s3_sha256_checksums"] = *store.s3_sha256_checksums ? "true" : "false";
  if (store.download_limit_bytes_per_second != 0)
    out["download_limit_bytes_per_second"] =
        fmt::format("{}", store.download_limit_bytes_per_second);
  return out;
}

Result<store::StoreOptions> store_of(const Source& source) {
  store::StoreOptions out;
  RECLO_ASSIGN_OR_RETURN(out.url, must(source, "repository"));
  out.s3_endpoint = text(source, "s3_endpoint");
  out.s3_region = text(source, "s3_region");
  out.s3_path_style = flag(source, "s3_path_style");
  out.s3_sha256_checksums = flag(source, "s3_sha256_checksums");
  const std::string limit = text(source, "download_limit_bytes_per_second");
  if (!limit.empty()) {
    const auto [end, failure] = std::from_chars(limit.data(), limit.data() + limit.size(),
                                                out.download_limit_bytes_per_second);
    if (failure != std::errc() || end != limit.data() + limit.size())
      return Error(Code::kCorruption, "the instance's download limit is no number");
  }
  return out;
}

Result<RepositoryExporter> RepositoryExporter::open(const Source& source,
                                                    crypto::SecretKey box_secret_key) {
  RECLO_ASSIGN_OR_RETURN(store::StoreOptions store, store_of(source));
  RECLO_ASSIGN_OR_RETURN(const std::string machine_hex, must(source, "machine"));
  RECLO_ASSIGN_OR_RETURN(const MachineId machine, MachineId::parse(machine_hex));
  RECLO_ASSIGN_OR_RETURN(const std::string point_hex, must(source, "point"));
  RECLO_ASSIGN_OR_RETURN(const PointId point, PointId::parse(point_hex));
  return RepositoryExporter(std::move(store), machine, point, std::move(box_secret_key));
}

Result<RunningExport> RepositoryExporter::start(const ExportRequest& request,
                                                const CancelToken& cancel) {
  image::NbdExportOptions options;
  options.store = store_;
  options.machine = machine_;
  options.point = point_;
  options.disk_index = request.disk_index;
  options.socket_path = request.socket_path;
  options.cache_directory = request.cache_directory;
  options.log_path = request.log_path;
  options.die_with_parent = false;
  RECLO_ASSIGN_OR_RETURN(const image::NbdExport server,
                         image::start_nbd_export(options, key_, cancel));
  return RunningExport{server.pid, server.size_bytes};
}

}  // namespace reclo::recovery
