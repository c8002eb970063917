// One simulated cluster from one seed: replicas, frontends, a catalog, clients, faults and their
// judge, in one thread and virtual time.
//
// Thread-safety: none; different clusters may run on different threads.
#ifndef WEIR_TESTS_SIM_CLUSTER_H_
#define WEIR_TESTS_SIM_CLUSTER_H_

#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "tests/sim/agenda.h"
#include "tests/sim/catalog_model.h"
#include "tests/sim/client_op.h"
#include "tests/sim/cluster_options.h"
#include "tests/sim/contract_judge.h"
#include "tests/sim/dice.h"
#include "tests/sim/fault.h"
#include "tests/sim/frontend.h"
#include "tests/sim/model_store.h"
#include "tests/sim/network.h"
#include "tests/sim/replica_node.h"
#include "tests/sim/restore.h"
#include "tests/sim/snapshot_judge.h"
#include "tests/sim/write_history.h"
#include "volume/engine/pinned.h"
#include "volume/engine/rebuild.h"

namespace weir::sim {

class Cluster {
 public:
  Cluster(uint64_t seed, ClusterOptions options);
  ~Cluster();
  ClusterResult Run();
  const std::vector<std::string>& trace() const { return trace_; }

 private:
  // --- construction ---
  void DrawShape();
  void MakeReplicas();
  void MakeFrontends();

  // --- clients ---
  void SubmitSome(uint32_t frontend);
  void SubmitOne(uint32_t frontend);
  engine::Request RandomRequest(uint64_t id, uint64_t size_blocks);
  static void FillWrite(engine::Request* request);
  void Invoke(const engine::Request& request, uint32_t frontend);
  uint64_t Shown(uint64_t stamp, uint64_t block);
  void Completed(uint32_t frontend, engine::CompleteRequest& done);
  void ControlDone(uint32_t frontend, const engine::CompleteControl& done);

  // --- what holds inside: cluster_checks.cc ---
  bool HasFailedForSpace(uint32_t frontend) const;
  void CheckError(uint32_t frontend, const Op& op, const engine::CompleteRequest& done);
  void CheckAcked(uint32_t frontend, const Op& op, uint64_t id);
  void CheckFlushed(const Op& op);
  void CheckSent(uint32_t frontend, const engine::SendClone& send);
  void CheckPreFlushed(uint64_t id);
  void CheckPoints(uint32_t frontend, const engine::SendDurablePoints& news);
  void CheckDisconnect(uint32_t frontend, const engine::DisconnectTarget& end);
  void CheckReport(uint32_t frontend, const engine::ReportScrub& report);
  void CheckCommit(uint32_t frontend, const engine::CommitMembers& commit);
  void CheckErrorsCount(uint32_t frontend);
  // Of a record that has just become the catalog's.
  void CheckMembers();
  void CheckSuccession();
  void CheckReplicas();
  void CheckHistory(uint32_t replica);
  void CompareReplicas(uint32_t a, uint32_t b);
  bool IsMember(uint32_t replica) const;
  // The same, also of a volume that is being deleted.
  bool IsInSync(uint32_t replica) const;
  // Of the catalog's record; null: it has none.
  const engine::TakeoverMember* MemberOf(uint32_t replica) const;

  // --- snapshots: cluster_snapshots.cc ---
  void SnapshotSome();
  void GrowSome(uint32_t frontend);
  // Whether the control was one.
  bool SnapshotDone(const engine::CompleteControl& done);
  void CheckSnapshots();
  class Holder;
  void MakeSnapshotJudge();

  // --- restores: cluster_restores.cc ---
  // Of a volume that is suspended there.
  void StartRestore(uint32_t frontend);
  // Of one that nobody serves, or one that was cut short.
  void AttachToRestore(uint32_t frontend);
  uint64_t PinToRestore(uint32_t frontend);
  bool IsUnreadable(uint64_t pin) const;
  bool IsBeyondRestore() const;
  void ServingToRestore(uint32_t frontend);
  bool IsUnderWay(uint32_t frontend, uint64_t restore) const;
  // It serves no client meanwhile.
  bool IsRestoring(uint32_t frontend) const;
  // The same, and it is suspended for its clients.
  bool IsWrittenUnder(uint32_t frontend) const;
  void RestoreFailed(uint32_t frontend);
  // Whether the control was one of a restore's.
  bool RestoreDone(uint32_t frontend, const engine::CompleteControl& done);
  void RestoreNext(uint32_t frontend);
  void RestoreNextLater(uint32_t frontend, absl::Duration delay);
  void MarkRestore(uint32_t frontend, uint64_t pin);
  std::function<void(absl::Status)> NextOrFailed(uint32_t frontend);
  void CopyBack(uint32_t frontend);
  std::optional<uint32_t> WhomToAsk(uint32_t frontend, engine::AskPinned::What what);
  void AskChanges(uint32_t frontend, uint32_t lane);
  void ReadNext(uint32_t frontend);
  // Whose data a restore's request writes once more; else itself.
  uint64_t OriginalOf(uint64_t request) const;
  void WriteNext(uint32_t frontend);
  void LetGoOfRestored(uint32_t frontend);
  void RestoringCompleted(uint32_t frontend, uint64_t id, bool ok);
  void CheckAlike(uint32_t frontend, const char* when);
  void CheckRestored(uint32_t frontend, const char* when);

