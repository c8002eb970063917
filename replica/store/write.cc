// Writing: one Write call becomes one WriteBatch a domain.
#include <algorithm>
#include <cerrno>
#include <unordered_set>

#include "absl/strings/str_cat.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/disk_store.h"
#include "replica/store/rocks.h"
#include "replica/store/write_batch.h"

namespace weir::store {

// One domain's share of a Write call. Lives on the stack of that call.
class DiskStore::DomainWrite {
 public:
  DomainWrite(DiskStore* store, Volume* volume, uint32_t domain)
      : store_(store), volume_(volume), domain_(store->domains_[domain].get()),
        admission_(store->admission_[domain].get()), batch_(*domain_) {}

  void Add(const WriteOp* op, WriteResult* result) {
    ops_.push_back({op, result});
    lanes_[op->lane] = volume_->lanes[Index(op->lane)];
  }

  // Applies the ops, in order, as one batch.
  void Apply() {
    std::vector<std::shared_ptr<Lane>> lanes;
    for (const auto& [id, lane] : lanes_) lanes.push_back(lane);
    LaneClaim claim(std::move(lanes));
    for (const auto& [id, lane] : lanes_) next_[id] = lane->position();
    for (const Item& item : ops_) {
      item.result->status = Prepare(*item.op);
    }
    absl::Status status = Commit();
    for (const Item& item : ops_) Finish(item, status);
  }

  // One sync for all FUA ops.
  void SyncForFua() {
    const bool wanted = std::any_of(
        ops_.begin(), ops_.end(), [](const Item& item) {
          return item.op->fua && item.result->status.ok();
        });
    if (!wanted) return;
    SyncResult synced = domain_->Sync();
    for (const Item& item : ops_) {
      if (!item.op->fua || !item.result->status.ok()) continue;
      item.result->status = synced.status();
      item.result->durable_position = lanes_[item.op->lane]->state().durable;
    }
  }

 private:
  struct Item {
    const WriteOp* op;
    WriteResult* result;
  };

  // Validates one op and adds it to the batch.
  absl::Status Prepare(const WriteOp& op) {
    if (volume_->deleted()) return ErrnoToStatus(ENOENT, "volume was deleted");
    Position& last = next_[op.lane];
    if (op.position.epoch() != last.epoch()) {
      return ErrnoToStatus(
          ESTALE, absl::StrCat("lane ", Index(op.lane), " is in epoch ",
                               last.epoch(), ", the write in ",
                               op.position.epoch()));
    }
    if (op.position <= last) return absl::OkStatus();  // a duplicate
    if (op.position != last.Next()) {
      return ErrnoToStatus(
          EAGAIN, absl::StrCat("lane ", Index(op.lane), " is at ",
                               last.ToString(), "; ", op.position.ToString(),
                               " does not follow"));
    }
    RETURN_IF_ERROR(CheckData(op));
    // Zeroes and discards give space back: the reserve is theirs to use.
    if (op.kind == WriteKind::kWrite && !admission_->Admit(op.data.size())) {
      return ErrnoToStatus(ENOSPC, absl::StrCat(domain_->directory(),
                                                " has no space left"));
    }
    RETURN_IF_ERROR(AddToBatch(op));
    last = op.position;
    changed_.push_back(op.range);
    return absl::OkStatus();
  }

  static absl::Status CheckData(const WriteOp& op) {
    if (op.kind != WriteKind::kWrite) return absl::OkStatus();
    for (uint64_t i = 0; i < op.range.count; ++i) {
      const absl::string_view block = op.data.substr(i * kBlockBytes, kBlockBytes);
      if (Crc32c(block) != op.crcs[i]) {
        return ErrnoToStatus(EBADMSG,
                             absl::StrCat("data of block ", op.range.first + i,
                                          " does not match its checksum"));
      }
    }
    return absl::OkStatus();
  }

