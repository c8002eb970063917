// The host's small parts: timer, work queue, long requests, records.
#include <cerrno>
#include <deque>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "gtest/gtest.h"
#include "volume/host/client_sessions.h"
#include "volume/host/clock.h"
#include "volume/host/explain.h"
#include "volume/host/scrub_status.h"
#include "volume/host/long_request.h"
#include "volume/host/parent_reader.h"
#include "volume/host/submit_gate.h"
#include "volume/host/testing/fake_replica.h"
#include "volume/host/timer.h"
#include "volume/host/volume_record.h"
#include "volume/host/work_queue.h"

namespace weir::host {
namespace {

TEST(TimerTest, RunsInTheOrderOfTimeNotOfCalls) {
  Timer timer;
  std::vector<int> order;
  absl::Notification done;
  const engine::Time now = MonotonicNow();
  // From a closure, so that none of them runs before all are there.
  timer.At(now, [&] {
    timer.At(now + absl::Milliseconds(3), [&] {
      order.push_back(3);
      done.Notify();
    });
    timer.At(now + absl::Milliseconds(1), [&] { order.push_back(1); });
    timer.At(now + absl::Milliseconds(1), [&] { order.push_back(2); });
  });
  done.WaitForNotification();
  EXPECT_EQ(order, (std::vector<int>{1, 2, 3}));
}

TEST(TimerTest, DropsWhatIsNotDueWhenItEnds) {
  auto kept = std::make_shared<int>(0);
  {
    Timer timer;
    timer.At(MonotonicNow() + absl::Hours(1), [kept] { FAIL(); });
  }
  EXPECT_EQ(kept.use_count(), 1);
}

TEST(WorkQueueTest, RefusesBeyondItsBoundAndDoesAllItAccepted) {
  absl::Notification release;
  std::atomic<int> done{0};
  int accepted = 0;
  {
    WorkQueue queue("test", 1, 2);
    absl::Notification started;
    ASSERT_TRUE(queue.Run([&] {
      started.Notify();
      release.WaitForNotification();
    }));
    started.WaitForNotification();
    for (int i = 0; i < 4; ++i) {
      if (queue.Run([&] { ++done; })) ++accepted;
    }
    release.Notify();
  }
  EXPECT_EQ(accepted, 2);
  EXPECT_EQ(done, 2);
}

// Answers at once, or when asked to.
class FakeVolume : public HostedVolume {
 public:
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return 64 << 20; }
  uint32_t epoch() const override { return 1; }
  uint32_t intact_since() const override { return 1; }
  bool flush_supported() const override { return true; }
  void Submit(IoRequest request, IoCallback done) override {
    pieces.push_back(request);
    if (on_submit) on_submit();
    waiting.push_back(std::move(done));
    if (!later) Answer(pieces.size() == fail_at ? EIO : 0);
  }
  void Answer(int error) {
    IoCallback done = std::move(waiting.front());
    waiting.pop_front();
    IoOutcome outcome;
    outcome.result = engine::Result(error);
    done(std::move(outcome));
  }

  bool later = false;
  size_t fail_at = 0;
  std::function<void()> on_submit;
  std::vector<IoRequest> pieces;
  std::deque<IoCallback> waiting;

