#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

constexpr char kExamples[] =
    "  weirctl volume create demo --size=1GiB\n"
    "  weirctl volume show demo --output=json\n"
    "  weirctl volume suspend demo --noflush --deadline=5\n"
    "  weirctl volume flush demo";

std::string Replicas(const v1::Volume& volume) {
  std::vector<std::string> names;
  for (const v1::Target& target : volume.table().targets()) {
    names.push_back(target.state() == "in_sync"
                        ? target.replica()
                        : absl::StrCat(target.replica(), "(", target.state(), ")"));
  }
  return absl::StrJoin(names, ",");
}

std::string FlushSupport(const v1::Volume& volume) {
  if (!volume.has_activity()) return "known once it is attached";
  return volume.flush_supported() ? "yes" : "no: FLUSH fails with EOPNOTSUPP";
}

std::string HoldText(const v1::Volume& volume) {
  if (!volume.has_hold_deadline_s()) return "the frontend's";
  return volume.hold_deadline_s() == 0 ? "none" : absl::FormatDuration(absl::Seconds(volume.hold_deadline_s()));
}

std::string Where(const v1::Volume& volume) {
  if (volume.frontend().empty()) return "none";
  return absl::StrCat(volume.frontend(), " ", volume.frontend_address());
}

// How far it has been brought back, or what is wrong with it.
std::string JoinProgress(const v1::Target& target) {
  if (target.join_bytes_copied() + target.join_bytes_left() == 0) return target.health_reason();
  return JoinText(target);
}

std::string VolumeText(const v1::Volume& volume) {
  std::string text =
      absl::StrCat("name             ", volume.name(), "\nid               ", volume.id(),
                   "\nstate            ", volume.state(),
                   "\nfrontend         ", Where(volume), "\nsize             ",
                   FormatSize(volume.size_bytes()), "\nclone of         ",
                   volume.parent().empty() ? "none" : volume.parent(), "\nsnapshots        ",
                   volume.snapshots().empty() ? "none" : absl::StrJoin(volume.snapshots(), ", "),
                   "\nepoch            ", volume.epoch(),
                   "\nintact since     epoch ", volume.intact_since(),
                   "\nlanes            ", volume.lanes(), "\nstripe           ",
                   FormatSize(volume.stripe_bytes()), "\nmin in sync      ", volume.min_in_sync(),
                   "\nhold deadline    ", HoldText(volume),
                   "\nflush supported  ", FlushSupport(volume), "\n");
  if (volume.has_activity()) {
    const v1::VolumeActivity& activity = volume.activity();
    absl::StrAppend(&text, "requests         ", activity.inflight_requests(), " in flight, ",
                    activity.queued_requests(), " queued\nreplay buffer    ",
                    FormatSize(activity.replay_buffer_bytes()), "\nbarrier          ",
                    activity.barrier_running() ? "running" : "none", "\nscrub            ",
                    ScrubText(volume.scrub()), "\n");
  }
  TextTable targets(
      {"TARGET", "ADDRESS", "STATE", "HEALTH", "FLUSHES", "INFLIGHT", "ERRORS", "REASON"});
  for (const v1::Target& target : volume.table().targets()) {
    targets.AddRow({target.replica(), target.address(), target.state(), target.health(),
                    absl::StrCat(target.num_flush_requests()),
                    absl::StrCat(target.inflight_clones()), absl::StrCat(target.errors()),
                    JoinProgress(target)});
  }
  return text + "\n" + targets.ToString();
}

