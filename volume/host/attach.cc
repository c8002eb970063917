// LocalHost's attach and detach.
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/algorithm/container.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/status_macros.h"
#include "proto/base/steady.h"
#include "proto/wire/identity.h"
#include "volume/host/clock.h"
#include "volume/host/local_host.h"
#include "volume/host/parent_reader.h"
#include "volume/host/takeover_runner.h"
#include "volume/host/volume_record.h"

namespace weir::host {
namespace {

constexpr absl::Duration kLookAgainAfter = absl::Milliseconds(100);
constexpr absl::Duration kDetachDeadline = absl::Seconds(30);
constexpr absl::Duration kForcedDetachDeadline = absl::Seconds(2);
constexpr absl::Duration kExitDetachDeadline = absl::Seconds(5);
constexpr int kTakeOverAttemptsMax = 8;

// Says which members have left, and which are back, by a change that the catalog has taken.
void LogMembers(const v1::VolumeRecord& before, const v1::VolumeRecord& after,
                const engine::CommitMembers& commit) {
  const auto reason_of = [&commit](const std::string& replica) -> std::string {
    for (size_t i = 0; i < commit.reasons.size(); ++i) {
      if (commit.table.targets[i].replica != replica || commit.reasons[i].empty()) continue;
      return absl::StrCat(": ", commit.reasons[i]);
    }
    return "";
  };
  const auto in_sync = absl::c_count_if(
      after.members(), [](const v1::Member& member) { return member.in_sync(); });
  for (const v1::Member& member : after.members()) {
    const auto same = absl::c_find_if(before.members(), [&](const v1::Member& known) {
      return known.replica() == member.replica();
    });
    const bool was_in_sync = same != before.members().end() && same->in_sync();
    if (member.in_sync() == was_in_sync) continue;
    const std::string said = absl::StrCat(
        "volume=", after.name(), " replica=", member.replica(), " epoch=", after.epoch(),
        member.in_sync() ? " is in sync again" : absl::StrCat(" has left", reason_of(member.replica())),
        "; ", in_sync, " of ", after.members_size(), " members are in sync");
    if (member.in_sync()) {
      LOG(INFO) << said;
    } else {
      LOG(WARNING) << said;
    }
  }
}

}  // namespace

absl::StatusOr<LocalHost::Exclusive> LocalHost::Exclusive::Take(LocalHost* host, const std::string& name) {
  absl::MutexLock lock(&host->mu_);
  // std::map keeps the entry in place; it is never erased.
  Entry* entry = &host->entries_[name];
  const auto free = [host, entry] {
    host->mu_.AssertHeld();
    return !entry->busy || !entry->restoring.empty() || host->stopping_;
  };
  host->mu_.Await(absl::Condition(&free));
  if (host->stopping_) {
    return absl::UnavailableError("this frontend is shutting down");
  }
  if (!entry->restoring.empty()) {
    return absl::FailedPreconditionError(absl::StrCat("volume ", name, " is being restored from snapshot ",
                                                      entry->restoring, "; try again once that is done"));
  }
  entry->busy = true;
  return Exclusive(host, entry);
}

LocalHost::Exclusive::~Exclusive() {
  if (host_ == nullptr) return;
  absl::MutexLock lock(&host_->mu_);
  entry_->busy = false;
}

absl::StatusOr<std::shared_ptr<HostedVolume>> LocalHost::Attach(const std::string& name,
                                                                AttachMode mode) {
  std::shared_ptr<Attached> attached = ServedOrNull(name);
  // Who only wants to use it needs no catalog, which may be away: the engine finds out by itself
  // that it was taken over, and until then serves nothing that is not so.
  if (attached != nullptr && !attached->detach_in_doubt &&
      (mode == AttachMode::kUnlessElsewhere || IsStillOurs(*attached))) {
    return std::static_pointer_cast<HostedVolume>(attached->runner);
  }
  // Not to make an entry for each name that somebody asks for.
  RETURN_IF_ERROR(catalog_->GetVolume(name).status());
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
  bool attaching = false;
  attached = AttachedOrNull(name, &attaching);
  if (attached != nullptr && attached->detach_in_doubt) {
    const absl::Status stays = StayAttached(*attached);
    if (!stays.ok() && !absl::IsAborted(stays)) return stays;
  }
  if (attached == nullptr || attached->runner->fenced() || attached->detach_in_doubt || !IsStillOurs(*attached)) {
    ASSIGN_OR_RETURN(attached, AttachAnew(name, mode));
  }
  RETURN_IF_ERROR(RefuseRestoringHere(*attached));
  return std::static_pointer_cast<HostedVolume>(attached->runner);
}

bool LocalHost::IsStillOurs(const Attached& attached) {
  const absl::StatusOr<catalog::VersionedVolume> read =
      catalog_->GetVolume(attached.runner->name());
  return !read.ok() || read->record.epoch() == attached.runner->epoch();
}

absl::StatusOr<std::shared_ptr<LocalHost::Attached>> LocalHost::AttachAnew(
    const std::string& name, AttachMode mode) {
  const engine::Time start = MonotonicNow();
  const auto progress = std::make_shared<AttachProgress>();
  absl::Duration takeover;
  std::optional<Cancellation> cancellation;
  absl::StatusOr<std::shared_ptr<Attached>> attached;
  bool again = true;
  for (int attempt = 0; again && attempt < kTakeOverAttemptsMax; ++attempt) {
    {
      absl::MutexLock lock(&mu_);
      if (stopping_) {
        entries_[name].attaching = nullptr;
        return absl::UnavailableError("this frontend is shutting down");
      }
      // Anew, since a takeover that is over leaves it cancelled.
      entries_[name].attaching = &cancellation.emplace();
      entries_[name].progress = progress;
    }
    attached = TakeOver(name, mode, &*cancellation, progress.get(), &takeover, &again);
  }
  if (!attached.ok()) progress->Failed(attached.status(), MonotonicNow());
  metrics_->ObserveAttach(name, attached.ok(), MonotonicNow() - start, takeover);
  absl::MutexLock lock(&mu_);
  Entry& entry = entries_[name];
  entry.attaching = nullptr;
  if (attached.ok()) {
    entry.attached = *attached;
    entry.progress = nullptr;
  }
  leftovers_not_before_.erase(name);
  return attached;
}

absl::StatusOr<std::shared_ptr<LocalHost::Attached>> LocalHost::TakeOver(
    const std::string& name, AttachMode mode, Cancellation* cancellation,
    AttachProgress* progress, absl::Duration* takeover, bool* again) {
  *again = false;
  ASSIGN_OR_RETURN(catalog::VersionedVolume read, ReadToAttach(name, mode));
  const uint32_t epoch = read.record.epoch();
  absl::StatusOr<std::shared_ptr<Attached>> attached =
      TakeOverFrom(std::move(read), cancellation, progress, takeover);
  if (absl::IsAborted(attached.status())) {
    // Whoever had it has changed its members meanwhile, as when a replica falls at the same time; or it has been taken by
    // somebody else, who is not to be taken from in turn.
    const absl::StatusOr<catalog::VersionedVolume> now = catalog_->GetVolume(name);
    *again = now.ok() && now->record.epoch() == epoch;
  }
  return attached;
}

absl::StatusOr<std::shared_ptr<LocalHost::Attached>> LocalHost::TakeOverFrom(
    catalog::VersionedVolume read, Cancellation* cancellation, AttachProgress* progress, absl::Duration* takeover) {
  const std::string name = read.record.name();
  bool attaching = false;
  if (const std::shared_ptr<Attached> before = AttachedOrNull(name, &attaching)) {
    Drop(name);
    before->runner->Stop("volume " + name + " is being attached anew");
  }
  auto attached = std::make_shared<Attached>(
      catalog_.get(), std::move(read),
      std::make_shared<RecordTeller>(catalog_->cluster_id(), copies_, timer_.get()));
  const engine::Time start = MonotonicNow();
  {
    // Not shared yet; held for the sake of the annotation.
    absl::MutexLock lock(&attached->mu);
    TakeoverRunner::Config config;
    config.cluster_id = catalog_->cluster_id();
    config.frontend = self_;
    config.deadline = options_.attach_deadline;
    config.give_up_after = options_.give_up_after;
    config.lease = options_.lease;
    config.fresh = HadElsewhere(attached->holder.record(), self_);
    const absl::Status status =
        TakeoverRunner(config, &attached->holder, cancellation, progress).Run();
    *takeover = MonotonicNow() - start;
    if (!status.ok()) {
      LOG(WARNING) << "volume=" << name << " takeover failed: " << status;
      if (StatusToErrno(status) == ESTALE) return HaltIfBehind(attached->holder, status);
      return status;
    }
    absl::MutexLock seen_lock(&attached->seen_mu);
    attached->seen = attached->holder.record();
    // Some may have been given up since they were told.
    attached->teller->Tell(attached->holder.record(), attached->holder.revision());
  }
  RETURN_IF_ERROR(StartRunner(attached));
  const absl::Status status = FirstFlush(*attached->runner);
  if (!status.ok()) {
    attached->runner->Stop("the attach failed");
    return status;
  }
  LOG(INFO) << "volume=" << name << " epoch=" << attached->runner->epoch()
            << " attached in "
            << absl::FormatDuration(
                   absl::Trunc(MonotonicNow() - start, absl::Milliseconds(1)));
  return attached;
}

// Either another frontend has taken the volume since, and the record says so; or the catalog knows less
// than it did. Each further attach would raise the epoch, until it is above the promise.
absl::Status LocalHost::HaltIfBehind(VolumeRecordHolder& holder, const absl::Status& stale) {
  v1::VolumeRecord halted = holder.record();
  halted.set_behind(true);
  if (!holder.Commit(halted).ok()) return stale;
  const absl::Status status = RefuseBehind(halted);
  LOG(ERROR) << status << " (" << stale.message() << ")";
  return status;
}

absl::Status LocalHost::CheckOwnGrant(const v1::VolumeRecord& record) {
  const wire::VolumeGrant own = wire::OwnGrant();
  if (own.CheckAll().ok()) return absl::OkStatus();
  std::vector<uint64_t> needed = {record.id()};
  if (record.has_parent()) {
    ASSIGN_OR_RETURN(const std::shared_ptr<ParentReader> parent, ParentReader::Open(catalog_.get(), record.parent()));
    absl::c_copy(parent->volume_ids(), std::back_inserter(needed));
  }
  for (const uint64_t id : needed) {
    if (own.Covers(id)) continue;
    return absl::PermissionDeniedError(absl::StrCat(
        "volume ", record.name(), ": this frontend's certificate, ", wire::IdentityFiles().cert, ", is not for volume id ", id,
        id == record.id() ? "" : ", from which it reads as a clone",
        "; use another frontend, or give it a certificate with weir://frontend/NAME/volume/", id, " among its URIs"));
  }
  return absl::OkStatus();
}

absl::Status LocalHost::RefuseToAttach(const v1::VolumeRecord& record) {
  RETURN_IF_ERROR(CheckOwnGrant(record));
  RETURN_IF_ERROR(RefuseBehind(record));
  if (record.state() == v1::VolumeRecord::CREATING) {
    return absl::FailedPreconditionError(absl::StrCat(
        "the creation of volume ", record.name(),
        " was interrupted; create it again with the same size, or delete it"));
  }
  if (record.state() == v1::VolumeRecord::DELETING) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", record.name(), " is being deleted; delete it again to finish that"));
  }
  return CheckRecord(record);
}

