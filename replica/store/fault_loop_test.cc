// Fails the n-th file operation of a script, n = 1, 2, 3 ... until a run passes
// without it: once, and from then on for ever. Whatever failed, nothing may be
// answered that is not so, and the next start gives correct data or refuses.
#include <cerrno>
#include <memory>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "replica/store/store.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/workload.h"

namespace weir::store {
namespace {

using rocksdb::IOStatus;
using testing::FaultFs;
using testing::FileOp;
using testing::Machine;
using testing::Workload;
using testing::Writer;

constexpr VolumeId kVolume{7};
constexpr VolumeId kOther{8};
constexpr VolumeGeometry kGeometry{.size_blocks = 64,
                                   .lanes = {.lanes = 2, .stripe_blocks = 8}};

absl::Status FlushAll(Store* store, Workload* workload) {
  for (uint32_t i = 0; i < store->num_domains(); ++i) {
    absl::Status status = workload->Flush(store, i);
    if (!status.ok()) return status;
  }
  return absl::OkStatus();
}

// A little of everything, enough to write memtables out and compact them.
absl::Status Script(Machine* machine, Workload* workload, int directories) {
  absl::Status status = machine->Open(directories);
  if (!status.ok()) return status;
  Store* store = machine->store.get();
  workload->model().Opened();
  status = workload->Attach(store);
  if (status.ok()) status = store->CreateVolume(kOther, kGeometry);
  for (int i = 0; i < 8 && status.ok(); ++i) {
    status = workload->Write(store, 16, 8);
    if (status.ok() && i % 3 == 0) status = FlushAll(store, workload);
    if (status.ok() && i == 4) status = workload->NotePoints(store);
  }
  if (status.ok()) status = store->DeleteVolume(kOther);
  if (status.ok()) status = workload->Attach(store);
  if (status.ok()) status = workload->Write(store, 4, 8);
  if (status.ok()) status = store->Read(kVolume, {0, 64}).status();
  return status;
}

// After a failure: nothing more is acknowledged, ever.
void ExpectSilent(Store* store) {
  const absl::Status health = store->health();
  ASSERT_FALSE(health.ok());
  EXPECT_FALSE(store->Flush(kVolume, 0).ok());
  EXPECT_FALSE(store->Flush(kVolume, 0).ok());
  EXPECT_FALSE(store->Read(kVolume, {0, 1}).ok());
  EXPECT_FALSE(store->Promise(kVolume, 99).ok());
  Writer writer(kVolume, kGeometry);
  EXPECT_FALSE(testing::WriteOne(store, kVolume, writer.Data(0, 1, 1)).status.ok());
  EXPECT_EQ(store->health(), health);
}

class FaultLoopTest : public ::testing::Test {
 protected:
  // False: the fault was never reached.
  bool RunWithFault(uint64_t nth, bool for_ever) {
    Workload workload(/*seed=*/nth, kVolume, kGeometry);
    Machine machine(std::make_shared<FaultFs>());
    if (nth % 16 != 0) machine.OpenFaster();
    machine.fs->FailAt(nth, for_ever, IOStatus::IOError("injected"));
    absl::Status status = Script(&machine, &workload, kDirectories);
    bool failed = false;
    if (machine.store != nullptr) {
      failed = !machine.store->health().ok();
      if (failed) ExpectSilent(machine.store.get());
    }
    machine.store.reset();
    const bool struck = machine.fs->struck();
    // A store that was told to serve on after the disk has healed.
    Judge(machine.fs->AfterKill(), workload, nth, status, struck,
          failed && !for_ever);
    Judge(machine.fs->AfterPowerCut(nth), workload, nth, status, struck,
          failed && !for_ever);
    return struck;
  }

  void Judge(std::shared_ptr<FaultFs> disk, const Workload& workload,
             uint64_t nth, const absl::Status& script, bool struck,
             bool must_refuse) {
    Machine after(std::move(disk));
    after.OpenFaster();
    absl::Status status = after.Open(kDirectories);
    if (!status.ok()) {
      ++refused_;
      EXPECT_TRUE(struck)
          << "operation " << nth << ": refused though nothing failed: " << status;
      return;
    }
    ++opened_;
    EXPECT_FALSE(must_refuse)
        << "operation " << nth << ": opened a store that had FAILED with "
        << script;
    status =
        workload.model().Check(after.store.get(), workload.model().answered());
    EXPECT_TRUE(status.ok())
        << "operation " << nth << " after " << script << ": " << status;
  }

  void Loop(bool for_ever) {
    uint64_t nth = 1;
    while (RunWithFault(nth, for_ever) && !HasFailure()) ++nth;
    std::cout << nth - 1 << " operations failed in turn; " << refused_
              << " starts refused, " << opened_ << " correct\n";
    EXPECT_GT(nth, 100u);
  }