void AddCreate(CLI::App* group, Context& context) {
  struct Flags {
    std::string name;
    uint64_t size = 0;
    uint64_t stripe = 0;
    std::vector<std::string> replicas;
    uint32_t replica_count = 0;
    uint32_t lanes = 0;
    uint32_t min_in_sync = 0;
    std::string hold_deadline;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    v1::CreateVolumeRequest request;
    request.set_name(flags->name);
    request.set_size_bytes(flags->size);
    if (flags->stripe > UINT32_MAX)
      return absl::InvalidArgumentError("--stripe is too large; leave it out");
    request.set_stripe_bytes(static_cast<uint32_t>(flags->stripe));
    request.mutable_replicas()->Assign(flags->replicas.begin(), flags->replicas.end());
    request.set_replica_count(flags->replica_count);
    request.set_lanes(flags->lanes);
    request.set_min_in_sync(flags->min_in_sync);
    if (!flags->hold_deadline.empty()) {
      ASSIGN_OR_RETURN(const uint32_t seconds, ParseSeconds(flags->hold_deadline));
      request.set_hold_deadline_s(seconds);
    }
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontend());
    ASSIGN_OR_RETURN(v1::Volume volume, client->CreateVolume(request));
    context.Print(volume,
                  absl::StrCat("created ", volume.name(), ", ", FormatSize(volume.size_bytes()),
                               " on ", Replicas(volume), "\n"));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "create", "make an empty volume", body);
  command->add_option("name", flags->name, "its name, [a-z0-9][a-z0-9._-]*")->required();
  AddSize(command, "--size", flags->size, "its size, a multiple of 4096")->required();
  command->add_option("--replicas", flags->replicas, "on these; else those with most free space")
      ->delimiter(',')
      ->type_name("NAME,...");
  command->add_option("--replica-count", flags->replica_count, "how many replicas; 0: 3");
  command->add_option("--lanes", flags->lanes, "0: 4");
  AddSize(command, "--stripe", flags->stripe, "how much lies together in a lane; 0: 256KiB");
  command->add_option("--min-in-sync", flags->min_in_sync, "hold I/O below so many; 0: 2 of 3");
  command->add_option("--hold-deadline", flags->hold_deadline,
                      "fail requests that were held for so long (5m); 0: never; else as long as the frontend's --hold_deadline");
  command->footer(
      "Example:\n  weirctl volume create demo --size=1GiB --replicas=replica1,replica2,replica3");
}

void AddGrow(CLI::App* group, Context& context) {
  struct Flags {
    std::string name;
    uint64_t size = 0;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(flags->name));
    ASSIGN_OR_RETURN(v1::Volume volume, client->ExpandVolume(flags->name, flags->size));
    context.Print(volume, absl::StrCat(volume.name(), " has ", FormatSize(volume.size_bytes()), "\n"));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "grow", "make it larger while clients go on", body);
  command->add_option("volume", flags->name, "its name")->required();
  AddSize(command, "--size", flags->size, "its new size, a multiple of 4096")->required();
  command->footer("New connections see the new size.\nExample:\n  weirctl volume grow demo --size=2GiB");
}

void AddList(CLI::App* group, Context& context) {
  auto body = [&context]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontend());
    ASSIGN_OR_RETURN(auto volumes, client->ListVolumes());
    v1::ListVolumesResponse response;
    TextTable table({"NAME", "SIZE", "STATE", "EPOCH", "FRONTEND", "REPLICAS"});
    for (const v1::Volume& volume : volumes) {
      *response.add_volumes() = volume;
      table.AddRow({volume.name(), FormatSize(volume.size_bytes()), volume.state(),
                    absl::StrCat(volume.epoch()), volume.frontend(), Replicas(volume)});
    }
    context.Print(response, table.ToString());
    return absl::OkStatus();
  };
  AddCommand(group, context, "list", "every volume", body)->alias("ls");
}

void AddShow(CLI::App* group, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(*name, Context::Purpose::kLook));
    ASSIGN_OR_RETURN(v1::Volume volume, client->GetVolume(*name));
    context.Print(volume, VolumeText(volume));
    return absl::OkStatus();
  };
  AddCommand(group, context, "show", "one volume, its targets and what they do", body)
      ->add_option("volume", *name, "its name")
      ->required();
}

// A command that takes a volume and answers with nothing but a status.
CLI::App* AddSimple(CLI::App* group, Context& context, const std::string& name,
                    const std::string& description, const std::string& done,
                    std::function<absl::Status(Client&, const std::string&)> call) {
  auto volume = std::make_shared<std::string>();
  auto body = [&context, volume, done, call]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(*volume));
    RETURN_IF_ERROR(call(*client, *volume));
    context.PrintDone(*volume, done, absl::StrCat(done, " ", *volume, "\n"));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, name, description, body);
  command->add_option("volume", *volume, "its name")->required();
  return command;
}