absl::StatusOr<catalog::VersionedVolume> LocalHost::ReadToAttach(
    const std::string& name, AttachMode mode) {
  ASSIGN_OR_RETURN(catalog::VersionedVolume volume, catalog_->GetVolume(name));
  if (!volume.record.restoring().empty() && mode != AttachMode::kRestore) {
    return RefuseRestoring(volume.record);
  }
  if (volume.record.restoring().empty() && mode == AttachMode::kRestore) {
    return absl::AbortedError(absl::StrCat("the restore of volume ", name, " has come to its end meanwhile"));
  }
  if (mode == AttachMode::kUnlessElsewhere) {
    RETURN_IF_ERROR(RefuseElsewhere(volume.record, self_));
  }
  RETURN_IF_ERROR(RefuseToAttach(volume.record));
  if (IsElsewhere(volume.record, self_)) {
    LOG(WARNING) << "volume=" << name << " is taken over from " << WhereItIs(volume.record);
  }
  // A replica may have moved; its store id shows that it is the same one.
  for (v1::Member& member : *volume.record.mutable_members()) {
    absl::StatusOr<catalog::VersionedReplica> replica =
        catalog_->GetReplica(member.replica());
    if (replica.ok()) member.set_address(replica->record.address());
  }
  return volume;
}

