#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
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

}  // namespace

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
  AddNamed(group, context, "show", "one, and how much has changed since", Context::Purpose::kLook,
           [&context](Client& client, const SnapshotName& name) -> absl::Status {
             ASSIGN_OR_RETURN(const v1::Snapshot snapshot,
                              client.GetSnapshot(name.volume, name.snapshot));
             context.Print(snapshot,
                           absl::StrCat("name           ", FullName(snapshot), "\nsize           ",
                                        FormatSize(snapshot.size_bytes()), "\ntaken          ",
                                        TimeText(snapshot), "\nchanged since  ",
                                        FormatSize(snapshot.changed_bytes()),
                                        "; it keeps at most that, on each replica\n"));
             return absl::OkStatus();
           });
  AddRead(group, context);
  AddNamed(group, context, "delete", "forget it; the space of what only it needed comes back",
           Context::Purpose::kUse, [&context](Client& client, const SnapshotName& name) -> absl::Status {
             RETURN_IF_ERROR(client.DeleteSnapshot(name.volume, name.snapshot));
             if (!context.json()) context.out << "deleted " << name.volume << "@" << name.snapshot << "\n";
             return absl::OkStatus();
           });
}

}  // namespace weir::cli
