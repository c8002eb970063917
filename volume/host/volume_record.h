// A volume's catalog record in the hands of the one frontend that changes it.
//
// Thread-safety: none for VolumeRecordHolder; the free functions are safe.
#ifndef WEIR_VOLUME_HOST_VOLUME_RECORD_H_
#define WEIR_VOLUME_HOST_VOLUME_RECORD_H_

#include <cstdint>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "volume/catalog/catalog.h"
#include "volume/engine/record_commit.h"
#include "volume/engine/takeover.h"
#include "volume/engine/types.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

// Limits of a volume, and of what a record may say.
inline constexpr uint32_t kReplicasMax = 7;
// While one takes the place of each of them.
inline constexpr uint32_t kMembersMax = 2 * kReplicasMax;
inline constexpr uint32_t kLanesMax = 64;
inline constexpr uint32_t kStripeBlocksMax = 1024;  // 4 MiB
inline constexpr int kFormerMax = 32;

// Whether they differ in attributes at most.
bool SameButAttributes(v1::VolumeRecord a, v1::VolumeRecord b);

// See engine::RecordCommit.
struct RecordKind {
  using Record = v1::VolumeRecord;
  static bool Same(const Record& a, const Record& b) { return SameButAttributes(a, b); }
  static void TakeAttributes(const Record& from, Record* to) { *to->mutable_attributes() = from.attributes(); }
  static bool IsDetached(const Record& record) { return record.state() == Record::DETACHED; }
  static bool IsServed(const Record& record) { return record.state() == Record::ACTIVE; }
  static bool SameFrontend(const Record& a, const Record& b) { return a.owner() == b.owner() && a.epoch() == b.epoch(); }
};

class VolumeRecordHolder {
 public:
  // `catalog` outlives the holder.
  VolumeRecordHolder(catalog::Catalog* catalog, catalog::VersionedVolume read)
      : catalog_(catalog), commit_({std::move(read.record), read.revision}) {}

  const v1::VolumeRecord& record() const { return commit_.record(); }
  uint64_t revision() const { return commit_.revision(); }

  // Replaces the record; an unknown outcome is resolved by reading back (engine::RecordCommit). OK if
  // what is stored is exactly `next`, ABORTED if it is another's or gone, else UNAVAILABLE: nothing changed, or
  // still unknown. The attributes are not ours to change: what is stored stays.
  absl::Status Commit(v1::VolumeRecord next);
  absl::Status Delete();

 private:
  using Versioned = engine::RecordCommit<RecordKind>::Versioned;
  absl::Status Told(engine::CommitOutcome outcome, const absl::Status& put,
                    const absl::StatusOr<catalog::VersionedVolume>& read) const;

  catalog::Catalog* catalog_;
  engine::RecordCommit<RecordKind> commit_;
};

// Asks the catalog whether the volume is still in the epoch of `ours`, and blocks for that. ABORTED: another frontend
// has it, or it is gone. Any other error: not known.
absl::Status CheckEpoch(catalog::Catalog& catalog, const v1::VolumeRecord& ours);

// Whether a record can be one of ours: a catalog that is damaged, or another's, must not be served
// from. DATA_LOSS says what is wrong.
absl::Status CheckRecord(const v1::VolumeRecord& record);

// DATA_LOSS, with words, if the record is known to be an old one (VolumeRecord.behind).
absl::Status RefuseBehind(const v1::VolumeRecord& record);

// FAILED_PRECONDITION, with words, if no client may use it before a restore is done.
absl::Status RefuseRestoring(const v1::VolumeRecord& record);

// The takeover's part of a record, and back into it. REQUIRES: CheckRecord has passed.
engine::TakeoverRecord ToTakeover(const v1::VolumeRecord& record);
v1::VolumeRecord WithTakeover(v1::VolumeRecord record,
                              const engine::TakeoverRecord& takeover);

// How long the volume's requests are held: as its record says, else as its frontend has it.
absl::Duration HoldDeadlineOf(const v1::VolumeRecord& record, absl::Duration of_frontend);

// How each fence begins.
v1::Fence NewFence(const std::string& cluster_id);

// What gives a replica its copy of the record; cluster and store are still to be named.
v1::KeepRecordRequest CopyOf(const v1::VolumeRecord& record, uint64_t revision, uint32_t epoch);

// The table of the record's members.
engine::Table ToTable(const v1::VolumeRecord& record);
// By no lane below what the record has: all of its members in sync are known to have synced that far.
v1::VolumeRecord WithFloor(v1::VolumeRecord record, const std::vector<Position>& floor);
// The record whose in_sync members are those of the table, with its floor raised.
v1::VolumeRecord WithMembers(v1::VolumeRecord record, const engine::CommitMembers& commit);

// The pins of its snapshots.
std::vector<Pin> PinsOf(const v1::VolumeRecord& record);
void PinToProto(const Pin& pin, v1::Pin* wire);
// The record with one snapshot more, and its floor where that is at least.
v1::VolumeRecord WithSnapshot(v1::VolumeRecord record, const v1::SnapshotRecord& snapshot);
// The snapshot as the parent of a clone.
v1::ParentRecord AsParent(const v1::VolumeRecord& record, const v1::SnapshotRecord& snapshot);
// The snapshot of that name; null: there is none.
const v1::SnapshotRecord* FindSnapshot(const v1::VolumeRecord& record, const std::string& name);
// The member's store may have a copy, and is no member.
v1::VolumeRecord WithFormer(v1::VolumeRecord record, const v1::Member& member);
// Nothing of this store is to be deleted any more.
v1::VolumeRecord WithoutFormer(v1::VolumeRecord record, const std::string& store_id);

// A table as a client loads it. INVALID_ARGUMENT: a target that is no member,
// named twice, in an unknown state, or in_sync although it has left.
absl::StatusOr<engine::Table> TableFromWire(const v1::Table& wire,
                                            const v1::VolumeRecord& record);

// A name that has not been used: 128 bits from the system.
std::string NewNonce();
// Not 0, from the system.
uint64_t NewVolumeId();

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_VOLUME_RECORD_H_