absl::Status LocalHost::StartRunner(const std::shared_ptr<Attached>& attached) {
  const v1::VolumeRecord record = attached->Record();
  VolumeRunner::Config config;
  config.name = record.name();
  config.id = record.id();
  config.cluster_id = catalog_->cluster_id();
  config.frontend = absl::StrCat(self_.name, ":", ::getpid());
  config.engine.size_blocks = record.size_bytes() / kBlockBytes;
  config.engine.lanes = {record.lanes(), record.stripe_blocks()};
  config.engine.epoch = record.epoch();
  config.engine.pins = PinsOf(record);
  if (record.has_parent()) {
    config.engine.overlay = true;
    ASSIGN_OR_RETURN(config.parent, ParentReader::Open(catalog_.get(), record.parent()));
  }
  config.intact_since = record.intact_since();
  config.engine.min_in_sync = record.min_in_sync();
  config.engine.leave_after = options_.leave_after;
  config.engine.slow_window = options_.slow_after / config.engine.slow_windows;
  config.engine.hold_deadline = HoldDeadlineOf(record, options_.hold_deadline);
  config.engine.join_bytes_per_second = options_.join_bytes_per_second;
  config.engine.scrub_every = options_.scrub_every;
  // Not all volumes of a frontend at the same time.
  config.engine.scrub_first_after =
      std::min(options_.scrub_every, absl::Hours(1) + absl::Seconds(record.id() % 3600));
  config.engine.scrub_bytes_per_second = options_.scrub_bytes_per_second;
  config.engine.lease = options_.lease;
  config.engine.requeue_deadline = options_.requeue_deadline;
  config.engine.clone_deadline = options_.clone_deadline;
  config.engine.flush_interval = options_.flush_interval;
  config.engine.flush_bytes = options_.flush_bytes;
  config.engine.replay_bytes_max = options_.replay_bytes_max;
  RETURN_IF_ERROR(config.engine.Validate());
  config.unanswered_bytes_max = options_.unanswered_bytes_max;
  config.slow_request_log = options_.slow_request_log;
  config.table = ToTable(record);
  config.timer = timer_.get();
  config.background = background_.get();
  config.catalog = catalog_calls_.get();
  config.joins = joins_.get();
  config.parents = parents_.get();
  config.channels = &channels_;
  config.metrics = metrics_.get();
  // Weak: the runner belongs to `attached`.
  config.commit_members = [weak = std::weak_ptr<Attached>(attached)](
                              const engine::CommitMembers& commit) -> absl::Status {
    const std::shared_ptr<Attached> held = weak.lock();
    if (held == nullptr) return absl::CancelledError("the volume was detached");
    v1::VolumeRecord before, after;
    RETURN_IF_ERROR(held->Commit([&](v1::VolumeRecord record) {
      before = record;
      return after = WithMembers(std::move(record), commit);
    }));
    LogMembers(before, after, commit);
    return absl::OkStatus();
  };
  config.check_epoch = [weak = std::weak_ptr<Attached>(attached), catalog = catalog_.get()]() -> absl::Status {
    const std::shared_ptr<Attached> held = weak.lock();
    if (held == nullptr) return absl::CancelledError("the volume was detached");
    return CheckEpoch(*catalog, held->Record());
  };
  attached->runner = VolumeRunner::Start(std::move(config));
  return absl::OkStatus();
}