  static constexpr int kDirectories = 1;
  int refused_ = 0;
  int opened_ = 0;
};

TEST_F(FaultLoopTest, AnErrorOnceAtAnyOperationIsNeverHidden) { Loop(false); }

TEST_F(FaultLoopTest, AnErrorForEverFromAnyOperationIsNeverHidden) {
  Loop(true);
}

// Design: "The first failed sync is final for that store: no retry, no
// restart-and-trust."
class SyncFailureTest : public ::testing::TestWithParam<const char*> {};

TEST_P(SyncFailureTest, IsFinalAlsoAfterARestart) {
  Workload workload(1, kVolume, kGeometry);
  Machine machine(std::make_shared<FaultFs>());
  ASSERT_TRUE(machine.Open(2).ok());
  Store* store = machine.store.get();
  ASSERT_TRUE(workload.Attach(store).ok());
  ASSERT_TRUE(workload.Write(store, 4, 8).ok());
  ASSERT_TRUE(FlushAll(store, &workload).ok());
  ASSERT_TRUE(workload.Write(store, 8, 8).ok());
  machine.fs->FailWhere(FileOp::kSync, GetParam(), IOStatus::IOError("EIO"));
  EXPECT_EQ(StatusToErrno(store->Flush(kVolume, 1).status()), EIO);
  machine.fs->StopFailing();
  ExpectSilent(store);
  machine.store.reset();
  EXPECT_TRUE(absl::IsDataLoss(Machine(machine.fs->AfterKill()).Open(2)));
  EXPECT_TRUE(absl::IsDataLoss(Machine(machine.fs->AfterPowerCut(1)).Open(2)));
}

INSTANTIATE_TEST_SUITE_P(WalAndFloor, SyncFailureTest,
                         ::testing::Values("/d1/db/", "/d1/FLOOR"));

TEST(FullDiskTest, IsRefusedBeforeAnythingIsAppliedAndRecovers) {
  Workload workload(1, kVolume, kGeometry);
  Machine machine(std::make_shared<FaultFs>());
  ASSERT_TRUE(machine.Open(1).ok());
  Store* store = machine.store.get();
  ASSERT_TRUE(workload.Attach(store).ok());
  ASSERT_TRUE(workload.Write(store, 4, 8).ok());
  Writer writer(kVolume, kGeometry);
  writer.SetPosition(LaneId{0}, store->GetVolume(kVolume)->lanes[0].position);
  const WriteOp op = writer.Data(0, 1, 77);

  machine.fs->SetFreeBytes(4096);
  // What was admitted on the old figure is at most kRefreshBytes; more of it
  // than that, or a second, and the file system is asked.
  absl::Status status;
  for (int i = 0; i < 20000 && status.ok(); ++i) {
    status = store->HasSpaceFor(uint64_t{1} << 41)
                 ? absl::InternalError("2 TiB were said to fit")
                 : testing::WriteOne(store, kVolume, op).status;
    if (status.ok()) break;
  }
  EXPECT_EQ(StatusToErrno(status), ENOSPC) << status;
  EXPECT_TRUE(store->health().ok());
  EXPECT_TRUE(store->Flush(kVolume, 0).ok());
  EXPECT_TRUE(store->Read(kVolume, {0, 64}).ok());

  machine.fs->SetFreeBytes(uint64_t{1} << 30);
  EXPECT_TRUE(testing::WriteOne(store, kVolume, op).status.ok());
}

// Whose file system it is may change; that is no lost data, and nothing is harmed by the attempt.
TEST(UnwritableTest, SaysWhatToDoAndOpensOnceItIsWritable) {
  for (const char* why : {"Permission denied", "Read-only file system"}) {
    Workload workload(1, kVolume, kGeometry);
    Machine machine(std::make_shared<FaultFs>());
    const auto expect_refused = [&](const char* part) {
      machine.fs->FailWhere(FileOp::kCreate, part, IOStatus::IOError(why));
      const absl::Status status = machine.Open(1);
      EXPECT_TRUE(absl::IsPermissionDenied(status)) << part << ": " << status;
      EXPECT_TRUE(absl::StrContains(status.message(), "/d0")) << status;
      EXPECT_TRUE(absl::StrContains(status.message(), "make the directory writable for this user")) << status;
      machine.fs->StopFailing();
    };
    expect_refused("/d0");
    ASSERT_TRUE(machine.Open(1).ok());
    ASSERT_TRUE(workload.Attach(machine.store.get()).ok());
    ASSERT_TRUE(workload.Write(machine.store.get(), 16, 8).ok());
    ASSERT_TRUE(FlushAll(machine.store.get(), &workload).ok());
    machine.store.reset();
    for (const char* part : {"/d0/LOCK", "/d0/db/"}) expect_refused(part);
    ASSERT_TRUE(machine.Open(1).ok());
    EXPECT_TRUE(workload.model().Check(machine.store.get(), workload.model().answered()).ok());
  }
}

// A compaction can be done without. A memtable that cannot be written out is final for the store, and whether
// one is due in that moment is up to RocksDB's threads.
TEST(FullDiskTest, ATableThatCannotBeWrittenLosesNothingOrIsFinal) {
  Workload workload(1, kVolume, kGeometry);
  Machine machine(std::make_shared<FaultFs>());
  ASSERT_TRUE(machine.Open(1).ok());
  Store* store = machine.store.get();
  ASSERT_TRUE(workload.Attach(store).ok());
  ASSERT_TRUE(store->CreateVolume(kOther, kGeometry).ok());
  for (int i = 0; i < 4; ++i) ASSERT_TRUE(workload.Write(store, 16, 8).ok());
  machine.fs->FailWhere(FileOp::kWrite, ".sst", IOStatus::NoSpace("full"));
  const bool flushed = FlushAll(store, &workload).ok();
  machine.fs->StopFailing();
  const bool written = workload.Write(store, 1, 8).ok();
  machine.store.reset();
  const absl::Status opened = machine.Open(1);
  if (!opened.ok()) {
    EXPECT_TRUE(absl::StrContains(opened.message(), "FAILED")) << opened;
    return;
  }
  EXPECT_TRUE(flushed && written);
  EXPECT_TRUE(workload.model()
                  .Check(machine.store.get(), workload.model().answered())
                  .ok());
}

}  // namespace
}  // namespace weir::store
