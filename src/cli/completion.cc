#include "cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <vector>

namespace reclo::cli {
namespace {

// "--name" of every option and flag, and "!--negated" ones without their mark.
void add_options(const CLI::App& app, std::vector<std::string>& words) {
  for (const CLI::Option* option : app.get_options())
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
}

std::vector<std::string> verbs_of(const CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
    if (!verb->get_group().empty()) names.push_back(verb->get_name());
  return names;
}

}  // namespace

std::string bash_completion(const CLI::App& app) {
  const std::vector<std::string> verbs = verbs_of(app);
  std::vector<std::string> global;
  add_options(app, global);
  std::string cases;
  for (const std::string& name : verbs) {
    const CLI::App* verb = app.get_subcommand(name);
    std::vector<std::string> words = verbs_of(*verb);
    add_options(*verb, words);
    for (const CLI::App* below : verb->get_subcommands([](const CLI::App*) { return true; }))
      add_options(*below, words);
    cases += fmt::format("    {}) words='{}' ;;\n", name, fmt::join(words, " "));
  }
  return fmt::format(
      R"(# bash completion of reclo: source <(reclo completion)
_reclo() {{
  local current=${{COMP_WORDS[COMP_CWORD]}} verb= word words
  for word in "${{COMP_WORDS[@]:1:COMP_CWORD-1}}"; do
    case $word in
      {}) verb=$word; break ;;
    esac
  done
  case $verb in
{}    *) words='{}' ;;
  esac
  COMPREPLY=()
  if [[ $current == -* || -z $verb || $verb == key ]]; then
    COMPREPLY=($(compgen -W "$words {}" -- "$current"))
  fi
}}
complete -o default -F _reclo reclo
)",
      fmt::join(verbs, "|"), cases, fmt::join(verbs, " "), fmt::join(global, " "));
}

}  // namespace reclo::cli
