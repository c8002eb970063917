// A replica's process: the server's own rules (replica/server: admission, sessions) over a store. What gRPC and threads do in the real one is the network's and the agenda's business.
//
// Thread-safety: none.
#ifndef WEIR_TESTS_SIM_REPLICA_NODE_H_
#define WEIR_TESTS_SIM_REPLICA_NODE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/check.h"
#include "replica/server/gate.h"
#include "replica/server/sessions.h"
#include "tests/sim/agenda.h"
#include "tests/sim/replica_store.h"
#include "volume/engine/takeover.h"
#include "volume/engine/types.h"
#include "weir/v1/replica.pb.h"

namespace weir::sim {

inline constexpr char kCluster[] = "cluster";

// Replicas are named by their letters.
inline std::string NameOfReplica(uint32_t index) { return std::string(1, static_cast<char>('a' + index)); }
inline uint32_t IndexOf(const std::string& replica) { return static_cast<uint32_t>(replica[0] - 'a'); }

// What a replica answers clones with, by chance of each; all off at first.
struct ReplicaFaults {
  uint32_t requeue_per_mille = 0;
  uint32_t drop_per_mille = 0;       // never answered
  uint32_t bad_block_per_mille = 0;  // reads
  uint32_t error_per_mille = 0;      // EIO, before anything is done
  uint32_t misdirect_per_mille = 0;  // of writes: answered OK, see on_misdirected
};

// What a replica says of its lanes.
std::vector<engine::SealedState::Lane> LanesOf(const store::VolumeState& volume);

class ReplicaNode {
 public:
  // `inflight_bytes`: what it grants a frontend.
  ReplicaNode(uint32_t index, uint32_t domains, uint64_t inflight_bytes,
              const store::VolumeGeometry& geometry, MakeReplicaStore make_store);

  const std::string& name() const { return name_; }
  std::string boot_id() const;
  ReplicaStore& disk() { return *disk_; }
  const ReplicaStore& disk() const { return *disk_; }
  const store::Store& store() const { return disk().store(); }
  ReplicaFaults& faults() { return faults_; }
  // `misdirected`(range): its disk has put elsewhere what belongs there.
  void on_misdirected(std::function<void(BlockRange)> misdirected) {
    misdirected_ = std::move(misdirected);
  }
  // `deleted`(): its copy of the volume.
  void on_deleted(std::function<void()> deleted) { deleted_ = std::move(deleted); }

  // --- the process ---
  bool up() const { return up_; }
  // Raised by every end and start: what was sent to an older life is lost.
  uint64_t life() const { return life_; }
  void Kill();
  // With everything on its host: unsynced data may be lost, the host gets a new boot id.
  void CutPower(Dice& dice, Time now);
  // The disk is replaced by an empty one, which has nothing of the volume; or not even that, unless `with_volume`.
  void ReplaceDisk(Time now, bool with_volume);
  // It has not even the volume.
  void Empty() { CHECK_OK(kept().DeleteVolume(kVolume)); }
  // Of its disks, for RestoreDisks; a later copy replaces an earlier one.
  void CopyDisks() { copy_ = disk_->CopyDisks(); }
  // They are those of the copy again.
  // REQUIRES: CopyDisks.
  void RestoreDisks(Time now);
  Time power_cut_at() const { return power_cut_at_; }
  // It has shown, or given to another, what is marked as not its own.
  bool used_invalid_block() const { return used_invalid_block_; }
  void Start();

  // --- unary calls, as the server carries them out ---
  absl::StatusOr<engine::SealedState> Seal(const v1::Fence& fence);
  absl::Status CheckReader(const v1::Fence& fence) const { return gate_->CheckReader(fence); }
  absl::StatusOr<store::Tail> ReadTail(const v1::Fence& fence, LaneId lane, Position from,
                                       Position to);
  absl::Status AdoptTail(const v1::Fence& fence, const store::Tail& tail);
  absl::Status KeepRecord(const v1::Fence& fence, const store::RecordCopy& copy);
  absl::Status UpdateVolume(const v1::Fence& fence, const store::VolumeUpdate& update);
  absl::Status TakeBase(const v1::Fence& fence, Epoch act_epoch, const std::vector<Position>& expected);

  // What GetReplica says.
  struct Told {
    std::string store_id;
    uint64_t incarnation = 0;
    uint64_t volume_changes = 0;
  };
  absl::StatusOr<Told> Tell() const;
  // OK also if it is there.
  absl::Status CreateVolume(const v1::Fence& fence, uint64_t size_blocks, uint64_t volume_changes) {
    return gate_->CreateVolume(fence, {size_blocks, lanes_}, volume_changes);
  }
  // OK also if there is nothing.
  absl::Status DeleteVolume(const v1::Fence& fence, uint64_t volume_changes);

  // One step of a join. kCopy is two: what the source has, and its way into the target.
  struct Copying {
    std::vector<BlockRange> ranges;
    store::VersionsPart part;
  };
  engine::JoinStepResult RunJoinStep(const v1::Fence& fence, const engine::RunJoinStep& step);
  absl::Status StillToCopy(const v1::Fence& fence, const engine::RunJoinStep& step,
                           std::vector<BlockRange>* ranges, uint64_t* blocks);
  absl::StatusOr<store::VersionsPart> ReadVersions(const v1::Fence& fence,
                                                   const engine::RunJoinStep& step,
                                                   const std::vector<BlockRange>& ranges);
  engine::JoinStepResult CopyIn(const v1::Fence& fence, const engine::RunJoinStep& step,
                                const store::VersionsPart& part);

  // --- a stream ---
  struct Opened {
    std::shared_ptr<replica::Session> session;
    engine::TargetHello hello;
  };
  // `owner` hears when a newer session or epoch ends this one.
  absl::StatusOr<Opened> Hello(const v1::Fence& fence, uint64_t session,
                               std::shared_ptr<replica::SessionOwner> owner);
  void Close(const std::shared_ptr<replica::Session>& session) { sessions_->Close(session); }
  // The reply to `clone` as of now; false: it is never answered. A session that has
  // ended answers nothing.
  bool Serve(replica::Session& session, const engine::Clone& clone, Dice& dice,
             engine::CloneReply* reply);
  void NoteDurablePoints(replica::Session& session,
                         const engine::SendDurablePoints& news);

 private:
  store::Store& kept() { return disk_->store(); }
  void Gated();
  absl::Status Step(const v1::Fence& fence, const std::function<absl::Status()>& step);
  absl::Status Serving() const;
  int InjectedError(const engine::Clone& clone, Dice& dice);
  void Write(const engine::Clone& clone, engine::CloneReply* reply);
  void Read(const engine::Clone& clone, engine::CloneReply* reply);
  void Flush(const engine::Clone& clone, engine::CloneReply* reply);
  void NoteUsed(const std::vector<BlockRange>& ranges);

  const std::string name_;
  const uint64_t inflight_bytes_;
  const LaneGeometry lanes_;
  const MakeReplicaStore make_store_;
  std::unique_ptr<ReplicaStore> disk_;
  std::function<std::unique_ptr<ReplicaStore>()> copy_;
  std::unique_ptr<replica::Sessions> sessions_;  // of this life, as the gate
  std::unique_ptr<replica::Gate> gate_;
  ReplicaFaults faults_;
  std::function<void(BlockRange)> misdirected_;
  std::function<void()> deleted_;
  bool up_ = true;
  uint64_t life_ = 1;
  uint64_t boot_ = 1;
  uint64_t disks_ = 1;
  bool used_invalid_block_ = false;
  Time power_cut_at_ = -absl::InfiniteDuration();
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_REPLICA_NODE_H_
