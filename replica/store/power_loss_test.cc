// "Opening after power loss that dropped everything unsynced gives a prefix of
// each lane that the contract allows": thousands of power cuts, each at a file
// operation of its own, which drop, keep or tear what was not synced.
#include <deque>
#include <memory>
#include <random>
#include <utility>

#include "absl/synchronization/mutex.h"
#include "gtest/gtest.h"
#include "replica/store/store.h"
#include "replica/store/testing/fault_fs.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/workload.h"

namespace weir::store {
namespace {

using testing::Answered;
using testing::FaultFs;
using testing::FileOp;
using testing::Machine;
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
  };

  // One cut in `every` operations.
  Cutter(uint64_t seed, uint64_t every, Workload* workload)
      : random_(seed), every_(every), workload_(workload) {}

  FaultFs::Hook hook() {
    return [this](const FileOp& op, const FaultFs::Cut& cut) {
      absl::MutexLock lock(&mutex_);
      if (random_() % every_ != 0) return;
      const uint64_t seed = random_();
      images_.push_back({cut(seed), workload_->model().answered(), seed, op});
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
  std::deque<Image> images_ ABSL_GUARDED_BY(mutex_);
};

class PowerLossTest : public ::testing::Test {
 protected:
  // Opens an image and judges it; then, sometimes, cuts again right after the
  // start: what the start itself does must not lose anything either.
  void Judge(const Cutter::Image& image, const Workload& workload,
             int directories, uint64_t run) {
    ++cuts_;
    Machine after(image.disk);
    if (image.seed % 16 != 0) after.OpenFaster();
    absl::Status status = after.Open(directories);
    if (status.ok()) {
      status = workload.model().Check(after.store.get(), image.answered);
    }
    EXPECT_TRUE(status.ok()) << "run " << run << " cut " << image.seed
                             << " at " << image.op.kind << " of "
                             << image.op.path << ": " << status;
    if (!status.ok() || image.seed % 4 != 0) return;
    // What it says is durable now must survive as well.
    Answered said = image.answered;
    auto state = after.store->GetVolume(kVolume);
    for (size_t i = 0; state.ok() && i < state->lanes.size(); ++i) {
      said.durable[i] = state->lanes[i].durable_position;
    }
    Machine again(after.fs->AfterPowerCut(image.seed));
    again.OpenFaster();
    status = again.Open(directories);
    if (status.ok()) {
      status = workload.model().Check(again.store.get(), said);
    }
    EXPECT_TRUE(status.ok()) << "run " << run << " second cut " << image.seed
                             << ": " << status;
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
        Judge(image, workload, directories, seed);
      }
    }
    EXPECT_TRUE(status.ok()) << "run " << seed << ": " << status;
    machine.fs->SetHook(nullptr);
  }

  int cuts_ = 0;
};

TEST_F(PowerLossTest, LeavesAPrefixOfEachLaneAtOrPastWhatWasAnsweredDurable) {
  for (uint64_t seed = 1; seed <= 26 && !HasFailure(); ++seed) {
    Run(seed, /*directories=*/1 + seed % 2, /*steps=*/120, /*every=*/8);
  }
  std::cout << cuts_ << " power cuts\n";
  EXPECT_GT(cuts_, 1300);
}

}  // namespace
}  // namespace weir::store
