// Fails the n-th file operation of a script, n = 1, 2, 3 ... until a run passes
// without it: once, and from then on for ever, by an I/O error and for want of
// space; on a new store, and from the start of one that has data. Whatever
// failed, nothing may be answered that is not so, and the next start gives
// correct data or refuses.
#include <cerrno>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "replica/store/store.h"
#include "replica/store/testing/extras.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/workload.h"

namespace weir::store {
namespace {

using rocksdb::IOStatus;
using testing::Extras;
using testing::FaultFs;
using testing::FileOp;
using testing::LaneModel;
using testing::Machine;
using testing::UsedStore;
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
  // A writer may hear of it from its domain a moment before the thread of RocksDB's that has failed has told the store.
  for (int i = 0; i < 10000 && store->health().ok(); ++i) absl::SleepFor(absl::Milliseconds(1));
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

// Files that a start reads or writes; .dbtmp is of what cuts a MANIFEST.
constexpr const char* kKinds[] = {".log", ".sst", ".dbtmp", "MANIFEST-", "CURRENT", "FLOOR", "STORE"};

// Which error an operation fails with, and whether all later ones do too.
enum Errors { kIoError, kNoSpace };
using Fault = std::pair<Errors, bool>;

class FaultLoopTest : public ::testing::TestWithParam<Fault> {
 protected:
  // What a script leaves behind, for those who judge.
  struct Left {
    const Workload& workload;
    const Extras* extras;  // nullptr: there are none
    absl::Status script;
  };

  static IOStatus Error() {
    return GetParam().first == kNoSpace ? IOStatus::NoSpace("injected") : IOStatus::IOError("injected");
  }
  static bool for_ever() { return GetParam().second; }

  // Runs `script` on `machine`, which fails, and judges what it leaves. False: the fault was never reached.
  bool RunWithFault(uint64_t nth, int directories, Machine* machine, const Workload& workload, const Extras* extras,
                    const std::function<absl::Status()>& script) {
    machine->fs->FailAt(nth, for_ever(), Error());
    const Left left{workload, extras, script()};
    bool failed = false;
    if (machine->store != nullptr) {
      failed = !machine->store->health().ok();
      if (failed) ExpectSilent(machine->store.get());
    }
    machine->store.reset();
    const bool struck = machine->fs->struck();
    // A store that was told to serve on after the disk has healed.
    const bool must_refuse = failed && !for_ever();
    Judge(machine->fs->AfterKill(), directories, left, nth, struck, must_refuse);
    Judge(machine->fs->AfterPowerCut(nth), directories, left, nth, struck, must_refuse);
    return struck;
  }

  void Judge(std::shared_ptr<FaultFs> disk, int directories, const Left& left, uint64_t nth, bool struck,
             bool must_refuse) {
    Machine after(std::move(disk));
    after.OpenFaster();
    absl::Status status = after.Open(directories);
    if (!status.ok()) {
      ++refused_;
      EXPECT_TRUE(struck)
          << "operation " << nth << ": refused though nothing failed: " << status;
      return;
    }
    ++opened_;
    EXPECT_FALSE(must_refuse)
        << "operation " << nth << ": opened a store that had FAILED with "
        << left.script;
    const LaneModel& model = left.workload.model();
    status = model.Check(after.store.get(), model.answered());
    if (status.ok() && left.extras != nullptr) {
      status = left.extras->Check(after.store.get(), model, left.extras->answered());
    }
    EXPECT_TRUE(status.ok())
        << "operation " << nth << " after " << left.script << ": " << status;
  }

  // `run` gives whether the fault at the n-th operation was reached.
  void Loop(uint64_t operations_min, const std::function<bool(uint64_t nth)>& run) {
    uint64_t nth = 1;
    while (run(nth) && !HasFailure()) ++nth;
    std::cout << nth - 1 << " operations failed in turn; " << refused_
              << " starts refused, " << opened_ << " correct\n";
    EXPECT_GT(nth, operations_min);
  }

