#include "image/image_spec.h"

#include "base/encoding.h"
#include "base/json.h"
#include "base/limits.h"

namespace reclo::image {
namespace {

Json store_to_json(const store::StoreOptions& options) {
  Json json = {{"url", options.url},
               {"s3_endpoint", options.s3_endpoint},
               {"s3_region", options.s3_region},
               {"upload_limit", options.upload_limit_bytes_per_second},
               {"download_limit", options.download_limit_bytes_per_second},
               {"request_limit", options.request_limit_per_second},
               {"patience_ms", options.patience.count()},
               {"connections_max", options.connections_max}};
  if (options.s3_path_style) json["s3_path_style"] = *options.s3_path_style;
  if (options.s3_sha256_checksums) json["s3_sha256_checksums"] = *options.s3_sha256_checksums;
  return json;
}

Result<std::optional<bool>> optional_bool(const Json& json, const char* key) {
  if (!json.contains(key)) return std::optional<bool>();
  RECLO_ASSIGN_OR_RETURN(const bool value, json_get<bool>(json, key));
  return std::optional(value);
}

Result<store::StoreOptions> store_from_json(const Json& json) {
  constexpr uint64_t kPatienceMsMax = 24ull * 3600 * 1000;
  constexpr uint32_t kConnectionsMax = 1024;
  store::StoreOptions options;
  RECLO_ASSIGN_OR_RETURN(options.url, json_get<std::string>(json, "url"));
  RECLO_ASSIGN_OR_RETURN(options.s3_endpoint, json_get<std::string>(json, "s3_endpoint"));
  RECLO_ASSIGN_OR_RETURN(options.s3_region, json_get<std::string>(json, "s3_region"));
  RECLO_ASSIGN_OR_RETURN(options.s3_path_style, optional_bool(json, "s3_path_style"));
  RECLO_ASSIGN_OR_RETURN(options.s3_sha256_checksums, optional_bool(json, "s3_sha256_checksums"));
  RECLO_ASSIGN_OR_RETURN(options.upload_limit_bytes_per_second,
                         json_get<uint64_t>(json, "upload_limit"));
  RECLO_ASSIGN_OR_RETURN(options.download_limit_bytes_per_second,
                         json_get<uint64_t>(json, "download_limit"));
  RECLO_ASSIGN_OR_RETURN(options.request_limit_per_second,
                         json_get<uint32_t>(json, "request_limit"));
  RECLO_ASSIGN_OR_RETURN(const uint64_t patience_ms, json_get<uint64_t>(json, "patience_ms"));
  RECLO_ASSIGN_OR_RETURN(options.connections_max, json_get<uint32_t>(json, "connections_max"));
  if (patience_ms > kPatienceMsMax || options.connections_max == 0 ||
      options.connections_max > kConnectionsMax)
    return Error(Code::kInvalidArgument, "the export's store options are out of range");
  options.patience = std::chrono::milliseconds(patience_ms);
  return options;
}

}  // namespace

Bytes encode_image_spec(const ImageSpec& spec) {
  Json json = {{"store", store_to_json(spec.store)},
               {"machine", spec.machine.hex()},
               {"point", spec.point.hex()},
               {"disk", spec.disk_index},
               {"cache_directory", spec.cache_directory},
               {"cache_size_bytes", spec.cache_size_bytes},
               {"boot_set_path", spec.boot_set_path},
               {"key", to_base64(spec.box_secret_key.bytes())}};
  std::string text = json.dump();
  Bytes bytes = to_bytes(text);
  auto& key = json["key"].get_ref<std::string&>();
  crypto::wipe({reinterpret_cast<uint8_t*>(key.data()), key.size()});
  crypto::wipe({reinterpret_cast<uint8_t*>(text.data()), text.size()});
  return bytes;
}

Result<ImageSpec> decode_image_spec(ByteSpan text) {
  RECLO_ASSIGN_OR_RETURN(
      Json json, parse_json(as_text(text), "the export's specification", kImageSpecSizeBytesMax));
  ImageSpec spec;
  RECLO_ASSIGN_OR_RETURN(const Json* store, json_object(json, "store"));
  RECLO_ASSIGN_OR_RETURN(spec.store, store_from_json(*store));
  RECLO_ASSIGN_OR_RETURN(const std::string machine, json_get<std::string>(json, "machine"));
  RECLO_ASSIGN_OR_RETURN(spec.machine, MachineId::parse(machine));
  RECLO_ASSIGN_OR_RETURN(const std::string point, json_get<std::string>(json, "point"));
  RECLO_ASSIGN_OR_RETURN(spec.point, PointId::parse(point));
  RECLO_ASSIGN_OR_RETURN(spec.disk_index, json_get<uint32_t>(json, "disk"));
  RECLO_ASSIGN_OR_RETURN(spec.cache_directory, json_get<std::string>(json, "cache_directory"));
  RECLO_ASSIGN_OR_RETURN(spec.cache_size_bytes, json_get<uint64_t>(json, "cache_size_bytes"));
  RECLO_ASSIGN_OR_RETURN(spec.boot_set_path, json_get<std::string>(json, "boot_set_path"));
  RECLO_ASSIGN_OR_RETURN(std::string key_text, json_get<std::string>(json, "key"));
  auto key = from_base64(key_text);
  crypto::wipe({reinterpret_cast<uint8_t*>(key_text.data()), key_text.size()});
  if (!key.ok() || key->size() != crypto::SecretKey::kSize || spec.disk_index >= kDisksPerServerMax)
    return Error(Code::kInvalidArgument, "the export's specification has values out of range");
  spec.box_secret_key = crypto::SecretKey::from_bytes(*key);
  crypto::wipe(*key);
  auto& stored = json["key"].get_ref<std::string&>();
  crypto::wipe({reinterpret_cast<uint8_t*>(stored.data()), stored.size()});
  return spec;
}

}  // namespace reclo::image
