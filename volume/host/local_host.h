// The Host of host.h.
//
// Each volume has one entry. Attach, detach, create and delete of a volume
// exclude each other (`busy`); suspend, resume, load and I/O need only its
// runner, which refuses the first three while it is being detached.
//
// Thread-safety: safe. Owns everything; the destructor ends it in this order:
// no new work, detach all, servers, queues, timer, catalog.
#ifndef WEIR_VOLUME_HOST_LOCAL_HOST_H_
#define WEIR_VOLUME_HOST_LOCAL_HOST_H_

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "volume/catalog/catalog.h"
#include "volume/engine/parent.h"
#include "volume/engine/restoration.h"
#include "volume/host/attach_progress.h"
#include "volume/host/frontend.h"
#include "volume/host/host.h"
#include "volume/host/metrics.h"
#include "volume/host/parent_reader.h"
#include "volume/host/provision.h"
#include "volume/host/record_teller.h"
#include "volume/host/replica_client.h"
#include "volume/host/replica_channel.h"
#include "volume/host/timer.h"
#include "volume/host/volume_record.h"
#include "volume/host/volume_runner.h"
#include "volume/host/work_queue.h"

// Only owned here; what includes them compiles for seconds.
namespace grpc {
class Server;
}
namespace weir::monitor {
class MonitorServer;
class SharedCheck;
}

namespace weir::host {

class RegistryService;
class VolumeService;

class LocalHost final : public Host {
 public:
  LocalHost(HostOptions options, std::unique_ptr<catalog::Catalog> catalog);
  ~LocalHost() override;

  // Registers replicas, starts the servers and the attaching at start.
  absl::Status Start();

  void LetGoOfHeld(absl::Duration wait) override;
  int port() const override { return port_; }
  int metrics_port() const override { return metrics_port_; }
  absl::StatusOr<v1::Volume> CreateVolume(const v1::CreateVolumeRequest& request) override;
  absl::Status DeleteVolume(const std::string& name) override;
  absl::StatusOr<std::vector<v1::Volume>> ListVolumes() override;
  absl::StatusOr<v1::Volume> GetVolume(const std::string& name) override;
  absl::StatusOr<std::shared_ptr<HostedVolume>> Attach(const std::string& name,
                                                       AttachMode mode) override;
  absl::StatusOr<std::shared_ptr<HostedVolume>> GetAttached(const std::string& name) override;
  absl::Status Detach(const std::string& name, bool force) override;
  absl::Status Suspend(const v1::SuspendRequest& request) override;
  absl::Status Resume(const std::string& name) override;
  absl::Status LoadTable(const v1::LoadTableRequest& request) override;
  absl::StatusOr<v1::ReplaceMemberResponse> ReplaceMember(
      const v1::ReplaceMemberRequest& request) override;
  absl::StatusOr<v1::Volume> ExpandVolume(const std::string& name, uint64_t size_bytes) override;
  absl::StatusOr<v1::Volume> CloneVolume(const v1::CloneVolumeRequest& request) override;
  absl::StatusOr<v1::FlattenVolumeResponse> FlattenVolume(
      const v1::FlattenVolumeRequest& request) override;
  absl::StatusOr<v1::RestoreVolumeResponse> RestoreVolume(
      const v1::RestoreVolumeRequest& request) override;
  absl::StatusOr<v1::Snapshot> CreateSnapshot(const std::string& volume,
                                              const std::string& name) override;
  absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots(const std::string& volume) override;
  absl::StatusOr<v1::Snapshot> GetSnapshot(const std::string& volume,
                                           const std::string& name) override;
  absl::Status DeleteSnapshot(const std::string& volume, const std::string& name) override;
  absl::StatusOr<std::string> ReadSnapshot(const v1::ReadRequest& request) override;
  absl::StatusOr<v1::ScrubStatus> Scrub(const v1::ScrubRequest& request) override;
  absl::StatusOr<v1::ExplainResponse> Explain(const std::string& name) override;
  absl::StatusOr<std::vector<v1::ReplicaSummary>> ListReplicas() override;
  absl::Status ForgetReplica(const std::string& name) override { return provision_.Forget(name); }
  absl::StatusOr<std::vector<v1::FrontendSummary>> ListFrontends() override;
  absl::StatusOr<v1::Volume> SetAttributes(const v1::SetAttributesRequest& request) override;
  absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(
      const v1::RebuildCatalogRequest& request) override;