  int refused_ = 0;
  int opened_ = 0;
};

TEST_P(FaultLoopTest, AnErrorAtAnyOperationOfANewStoreIsNeverHidden) {
  Loop(100, [this](uint64_t nth) {
    Workload workload(/*seed=*/nth, kVolume, kGeometry);
    Machine machine(std::make_shared<FaultFs>());
    return RunWithFault(nth, 1, &machine, workload, nullptr, [&] { return Script(&machine, &workload, 1); });
  });
}

class ReopenFaultLoopTest : public FaultLoopTest {
 protected:
  static constexpr int kDirectories = 2;

  // Takes up a used store where it was left, with an act of each kind.
  static absl::Status Script(Machine* machine, Workload* workload, Extras* extras) {
    RETURN_IF_ERROR(machine->Open(kDirectories));
    Store* store = machine->store.get();
    RETURN_IF_ERROR(extras->Script(store, workload->model()));
    RETURN_IF_ERROR(workload->Attach(store));
    for (int i = 0; i < 3; ++i) RETURN_IF_ERROR(workload->Write(store, 12, 8));
    RETURN_IF_ERROR(FlushAll(store, workload));
    RETURN_IF_ERROR(workload->NotePoints(store));
    RETURN_IF_ERROR(workload->Write(store, 4, 8));
    return store->Read(kVolume, {0, 64}).status();
  }
};

TEST_P(ReopenFaultLoopTest, AnErrorAtAnyOperationOfAStartOrAfterItIsNeverHidden) {
  UsedStore used(kVolume, kGeometry);
  const absl::Status made = used.Make(kDirectories);
  ASSERT_TRUE(made.ok()) << made;
  std::map<std::string, int> stopped;  // by what the script was at
  std::map<std::string, int> files;    // that failed the start, by kind
  Loop(150, [&](uint64_t nth) {
    Workload workload = used.workload;
    Extras extras = used.extras;
    Machine machine(used.disk->AfterKill());
    absl::Status ran;
    std::string stage;
    const bool struck = RunWithFault(nth, kDirectories, &machine, workload, &extras, [&] {
      ran = Script(&machine, &workload, &extras);
      stage = machine.store == nullptr ? "open" : extras.stage().empty() ? "write" : extras.stage();
      return ran;
    });
    EXPECT_TRUE(struck || ran.ok()) << "nothing failed, but " << stage << ": " << ran;
    if (ran.ok()) return struck;
    ++stopped[stage];
    const std::string path = machine.fs->struck_op().path;
    for (const char* kind : kKinds) {
      if (stage == "open" && absl::StrContains(path, kind)) ++files[kind];
    }
    return struck;
  });
  for (const auto& [stage, count] : stopped) std::cout << count << " stopped at " << stage << "\n";
  for (const auto& [kind, count] : files) std::cout << count << " starts failed by " << kind << "\n";
  EXPECT_GE(stopped["open"], 50);
  // How often is chance: what RocksDB does beside it shifts which operation is the n-th.
  for (const char* stage : {"repair", "adopt tail", "update volume", "grow", "keep record", "write"}) {
    EXPECT_GE(stopped[stage], 1) << stage;
  }
  for (const char* kind : kKinds) {
    // These a start only reads; CURRENT is renamed from a .dbtmp.
    const bool read_only = kind == absl::string_view("STORE") || kind == absl::string_view("CURRENT");
    if (GetParam().first != kNoSpace || !read_only) EXPECT_GE(files[kind], 1) << kind;
  }
}

std::string NameOf(const ::testing::TestParamInfo<Fault>& fault) {
  return absl::StrCat(fault.param.first == kNoSpace ? "NoSpace" : "IOError",
                      fault.param.second ? "ForEver" : "Once");
}
const auto kFaults = ::testing::Values(Fault(kIoError, false), Fault(kIoError, true),
                                       Fault(kNoSpace, false), Fault(kNoSpace, true));
INSTANTIATE_TEST_SUITE_P(Errors, FaultLoopTest, kFaults, NameOf);
INSTANTIATE_TEST_SUITE_P(Errors, ReopenFaultLoopTest, kFaults, NameOf);

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

// Options::file_fault, by which drills fail the files of a real store.
class FileFaultTest : public ::testing::Test {
 protected:
  using Rule = std::function<int(uint32_t domain, FileAct act)>;

