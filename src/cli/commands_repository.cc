// init, key …, version: the repository itself and who may open it.
#include <fmt/format.h>

#include "base/log.h"
#include "base/version.h"
#include "cli/commands.h"
#include "cli/terminal.h"
#include "crypto/passphrase.h"
#include "store/probe.h"

namespace reclo::cli {
namespace {

constexpr size_t kPassphraseSizeMin = 8;

// Asks twice on a terminal; takes a file's first line as it is.
Result<std::string> new_passphrase(const Context& context, const std::string& file) {
  const std::string& path = file.empty() ? context.options.passphrase_file : file;
  std::string words;
  if (!path.empty()) {
    RECLO_ASSIGN_OR_RETURN(words, read_secret_file(path));
  } else {
    RECLO_ASSIGN_OR_RETURN(words, prompt_secret("New passphrase: "));
    RECLO_ASSIGN_OR_RETURN(const std::string again, prompt_secret("Once more: "));
    if (words != again) return Error(Code::kInvalidArgument, "the two passphrases differ");
  }
  if (words.size() < kPassphraseSizeMin)
    return Error(Code::kInvalidArgument,
                 fmt::format("the passphrase needs at least {} characters", kPassphraseSizeMin));
  return words;
}

// "checked back at set-up": a code that was written down wrongly is noticed now, not at the
// disaster.
Status check_back(const Context& context, const std::string& code) {
  if (context.options.json || !context.options.passphrase_file.empty()) return {};
  RECLO_TRY(print(fmt::format(
      "\nRecovery code:\n\n    {}\n\nWrite it down and keep it in a safe place. With it and the "
      "store alone,\nevery server can be restored; without it and without the passphrase, "
      "none.\n\n",
      code)));
  for (;;) {
    RECLO_ASSIGN_OR_RETURN(const std::string typed,
                           prompt_secret("Type its last three groups to check: "));
    std::string wanted = code.substr(code.size() - 14);
    std::string given;
    for (const char c : typed)
      if (c != '-' && c != ' ')
        given.push_back(static_cast<char>(std::toupper(static_cast<unsigned char>(c))));
    std::erase(wanted, '-');
    if (given == wanted) return {};
    RECLO_TRY(print("That is not what is shown above. Please compare again.\n"));
  }
}

}  // namespace

Status run_init(Context& context, const InitArgs&) {
  RECLO_ASSIGN_OR_RETURN(store::StoreOptions options, store_options(context));
  options.create_folder = true;
  RECLO_ASSIGN_OR_RETURN(const auto store, store::open_store(options, context.cancel));
  const auto existing = store->stat("reclo.json", context.cancel);
  if (existing.ok())
    return Error(Code::kAlreadyExists, "there is already a repository in " + store->description());
  RECLO_ASSIGN_OR_RETURN(const std::string passphrase, new_passphrase(context, ""));
  context.progress->note("checking what the store can do");
  RECLO_ASSIGN_OR_RETURN(const store::ProbeReport probe,
                         store::probe_store(*store, "probe/", context.cancel));
  const repo::StoreCapabilities capabilities{probe.atomic_create, probe.list_after_put,
                                             probe.range_read, probe.note};
  if (!capabilities.safe())
    log_warning(
        "this store does not keep what ReClo needs for fully concurrent use ({}): backups are "
        "safe, but removing "
        "old ones will be serialised and delayed",
        probe.note.empty() ? "see reclo.json" : probe.note);
  RECLO_ASSIGN_OR_RETURN(const repo::InitResult result,
                         repo::init_repository(*store, passphrase, capabilities, context.cancel));
  if (context.options.json)
    return print_json({{"repository", result.config.id.hex()},
                       {"url", store->description()},
                       {"recovery_code", result.recovery_code},
                       {"store",
                        {{"atomic_create", probe.atomic_create},
                         {"list_after_put", probe.list_after_put},
                         {"range_read", probe.range_read},
                         {"latency_ms", probe.latency_ms},
                         {"note", probe.note}}}});
  RECLO_TRY(print(fmt::format("Repository {} made in {}\nStore: {} (latency {:.1f} ms)\n",
                              result.config.id.short_hex(), store->description(),
                              capabilities.safe() ? "all checks passed" : "degraded: " + probe.note,
                              probe.latency_ms)));
  if (!context.options.passphrase_file.empty())
    return print(fmt::format("Recovery code (write it down, it is shown only now):\n\n    {}\n\n",
                             result.recovery_code));
  return check_back(context, result.recovery_code);
}

Status run_key_list(Context& context) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  std::vector<Error> problems;
  RECLO_ASSIGN_OR_RETURN(const auto slots, repo::list_key_slots(*open.store, open.repository->id(),
                                                                &problems, context.cancel));
  for (const Error& problem : problems) log_warning("{}", problem.message());
  const auto kind_name = [](repo::SlotKind kind) {
    return kind == repo::SlotKind::kPassphrase ? "passphrase" : "recovery-code";
  };
  if (context.options.json) {
    Json json = Json::array();
    for (const repo::KeySlot& slot : slots)
      json.push_back({{"slot", slot.name},
                      {"kind", kind_name(slot.kind)},
                      {"label", slot.label},
                      {"created", format_time(slot.created)}});
    return print_json(json);
  }
  std::vector<std::vector<std::string>> rows{{"SLOT", "KIND", "CREATED", "LABEL"}};
  for (const repo::KeySlot& slot : slots)
    rows.push_back(
        {slot.name, kind_name(slot.kind), format_time(slot.created).substr(0, 19), slot.label});
  return print(format_table(rows));
}

