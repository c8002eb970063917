// Restores and clones through the host. FakeReplica holds one volume at a time, so a clone is on others than its parent;
// more of clones is tried against real replicas, in tests/system.
#include <algorithm>
#include <cerrno>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "volume/catalog/catalog.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

class RestoreTest : public HostFixture {
 protected:
  absl::StatusOr<v1::RestoreVolumeResponse> Restore(const std::string& snapshot) {
    v1::RestoreVolumeRequest request;
    request.set_name("demo");
    request.set_snapshot(snapshot);
    return host_->RestoreVolume(request);
  }
};

TEST_F(RestoreTest, AnAttachedVolumeIsNotRestored) {
  StartAttached();
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Restore("monday").status()));
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_TRUE(absl::IsNotFound(Restore("tuesday").status()));
}

// The replica cannot say what has changed, so the restore ends in the middle.
TEST_F(RestoreTest, OneThatWasCutShortKeepsClientsAwayUntilItIsDone) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(host_->CreateSnapshot("demo", "tuesday").ok());
  EXPECT_EQ(Write(0, 'b'), 0);
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  for (auto& replica : replicas_) replica->RefuseChangedSince(true);
  EXPECT_FALSE(Restore("monday").ok());
  const absl::Status refused = host_->Attach("demo").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_TRUE(absl::StrContains(refused.message(), "demo@monday")) << refused;
  for (auto& replica : replicas_) replica->RefuseChangedSince(false);
  const auto restored = Restore("monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->restored_bytes(), 4096u);
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  EXPECT_EQ(Read(4096), std::string(4096, '\0'));
}

// Its snapshot may be one that cannot be read any more.
TEST_F(RestoreTest, AnotherSnapshotTakesThePlaceOfOneThatWasCutShort) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  EXPECT_EQ(Write(0, 'b'), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "tuesday").ok());
  EXPECT_EQ(Write(0, 'c'), 0);
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  // All is written back before they refuse.
  for (auto& replica : replicas_) replica->RefuseChangedSince(true, /*from_lane=*/1);
  EXPECT_FALSE(Restore("monday").ok());
  EXPECT_FALSE(Restore("tuesday").ok());
  const absl::Status refused = host_->Attach("demo").status();
  EXPECT_TRUE(absl::StrContains(refused.message(), "demo@tuesday")) << refused;
  for (auto& replica : replicas_) replica->RefuseChangedSince(false);
  const absl::Status restored = Restore("tuesday").status();
  ASSERT_TRUE(restored.ok()) << restored;
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'b'));
}

// No snapshot of it can be read.
TEST_F(RestoreTest, OneThatWasCutShortCanBeDeletedWithItsSnapshots) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->DeleteVolume("demo")));
  for (auto& replica : replicas_) replica->RefuseChangedSince(true);
  EXPECT_FALSE(Restore("monday").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->DeleteSnapshot("demo", "monday")));
  const absl::Status deleted = host_->DeleteVolume("demo");
  EXPECT_TRUE(deleted.ok()) << deleted;
  EXPECT_FALSE(replicas_[0]->HasVolume());
}

// A mark that nobody may act on would keep everybody away.
TEST_F(RestoreTest, OneThatIsRefusedLeavesNoMark) {
  StartAttached();
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  volume_.reset();
  host_.reset();
  const auto with_record = [&](const std::function<void(v1::VolumeRecord&)>& look) {
    auto opened = catalog::Catalog::Open(Options().catalog);
    ASSERT_TRUE(opened.ok()) << opened.status();
    auto read = (*opened)->GetVolume("demo");
    ASSERT_TRUE(read.ok()) << read.status();
    look(read->record);
    ASSERT_TRUE((*opened)->PutVolume(read->record, read->revision).ok());
  };
  with_record([](v1::VolumeRecord& record) { record.set_behind(true); });
  StartHost();
  EXPECT_TRUE(absl::IsDataLoss(Restore("monday").status()));
  host_.reset();
  with_record([](v1::VolumeRecord& record) { EXPECT_EQ(record.restoring(), ""); });
}

