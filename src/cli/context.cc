#include "cli/context.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>

#include "backup/server_state.h"
#include "base/limits.h"
#include "base/log.h"
#include "cli/terminal.h"
#include "os/file.h"

namespace reclo::cli {

Result<store::StoreOptions> store_options(const Context& context) {
  store::StoreOptions options = context.options.store;
  if (options.url.empty())
    return Error(Code::kInvalidArgument,
                 "which repository? Give --repo or set RECLO_REPO (a folder, file:///…, "
                 "s3://bucket/prefix)");
  options.patience = std::chrono::seconds(context.options.retry_for_seconds);
  if (!context.options.upload_limit.empty()) {
    RECLO_ASSIGN_OR_RETURN(options.upload_limit_bytes_per_second,
                           parse_size_bytes(context.options.upload_limit));
  }
  if (!context.options.download_limit.empty()) {
    RECLO_ASSIGN_OR_RETURN(options.download_limit_bytes_per_second,
                           parse_size_bytes(context.options.download_limit));
  }
  return options;
}

Result<OpenRepository> open_repository(const Context& context) {
  RECLO_ASSIGN_OR_RETURN(const store::StoreOptions options, store_options(context));
  OpenRepository open;
  RECLO_ASSIGN_OR_RETURN(open.store, store::open_store(options, context.cancel));
  RECLO_ASSIGN_OR_RETURN(repo::Repository repository,
                         repo::Repository::open(*open.store, context.cancel));
  open.repository = std::make_unique<repo::Repository>(std::move(repository));
  return open;
}

Result<std::string> read_secret_file(const std::string& path) {
  struct stat info{};
  if (::stat(path.c_str(), &info) != 0) return Error::from_errno(errno, "passphrase file " + path);
  if (S_ISREG(info.st_mode) && (info.st_mode & 0077) != 0)
    log_warning("{} can be read by others: chmod 600 it", path);
  RECLO_ASSIGN_OR_RETURN(Bytes content, os::read_file(path, 64 * kKiB));
  std::string text(as_text(content));
  crypto::wipe(content);
  const size_t end = text.find_first_of("\r\n");
  if (end != std::string::npos) text.resize(end);
  if (text.empty())
    return Error(Code::kInvalidArgument, "the passphrase file " + path + " is empty");
  return text;
}

Result<std::string> read_passphrase(const Context& context, const std::string& question) {
  if (!context.options.passphrase_file.empty())
    return read_secret_file(context.options.passphrase_file);
  return prompt_secret(question);
}

Result<crypto::BoxKeyPair> unlock(const Context& context, const repo::Repository& repository) {
  RECLO_ASSIGN_OR_RETURN(std::string words,
                         read_passphrase(context, "Passphrase or recovery code: "));
  auto keys = repository.unlock(words, context.cancel);
  crypto::wipe({reinterpret_cast<uint8_t*>(words.data()), words.size()});
  return keys;
}

Result<ReadablePoint> open_point(const Context& context, const std::string& point) {
  ReadablePoint out;
  RECLO_ASSIGN_OR_RETURN(out.open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(out.found, repo::find_point(*out.open.repository, point, context.cancel));
  RECLO_ASSIGN_OR_RETURN(out.box, unlock(context, *out.open.repository));
  return out;
}

Result<crypto::SecretKey> map_key_for(const Context& context, const repo::Repository& repository,
                                      const repo::MachineRecord& machine) {
  auto own = backup::find_machine_keys(context.options.state_directory, repository.id(), machine);
  if (own) return std::move(own->map_key);
  RECLO_ASSIGN_OR_RETURN(const crypto::BoxKeyPair box, unlock(context, repository));
  return repository.map_key(machine, box);
}

Status print(std::string_view text) {
  if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() || std::fflush(stdout) != 0)
    return Error::from_errno(errno, "write to standard output");
  return {};
}

Status print_json(const Json& json) {
  return print(json.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
}

}  // namespace reclo::cli
