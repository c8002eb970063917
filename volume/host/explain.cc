#include "volume/host/explain.h"

#include <algorithm>
#include <string>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "volume/host/frontend.h"
#include "volume/host/scrub_status.h"
#include "volume/host/volume_record.h"

namespace weir::host {
namespace {

using Health = engine::TargetView::Health;
using State = engine::EngineView::State;

const char* HealthName(Health health) {
  switch (health) {
    case Health::kConnecting:
      return "reconnecting";
    case Health::kConnected:
      return "connected";
    case Health::kFailed:
      return "failed";
    case Health::kOut:
      return "away";
  }
  return "unknown";
}

const char* StateName(const v1::VolumeRecord& record, const engine::EngineView* view,
                      bool attaching, bool elsewhere) {
  if (view != nullptr && elsewhere) return "FENCED";
  if (view != nullptr) {
    switch (view->state) {
      case State::kActive:
      case State::kSuspending:
      case State::kCommitting:
        return "ACTIVE";
      case State::kSuspended:
      case State::kRestoring:
        return "SUSPENDED";
      case State::kFenced:
        return "FENCED";
    }
  }
  if (attaching) return "ATTACHING";
  if (elsewhere) return "ELSEWHERE";
  if (record.state() == v1::VolumeRecord::CREATING) return "CREATING";
  if (record.state() == v1::VolumeRecord::DELETING) return "DELETING";
  return "DETACHED";
}

const char* StateOf(bool in_sync, bool stays_out) {
  if (in_sync) return "in_sync";
  return stays_out ? "out" : "joining";
}

void DescribeTarget(const engine::TargetView& view, v1::Target* target) {
  target->set_replica(view.config.replica);
  target->set_address(view.config.address);
  target->set_store_id(view.config.store_id);
  target->set_succeeds(view.config.succeeds);
  target->set_state(StateOf(view.config.state == engine::TargetState::kInSync,
                            view.config.stays_out));
  target->set_health(HealthName(view.health));
  target->set_health_reason(view.reason);
  target->set_num_flush_requests(view.num_flush_requests);
  target->set_inflight_clones(view.inflight_clones);
  target->set_errors(view.errors);
  target->set_repaired_blocks(view.repaired_blocks);
  target->set_damaged_blocks(view.damaged_blocks);
  target->set_join_bytes_left(view.join_blocks_left * kBlockBytes);
  target->set_join_bytes_copied(view.join_bytes_copied);
  if (view.join_time_left < absl::InfiniteDuration()) {
    target->set_join_seconds_left(
        static_cast<uint64_t>(absl::ToInt64Seconds(absl::Ceil(view.join_time_left, absl::Seconds(1)))));
  }
}

void AddPositions(
    const std::vector<Position>& positions,
    google::protobuf::RepeatedPtrField<v1::LanePosition>* field) {
  for (size_t lane = 0; lane < positions.size(); ++lane) {
    v1::LanePosition* point = field->Add();
    point->set_lane(static_cast<uint32_t>(lane));
    point->set_position(positions[lane].bits());
  }
}

std::string Seconds(absl::Duration duration) {
  return absl::FormatDuration(absl::Ceil(std::max(duration, absl::ZeroDuration()),
                                         absl::Seconds(1)));
}

// What happens with requests that need a member which is away.
std::string UnlessItComes(const engine::TargetView& target, const HostOptions& options,
                          engine::Time now) {
  if (target.leaving) {
    return "the volume goes on without it as soon as the catalog says so, and brings it back "
           "once it is there again";
  }
  if (target.overdue) return "until it is back, requests that need it fail with EIO";
  if (options.hold_deadline == absl::InfiniteDuration()) return "requests are held for it";
  return absl::StrCat("requests are held for it and fail with EIO in ",
                      Seconds(target.since + options.hold_deadline - now),
                      " unless it comes back or may leave");
}

void ExplainJoining(const engine::TargetView& target, v1::ExplainResponse* out) {
  const std::string copied = FormatSize(target.join_bytes_copied);
  out->add_facts(absl::StrCat(
      "replica ", target.config.replica, " is being brought back: ", copied, " copied, ",
      target.join_blocks_left > 0
          ? absl::StrCat(FormatSize(target.join_blocks_left * kBlockBytes), " to go")
          : "the rest is being looked at",
      target.join_time_left < absl::InfiniteDuration()
          ? absl::StrCat(", some ", Seconds(target.join_time_left), " at the speed of late")
          : ""));
  out->add_next(absl::StrCat("replica ", target.config.replica,
                             " is in sync again once it has everything and has synced it"));
}

void ExplainOut(const engine::TargetView& target, engine::Time now, const std::string& because,
                v1::ExplainResponse* out) {
  const std::string& name = target.config.replica;
  if (target.joining) return ExplainJoining(target, out);
  out->add_facts(absl::StrCat("replica ", name, " has left and misses what is written now",
                              because));
  if (target.config.stays_out) {
    out->add_actions(absl::StrCat("to bring replica ", name, " back, suspend the volume, load a "
                                  "table that says it is joining, and resume"));
    return;
  }
  out->add_next(absl::StrCat("bringing replica ", name, " back is tried in ",
                             Seconds(target.next_join - now)));
  if (absl::StrContains(target.reason, "blocks could not be copied")) {
    out->add_actions("if blocks are damaged where it is to get them from, a scrub repairs those that another replica has well: "
                     "weirctl scrub VOLUME --wait");
    return;
  }
  out->add_actions(absl::StrCat("see that replica ", name, " runs at ", target.config.address));
}

void ExplainSlow(const engine::TargetView& target, const HostOptions& options,
                 v1::ExplainResponse* out) {
  const std::string& name = target.config.replica;
  out->add_facts(absl::StrCat("replica ", name, " is slow: it answers writes and flushes in up to ",
                              absl::FormatDuration(target.answer_p99), ", the others in ",
                              absl::FormatDuration(target.others_p99)));
  if (options.slow_after < absl::InfiniteDuration()) {
    out->add_next(absl::StrCat("if replica ", name, " stays slow for ",
                               absl::FormatDuration(options.slow_after),
                               " and min_in_sync others remain, the volume goes on without it"));
  }
  out->add_actions(absl::StrCat("look at the disk, the load and the network of replica ", name));
}

// Known when it was last connected; while it may come back, that is what writes go by.
void ExplainFull(const engine::TargetView& target, v1::ExplainResponse* out) {
  const std::string& name = target.config.replica;
  out->add_facts(absl::StrCat("replica ", name, " has no space left: until it has, every write is "
                              "answered with ENOSPC; reads, flushes and discards go on"));
  out->add_next(absl::StrCat("writes succeed again by themselves once replica ", name, " has space"));
  out->add_actions(absl::StrCat("free or add space on the disks of replica ", name,
                                ", or discard blocks that are not needed (fstrim)"));
}

// What one target adds to the explanation.
void ExplainTarget(const engine::TargetView& target, const HostOptions& options,
                   engine::Time now, v1::ExplainResponse* out) {
  const std::string name = target.config.replica;
  const absl::Duration since = absl::Trunc(now - target.since, absl::Seconds(1));
  const std::string because =
      target.reason.empty() ? "" : absl::StrCat(": ", target.reason);
  if (target.space_exhausted &&
      (target.health == Health::kConnected || target.health == Health::kConnecting)) {
    ExplainFull(target, out);
  }
  if (target.joining) return ExplainJoining(target, out);
  switch (target.health) {
    case Health::kConnected:
      if (target.requeues > 0) {
        out->add_facts(absl::StrCat("replica ", name, " has answered 'requeue' ",
                                    target.requeues, " times since attach"));
      }
      if (target.errors > 0) {
        out->add_facts(absl::StrCat("replica ", name, " has answered ",
                                    target.errors, " errors since attach"));
      }
      if (target.slow) ExplainSlow(target, options, out);
      if (target.repaired_blocks + target.damaged_blocks > 0) {
        out->add_facts(absl::StrCat("damaged blocks were found on replica ", name, ": ",
                                    target.repaired_blocks, " were written anew from others, ",
                                    target.damaged_blocks, " are still to be"));
        out->add_actions(absl::StrCat("look at the disk of replica ", name,
                                      ", and replace it if the number grows"));
      }
      if (target.lost_versions > 0) {
        out->add_facts(absl::StrCat("replica ", name, " was brought back without ", target.lost_versions,
                                    " versions of blocks, which no member could read any more: reads of these fail"));
        out->add_actions("weirctl scrub VOLUME --wait says which; write these blocks anew, from a backup");
      }
      if (!target.flush_supported) {
        out->add_facts(absl::StrCat("replica ", name,
                                    " cannot flush, so FLUSH fails with "
                                    "EOPNOTSUPP on the whole volume"));
        out->add_actions(absl::StrCat("replace replica ", name,
                                      " by one whose store can flush"));
      }
      return;
    case Health::kConnecting:
      out->add_facts(absl::StrCat("replica ", name, " at ", target.config.address,
                                  " is not connected since ", absl::FormatDuration(since),
                                  because));
      out->add_next(absl::StrCat("connecting to replica ", name, " is tried again every moment; ",
                                 UnlessItComes(target, options, now)));
      out->add_actions(absl::StrCat("start replica ", name, ", or mend the network to ",
                                    target.config.address));
      return;
    case Health::kFailed:
      out->add_facts(absl::StrCat("replica ", name, " failed ", absl::FormatDuration(since),
                                  " ago", because));
      if (target.leaving) {
        out->add_next(absl::StrCat("replica ", name, " leaves as soon as the catalog says so, "
                                   "and is then brought back"));
        return;
      }
      out->add_next(absl::StrCat(
          "too few others are good for it to leave: requests that need replica ", name,
          " are held while one of those that are out may come back, else they fail until the "
          "next attach"));
      out->add_actions(absl::StrCat(
          "mend replica ", name, ", then detach the volume (with force) and attach it again"));
      return;
    case Health::kOut:
      ExplainOut(target, now, because, out);
      return;
  }
}

const char* WhatIsAwaited(engine::HoldReason reason) {
  switch (reason) {
    case engine::HoldReason::kSuspended:
      return "the volume is suspended";
    case engine::HoldReason::kBarrier:
      return "a barrier comes first";
    case engine::HoldReason::kLocked:
      return "blocks are being copied from the parent";
    case engine::HoldReason::kCatalog:
      return "the catalog has yet to say who is in sync";
    case engine::HoldReason::kTooFewMembers:
      return "fewer than min_in_sync replicas are in sync";
    case engine::HoldReason::kMemberAway:
      return "a replica that is needed is not connected";
    case engine::HoldReason::kRequeue:
      return "a replica that is needed has asked to come again later";
    case engine::HoldReason::kMemberBusy:
      return "a replica that is needed has as much unanswered as it takes";
    case engine::HoldReason::kReplayFull:
      return "the replay buffer is full until more is durable on every replica";
    case engine::HoldReason::kBacklog:
      return "the frontend has as many under way as it takes";
    case engine::HoldReason::kParentAway:
      return "no replica can be asked that has what the clone reads from its parent";
  }
  return "for a reason that has no name";
}

void ExplainRestoring(const v1::VolumeRecord& record, v1::ExplainResponse* out) {
  if (record.restoring().empty()) return;
  const std::string snapshot = absl::StrCat(record.name(), "@", record.restoring());
  out->add_facts(absl::StrCat("it is being given the content of ", snapshot, ", and has some of it; clients are kept away "
                              "until that is done"));
  out->add_actions(absl::StrCat("unless it is under way, do it again, all of it: weirctl volume restore ", snapshot, "; or another snapshot instead"));
}

void ExplainDetached(const v1::VolumeRecord& record, bool attaching, bool elsewhere,
                     v1::ExplainResponse* out) {
  const std::string& name = record.name();
  if (attaching) {
    out->set_summary(absl::StrCat("volume ", name, " is being attached"));
    out->add_facts(absl::StrCat("epoch ", record.epoch(),
                                " has been taken; every in_sync replica must "
                                "promise it and be made equal, or is given up"));
    out->add_next("it is served when that is done, or the attach fails and says why");
    return;
  }
  if (elsewhere) {
    out->set_summary(absl::StrCat("volume ", name, " is attached at ", WhereItIs(record),
                                  ", not here"));
    ExplainRestoring(record, out);
    if (!record.restoring().empty()) return;
    out->add_actions("ask that frontend; or attach it here, which takes it over: every request there "
                     "fails with ESTALE from then on");
    return;
  }
  if (record.behind()) {
    out->set_summary(std::string(RefuseBehind(record).message()));
    return;
  }
  switch (record.state()) {
    case v1::VolumeRecord::CREATING:
      out->set_summary(
          absl::StrCat("the creation of volume ", name, " was interrupted"));
      out->add_actions("create it again with the same size, or delete it");
      return;
    case v1::VolumeRecord::DELETING:
      out->set_summary(
          absl::StrCat("the deletion of volume ", name, " was interrupted"));
      out->add_actions("start all of its replicas, then delete it again; one that is gone for good is forgotten first: weirctl replica forget NAME");
      return;
    case v1::VolumeRecord::DETACHED:
      out->set_summary(absl::StrCat("volume ", name,
                                    " is detached: it was flushed and let go"));
      break;
    default:
      out->set_summary(absl::StrCat(
          "volume ", name, " is not attached, and was not detached cleanly"));
      out->add_next("the next attach makes its replicas equal first");
      break;
  }
  ExplainRestoring(record, out);
  if (!record.restoring().empty()) return;
  out->add_actions("attach it; opening it over NBD does that too");
}

void ExplainFenced(const v1::VolumeRecord& record, bool elsewhere, v1::ExplainResponse* out) {
  out->set_summary(absl::StrCat("volume ", record.name(), " was taken over by ",
                                elsewhere ? WhereItIs(record) : "another frontend",
                                "; every request here fails with ESTALE"));
  out->add_actions("use the other frontend, or attach here again to take "
                   "the volume back");
}

}  // namespace

v1::Volume DescribeVolume(const v1::VolumeRecord& record,
                          const engine::EngineView* view, bool flush_supported,
                          bool attaching, bool elsewhere) {
  v1::Volume volume;
  volume.set_name(record.name());
  volume.set_id(record.id());
  volume.set_size_bytes(record.size_bytes());
  volume.set_lanes(record.lanes());
  volume.set_stripe_bytes(record.stripe_blocks() * kBlockBytes);
  volume.set_min_in_sync(record.min_in_sync());
  if (record.has_hold_deadline_s()) volume.set_hold_deadline_s(record.hold_deadline_s());
  volume.set_epoch(record.epoch());
  volume.set_intact_since(record.intact_since());
  for (const v1::SnapshotRecord& snapshot : record.snapshots()) {
    if (!snapshot.of_clone()) volume.add_snapshots(snapshot.name());
  }
  if (record.has_parent()) {
    volume.set_parent(absl::StrCat(record.parent().volume(), "@", record.parent().snapshot()));
  }
  *volume.mutable_attributes() = record.attributes();
  volume.set_state(StateName(record, view, attaching, elsewhere));
  if (record.state() != v1::VolumeRecord::DETACHED) {
    volume.set_frontend(record.frontend());
    volume.set_frontend_address(record.frontend_address());
  }
  if (view == nullptr || view->targets.empty()) {
    for (const v1::Member& member : record.members()) {
      v1::Target* target = volume.mutable_table()->add_targets();
      target->set_replica(member.replica());
      target->set_address(member.address());
      target->set_store_id(member.store_id());
      target->set_state(StateOf(member.in_sync(), member.stays_out()));
      target->set_health("detached");
    }
    return volume;
  }
  volume.set_flush_supported(flush_supported);
  for (const engine::TargetView& target : view->targets) {
    if (!target.config.gone) DescribeTarget(target, volume.mutable_table()->add_targets());
  }
  v1::VolumeActivity* activity = volume.mutable_activity();
  activity->set_queued_requests(view->queued_requests);
  activity->set_inflight_requests(view->inflight_requests);
  activity->set_replay_buffer_bytes(view->replay_bytes);
  activity->set_barrier_running(view->barrier_running);
  AddPositions(view->completed, activity->mutable_completed());
  AddPositions(view->durable, activity->mutable_durable());
  return volume;
}

v1::ExplainResponse ExplainVolume(const v1::VolumeRecord& record,
                                  const engine::EngineView* view,
                                  bool flush_supported, bool attaching,
                                  bool elsewhere, const HostOptions& of_frontend,
                                  engine::Time now) {
  HostOptions options = of_frontend;  // as they are for this volume
  options.hold_deadline = HoldDeadlineOf(record, options.hold_deadline);
  v1::ExplainResponse out;
  if (view == nullptr) {
    ExplainDetached(record, attaching, elsewhere, &out);
    return out;
  }
  if (elsewhere || view->state == State::kFenced) {
    ExplainFenced(record, elsewhere, &out);
    return out;
  }
  size_t well = 0, members = 0;
  size_t places = 0;
  for (const engine::TargetView& target : view->targets) {
    if (target.config.gone) continue;
    // Whoever is to go is one too many once the other one is there.
    if (target.config.succeeds.empty()) {
      ++places;
    } else {
      out.add_next(absl::StrCat("once replica ", target.config.replica, " is in sync, ",
                                target.config.succeeds, " leaves for good"));
    }
    if (target.config.state == engine::TargetState::kInSync) ++members;
    if (target.health == Health::kConnected && !target.joining) ++well;
    ExplainTarget(target, options, now, &out);
  }
  const std::string name = absl::StrCat("volume ", record.name());
  switch (view->state) {
    case State::kFenced:
      break;  // above
    case State::kSuspended:
      out.set_summary(absl::StrCat(name, " is suspended; ",
                                   view->queued_requests, " requests wait"));
      if (record.restoring().empty()) out.add_actions("resume it");
      break;
    case State::kRestoring:
      out.set_summary(absl::StrCat(name, " is suspended, and is being restored; ", view->queued_requests,
                                   " requests wait until it is resumed"));
      break;
    case State::kSuspending:
      out.set_summary(absl::StrCat(name, " is being suspended: waiting for ",
                                   view->inflight_requests, " requests"));
      out.add_next("the suspend is undone at its deadline");
      break;
    case State::kCommitting:
      out.set_summary(absl::StrCat(name, " waits for the catalog to store its "
                                   "new members"));
      break;
    case State::kActive:
      out.set_summary(
          view->held
              ? absl::StrCat(name, " is held: ", members, " replicas are in sync, it needs ",
                             record.min_in_sync(), "; requests wait")
          : well < members
              ? absl::StrCat(name, " is active and waits: ", well, " of ",
                             members, " replicas in sync are connected")
          : members < places
              ? absl::StrCat(name, " is active, degraded: ", members, " of ", places,
                             " replicas are in sync")
              : absl::StrCat(name, " is active, all ", members,
                             " replicas are connected"));
      break;
  }
  if (view->barrier_running) {
    out.add_facts("a barrier runs; requests behind it wait in order");
  }
  if (view->queued_requests + view->inflight_requests > 0) {
    out.add_facts(absl::StrCat(view->queued_requests, " requests are queued, ",
                               view->inflight_requests, " under way"));
  }
  if (view->replay_bytes >= options.replay_bytes_max) {
    out.add_facts(absl::StrCat(
        "the replay buffer is full (", FormatSize(view->replay_bytes),
        "): new writes wait until every replica has flushed"));
    out.add_actions("find the slowest replica in "
                    "weir_volume_clone_duration_seconds");
  }
  ExplainRestoring(record, &out);
  ExplainScrub(view->scrub, now, &out);
  for (const v1::FormerMember& former : record.former()) {
    out.add_facts(absl::StrCat("replica ", former.replica(), " is no member (any more), and its store ",
                               former.store_id(), " may still have a copy"));
    out.add_next(absl::StrCat("that is deleted once all members are in sync and replica ",
                              former.replica(), " answers"));
  }
  if (!flush_supported) {
    out.add_facts("at attach a replica could not flush: FLUSH fails with "
                  "EOPNOTSUPP");
  }
  return out;
}

void ExplainStats(const engine::Stats& stats, engine::Time now, v1::ExplainResponse* out) {
  for (size_t i = 0; i < stats.held.size(); ++i) {
    if (stats.held[i] == 0) continue;
    out->add_facts(absl::StrCat(stats.held[i], stats.held[i] == 1 ? " request waits: " : " requests wait: ",
                                WhatIsAwaited(engine::HoldReason{static_cast<int>(i)})));
  }
  if (!stats.durable_until) {
    out->add_facts("all that was answered is on stable storage of every replica in sync");
  } else {
    out->add_facts(absl::StrCat("all that was answered more than ",
                                absl::FormatDuration(absl::Trunc(now - *stats.durable_until, absl::Milliseconds(1))),
                                " ago is on stable storage of every replica in sync; ",
                                FormatSize(stats.not_durable_bytes), " of later data may not be"));
  }
  for (const auto& [replica, errors] : stats.hidden_errors) {
    if (errors == 0) continue;
    out->add_facts(absl::StrCat("replica ", replica, " has answered ", errors,
                                " errors to flushes that ended otherwise, by precedence or without it"));
    out->add_actions(absl::StrCat("look at the log and the disk of replica ", replica));
  }
}

void ExplainDisks(const v1::GetReplicaResponse& member, v1::ExplainResponse* out) {
  for (const v1::DataDir& dir : member.data_dirs()) {
    const bool suspicious = dir.disk().verdict() == v1::DiskTruth::SUSPICIOUS;
    if (!suspicious && dir.disk().verdict() != v1::DiskTruth::NOT_DURABLE) continue;
    out->add_facts(absl::StrCat("what replica ", member.name(), " has flushed to ", dir.path(),
                                suspicious ? " may not survive a power cut" : " does not survive a power cut",
                                dir.disk().reasons().empty() ? "" : ": " + dir.disk().reasons(0)));
    out->add_actions(absl::StrCat("run `weir-replica probe ", dir.path(), "` at replica ", member.name(),
                                  ", and put its store on a disk that keeps what is flushed"));
  }
}

}  // namespace weir::host