  absl::Status AddToBatch(const WriteOp& op) {
    std::vector<NewestVersion> before;
    StripeBits invalid(0);
    const bool zero = op.kind != WriteKind::kWrite;
    if (zero) {
      RETURN_IF_ERROR(store_->ReadIndex(*volume_, op.range, &before));
      ASSIGN_OR_RETURN(invalid, store_->InvalidOf(*volume_, *lanes_[op.lane], op.range));
    }
    for (uint64_t i = 0; i < op.range.count; ++i) {
      const BlockAddress address{volume_->id, op.lane, op.range.first + i};
      if (!zero) {
        data_blocks_.insert(address.block);
        batch_.PutData(address, op.position, op.crcs[i],
                       op.data.substr(i * kBlockBytes, kBlockBytes));
      } else if (before[i].kind == BlockKind::kData ||
                 (op.overlay && before[i].position == Position()) ||
                 data_blocks_.count(address.block) > 0 ||
                 invalid.Has(address.block % volume_->geometry().lanes.stripe_blocks)) {
        // A block that reads as zeros already needs no version: discarding an
        // empty volume must not fill the store with keys. But an invalid one
        // may be copied in with data, which this version must then hide.
        batch_.PutZero(address, op.position);
        if (before[i].kind == BlockKind::kData) ++discarded_[op.lane];
      }
    }
    batch_.PutChange(volume_->id, op.lane, {op.position, op.range});
    return absl::OkStatus();
  }

  absl::Status Commit() {
    bool any = false;
    for (const auto& [id, lane] : lanes_) {
      if (next_[id] == lane->position()) continue;
      batch_.PutPosition(volume_->id, id, next_[id]);
      any = true;
    }
    if (!any) return absl::OkStatus();
    RETURN_IF_ERROR(batch_.Write(domain_));
    for (const auto& [id, lane] : lanes_) {
      if (next_[id] == lane->position()) continue;
      lane->Applied(next_[id]);
      if (discarded_.count(id) > 0) lane->Discarded(discarded_[id], next_[id]);
      domain_->MarkDirty(lane);
    }
    for (const BlockRange& range : changed_) volume_->allocation.Changed(range);
    return absl::OkStatus();
  }

  void Finish(const Item& item, const absl::Status& committed) {
    const Lane::State now = lanes_[item.op->lane]->state();
    WriteResult& result = *item.result;
    if (result.status.ok() && !committed.ok()) result.status = committed;
    const bool applied = result.status.ok() && item.op->position <= now.position;
    result.lane_position = applied ? item.op->position : now.position;
    result.durable_position = now.durable;
  }

  DiskStore* const store_;
  Volume* const volume_;
  Domain* const domain_;
  Admission* const admission_;
  DomainBatch batch_;
  std::vector<Item> ops_;
  std::map<LaneId, std::shared_ptr<Lane>> lanes_;
  std::map<LaneId, Position> next_;  // after the ops prepared so far
  std::unordered_set<uint64_t> data_blocks_;  // written by ops before this one
  std::vector<BlockRange> changed_;
  std::map<LaneId, uint64_t> discarded_;  // blocks that held data
};

namespace {

// What needs no look at the lane.
absl::Status ValidateOp(const VolumeGeometry& geometry, const WriteOp& op) {
  const BlockRange& range = op.range;
  if (range.count == 0 || range.first >= geometry.size_blocks ||
      range.count > geometry.size_blocks - range.first) {
    return ErrnoToStatus(EINVAL, absl::StrCat("blocks ", range.first, "+",
                                              range.count,
                                              " are not in the volume"));
  }
  const uint64_t stripe = geometry.lanes.stripe_blocks;
  if (range.first / stripe != (range.end() - 1) / stripe ||
      geometry.lanes.LaneOf(range.first) != op.lane) {
    return ErrnoToStatus(EINVAL, absl::StrCat("blocks ", range.first, "+",
                                              range.count,
                                              " are not in one stripe of lane ",
                                              Index(op.lane)));
  }
  if (op.kind == WriteKind::kWrite &&
      (op.data.size() != range.count * kBlockBytes ||
       op.crcs.size() != range.count)) {
    return ErrnoToStatus(EINVAL, "a write needs one block of data and one "
                                 "checksum for each of its blocks");
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<WriteResult> DiskStore::Write(VolumeId id,
                                          absl::Span<const WriteOp> ops) {
  std::vector<WriteResult> results(ops.size());
  absl::StatusOr<std::shared_ptr<Volume>> volume = Find(id);
  if (!volume.ok()) {
    for (WriteResult& result : results) result.status = volume.status();
    return results;
  }
  std::map<uint32_t, DomainWrite> shares;
  for (size_t i = 0; i < ops.size(); ++i) {
    results[i].status = ValidateOp((*volume)->geometry(), ops[i]);
    if (!results[i].status.ok()) continue;
    const uint32_t domain = DomainOf(ops[i].lane);
    shares.try_emplace(domain, this, volume->get(), domain)
        .first->second.Add(&ops[i], &results[i]);
  }
  for (auto& [domain, share] : shares) share.Apply();
  for (auto& [domain, share] : shares) share.SyncForFua();
  return results;
}

}  // namespace weir::store
