#include <fstream>
#include <iterator>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "client/cli/table_text.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

constexpr char kExamples[] =
    "  weirctl table show demo > table\n"
    "  sed -i '/replica3/s/in_sync/out/' table\n"
    "  weirctl volume suspend demo\n"
    "  weirctl table load demo --file=table\n"
    "  weirctl volume resume demo        # swaps it in";

void AddShow(CLI::App* group, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(*name));
    ASSIGN_OR_RETURN(v1::Volume volume, client->GetVolume(*name));
    context.Print(volume.table(), FormatTable(volume));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "show", "the table, as table load takes it", body);
  command->add_option("volume", *name, "the volume's name")->required();
  command->footer(
      "One line a target, as dmsetup prints them:\n"
      "  START LENGTH replica NAME ADDRESS STATE      (sectors of 512 bytes)");
}

absl::StatusOr<std::string> ReadAll(const std::string& path, std::istream& in) {
  std::ifstream file;
  if (path != "-") {
    file.open(path);
    if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", path, "; check --file"));
  }
  std::istream& source = path == "-" ? in : file;
  return std::string(std::istreambuf_iterator<char>(source), std::istreambuf_iterator<char>());
}

void AddLoad(CLI::App* group, Context& context) {
  struct Flags {
    std::string name;
    std::string file = "-";
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(std::string text, ReadAll(flags->file, context.in));
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(flags->name));
    ASSIGN_OR_RETURN(v1::Volume volume, client->GetVolume(flags->name));
    absl::StatusOr<v1::Table> table = ParseTable(text, volume.size_bytes());
    if (!table.ok()) {
      return absl::InvalidArgumentError(absl::StrCat(flags->file == "-" ? "the table" : flags->file,
                                                     " ", table.status().message()));
    }
    RETURN_IF_ERROR(client->LoadTable(flags->name, *table));
    context.PrintDone(flags->name, "loaded",
                      absl::StrCat("loaded a table of ", table->targets_size(), " targets into ",
                                   flags->name, "; 'weirctl volume resume ", flags->name,
                                   "' swaps it in\n"));
    return absl::OkStatus();
  };
  CLI::App* command =
      AddCommand(group, context, "load", "give a suspended volume a new table", body);
  command->add_option("volume", flags->name, "the volume's name")->required();
  command->add_option("--file", flags->file, "text or JSON of table show; -: standard input")
      ->capture_default_str();
  command->footer(std::string("A member with the state out leaves, and stays out until a table gives it the\n"
                              "state joining: then it is brought back. Nobody else can come by a table;\n"
                              "see 'weirctl replica replace'.\nExample:\n") +
                  kExamples);
}

}  // namespace

void AddTableCommands(CLI::App& app, Context& context) {
  CLI::App* group = AddGroup(app, "table", "show a volume's table, or load another", kExamples);
  AddShow(group, context);
  AddLoad(group, context);
}

}  // namespace weir::cli
