// Joins at random, cut off at random: whatever a power cut or a failed file
// operation leaves of the target, it reads nothing wrong, and a join that is
// taken up again, or begun anew, makes it the same as its source.
#include <deque>
#include <iostream>
#include <memory>
#include <random>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "replica/store/store.h"
#include "replica/store/testing/fault_fs.h"
#include "replica/store/testing/join_world.h"
#include "replica/store/testing/machine.h"

namespace weir::store {
namespace {

using rocksdb::IOStatus;
using testing::FaultFs;
using testing::FileOp;
using testing::JoinWorld;
using testing::Machine;

JoinWorld::Settings SettingsOf(uint64_t seed) {
  JoinWorld::Settings settings;
  settings.seed = seed;
  const uint32_t lanes = 1 + seed % 3;
  settings.geometry = {.size_blocks = 16 * lanes * 4,
                       .lanes = {.lanes = lanes, .stripe_blocks = 16}};
  settings.directories = 1 + seed / 2 % 2;
  settings.reclaim = seed % 2 == 0;
  // Every fourth run writes enough for compactions.
  settings.blocks_max = seed % 4 == 0 ? 16 : 3;
  return settings;
}

std::unique_ptr<Machine> Boot(std::shared_ptr<FaultFs> disk, int directories,
                              absl::Status* status) {
  auto machine = std::make_unique<Machine>(std::move(disk));
  machine->OpenFaster();
  *status = machine->Open(directories);
  return machine;
}

// "At the end both stores have identical versions at equal positions."
TEST(JoinModelTest, BothStoresAreTheSameAfterAnyCrashesOfTheTarget) {
  int crashes = 0, swaps = 0, ends = 0;
  for (uint64_t seed = 1; seed <= 40 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    const JoinWorld::Settings settings = SettingsOf(seed);
    std::mt19937_64 random(seed * 31);
    JoinWorld world(settings);
    world.target().OpenFaster();
    absl::Status status = world.Start();
    ASSERT_TRUE(status.ok()) << status;
    for (int i = 0; i < 250; ++i) {
      status = world.Step();
      ASSERT_TRUE(status.ok()) << "step " << i << ": " << status;
      const uint64_t dice = random() % 100;
      if (dice < 4) {
        const bool cut = random() % 4 != 0;
        const FaultFs& before = *world.target().fs;
        auto disk = cut ? before.AfterPowerCut(random()) : before.AfterKill();
        auto machine = Boot(std::move(disk), settings.directories, &status);
        ASSERT_TRUE(status.ok()) << "crash at step " << i << ": " << status;
        world.ReplaceTarget(std::move(machine));
        ++crashes;
      }
      if (dice < 10) {
        status = world.Check(world.target().store.get(), world.durable());
        ASSERT_TRUE(status.ok()) << "step " << i << ": " << status;
      }
      if (dice >= 97) {
        status = world.Finish(world.target().store.get(), /*resume=*/dice == 98);
        ASSERT_TRUE(status.ok()) << "step " << i << ": " << status;
        ++ends;
        if (random() % 2 == 0) {
          world.Swap();
          ++swaps;
        }
      }
    }
    status = world.Finish(world.target().store.get(), random() % 2 == 0);
    ASSERT_TRUE(status.ok()) << status;
  }
  std::cout << crashes << " crashes, " << ends << " joins to the end, " << swaps << " swaps\n";
  EXPECT_GT(crashes, 300);
  EXPECT_GT(swaps, 100);
}

// Cuts by chance at the file operations of the target.
class Cutter {
 public:
  struct Image {
    std::shared_ptr<FaultFs> disk;
    std::vector<Position> durable;
    uint64_t seed = 0;
    FileOp op;
  };
  Cutter(uint64_t seed, uint64_t every, const JoinWorld* world)
      : random_(seed), every_(every), world_(world) {}

  FaultFs::Hook hook() {
    return [this](const FileOp& op, const FaultFs::Cut& cut) {
      absl::MutexLock lock(&mutex_);
      if (random_() % every_ != 0) return;
      const uint64_t seed = random_();
      images_.push_back({cut(seed), durable_, seed, op});
    };
  }
  // What had been answered when an act begins.
  void Answered() {
    absl::MutexLock lock(&mutex_);
    durable_ = world_->durable();
  }
  std::deque<Image> TakeImages() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(images_, {});
  }

