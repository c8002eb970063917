#include <cstdint>
#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/trace_text.h"
#include "proto/base/status_macros.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

constexpr char kFooter[] =
    "It samples the requests of a volume that is attached: all up to a limit a second, then one in a hundred. What a\n"
    "request takes is the sum of BACKLOG (until the engine took it), ENGINE (until its first clone was queued for a\n"
    "replica), REPLICAS (until the last of them answered) and FINISH. What a clone takes is SEND (until gRPC had it),\n"
    "STORE (what the replica says) and WIRE (the rest). Which clone is whose is told by kind and blocks, so requests\n"
    "that overlap may be mistaken for each other. One trace at a time on each volume.\n"
    "Examples:\n"
    "  weirctl trace demo\n"
    "  weirctl trace demo --seconds=60 --slowest=20 --output=json";

}  // namespace

void AddTraceCommand(CLI::App& app, Context& context) {
  struct Flags {
    std::string volume;
    uint32_t seconds = 10;
    uint32_t slowest = 10;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    v1::TraceRequest request;
    request.set_name(flags->volume);
    request.set_seconds(flags->seconds);
    request.set_slowest(flags->slowest);
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(flags->volume));
    ASSIGN_OR_RETURN(const v1::TraceResponse trace, client->Trace(request));
    context.Print(trace, TraceText(flags->volume, trace));
    if (trace.ended_because().empty()) return absl::OkStatus();
    return absl::AbortedError(absl::StrCat("the trace of ", flags->volume, " ended early: ", trace.ended_because(),
                                           "; attach it, then trace it again"));
  };
  CLI::App* command =
      AddCommand(&app, context, "trace", "show where the time of a volume's requests goes", body);
  command->add_option("volume", flags->volume, "its name")->required();
  command->add_option("--seconds", flags->seconds, "for how long")
      ->type_name("SECONDS")
      ->check(CLI::Range(1, 600))
      ->capture_default_str();
  command->add_option("--slowest", flags->slowest, "how many of the slowest requests to show")
      ->type_name("COUNT")
      ->check(CLI::Range(1, 100))
      ->capture_default_str();
  command->footer(kFooter);
}

}  // namespace weir::cli