  // --- the deletion: cluster_deletes.cc ---
  void DeleteSome();
  void ReplaceFailedDisks();
  // Or is being.
  bool IsDeleted() const;
  bool HasCopy(uint32_t replica) const;
  void CopyDeleted(uint32_t replica);
  void CheckDeleted();
  bool DeletionFinished();

  // --- who is a member for good: cluster_members.cc ---
  // Whoever serves is asked to give members' places to others: of those that are lost, as a host does by itself, or by an operator.
  void ReplaceSome();
  void ReplaceAt(uint32_t frontend);
  // A member whose place an operator gives away, and whether at once; empty: none.
  std::pair<std::string, bool> MemberToReplace(const engine::EngineView& view);
  std::optional<uint32_t> SpareFor(const engine::EngineView& view, const std::string& member);
  void CheckWhole(uint32_t frontend);
  void LeftoverDeleted(uint32_t replica);
  void CheckFormer(const CatalogRecord& before);
  // The record names it, as a member or as who may have a copy.
  bool IsNamed(const std::string& store_id) const;
  bool ReplacedWell(const Frontend& serving);

  // --- frontends ---
  void AttachSome();
  void AttachAt(uint32_t frontend, bool restores = false);
  void Refused(const absl::Status& why);
  void Serving(uint32_t frontend);
  // A replica falls while it is brought back.
  void DisturbJoin(uint32_t frontend, const engine::RunJoinStep& step);
  void Stepped(uint32_t frontend, const engine::Effects& effects);
  bool AnybodyServes() const;

  // --- faults ---
  void DamageSome(uint32_t r);
  // Unless another replica's is bad too.
  void Damage(uint32_t r, uint64_t block);
  bool IsWellBeside(uint32_t r, uint64_t block) const;
  bool IsOnlyGoodCopy(uint32_t r) const;
  // Nothing comes back as lost that a member has well.
  void CheckLost(uint32_t frontend, const engine::RunJoinStep& step);
  void FaultSome();
  Fault NextFault(uint64_t number);
  Fault ScriptedFault(uint64_t number) const;
  void Inject(Fault fault, uint64_t number);
  // The catalog, and what befalls a frontend.
  void InjectOnFrontend(Fault fault, uint32_t frontend, uint32_t replica, Time until);
  void Misbehave(Fault fault, ReplicaFaults& faults, Time until);
  void Down(uint32_t replica, bool power_cut);
  void FailSync(uint32_t replica);
  // False: it may not be now, as with the next.
  bool LoseSynced(uint32_t replica);
  void CopyDisk(uint32_t replica);
  bool RestoreOldDisk(uint32_t replica);

  // --- the catalog: cluster_catalogs.cc ---
  bool LoseCatalog();
  absl::StatusOr<engine::Rebuilt> RebuildRecord() const;
  // An older copy is put back, and nobody may serve from that: somebody can tell.
  void RestoreOldCatalog();
  bool IsFoundOut(const engine::TakeoverRecord& older) const;
  bool HasWrittenAfter(uint32_t replica, Epoch epoch) const;

  // A fault is final for a store: whether it may be this one's.
  bool MayLose(uint32_t replica) const;
  void SetFull(uint32_t replica, bool full);
  void SuspendSome(uint32_t frontend);
  void SuspendInvoked(uint32_t frontend);
  void TakeOneOut(uint32_t frontend, engine::ControlId suspend);
  void ResumeSome(uint32_t frontend);
  void DetachSome(uint32_t frontend);
  bool ReplaceDisk(uint32_t replica);
  // An operator asks whoever serves to move a member's copy to the spare replica, until it has understood.
  void DrainSome();
  // Nothing if it is on its way, or done.
  std::optional<engine::Table> TableWithSpare(const engine::EngineView& view) const;
  // Whether the catalog has another store for the replica than it has itself.
  bool HasOtherStore(uint32_t replica) const;
  // An operator tells whoever serves of disks that were replaced, until it has understood.
  void TellOfDisks();
  // Nothing if it has them all.
  std::optional<engine::Table> TableWithNewStores(const engine::EngineView& view) const;
  // The frontend keeps one replica and is deaf to the others; another one attaches without that.
  void Split(uint32_t frontend, uint32_t replica, Time until);
  void LateAnswers(uint32_t frontend, uint32_t replica);
  void Doubt(uint32_t frontend, uint32_t replica);
  void ForgetSeal(uint32_t frontend, uint32_t replica);
  void LoseCatalogAtDelete(uint32_t frontend, uint32_t replica);
  void Heal();
  void EndHopelessSessions();
  uint32_t AnyReplica() { return static_cast<uint32_t>(dice_.Below(replicas_.size())); }
  uint32_t AnyFrontend() { return static_cast<uint32_t>(dice_.Below(frontends_.size())); }
  // Who serves, if anybody does; else any.
  uint32_t ServingFrontend();

