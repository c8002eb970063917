#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "weir/v1/replica.grpc.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

constexpr char kExamples[] =
    "  weirctl replica list\n"
    "  weirctl replica show replica1 --output=json";

void AddList(CLI::App* group, Context& context) {
  auto body = [&context]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontend());
    ASSIGN_OR_RETURN(auto replicas, client->ListReplicas());
    v1::ListReplicasResponse response;
    TextTable table({"NAME", "ADDRESS", "STATE", "CAPACITY", "AVAILABLE", "VOLUMES", "REASON"});
    for (const v1::ReplicaSummary& replica : replicas) {
      *response.add_replicas() = replica;
      table.AddRow({replica.name(), replica.address(), replica.state(),
                    FormatSize(replica.capacity_bytes()), FormatSize(replica.available_bytes()),
                    absl::StrCat(replica.volumes()), replica.state_reason()});
    }
    context.Print(response, table.ToString());
    return absl::OkStatus();
  };
  AddCommand(group, context, "list", "every replica the frontend knows", body)->alias("ls");
}

std::string LaneText(const v1::LaneState& lane) {
  return absl::StrCat(
      lane.lane(), ":", Position::FromBits(lane.position()).ToString(),
      lane.durable_position() == lane.position()
          ? ""
          : absl::StrCat(" (synced ", Position::FromBits(lane.durable_position()).ToString(), ")"));
}

std::string ReplicaText(const v1::GetReplicaResponse& replica) {
  std::string text = absl::StrCat(
      "name             ", replica.name(), "\nstate            ", replica.state(),
      replica.state_reason().empty() ? "" : ": ", replica.state_reason(), "\ncluster          ",
      replica.cluster_id(), "\nstore            ", replica.store_id(), "\nincarnation      ",
      replica.incarnation(), "\nversion          ", replica.version(), "\nfault injection  ",
      replica.fault_injection() ? "on" : "off", "\n\n");
  TextTable dirs({"DIR", "PATH", "CAPACITY", "AVAILABLE"});
  for (const v1::DataDir& dir : replica.data_dirs()) {
    dirs.AddRow({absl::StrCat(dir.index()), dir.path(), FormatSize(dir.capacity_bytes()),
                 FormatSize(dir.available_bytes())});
  }
  TextTable volumes({"VOLUME_ID", "SIZE", "EPOCH", "LIVE", "PINNED", "RECLAIMABLE", "LANES"});
  for (const v1::ReplicaVolume& volume : replica.volumes()) {
    std::vector<std::string> lanes;
    for (const v1::LaneState& lane : volume.lanes()) lanes.push_back(LaneText(lane));
    volumes.AddRow({absl::StrFormat("%016x", volume.volume_id()), FormatSize(volume.size_bytes()),
                    absl::StrCat(volume.promised_epoch()), FormatSize(volume.live_bytes()),
                    FormatSize(volume.pinned_bytes()), FormatSize(volume.reclaimable_bytes()),
                    absl::StrJoin(lanes, " ")});
  }
  return text + dirs.ToString() + "\n" + volumes.ToString();
}

void AddShow(CLI::App* group, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(
        v1::GetReplicaResponse replica,
        context.CallReplica(*name, &v1::ReplicaService::Stub::GetReplica, v1::GetReplicaRequest()));
    context.Print(replica, ReplicaText(replica));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "show",
                                 "one replica: identity, space, volumes and lane positions", body);
  command->add_option("replica", *name, "its name, or HOST:PORT")->required();
  command->footer("Asks the replica itself, so it works without a frontend.");
}

}  // namespace

void AddReplicaCommands(CLI::App& app, Context& context) {
  CLI::App* group = AddGroup(app, "replica", "list and show replicas", kExamples);
  AddList(group, context);
  AddShow(group, context);
}

}  // namespace weir::cli
