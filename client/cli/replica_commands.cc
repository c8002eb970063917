#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "client/cli/replica_call.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "weir/v1/replica.grpc.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

constexpr absl::Duration kLookEvery = absl::Milliseconds(200);
constexpr absl::Duration kShowEvery = absl::Seconds(2);
constexpr char kExamples[] =
    "  weirctl replica list\n"
    "  weirctl replica replace demo replica2 --wait\n"
    "  weirctl replica show replica1 --output=json";

std::string LabelsText(const google::protobuf::Map<std::string, std::string>& labels) {
  const std::map<std::string, std::string> sorted(labels.begin(), labels.end());
  return absl::StrJoin(sorted, ",", absl::PairFormatter("="));
}

void AddList(CLI::App* group, Context& context) {
  auto body = [&context]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontend());
    ASSIGN_OR_RETURN(auto replicas, client->ListReplicas());
    v1::ListReplicasResponse response;
    TextTable table({"NAME", "ADDRESS", "STATE", "LABELS", "CAPACITY", "AVAILABLE", "VOLUMES", "REASON"});
    for (const v1::ReplicaSummary& replica : replicas) {
      *response.add_replicas() = replica;
      table.AddRow({replica.name(), replica.address(), replica.state(),
                    LabelsText(replica.labels()), FormatSize(replica.capacity_bytes()), FormatSize(replica.available_bytes()),
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

const char* VerdictText(const v1::DataDir& dir) {
  if (!dir.has_disk()) return "not known yet";
  switch (dir.disk().verdict()) {
    case v1::DiskTruth::DURABLE:
      return "durable";
    case v1::DiskTruth::SUSPICIOUS:
      return "suspicious";
    case v1::DiskTruth::NOT_DURABLE:
      return "not durable";
    default:
      return "unknown";
  }
}

std::string SyncText(uint64_t nanoseconds) {
  return absl::FormatDuration(absl::Trunc(absl::Nanoseconds(nanoseconds), absl::Microseconds(1)));
}

// What was found out about the disks when the replica started, and why it is so.
std::string DisksText(const v1::GetReplicaResponse& replica) {
  TextTable disks({"DIR", "DISK", "FILE_SYSTEM", "DEVICES", "VOLATILE_CACHE", "SYNC_MEDIAN", "SYNC_MAX"});
  std::string reasons;
  for (const v1::DataDir& dir : replica.data_dirs()) {
    const v1::DiskTruth& disk = dir.disk();
    std::vector<std::string> devices;
    for (const v1::DiskLayer& layer : disk.layers()) devices.push_back(layer.device());
    const bool measured = disk.sync_rounds() > 0;
    disks.AddRow({absl::StrCat(dir.index()), VerdictText(dir), disk.file_system(), absl::StrJoin(devices, ","),
                  !disk.has_volatile_cache() ? "" : disk.volatile_cache() ? "claimed" : "none",
                  measured ? SyncText(disk.sync_median_ns()) : "", measured ? SyncText(disk.sync_max_ns()) : ""});
    for (const std::string& reason : disk.reasons()) absl::StrAppend(&reasons, dir.index(), ": ", reason, "\n");
  }
  return absl::StrCat(disks.ToString(), reasons);
}

std::string ReplicaText(const v1::GetReplicaResponse& replica) {
  std::string text = absl::StrCat(
      "name             ", replica.name(), "\nstate            ", replica.state(),
      replica.state_reason().empty() ? "" : ": ", replica.state_reason(), "\ncluster          ",
      replica.cluster_id(), "\nstore            ", replica.store_id(), "\nstarts           ",
      replica.generation(), "\nversion          ", replica.version(), "\nfault injection  ",
      replica.fault_injection() ? "on" : "off", "\nlabels           ",
      LabelsText(replica.labels()), "\nregistration     ",
      replica.registration().empty() ? "none: it is named in the frontends' --replicas"
                                     : replica.registration(),
      "\n\n");
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
  return absl::StrCat(text, dirs.ToString(), "\n", DisksText(replica), "\n", volumes.ToString());
}

void AddShow(CLI::App* group, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(
        v1::GetReplicaResponse replica,
        CallReplica(context, *name, &v1::ReplicaService::Stub::GetReplica, v1::GetReplicaRequest()));
    context.Print(replica, ReplicaText(replica));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "show",
                                 "one replica: identity, space, disks, volumes and lane positions", body);
  command->add_option("replica", *name, "its name, or HOST:PORT")->required();
  command->footer("Asks the replica itself, so it works without a frontend.");
}

// How far the replicas are that are brought back; empty: all are in sync or out for good.
std::string Joining(const v1::Volume& volume) {
  std::vector<std::string> joining;
  for (const v1::Target& target : volume.table().targets()) {
    if (target.state() != "joining") continue;
    joining.push_back(absl::StrCat(target.replica(), " ", JoinText(target)));
  }
  return absl::StrJoin(joining, "; ");
}

// Says how far it is while it waits.
absl::Status AwaitInSync(Client& client, const std::string& volume, Context& context) {
  for (absl::Time shown = absl::Now();; absl::SleepFor(kLookEvery)) {
    ASSIGN_OR_RETURN(const v1::Volume now, client.GetVolume(volume));
    const std::string joining = Joining(now);
    if (joining.empty()) return absl::OkStatus();
    if (absl::Now() - shown < kShowEvery) continue;
    shown = absl::Now();
    context.err << volume << ": " << joining << std::endl;
  }
}

absl::Status Replace(Client& client, const std::string& volume, const std::string& replica,
                     const std::string& with, bool wait, Context& context) {
  ASSIGN_OR_RETURN(const std::string taken, client.ReplaceMember(volume, replica, with));
  context.err << volume << ": " << taken << " has taken the place of " << replica << std::endl;
  if (wait) RETURN_IF_ERROR(AwaitInSync(client, volume, context));
  if (context.json()) {
    context.out << "{\"volume\": \"" << volume << "\", \"replica\": \"" << replica << "\", \"with\": \""
                << taken << "\"}\n";
  }
  return absl::OkStatus();
}

void AddReplace(CLI::App* group, Context& context) {
  struct Flags {
    std::string volume, replica, with;
    bool wait = false;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(flags->volume));
    return Replace(*client, flags->volume, flags->replica, flags->with, flags->wait, context);
  };
  CLI::App* command = AddCommand(
      group, context, "replace", "give a member's place in a volume to another replica", body);
  command->add_option("volume", flags->volume, "its name")->required();
  command->add_option("replica", flags->replica, "the member that goes")->required();
  command->add_option("--with", flags->with,
                      "who takes its place; else itself, if it has a new, empty store, or the "
                      "replica with most free space");
  command->add_flag("--wait", flags->wait, "until all are in sync again");
  command->footer("The new one gets everything while clients go on. What the old one has is deleted "
                  "once all are in sync.\nExample, after a disk was replaced and replica2 was started on the empty "
                  "one:\n  weirctl replica replace demo replica2 --wait");
}

bool IsMember(const v1::Volume& volume, const std::string& replica) {
  const auto& targets = volume.table().targets();
  return std::any_of(targets.begin(), targets.end(),
                     [&](const v1::Target& t) { return t.replica() == replica; });
}

// Says how far its successor is while it waits.
absl::Status AwaitLeave(Client& client, const std::string& volume, const std::string& replica,
                        Context& context) {
  for (absl::Time shown = absl::Now();; absl::SleepFor(kLookEvery)) {
    ASSIGN_OR_RETURN(const v1::Volume now, client.GetVolume(volume));
    if (!IsMember(now, replica)) return absl::OkStatus();
    if (absl::Now() - shown < kShowEvery) continue;
    shown = absl::Now();
    const std::string joining = Joining(now);
    context.err << volume << ": "
                << (joining.empty() ? absl::StrCat(replica, " is about to leave") : joining)
                << std::endl;
  }
}

absl::Status CheckKnown(Client& client, const std::string& replica) {
  ASSIGN_OR_RETURN(const auto replicas, client.ListReplicas());
  const bool known = std::any_of(replicas.begin(), replicas.end(),
                                 [&](const v1::ReplicaSummary& one) { return one.name() == replica; });
  if (known) return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("no replica ", replica, " is known; weirctl replica list shows all"));
}

