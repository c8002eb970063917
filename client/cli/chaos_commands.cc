// weirctl chaos: a drill on a live volume. One member is taken out or made slow, and brought back, whatever happens.
#include <algorithm>
#include <memory>
#include <optional>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/commands.h"
#include "client/cli/held_signals.h"
#include "client/cli/output.h"
#include "client/cli/replica_call.h"
#include "proto/base/status_macros.h"
#include "weir/v1/replica.grpc.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

using Stub = v1::ReplicaService::Stub;

constexpr absl::Duration kLookEvery = absl::Milliseconds(200);
constexpr absl::Duration kProbeEvery = absl::Milliseconds(500);
constexpr absl::Duration kUndoFor = absl::Minutes(2);
constexpr uint32_t kDelayMs = 100;
constexpr char kFooter[] =
    "Faults:\n"
    "  out     the member is taken out by a table, and joins again\n"
    "  delay   it answers reads, writes and flushes 100 ms late (needs --enable_fault_injection)\n"
    "  error   it answers one write with EIO: it leaves, and is brought back (needs it too)\n"
    "Refused unless all members are in sync and min_in_sync of them remain. Ctrl-C ends it early; it is\n"
    "undone in any case but kill -9: then 'weirctl fault clear REPLICA', or a table that says joining.\n"
    "--output=json prints one object, at its end.\n"
    "Examples:\n"
    "  weirctl chaos demo\n"
    "  weirctl chaos demo --fault=delay --replica=replica2 --duration=1m";

struct Drill {
  std::string volume;
  std::string replica;
  std::string fault = "out";
  absl::Duration duration = absl::Seconds(10);
};

std::string MembersText(const v1::Volume& volume) {
  TextTable table({"REPLICA", "STATE", "HEALTH", "ERRORS", "REASON"});
  for (const v1::Target& target : volume.table().targets()) {
    table.AddRow({target.replica(), target.state(), target.health(), absl::StrCat(target.errors()),
                  target.health_reason()});
  }
  return table.ToString();
}

bool AllInSync(const v1::Volume& volume) {
  return std::all_of(
      volume.table().targets().begin(), volume.table().targets().end(),
      [](const v1::Target& t) { return t.state() == "in_sync" && t.health() == "connected"; });
}

// Which member it is to be; FAILED_PRECONDITION: none may be missed now.
absl::StatusOr<std::string> Choose(const v1::Volume& volume, const Drill& drill) {
  if (volume.state() != "ACTIVE") {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", drill.volume, " is ", volume.state(), "; a drill needs it attached and ACTIVE"));
  }
  if (!AllInSync(volume)) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", drill.volume,
                     " has a member that is not in sync and connected; no drill before it is"));
  }
  const auto members = static_cast<uint32_t>(volume.table().targets_size());
  if (members < volume.min_in_sync() + 1) {
    return absl::FailedPreconditionError(
        absl::StrCat("volume ", drill.volume, " has ", members, " members and min_in_sync is ",
                     volume.min_in_sync(), ": without one of them requests would be held"));
  }
  if (drill.replica.empty()) return volume.table().targets(0).replica();
  for (const v1::Target& target : volume.table().targets()) {
    if (target.replica() == drill.replica) return drill.replica;
  }
  return absl::NotFoundError(
      absl::StrCat(drill.replica, " is no member of volume ", drill.volume));
}

// Gives one member a state by a table.
absl::Status SetState(Client& client, const std::string& volume, const std::string& replica,
                      const std::string& state) {
  ASSIGN_OR_RETURN(const v1::Volume now, client.GetVolume(volume));
  v1::Table table;
  for (const v1::Target& target : now.table().targets()) {
    v1::Target* wanted = table.add_targets();
    wanted->set_replica(target.replica());
    wanted->set_address(target.address());
    wanted->set_state(target.replica() == replica ? state : target.state());
  }
  if (now.state() != "SUSPENDED") RETURN_IF_ERROR(client.Suspend(volume, /*noflush=*/true));
  absl::Status status = client.LoadTable(volume, table);
  status.Update(client.Resume(volume));
  return status;
}

