// Snapshots of a simulated cluster: taken and deleted at any moment, judged as reads of the whole volume
// at a barrier, and looked at as long as they are there; and growing. S1 to S4 of the simulator's README.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "tests/sim/cluster.h"

namespace weir::sim {

// What one replica answers to reads of every block at a pin; none: it refuses one.
std::optional<std::vector<uint64_t>> Cluster::ContentAt(uint32_t r, uint64_t pin, uint64_t blocks) {
  std::vector<uint64_t> content(blocks);
  for (uint64_t b = 0; b < blocks; ++b) {
    const auto read = replicas_[r]->store().ReadPinned(kVolume, pin, {b, 1});
    if (!read.ok()) return std::nullopt;
    if (!read->empty() && !read->front().zero) content[b] = Shown(ValueOf(read->front().data, 0), b);
  }
  return content;
}

void Cluster::SnapshotSome() {
  agenda_.After(dice_.Micros(20000, 600000), [this] { SnapshotSome(); });
  const uint32_t f = AnyFrontend();
  if (!frontends_[f]->serving() || (healed_ && submitted_ >= options_.requests)) return;
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
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    if (!IsMember(r) || snapshots_.contains(pin)) continue;
    const auto content = ContentAt(r, pin, op.range.count);
    if (content) snapshots_[pin] = *content;
  }
  const auto content = snapshots_.find(pin);
  // None: a block is damaged on each, or nobody is a member any more.
  judge_->Returned(OpId{id}, {.ok = content != snapshots_.end()},
                   content != snapshots_.end() ? content->second : std::vector<uint64_t>());
  return true;
}

void Cluster::CheckSnapshots() {
  const uint64_t size = catalog_->record().volume.size_blocks;
  for (uint32_t r = 0; r < replicas_.size(); ++r) {
    const ReplicaStore& disk = replicas_[r]->disk();
    if (!IsMember(r) || !disk.store().health().ok() || disk.size_blocks() >= size) continue;
    if (catalog_->record().volume.recovering) continue;  // see below
    return Violated(absl::StrCat("S4: the volume has ", size, " blocks, member ",
                                 replicas_[r]->name(), " has room for ", disk.size_blocks()));
  }
  for (const Pin& pin : catalog_->record().volume.pins) {
    for (uint32_t r = 0; r < replicas_.size(); ++r) {
      const ReplicaStore& disk = replicas_[r]->disk();
      if (!disk.store().health().ok()) continue;
      const bool has = disk.has_pin(pin);
      if (IsMember(r) && !has) {
        return Violated(absl::StrCat("S1: the catalog has snapshot ", pin.id, ", member ",
                                     replicas_[r]->name(), " has not"));
      }
      // The members of a record that was rebuilt are yet to be examined.
      const bool examined = !catalog_->record().volume.recovering;
      for (uint32_t lane = 0; examined && IsMember(r) && lane < pin.positions.size(); ++lane) {
        if (disk.durable(lane) >= pin.positions[lane]) continue;
        return Violated(absl::StrCat("S2: snapshot ", pin.id, " is at ",
                                     pin.positions[lane].ToString(), ", member ",
                                     replicas_[r]->name(), " has synced ",
                                     disk.durable(lane).ToString()));
      }
      // Also who is no member any more, or not yet, answers right or not at all.
      const auto known = snapshots_.find(pin.id);
      if (known == snapshots_.end()) continue;
      const auto content = ContentAt(r, pin.id, known->second.size());
      if (!content || *content == known->second) continue;
      return Violated(absl::StrCat("S3: snapshot ", pin.id, " has changed on replica ",
                                   replicas_[r]->name()));
    }
  }
}

}  // namespace weir::sim