absl::Status LocalHost::FirstFlush(VolumeRunner& runner) {
  struct Waiting {
    absl::Mutex mu;
    SteadyCondVar changed;
    bool done ABSL_GUARDED_BY(mu) = false;
    IoOutcome outcome;  // once done
  };
  auto waiting = std::make_shared<Waiting>();
  IoRequest flush;
  flush.kind = engine::RequestKind::kFlush;
  runner.Submit(flush, [waiting](IoOutcome outcome) {
    waiting->outcome = std::move(outcome);
    absl::MutexLock lock(&waiting->mu);
    waiting->done = true;
    waiting->changed.Signal();
  });
  bool done = false;
  // A replica that answers nothing but REQUEUE leaves after that other deadline, and the flush goes on without it.
  const absl::Duration patience = options_.attach_deadline + options_.requeue_deadline;
  const engine::Time deadline = MonotonicNow() + patience;
  while (!done && MonotonicNow() < deadline && !stopping()) {
    {
      absl::MutexLock lock(&waiting->mu);
      done = waiting->changed.AwaitFor(&waiting->mu, kLookAgainAfter, &waiting->done);
    }
    if (!done && runner.View().held) {
      LOG(WARNING) << "volume=" << runner.name() << " epoch=" << runner.epoch()
                   << " is held: too few replicas are in sync";
      return absl::OkStatus();
    }
  }
  if (!done && stopping()) {
    return absl::UnavailableError(absl::StrCat("volume ", runner.name(), " was taken over, and this frontend is shutting down"));
  }
  if (!done) {
    return absl::DeadlineExceededError(absl::StrCat(
        "volume ", runner.name(), " was taken over, but its first flush did "
        "not come back in ", absl::FormatDuration(patience),
        "; see that its replicas run, then attach again"));
  }
  const IoOutcome& outcome = waiting->outcome;
  const bool supported = outcome.result.error() != EOPNOTSUPP &&
                         runner.View().flush_supported;
  runner.set_flush_supported(supported);
  if (!supported) {
    LOG(WARNING) << "volume=" << runner.name() << " epoch=" << runner.epoch()
                 << " a replica cannot flush: FLUSH fails with EOPNOTSUPP: "
                 << outcome.message;
    return absl::OkStatus();
  }
  if (outcome.result.ok()) return absl::OkStatus();
  return ErrnoToStatus(outcome.result.error(),
                       absl::StrCat("volume ", runner.name(),
                                    ": the first flush after attaching failed: ",
                                    outcome.message));
}