 private:
  // An attached volume and its record, which only membership and detach change.
  struct Attached {
    Attached(catalog::Catalog* catalog, catalog::VersionedVolume read, std::shared_ptr<RecordTeller> copies)
        : teller(std::move(copies)), holder(catalog, std::move(read)) {}
    // Blocks for the catalog. ABORTED: another frontend has changed the record.
    absl::Status Commit(const std::function<v1::VolumeRecord(v1::VolumeRecord)>& change);
    absl::Status TellNow();  // see RecordTeller
    // The record as of the last commit that is known to have come through; does not block.
    v1::VolumeRecord Record();
    // Why the catalog has not taken the last change; empty: it has.
    std::string CatalogError();
    // The catalog has just taken a change, so it is known to lack these.
    void DropDoubtfulPins();
    // Flattening a clone; clones.cc.
    uint64_t CopiedTo();
    void HasCopied(BlockRange range);
    void IsFlat();

    std::shared_ptr<VolumeRunner> runner;  // set before it is shared
    const std::shared_ptr<RecordTeller> teller;  // of each change that the catalog has taken
    absl::Mutex mu;                        // held while the catalog is asked
    VolumeRecordHolder holder ABSL_GUARDED_BY(mu);
    absl::Mutex seen_mu ABSL_ACQUIRED_AFTER(mu);
    v1::VolumeRecord seen ABSL_GUARDED_BY(seen_mu);
    std::string catalog_error ABSL_GUARDED_BY(seen_mu);
    // Of snapshots of which it is in doubt whether the catalog has them.
    std::vector<uint64_t> doubtful_pins ABSL_GUARDED_BY(seen_mu);
    // The catalog may have it as detached, so that whoever attaches it waits for no lease: it is suspended until
    // that is known not to be so.
    std::atomic<bool> detach_in_doubt{false};
    std::atomic<bool> let_go{false};  // by LetGoOfHeld
    // How far a clone has all that its parent has, from block 0 without a gap, by calls of Flatten since it was attached.
    uint64_t copied_to ABSL_GUARDED_BY(seen_mu) = 0;
    // It has all of it, durably, so whatever is committed from now on has no parent: the catalog may have been told so
    // though no answer came, and then its snapshot may be gone.
    bool flat ABSL_GUARDED_BY(mu) = false;
    // One at a time gives a member's place away, or deletes what those who had one have: else a store
    // might be emptied that has just become a member again.
    absl::Mutex turn_mu;
    bool turn_taken ABSL_GUARDED_BY(turn_mu) = false;
  };
  // Has an attached volume's turn while it lives.
  class MembersTurn {
   public:
    // Waits for the one before.
    explicit MembersTurn(std::shared_ptr<Attached> attached);
    ~MembersTurn();
    MembersTurn(const MembersTurn&) = delete;
    MembersTurn& operator=(const MembersTurn&) = delete;

   private:
    const std::shared_ptr<Attached> attached_;
  };
  struct Entry {
    bool busy = false;
    std::string restoring;  // busy with this snapshot being restored, which takes long: nobody waits for that
    Cancellation* attaching = nullptr;  // of the attach under way
    std::shared_ptr<AttachProgress> progress;  // of it, or of the last one if that has failed
    std::shared_ptr<Attached> attached;
  };
  // Makes a volume's entry busy while it lives; waits its turn.
  class Exclusive {
   public:
    // UNAVAILABLE: the host is being destroyed. FAILED_PRECONDITION: the volume is being restored, which nobody waits for.
    static absl::StatusOr<Exclusive> Take(LocalHost* host, const std::string& name);
    Exclusive(Exclusive&& other) noexcept
        : host_(std::exchange(other.host_, nullptr)), entry_(other.entry_) {}
    ~Exclusive();

   private:
    Exclusive(LocalHost* host, Entry* entry) : host_(host), entry_(entry) {}
    LocalHost* host_;
    Entry* entry_;
  };

  // `parent`: of the clone that it was.
  absl::Status DeleteHeld(const std::string& name, v1::ParentRecord* parent);