 private:
  std::string name_ = "fake";
};

IoRequest Discard(uint64_t offset, uint64_t length) {
  IoRequest request;
  request.kind = engine::RequestKind::kDiscard;
  request.offset_bytes = offset;
  request.length_bytes = length;
  return request;
}

TEST(LongRequestTest, RunsPieceAfterPieceAndAnswersOnce) {
  for (const bool later : {false, true}) {
    auto volume = std::make_shared<FakeVolume>();
    volume->later = later;
    int answers = 0;
    SubmitAnyLength(volume, Discard(4096, (9 << 20) + 4096), [&](IoOutcome o) {
      EXPECT_TRUE(o.result.ok());
      ++answers;
    });
    while (!volume->waiting.empty()) {
      EXPECT_EQ(volume->waiting.size(), 1u) << "one piece at a time";
      volume->Answer(0);
    }
    EXPECT_EQ(answers, 1);
    ASSERT_EQ(volume->pieces.size(), 3u);
    EXPECT_EQ(volume->pieces[1].offset_bytes, 4096u + (4 << 20));
    EXPECT_EQ(volume->pieces[2].length_bytes, (1u << 20) + 4096);
  }
}

TEST(LongRequestTest, StopsAtTheFirstError) {
  auto volume = std::make_shared<FakeVolume>();
  volume->fail_at = 2;
  int error = 0;
  SubmitAnyLength(volume, Discard(0, 40 << 20),
                  [&](IoOutcome o) { error = o.result.error(); });
  EXPECT_EQ(error, EIO);
  EXPECT_EQ(volume->pieces.size(), 2u);
}

TEST(LongRequestTest, ARangeThatDoesNotFitIsRefusedBeforeItsFirstPieceRuns) {
  auto volume = std::make_shared<FakeVolume>();
  SubmitAnyLength(volume, Discard(32 << 20, 64 << 20), [](IoOutcome) {});
  ASSERT_EQ(volume->pieces.size(), 1u);
  EXPECT_GE(volume->pieces[0].offset_bytes, volume->size_bytes());
  SubmitAnyLength(volume, Discard(512, 32 << 20), [](IoOutcome) {});
  ASSERT_EQ(volume->pieces.size(), 2u);
  EXPECT_NE(volume->pieces[1].length_bytes % 4096, 0u);
}

TEST(LongRequestTest, ACutOffStopsItBetweenTwoPieces) {
  auto volume = std::make_shared<FakeVolume>();
  volume->later = true;
  auto gate = std::make_shared<SubmitGate>();
  int error = 0;
  SubmitAnyLength(volume, Discard(0, 40 << 20),
                  [&](IoOutcome o) { error = o.result.error(); }, gate);
  gate->Close();
  volume->Answer(0);
  EXPECT_EQ(error, ECANCELED);
  EXPECT_EQ(volume->pieces.size(), 1u);
  SubmitAnyLength(volume, Discard(0, 4096),
                  [&](IoOutcome o) { error = o.result.error(); }, gate);
  EXPECT_EQ(volume->pieces.size(), 1u) << "nor is anything else submitted";
}

TEST(LongRequestTest, ACutOffWaitsForAPieceThatIsBeingSubmitted) {
  auto volume = std::make_shared<FakeVolume>();
  auto gate = std::make_shared<SubmitGate>();
  std::thread cutter;
  absl::Notification cut;
  volume->on_submit = [&] {
    if (volume->pieces.size() != 2) return;  // a piece that a callback submits
    cutter = std::thread([&] {
      gate->Close();
      cut.Notify();
    });
    EXPECT_FALSE(cut.WaitForNotificationWithTimeout(absl::Milliseconds(50)))
        << "while the piece may still go before or after a newer write";
  };
  volume->later = true;
  int error = 0;
  SubmitAnyLength(volume, Discard(0, 40 << 20),
                  [&](IoOutcome o) { error = o.result.error(); }, gate);
  volume->Answer(0);
  cutter.join();
  volume->Answer(0);
  EXPECT_EQ(error, ECANCELED);
  EXPECT_EQ(volume->pieces.size(), 2u);
}

TEST(ClientSessionsTest, ANewerSessionCutsTheOlderOffAndALateOlderOneIsRefused) {
  ClientSessions sessions(2);
  int cuts = 0;
  const auto cut = [&cuts](const absl::Status& why) {
    EXPECT_TRUE(absl::IsAborted(why));
    ++cuts;
  };
  EXPECT_TRUE(sessions.Open("v", "c", 1, cut).ok());
  EXPECT_TRUE(sessions.Open("v", "c", 3, cut).ok());
  EXPECT_EQ(cuts, 1);
  EXPECT_TRUE(absl::IsAborted(sessions.Open("v", "c", 2, cut)));
  EXPECT_TRUE(absl::IsAborted(sessions.Open("v", "c", 3, cut)));
  EXPECT_TRUE(sessions.Open("v", "other", 1, cut).ok());
  EXPECT_TRUE(sessions.Open("w", "c", 1, cut).ok());
  sessions.Closed("v", "c", 1);  // the old one's end changes nothing
  sessions.Closed("v", "c", 3);
  EXPECT_TRUE(absl::IsAborted(sessions.Open("v", "c", 2, cut)))
      << "remembered without a stream";
  EXPECT_EQ(cuts, 1) << "a stream that is gone is not cut off";
  EXPECT_TRUE(sessions.Open("v", "c", 4, cut).ok());
  sessions.Closed("v", "c", 4);
  sessions.Closed("v", "other", 1);
  sessions.Closed("w", "c", 1);
  EXPECT_TRUE(sessions.Open("v", "c", 1, cut).ok()) << "forgotten at last";
}

TEST(ClientSessionsTest, AtTheEndAllAreCutOffAndNobodyIsLetIn) {
  ClientSessions sessions;
  std::vector<absl::Status> cuts;
  const auto cut = [&cuts](const absl::Status& why) { cuts.push_back(why); };
  EXPECT_TRUE(sessions.Open("v", "c", 1, cut).ok());
  EXPECT_TRUE(sessions.Open("w", "d", 1, cut).ok());
  EXPECT_TRUE(sessions.Open("v", "gone", 1, cut).ok());
  sessions.Closed("v", "gone", 1);
  const absl::Status end = absl::UnavailableError("over");
  sessions.End(end);
  EXPECT_EQ(cuts, (std::vector<absl::Status>{end, end}));
  EXPECT_EQ(sessions.Open("v", "c", 2, cut), end);
  sessions.Closed("v", "c", 1);
  sessions.End(end);
  EXPECT_EQ(cuts.size(), 2u);
}

// A catalog whose answers can get lost.
class FakeCatalog : public catalog::Catalog {
 public:
  std::string cluster_id() const override { return "c"; }
  bool shared() const override { return false; }
  absl::StatusOr<catalog::VersionedVolume> GetVolume(
      const std::string&) override {
    if (silent) return absl::UnavailableError("no answer");
    return stored;
  }
  absl::StatusOr<uint64_t> PutVolume(const v1::VolumeRecord& record,
                                     uint64_t revision) override {
    if (revision != stored.revision) return absl::AbortedError("revision");
    if (drop_before || --puts_left < 0) return absl::UnavailableError("lost on the way there");
    stored = {record, revision + 1};
    if (drop_after) return absl::UnavailableError("lost on the way back");
    return stored.revision;
  }
  absl::StatusOr<std::vector<catalog::VersionedVolume>> ListVolumes() override {
    return std::vector<catalog::VersionedVolume>{stored};
  }
  absl::Status DeleteVolume(const std::string&, uint64_t) override {
    return absl::OkStatus();
  }
  absl::StatusOr<catalog::VersionedReplica> GetReplica(
      const std::string&) override {
    return absl::NotFoundError("");
  }
  absl::StatusOr<std::vector<catalog::VersionedReplica>> ListReplicas() override {
    return std::vector<catalog::VersionedReplica>();
  }
  absl::StatusOr<uint64_t> PutReplica(const v1::ReplicaRecord&,
                                      uint64_t) override {
    return uint64_t{1};
  }
  absl::Status DeleteReplica(const std::string&, uint64_t) override { return absl::OkStatus(); }
  absl::StatusOr<catalog::VersionedFrontend> GetFrontend(const std::string&) override {
    return absl::NotFoundError("");
  }
  absl::StatusOr<std::vector<catalog::VersionedFrontend>> ListFrontends() override {
    return std::vector<catalog::VersionedFrontend>();
  }
  absl::StatusOr<uint64_t> PutFrontend(const v1::FrontendRecord&, uint64_t) override {
    return uint64_t{1};
  }

