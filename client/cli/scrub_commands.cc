#include <memory>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "proto/base/status_macros.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

constexpr absl::Duration kLookEvery = absl::Milliseconds(200);
constexpr absl::Duration kShowEvery = absl::Seconds(2);

// Until it is over, and what it has found is repaired or left.
absl::StatusOr<v1::ScrubStatus> AwaitEnd(Client& client, const std::string& volume,
                                         Context& context) {
  for (absl::Time shown = absl::Now();; absl::SleepFor(kLookEvery)) {
    ASSIGN_OR_RETURN(const v1::Volume now, client.GetVolume(volume));
    if (!now.has_scrub()) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", volume, " was detached, and with it ended the scrub; attach it, "
                       "then scrub it again"));
    }
    if (now.scrub().state() != "running" && now.scrub().waiting_blocks() == 0) return now.scrub();
    if (absl::Now() - shown < kShowEvery) continue;
    shown = absl::Now();
    context.err << volume << ": " << ScrubText(now.scrub()) << std::endl;
  }
}

// What an exit code can say of it.
absl::Status Verdict(const std::string& volume, const v1::ScrubStatus& scrub) {
  if (scrub.left_blocks() > 0) {
    return absl::DataLossError(absl::StrCat(scrub.left_blocks(), " blocks of volume ", volume,
                                            " were left as they are; see weirctl explain ", volume));
  }
  if (scrub.state() == "stopped") {
    return absl::AbortedError(absl::StrCat("the scrub of ", volume, " ended early: ",
                                           scrub.stopped_because(), "; start it again"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddScrubCommand(CLI::App& app, Context& context) {
  struct Flags {
    std::string volume;
    bool wait = false;
    bool stop = false;
  };
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(flags->volume));
    ASSIGN_OR_RETURN(v1::ScrubStatus scrub, client->Scrub(flags->volume, flags->stop));
    if (flags->wait) {
      ASSIGN_OR_RETURN(scrub, AwaitEnd(*client, flags->volume, context));
    }
    context.Print(scrub, absl::StrCat(flags->volume, ": ", ScrubText(scrub), "\n"));
    return flags->wait ? Verdict(flags->volume, scrub) : absl::OkStatus();
  };
  CLI::App* command =
      AddCommand(&app, context, "scrub",
                 "compare all replicas of a volume while clients go on, and repair them", body);
  command->add_option("volume", flags->volume, "its name")->required();
  CLI::Option* wait = command->add_flag(
      "--wait", flags->wait, "until it is over; fails if something could not be repaired");
  command->add_flag("--stop", flags->stop, "end the one that runs")->excludes(wait);
  command->footer("Runs by itself every --scrub_every of weir-volume. A scrub that runs is left as it "
                  "is.\nExample:\n  weirctl scrub demo --wait");
}

}  // namespace weir::cli
