#include "replica/store/reclaim.h"

#include <algorithm>
#include <optional>
#include <string>

#include "replica/store/keys.h"
#include "replica/store/rocks.h"

namespace weir::store {

std::vector<Position> PinPositions(const Lane::State& state) {
  std::vector<Position> positions = {state.point};
  for (const LanePin& pin : state.pins) positions.push_back(pin.position);
  std::sort(positions.begin(), positions.end());
  return positions;
}

bool MayReclaim(const std::vector<Position>& pins, Position older,
                Position newer) {
  // The least pin at or above `older`; it keeps `older` if it is below `newer`.
  auto pin = std::lower_bound(pins.begin(), pins.end(), older);
  return pin == pins.end() || *pin >= newer;
}

void PinSource::AddLane(std::shared_ptr<Lane> lane) {
  absl::MutexLock lock(&mutex_);
  lanes_[{lane->volume, lane->id}] = std::move(lane);
}

void PinSource::DeleteVolume(VolumeId volume) {
  absl::MutexLock lock(&mutex_);
  deleted_.insert(volume);
  auto begin = lanes_.lower_bound({volume, LaneId{0}});
  auto end = begin;
  while (end != lanes_.end() && end->first.first == volume) ++end;
  lanes_.erase(begin, end);
}

void PinSource::ForgetVolume(VolumeId volume) {
  absl::MutexLock lock(&mutex_);
  deleted_.erase(volume);
}

std::shared_ptr<const PinTable> PinSource::Pins() const {
  auto table = std::make_shared<PinTable>();
  absl::MutexLock lock(&mutex_);
  table->deleted = deleted_;
  for (const auto& [key, lane] : lanes_) {
    if (!lane->reclaim()) continue;
    Lane::State state = lane->state();
    table->lanes[key] = {PinPositions(state), state.trim, state.position.epoch(),
                         std::move(state.lineage)};
  }
  return table;
}

namespace {

// What the filters of the three families share.
// Thread-safety: none; RocksDB makes one for each thread of work.
class ReclaimFilter : public rocksdb::CompactionFilter {
 public:
  explicit ReclaimFilter(std::shared_ptr<const PinTable> table)
      : table_(std::move(table)) {}

  Decision FilterV2(int, const rocksdb::Slice& key, ValueType,
                    const rocksdb::Slice&, std::string*,
                    std::string*) const override {
    return Decide(View(key));
  }
  // By key alone: never reads the blob.
  Decision FilterBlobByKey(int, const rocksdb::Slice& key, std::string*,
                           std::string*) const override {
    return Decide(View(key));
  }

 protected:
  virtual Decision Decide(absl::string_view key) const = 0;

  bool Deleted(VolumeId volume) const {
    return table_->deleted.count(volume) > 0;
  }
  // nullptr: nothing of the lane may go. Remembers the last one asked for,
  // since keys come in order.
  const LanePins* PinsOf(VolumeId volume, LaneId lane) const {
    const std::pair<VolumeId, LaneId> key(volume, lane);
    if (!cached_key_ || *cached_key_ != key) {
      auto found = table_->lanes.find(key);
      cached_key_ = key;
      cached_pins_ = found == table_->lanes.end() ? nullptr : &found->second;
    }
    return cached_pins_;
  }

 private:
  const std::shared_ptr<const PinTable> table_;
  // RocksDB's filter methods are const and called in key order by one thread.
  mutable std::optional<std::pair<VolumeId, LaneId>> cached_key_;
  mutable const LanePins* cached_pins_ = nullptr;
};

class VersionsFilter : public ReclaimFilter {
 public:
  using ReclaimFilter::ReclaimFilter;
  const char* Name() const override { return "weir.versions"; }

 protected:
  Decision Decide(absl::string_view key) const override {
    VersionKeyParts parts;
    if (!ParseVersionKey(key, &parts)) return Decision::kKeep;
    if (Deleted(parts.address.volume)) return Decision::kRemove;
    const LanePins* pins = PinsOf(parts.address.volume, parts.address.lane);
    if (pins == nullptr) return Decision::kKeep;
    const absl::string_view block = key.substr(0, kBlockKeyBytes);
    if (block == kept_block_ &&
        MayReclaim(pins->pins, parts.position, kept_position_)) {
      return Decision::kRemove;
    }
    if (!OnHistory(pins->lineage, Position(pins->epoch, Position::kNMax), parts.position)) {
      return Decision::kKeep;
    }
    kept_block_.assign(block.data(), block.size());
    kept_position_ = parts.position;
    return Decision::kKeep;
  }

 private:
  // The version seen last that stays and is on its lane's history.
  mutable std::string kept_block_;
  mutable Position kept_position_;
};

class BlocksFilter : public ReclaimFilter {
 public:
  using ReclaimFilter::ReclaimFilter;
  const char* Name() const override { return "weir.blocks"; }

 protected:
  Decision Decide(absl::string_view key) const override {
    BlockAddress address;
    const bool gone = ParseBlockKey(key, &address) && Deleted(address.volume);
    return gone ? Decision::kRemove : Decision::kKeep;
  }
};

class ChangesFilter : public ReclaimFilter {
 public:
  using ReclaimFilter::ReclaimFilter;
  const char* Name() const override { return "weir.changes"; }

 protected:
  Decision Decide(absl::string_view key) const override {
    ChangeKeyParts parts;
    if (!ParseChangeKey(key, &parts)) return Decision::kKeep;
    if (Deleted(parts.volume)) return Decision::kRemove;
    const LanePins* pins = PinsOf(parts.volume, parts.lane);
    const bool trimmed = pins != nullptr && parts.change.position <= pins->trim;
    return trimmed ? Decision::kRemove : Decision::kKeep;
  }
};

class ReclaimFactory : public rocksdb::CompactionFilterFactory {
 public:
  ReclaimFactory(ReclaimedFamily family, std::shared_ptr<const PinSource> source)
      : family_(family), source_(std::move(source)) {}

  bool ShouldFilterTableFileCreation(
      rocksdb::TableFileCreationReason reason) const override {
    return reason == rocksdb::TableFileCreationReason::kCompaction ||
           reason == rocksdb::TableFileCreationReason::kFlush;
  }

  std::unique_ptr<rocksdb::CompactionFilter> CreateCompactionFilter(
      const rocksdb::CompactionFilter::Context&) override {
    switch (family_) {
      case ReclaimedFamily::kVersions:
        return std::make_unique<VersionsFilter>(source_->Pins());
      case ReclaimedFamily::kBlocks:
        return std::make_unique<BlocksFilter>(source_->Pins());
      case ReclaimedFamily::kChanges:
        return std::make_unique<ChangesFilter>(source_->Pins());
    }
    return nullptr;
  }

  const char* Name() const override { return "weir.reclaim"; }

 private:
  const ReclaimedFamily family_;
  const std::shared_ptr<const PinSource> source_;
};

}  // namespace

std::shared_ptr<rocksdb::CompactionFilterFactory> NewReclaimFactory(
    ReclaimedFamily family, std::shared_ptr<const PinSource> source) {
  return std::make_shared<ReclaimFactory>(family, std::move(source));
}

}  // namespace weir::store