absl::Status InjectDelay(Context& context, const std::string& replica) {
  for (v1::FaultOp op : {v1::FAULT_OP_READ, v1::FAULT_OP_WRITE, v1::FAULT_OP_FLUSH}) {
    v1::SetFaultRequest request;
    request.mutable_fault()->set_op(op);
    request.mutable_fault()->set_delay_ms(kDelayMs);
    RETURN_IF_ERROR(CallReplica(context, replica, &Stub::SetFault, request).status());
  }
  return absl::OkStatus();
}

absl::Status InjectError(Context& context, const std::string& replica) {
  v1::SetFaultRequest request;
  request.mutable_fault()->set_op(v1::FAULT_OP_WRITE);
  request.mutable_fault()->set_error(EIO);
  request.mutable_fault()->set_count(1);
  return CallReplica(context, replica, &Stub::SetFault, request).status();
}

absl::Status CheckInjection(Context& context, const std::string& replica) {
  ASSIGN_OR_RETURN(const v1::GetReplicaResponse shown,
                   CallReplica(context, replica, &Stub::GetReplica, v1::GetReplicaRequest()));
  if (shown.fault_injection()) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(replica, " runs without --enable_fault_injection, which this fault needs; "
                            "--fault=out does not"));
}

absl::Status Begin(Client& client, const Drill& drill, Context& context) {
  if (drill.fault == "out") return SetState(client, drill.volume, drill.replica, "out");
  return drill.fault == "delay" ? InjectDelay(context, drill.replica)
                                : InjectError(context, drill.replica);
}

absl::Status EndOnce(Client& client, const Drill& drill, Context& context) {
  if (drill.fault == "out") return SetState(client, drill.volume, drill.replica, "joining");
  return CallReplica(context, drill.replica, &Stub::ClearFaults, v1::ClearFaultsRequest()).status();
}

// Tries until it is undone and all are in sync, or kUndoFor is over.
absl::Status End(Client& client, const Drill& drill, Context& context) {
  const absl::Time deadline = absl::Now() + kUndoFor;
  absl::Status status = EndOnce(client, drill, context);
  for (; !status.ok() && absl::Now() < deadline; absl::SleepFor(kLookEvery)) {
    status = EndOnce(client, drill, context);
  }
  RETURN_IF_ERROR(status);
  for (; absl::Now() < deadline; absl::SleepFor(kLookEvery)) {
    const absl::StatusOr<v1::Volume> volume = client.GetVolume(drill.volume);
    if (volume.ok() && AllInSync(*volume)) return absl::OkStatus();
  }
  return absl::DeadlineExceededError(
      absl::StrCat("the fault is undone, but not all members of ", drill.volume,
                   " are in sync yet; they are brought back by themselves"));
}

// How long flushes take, as a client's would.
struct Probe {
  absl::Duration longest;
  int flushes = 0;

  absl::Status Once(Client& client, const std::string& volume) {
    const absl::Time begun = absl::Now();
    const absl::Status status = client.Flush(volume).status;
    longest = std::max(longest, absl::Now() - begun);
    ++flushes;
    return status;
  }
  std::string Text() const {
    return absl::StrCat(flushes, " flushes, the longest took ",
                        absl::FormatDuration(absl::Trunc(longest, absl::Milliseconds(1))));
  }
};

// What a drill has seen: told at once to people, in one object at its end to programs.
class Report {
 public:
  Report(const Drill& drill, Context& context) : drill_(drill), context_(context) {}
  ~Report() {
    if (json_.empty()) return;
    context_.out << "{\"volume\": \"" << drill_.volume << "\", \"replica\": \"" << drill_.replica
                 << "\", \"fault\": \"" << drill_.fault << "\"" << json_ << "}\n";
  }

