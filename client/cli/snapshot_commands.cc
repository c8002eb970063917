#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

constexpr char kExamples[] =
    "  weirctl snapshot create demo@monday\n"
    "  weirctl snapshot list demo\n"
    "  weirctl snapshot show demo@monday --output=json\n"
    "  weirctl snapshot delete demo@monday";

// One read of a snapshot.
constexpr uint32_t kReadBytes = 1 << 20;

struct SnapshotName {
  std::string volume;
  std::string snapshot;
};

absl::StatusOr<SnapshotName> ParseName(Context& context, const std::string& text) {
  const std::pair<std::string, std::string> parts = absl::StrSplit(text, absl::MaxSplits('@', 1));
  if (!parts.first.empty() && !parts.second.empty()) return SnapshotName{parts.first, parts.second};
  return context.Usage(absl::InvalidArgumentError(
      absl::StrCat("'", text, "' is no VOLUME@SNAPSHOT, such as demo@monday")));
}

std::string TimeText(const v1::Snapshot& snapshot) {
  return absl::FormatTime("%Y-%m-%dT%H:%M:%SZ", absl::FromUnixMillis(snapshot.created_unix_ms()),
                          absl::UTCTimeZone());
}

std::string FullName(const v1::Snapshot& snapshot) {
  return absl::StrCat(snapshot.volume(), "@", snapshot.name());
}

std::string KeptText(const v1::Snapshot& snapshot) {
  if (!snapshot.has_kept_bytes()) return "at most that, on each replica";
  return absl::StrCat(FormatSize(snapshot.kept_bytes()), " on each replica; ", FormatSize(snapshot.own_bytes()),
                      " come back if it is deleted");
}

// A command on VOLUME@SNAPSHOT.
CLI::App* AddNamed(CLI::App* group, Context& context, const std::string& name,
                   const std::string& description, Context::Purpose purpose,
                   std::function<absl::Status(Client&, const SnapshotName&)> call) {
  auto text = std::make_shared<std::string>();
  auto body = [&context, text, purpose, call]() -> absl::Status {
    ASSIGN_OR_RETURN(const SnapshotName named, ParseName(context, *text));
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(named.volume, purpose));
    return call(*client, named);
  };
  CLI::App* command = AddCommand(group, context, name, description, body);
  command->add_option("snapshot", *text, "its name, VOLUME@SNAPSHOT")->required();
  return command;
}

void AddList(CLI::App* group, Context& context) {
  auto volume = std::make_shared<std::string>();
  auto body = [&context, volume]() -> absl::Status {
    auto connected = volume->empty() ? context.ConnectFrontend()
                                     : context.ConnectFrontendOf(*volume, Context::Purpose::kLook);
    ASSIGN_OR_RETURN(auto client, std::move(connected));
    ASSIGN_OR_RETURN(auto snapshots, client->ListSnapshots(*volume));
    v1::ListSnapshotsResponse response;
    TextTable table({"SNAPSHOT", "SIZE", "TAKEN"});
    for (const v1::Snapshot& snapshot : snapshots) {
      *response.add_snapshots() = snapshot;
      table.AddRow({FullName(snapshot), FormatSize(snapshot.size_bytes()), TimeText(snapshot)});
    }
    context.Print(response, table.ToString());
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "list", "the snapshots of a volume, or all", body);
  command->alias("ls");
  command->add_option("volume", *volume, "its name; all if it is left out");
}

void AddRead(CLI::App* group, Context& context) {
  struct Range {
    uint64_t offset = 0;
    uint64_t length = 0;
  };
  auto range = std::make_shared<Range>();
  auto read = [&context, range](Client& client, const SnapshotName& name) -> absl::Status {
    uint64_t length = range->length;
    if (length == 0) {
      ASSIGN_OR_RETURN(auto snapshots, client.ListSnapshots(name.volume));
      for (const v1::Snapshot& one : snapshots) {
        if (one.name() == name.snapshot) length = one.size_bytes() - range->offset;
      }
    }
    for (uint64_t done = 0; done < length;) {
      const auto part = static_cast<uint32_t>(std::min<uint64_t>(kReadBytes, length - done));
      ASSIGN_OR_RETURN(const std::string data,
                       client.ReadSnapshot(name.volume, name.snapshot, range->offset + done, part));
      context.out.write(data.data(), static_cast<std::streamsize>(data.size()));
      done += part;
    }
    return absl::OkStatus();
  };
  CLI::App* command = AddNamed(group, context, "read", "write its bytes to the standard output",
                               Context::Purpose::kLook, read);
  AddSize(command, "--offset", range->offset, "where to begin, a multiple of 4096");
  AddSize(command, "--length", range->length, "how much, a multiple of 4096; 0: up to the end");
}