// --- detach ---

absl::Status LocalHost::Detach(const std::string& name, bool force) {
  RETURN_IF_ERROR(catalog_->GetVolume(name).status());
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached,
                   FindAttachedOrRestored(name));
  RETURN_IF_ERROR(DetachHeld(*attached, Clients::kEnd, force,
                             force ? kForcedDetachDeadline : kDetachDeadline));
  Drop(name);
  return absl::OkStatus();
}

// Waits for what is under way with the volume: an attach was cancelled, a restore ends before its next write, all
// else is short.
absl::Status LocalHost::DetachAtExit(const std::string& name) {
  std::shared_ptr<Attached> attached, held_up;
  Entry* entry = nullptr;
  {
    absl::MutexLock lock(&mu_);
    entry = &entries_[name];
    const auto free = [entry] { return !entry->busy; };
    const bool is_free = mu_.AwaitWithTimeout(absl::Condition(&free), kExitDetachDeadline);
    if (!is_free && !entry->restoring.empty()) held_up = entry->attached;
  }
  // The write may wait for a replica.
  if (held_up != nullptr) held_up->runner->Stop("this frontend was stopped");
  {
    const auto free = [entry] { return !entry->busy; };
    absl::MutexLock lock(&mu_, absl::Condition(&free));
    attached = std::move(entry->attached);
  }
  if (held_up != nullptr) return absl::UnavailableError("a restore of it is cut short, and is to be done again");
  if (attached == nullptr) return absl::OkStatus();
  if (attached->let_go) return absl::UnavailableError("requests waited, and it was let go of");
  const absl::Status clean =
      DetachHeld(*attached, Clients::kGoOn, /*force=*/false, kExitDetachDeadline);
  if (!clean.ok()) attached->runner->Stop("this frontend was stopped");
  return clean;
}

