#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "client/cli/commands.h"
#include "client/cli/fault_spec.h"
#include "client/cli/output.h"
#include "client/cli/replica_call.h"
#include "proto/base/status_macros.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::cli {
namespace {

using Stub = v1::ReplicaService::Stub;

constexpr char kExamples[] =
    "  weirctl fault set replica1 --op=flush --error=EIO --count=1\n"
    "  weirctl fault set replica2 --op=flush --error=REQUEUE,DELAY=100 --flush-nr=0\n"
    "  weirctl fault set replica3 --op=write --error=DELAY=250\n"
    "  weirctl fault set replica3 --op=file-sync --error=EIO --count=1    (its store is lost)\n"
    "  weirctl fault list replica1\n"
    "  weirctl fault clear replica1";

void AddSet(CLI::App* group, Context& context) {
  struct Flags {
    std::string replica;
    std::string op;
    std::string error;
    std::optional<uint32_t> flush_nr;
    uint64_t count = 0;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    auto fault = ParseFault(flags->op, flags->error, flags->flush_nr, flags->count);
    if (!fault.ok()) return context.Usage(fault.status());
    v1::SetFaultRequest request;
    *request.mutable_fault() = *std::move(fault);
    ASSIGN_OR_RETURN(v1::SetFaultResponse response,
                     CallReplica(context, flags->replica, &Stub::SetFault, request));
    context.Print(response,
                  absl::StrCat("fault ", response.id(), " set on ", flags->replica, "\n"));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "set", "answer the next requests so", body);
  command->add_option("replica", flags->replica, "its name, or HOST:PORT")->required();
  command
      ->add_option("--op", flags->op,
                   "read, write (and zero, discard) or flush; file-write or file-sync: of a file of its data "
                   "directories, which is final for its store")
      ->required();
  command
      ->add_option("--error", flags->error,
                   "EIO, ENOSPC, EOPNOTSUPP, REQUEUE, DROP (never answer), DELAY=ms, or an error "
                   "and a delay: EIO,DELAY=50")
      ->required();
  command->add_option("--flush-nr", flags->flush_nr, "only this flush domain (data directory) of it");
  command->add_option("--count", flags->count, "so many times; 0: until cleared")
      ->capture_default_str();
  command->footer(std::string("The replica must run with --enable_fault_injection.\nExamples:\n") +
                  kExamples);
}

// The one that was named, or all.
absl::StatusOr<std::vector<std::string>> Replicas(Context& context, const std::string& named) {
  if (!named.empty()) return std::vector<std::string>{named};
  return context.ReplicaNames();
}

void AddFaultRows(const std::string& replica, const v1::ListFaultsResponse& faults,
                  TextTable& table) {
  for (const v1::Fault& fault : faults.faults()) {
    table.AddRow({replica, absl::StrCat(fault.id()), FaultOpText(fault), FaultErrorText(fault),
                  fault.has_flush_nr() ? absl::StrCat(fault.flush_nr()) : "",
                  fault.count() == 0 ? "until cleared" : absl::StrCat(fault.count()),
                  absl::StrCat(fault.hits())});
  }
}

void AddList(CLI::App* group, Context& context) {
  auto named = std::make_shared<std::string>();
  auto body = [&context, named]() -> absl::Status {
    ASSIGN_OR_RETURN(std::vector<std::string> replicas, Replicas(context, *named));
    TextTable table({"REPLICA", "ID", "OP", "ERROR", "FLUSH_NR", "LEFT", "HITS"});
    std::vector<std::string> objects;
    for (const std::string& replica : replicas) {
      ASSIGN_OR_RETURN(v1::ListFaultsResponse faults,
                       CallReplica(context, replica, &Stub::ListFaults, v1::ListFaultsRequest()));
      AddFaultRows(replica, faults, table);
      objects.push_back(absl::StrCat("\"", replica, "\": ", ToJson(faults)));
    }
    context.out << (context.json() ? absl::StrCat("{\n", absl::StrJoin(objects, ","), "}\n")
                                   : table.ToString());
    return absl::OkStatus();
  };
  CLI::App* command =
      AddCommand(group, context, "list", "the faults set, and how often each struck", body);
  command->alias("ls");
  command->add_option("replica", *named, "its name, or HOST:PORT; left out: every replica");
}

void AddClear(CLI::App* group, Context& context) {
  struct Flags {
    std::string replica;
    uint64_t id = 0;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(std::vector<std::string> replicas, Replicas(context, flags->replica));
    v1::ClearFaultsRequest request;
    request.set_id(flags->id);
    v1::ClearFaultsResponse total;
    for (const std::string& replica : replicas) {
      ASSIGN_OR_RETURN(v1::ClearFaultsResponse response,
                       CallReplica(context, replica, &Stub::ClearFaults, request));
      total.set_cleared(total.cleared() + response.cleared());
    }
    context.Print(
        total, absl::StrCat(total.cleared(), " cleared on ", absl::StrJoin(replicas, ", "), "\n"));
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "clear", "end one fault, or all", body);
  command->add_option("replica", flags->replica, "its name, or HOST:PORT; left out: every replica");
  command->add_option("--id", flags->id, "only this one; 0: all")->capture_default_str();
}

}  // namespace

void AddFaultCommands(CLI::App& app, Context& context) {
  CLI::App* group = AddGroup(app, "fault", "inject faults into replicas, for tests", kExamples);
  AddSet(group, context);
  AddList(group, context);
  AddClear(group, context);
}

}  // namespace weir::cli
