#include "client/cli/trace_text.h"

#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include "client/cli/output.h"
#include "proto/base/size.h"

namespace weir::cli {
namespace {

std::string Both(const v1::TracedTimes& times) {
  return absl::StrCat(TimeText(times.median_us()), "/", TimeText(times.p99_us()));
}

std::string ByKind(const v1::TraceResponse& trace) {
  TextTable table({"KIND", "REQUESTS", "SAMPLED", "TOTAL", "BACKLOG", "ENGINE", "REPLICAS", "FINISH"});
  for (const v1::TracedKind& kind : trace.kinds()) {
    table.AddRow({kind.kind(), absl::StrCat(kind.requests()), absl::StrCat(kind.sampled()), Both(kind.total()),
                  Both(kind.backlog()), Both(kind.engine()), Both(kind.replicas()), Both(kind.finish())});
  }
  return table.ToString();
}

std::string ByReplica(const v1::TraceResponse& trace) {
  TextTable table({"KIND", "REPLICA", "CLONES", "SEND", "STORE", "WIRE"});
  for (const v1::TracedKind& kind : trace.kinds()) {
    for (const v1::TracedReplica& replica : kind.by_replica()) {
      table.AddRow({kind.kind(), replica.replica(), absl::StrCat(replica.clones()), Both(replica.send()),
                    Both(replica.store()), Both(replica.wire())});
    }
  }
  return table.ToString();
}

// "replica1 send 4us, store 310us, wire 55us", for each clone.
std::string ClonesText(const v1::TracedRequest& request) {
  return absl::StrJoin(request.clones(), "; ", [](std::string* out, const v1::TracedClone& clone) {
    if (!clone.answered()) return absl::StrAppend(out, clone.replica(), " not answered");
    absl::StrAppend(out, clone.replica(), " send ", TimeText(clone.send_us()), ", store ",
                    TimeText(clone.store_us()), ", wire ", TimeText(clone.wire_us()));
  });
}

std::string Slowest(const v1::TraceResponse& trace) {
  TextTable table({"KIND", "OFFSET", "LENGTH", "ERRNO", "BEGAN", "TOTAL", "BACKLOG", "ENGINE", "REPLICAS",
                   "FINISH", "CLONES"});
  for (const v1::TracedRequest& request : trace.slowest()) {
    table.AddRow({request.kind(), absl::StrCat(request.offset_bytes()), FormatSize(request.length_bytes()),
                  request.error() == 0 ? "" : absl::StrCat(request.error()), TimeText(request.began_ms() * 1000),
                  TimeText(request.total_us()), TimeText(request.backlog_us()), TimeText(request.engine_us()),
                  TimeText(request.replicas_us()), TimeText(request.finish_us()), ClonesText(request)});
  }
  return table.ToString();
}

}  // namespace

std::string TimeText(uint64_t us) {
  if (us < 1000) return absl::StrCat(us, "us");
  if (us < 1'000'000) return absl::StrFormat("%.2fms", static_cast<double>(us) / 1e3);
  return absl::StrFormat("%.2fs", static_cast<double>(us) / 1e6);
}

std::string TraceText(const std::string& volume, const v1::TraceResponse& trace) {
  std::string text = absl::StrCat(volume, ": traced for ", TimeText(trace.traced_ms() * 1000));
  if (trace.unanswered() > 0) absl::StrAppend(&text, ", ", trace.unanswered(), " sampled requests without an answer yet");
  if (trace.kinds().empty()) return absl::StrCat(text, ": no request was answered\n");
  absl::StrAppend(&text, "; times are median/p99\n\n", ByKind(trace), "\n", ByReplica(trace), "\nThe slowest:\n",
                  Slowest(trace));
  return text;
}

}  // namespace weir::cli
