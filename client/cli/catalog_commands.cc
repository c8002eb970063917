#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

constexpr char kExamples[] =
    "  weirctl catalog rebuild                   # only says what would be done\n"
    "  weirctl catalog rebuild --yes\n"
    "  weirctl catalog rebuild --without=r3 --yes";

std::string OutcomeText(const v1::RebuiltVolume& volume, bool dry_run) {
  switch (volume.outcome()) {
    case v1::RebuiltVolume::REBUILT:
      return dry_run ? "would be rebuilt" : "rebuilt";
    case v1::RebuiltVolume::KNOWN:
      return "known";
    case v1::RebuiltVolume::EMPTY:
      return "empty";
    default:
      return "refused";
  }
}

std::string Text(const v1::RebuildCatalogResponse& response, bool dry_run) {
  TextTable table({"VOLUME", "ID", "SIZE", "EPOCH", "IN SYNC", "OUTCOME"});
  std::string notes;
  for (const v1::RebuiltVolume& volume : response.volumes()) {
    const std::string name = volume.name().empty() ? "?" : volume.name();
    const bool described = volume.outcome() == v1::RebuiltVolume::REBUILT;
    table.AddRow({name, absl::StrFormat("%016x", volume.volume_id()), described ? FormatSize(volume.size_bytes()) : "",
                  described ? absl::StrCat(volume.epoch()) : "", absl::StrJoin(volume.in_sync(), ","),
                  OutcomeText(volume, dry_run)});
    if (!volume.reason().empty()) absl::StrAppend(&notes, name, ": ", volume.reason(), "\n");
    for (const std::string& snapshot : volume.lost_snapshots()) {
      absl::StrAppend(&notes, name, ": snapshot ", snapshot, " is not on every replica in sync, and left out\n");
    }
  }
  for (const std::string& replica : response.unreachable()) {
    absl::StrAppend(&notes, "not reached: ", replica, "\n");
  }
  if (dry_run && response.volumes_size() > 0) {
    absl::StrAppend(&notes, "Nothing was changed; --yes does it. No frontend may serve from the lost catalog any more.\n");
  }
  return absl::StrCat(table.ToString(), notes);
}

}  // namespace

void AddCatalogCommands(CLI::App& app, Context& context) {
  CLI::App* group = AddGroup(app, "catalog", "what to do when the catalog is lost", kExamples);
  struct Flags {
    std::vector<std::string> addresses;
    std::vector<std::string> without;
    bool yes = false;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontend());
    v1::RebuildCatalogRequest request;
    request.set_dry_run(!flags->yes);
    request.mutable_addresses()->Assign(flags->addresses.begin(), flags->addresses.end());
    request.mutable_without()->Assign(flags->without.begin(), flags->without.end());
    ASSIGN_OR_RETURN(const v1::RebuildCatalogResponse response, client->RebuildCatalog(request));
    context.Print(response, Text(response, request.dry_run()));
    for (const v1::RebuiltVolume& volume : response.volumes()) {
      if (volume.outcome() != v1::RebuiltVolume::REFUSED) continue;
      return absl::FailedPreconditionError("not every volume could be rebuilt; the lines above say why");
    }
    if (response.unreachable_size() > 0 || response.volumes_size() == 0) {
      return absl::FailedPreconditionError(
          "not every replica has answered, or none was asked, so that volumes may be missing; start them, name their "
          "addresses (--address), or do without them (--without)");
    }
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "rebuild",
                                 "make records of volumes anew from the copies that replicas keep", body);
  command->add_option("--address", flags->addresses, "of replicas that the catalog does not know; may be repeated");
  command->add_option("--without", flags->without,
                      "a replica that is gone: what only it had in step is lost; may be repeated");
  command->add_flag("--yes", flags->yes, "do it; else it only says what would be done");
}

}  // namespace weir::cli
