#include "repo/config.h"

#include "repo/envelope.h"

namespace reclo::repo {

Bytes encode_config(const RepositoryConfig& config, const crypto::SecretKey& secret) {
  Json json;
  json["format"] = kFormatVersion;
  json["repository"] = config.id.hex();
  json["created"] = format_time(config.created);
  json["public_key"] = to_base64(config.public_key);
  json["store"] = {{"atomic_create", config.store.atomic_create},
                   {"list_after_put", config.store.list_after_put},
                   {"range_read", config.store.range_read},
                   {"note", config.store.note}};
  add_check(json, secret);
  return to_bytes(dump_json(json, 2) + "\n");
}

Result<RepositoryConfig> decode_config(ByteSpan object) {
  constexpr std::string_view kWhat = "reclo.json";
  RECLO_ASSIGN_OR_RETURN(const Json json, parse_json(as_text(object), kWhat));
  RECLO_TRY(check_format_version(json, kWhat));
  RepositoryConfig config;
  RECLO_ASSIGN_OR_RETURN_WITH(config.id, json_id<RepositoryId>(json, "repository"), kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(config.created, json_time(json, "created"), kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(const Bytes key,
                              json_base64(json, "public_key", config.public_key.size()), kWhat);
  std::copy(key.begin(), key.end(), config.public_key.begin());
  RECLO_ASSIGN_OR_RETURN_WITH(const Json* store, json_object(json, "store"), kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(config.store.atomic_create, json_get<bool>(*store, "atomic_create"),
                              kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(config.store.list_after_put, json_get<bool>(*store, "list_after_put"),
                              kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(config.store.range_read, json_get<bool>(*store, "range_read"), kWhat);
  RECLO_ASSIGN_OR_RETURN_WITH(config.store.note, json_get_or<std::string>(*store, "note", ""),
                              kWhat);
  return config;
}

}  // namespace reclo::repo