  // snapshots.cc
  // Runs `work` on the volume, which is attached for as long if nobody has it. REQUIRES: its entry is held.
  absl::Status WithAttached(const std::string& volume, const std::function<absl::Status(Attached&)>& work);
  // The record as far as its frontend, if it is this one, knows that the catalog has it.
  absl::StatusOr<v1::VolumeRecord> SettledRecordOf(const std::string& volume);
  // restore.cc
  bool IsBeingRestored(const std::string& name);
  // So long others are refused, not kept waiting. REQUIRES: the volume's entry is held.
  class Restoring;
  absl::Status RestoreSuspended(const std::shared_ptr<Attached>& attached, const std::string& snapshot, v1::RestoreVolumeResponse* response);
  absl::Status RestoreDetached(const std::string& name, const std::string& snapshot, v1::RestoreVolumeResponse* response);
  // Carries out what `restoration` says until it is done, or only lets go of the volume yet.
  absl::Status CarryOut(const std::shared_ptr<Attached>& attached, const std::string& snapshot,
                        engine::Restoration restoration, v1::RestoreVolumeResponse* response);
  absl::Status ShutToRestore(const std::shared_ptr<Attached>& attached);
  absl::Status CopyBack(Attached& attached, const std::string& snapshot, v1::RestoreVolumeResponse* response);
  // FAILED_PRECONDITION: a restore of it was begun, and has not come to its end.
  static absl::Status RefuseRestoringHere(Attached& attached);

  // clones.cc
  absl::Status ChangeRecord(const std::string& volume,
                            const std::function<absl::StatusOr<v1::VolumeRecord>(v1::VolumeRecord)>& change);
  absl::StatusOr<bool> IsCloneOf(const v1::CloneVolumeRequest& request,
                                 const v1::VolumeRecord& source, const std::string& snapshot);
  absl::StatusOr<uint64_t> NameClone(const v1::CloneVolumeRequest& request,
                                     const std::string& snapshot);
  absl::Status MakeClone(const v1::CloneVolumeRequest& request, const std::string& snapshot_name,
                         uint64_t id);
  absl::StatusOr<std::vector<std::string>> LiveClones(const v1::SnapshotRecord& snapshot);
  // The snapshot need not stay for its sake. Best effort. REQUIRES: the parent's entry is not held.
  void ForgetClone(const v1::ParentRecord& parent, const std::string& clone);
  // Does what `flatten` says, to its end or the first error. Blocks. `parent`: null if nothing is to be copied.
  absl::Status Carry(engine::Flatten flatten, Attached& attached, ParentReader* parent);
  absl::Status EndClone(Attached& attached);

  absl::Status TakeSnapshot(Attached& attached, const std::string& name, bool of_clone);
  // What keeps the snapshot from being deleted. It may be marked as going when that is OK.
  absl::Status MarkDeleting(Attached& attached, const std::string& name);
  absl::Status DropSnapshot(Attached& attached, const std::string& name);
  // Of a volume that is not attached here: where it is, or what keeps it from being attached.
  v1::ExplainResponse ExplainUnattached(const v1::VolumeRecord& record, bool attaching, bool elsewhere);
  // What the members' disks hold beside the newest data, and why; and what speaks against them.
  // `ask`: replicas too, of which the catalog knows.
  void ExplainSpace(const v1::VolumeRecord& record, bool ask, v1::ExplainResponse* out);
  absl::StatusOr<std::string> ReadPinnedData(const v1::VolumeRecord& record,
                                             const v1::SnapshotRecord& snapshot, BlockRange range);

  // replace.cc
  absl::Status TakeIn(Attached& attached, const v1::VolumeRecord& record, const v1::ReplaceMemberRequest& request, v1::Member* with);
  absl::Status SwapIn(VolumeRunner& runner, const std::string& replica, const v1::Member& with, bool make_before_break);
  void ReplaceLost();
  // leftovers.cc
  void LookLater();
  void DeleteLeftovers();
  // False: to be tried again after a while.
  bool DeleteLeftoversOf(const std::shared_ptr<Attached>& attached);
  absl::Status DropOrphansOf(const std::shared_ptr<Attached>& attached);

  // attributes.cc
  absl::Status RegisterFrontend();

  absl::Status StartService();
  void EndService();  // cuts streams off, unanswered; clients go on elsewhere
  absl::Status StartMonitor();
  // Whether it can serve now, for /readyz.
  absl::Status Ready();
  void RefreshMetrics();
  bool stopping();

