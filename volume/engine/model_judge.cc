#include "volume/engine/model_judge.h"

#include <algorithm>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"

namespace weir::engine {
namespace {

bool WritesBlocks(RequestKind kind) {
  return kind == RequestKind::kWrite || kind == RequestKind::kWriteZeroes ||
         kind == RequestKind::kDiscard || kind == RequestKind::kBarrier;
}

bool IsOut(const EngineView& view, size_t target) {
  return view.targets[target].health == TargetView::Health::kOut;
}

bool WaitedFor(const TargetView& target) {
  return !target.overdue && (target.health == TargetView::Health::kConnecting ||
                             target.health == TargetView::Health::kConnected);
}

}  // namespace

Judge::Judge(LaneGeometry geometry, uint64_t size_blocks,
             const std::vector<ModelReplica>* replicas)
    : geometry_(geometry),
      replicas_(*replicas),
      history_(geometry.lanes, size_blocks),
      block_floor_(size_blocks),
      acked_(geometry.lanes),
      reported_(replicas->size(), std::vector<uint64_t>(geometry.lanes)),
      flush_errors_(replicas->size()),
      was_overdue_(replicas->size()) {}

void Judge::Violated(std::string what) {
  if (violation_.empty()) violation_ = std::move(what);
}

void Judge::Submitted(const Request& request) {
  Tracked t;
  t.request = request;
  t.turn = request.in_lock ? 0 : ++turns_;  // it goes ahead of what waits
  t.covered = acked_;
  for (uint64_t i = 0; i < request.range.count; ++i) {
    t.floor.push_back(block_floor_[request.range.first + i]);
  }
  requests_[static_cast<uint64_t>(request.id)] = std::move(t);
  ++open_;
}

void Judge::Sent(const SendClone& send, const EngineView& view) {
  const Clone& clone = send.clone;
  if (!WritesBlocks(clone.kind)) return;
  std::string wrong;
  if (history_.Note(clone, &wrong)) Numbered(clone, view);
  if (!wrong.empty()) Violated(wrong);
}

// Data names its request; zeroes and discards are found by their fragment, the
// first submitted first, as the queue keeps their order.
uint64_t Judge::RequestOf(const Clone& clone) {
  if (!clone.data.empty()) return History::ValueIn(clone.data, 0);
  const uint64_t stripe = clone.range.first / geometry_.stripe_blocks * geometry_.stripe_blocks;
  const Tracked* found = nullptr;
  auto before = [](const Tracked& a, const Tracked& b) {
    return std::make_pair(a.done, a.turn) < std::make_pair(b.done, b.turn);
  };
  for (const auto& [id, t] : requests_) {
    const BlockRange& range = t.request.range;
    const uint64_t first = std::max(range.first, stripe);
    const uint64_t end = std::min(range.end(), stripe + geometry_.stripe_blocks);
    const bool had = std::find(t.ranges.begin(), t.ranges.end(), clone.range) != t.ranges.end();
    if ((t.done && !t.failed) || had || t.request.kind != clone.kind || t.request.fua != clone.fua ||
        clone.range.first != first || clone.range.end() != end) {
      continue;
    }
    if (found == nullptr || before(t, *found)) found = &t;
  }
  return found == nullptr ? 0 : static_cast<uint64_t>(found->request.id);
}

void Judge::Numbered(const Clone& clone, const EngineView& view) {
  const uint64_t id = RequestOf(clone);
  auto it = requests_.find(id);
  if (it == requests_.end() || it->second.refused ||
      (it->second.done && !it->second.failed)) {
    return Violated(absl::StrCat("write ", clone.position.ToString(), " belongs to no open request"));
  }
  Tracked& t = it->second;
  t.numbers.emplace_back(Index(clone.lane), clone.position.n());
  t.ranges.push_back(clone.range);
  t.numbered_blocks += clone.range.count;
  if (t.failed) {
    // It was numbered before it failed, and had to wait: as if it had been there.
    for (uint64_t b = clone.range.first; b < clone.range.end(); ++b) {
      block_floor_[b] = std::max(block_floor_[b], clone.position.n());
    }
    return;
  }
  for (const auto& [other_id, other] : requests_) {
    if (other.done || other_id == id) continue;
    if (other.request.kind == RequestKind::kBarrier && other.turn < t.turn) {
      Violated(absl::StrCat("write ", id, " was sent before barrier ", other_id, " was done"));
    }
    if (t.request.kind == RequestKind::kBarrier && other.turn < t.turn) {
      Violated(absl::StrCat("barrier ", id, " was sent while ", other_id, " was in flight"));
    }
  }
  if (t.request.kind != RequestKind::kBarrier) return;
  t.covered = acked_;
  CheckDurable(t, view, "pre-flush of barrier");
}

void Judge::Reported(uint32_t target, uint32_t lane, uint64_t n) {
  reported_[target][lane] = std::max(reported_[target][lane], n);
}

void Judge::Completed(const CompleteRequest& done, const EngineView& view) {
  const auto id = static_cast<uint64_t>(done.id);
  auto it = requests_.find(id);
  if (it == requests_.end()) return Violated(absl::StrCat("nobody submitted ", id));
  Tracked& t = it->second;
  if (t.done) return Violated(absl::StrCat("request ", id, " was completed twice"));
  t.done = true;
  --open_;
  if (done.result.kind() == Result::Kind::kRequeue) {
    Violated(absl::StrCat("request ", id, " was completed with REQUEUE"));
  }
  if (done.result.ok()) {
    if (WritesBlocks(t.request.kind)) CheckWrite(t, view);
    if (t.request.kind == RequestKind::kRead) CheckRead(t, done, view);
    if (t.request.kind == RequestKind::kFlush) CheckDurable(t, view, "flush");
  }
  t.failed = !done.result.ok();
  t.refused = absl::StrContains(done.message, "nothing was written");
  if (t.refused && !t.numbers.empty()) {
    Violated(absl::StrCat("barrier ", id, " failed its pre-flush and was written"));
  }
  // Answered, well or badly: from here on every read sees it.
  for (size_t i = 0; i < t.numbers.size(); ++i) {
    const auto [lane, n] = t.numbers[i];
    if (done.result.ok()) acked_[lane] = std::max(acked_[lane], n);
    for (uint64_t b = t.ranges[i].first; b < t.ranges[i].end(); ++b) {
      block_floor_[b] = std::max(block_floor_[b], n);
    }
  }
}

void Judge::CheckWrite(const Tracked& t, const EngineView& view) {
  const auto id = static_cast<uint64_t>(t.request.id);
  if (t.numbered_blocks != t.request.range.count) {
    Violated(absl::StrCat("write ", id, " was answered with only ", t.numbered_blocks, " of ",
                          t.request.range.count, " blocks sent"));
  }
  const bool durable = t.request.fua || t.request.kind == RequestKind::kBarrier;
  for (size_t target = 0; target < replicas_.size(); ++target) {
    if (IsOut(view, target)) continue;
    for (const auto& [lane, n] : t.numbers) {
      if (reported_[target][lane] < n) {
        Violated(absl::StrCat("write ", id, " is not on replica ", target));
      }
      if (durable && replicas_[target].lanes[lane].synced < n) {
        Violated(absl::StrCat("write ", id, " is not durable on replica ", target));
      }
    }
  }
  if (t.request.kind == RequestKind::kBarrier) CheckDurable(t, view, "barrier");
}

void Judge::CheckDurable(const Tracked& t, const EngineView& view, const char* who) {
  for (size_t target = 0; target < replicas_.size(); ++target) {
    if (IsOut(view, target)) continue;
    for (size_t lane = 0; lane < t.covered.size(); ++lane) {
      if (replicas_[target].lanes[lane].synced >= t.covered[lane]) continue;
      Violated(absl::StrCat(who, " ", static_cast<uint64_t>(t.request.id), " is OK, but lane ",
                            lane, " is durable to ", replicas_[target].lanes[lane].synced, " of ",
                            t.covered[lane], " on replica ", target));
    }
  }
}

void Judge::CheckRead(const Tracked& t, const CompleteRequest& done, const EngineView& view) {
  uint64_t block = t.request.range.first;
  for (const ReadPart& part : done.parts) {
    if (!part.data.empty() && part.data.size() != part.blocks * kBlockBytes) {
      return Violated("a read's part has the wrong size");
    }
    for (uint64_t i = 0; i < part.blocks; ++i) {
      CheckBlock(t, block++, History::ValueIn(part.data, i), view);
    }
  }
  if (block != t.request.range.end()) Violated("a read's parts do not cover its range");
}

void Judge::CheckBlock(const Tracked& t, uint64_t block, uint64_t value, const EngineView& view) {
  const uint64_t floor = t.floor[block - t.request.range.first];
  const std::vector<History::Version>& all = history_.versions(block);
  // Zeros do not say which version they are: the oldest that fits is taken.
  auto seen = std::find_if(all.begin(), all.end(), [&](const History::Version& v) {
    return v.value == value && v.n >= floor;
  });
  const auto id = static_cast<uint64_t>(t.request.id);
  if (seen == all.end()) {
    return Violated(absl::StrCat("read ", id, " of block ", block, " saw ", value,
                                 ", older than version ", floor));
  }
  const uint32_t lane = Index(geometry_.LaneOf(block));
  for (size_t target = 0; target < replicas_.size(); ++target) {
    // What was completed without one that stayed away is refilled when it comes back.
    if (!WaitedFor(view.targets[target]) || was_overdue_[target]) continue;
    if (reported_[target][lane] >= seen->n) continue;
    Violated(absl::StrCat("read ", id, " of block ", block, " saw version ", seen->n,
                          ", which replica ", target, " does not have"));
  }
  block_floor_[block] = std::max(block_floor_[block], seen->n);
}

void Judge::AfterEvent(const EngineView& view) {
  for (size_t target = 0; target < flush_errors_.size(); ++target) {
    const TargetView::Health health = view.targets[target].health;
    if (view.targets[target].overdue) was_overdue_[target] = true;
    if (flush_errors_[target] && !view.flush_running &&
        (health == TargetView::Health::kConnected || health == TargetView::Health::kConnecting)) {
      Violated(absl::StrCat("replica ", target, " answered a flush with an error and goes on"));
    }
  }
}

}  // namespace weir::engine