 private:
  absl::Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  const uint64_t every_;
  const JoinWorld* const world_;
  std::vector<Position> durable_ ABSL_GUARDED_BY(mutex_);
  std::deque<Image> images_ ABSL_GUARDED_BY(mutex_);
};

TEST(JoinPowerLossTest, LeavesTheLaneBeforeOrAfterEachStepAndNoMarkIsLost) {
  int cuts = 0;
  for (uint64_t seed = 1; seed <= 26 && !::testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE(seed);
    const JoinWorld::Settings settings = SettingsOf(seed);
    JoinWorld world(settings);
    Cutter cutter(seed, /*every=*/3, &world);
    absl::Status status = world.Start();
    ASSERT_TRUE(status.ok()) << status;
    cutter.Answered();
    world.target().fs->SetHook(cutter.hook());
    for (int i = 0; i < 100; ++i) {
      status = world.Step();
      ASSERT_TRUE(status.ok()) << "step " << i << ": " << status;
      cutter.Answered();
      for (const Cutter::Image& image : cutter.TakeImages()) {
        ++cuts;
        auto after = Boot(image.disk, settings.directories, &status);
        if (status.ok()) status = world.Check(after->store.get(), image.durable);
        if (status.ok() && image.seed % 2 == 0) {
          status = world.Finish(after->store.get(), image.seed % 4 == 0);
        }
        ASSERT_TRUE(status.ok()) << "cut " << image.seed << " at " << image.op.kind << " of "
                                 << image.op.path << " in step " << i << ": " << status;
      }
    }
    world.target().fs->SetHook(nullptr);
  }
  std::cout << cuts << " power cuts\n";
  EXPECT_GT(cuts, 400);
}

// Fails the n-th file operation of a target that joins, n = 1, 2, 3 ...
class JoinFaultLoopTest : public ::testing::Test {
 protected:
  static absl::Status Script(JoinWorld* world) {
    Store* target = world->target().store.get();
    absl::Status status = world->Join(target, /*everything=*/false);
    for (int i = 0; i < 6 && status.ok(); ++i) {
      status = world->Deliver(target, 2);
      if (status.ok()) status = world->Copy(target);
      if (status.ok() && i == 2) status = world->FlushTarget(target);
      if (status.ok() && i == 3) status = world->Join(target, /*everything=*/true);
    }
    if (status.ok()) status = world->Finish(target, /*resume=*/true);
    return status;
  }

  // False: the fault was never reached.
  bool RunWithFault(uint64_t nth, bool for_ever) {
    JoinWorld::Settings settings = SettingsOf(4);
    settings.directories = 1;
    settings.blocks_max = 8;
    JoinWorld world(settings);
    absl::Status status = world.Start();
    if (status.ok()) status = world.FlushTarget(world.target().store.get());
    if (status.ok()) status = world.TakeOver(world.target().store.get());
    for (int i = 0; i < 40 && status.ok(); ++i) status = world.WriteSource(1);
    EXPECT_TRUE(status.ok()) << status;
    Machine& target = world.target();
    target.fs->FailAt(nth, for_ever, IOStatus::IOError("injected"));
    status = Script(&world);
    // A read that failed is no failure of the store.
    const bool failed = !target.store->health().ok();
    target.store.reset();
    const bool struck = target.fs->struck();  // closing too
    EXPECT_TRUE(status.ok() || struck) << "operation " << nth << ": " << status;
    Judge(target.fs->AfterKill(), &world, nth, struck, failed && !for_ever);
    Judge(target.fs->AfterPowerCut(nth), &world, nth, struck, failed && !for_ever);
    return struck;
  }

  void Judge(std::shared_ptr<FaultFs> disk, JoinWorld* world, uint64_t nth, bool struck,
             bool must_refuse) {
    absl::Status status;
    auto after = Boot(std::move(disk), 1, &status);
    if (!status.ok()) {
      ++refused_;
      EXPECT_TRUE(struck) << "operation " << nth << ": refused though nothing failed: " << status;
      return;
    }
    ++opened_;
    EXPECT_FALSE(must_refuse) << "operation " << nth << ": opened a store that had FAILED";
    status = world->Check(after->store.get(), world->durable());
    if (status.ok()) status = world->Finish(after->store.get(), /*resume=*/nth % 2 == 0);
    EXPECT_TRUE(status.ok()) << "operation " << nth << ": " << status;
  }

  void Loop(bool for_ever) {
    uint64_t nth = 1;
    while (RunWithFault(nth, for_ever) && !HasFailure()) ++nth;
    std::cout << nth - 1 << " operations failed in turn; " << refused_ << " starts refused, "
              << opened_ << " correct\n";
    EXPECT_GT(nth, 30u);
  }

  int refused_ = 0;
  int opened_ = 0;
};

TEST_F(JoinFaultLoopTest, AnErrorOnceAtAnyOperationIsNeverHidden) { Loop(false); }

TEST_F(JoinFaultLoopTest, AnErrorForEverFromAnyOperationIsNeverHidden) { Loop(true); }

}  // namespace
}  // namespace weir::store