// Snapshot "monday" of a block of 'a'; since then there is 'b'. Suspended, with a write of 'c' that waits.
class SuspendedRestoreTest : public RestoreTest {
 protected:
  void StartSuspended(bool noflush = false) {
    StartAttached();
    EXPECT_EQ(Write(0, 'a'), 0);
    ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
    EXPECT_EQ(Write(0, 'b'), 0);
    EXPECT_EQ(Write(8192, 'b'), 0);
    Suspend(noflush);
  }
  void Suspend(bool noflush = false) {
    v1::SuspendRequest suspend;
    suspend.set_name("demo");
    suspend.set_noflush(noflush);
    const absl::Status suspended = host_->Suspend(suspend);
    ASSERT_TRUE(suspended.ok()) << suspended;
  }
  void SubmitOfClient(IoRequest request) {
    volume_->Submit(std::move(request), [this](IoOutcome outcome) {
      absl::MutexLock lock(&mu_);
      errors_.push_back(outcome.result.error());
    });
  }
  std::vector<int> Answered() {
    absl::MutexLock lock(&mu_);
    return errors_;
  }
  std::vector<int> AwaitAnswered(size_t count) {
    const auto all = [this, count] {
      mu_.AssertHeld();
      return errors_.size() == count;
    };
    absl::MutexLock lock(&mu_, absl::Condition(&all));
    return errors_;
  }
  // What is there to be refused while it is being restored.
  std::vector<absl::Status> TryAll() {
    v1::SuspendRequest suspend;
    suspend.set_name("demo");
    v1::LoadTableRequest load;
    load.set_name("demo");
    v1::CloneVolumeRequest clone;
    clone.set_source("demo");
    clone.set_name("copy");
    v1::ReplaceMemberRequest replace;
    replace.set_name("demo");
    replace.set_replica("r1");
    return {host_->Resume("demo"),
            host_->Suspend(suspend),
            host_->LoadTable(load),
            host_->CloneVolume(clone).status(),
            host_->ReplaceMember(replace).status(),
            host_->CreateSnapshot("demo", "tuesday").status(),
            host_->DeleteSnapshot("demo", "monday"),
            host_->ExpandVolume("demo", 2 * kSize).status(),
            host_->Attach("demo").status(),
            host_->GetAttached("demo").status()};
  }

  absl::Mutex mu_;
  std::vector<int> errors_ ABSL_GUARDED_BY(mu_);
};

