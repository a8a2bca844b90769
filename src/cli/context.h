// What every command starts from: the global options, the store, the repository, and its keys.
#pragma once

#include <memory>
#include <optional>
#include <string>

#include "base/cancel.h"
#include "base/json.h"
#include "base/progress.h"
#include "cli/options.h"
#include "repo/repository.h"

namespace reclo::cli {

struct Context {
  GlobalOptions options;
  CancelToken cancel;
  std::unique_ptr<ProgressSink> progress;
};

/// A repository with the store it lives in.
struct OpenRepository {
  std::unique_ptr<store::ObjectStore> store;
  std::unique_ptr<repo::Repository> repository;
};

Result<store::StoreOptions> store_options(const Context& context);
/// Opens --repo. Errors name RECLO_REPO when none is given.
Result<OpenRepository> open_repository(const Context& context);

/// The passphrase or recovery code: from the file, else asked for.
Result<std::string> read_passphrase(const Context& context, const std::string& question);
/// A secret's file: its first line. Warns when others can read the file.
Result<std::string> read_secret_file(const std::string& path);

/// Unlocks the repository with read_passphrase().
Result<crypto::BoxKeyPair> unlock(const Context& context, const repo::Repository& repository);

/// A recovery point with everything needed to read it.
struct ReadablePoint {
  OpenRepository open;
  repo::FoundPoint found;
  crypto::BoxKeyPair box;
};
Result<ReadablePoint> open_point(const Context& context, const std::string& point);

/// The map key of a machine: from this server's own state when it is ours, else by unlocking.
Result<crypto::SecretKey> map_key_for(const Context& context, const repo::Repository& repository,
                                      const repo::MachineRecord& machine);

/// Prints to stdout. Errors: kIo when stdout is closed or full.
Status print(std::string_view text);
Status print_json(const Json& json);

}  // namespace reclo::cli