void AddSimpleCommands(CLI::App* group, Context& context) {
  AddSimple(group, context, "delete", "delete a volume and free its space", "deleted",
            [](Client& client, const std::string& name) { return client.DeleteVolume(name); });
  AddSimple(group, context, "attach",
            "become the volume's frontend and serve it; --frontend=NAME takes it over", "attached",
            [](Client& client, const std::string& name) { return client.Attach(name); });

  auto force = std::make_shared<bool>(false);
  AddSimple(
      group, context, "detach", "drain, flush and let go of a volume", "detached",
      [force](Client& client, const std::string& name) { return client.Detach(name, *force); })
      ->add_flag("--force", *force, "also when the flush fails: unflushed writes may be lost");

  struct SuspendFlags {
    bool noflush = false;
    double deadline_s = 30;
  };
  auto flags = std::make_shared<SuspendFlags>();
  CLI::App* suspend = AddSimple(
      group, context, "suspend", "stop the queue, drain, flush; requests wait until resume",
      "suspended", [flags](Client& client, const std::string& name) {
        return client.Suspend(name, flags->noflush, absl::Seconds(flags->deadline_s));
      });
  suspend->add_flag("--noflush", flags->noflush, "do not flush; what cannot finish stays queued");
  suspend->add_option("--deadline", flags->deadline_s, "seconds; then the suspend is undone")
      ->type_name("SECONDS")
      ->check(CLI::Range(0.001, 86400.0))
      ->capture_default_str();
  AddSimple(group, context, "resume", "swap in a loaded table, if any, and start the queue",
            "resumed", [](Client& client, const std::string& name) { return client.Resume(name); });
}

// What each flush domain of each target said; those that are not among the
// details have answered with plain success.
std::string FlushText(const v1::Volume& volume, const IoResult& result) {
  TextTable table({"TARGET", "FLUSH_NR", "RESULT", "MESSAGE"});
  std::vector<bool> shown(result.targets.size(), false);
  auto add = [&](const v1::TargetResult& part) {
    table.AddRow({part.target(), absl::StrCat(part.flush_nr()),
                  part.error() == 0 ? "ok" : std::string(strerror(part.error())), part.message()});
  };
  for (const v1::Target& target : volume.table().targets()) {
    if (target.state() != "in_sync") continue;
    for (uint32_t nr = 0; nr < target.num_flush_requests(); ++nr) {
      bool found = false;
      for (size_t i = 0; i < result.targets.size(); ++i) {
        if (result.targets[i].target() != target.replica() || result.targets[i].flush_nr() != nr)
          continue;
        add(result.targets[i]);
        shown[i] = found = true;
      }
      if (!found && result.status.ok()) {
        table.AddRow({target.replica(), absl::StrCat(nr), "ok", ""});
      }
    }
  }
  for (size_t i = 0; i < shown.size(); ++i) {
    if (!shown[i]) add(result.targets[i]);
  }
  return table.ToString();
}

void AddFlush(CLI::App* group, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(*name));
    IoResult result = client->Flush(*name);
    auto volume = client->GetVolume(*name);
    v1::WriteResponse details;
    details.mutable_targets()->Assign(result.targets.begin(), result.targets.end());
    context.Print(details, FlushText(volume.value_or(v1::Volume()), result));
    if (result.status.ok()) return absl::OkStatus();
    return absl::Status(result.status.code(),
                        absl::StrCat("flush of ", *name, " failed: ", result.status.message()));
  };
  CLI::App* command = AddCommand(group, context, "flush",
                                 "make everything answered so far durable on every replica", body);
  command->add_option("volume", *name, "its name")->required();
  command->footer("Prints what each target said to each of its flush requests.");
}

std::string ExplainText(const v1::ExplainResponse& explain) {
  std::string text = explain.summary() + "\n";
  auto section = [&text](const char* title, const auto& lines) {
    if (lines.empty()) return;
    absl::StrAppend(&text, "\n", title, ":\n");
    for (const std::string& line : lines) absl::StrAppend(&text, "  - ", line, "\n");
  };
  section("What is so", explain.facts());
  section("What happens next", explain.next());
  section("What you can do", explain.actions());
  return text;
}

void AddExplain(CLI::App& app, Context& context) {
  auto name = std::make_shared<std::string>();
  auto body = [&context, name]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(*name, Context::Purpose::kLook));
    ASSIGN_OR_RETURN(v1::ExplainResponse explain, client->Explain(*name));
    context.Print(explain, ExplainText(explain));
    return absl::OkStatus();
  };
  CLI::App* command =
      AddCommand(&app, context, "explain",
                 "why a volume is slow, degraded or waiting, and what happens next", body);
  command->add_option("volume", *name, "its name")->required();
  command->footer("Example:\n  weirctl explain demo");
}

}  // namespace

void AddVolumeCommands(CLI::App& app, Context& context) {
  CLI::App* group =
      AddGroup(app, "volume", "create, show, grow, suspend, flush, delete volumes", kExamples);
  AddCreate(group, context);
  AddGrow(group, context);
  AddList(group, context);
  AddShow(group, context);
  AddSimpleCommands(group, context);
  AddFlush(group, context);
  AddCloneCommands(group, context);
  AddExplain(app, context);
}

}  // namespace weir::cli