absl::Status LocalHost::DetachHeld(Attached& attached, Clients clients, bool force,
                                   absl::Duration deadline) {
  VolumeRunner& runner = *attached.runner;
  runner.set_detaching(true);
  // In doubt it is suspended, and has been flushed.
  absl::Status flushed = attached.detach_in_doubt ? absl::OkStatus() : SuspendToDetach(attached, deadline);
  const std::vector<Position> floor = runner.View().durable;
  // Stopped meanwhile: then it is not known any more how far all have come.
  if (flushed.ok() && floor.empty()) flushed = absl::UnavailableError("it was let go of");
  const bool asked = flushed.ok();
  if (asked) {
    // So that a disk that is put back from an older copy meanwhile is found out, whoever else is there.
    flushed = attached.Commit([clients, floor](v1::VolumeRecord record) {
      record = WithFloor(std::move(record), floor);
      record.set_state(v1::VolumeRecord::DETACHED);
      record.clear_frontend_address();
      if (clients == Clients::kEnd) {
        record.clear_frontend();
        record.set_intact_since(record.epoch() + 1);
      }
      return record;
    });
    attached.detach_in_doubt = !flushed.ok() && !absl::IsAborted(flushed);
  }
  const absl::Status stays = flushed.ok() || force || absl::IsAborted(flushed) ? flushed : StayAttached(attached);
  // ABORTED: another frontend has it, so there is nothing left to keep.
  if (!flushed.ok() && !force && !absl::IsAborted(stays)) {
    if (attached.detach_in_doubt) {
      LOG(WARNING) << "volume=" << runner.name() << " stays suspended, its detach is in doubt: " << stays;
      return absl::Status(flushed.code(), absl::StrCat(
          "volume ", runner.name(), " is suspended, since the catalog may have it as detached: ", flushed.message(),
          "; detach it again, or resume it, once the catalog answers"));
    }
    LOG(WARNING) << "volume=" << runner.name() << " stays attached: " << flushed
                 << (stays.ok() ? "" : absl::StrCat("; it could not be resumed: ", stays.ToString()));
    return absl::Status(
        flushed.code(),
        absl::StrCat("volume ", runner.name(), " stays attached, since it could not be ",
                     asked ? "recorded as detached: " : "flushed: ", flushed.message(),
                     "; detach it with force to let it go all the same"));
  }
  if (!flushed.ok()) {
    LOG(WARNING) << "volume=" << runner.name() << " epoch=" << runner.epoch()
                 << " is let go, and the catalog does not say so: " << flushed;
  }
  runner.Stop(absl::StrCat("volume ", runner.name(), " was detached"));
  LOG(INFO) << "volume=" << runner.name() << " epoch=" << runner.epoch()
            << " detached";
  return absl::OkStatus();
}

// It is suspended, and not as what a restore that was cut short has left: no client may get at that.
bool LocalHost::MayGoOn(Attached& attached) {
  return attached.runner->View().state == engine::EngineView::State::kSuspended &&
         attached.Record().restoring().empty();
}

absl::Status LocalHost::StayAttached(Attached& attached) {
  VolumeRunner& runner = *attached.runner;
  if (attached.detach_in_doubt) {
    // As it was: the one before may come through late.
    const absl::Status known = attached.Commit([](v1::VolumeRecord record) { return record; });
    // Another frontend has it, and this one finds out by nothing else while it is suspended.
    if (absl::IsAborted(known)) runner.Stop(std::string(known.message()));
    RETURN_IF_ERROR(known);
    attached.detach_in_doubt = false;
  }
  absl::Status resumed;
  if (MayGoOn(attached)) resumed = runner.Resume(VolumeRunner::Caller::kDetach);
  runner.set_detaching(false);
  return resumed;
}

absl::Status LocalHost::SuspendToDetach(Attached& attached, absl::Duration deadline) {
  VolumeRunner& runner = *attached.runner;
  if (attached.let_go) return absl::UnavailableError("requests waited, and it was let go of");
  if (runner.fenced()) {
    return absl::FailedPreconditionError(
        "it was taken over by another frontend");
  }
  if (runner.View().state == engine::EngineView::State::kRestoring) {
    return runner.EndRestore(deadline, VolumeRunner::Caller::kDetach);
  }
  // A suspend with noflush has not flushed, so it does not do.
  if (MayGoOn(attached)) RETURN_IF_ERROR(runner.Resume(VolumeRunner::Caller::kDetach));
  return runner.Suspend(/*noflush=*/false, deadline,
                        VolumeRunner::Caller::kDetach);
}

void LocalHost::Drop(const std::string& name) {
  absl::MutexLock lock(&mu_);
  entries_[name].attached = nullptr;
}

}  // namespace weir::host