absl::Status DrainVolume(const std::string& volume, const std::string& replica, const std::string& with, Context& context) {
  ASSIGN_OR_RETURN(auto its, context.ConnectFrontendOf(volume));
  RETURN_IF_ERROR(its->Attach(volume));
  ASSIGN_OR_RETURN(const std::string next, its->ReplaceMember(volume, replica, with, /*make_before_break=*/true));
  context.err << volume << ": " << next << " is to take the place of " << replica << std::endl;
  return AwaitLeave(*its, volume, replica, context);
}

// One volume that cannot be moved, such as one of which `with` has a copy already, keeps no other from being moved.
absl::Status Drain(Client& client, const std::string& replica, const std::string& with,
                   Context& context) {
  RETURN_IF_ERROR(CheckKnown(client, replica));
  if (!with.empty()) RETURN_IF_ERROR(CheckKnown(client, with));
  ASSIGN_OR_RETURN(const std::vector<v1::Volume> volumes, client.ListVolumes());
  size_t moved = 0;
  std::vector<std::string> left;
  for (const v1::Volume& volume : volumes) {
    if (!IsMember(volume, replica)) continue;
    const absl::Status status = DrainVolume(volume.name(), replica, with, context);
    if (status.ok()) {
      ++moved;
      continue;
    }
    left.push_back(volume.name());
    context.err << volume.name() << ": is still on " << replica << ": " << status.message() << std::endl;
  }
  context.err << replica << ": " << moved + left.size() << " of " << volumes.size() << " volumes were on it, "
              << (left.empty() ? "none is any more" : absl::StrCat(left.size(), " still are")) << std::endl;
  if (context.json()) {
    context.out << "{\"replica\": \"" << replica << "\", \"volumes_moved\": " << moved
                << ", \"volumes_left\": " << left.size() << "}\n";
  }
  if (left.empty()) return absl::OkStatus();
  return absl::FailedPreconditionError(absl::StrCat(
      "not moved from ", replica, ": ", absl::StrJoin(left, ", "), "; the lines above say why; then drain it again",
      with.empty() ? "" : ", without --with for who can take each of them"));
}