Status run_key_add(Context& context, const KeyAddArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_ASSIGN_OR_RETURN(const crypto::BoxKeyPair box, unlock(context, *open.repository));
  std::string words;
  if (args.recovery_code) {
    words = crypto::make_recovery_code();
  } else if (!args.new_passphrase_file.empty()) {
    RECLO_ASSIGN_OR_RETURN(words, new_passphrase(context, args.new_passphrase_file));
  } else {
    RECLO_ASSIGN_OR_RETURN(words, prompt_secret("New passphrase: "));
    RECLO_ASSIGN_OR_RETURN(const std::string again, prompt_secret("Once more: "));
    if (words != again) return Error(Code::kInvalidArgument, "the two passphrases differ");
  }
  const auto kind =
      args.recovery_code ? repo::SlotKind::kRecoveryCode : repo::SlotKind::kPassphrase;
  RECLO_ASSIGN_OR_RETURN(const repo::KeySlot slot,
                         repo::add_key_slot(*open.store, open.repository->id(), box.secret_key,
                                            kind, args.label, words, context.cancel));
  if (context.options.json) {
    Json json = {{"slot", slot.name}};
    if (args.recovery_code) json["recovery_code"] = words;
    return print_json(json);
  }
  RECLO_TRY(print(fmt::format("Added key slot {}.\n", slot.name)));
  return args.recovery_code
             ? print(fmt::format("Recovery code (shown only now):\n\n    {}\n\n", words))
             : ok_status();
}

Status run_key_remove(Context& context, const KeyRemoveArgs& args) {
  RECLO_ASSIGN_OR_RETURN(const OpenRepository open, open_repository(context));
  RECLO_TRY(repo::remove_key_slot(*open.store, open.repository->id(), args.slot, context.cancel));
  return context.options.json ? print_json({{"removed", args.slot}})
                              : print(fmt::format("Removed key slot {}.\n", args.slot));
}

Status run_version(Context& context) {
  if (context.options.json) return print_json({{"version", kProgramVersion}, {"format", 1}});
  return print(fmt::format("reclo {} (repository format 1)\n", kProgramVersion));
}

}  // namespace reclo::cli
