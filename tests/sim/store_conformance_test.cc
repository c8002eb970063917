// Holds ModelStore and the real store against each other: the same random calls on both, every answer compared.
//
// Two replicas, a and b, of one volume, each on both kinds of store. They write, fall behind, part, level and join.
// What one tells the other goes into both kinds as the real store told it.
//
// What may differ:
//  D1 Zeros over zeros: the model leaves a version in every block that is zeroed, the real store only where something
//     is to be hidden. So a block that reads as zeros may lack its version there, or have an older one; with
//     WriteOp::overlay, which of the blocks have none at all is the same. And in a block that is copied in the real
//     store keeps zeros that its source lacks, if they are on the history; the model has what the source has.
//  D2 How much a page covers, and how it is cut into ranges: pages are read to the end, and compared as blocks.
//  D3 The real store syncs more: a promise and a kept record sync domain 0, one sync of a Write call comes after all of
//     its ops, and reclaim syncs when it wants to. So it may be durable further than the model, never less.
//  D4 Where versions are reclaimed, either may have more of them than what is the newest, or what a pin needs. So may the
//     real store in a block that is copied in: it keeps what is on the history, where the model has what the source has.
//  D5 The model knows no checksums: those of the real store are held against the data.
//  D6 WriteResult::lane_position of an op that was not applied now: the real store tells it as of the end of the call,
//     and of a duplicate its own position, which is lower.
//  D7 Of a lane that is not where it is said to be and of another with marked blocks TakeBase may name either first.
//  D8 Where all of its disks fail, the real store's mark that it has failed is on none of them: it may start again, with
//     all that was synced.
//  D9 A lane that gives up a base which had been synced for a tail that ends below it: it is durable at the base until the
//     next sync, and the real store may have had that (D3). After a start before that the real store says where the tail began.
// Arguments that no caller gives, and the model does not check, are not tried. Nor are space, damage and misdirection.
#include <cerrno>

#include "tests/sim/conformance.h"