TEST_F(SuspendedRestoreTest, ItsClientsStayAndReadTheSnapshotOnceItIsResumed) {
  StartSuspended();
  SubmitOfClient(WriteRequest(4096, std::string(4096, 'c')));
  const auto restored = Restore("monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->restored_bytes(), 8192u);
  EXPECT_TRUE(Answered().empty());
  EXPECT_EQ(host_->GetVolume("demo")->state(), "SUSPENDED");
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_EQ(AwaitAnswered(1), std::vector<int>{0});
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  EXPECT_EQ(Read(4096), std::string(4096, 'c'));
  EXPECT_EQ(Read(8192), std::string(4096, '\0'));
  // It is on the replicas, too.
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

// Requests that wait beyond what the engine takes do not keep the restore's own from it.
TEST_F(SuspendedRestoreTest, HoweverMuchWaits) {
  StartSuspended(/*noflush=*/true);
  const size_t kMany = 5000;
  for (size_t i = 0; i < kMany; ++i) SubmitOfClient(Request(engine::RequestKind::kRead, 0, 4096));
  const auto restored = Restore("monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_EQ(AwaitAnswered(kMany), std::vector<int>(kMany, 0));
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

// One that began anew with an older disk would say that less has changed. Here another one begins anew, which is no less of a hint.
TEST_F(SuspendedRestoreTest, WhatHasChangedIsAskedAgainIfAReplicaBeganAnewMeanwhile) {
  StartSuspended();
  replicas_[0]->ForgetWhatChanged([this] {
    replicas_[1]->Stop();
    replicas_[1]->Start();
  });
  const auto restored = Restore("monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->restored_bytes(), 2 * 4096u);
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  EXPECT_EQ(Read(8192), std::string(4096, '\0'));
}

TEST_F(SuspendedRestoreTest, OneThatIsNotSuspendedIsRefusedAndBothWaysAreNamed) {
  StartSuspended();
  ASSERT_TRUE(host_->Resume("demo").ok());
  const absl::Status refused = Restore("monday").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_TRUE(absl::StrContains(refused.message(), "suspend it") &&
              absl::StrContains(refused.message(), "detach it"))
      << refused;
  EXPECT_EQ(Read(0), std::string(4096, 'b'));
}

TEST_F(SuspendedRestoreTest, MeanwhileNothingElseIsDoneWithIt) {
  StartSuspended();
  for (auto& replica : replicas_) replica->HoldWrites();
  absl::Status restored;
  std::thread restoring([&] { restored = Restore("monday").status(); });
  // The record says so, so the engine has begun.
  const auto is_under_way = [this] {
    const auto explained = host_->Explain("demo");
    return explained.ok() && absl::StrContains(explained->DebugString(), "being given the content of demo@monday");
  };
  while (!is_under_way()) std::this_thread::yield();
  for (const absl::Status& refused : TryAll()) {
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), "restore")) << refused;
  }
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->Detach("demo", false)));
  EXPECT_EQ(host_->GetVolume("demo")->state(), "SUSPENDED");
  EXPECT_TRUE(absl::StrContains(host_->Explain("demo")->summary(), "being restored"));
  for (auto& replica : replicas_) replica->Release();
  restoring.join();
  EXPECT_TRUE(restored.ok()) << restored;
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

TEST_F(SuspendedRestoreTest, OneThatWasCutShortStaysSuspendedAndIsDoneAgain) {
  StartSuspended();
  SubmitOfClient(Request(engine::RequestKind::kRead, 0, 4096));
  for (auto& replica : replicas_) replica->RefuseChangedSince(true);
  const absl::Status cut_short = Restore("monday").status();
  EXPECT_TRUE(absl::StrContains(cut_short.message(), "weirctl volume restore demo@monday")) << cut_short;
  for (const absl::Status& refused : TryAll()) {
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_TRUE(absl::StrContains(refused.message(), "restore")) << refused;
  }
  EXPECT_EQ(host_->GetVolume("demo")->state(), "SUSPENDED");
  EXPECT_TRUE(absl::StrContains(host_->Explain("demo")->actions(0), "demo@monday"));
  for (auto& replica : replicas_) replica->RefuseChangedSince(false);
  const absl::Status again = Restore("monday").status();
  ASSERT_TRUE(again.ok()) << again;
  EXPECT_TRUE(Answered().empty());
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_EQ(AwaitAnswered(1), std::vector<int>{0});
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

TEST_F(SuspendedRestoreTest, OneThatWasCutShortIsDoneAgainAfterADetachToo) {
  StartSuspended();
  SubmitOfClient(WriteRequest(0, std::string(4096, 'c')));
  for (auto& replica : replicas_) replica->RefuseChangedSince(true);
  EXPECT_FALSE(Restore("monday").ok());
  const absl::Status detached = host_->Detach("demo", false);
  ASSERT_TRUE(detached.ok()) << detached;
  EXPECT_EQ(AwaitAnswered(1), std::vector<int>{ESTALE});
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->Attach("demo").status()));
  for (auto& replica : replicas_) replica->RefuseChangedSince(false);
  ASSERT_TRUE(Restore("monday").ok());
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

// So it was never half of a restore that clients saw.
TEST_F(SuspendedRestoreTest, OneThatWasCutShortByTheFrontendsEndKeepsClientsAway) {
  StartSuspended();
  for (auto& replica : replicas_) replica->RefuseChangedSince(true);
  EXPECT_FALSE(Restore("monday").ok());
  host_.reset();
  StartHost();
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->Attach("demo").status()));
  for (auto& replica : replicas_) replica->RefuseChangedSince(false);
  ASSERT_TRUE(Restore("monday").ok());
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