  catalog::VersionedVolume stored;
  bool drop_before = false;
  bool drop_after = false;
  bool silent = false;  // to reads
  int puts_left = 1000;
};

// Who was known to have it may have been replaced, and say that there is no such pin: the read is held until the catalog tells.
TEST(ParentReaderTest, WhatReplicasSaidIsNotTheLastWordWhileTheCatalogIsAway) {
  FakeReplica replaced("r1");
  replaced.AnswerReadPinned(grpc::StatusCode::NOT_FOUND);
  FakeCatalog catalog;
  v1::VolumeRecord& base = catalog.stored.record;
  base.set_name("base");
  base.set_id(7);
  base.set_lanes(1);
  base.set_size_bytes(1 << 20);
  v1::Member* member = base.add_members();
  member->set_replica("r1");
  member->set_address(replaced.address());
  member->set_in_sync(true);
  v1::SnapshotRecord* snapshot = base.add_snapshots();
  snapshot->set_name("monday");
  snapshot->mutable_pin()->set_id(5);
  v1::ParentRecord parent;
  parent.set_volume("base");
  parent.set_volume_id(7);
  parent.set_snapshot("monday");
  parent.set_pin(5);
  parent.set_size_bytes(1 << 20);
  const auto reader = ParentReader::Open(&catalog, parent);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_TRUE(absl::IsNotFound((*reader)->Read({0, 1}).status()));
  catalog.silent = true;
  EXPECT_TRUE(absl::IsUnavailable((*reader)->Read({0, 1}).status()));
  catalog.silent = false;
  base.clear_snapshots();
  EXPECT_TRUE(absl::IsFailedPrecondition((*reader)->Read({0, 1}).status()));
}

TEST(VolumeRecordTest, AnUnknownOutcomeIsResolvedByReadingBack) {
  FakeCatalog catalog;
  catalog.stored.revision = 7;
  VolumeRecordHolder holder(&catalog, catalog.stored);
  v1::VolumeRecord next;
  next.set_epoch(5);
  next.set_owner("me");
  catalog.drop_after = true;
  EXPECT_TRUE(holder.Commit(next).ok()) << "it had been stored";
  EXPECT_EQ(holder.revision(), 8u);
  next.set_epoch(6);
  catalog.drop_after = false;
  catalog.drop_before = true;
  EXPECT_TRUE(absl::IsUnavailable(holder.Commit(next))) << "it had not";
  EXPECT_EQ(holder.record().epoch(), 5u);
  catalog.drop_before = false;
  catalog.stored.revision = 20;
  catalog.stored.record.set_epoch(9);
  EXPECT_TRUE(absl::IsAborted(holder.Commit(next))) << "somebody else's";
}

TEST(VolumeRecordTest, ADetachThatCameThroughLateIsUndoneNotBuiltUpon) {
  FakeCatalog catalog;
  catalog.stored.revision = 7;
  catalog.stored.record.set_state(v1::VolumeRecord::ACTIVE);
  catalog.stored.record.set_epoch(5);
  catalog.stored.record.set_owner("me");
  VolumeRecordHolder holder(&catalog, catalog.stored);
  v1::VolumeRecord detached = holder.record();
  detached.set_state(v1::VolumeRecord::DETACHED);
  catalog.drop_after = catalog.silent = true;
  EXPECT_TRUE(absl::IsUnavailable(holder.Commit(detached)));
  ASSERT_EQ(catalog.stored.record.state(), v1::VolumeRecord::DETACHED);
  // It shows when something is to go on top of it, which then gets lost itself.
  catalog.drop_after = catalog.silent = false;
  catalog.puts_left = 0;
  EXPECT_TRUE(absl::IsUnavailable(holder.Commit(holder.record())));
  EXPECT_EQ(holder.record().state(), v1::VolumeRecord::ACTIVE);
  catalog.puts_left = 1;
  EXPECT_TRUE(holder.Commit(holder.record()).ok());
  EXPECT_EQ(catalog.stored.record.state(), v1::VolumeRecord::ACTIVE);
  // Another's is another's.
  catalog.drop_after = catalog.silent = true;
  EXPECT_TRUE(absl::IsUnavailable(holder.Commit(detached)));
  catalog.drop_after = catalog.silent = false;
  catalog.stored.record.set_epoch(6);
  ++catalog.stored.revision;
  EXPECT_TRUE(absl::IsAborted(holder.Commit(holder.record())));
}

TEST(VolumeRecordTest, AnAttemptOfOursThatCameThroughLateIsBuiltUpon) {
  FakeCatalog catalog;
  catalog.stored.revision = 7;
  catalog.stored.record.set_state(v1::VolumeRecord::ACTIVE);
  catalog.stored.record.set_epoch(5);
  catalog.stored.record.set_owner("me");
  VolumeRecordHolder holder(&catalog, catalog.stored);
  // The answer never came, and the change counts only now.
  catalog.stored.revision = 8;
  catalog.stored.record.add_members()->set_replica("r1");
  v1::VolumeRecord next = holder.record();
  next.add_members()->set_replica("r2");
  EXPECT_TRUE(holder.Commit(next).ok());
  EXPECT_EQ(holder.revision(), 9u);
  EXPECT_EQ(catalog.stored.record.members(0).replica(), "r2");
}

TEST(VolumeRecordTest, AttributesThatOthersChangeStayAndStopNobody) {
  FakeCatalog catalog;
  catalog.stored.revision = 7;
  catalog.stored.record.set_state(v1::VolumeRecord::RECOVERING);
  catalog.stored.record.set_epoch(5);
  catalog.stored.record.set_owner("me");
  (*catalog.stored.record.mutable_attributes())["csi.node"] = "n1";
  VolumeRecordHolder holder(&catalog, catalog.stored);
  catalog.stored.revision = 8;
  (*catalog.stored.record.mutable_attributes())["csi.node"] = "n2";
  v1::VolumeRecord next = holder.record();
  next.set_state(v1::VolumeRecord::ACTIVE);
  EXPECT_TRUE(holder.Commit(next).ok());
  EXPECT_EQ(catalog.stored.record.state(), v1::VolumeRecord::ACTIVE);
  EXPECT_EQ(catalog.stored.record.attributes().at("csi.node"), "n2");
  EXPECT_EQ(holder.record().attributes().at("csi.node"), "n2");
}

TEST(VolumeRecordTest, ATakeoverIsNotBuiltUponWhatItHasNotRead) {
  FakeCatalog catalog;
  catalog.stored.revision = 7;
  catalog.stored.record.set_state(v1::VolumeRecord::ACTIVE);
  catalog.stored.record.set_epoch(5);
  catalog.stored.record.set_owner("the old frontend");
  VolumeRecordHolder holder(&catalog, catalog.stored);
  catalog.stored.revision = 8;  // a member has left meanwhile
  catalog.stored.record.add_members()->set_replica("r1");
  v1::VolumeRecord next = holder.record();
  next.set_epoch(6);
  next.set_owner("me");
  EXPECT_TRUE(absl::IsAborted(holder.Commit(next)));
  EXPECT_EQ(catalog.stored.record.epoch(), 5u);
}

TEST(VolumeRecordTest, ARecordThatCannotBeRightIsRefused) {
  v1::VolumeRecord good;
  good.set_size_bytes(1 << 20);
  good.set_lanes(2);
  good.set_stripe_blocks(64);
  good.set_epoch(3);
  good.set_act_epoch(2);
  good.set_min_in_sync(1);
  good.add_members()->set_replica("r1");
  good.add_members()->set_replica("r2");
  good.add_floor()->set_lane(1);
  ASSERT_TRUE(CheckRecord(good).ok()) << CheckRecord(good);
  const std::vector<std::pair<const char*, std::function<void(v1::VolumeRecord&)>>> damages = {
      {"no size", [](auto& r) { r.set_size_bytes(0); }},
      {"half a block", [](auto& r) { r.set_size_bytes(2048); }},
      {"no lanes", [](auto& r) { r.set_lanes(0); }},
      {"lanes that would fill the memory", [](auto& r) { r.set_lanes(~0u); }},
      {"no stripe", [](auto& r) { r.set_stripe_blocks(0); }},
      {"a large stripe", [](auto& r) { r.set_stripe_blocks(1 << 20); }},
      {"active in a later epoch", [](auto& r) { r.set_act_epoch(4); }},
      {"no epoch that a position has", [](auto& r) { r.set_epoch(1 << 24); }},
      {"nobody", [](auto& r) { r.clear_members(); }},
      {"too many", [](auto& r) { for (int i = 0; i < 14; ++i) r.add_members()->set_replica(std::to_string(i)); }},
      {"more in sync than there are", [](auto& r) { r.set_min_in_sync(3); }},
      {"a member twice", [](auto& r) { r.mutable_members(1)->set_replica("r1"); }},
      {"a member without a name", [](auto& r) { r.mutable_members(1)->clear_replica(); }},
      {"left in one lane of two", [](auto& r) { r.mutable_members(1)->add_left_at(7); }},
      {"a floor of another lane", [](auto& r) { r.mutable_floor(0)->set_lane(2); }},
  };
  for (const auto& [what, damage] : damages) {
    v1::VolumeRecord record = good;
    damage(record);
    EXPECT_TRUE(absl::IsDataLoss(CheckRecord(record))) << what;
  }
}

TEST(ExplainTest, SaysHowLongAJoinTakesOnceThatIsKnown) {
  v1::VolumeRecord record;
  record.set_name("demo");
  engine::EngineView view;
  engine::TargetView& joiner = view.targets.emplace_back();
  joiner.config.replica = "r1";
  joiner.config.state = engine::TargetState::kOut;
  joiner.joining = true;
  joiner.join_blocks_left = 256;
  const auto facts = [&] {
    const v1::ExplainResponse told =
        ExplainVolume(record, &view, true, false, false, HostOptions(), absl::ZeroDuration());
    return told.ShortDebugString();
  };
  const auto target = [&] {
    return DescribeVolume(record, &view, true, false, false).table().targets(0);
  };
  EXPECT_EQ(target().join_bytes_left(), 1u << 20);
  EXPECT_EQ(target().join_seconds_left(), 0u);
  EXPECT_FALSE(absl::StrContains(facts(), "speed of late")) << facts();
  joiner.join_time_left = absl::Milliseconds(1500);
  EXPECT_EQ(target().join_seconds_left(), 2u);
  EXPECT_TRUE(absl::StrContains(facts(), "1MiB to go, some 2s at the speed of late")) << facts();
}

TEST(ExplainTest, NamesDirectoriesWhoseDisksDoNotKeepWhatIsFlushed) {
  v1::GetReplicaResponse member;
  member.set_name("r1");
  v1::DataDir& dir = *member.add_data_dirs();
  dir.set_path("/nvme0");
  const auto told = [&] {
    v1::ExplainResponse out;
    ExplainDisks(member, &out);
    return out;
  };
  EXPECT_EQ(told().facts_size(), 0);  // not looked at yet
  for (const auto verdict : {v1::DiskTruth::DURABLE, v1::DiskTruth::UNKNOWN}) {
    dir.mutable_disk()->set_verdict(verdict);
    EXPECT_EQ(told().facts_size(), 0);
  }
  dir.mutable_disk()->set_verdict(v1::DiskTruth::SUSPICIOUS);
  dir.mutable_disk()->add_reasons("too fast");
  ASSERT_EQ(told().facts_size(), 1);
  EXPECT_EQ(told().facts(0), "what replica r1 has flushed to /nvme0 may not survive a power cut: too fast");
  dir.mutable_disk()->set_verdict(v1::DiskTruth::NOT_DURABLE);
  EXPECT_EQ(told().facts(0), "what replica r1 has flushed to /nvme0 does not survive a power cut: too fast");
  ASSERT_EQ(told().actions_size(), 1);
  EXPECT_TRUE(absl::StrContains(told().actions(0), "weir-replica probe /nvme0"));
}

TEST(ExplainTest, NamesTheReplicaWithDamagedBlocks) {
  v1::VolumeRecord record;
  engine::EngineView view;
  engine::TargetView& target = view.targets.emplace_back();
  target.config.replica = "r1";
  target.health = engine::TargetView::Health::kConnected;
  const auto told = [&] {
    return ExplainVolume(record, &view, true, false, false, HostOptions(), absl::ZeroDuration())
        .ShortDebugString();
  };
  EXPECT_FALSE(absl::StrContains(told(), "damaged")) << told();
  target.repaired_blocks = 3;
  target.damaged_blocks = 1;
  EXPECT_TRUE(absl::StrContains(told(), "replica r1: 3 were written anew from others, 1 are still"))
      << told();
  EXPECT_EQ(DescribeVolume(record, &view, true, false, false).table().targets(0).repaired_blocks(), 3u);
}

TEST(ExplainTest, SaysThatWritesGetEnospcWhileAReplicaIsFullAndWhatToDo) {
  v1::VolumeRecord record;
  engine::EngineView view;
  engine::TargetView& target = view.targets.emplace_back();
  target.config.replica = "r1";
  target.health = engine::TargetView::Health::kConnected;
  const auto told = [&] {
    return ExplainVolume(record, &view, true, false, false, HostOptions(), absl::ZeroDuration());
  };
  EXPECT_EQ(told().facts_size() + told().next_size() + told().actions_size(), 0);
  target.space_exhausted = true;
  ASSERT_EQ(told().facts_size(), 1);
  EXPECT_TRUE(absl::StrContains(told().facts(0), "replica r1 has no space left")) << told().facts(0);
  EXPECT_TRUE(absl::StrContains(told().facts(0), "ENOSPC")) << told().facts(0);
  ASSERT_EQ(told().next_size(), 1);
  EXPECT_TRUE(absl::StrContains(told().next(0), "by themselves")) << told().next(0);
  ASSERT_EQ(told().actions_size(), 1);
  EXPECT_TRUE(absl::StrContains(told().actions(0), "replica r1")) << told().actions(0);
  EXPECT_TRUE(absl::StrContains(told().actions(0), "discard")) << told().actions(0);
  // While it is brought back writes fail because of it too; once it is out they do not.
  target.joining = true;
  EXPECT_TRUE(absl::StrContains(told().ShortDebugString(), "no space left"));
  target.joining = false;
  target.health = engine::TargetView::Health::kOut;
  EXPECT_FALSE(absl::StrContains(told().ShortDebugString(), "no space left"));
}

TEST(ExplainTest, SaysWhatRequestsWaitForWhatIsDurableAndWhoseErrorsWereHidden) {
  engine::Stats stats;
  const auto told = [&stats] {
    v1::ExplainResponse out;
    ExplainStats(stats, absl::Seconds(100), &out);
    return out.ShortDebugString();
  };
  EXPECT_TRUE(absl::StrContains(told(), "all that was answered is on stable storage")) << told();
  EXPECT_FALSE(absl::StrContains(told(), "wait")) << told();
  stats.held[static_cast<size_t>(engine::HoldReason::kTooFewMembers)] = 1;
  stats.held[static_cast<size_t>(engine::HoldReason::kBarrier)] = 12;
  stats.durable_until = absl::Milliseconds(98500);
  stats.not_durable_bytes = 3 << 20;
  stats.hidden_errors = {{"r1", 0}, {"r2", 7}};
  EXPECT_TRUE(absl::StrContains(told(), "1 request waits: fewer than min_in_sync")) << told();
  EXPECT_TRUE(absl::StrContains(told(), "12 requests wait: a barrier comes first")) << told();
  EXPECT_TRUE(absl::StrContains(told(), "more than 1.5s ago is on stable storage")) << told();
  EXPECT_TRUE(absl::StrContains(told(), "3MiB of later data may not be")) << told();
  EXPECT_TRUE(absl::StrContains(told(), "replica r2 has answered 7 errors to flushes")) << told();
  EXPECT_FALSE(absl::StrContains(told(), "r1")) << told();
  for (size_t i = 0; i < engine::kHoldReasons; ++i) {
    stats.held.fill(0);
    stats.held[i] = 2;
    EXPECT_TRUE(absl::StrContains(told(), "2 requests wait: ")) << told();
    EXPECT_FALSE(absl::StrContains(told(), "no name")) << told();
  }
}

TEST(ScrubStatusTest, SaysHowFarItIsAndWhatWasLeft) {
  engine::ScrubView scrub;
  const engine::Time now = absl::Seconds(1000);
  EXPECT_EQ(DescribeScrub(scrub, now).state(), "none");
  scrub.running = true;
  scrub.blocks_total = 1024;
  scrub.blocks_done = 256;
  scrub.time_left = absl::Milliseconds(2500);
  v1::ScrubStatus status = DescribeScrub(scrub, now);
  EXPECT_EQ(status.state(), "running");
  EXPECT_EQ(status.bytes_done(), 1u << 20);
  EXPECT_EQ(status.seconds_left(), 3u);
  v1::ExplainResponse told;
  ExplainScrub(scrub, now, &told);
  EXPECT_EQ(told.facts(0), "a scrub runs: 1MiB of 4MiB are compared, some 3s to go");
  EXPECT_EQ(told.actions_size(), 0);

  scrub.running = false;
  scrub.ended = absl::Seconds(940);
  scrub.next = absl::Seconds(1600);
  scrub.bad_blocks = 3;
  scrub.repaired_blocks = 2;
  scrub.left_blocks = 1;
  scrub.findings = {"block 7 differs"};
  status = DescribeScrub(scrub, now);
  EXPECT_EQ(status.state(), "finished");
  EXPECT_EQ(status.seconds_ago(), 60u);
  EXPECT_EQ(status.seconds_to_next(), 600u);
  told.Clear();
  ExplainScrub(scrub, now, &told);
  EXPECT_EQ(told.next(0), "all replicas are compared (scrub) in 10m");
  EXPECT_TRUE(absl::StrContains(told.facts(0), "3 blocks")) << told.facts(0);
  EXPECT_EQ(told.facts(1), "block 7 differs");
  EXPECT_EQ(told.actions_size(), 1);

  scrub.stopped = "it was told to stop";
  EXPECT_EQ(DescribeScrub(scrub, now).state(), "stopped");
}

TEST(VolumeRecordTest, MembersAreKnownByTheirStoresAndThoseThatWentAreRemembered) {
  v1::VolumeRecord record;
  for (const char* name : {"r1", "r2", "r3"}) {
    v1::Member* member = record.add_members();
    member->set_replica(name);
    member->set_store_id(absl::StrCat("store-", name));
    member->set_boot_id(absl::StrCat("boot-", name));
    member->set_in_sync(true);
  }
  engine::CommitMembers commit;
  commit.table = ToTable(record);
  // r2 gets a new disk, r4 is to take the place of r3.
  commit.table.targets[1].store_id = "store-new";
  engine::TargetConfig& added = commit.table.targets.emplace_back();
  added.replica = "r4";
  added.store_id = "store-r4";
  added.state = engine::TargetState::kOut;
  added.succeeds = "r3";
  record = WithMembers(record, commit);
  ASSERT_EQ(record.members_size(), 4);
  EXPECT_EQ(record.members(0).boot_id(), "boot-r1");
  EXPECT_EQ(record.members(1).boot_id(), "");
  EXPECT_EQ(record.members(3).succeeds(), "r3");
  EXPECT_EQ(ToTable(record).targets[3].succeeds, "r3");
  ASSERT_EQ(record.former_size(), 1);
  EXPECT_EQ(record.former(0).store_id(), "store-r2");
  // r3 has gone, and the old disk is back.
  commit.table.targets[1].store_id = "store-r2";
  commit.table.targets[2].state = engine::TargetState::kOut;
  commit.table.targets[2].gone = true;
  record = WithMembers(record, commit);
  ASSERT_EQ(record.members_size(), 3);
  EXPECT_EQ(record.members(2).replica(), "r4");
  ASSERT_EQ(record.former_size(), 2);
  EXPECT_EQ(record.former(0).store_id(), "store-new");
  EXPECT_EQ(record.former(1).replica(), "r3");
  // The same again, as after an answer that was lost, changes nothing.
  EXPECT_EQ(WithMembers(record, commit).SerializeAsString(), record.SerializeAsString());
}

TEST(VolumeRecordTest, ATakeoversPartSurvivesTheRoundTrip) {
  v1::VolumeRecord record;
  record.set_lanes(2);
  record.set_size_bytes(1 << 20);
  record.add_members()->set_replica("r1");
  record.add_members()->set_replica("r2");
  record.mutable_members(0)->set_in_sync(true);
  engine::TakeoverRecord takeover = ToTakeover(record);
  EXPECT_TRUE(takeover.floor.empty());
  takeover.recovering = true;
  takeover.epoch = 9;
  takeover.act_epoch = 8;
  takeover.owner = "nonce";
  takeover.floor = {Position(8, 3), Position(8, 4)};
  takeover.members[0].boot_id = "boot";
  const v1::VolumeRecord next = WithTakeover(record, takeover);
  EXPECT_EQ(next.state(), v1::VolumeRecord::RECOVERING);
  EXPECT_EQ(next.size_bytes(), record.size_bytes());
  const engine::TakeoverRecord again = ToTakeover(next);
  EXPECT_EQ(again.epoch, 9u);
  EXPECT_EQ(again.floor, takeover.floor);
  EXPECT_EQ(again.members[0].boot_id, "boot");
  EXPECT_FALSE(again.members[1].in_sync);
}

}  // namespace
}  // namespace weir::host