namespace weir::sim {

void Conformance::Run() {
  for (step_ = 0; step_ < kSteps && !::testing::Test::HasFailure(); ++step_) {
    Pair& pair = pairs_[dice_.Below(2)];
    Step(pair);
    CompareState(pair);
    if (step_ % 16 == 0) CompareAll(pair);
  }
  for (Pair& pair : pairs_) {
    if (::testing::Test::HasFailure()) return;
    CompareAll(pair);
    if (cut_dirty_) {
      CutDirty(pair);
    } else {
      CutClean(pair);
      FailSync(pair);
    }
  }
}

void Conformance::Step(Pair& pair) {
  Pair& other = &pair == &pairs_[0] ? pairs_[1] : pairs_[0];
  const uint64_t at = dice_.Below(1000);
  const LaneId lane = AnyLane();
  const Position to = dice_.Percent(90) ? At(pair, lane) : AnyPosition(pair, lane, At(pair, lane));
  const uint64_t pin = pair.pins.empty() || dice_.Percent(5) ? 77777 : pair.pins[dice_.Below(pair.pins.size())].id;
  store::Tail tail;
  store::VersionsPart part;
  if (at < 380) return Write(pair);
  if (at < 420) return Flush(pair, static_cast<uint32_t>(dice_.Below(domains_)));
  if (at < 470) return Read(pair, AnyRange(pair));
  if (at < 500) return Extents(pair, AnyRange(pair));
  if (at < 530) return ReadPinned(pair, pin, AnyRange(pair));
  if (at < 550) return ChangedSince(pair, pin, lane);
  if (at < 580) return Changes(pair, lane, AnyPosition(pair, lane, to), to);
  if (at < 600) return void(Tail(pair, lane, AnyPosition(pair, lane, to), to, &tail));
  if (at < 620) return Digests(pair, lane, to);
  if (at < 640) return void(VersionsOf(pair, lane, {{0, SizeOf(pair)}}, to, &part));
  if (at < 650) return Promise(pair);
  if (at < 690) return TakeBase(pair);
  if (at < 720) return Update(pair);
  if (at < 735) return KeepRecord(pair);
  if (at < 775) return DurablePoints(pair);
  if (at < 780) return Restart(pair);
  if (at < 784) return CutClean(pair);
  if (at < 787) return Recreate(pair);
  if (at < 830) return Adopt(other, pair);
  if (at < 870) return BeginJoin(other, pair);
  if (at < 950) return Copy(other, pair);
  if (at < 970) return Repair(other, pair);
  return FinishJoin(pair);
}

// --- writing ---

const Logged& Conformance::LogAt(Pair& pair, LaneId lane, Position position) {
  const auto [it, added] = log_.try_emplace({lane, position});
  Logged& write = it->second;
  if (!added) return write;
  do {
    write.range.first = dice_.Below(SizeOf(pair));
  } while (LaneOf(write.range.first) != lane);
  const uint64_t stripe = geometry_.lanes.stripe_blocks;
  const uint64_t room = std::min(stripe - write.range.first % stripe, SizeOf(pair) - write.range.first);
  write.range.count = 1 + dice_.Below(room);
  const uint64_t kind = dice_.Below(100);
  if (kind >= 55) write.kind = kind < 80 ? store::WriteKind::kWriteZeroes : store::WriteKind::kDiscard;
  if (kind >= 55) return write;
  for (uint64_t i = 0; i < write.range.count; ++i) write.data += Data(++value_);
  write.crcs = BlockChecksums(write.data);
  return write;
}

void Conformance::Write(Pair& pair) {
  std::vector<store::WriteOp> ops(cut_dirty_ ? 1 : 1 + dice_.Below(4));
  std::vector<Position> next(lanes()), before;
  for (uint32_t i = 0; i < lanes(); ++i) next[i] = pair.model->position(i);
  before = next;
  std::string said = "Write";
  for (store::WriteOp& op : ops) {
    op.lane = AnyLane();
    Position& at = next[Index(op.lane)];
    const uint64_t kind = dice_.Below(100);
    op.position = at.Next();
    if (kind < 5) op.position = Position(at.epoch(), at.n() + 2 + dice_.Below(2));
    if (kind >= 5 && kind < 12 && at.n() > 0) op.position = Position(at.epoch(), 1 + dice_.Below(at.n()));
    if (kind >= 12 && kind < 15) op.position = Position(at.epoch() + 1, at.n() + 1);
    const Logged& write = LogAt(pair, op.lane, op.position);
    op.kind = write.kind;
    op.range = write.range;
    op.data = write.data;
    op.crcs = write.crcs;
    op.fua = dice_.Percent(10);
    op.overlay = overlay_;
    if (op.position == at.Next() && op.range.end() <= SizeOf(pair)) at = op.position;
    absl::StrAppend(&said, " ", Index(op.lane), "@", op.position.ToString(), " ", op.range.first, "+", op.range.count,
                    op.kind == store::WriteKind::kWrite ? " data" : " zeros", op.fua ? " FUA" : "");
  }
  Say(pair, said);
  CompareWrite(pair, ops, before);
}

void Conformance::CompareWrite(Pair& pair, const std::vector<store::WriteOp>& ops,
                               const std::vector<Position>& before) {
  const std::vector<store::WriteResult> model = pair.m().Write(kVolume, ops);
  const std::vector<store::WriteResult> real = pair.r().Write(kVolume, ops);
  std::vector<Position> reached = before;  // by the ops up to this one
  for (size_t i = 0; i < ops.size(); ++i) {
    const uint32_t lane = Index(ops[i].lane);
    const bool ok = Ok(model[i].status, real[i].status);
    if (StatusToErrno(model[i].status) == EINVAL) continue;  // the lane is not looked at
    const bool applied = ok && ops[i].position > reached[lane];
    if (applied) reached[lane] = ops[i].position;
    const Position end = pair.model->position(lane);
    if (applied) {
      EqualPositions(model[i].lane_position, real[i].lane_position, "lane_position");
    } else if (real[i].lane_position > end || (ok ? real[i].lane_position < ops[i].position
                                                  : real[i].lane_position < model[i].lane_position)) {
      Differ("lane_position of an op that was not applied");  // D6
    }
    if (ok && ops[i].fua && (model[i].durable_position < ops[i].position ||
                             real[i].durable_position < ops[i].position)) {
      Differ("FUA, and not durable");
    }
    if (!WentBack(pair, ops[i].lane) && real[i].durable_position > end) Differ("durable_position");
    if (ok && ops[i].range.count > 0 && applied) pair.act_epoch = std::max(pair.act_epoch, ops[i].position.epoch());
    Changed(pair, ops[i].lane);
    if (!ok || !ops[i].fua) continue;
    Synced(pair, lane % domains_);
    if (ops.size() > 1) pair.syncs_more = true;  // D3
  }
}

void Conformance::Flush(Pair& pair, uint32_t domain) {
  Say(pair, absl::StrCat("Flush ", domain));
  const auto model = pair.m().Flush(kVolume, domain);
  const auto real = pair.r().Flush(kVolume, domain);
  const bool ok = Ok(model.status(), real.status());
  for (size_t i = 0; ok && i < std::max(model->size(), real->size()); ++i) {
    if (model->size() != real->size() || (*model)[i].first != (*real)[i].first) return Differ("lanes of a flush");
    EqualPositions((*model)[i].second, (*real)[i].second, "durable position");
    pair.given_up.erase((*model)[i].first);
  }
  Synced(pair, domain);
}

void Conformance::Promise(Pair& pair) {
  const Epoch now = pair.model->promised();
  const Epoch epoch = dice_.Percent(30) ? ++epoch_ : dice_.Percent(50) && now > 0 ? now - 1 : now;
  Say(pair, absl::StrCat("Promise ", epoch));
  Ok(pair.m().Promise(kVolume, epoch), pair.r().Promise(kVolume, epoch));
  pair.syncs_more = true;
}

void Conformance::TakeBase(Pair& pair) {
  Pair& other = &pair == &pairs_[0] ? pairs_[1] : pairs_[0];
  const bool stale = dice_.Percent(5) && epoch_ > 1;
  const Epoch epoch = stale ? 1 + dice_.Below(epoch_) : ++epoch_;
  const LaneId wrong = dice_.Percent(10) ? AnyLane() : LaneId{lanes()};
  bool same = !stale && Index(wrong) == lanes() && Whole(other);
  std::vector<std::pair<LaneId, Position>> expected;
  for (uint32_t i = 0; i < lanes(); ++i) {
    expected.emplace_back(LaneId{i}, At(pair, LaneId{i}));
    if (LaneId{i} == wrong) expected.back().second = expected.back().second.Next();
    same = same && At(pair, LaneId{i}) == At(other, LaneId{i}) && pair.model->lineage(i) == other.model->lineage(i);
  }
  // A stale epoch must not become another history's name for the same positions.
  if (stale && epoch >= pair.model->promised()) return;
  for (Pair* taker : {&pair, &other}) {
    if (taker == &other && !same) break;
    Say(*taker, absl::StrCat("TakeBase ", epoch, " act ", pair.act_epoch, same ? " both" : ""));
    const bool whole = Whole(*taker);
    const absl::Status model = taker->m().TakeBase(kVolume, epoch, pair.act_epoch, expected);
    const absl::Status real = taker->r().TakeBase(kVolume, epoch, pair.act_epoch, expected);
    if (!whole && Index(wrong) < lanes() && !model.ok() && !real.ok()) continue;  // D7
    if (Ok(model, real)) SyncedAll(*taker);
  }
}

// --- what changes rarely ---

void Conformance::Update(Pair& pair) {
  store::VolumeUpdate update{.version = pair.version + 1, .size_blocks = SizeOf(pair), .pins = pair.pins};
  if (dice_.Percent(10) && pair.version > 0) update.version = pair.version - 1;
  if (dice_.Percent(20)) update.size_blocks += 1 + dice_.Below(6);
  if (dice_.Percent(10)) update.size_blocks /= 2;
  if (pins_ && dice_.Percent(60) && update.pins.size() < 4) {
    Pin pin{.id = ++pin_id_, .positions = {}};
    for (uint32_t i = 0; i < lanes(); ++i) {
      const Position at = At(pair, LaneId{i});
      pin.positions.push_back(Position(at.epoch(), at.n() + (dice_.Percent(15) ? 2 : 0)));
    }
    update.pins.push_back(pin);
  } else if (!update.pins.empty()) {
    update.pins.erase(update.pins.begin() + static_cast<ptrdiff_t>(dice_.Below(update.pins.size())));
  }
  Say(pair, absl::StrCat("UpdateVolume ", update.version, " blocks ", update.size_blocks, " pins ", update.pins.size()));
  if (Ok(pair.m().UpdateVolume(kVolume, update), pair.r().UpdateVolume(kVolume, update))) {
    pair.version = update.version;
    pair.pins = update.pins;
    SyncedAll(pair);
    if (pins_ && dice_.Percent(5)) MissPin(pair);
  }
  pair.reclaims = pair.reclaims || pins_;
}

// Told of a pin that the lanes have come past, and then that it has gone: what is left is that no change is known.
void Conformance::MissPin(Pair& pair) {
  Pin pin{.id = ++pin_id_, .positions = {}};
  for (uint32_t i = 0; i < lanes(); ++i) {
    const Position at = At(pair, LaneId{i});
    pin.positions.push_back(Position(at.epoch(), at.n() - std::min<uint64_t>(at.n(), dice_.Below(3))));
  }
  for (const bool there : {true, false}) {
    store::VolumeUpdate update{.version = ++pair.version, .size_blocks = SizeOf(pair), .pins = pair.pins};
    if (there) update.pins.push_back(pin);
    Say(pair, absl::StrCat("UpdateVolume ", update.version, there ? " with" : " without", " missed pin ", pin.id));
    Ok(pair.m().UpdateVolume(kVolume, update), pair.r().UpdateVolume(kVolume, update));
  }
}

void Conformance::KeepRecord(Pair& pair) {
  store::RecordCopy copy{.epoch = static_cast<Epoch>(dice_.Below(3)), .revision = dice_.Below(9), .record = ""};
  copy.record = absl::StrCat("record ", ++revision_);
  Say(pair, absl::StrCat("KeepRecord ", copy.epoch, " ", copy.revision));
  Ok(pair.m().KeepRecord(kVolume, copy), pair.r().KeepRecord(kVolume, copy));
  pair.syncs_more = true;
}

// Flushed at once, as the model takes them for synced; and the model trims what the real store says no more from now on.
void Conformance::DurablePoints(Pair& pair) {
  if (!reclaims_) return;
  for (uint32_t i = 0; i < lanes(); ++i) {
    if (WentBack(pair, LaneId{i})) return;
  }
  std::vector<std::pair<LaneId, Position>> points, keep;
  for (uint32_t i = 0; i < lanes(); ++i) {
    points.emplace_back(LaneId{i}, pair.model->durable(i));
    const Position after = AnyPosition(pair, LaneId{i}, points.back().second);
    if (dice_.Percent(40)) keep.emplace_back(LaneId{i}, after);
  }
  Say(pair, absl::StrCat("KeepChanges ", keep.size()));
  Ok(pair.m().KeepChanges(kVolume, keep), pair.r().KeepChanges(kVolume, keep));
  Say(pair, "NoteDurablePoints");
  Ok(pair.m().NoteDurablePoints(kVolume, points), pair.r().NoteDurablePoints(kVolume, points));
  FlushAll(pair);
  pair.model->Reclaim(dice_);
  pair.syncs_more = true;
}

void Conformance::Recreate(Pair& pair) {
  Say(pair, "DeleteVolume");
  Ok(pair.m().DeleteVolume(kVolume), pair.r().DeleteVolume(kVolume));
  Equal(pair.m().Volumes(), pair.r().Volumes(), "volumes");
  Ok(pair.m().GetVolume(kVolume).status(), pair.r().GetVolume(kVolume).status());
  Ok(pair.m().GetRecord(kVolume).status(), pair.r().GetRecord(kVolume).status());
  Ok(pair.m().Read(kVolume, {0, 1}).status(), pair.r().Read(kVolume, {0, 1}).status());
  Ok(pair.m().Promise(kVolume, 1), pair.r().Promise(kVolume, 1));
  Ok(pair.m().Flush(kVolume, 0).status(), pair.r().Flush(kVolume, 0).status());
  Ok(pair.m().UpdateVolume(kVolume, {}), pair.r().UpdateVolume(kVolume, {}));
  Ok(pair.m().CreateVolume(kVolume, geometry_), pair.r().CreateVolume(kVolume, geometry_));
  Ok(pair.m().CreateVolume(kVolume, geometry_), pair.r().CreateVolume(kVolume, geometry_));
  pair.act_epoch = 0;
  pair.version = 0;
  pair.given_up.clear();
  pair.pins.clear();
  SyncedAll(pair);
  CompareAll(pair);
}

void Conformance::Restart(Pair& pair) {
  Say(pair, "Restart");
  for (ReplicaStore* store : {pair.model.get(), pair.real.get()}) {
    const store::Identity before = store->store().identity();
    store->Restart();
    const store::Identity after = store->store().identity();
    if (after.generation <= before.generation || after.incarnation == before.incarnation ||
        after.store_id != before.store_id) {
      Differ("identity after a restart");
    }
  }
  pair.version = 0;
  pair.syncs_more = true;  // a start may sync
  CompareAll(pair);
}

// --- power cuts, and the end ---

// All is synced: both have the same again.
void Conformance::CutClean(Pair& pair) {
  FlushAll(pair);
  Say(pair, "CutPower");
  for (ReplicaStore* store : {pair.model.get(), pair.real.get()}) store->CutPower(dice_);
  Restart(pair);
}

// Each domain of either is what it was after some call, and has what was durable.
void Conformance::CutDirty(Pair& pair) {
  Say(pair, "CutPower with unsynced writes");
  for (ReplicaStore* store : {pair.model.get(), pair.real.get()}) {
    const char* name = store == pair.model.get() ? "the model" : "the real store";
    const store::VolumeState before = *store->store().GetVolume(kVolume);
    store->CutPower(dice_);
    store->Restart();
    Equal(before.promised_epoch, store->promised(), "promised epoch after a cut");
    Equal(before.pins, store->store().GetVolume(kVolume)->pins, "pins after a cut");
    for (uint32_t d = 0; d < domains_; ++d) {
      const std::vector<std::string>& states = pair.states[d];
      const std::string now = StateOf(store->store(), d);
      const auto last = std::find(states.rbegin(), states.rend(), now);
      if (last == states.rend()) {
        Differ(absl::StrCat("domain ", d, " of ", name, " is no prefix: ", now, "\nit was\n  ",
                            absl::StrJoin(states, "\n  ")));
        continue;
      }
      for (const store::LaneState& lane : before.lanes) {
        if (lane.domain != d || WentBack(pair, lane.lane)) continue;
        const std::string durable = absl::StrCat("lane ", Index(lane.lane), " at ", lane.durable_position.ToString(), ";");
        const auto first = std::find_if(states.begin(), states.end(), [&](const std::string& state) {
          return state.find(durable) != std::string::npos;
        });
        if (first > last.base() - 1) Differ(absl::StrCat(name, " has lost what was durable: ", durable));
      }
    }
  }
}

void Conformance::FailSync(Pair& pair) {
  const auto domain = static_cast<uint32_t>(dice_.Below(domains_));
  Say(pair, absl::StrCat("FailNextSync ", domain));
  pair.model->FailNextSync(domain);
  pair.real->FailNextSync(domain);
  // Where nothing is to be synced the real store does not.
  store::WriteOp op;
  op.kind = store::WriteKind::kDiscard;
  op.lane = LaneId{domain};
  op.range = {domain * geometry_.lanes.stripe_blocks, 1};
  op.position = At(pair, op.lane).Next();
  op.overlay = overlay_;
  Ok(pair.m().Write(kVolume, {&op, 1})[0].status, pair.r().Write(kVolume, {&op, 1})[0].status);
  // D8
  for (uint32_t start = 0; start < domains_ && start < 2; ++start) {
    Flush(pair, domain);
    Ok(pair.m().health(), pair.r().health());
    Ok(pair.m().Read(kVolume, {0, 1}).status(), pair.r().Read(kVolume, {0, 1}).status());
    Ok(pair.m().Promise(kVolume, epoch_ + 1), pair.r().Promise(kVolume, epoch_ + 1));
    Ok(pair.m().TakeBase(kVolume, epoch_ + 1, 0, {}), pair.r().TakeBase(kVolume, epoch_ + 1, 0, {}));
    if (start == 0) {
      pair.model->Restart();
      pair.real->Restart();
    }
  }
}

// --- levelling and joins ---

void Conformance::Adopt(Pair& source, Pair& target) {
  if (!joins_ || !Whole(source)) return;
  const LaneId lane = AnyLane();
  const Position at = At(target, lane), to = At(source, lane);
  Position from;
  const store::VolumeState ours = *source.m().GetVolume(kVolume), theirs = *target.m().GetVolume(kVolume);
  if (!store::testing::CommonPoint(ours.lanes[Index(lane)], theirs.lanes[Index(lane)], &from)) return;
  store::Tail tail;
  if (!Tail(source, lane, from, to, &tail)) return;
  tail.expected = dice_.Percent(10) ? at.Next() : at;
  Say(target, absl::StrCat("AdoptTail lane ", Index(lane), " ", from.ToString(), " to ", to.ToString(), " at ", at.ToString()));
  if (!Ok(target.m().AdoptTail(kVolume, tail), target.r().AdoptTail(kVolume, tail))) return;
  target.act_epoch = std::max(target.act_epoch, source.act_epoch);
  target.syncs_more = true;
  Changed(target, lane);
  if (At(target, lane) >= at) return;
  target.given_up[lane] = at;
  if (dice_.Percent(30)) Restart(target);
}

void Conformance::BeginJoin(Pair& source, Pair& target) {
  if (!joins_ || !Whole(source)) return;
  for (uint32_t i = 0; i < lanes(); ++i) {
    if (At(source, LaneId{i}) < At(target, LaneId{i})) return;
  }
  const store::VolumeUpdate update{.version = ++target.version, .size_blocks = SizeOf(source), .pins = target.pins};
  Say(target, absl::StrCat("UpdateVolume blocks ", update.size_blocks));
  if (!Ok(target.m().UpdateVolume(kVolume, update), target.r().UpdateVolume(kVolume, update))) return;
  SyncedAll(target);
  target.act_epoch = std::max(target.act_epoch, source.act_epoch);
  ++join_id_;
  for (uint32_t i = 0; i < lanes(); ++i) {
    const bool everything = dice_.Percent(20);
    Say(source, "PlanJoin");
    const auto model = store::testing::PlanJoin(&source.m(), &target.m(), kVolume, LaneId{i}, join_id_, everything);
    const auto real = store::testing::PlanJoin(&source.r(), &target.r(), kVolume, LaneId{i}, join_id_, everything);
    if (!Ok(model.status(), real.status())) return;
    Equal(model->everything, real->everything, "everything");
    Equal(BlocksOf(model->changes, LaneId{i}), BlocksOf(real->changes, LaneId{i}), "changes of a join");
    store::JoinLane join = *real;
    const uint64_t block = dice_.Below(SizeOf(target));
    if (LaneOf(block) == LaneId{i} && dice_.Percent(20)) join.invalid.push_back({block, 1});
    if (dice_.Percent(5) && join.expected < join.to) join.expected = join.expected.Next();
    Begin(target, join);
    if (dice_.Percent(10)) Begin(target, join);
  }
}

void Conformance::Begin(Pair& target, const store::JoinLane& join) {
  Say(target, absl::StrCat("BeginJoin ", join.join_id, " lane ", Index(join.lane), " to ", join.to.ToString(), " common ",
                           join.common.ToString(), join.everything ? " everything" : ""));
  const absl::Status model = target.m().BeginJoin(kVolume, join);
  if (Ok(model, target.r().BeginJoin(kVolume, join))) Changed(target, join.lane);
  if (!absl::IsOutOfRange(model) || join.everything) return;
  store::JoinLane whole = join;
  whole.everything = true;
  Begin(target, whole);
}

// In parts of any size. D4: what a source that reclaims has overwritten since, it need not have.
void Conformance::Copy(Pair& source, Pair& target) {
  const LaneId lane = AnyLane();
  const auto page = target.r().InvalidBlocks(kVolume, lane, dice_.Percent(20) ? dice_.Below(SizeOf(target)) : 0,
                                             1 + dice_.Below(4));
  if (!page.ok() || (page->ranges.empty() && dice_.Percent(80))) return;
  if (reclaims_ && At(source, lane) != page->to) return;
  store::VersionsPart part;
  std::vector<BlockRange> ranges = page->ranges;
  if (!ranges.empty() && dice_.Percent(50)) ranges.back().count = 1 + dice_.Below(ranges.back().count);
  if (!VersionsOf(source, lane, ranges, page->to, &part)) return;
  store::CopyPart copy{lane, page->join_id, page->to, part.ranges, part.versions};
  if (dice_.Percent(3)) ++copy.join_id;
  Say(target, absl::StrCat("CopyIn ", copy.join_id, " lane ", Index(lane), " from ",
                           ranges.empty() ? 0 : ranges.front().first, " ranges ", ranges.size()));
  if (Ok(target.m().CopyIn(kVolume, copy), target.r().CopyIn(kVolume, copy))) Changed(target, lane);
}

void Conformance::Repair(Pair& source, Pair& target) {
  if (!joins_ || reclaims_ || !Whole(source)) return;
  const LaneId lane = AnyLane();
  store::VersionsPart part;
  if (!VersionsOf(source, lane, {{0, SizeOf(target)}}, At(source, lane), &part)) return;
  const store::CopyPart copy{lane, 0, At(source, lane), part.ranges, part.versions};
  Say(target, absl::StrCat("Repair lane ", Index(lane), " to ", copy.to.ToString()));
  if (Ok(target.m().Repair(kVolume, copy), target.r().Repair(kVolume, copy))) Changed(target, lane);
}

void Conformance::FinishJoin(Pair& pair) {
  const uint64_t id = dice_.Percent(95) ? pair.real->store().GetVolume(kVolume)->lanes[0].join_id : join_id_ + 1;
  Say(pair, absl::StrCat("FinishJoin ", id));
  Ok(pair.m().FinishJoin(kVolume, id), pair.r().FinishJoin(kVolume, id));
}

namespace {

constexpr uint64_t kSeeds = 200;

TEST(StoreConformanceTest, TheModelAnswersAsTheRealStore) {
  for (uint64_t seed = 1; seed <= kSeeds && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(absl::StrCat("seed ", seed));
    Conformance(seed).Run();
  }
}

}  // namespace
}  // namespace weir::sim