void AddDrain(CLI::App* group, Context& context) {
  struct Flags {
    std::string replica, with;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontend());
    return Drain(*client, flags->replica, flags->with, context);
  };
  CLI::App* command = AddCommand(
      group, context, "drain", "move every volume off a replica, one after the other", body);
  command->add_option("replica", flags->replica, "its name")->required();
  command->add_option("--with", flags->with,
                      "who takes its places, but for volumes that it has a copy of already, which stay; else, for each volume, "
                      "who shares least labels with the others, then has most free space");
  command->footer("In each volume another replica gets everything first; only then does this one leave, so there is "
                  "never a copy less. A volume that cannot be moved is said, and the others are moved; the exit code is 1 "
                  "then. Stopped half-way, what has begun goes on by itself, and calling it again does "
                  "the rest.\nExample:\n  weirctl replica drain replica2");
}

void AddForget(CLI::App* group, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontend());
    RETURN_IF_ERROR(client->ForgetReplica(*name));
    context.err << *name << " is forgotten" << std::endl;
    if (context.json()) context.out << "{\"replica\": \"" << *name << "\"}\n";
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "forget", "take a replica that is gone for ever off the list", body);
  command->add_option("replica", *name, "its name")->required();
  command->footer("Refused while it is a member of a volume that is not being deleted, or lives. Take it out of the frontends' --replicas too, or they know it "
                  "again when they start.\nExample, after its places were given away:\n  weirctl replica forget replica2");
}

}  // namespace

void AddReplicaCommands(CLI::App& app, Context& context) {
  CLI::App* group = AddGroup(app, "replica", "list, show, replace, drain and forget replicas", kExamples);
  AddList(group, context);
  AddShow(group, context);
  AddReplace(group, context);
  AddDrain(group, context);
  AddForget(group, context);
}

}  // namespace weir::cli
