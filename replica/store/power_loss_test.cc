// "Opening after power loss that dropped everything unsynced gives a prefix of
// each lane that the contract allows": thousands of power cuts, each at a file
// operation of its own, which drop, keep or tear what was not synced.
#include <deque>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <utility>

#include "absl/strings/match.h"
#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "replica/store/store.h"
#include "replica/store/testing/extras.h"
#include "replica/store/testing/fault_fs.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/workload.h"

namespace weir::store {
namespace {

using testing::Answered;
using testing::Extras;
using testing::FaultFs;
using testing::FileOp;
using testing::Machine;
using testing::UsedStore;
using testing::Workload;

constexpr VolumeId kVolume{7};
constexpr VolumeGeometry kGeometry{.size_blocks = 64,
                                   .lanes = {.lanes = 3, .stripe_blocks = 8}};

// Cuts by chance at the operations of a file system and keeps the images.
class Cutter {
 public:
  struct Image {
    std::shared_ptr<FaultFs> disk;
    Answered answered;
    uint64_t seed = 0;
    FileOp op;
    Extras::Answered extras = {};
    std::string stage = {};
  };

  // One cut in `every` operations.
  Cutter(uint64_t seed, uint64_t every, Workload* workload, Extras* extras = nullptr)
      : random_(seed), every_(every), workload_(workload), extras_(extras) {}

  FaultFs::Hook hook() {
    return [this](const FileOp& op, const FaultFs::Cut& cut) {
      absl::MutexLock lock(&mutex_);
      if (random_() % every_ != 0) return;
      const uint64_t seed = random_();
      images_.push_back({cut(seed), workload_->model().answered(), seed, op});
      if (extras_ == nullptr) return;
      images_.back().extras = extras_->answered();
      images_.back().stage = extras_->stage();
    };
  }
  std::deque<Image> TakeImages() {
    absl::MutexLock lock(&mutex_);
    return std::exchange(images_, {});
  }

 private:
  absl::Mutex mutex_;
  std::mt19937_64 random_ ABSL_GUARDED_BY(mutex_);
  const uint64_t every_;
  Workload* const workload_;
  Extras* const extras_;
  std::deque<Image> images_ ABSL_GUARDED_BY(mutex_);
};

class PowerLossTest : public ::testing::Test {
 protected:
  // Opens an image and judges it; then, sometimes, cuts again within the start
  // or right after it: what the start itself does must not lose anything either.
  void Judge(const Cutter::Image& image, const Workload& workload,
             const Extras* extras, int directories, uint64_t run) {
    ++cuts_;
    const auto check = [&](Store* store, const Answered& said) {
      absl::Status status = workload.model().Check(store, said);
      if (status.ok() && extras != nullptr) status = extras->Check(store, workload.model(), image.extras);
      return status;
    };
    Machine after(image.disk);
    if (image.seed % 16 != 0) after.OpenFaster();
    std::shared_ptr<FaultFs> within;
    if (image.seed % 4 == 1) CutWithinOpen(after.fs.get(), image.seed, 40 * directories, &within);
    absl::Status status = after.Open(directories);
    after.fs->SetHook(nullptr);
    if (status.ok()) status = check(after.store.get(), image.answered);
    EXPECT_TRUE(status.ok()) << "run " << run << " cut " << image.seed
                             << " at " << image.op.kind << " of "
                             << image.op.path << ": " << status;
    if (!status.ok()) return;
    if (within != nullptr) JudgeSecond(within, directories, run, image, [&](Store* store) {
      return check(store, image.answered);
    });
    if (image.seed % 4 != 0) return;
    // What it says is durable now must survive as well.
    Answered said = image.answered;
    auto state = after.store->GetVolume(kVolume);
    for (size_t i = 0; state.ok() && i < state->lanes.size(); ++i) {
      said.durable[i] = state->lanes[i].durable_position;
    }
    JudgeSecond(after.fs->AfterPowerCut(image.seed), directories, run, image, [&](Store* store) {
      return check(store, said);
    });
  }

  // Gives the image of a cut at one of the next `operations`, if there are so many.
  void CutWithinOpen(FaultFs* fs, uint64_t seed, uint64_t operations, std::shared_ptr<FaultFs>* image) {
    // The hook is called with the file system locked.
    fs->SetHook([this, seed, image, left = seed / 16 % operations](const FileOp& op, const FaultFs::Cut& cut) mutable {
      if (left-- != 0) return;
      *image = cut(seed);
      ++cuts_within_;
      for (const char* kind : {".log", ".sst", ".blob", "MANIFEST-", "CURRENT", ".dbtmp", "FLOOR"}) {
        if (absl::StrContains(op.path, kind)) ++cuts_within_of_[kind];
      }
    });
  }

