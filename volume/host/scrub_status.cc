#include "volume/host/scrub_status.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "proto/base/size.h"

namespace weir::host {
namespace {

uint64_t WholeSeconds(absl::Duration duration) {
  if (duration <= absl::ZeroDuration() || duration == absl::InfiniteDuration()) return 0;
  return static_cast<uint64_t>(absl::ToInt64Seconds(absl::Ceil(duration, absl::Seconds(1))));
}

std::string In(absl::Duration duration) {
  return absl::FormatDuration(absl::Seconds(WholeSeconds(duration)));
}

}  // namespace

v1::ScrubStatus DescribeScrub(const engine::ScrubView& scrub, engine::Time now) {
  v1::ScrubStatus status;
  const bool ever = scrub.blocks_total > 0;
  status.set_state(!ever                  ? "none"
                   : scrub.running        ? "running"
                   : scrub.stopped.empty() ? "finished"
                                           : "stopped");
  status.set_stopped_because(scrub.stopped);
  status.set_bytes_total(scrub.blocks_total * kBlockBytes);
  status.set_bytes_done(scrub.blocks_done * kBlockBytes);
  status.set_bytes_read(scrub.bytes_read);
  status.set_bad_blocks(scrub.bad_blocks);
  status.set_repaired_blocks(scrub.repaired_blocks);
  status.set_waiting_blocks(scrub.waiting_blocks);
  status.set_left_blocks(scrub.left_blocks);
  status.set_skipped_blocks(scrub.skipped_blocks);
  status.mutable_findings()->Assign(scrub.findings.begin(), scrub.findings.end());
  if (scrub.running) {
    status.set_seconds_left(WholeSeconds(scrub.time_left));
  } else {
    if (ever) status.set_seconds_ago(WholeSeconds(now - scrub.ended));
    status.set_seconds_to_next(WholeSeconds(scrub.next - now));
  }
  return status;
}

void ExplainScrub(const engine::ScrubView& scrub, engine::Time now, v1::ExplainResponse* out) {
  if (scrub.running) {
    out->add_facts(absl::StrCat("a scrub runs: ", FormatSize(scrub.blocks_done * kBlockBytes), " of ",
                                FormatSize(scrub.blocks_total * kBlockBytes), " are compared",
                                scrub.time_left < absl::InfiniteDuration()
                                    ? absl::StrCat(", some ", In(scrub.time_left), " to go")
                                    : ""));
  } else if (scrub.next < absl::InfiniteDuration()) {
    out->add_next(absl::StrCat("all replicas are compared (scrub) in ", In(scrub.next - now)));
  }
  if (!scrub.stopped.empty()) {
    out->add_facts(absl::StrCat("the last scrub ended early: ", scrub.stopped));
    out->add_actions("run weirctl scrub once that is mended");
  }
  if (scrub.bad_blocks > 0) {
    out->add_facts(absl::StrCat("the scrub found ", scrub.bad_blocks,
                                " blocks that were not as they should be on some replica: ",
                                scrub.repaired_blocks, " were written anew from others, ",
                                scrub.waiting_blocks, " wait for that, ", scrub.left_blocks,
                                " were left as they are"));
  }
  for (const std::string& finding : scrub.findings) out->add_facts(finding);
  if (scrub.left_blocks > 0) {
    out->add_actions("what was left needs you: replace the replica whose disk is bad, or restore those "
                     "blocks from a backup");
  }
}

}  // namespace weir::host