  // `in_sync`: after how long all were; only for the last one.
  void Add(const char* when, const Probe& probe, const absl::StatusOr<v1::Volume>& volume,
           std::optional<absl::Duration> in_sync = std::nullopt) {
    if (!context_.json()) {
      const std::string within =
          in_sync ? absl::StrCat("all in sync within ",
                                 absl::FormatDuration(absl::Trunc(*in_sync, absl::Milliseconds(1))), "; ")
                  : "";
      context_.out << when << ": " << within << probe.Text() << "\n"
                   << (volume.ok() ? MembersText(*volume) : "") << (in_sync ? "" : "\n") << std::flush;
      return;
    }
    absl::StrAppend(&json_, ", \"", when, "\": {\"flushes\": ", probe.flushes,
                    ", \"longest_flush_ms\": ", absl::ToInt64Milliseconds(probe.longest));
    if (in_sync) absl::StrAppend(&json_, ", \"in_sync_after_ms\": ", absl::ToInt64Milliseconds(*in_sync));
    if (volume.ok()) absl::StrAppend(&json_, ", \"table\": ", ToJson(volume->table()));
    absl::StrAppend(&json_, "}");
  }

 private:
  const Drill& drill_;
  Context& context_;
  std::string json_;
};

// Until the time is over, a signal comes (CANCELLED) or a flush fails.
absl::Status Watch(Client& client, const Drill& drill, const HeldSignals& signals, Probe& probe) {
  const absl::Time until = absl::Now() + drill.duration;
  while (absl::Now() < until) {
    RETURN_IF_ERROR(probe.Once(client, drill.volume));
    if (signals.Await(std::min(kProbeEvery, until - absl::Now())) != 0) {
      return absl::CancelledError("the drill was ended early by a signal");
    }
  }
  return absl::OkStatus();
}

absl::Status Run(Drill drill, Context& context) {
  const HeldSignals signals;
  ASSIGN_OR_RETURN(const auto client, context.ConnectFrontendOf(drill.volume));
  ASSIGN_OR_RETURN(const v1::Volume before, client->GetVolume(drill.volume));
  ASSIGN_OR_RETURN(drill.replica, Choose(before, drill));
  if (drill.fault != "out") RETURN_IF_ERROR(CheckInjection(context, drill.replica));
  Probe quiet;
  for (int i = 0; i < 5; ++i) RETURN_IF_ERROR(quiet.Once(*client, drill.volume));
  Report report(drill, context);
  report.Add("before", quiet, before);

  Probe probe;
  absl::Status status = Begin(*client, drill, context);
  if (status.ok()) {
    if (!context.json()) {
      context.out << drill.replica << ": fault '" << drill.fault << "' for "
                  << absl::FormatDuration(drill.duration) << std::endl;
    }
    status = Watch(*client, drill, signals, probe);
    report.Add("during", probe, client->GetVolume(drill.volume));
  }
  const absl::Time undone = absl::Now();
  const absl::Status ended = End(*client, drill, context);
  if (!ended.ok()) {
    context.err << drill.volume << ": the drill on " << drill.replica
                << " could not be undone: " << ended << std::endl;
    return ended;
  }
  const absl::Duration within = absl::Now() - undone;
  Probe again;
  for (int i = 0; i < 5; ++i) status.Update(again.Once(*client, drill.volume));
  ASSIGN_OR_RETURN(const v1::Volume after, client->GetVolume(drill.volume));
  report.Add("after", again, after, within);
  return status;
}

}  // namespace

void AddChaosCommand(CLI::App& app, Context& context) {
  struct Flags {
    Drill drill;
    std::string duration = "10s";
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    absl::Duration& duration = flags->drill.duration;
    if (!absl::ParseDuration(flags->duration, &duration) || duration <= absl::ZeroDuration() ||
        duration > absl::Hours(1)) {
      return context.Usage(absl::InvalidArgumentError(absl::StrCat(
          "--duration=", flags->duration, ": give one up to 1h, such as 10s or 2m")));
    }
    return Run(flags->drill, context);
  };
  CLI::App* command = AddCommand(&app, context, "chaos",
                                 "a drill: do without one member for a while, safely", body);
  command->add_option("volume", flags->drill.volume, "its name")->required();
  command->add_option("--replica", flags->drill.replica, "the member; else the first");
  command->add_option("--fault", flags->drill.fault, "out, delay or error")
      ->check(CLI::IsMember({"out", "delay", "error"}))
      ->capture_default_str();
  command->add_option("--duration", flags->duration, "how long")->capture_default_str();
  command->footer(kFooter);
}

}  // namespace weir::cli