  absl::StatusOr<std::shared_ptr<Attached>> AttachAnew(const std::string& name, AttachMode mode);
  // The record, fit to be attached, with the replicas' present addresses.
  absl::StatusOr<catalog::VersionedVolume> ReadToAttach(const std::string& name, AttachMode mode);
  absl::StatusOr<std::shared_ptr<Attached>> TakeOverFrom(catalog::VersionedVolume read, Cancellation* cancellation,
                                                         AttachProgress* progress, absl::Duration* takeover);
  // `again`: it was changed under the same epoch meanwhile, and may be read and taken anew.
  absl::StatusOr<std::shared_ptr<Attached>> TakeOver(const std::string& name, AttachMode mode,
                                                     Cancellation* cancellation, AttachProgress* progress,
                                                     absl::Duration* takeover, bool* again);
  // PERMISSION_DENIED: this frontend's certificate is not for `record`'s volume, or for one that it reads from as a clone.
  // The replicas look at that too, but only once the epoch, and with it the volume, has been taken from who serves it.
  absl::Status CheckOwnGrant(const v1::VolumeRecord& record);
  // That, and whatever else keeps this frontend from attaching it by any mode.
  absl::Status RefuseToAttach(const v1::VolumeRecord& record);
  // For a takeover that a replica has refused as `stale`.
  absl::Status HaltIfBehind(VolumeRecordHolder& holder, const absl::Status& stale);
  absl::Status StartRunner(const std::shared_ptr<Attached>& attached);
  // Learns whether flush is supported, and that I/O works.
  absl::Status FirstFlush(VolumeRunner& runner);
  // kGoOn: with whoever attaches it next here, unless another frontend has it between. kEnd: they never do.
  enum class Clients { kEnd, kGoOn };
  absl::Status DetachHeld(Attached& attached, Clients clients, bool force, absl::Duration deadline);
  absl::Status DetachAtExit(const std::string& name);
  void Drop(const std::string& name);
  // Attached and not fenced, with nothing under way; else null.
  std::shared_ptr<Attached> ServedOrNull(const std::string& name);
  // Whether nobody has taken it over, as far as the catalog can tell.
  bool IsStillOurs(const Attached& attached);
  // The catalog's record; if the catalog does not answer, as `asked` then says, the one of an attached volume.
  absl::StatusOr<v1::VolumeRecord> RecordOf(const std::string& name, absl::Status* asked);
  absl::Status SuspendToDetach(Attached& attached, absl::Duration deadline);
  static bool MayGoOn(Attached& attached);
  // After a detach that came to nothing.
  static absl::Status StayAttached(Attached& attached);
  // The first refuses one that is being restored.
  absl::StatusOr<std::shared_ptr<Attached>> FindAttached(const std::string& name);
  absl::StatusOr<std::shared_ptr<Attached>> FindAttachedOrRestored(const std::string& name);
  std::shared_ptr<Attached> AttachedOrNull(const std::string& name, bool* attaching);
  v1::Volume Describe(const v1::VolumeRecord& record);

  const HostOptions options_;
  const std::unique_ptr<catalog::Catalog> catalog_;
  Frontend self_;  // complete once the service listens
  Provision provision_;
  const std::shared_ptr<Metrics> metrics_;
  int port_ = 0;
  int metrics_port_ = 0;

  absl::Mutex mu_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mu_);
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  std::map<std::string, engine::Time> replace_not_before_ ABSL_GUARDED_BY(mu_);  // by volume
  std::map<std::string, engine::Time> leftovers_not_before_ ABSL_GUARDED_BY(mu_);  // by volume

  ReplicaChannels channels_;  // outlives every runner's sessions
  std::unique_ptr<Timer> timer_;
  std::unique_ptr<WorkQueue> background_;  // dispatch
  std::unique_ptr<WorkQueue> catalog_calls_;  // of engines; they block
  std::shared_ptr<WorkQueue> copies_;      // blocking calls that bring copies of records
  std::unique_ptr<WorkQueue> joins_;       // blocking calls to replicas that are brought back
  std::unique_ptr<WorkQueue> parents_;     // blocking reads of clones' parents
  std::unique_ptr<WorkQueue> control_;     // blocking control calls
  std::unique_ptr<VolumeService> service_;
  std::unique_ptr<RegistryService> registry_;
  std::unique_ptr<grpc::Server> server_;
  std::unique_ptr<monitor::SharedCheck> catalog_answers_;
  std::unique_ptr<WorkQueue> catalog_looks_;  // asks it for each scrape, which does not wait
  std::unique_ptr<monitor::MonitorServer> monitor_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_LOCAL_HOST_H_
