#include "tests/sim/rocks_store.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "proto/base/check.h"
#include "replica/store/testing/machine.h"

namespace weir::sim {
namespace {

using store::testing::FaultFs;
using store::testing::Machine;

class RocksStore final : public ReplicaStore {
 public:
  RocksStore(uint32_t domains, const store::VolumeGeometry& geometry);
  RocksStore(uint32_t domains, const LaneGeometry& lanes, std::shared_ptr<FaultFs> disks);

  store::Store& store() override {
    // A call may be the one that fails it, and then it tells nothing more.
    if (fail_sync_ != ~0u) State();
    return *machine_->store;
  }
  bool verifies_checksums() const override { return true; }
  void Restart() override;
  void CutPower(Dice& dice) override;
  void FailNextSync(uint32_t domain) override;
  void set_full(bool full) override;
  std::function<std::unique_ptr<ReplicaStore>()> CopyDisks() const override;
  // Which damage is found at a start is corruption_test's business.
  void LoseSynced() override { FailNextSync(0); }
  // Bits do not rot here: corruption_test flips them under the store.
  void Damage(uint64_t) override {}
  bool damaged(uint64_t) const override { return false; }
  // RocksDB compacts when it wants to.
  void Reclaim(Dice&) override {}

  // The newest one: it tells no others but those that a join needs. Null while a block of its lane is marked.
  const std::vector<Version>* versions(uint64_t block) const override;
  uint64_t size_blocks() const override;
  // By its id.
  bool has_pin(const Pin& pin) const override;
  Position position(uint32_t lane) const override;
  Position durable(uint32_t lane) const override;
  std::vector<LineageEntry> lineage(uint32_t lane) const override;
  Epoch promised() const override;
  bool invalid(uint64_t block) const override;

 private:
  // Of a store that has failed: what it told last.
  const store::VolumeState& State() const;
  // Without a volume: of a lane that nothing was written to.
  store::LaneState StateOf(uint32_t lane) const {
    const store::VolumeState& state = State();
    return lane < state.lanes.size() ? state.lanes[lane] : store::LaneState();
  }
  LaneId LaneOf(uint64_t block) const { return lanes_.LaneOf(block); }
  // On what is left of the disk. A store that has failed does not open again: the old one stays, and says so.
  void Reopen(std::shared_ptr<FaultFs> left);
  void ApplyFaults();

  const uint32_t domains_;
  const LaneGeometry lanes_;
  std::unique_ptr<Machine> machine_;
  uint32_t fail_sync_ = ~0u;
  bool full_ = false;
  mutable store::VolumeState state_;
  mutable std::vector<Version> versions_;
};

RocksStore::RocksStore(uint32_t domains, const store::VolumeGeometry& geometry)
    : domains_(domains),
      lanes_(geometry.lanes),
      machine_(std::make_unique<Machine>(std::make_shared<FaultFs>())) {
  ApplyFaults();
  CHECK_OK(machine_->Open(static_cast<int>(domains_)));
  CHECK_OK(store().CreateVolume(kVolume, geometry));
}

RocksStore::RocksStore(uint32_t domains, const LaneGeometry& lanes, std::shared_ptr<FaultFs> disks)
    : domains_(domains), lanes_(lanes), machine_(std::make_unique<Machine>(std::move(disks))) {
  ApplyFaults();
  CHECK_OK(machine_->Open(static_cast<int>(domains_)));
}

// --- what the simulator does to it ---

void RocksStore::ApplyFaults() {
  FaultFs& fs = *machine_->fs;
  if (fail_sync_ == ~0u) return machine_->OpenFaster();
  fs.FailWhere(store::testing::FileOp::kSync,
               Machine::Directory(static_cast<int>(fail_sync_)) + "/",
               rocksdb::IOStatus::IOError("the simulator"));
}

void RocksStore::Reopen(std::shared_ptr<FaultFs> left) {
  auto next = std::make_unique<Machine>(std::move(left));
  next->OpenFaster();
  const absl::Status opened = next->Open(static_cast<int>(domains_));
  if (!opened.ok()) {
    // A store that was well must open; of one that failed nothing else is to be expected.
    if (machine_->store->health().ok()) CHECK_OK(opened);
    return;
  }
  machine_ = std::move(next);
  ApplyFaults();
  set_full(full_);
}

void RocksStore::Restart() { Reopen(machine_->fs->AfterKill()); }

void RocksStore::CutPower(Dice& dice) { Reopen(machine_->fs->AfterPowerCut(dice.Below(1 << 30))); }

void RocksStore::FailNextSync(uint32_t domain) {
  fail_sync_ = domain;
  ApplyFaults();
}

void RocksStore::set_full(bool full) {
  full_ = full;
  machine_->fs->SetFreeBytes(full ? 0 : uint64_t{1} << 40);
}

std::function<std::unique_ptr<ReplicaStore>()> RocksStore::CopyDisks() const {
  return [domains = domains_, lanes = lanes_, disks = machine_->fs->AfterKill()] {
    return std::make_unique<RocksStore>(domains, lanes, disks->AfterKill());
  };
}

// --- what the judge looks at ---

const store::VolumeState& RocksStore::State() const {
  auto state = machine_->store->GetVolume(kVolume);
  if (state.ok()) state_ = *std::move(state);
  if (absl::IsNotFound(state.status())) state_ = {};
  return state_;
}

uint64_t RocksStore::size_blocks() const { return State().geometry.size_blocks; }

bool RocksStore::has_pin(const Pin& pin) const {
  const std::vector<uint64_t>& pins = State().pins;
  return std::find(pins.begin(), pins.end(), pin.id) != pins.end();
}

Position RocksStore::position(uint32_t lane) const { return StateOf(lane).position; }

Position RocksStore::durable(uint32_t lane) const { return StateOf(lane).durable_position; }

std::vector<LineageEntry> RocksStore::lineage(uint32_t lane) const { return StateOf(lane).lineage; }

Epoch RocksStore::promised() const { return State().promised_epoch; }

bool RocksStore::invalid(uint64_t block) const {
  if (block >= size_blocks()) return false;
  const auto page = machine_->store->InvalidBlocks(kVolume, LaneOf(block), block, 1);
  return page.ok() && !page->ranges.empty() && page->ranges.front().first <= block;
}

const std::vector<Version>* RocksStore::versions(uint64_t block) const {
  versions_.clear();
  if (block >= size_blocks()) return &versions_;
  const BlockRange range{block, 1};
  const auto part = machine_->store->ReadVersions(kVolume, LaneOf(block), {&range, 1},
                                                       position(Index(LaneOf(block))), 1 << 20);
  if (!part.ok()) return nullptr;
  // Zeros with nothing beneath may be there or not.
  if (part->versions.empty() || part->versions.front().zero) return &versions_;
  const store::BlockVersion& newest = part->versions.front();
  versions_.push_back({newest.position, ValueOf(newest.data, 0)});
  return &versions_;
}

}  // namespace

std::unique_ptr<ReplicaStore> MakeRocksStore(const std::string&, uint32_t domains,
                                             const store::VolumeGeometry& geometry) {
  return std::make_unique<RocksStore>(domains, geometry);
}

}  // namespace weir::sim