  // --- the end ---
  bool Finished();
  // False, and what a run that never ends is told to have waited for.
  bool NotYet(const char* what, uint64_t which = 0);
  // Also by those that were taken over, if they are still there. 0: none.
  uint64_t OpenRequest() const;
  bool CanBeWell() const;
  bool IsDamagedSomewhere(const engine::EngineView& view) const;
  bool IsToLeave(const engine::EngineView& view) const;
  void ReadBack(uint32_t frontend);
  void Violated(std::string what);
  void Trace(const std::string& line);

  const uint64_t seed_;
  const ClusterOptions options_;
  Dice dice_;
  Agenda agenda_;
  std::vector<std::string> trace_;
  ClusterResult result_;

  store::VolumeGeometry geometry_;  // of the largest that the volume may become
  uint64_t first_size_ = 0;         // blocks
  engine::Options engine_options_;
  std::vector<std::unique_ptr<ReplicaNode>> replicas_;
  // The last replica is no member at first, and takes the place of this one. It has its own dice: other clusters
  // stay what they are.
  std::optional<uint32_t> drained_;
  size_t members_at_first_ = 0;  // of the replicas; others are spare
  absl::Duration replace_after_;  // see host::Options
  bool succeeded_ = false;  // its successor has come in
  std::unique_ptr<Network> network_;
  std::unique_ptr<CatalogModel> catalog_;
  CatalogRecord last_record_;  // of a cluster that replaces members
  std::vector<CatalogRecord> copies_;  // of the record, by what replicas keep
  std::unique_ptr<ContractJudge> judge_;
  std::vector<std::unique_ptr<SnapshotHolder>> holders_;  // by replica
  std::unique_ptr<SnapshotJudge> snapshot_judge_;
  std::vector<std::unique_ptr<Frontend>> frontends_;

  std::vector<Op> ops_;  // by request id; 0 is none
  uint64_t submitted_ = 0;
  absl::flat_hash_map<uint64_t, Position> placed_;  // by value: where it was seen
  std::vector<std::vector<Position>> acked_;        // by frontend, by lane
  std::vector<uint64_t> pumping_;                   // by frontend: the epoch that has a client
  std::vector<bool> suspended_;                     // by frontend
  std::vector<Restore> restores_;  // by frontend
  std::vector<bool> attached_to_restore_;  // by frontend: its newest attach is
  uint64_t restores_begun_ = 0;
  std::optional<uint32_t> failing_;  // whose store has failed, or is to
  uint64_t was_restoring_ = 0;      // as the record said last
  bool used_since_restore_ = true;  // a write of a client's was answered OK
  bool half_restored_ = false;  // some of a snapshot is written, and not yet all
  absl::flat_hash_map<uint64_t, uint64_t> original_of_;  // by request of a restore
  std::vector<Time> read_, wrote_, flushed_at_;     // by frontend: when it began to serve, or was asked for the last one that it acknowledged
  std::vector<Epoch> copied_in_;                    // by replica: the record's when its disks were copied; 0: not yet
  std::vector<bool> put_back_;   // by replica: an older copy of its disk, after its copy of the volume was deleted
  std::vector<Epoch> restored_;  // by replica: the epoch that served when it got an older copy of its disk, until that has caught up; else 0
  std::array<std::vector<bool>, 3> asked_;          // by frontend: the members it last asked for
  absl::flat_hash_map<uint64_t, uint64_t> suspend_flushes_;  // by control: its operation
  absl::flat_hash_map<uint64_t, std::pair<uint64_t, uint64_t>> taking_;  // by control: operation and pin
  absl::flat_hash_set<uint64_t> growing_;                                // controls
  uint64_t next_pin_ = 1;
  uint64_t ops_when_gone_ = ~uint64_t{0};  // the first one that was submitted later
  WriteHistory history_{0};
  // By lane: the newest write of this epoch that is acknowledged.
  struct LastAcked {
    Position position;
    Time invoked{};
  };
  std::vector<LastAcked> last_acked_;
  std::vector<Position> flushed_;  // by lane: what acknowledged flushes of this epoch cover
  std::vector<Position> told_;     // by lane: what replicas were told that all have synced
  absl::flat_hash_map<std::string, Epoch> promised_;  // by store: as last seen
  Epoch active_epoch_ = 0;
  Epoch acknowledged_in_ = 0;  // the last epoch in which a client was told of a write
  Time acknowledged_last_{};   // and when the last such one was asked for
  std::vector<engine::TakeoverRecord> records_;  // that were the catalog's, if it is to be put back
  bool keeps_records_ = false;
  bool old_catalog_ = false;  // it has been
  bool lose_at_delete_ = false;  // once a replica is on its way in
  absl::Status refused_;      // the last attach
  uint64_t next_control_ = 1;
  uint64_t faults_injected_ = 0;
  uint64_t faults_left_ = 0;
  bool healed_ = false;
  bool rotted_at_the_end_ = false;  // in a cluster that is scrubbed
  bool store_failed_ = false;
  bool read_back_ = false;
  Time heal_at_{};
  const char* awaited_ = "";
  uint64_t awaited_which_ = 0;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CLUSTER_H_
