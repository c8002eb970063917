#include "tests/sim/show.h"

#include <variant>

#include "absl/strings/str_cat.h"

namespace weir::sim {
namespace {

const char* NameOf(engine::RequestKind kind) {
  switch (kind) {
    case engine::RequestKind::kRead: return "read";
    case engine::RequestKind::kWrite: return "write";
    case engine::RequestKind::kWriteZeroes: return "zero";
    case engine::RequestKind::kDiscard: return "discard";
    case engine::RequestKind::kFlush: return "flush";
    case engine::RequestKind::kBarrier: return "barrier";
    case engine::RequestKind::kExtents: return "extents";
  }
  return "?";
}

struct Shower {
  std::string operator()(const engine::SendClone& send) const {
    const engine::Clone& clone = send.clone;
    return absl::StrCat("send ", static_cast<uint32_t>(send.target), " c",
                        static_cast<uint64_t>(clone.id), " ", NameOf(clone.kind), " ",
                        clone.range.first, "+", clone.range.count, " lane ", Index(clone.lane),
                        " at ", clone.position.ToString(), clone.fua ? " fua" : "", " nr ",
                        clone.flush_nr);
  }
  std::string operator()(const engine::SendDurablePoints& points) const {
    std::string line = absl::StrCat("points ", static_cast<uint32_t>(points.target));
    for (const auto& [lane, at] : points.points) absl::StrAppend(&line, " ", at.ToString());
    return line;
  }
  std::string operator()(const engine::CompleteRequest& done) const {
    return absl::StrCat("complete ", static_cast<uint64_t>(done.id), " ", done.result.error(),
                        " ", done.message);
  }
  std::string operator()(const engine::ConnectTarget& connect) const {
    return absl::StrCat("connect ", static_cast<uint32_t>(connect.target), " after ",
                        absl::FormatDuration(connect.delay));
  }
  std::string operator()(const engine::DisconnectTarget& end) const {
    return absl::StrCat("disconnect ", static_cast<uint32_t>(end.target), " ", end.reason);
  }
  std::string operator()(const engine::CompleteControl& done) const {
    return absl::StrCat("control ", done.result.error(), " ", done.message);
  }
  std::string operator()(const engine::CommitMembers& commit) const {
    std::string line = "commit";
    for (const engine::TargetConfig& target : commit.table.targets) {
      if (target.state == engine::TargetState::kInSync) absl::StrAppend(&line, " ", target.replica);
    }
    return line;
  }
  std::string operator()(const engine::RunJoinStep& step) const {
    static constexpr const char* kNames[] = {"seal",   "changes", "begin", "copy",
                                             "finish", "repair",  "update", "digest"};
    return absl::StrCat("join ", step.step, " ", kNames[static_cast<int>(step.kind)], " on ",
                        static_cast<uint32_t>(step.target), " lane ", Index(step.lane), " at ",
                        step.expected.ToString(), " to ", step.to.ToString(), " common ",
                        step.common.ToString(), step.everything ? " everything" : "");
  }
  std::string operator()(const engine::PingTarget& ping) const {
    return absl::StrCat("ping ", static_cast<uint32_t>(ping.target), " ", ping.ping);
  }
  std::string operator()(const engine::CheckEpoch&) const { return "check epoch"; }
  std::string operator()(const engine::ReportScrub& report) const {
    return absl::StrCat("report ", report.what);
  }
};

}  // namespace

std::string Show(const engine::Effect& effect) { return std::visit(Shower(), effect); }

}  // namespace weir::sim