void AddClone(CLI::App* group, Context& context) {
  struct Flags {
    std::string source;
    std::string name;
    uint64_t size = 0;
    std::vector<std::string> replicas;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    const std::pair<std::string, std::string> source =
        absl::StrSplit(flags->source, absl::MaxSplits('@', 1));
    v1::CloneVolumeRequest request;
    request.set_name(flags->name);
    request.set_source(source.first);
    request.set_snapshot(source.second);
    request.set_size_bytes(flags->size);
    request.mutable_replicas()->Assign(flags->replicas.begin(), flags->replicas.end());
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(source.first));
    ASSIGN_OR_RETURN(const v1::Volume volume, client->CloneVolume(request));
    context.Print(volume, absl::StrCat("created ", volume.name(), ", ",
                                       FormatSize(volume.size_bytes()), ", a clone of ",
                                       volume.parent(), "\n"));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "clone",
                                 "a volume that begins as a snapshot, or as a volume is now", body);
  command->add_option("source", flags->source, "VOLUME@SNAPSHOT, or VOLUME")->required();
  command->add_option("name", flags->name, "the clone's name")->required();
  AddSize(command, "--size", flags->size, "0: the source's; else at least that");
  command->add_option("--replicas", flags->replicas, "on these; else chosen as for a new volume")
      ->delimiter(',')
      ->type_name("NAME,...");
  command->footer("Example:\n  weirctl volume clone demo@monday copy");
}

void AddFlatten(CLI::App* group, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(*name));
    v1::FlattenVolumeResponse response;
    while (!response.done()) {
      ASSIGN_OR_RETURN(response, client->FlattenVolume(*name, response.next_bytes()));
      if (!context.json() && !response.done()) {
        context.err << *name << ": " << FormatSize(response.next_bytes()) << " of "
                    << FormatSize(response.size_bytes()) << "\n";
      }
    }
    context.Print(response, absl::StrCat(*name, " has all that it reads\n"));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "flatten",
                                 "copy what a clone reads from its snapshot, while clients go on", body);
  command->add_option("volume", *name, "the clone, attached")->required();
}

void AddRestore(CLI::App* group, Context& context) {
  AddNamed(group, context, "restore", "give a suspended or detached volume its content of then, exactly",
           Context::Purpose::kUse, [&context](Client& client, const SnapshotName& name) -> absl::Status {
             ASSIGN_OR_RETURN(const uint64_t bytes,
                              client.RestoreVolume(name.volume, name.snapshot));
             v1::RestoreVolumeResponse response;
             response.set_restored_bytes(bytes);
             context.Print(response, absl::StrCat("restored ", name.volume, " from ", name.snapshot, ", ",
                                                  FormatSize(bytes), " had been written since\n"));
             return absl::OkStatus();
           });
}

}  // namespace

void AddCloneCommands(CLI::App* volumes, Context& context) {
  AddClone(volumes, context);
  AddFlatten(volumes, context);
  AddRestore(volumes, context);
}

void AddSnapshotCommands(CLI::App& app, Context& context) {
  CLI::App* group = AddGroup(app, "snapshot", "points of a volume that stay as they are", kExamples);
  AddNamed(group, context, "create", "take one, now; the same again if it is there",
           Context::Purpose::kUse, [&context](Client& client, const SnapshotName& name) -> absl::Status {
             ASSIGN_OR_RETURN(const v1::Snapshot snapshot,
                              client.CreateSnapshot(name.volume, name.snapshot));
             context.Print(snapshot, absl::StrCat("created ", FullName(snapshot), ", ",
                                                  FormatSize(snapshot.size_bytes()), "\n"));
             return absl::OkStatus();
           });
  AddList(group, context);
  AddNamed(group, context, "show", "one, how much has changed since, and what it keeps", Context::Purpose::kLook,
           [&context](Client& client, const SnapshotName& name) -> absl::Status {
             ASSIGN_OR_RETURN(const v1::Snapshot snapshot,
                              client.GetSnapshot(name.volume, name.snapshot));
             context.Print(snapshot,
                           absl::StrCat("name           ", FullName(snapshot), "\nsize           ",
                                        FormatSize(snapshot.size_bytes()), "\ntaken          ",
                                        TimeText(snapshot), "\nchanged since  ",
                                        FormatSize(snapshot.changed_bytes()), "\nkeeps          ", KeptText(snapshot),
                                        "\nclones         ",
                                        snapshot.clones().empty()
                                            ? "none"
                                            : absl::StrJoin(snapshot.clones(), ", "),
                                        "\n"));
             return absl::OkStatus();
           });
  AddRead(group, context);
  AddNamed(group, context, "delete", "forget it; the space of what only it needed comes back",
           Context::Purpose::kUse, [&context](Client& client, const SnapshotName& name) -> absl::Status {
             RETURN_IF_ERROR(client.DeleteSnapshot(name.volume, name.snapshot));
             if (context.json()) {
               context.out << "{\"volume\": \"" << name.volume << "\", \"snapshot\": \"" << name.snapshot
                           << "\", \"result\": \"deleted\"}\n";
             } else {
               context.out << "deleted " << name.volume << "@" << name.snapshot << "\n";
             }
             return absl::OkStatus();
           });
}

}  // namespace weir::cli