  void JudgeSecond(std::shared_ptr<FaultFs> disk, int directories, uint64_t run, const Cutter::Image& image,
                   const std::function<absl::Status(Store*)>& check) {
    Machine again(std::move(disk));
    again.OpenFaster();
    absl::Status status = again.Open(directories);
    if (status.ok()) status = check(again.store.get());
    EXPECT_TRUE(status.ok()) << "run " << run << " second cut " << image.seed << " after one at " << image.op.kind
                             << " of " << image.op.path << ": " << status;
  }

  void Run(uint64_t seed, int directories, int steps, uint64_t every) {
    Workload workload(seed, kVolume, kGeometry);
    Cutter cutter(seed, every, &workload);
    Machine machine(std::make_shared<FaultFs>());
    machine.fs->SetHook(cutter.hook());
    absl::Status opened = machine.Open(directories);
    ASSERT_TRUE(opened.ok()) << opened;
    workload.model().Opened();
    absl::Status status = workload.Attach(machine.store.get());
    for (int i = 0; i < steps && status.ok() && !HasFailure(); ++i) {
      status = workload.Step(machine.store.get());
      for (const Cutter::Image& image : cutter.TakeImages()) {
        Judge(image, workload, nullptr, directories, seed);
      }
    }
    EXPECT_TRUE(status.ok()) << "run " << seed << ": " << status;
    machine.fs->SetHook(nullptr);
  }

  // The same from the start of a store that has data, with tails adopted, blocks repaired, pins and records.
  void RunUsed(const UsedStore& used, uint64_t seed, int directories, uint64_t every) {
    Workload workload = used.workload;
    Extras extras = used.extras;
    Cutter cutter(seed, every, &workload, &extras);
    Machine machine(used.disk->AfterKill());
    machine.fs->SetHook(cutter.hook());
    absl::Status status = machine.Open(directories);
    if (status.ok()) status = extras.Script(machine.store.get(), workload.model());
    if (status.ok()) status = workload.Attach(machine.store.get());
    if (status.ok()) status = workload.Write(machine.store.get(), 8, 8);
    EXPECT_TRUE(status.ok()) << "run " << seed << ": " << status;
    machine.fs->SetHook(nullptr);
    for (const Cutter::Image& image : cutter.TakeImages()) {
      ++stages_[image.stage];
      Judge(image, workload, &extras, directories, seed);
    }
  }

  void TellCutsWithin() const {
    std::cout << cuts_ << " power cuts, " << cuts_within_ << " second ones within a start\n";
    for (const auto& [kind, count] : cuts_within_of_) std::cout << count << " of them at " << kind << "\n";
  }

  int cuts_ = 0;
  int cuts_within_ = 0;
  std::map<std::string, int> cuts_within_of_;  // by kind of file
  std::map<std::string, int> stages_;          // cuts, by what Extras was at
};

TEST_F(PowerLossTest, LeavesAPrefixOfEachLaneAtOrPastWhatWasAnsweredDurable) {
  for (uint64_t seed = 1; seed <= 26 && !HasFailure(); ++seed) {
    Run(seed, /*directories=*/1 + seed % 2, /*steps=*/120, /*every=*/8);
  }
  TellCutsWithin();
  EXPECT_GT(cuts_, 1300);
  EXPECT_GT(cuts_within_, 150);
  for (const char* kind : {".log", ".sst", ".dbtmp", "MANIFEST-", "FLOOR"}) {
    EXPECT_GE(cuts_within_of_[kind], 4) << kind;
  }
}

TEST_F(PowerLossTest, LosesNothingOfAUsedStoreThatStartsAdoptsRepairsPinsAndKeepsRecords) {
  for (const int directories : {1, 2}) {
    UsedStore used(kVolume, kGeometry);
    const absl::Status made = used.Make(directories);
    ASSERT_TRUE(made.ok()) << made;
    for (uint64_t seed = 1; seed <= 6 && !HasFailure(); ++seed) RunUsed(used, seed, directories, /*every=*/2);
  }
  TellCutsWithin();
  for (const auto& [stage, count] : stages_) std::cout << count << " at " << (stage.empty() ? "other" : stage) << "\n";
  EXPECT_GT(cuts_, 300);
  for (const char* stage : {"repair", "adopt tail", "update volume", "grow", "keep record"}) {
    EXPECT_GE(stages_[stage], 10) << stage;
  }
}

}  // namespace
}  // namespace weir::store