  FileFaultTest() : workload_(1, kVolume, kGeometry), machine_(std::make_shared<FaultFs>()) {
    machine_.file_fault = [this](uint32_t domain, FileAct act) {
      absl::MutexLock lock(&mutex_);
      return rule_ == nullptr ? 0 : rule_(domain, act);
    };
  }
  ~FileFaultTest() override { machine_.store.reset(); }

  // Of two domains, with something synced in both.
  void OpenStore() {
    ASSERT_TRUE(machine_.Open(2).ok());
    workload_.model().Opened();
    ASSERT_TRUE(workload_.Attach(machine_.store.get()).ok());
    ASSERT_TRUE(workload_.Write(machine_.store.get(), 8, 8).ok());
    ASSERT_TRUE(FlushAll(machine_.store.get(), &workload_).ok());
  }
  void SetRule(Rule rule) {
    absl::MutexLock lock(&mutex_);
    rule_ = std::move(rule);
  }
  // Until something fails.
  absl::Status WriteAndFlush() {
    for (int i = 0; i < 60; ++i) {
      RETURN_IF_ERROR(workload_.Write(machine_.store.get(), 16, 8));
      RETURN_IF_ERROR(FlushAll(machine_.store.get(), &workload_));
    }
    return absl::OkStatus();
  }
  static void ExpectRefused(std::shared_ptr<FaultFs> disk) {
    const absl::Status status = Machine(std::move(disk)).Open(2);
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), "has FAILED and never opens again")) << status;
  }

  absl::Mutex mutex_;
  Rule rule_ ABSL_GUARDED_BY(mutex_);
  Workload workload_;
  Machine machine_;
};

class FileFaultLoopTest : public FileFaultTest, public ::testing::WithParamInterface<std::tuple<FileAct, uint64_t>> {};

TEST_P(FileFaultLoopTest, WhatFailsOnceInOneDirectoryIsFinalAlsoAfterARestart) {
  OpenStore();
  const auto [kind, nth] = GetParam();
  bool struck = false;
  SetRule([&struck, kind = kind, left = nth](uint32_t domain, FileAct act) mutable {
    if (domain != 1 || act != kind || left == 0 || --left != 0) return 0;
    struck = true;
    return EIO;
  });
  const absl::Status status = WriteAndFlush();
  EXPECT_EQ(StatusToErrno(status), EIO) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "injected fault")) << status;
  ExpectSilent(machine_.store.get());
  machine_.store.reset();
  EXPECT_TRUE(struck);
  ExpectRefused(machine_.fs->AfterKill());
  ExpectRefused(machine_.fs->AfterPowerCut(nth));
}

INSTANTIATE_TEST_SUITE_P(Nth, FileFaultLoopTest,
                         ::testing::Combine(::testing::Values(FileAct::kSync, FileAct::kWrite),
                                            ::testing::Values(1, 2, 3, 4, 5, 6, 7, 8, 20, 40)));

TEST_F(FileFaultTest, AStoreWhoseDisksSyncNothingAnyMoreIsRefusedByTheNextProcess) {
  OpenStore();
  SetRule([](uint32_t, FileAct act) { return act == FileAct::kSync ? EIO : 0; });
  EXPECT_EQ(StatusToErrno(WriteAndFlush()), EIO);
  ExpectSilent(machine_.store.get());
  machine_.store.reset();
  ExpectRefused(machine_.fs->AfterKill());
  // No disk has kept the mark through this; what was synced must be there.
  Machine after(machine_.fs->AfterPowerCut(1));
  ASSERT_TRUE(after.Open(2).ok());
  const absl::Status checked = workload_.model().Check(after.store.get(), workload_.model().answered());
  EXPECT_TRUE(checked.ok()) << checked;
}

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