// Nor is the frontend's end kept waiting by a restore whose write a replica does not answer.
TEST_F(SuspendedRestoreTest, OneThatIsUnderWayDoesNotHoldTheFrontendsEndUp) {
  StartSuspended();
  for (auto& replica : replicas_) replica->HoldWrites();
  absl::Status restored;
  std::thread restoring([&] { restored = Restore("monday").status(); });
  while (!absl::StrContains(host_->Explain("demo")->DebugString(), "being given the content of")) std::this_thread::yield();
  host_.reset();
  restoring.join();
  EXPECT_FALSE(restored.ok());
  for (auto& replica : replicas_) replica->Release();
  StartHost();
  EXPECT_TRUE(absl::IsFailedPrecondition(host_->Attach("demo").status()));
  ASSERT_TRUE(Restore("monday").ok());
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

TEST_F(SuspendedRestoreTest, AWriteThatTheSuspendHasCutShortIsAnsweredFirstAndRestoredOver) {
  StartSuspended();
  ASSERT_TRUE(host_->Resume("demo").ok());
  for (auto& replica : replicas_) replica->FailNext(v1::IO_KIND_WRITE, EAGAIN, 1);
  SubmitOfClient(WriteRequest(16384, std::string(4096, 'c')));
  Suspend(/*noflush=*/true);
  const auto restored = Restore("monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(AwaitAnswered(1), std::vector<int>{0});
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_EQ(Read(16384), std::string(4096, '\0'));
}

// "base" is on r4, and its clone "demo", of a snapshot that was made for it, on the others.
class CloneTest : public HostFixture {
 protected:
  CloneTest() { replicas_.push_back(std::make_unique<FakeReplica>("r4")); }

  void StartCloned() { StartCloned(Options()); }
  void StartCloned(HostOptions options) {
    StartHost(std::move(options));
    v1::CreateVolumeRequest create = CreateRequest("base");
    create.add_replicas("r4");
    create.set_min_in_sync(1);
    ASSERT_TRUE(host_->CreateVolume(create).ok());
    auto base = host_->Attach("base");
    ASSERT_TRUE(base.ok()) << base.status();
    base_ = *std::move(base);
    ASSERT_EQ(WriteBase('a'), 0);
    v1::CloneVolumeRequest clone;
    clone.set_source("base");
    clone.set_name("demo");
    for (const char* replica : {"r1", "r2", "r3"}) clone.add_replicas(replica);
    clone.set_min_in_sync(2);
    const auto made = host_->CloneVolume(clone);
    ASSERT_TRUE(made.ok()) << made.status();
  }
  int WriteBase(char fill) {
    return base_->SubmitAndWait(WriteRequest(0, std::string(4096, fill))).result.error();
  }
  FakeReplica& OfBase() { return *replicas_[3]; }
  // The test's time limit is the deadline.
  void AwaitNoSnapshot() {
    while (!OfBase().pins().empty()) std::this_thread::yield();
  }

  std::shared_ptr<HostedVolume> base_;
};

// The parent is asked for what the clone had nothing of; until it answers the clone has all of it, and the snapshot is gone.
TEST_F(CloneTest, AReadThatTheEndOfAFlatteningOvertakesReadsTheClonesOwn) {
  StartCloned();
  Attach();
  absl::Status flattened;
  OfBase().BeforeReadPinned([&] {
    v1::FlattenVolumeRequest request;
    request.set_name("demo");
    const auto response = host_->FlattenVolume(request);
    flattened = response.status();
    EXPECT_TRUE(response.ok() && response->done());
    AwaitNoSnapshot();
  });
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  EXPECT_TRUE(flattened.ok()) << flattened;
  EXPECT_EQ(Write(0, 'b'), 0);
  EXPECT_EQ(Read(0), std::string(4096, 'b'));
}

class ParentAwayTest : public CloneTest {
 protected:
  void StartCloned(absl::Duration hold_deadline) {
    options_ = Options();
    options_.hold_deadline = hold_deadline;
    CloneTest::StartCloned(options_);
    Attach();
    OfBase().AnswerReadPinned(grpc::StatusCode::UNAVAILABLE);
  }
  // Each of the first block.
  void Read(int count) {
    for (int i = 0; i < count; ++i) {
      volume_->Submit(Request(engine::RequestKind::kRead, 0, 4096), [this](IoOutcome outcome) {
        absl::MutexLock lock(&mu_);
        outcomes_.push_back(std::move(outcome));
      });
    }
  }
  std::vector<IoOutcome> Await(size_t count) {
    absl::MutexLock lock(&mu_);
    const auto there = [&] {
      mu_.AssertHeld();
      return outcomes_.size() >= count;
    };
    mu_.Await(absl::Condition(&there));
    return outcomes_;
  }
  size_t answered() {
    absl::MutexLock lock(&mu_);
    return outcomes_.size();
  }
  bool Says(const std::string& fact) {
    const auto explained = host_->Explain("demo");
    if (!explained.ok()) return false;
    return std::any_of(explained->facts().begin(), explained->facts().end(),
                       [&](const std::string& one) { return absl::StrContains(one, fact); });
  }

  HostOptions options_;
  absl::Mutex mu_;
  std::vector<IoOutcome> outcomes_ ABSL_GUARDED_BY(mu_);
};

TEST_F(ParentAwayTest, ReadsAreHeldUntilItIsBack) {
  StartCloned(absl::InfiniteDuration());
  Read(1);
  while (!Says("1 request waits: no replica can be asked")) std::this_thread::yield();
  Read(20);
  while (!Says("21 requests wait: no replica can be asked")) std::this_thread::yield();
  EXPECT_EQ(Write(4096, 'b'), 0);
  EXPECT_EQ(HostFixture::Read(4096), std::string(4096, 'b')) << "what is the clone's own waits for nobody";
  const uint64_t asked = OfBase().pinned_reads();
  while (OfBase().pinned_reads() < asked + 2) std::this_thread::yield();
  EXPECT_EQ(answered(), 0u);
  OfBase().AnswerReadPinned(grpc::StatusCode::OK);
  for (const IoOutcome& outcome : Await(21)) EXPECT_TRUE(outcome.result.ok()) << outcome.message;
  EXPECT_EQ(HostFixture::Read(0), std::string(4096, 'a'));
  EXPECT_FALSE(Says("no replica can be asked"));
}

// Other clones need the threads too.
TEST_F(ParentAwayTest, OneThatHangsIsAskedForTwoReadsAtATime) {
  StartCloned(absl::InfiniteDuration());
  Read(1);
  while (!Says("1 request waits: no replica can be asked")) std::this_thread::yield();
  OfBase().HangReadPinned(true);
  Read(20);
  while (OfBase().pinned_reads_at_once_max() < 2) std::this_thread::yield();
  // The held one is asked for again every 500 ms.
  absl::SleepFor(absl::Milliseconds(1200));
  EXPECT_EQ(OfBase().pinned_reads_at_once_max(), 2u);
  OfBase().AnswerReadPinned(grpc::StatusCode::OK);
  OfBase().HangReadPinned(false);
  for (const IoOutcome& outcome : Await(21)) EXPECT_TRUE(outcome.result.ok()) << outcome.message;
}

// A read that nobody can answer now must not keep those waiting that somebody can.
TEST_F(ParentAwayTest, WhatCanBeReadIsReadMeanwhile) {
  StartCloned(absl::InfiniteDuration());
  OfBase().AnswerReadPinned(grpc::StatusCode::OK);
  OfBase().RefuseReadPinnedOf(7);
  volume_->Submit(Request(engine::RequestKind::kRead, 7 * 4096, 4096), [this](IoOutcome outcome) {
    absl::MutexLock lock(&mu_);
    outcomes_.push_back(std::move(outcome));
  });
  while (!Says("1 request waits: no replica can be asked")) std::this_thread::yield();
  for (int i = 0; i < 3; ++i) EXPECT_EQ(HostFixture::Read(0), std::string(4096, 'a'));
  EXPECT_EQ(answered(), 0u);
  OfBase().RefuseReadPinnedOf(std::nullopt);
  EXPECT_TRUE(Await(1)[0].result.ok());
}

TEST_F(ParentAwayTest, NoneIsHeldForLongerThanTheHoldDeadline) {
  StartCloned(absl::Milliseconds(1200));
  const absl::Time begun = absl::Now();
  Read(3);
  for (const IoOutcome& outcome : Await(3)) {
    EXPECT_EQ(outcome.result.error(), EIO);
    EXPECT_TRUE(absl::StrContains(outcome.message, "as the test wants it")) << outcome.message;
  }
  EXPECT_GE(absl::Now() - begun, absl::Milliseconds(1200));
}

TEST_F(ParentAwayTest, WhatNobodyHasFailsAtOnce) {
  StartCloned(absl::InfiniteDuration());
  OfBase().AnswerReadPinned(grpc::StatusCode::NOT_FOUND);
  Read(1);
  EXPECT_EQ(Await(1)[0].result.error(), EIO);
}

TEST_F(ParentAwayTest, WhoeverLetsGoOfTheCloneDoesNotWait) {
  StartCloned(absl::InfiniteDuration());
  Read(2);
  while (!Says("2 requests wait: no replica can be asked")) std::this_thread::yield();
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  for (const IoOutcome& outcome : Await(2)) EXPECT_EQ(outcome.result.error(), ESTALE);
}

// Whoever deletes a clone does not wait for as long as a restore of its parent takes, and its snapshot goes after that.
TEST_F(CloneTest, ItIsDeletedWhileItsParentIsBeingRestored) {
  StartCloned();
  ASSERT_TRUE(host_->CreateSnapshot("base", "monday").ok());
  ASSERT_EQ(WriteBase('b'), 0);
  v1::SuspendRequest suspend;
  suspend.set_name("base");
  ASSERT_TRUE(host_->Suspend(suspend).ok());
  OfBase().HoldWrites();
  v1::RestoreVolumeRequest request;
  request.set_name("base");
  request.set_snapshot("monday");
  absl::Status restored;
  std::thread restoring([&] { restored = host_->RestoreVolume(request).status(); });
  while (!absl::StrContains(host_->Explain("base")->summary(), "being restored")) std::this_thread::yield();
  const absl::Status deleted = host_->DeleteVolume("demo");
  EXPECT_TRUE(deleted.ok()) << deleted;
  EXPECT_TRUE(absl::StrContains(host_->Explain("base")->summary(), "being restored"));
  OfBase().Release();
  restoring.join();
  ASSERT_TRUE(restored.ok()) << restored;
  EXPECT_TRUE(host_->DeleteSnapshot("base", "monday").ok());
  AwaitNoSnapshot();
}

}  // namespace
}  // namespace weir::host
