// Snapshots of a simulated cluster: taken and deleted at any moment, judged as reads of the whole volume
// at a barrier, and looked at as long as they are there; and growing. S1 to S4 of the simulator's README.
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster.h"

namespace weir::sim {

// A replica and its disk as they are now: both may change.
class Cluster::Holder final : public SnapshotHolder {
 public:
  Holder(Cluster* cluster, uint32_t r) : cluster_(*cluster), r_(r) {}
  const std::string& name() const override { return node().name(); }
  bool member() const override { return cluster_.IsMember(r_); }
  bool healthy() const override { return node().disk().store().health().ok(); }
  uint64_t size_blocks() const override { return node().disk().size_blocks(); }
  bool has_pin(const Pin& pin) const override { return node().disk().has_pin(pin); }
  Position durable(uint32_t lane) const override { return node().disk().durable(lane); }
  std::optional<std::vector<uint64_t>> ContentAt(uint64_t pin, uint64_t blocks) const override {
    std::vector<uint64_t> content(blocks);
    for (uint64_t b = 0; b < blocks; ++b) {
      const auto read = node().store().ReadPinned(kVolume, pin, {b, 1});
      if (!read.ok()) return std::nullopt;
      if (!read->empty() && !read->front().zero) content[b] = cluster_.Shown(ValueOf(read->front().data, 0), b);
    }
    return content;
  }

 private:
  ReplicaNode& node() const { return *cluster_.replicas_[r_]; }

  Cluster& cluster_;
  const uint32_t r_;
};

void Cluster::MakeSnapshotJudge() {
  std::vector<const SnapshotHolder*> holders;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    holders_.push_back(std::make_unique<Holder>(this, r));
    holders.push_back(holders_.back().get());
  }
  snapshot_judge_ = std::make_unique<SnapshotJudge>(holders);
}

void Cluster::SnapshotSome() {
  agenda_.After(dice_.Micros(20000, 600000), [this] { SnapshotSome(); });
  const uint32_t f = AnyFrontend();
  if (!frontends_[f]->serving() || IsRestoring(f) || (healed_ && submitted_ >= options_.requests)) return;
  if (dice_.Percent(10)) return GrowSome(f);
  const std::vector<Pin>& pins = catalog_->record().volume.pins;
  if (!pins.empty() && dice_.Percent(pins.size() > 3 ? 70 : 30)) {
    const uint64_t pin = pins[dice_.Below(pins.size())].id;
    Trace(absl::StrCat("delete snapshot ", pin, " at f", f));
    return frontends_[f]->DropSnapshot(pin);
  }
  const uint64_t pin = next_pin_++;
  Trace(absl::StrCat("take snapshot ", pin, " at f", f));
  // A read of everything, at one moment.
  Op op{.kind = engine::RequestKind::kRead, .range = {0, frontends_[f]->size_blocks()}, .frontend = f,
        .epoch = frontends_[f]->epoch(), .covers = acked_[f]};
  judge_->ReadInvoked(OpId{ops_.size()}, SessionId{op.epoch}, op.range);
  taking_[next_control_] = {ops_.size(), pin};
  ops_.push_back(std::move(op));
  frontends_[f]->TakeSnapshot(engine::ControlId{next_control_++}, pin, dice_.Micros(1000, 1500000));
}

void Cluster::GrowSome(uint32_t f) {
  const uint64_t now = frontends_[f]->size_blocks();
  if (now >= geometry_.size_blocks) return;
  const uint64_t size = now + 1 + dice_.Below(geometry_.size_blocks - now);
  Trace(absl::StrCat("grow to ", size, " blocks at f", f));
  growing_.insert(next_control_);
  frontends_[f]->Grow(engine::ControlId{next_control_++}, size);
}

bool Cluster::SnapshotDone(const engine::CompleteControl& done) {
  if (growing_.erase(static_cast<uint64_t>(done.id)) > 0) return true;
  const auto found = taking_.find(static_cast<uint64_t>(done.id));
  if (found == taking_.end()) return false;
  const auto [id, pin] = found->second;
  taking_.erase(found);
  Op& op = ops_[id];
  op.done = true;
  if (!done.result.ok()) {
    judge_->Returned(OpId{id}, {.ok = false}, {});
    return true;
  }
  CheckFlushed(op);
  // None: a block is damaged on each, or nobody is a member any more.
  const auto content = snapshot_judge_->Taken(pin, op.range.count);
  judge_->Returned(OpId{id}, {.ok = content.has_value()}, content.value_or(std::vector<uint64_t>()));
  return true;
}

void Cluster::CheckSnapshots() {
  const engine::TakeoverRecord& volume = catalog_->record().volume;
  const std::string wrong = snapshot_judge_->Check({volume.size_blocks, volume.recovering, volume.pins});
  if (!wrong.empty()) Violated(wrong);
}

}  // namespace weir::sim
