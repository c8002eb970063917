// Pins: what is read at one never changes, whatever is written, compacted, killed or copied; and
// what only a pin kept comes back when it goes.
#include <cerrno>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "replica/store/store.h"
#include "replica/store/testing/join_steps.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store {
namespace {

using testing::BlockOf;
using testing::FaultFs;
using testing::FileOp;
using testing::Machine;
using testing::WriteOne;
using testing::Writer;

constexpr VolumeId kVolume{7};
constexpr LaneId kLane{0};
constexpr uint64_t kBlocks = 512;
constexpr VolumeGeometry kGeometry{.size_blocks = kBlocks,
                                   .lanes = {.lanes = 2, .stripe_blocks = 32}};

#define ASSERT_OK(expr) \
  if (absl::Status weir_got = (expr); !weir_got.ok()) FAIL() << weir_got

class PinsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open(&machine_, std::make_shared<FaultFs>());
    ASSERT_OK(writer_.Attach(store(), 1));
  }
  static void Open(std::unique_ptr<Machine>* machine, std::shared_ptr<FaultFs> disk) {
    *machine = std::make_unique<Machine>(std::move(disk));
    (*machine)->OpenFaster();
    ASSERT_OK((*machine)->Open(2));
  }
  Store* store() { return machine_->store.get(); }
  // As a kill leaves it.
  void Kill() {
    std::shared_ptr<FaultFs> after = machine_->fs->AfterKill();
    Open(&machine_, std::move(after));
  }

  // Every block of the volume, in pieces of a stripe.
  void Overwrite(uint64_t stamp) { Overwrite(store(), stamp); }
  void Overwrite(Store* on, uint64_t stamp) {
    for (uint64_t block = 0; block < kBlocks; block += 32) {
      ASSERT_OK(WriteOne(on, kVolume, writer_.Data(block, 32, stamp + block)).status);
      writer_.Clear();
    }
  }
  static void FlushAndNote(Store* on) {
    for (int round = 0; round < 2; ++round) {
      for (uint32_t domain = 0; domain < 2; ++domain) {
        auto flushed = on->Flush(kVolume, domain);
        ASSERT_TRUE(flushed.ok()) << flushed.status();
        ASSERT_OK(on->NoteDurablePoints(kVolume, *flushed));
      }
    }
  }
  Pin Here(uint64_t id) const {
    return {id, {writer_.position(LaneId{0}), writer_.position(LaneId{1})}};
  }
  absl::Status Update(std::vector<Pin> pins, uint64_t size_blocks = 0) {
    return store()->UpdateVolume(kVolume, {++version_, size_blocks, std::move(pins)});
  }
  static void ExpectPinned(Store* on, uint64_t pin, uint64_t stamp) {
    for (uint64_t first = 0; first < kBlocks; first += kPinnedReadBlocksMax) {
      auto read = on->ReadPinned(kVolume, pin, {first, kPinnedReadBlocksMax});
      ASSERT_TRUE(read.ok()) << read.status();
      ASSERT_EQ(read->size(), kPinnedReadBlocksMax);
      for (uint64_t i = 0; i < kPinnedReadBlocksMax; ++i) {
        ASSERT_EQ((*read)[i].block, first + i);
        ASSERT_EQ((*read)[i].data, BlockOf(stamp + first + i)) << "block " << first + i;
      }
    }
  }
  static int Refusal(Store* on, uint64_t pin, BlockRange range) {
    return StatusToErrno(on->ReadPinned(kVolume, pin, range).status());
  }

  std::unique_ptr<Machine> machine_;
  Writer writer_{kVolume, kGeometry};
  uint64_t version_ = 0;
};

TEST_F(PinsTest, WhatIsReadThereNeverChanges) {
  Overwrite(0);
  ASSERT_OK(Update({Here(1)}));
  Overwrite(1000);
  ASSERT_OK(Update({{1, {Position(1, 8), Position(1, 8)}}, Here(2)}));
  for (uint64_t round = 2; round < 20; ++round) {
    Overwrite(round * 1000);
    FlushAndNote(store());
  }
  ExpectPinned(store(), 1, 0);
  ExpectPinned(store(), 2, 1000);
  Kill();
  EXPECT_EQ(store()->GetVolume(kVolume)->pins, (std::vector<uint64_t>{1, 2}));
  FlushAndNote(store());
  for (uint64_t round = 20; round < 30; ++round) {
    Overwrite(round * 1000);
    FlushAndNote(store());
  }
  ExpectPinned(store(), 1, 0);
  ExpectPinned(store(), 2, 1000);
}

TEST_F(PinsTest, ABlockThatWasDiscardedOrNotYetWrittenIsToldApart) {
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Data(0, 2, 7)).status);
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Zeroes(WriteKind::kDiscard, 1, 1)).status);
  ASSERT_OK(Update({Here(1)}));
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Data(1, 2, 70)).status);
  auto read = store()->ReadPinned(kVolume, 1, {0, 3});
  ASSERT_TRUE(read.ok()) << read.status();
  ASSERT_EQ(read->size(), 2u);
  EXPECT_EQ((*read)[0].data, BlockOf(7));
  EXPECT_TRUE((*read)[1].zero);
  auto changed = store()->ChangedSince(kVolume, 1, kLane, 0, 10);
  ASSERT_TRUE(changed.ok()) << changed.status();
  EXPECT_EQ(changed->ranges, (std::vector<BlockRange>{{1, 2}}));
  EXPECT_EQ(changed->next_block, kBlocks);
}

TEST_F(PinsTest, ChangedBlocksComeInPages) {
  Overwrite(0);
  ASSERT_OK(Update({Here(1)}));
  for (uint64_t block : {2, 4, 5, 9, 70}) {
    ASSERT_OK(WriteOne(store(), kVolume, writer_.Data(block, 1, 7)).status);
  }
  auto page = store()->ChangedSince(kVolume, 1, kLane, 0, 2);
  ASSERT_TRUE(page.ok()) << page.status();
  EXPECT_EQ(page->ranges, (std::vector<BlockRange>{{2, 1}, {4, 2}}));
  page = store()->ChangedSince(kVolume, 1, kLane, page->next_block, 2);
  EXPECT_EQ(page->ranges, (std::vector<BlockRange>{{9, 1}, {70, 1}}));
  EXPECT_EQ(page->next_block, kBlocks);
}

// Blocks 0 to 7: 0 and 1 as they were, 2 and 3 overwritten after both pins, 4 and 5 between them, 6 was zeros, 7 nothing.
TEST_F(PinsTest, WhatOneKeepsIsDataThatHasANewerVersionAndItsOwnIsWhatNoOtherNeeds) {
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Data(0, 7, 1)).status);
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Zeroes(WriteKind::kDiscard, 6, 1)).status);
  const Pin first = Here(1);
  ASSERT_OK(Update({first}));
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Data(4, 2, 2)).status);
  const Pin second = Here(2);
  ASSERT_OK(Update({first, second}));
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Data(2, 3, 3)).status);
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Zeroes(WriteKind::kDiscard, 5, 1)).status);
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Data(6, 2, 3)).status);
  const std::vector<BlockRange> all = {{0, 8}};
  const auto expect = [&](uint64_t pin, uint64_t blocks, uint64_t own) {
    const absl::StatusOr<KeptBlocks> kept = store()->KeptBy(kVolume, pin, kLane, all);
    ASSERT_TRUE(kept.ok()) << kept.status();
    EXPECT_EQ(kept->blocks, blocks) << pin;
    EXPECT_EQ(kept->own_blocks, own) << pin;
  };
  expect(1, 4, 2);  // 2 and 3, which the second needs too, 4 and 5
  expect(2, 4, 2);
  ASSERT_OK(Update({second}));
  expect(2, 4, 4);
  EXPECT_TRUE(absl::IsNotFound(store()->KeptBy(kVolume, 1, kLane, all).status()));
}

TEST_F(PinsTest, AReadThatIsNotAtAPinIsRefused) {
  Overwrite(0);
  EXPECT_EQ(Refusal(store(), 1, {0, 1}), ENOENT);
  ASSERT_OK(Update({Here(1)}));
  EXPECT_EQ(Refusal(store(), 2, {0, 1}), ENOENT);
  ASSERT_OK(Update({}));
  EXPECT_EQ(Refusal(store(), 1, {0, 1}), ENOENT);
  // It was told of one that it has not come to.
  ASSERT_OK(Update({{3, {Position(1, 100), Position(2, 1)}}}));
  EXPECT_TRUE(absl::IsFailedPrecondition(store()->ReadPinned(kVolume, 3, {0, 1}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(store()->ReadPinned(kVolume, 3, {32, 1}).status()));
  EXPECT_TRUE(absl::IsOutOfRange(store()->ReadPinned(kVolume, 3, {kBlocks, 1}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store()->ReadPinned(kVolume, 3, {0, kPinnedReadBlocksMax + 1}).status()));
}

TEST_F(PinsTest, AnUpdateThatComesLateChangesNothing) {
  Overwrite(0);
  ASSERT_OK(store()->UpdateVolume(kVolume, {5, 0, {Here(1)}}));
  EXPECT_TRUE(absl::IsAborted(store()->UpdateVolume(kVolume, {4, 2 * kBlocks, {}})));
  EXPECT_EQ(store()->GetVolume(kVolume)->pins, (std::vector<uint64_t>{1}));
  EXPECT_EQ(store()->GetVolume(kVolume)->geometry.size_blocks, kBlocks);
  ASSERT_OK(store()->UpdateVolume(kVolume, {5, 0, {Here(1)}}));
}

TEST_F(PinsTest, AnUpdateThatCannotBeIsRefused) {
  for (const std::vector<Pin>& pins :
       {std::vector<Pin>{{0, {Position(), Position()}}}, std::vector<Pin>{{1, {Position()}}},
        std::vector<Pin>{Here(1), Here(1)}}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Update(pins)));
  }
  std::vector<Pin> many;
  for (uint64_t id = 1; id <= kPinsMax + 1; ++id) many.push_back(Here(id));
  EXPECT_TRUE(absl::IsInvalidArgument(Update(many)));
}

TEST_F(PinsTest, TheSpaceOfADroppedPinComesBack) {
  Overwrite(0);
  ASSERT_OK(Update({Here(1)}));
  // Opening writes out what the logs hold: so what is kept for the pin lies in files of which nothing else is needed.
  // Of a file that is shared, RocksDB would wait until half of it is garbage.
  Kill();
  Overwrite(1000);
  FlushAndNote(store());
  EXPECT_EQ(store()->GetSpaceUsed(kVolume)->reclaimable_bytes, 0u);
  ASSERT_OK(Update({}));
  // The test's time limit is the deadline.
  while (machine_->fs->BytesUsed() > (kBlocks + 256) * kBlockBytes) std::this_thread::yield();
  auto read = store()->Read(kVolume, {0, 32});
  ASSERT_TRUE(read.ok());
  EXPECT_EQ(read->data.substr(0, kBlockBytes), BlockOf(1000));
}

TEST_F(PinsTest, WhatIsDiscardedGivesItsSpaceBackWithoutAnotherWrite) {
  Overwrite(0);
  for (uint64_t block = 0; block < kBlocks; block += 32) {
    ASSERT_OK(WriteOne(store(), kVolume, writer_.Zeroes(WriteKind::kDiscard, block, 32)).status);
  }
  FlushAndNote(store());
  while (machine_->fs->BytesUsed() > (1u << 20)) std::this_thread::yield();
  EXPECT_TRUE(store()->Read(kVolume, {0, 32})->zeroes);
}

// At each operation the power goes; what was answered before holds, and a pin that is named reads right.
TEST_F(PinsTest, APowerCutAnywhereLeavesThePinsBeforeOrAfter) {
  Overwrite(0);
  ASSERT_OK(Update({Here(1)}));
  Overwrite(1000);
  FlushAndNote(store());
  std::vector<std::shared_ptr<FaultFs>> images;
  machine_->fs->SetHook([&](const FileOp&, const FaultFs::Cut& cut) {
    if (images.size() < 60) images.push_back(cut(images.size()));
  });
  ASSERT_OK(Update({{2, {Position(1, 16), Position(1, 16)}}}, 2 * kBlocks));
  machine_->fs->SetHook(nullptr);
  ASSERT_GT(images.size(), 2u);
  for (const auto& image : images) {
    std::unique_ptr<Machine> after;
    Open(&after, image);
    const VolumeState state = *after->store->GetVolume(kVolume);
    for (uint64_t pin : state.pins) {
      if (pin == 1) ExpectPinned(after->store.get(), 1, 0);
      if (pin == 2) ExpectPinned(after->store.get(), 2, 1000);
    }
    EXPECT_TRUE(state.geometry.size_blocks == kBlocks || state.geometry.size_blocks == 2 * kBlocks);
  }
  std::unique_ptr<Machine> after;
  Open(&after, machine_->fs->AfterPowerCut(1));
  EXPECT_EQ(after->store->GetVolume(kVolume)->pins, (std::vector<uint64_t>{2}));
  EXPECT_EQ(after->store->GetVolume(kVolume)->geometry.size_blocks, 2 * kBlocks);
}

TEST_F(PinsTest, AFailedSyncIsNotAnswered) {
  Overwrite(0);
  machine_->fs->FailWhere(FileOp::kSync, ".log", rocksdb::IOStatus::IOError("not this time"));
  EXPECT_FALSE(Update({Here(1)}).ok());
  // A sync in the background may have met it first, and be about to tell the store.
  while (store()->health().ok()) std::this_thread::yield();
}

TEST_F(PinsTest, AVolumeGrowsAndNeverShrinks) {
  Overwrite(0);
  EXPECT_TRUE(absl::IsOutOfRange(store()->Read(kVolume, {kBlocks, 1}).status()));
  ASSERT_OK(Update({}, kBlocks + 100));
  EXPECT_TRUE(store()->Read(kVolume, {kBlocks, 100})->zeroes);
  Writer larger(kVolume, {.size_blocks = kBlocks + 100, .lanes = kGeometry.lanes});
  const LaneId lane = kGeometry.lanes.LaneOf(kBlocks);
  larger.SetPosition(lane, writer_.position(lane));
  ASSERT_OK(WriteOne(store(), kVolume, larger.Data(kBlocks, 2, 5)).status);
  ASSERT_OK(Update({}, kBlocks));
  Kill();
  EXPECT_EQ(store()->GetVolume(kVolume)->geometry.size_blocks, kBlocks + 100);
  EXPECT_EQ(store()->Read(kVolume, {kBlocks, 1})->data, BlockOf(5));
  EXPECT_EQ(store()->GetSpaceUsed(kVolume)->live_bytes, (kBlocks + 2) * kBlockBytes);
}

TEST_F(PinsTest, WhatWasDiscardedWhileItWasAwayGivesItsSpaceBackToWhoJoins) {
  std::unique_ptr<Machine> other;
  Open(&other, std::make_shared<FaultFs>());
  Store* target = other->store.get();
  Writer same(kVolume, kGeometry);
  ASSERT_OK(same.Attach(target, 1));
  for (uint64_t block = 0; block < kBlocks; block += 32) {
    const WriteOp op = writer_.Data(block, 32, block);
    ASSERT_OK(WriteOne(store(), kVolume, op).status);
    ASSERT_OK(WriteOne(target, kVolume, op).status);
    writer_.Clear();
  }
  for (uint64_t block = 0; block < kBlocks; block += 32) {
    ASSERT_OK(WriteOne(store(), kVolume, writer_.Zeroes(WriteKind::kDiscard, block, 32)).status);
  }
  ASSERT_OK(testing::BeginJoin(store(), target, kVolume, 1));
  ASSERT_TRUE(testing::CopyAll(store(), target, kVolume).ok());
  ASSERT_OK(target->FinishJoin(kVolume, 1));
  FlushAndNote(target);
  while (other->fs->BytesUsed() > (1u << 20)) std::this_thread::yield();
  EXPECT_TRUE(target->Read(kVolume, {0, 32})->zeroes);
}

// A clone's zeroes must hide what its parent has.
TEST_F(PinsTest, ZeroesOfAnOverlayLeaveAVersionInEveryBlockAlsoOnWhoJoins) {
  WriteOp zero = writer_.Zeroes(WriteKind::kDiscard, 1, 2);
  zero.overlay = true;
  ASSERT_OK(WriteOne(store(), kVolume, zero).status);
  ASSERT_OK(WriteOne(store(), kVolume, writer_.Zeroes(WriteKind::kDiscard, 4, 1)).status);
  auto read = store()->Read(kVolume, {0, 5});
  ASSERT_TRUE(read.ok()) << read.status();
  EXPECT_TRUE(read->zeroes);
  EXPECT_EQ(read->absent, (std::vector<BlockRange>{{0, 1}, {3, 2}}));
  std::unique_ptr<Machine> other;
  Open(&other, std::make_shared<FaultFs>());
  Store* target = other->store.get();
  Writer same(kVolume, kGeometry);
  ASSERT_OK(same.Attach(target, 1));
  ASSERT_OK(testing::BeginJoin(store(), target, kVolume, 1));
  ASSERT_TRUE(testing::CopyAll(store(), target, kVolume).ok());
  EXPECT_EQ(target->Read(kVolume, {0, 5})->absent, read->absent);
}

TEST_F(PinsTest, AMemberThatJoinsHasThePinsToo) {
  std::unique_ptr<Machine> other;
  Open(&other, std::make_shared<FaultFs>());
  Store* target = other->store.get();
  Writer same(kVolume, kGeometry);
  ASSERT_OK(same.Attach(target, 1));
  for (bool everything : {false, true}) {
    SCOPED_TRACE(everything);
    const Epoch epoch = everything ? 3 : 2;
    ASSERT_OK(writer_.Attach(store(), epoch));
    Overwrite(epoch * 1000);
    ASSERT_OK(Update({Here(epoch)}));
    Overwrite(epoch * 1000 + 500);
    FlushAndNote(store());
    ASSERT_OK(target->Promise(kVolume, epoch));
    ASSERT_OK(target->UpdateVolume(kVolume, {version_, 0, {Here(epoch)}}));
    ASSERT_OK(target->UpdateVolume(
        kVolume, {version_, 0, {{epoch, {Position(epoch, 8), Position(epoch, 8)}}}}));
    EXPECT_TRUE(absl::IsFailedPrecondition(target->ReadPinned(kVolume, epoch, {0, 1}).status()));
    ASSERT_OK(testing::BeginJoin(store(), target, kVolume, epoch, everything));
    EXPECT_EQ(Refusal(target, epoch, {0, 1}), kBlockInvalid);
    ASSERT_TRUE(testing::CopyAll(store(), target, kVolume).ok());
    ASSERT_OK(target->FinishJoin(kVolume, epoch));
    FlushAndNote(target);
    ExpectPinned(target, epoch, epoch * 1000);
    ExpectPinned(store(), epoch, epoch * 1000);
  }
}

// An older record may have a snapshot again that was deleted, and whose blocks are reclaimed already.
TEST_F(PinsTest, APinThatComesBackIsMadeWholeByACopyOfEverything) {
  Overwrite(1000);
  const Pin pin = Here(1);
  ASSERT_OK(Update({pin}));
  Overwrite(2000);
  std::unique_ptr<Machine> other;
  Open(&other, std::make_shared<FaultFs>());
  Writer same(kVolume, kGeometry);
  ASSERT_OK(same.Attach(other->store.get(), 1));
  auto join = [&](uint64_t id) {
    Store* target = other->store.get();
    ASSERT_OK(target->UpdateVolume(kVolume, {++version_, 0, {pin}}));
    ASSERT_OK(testing::BeginJoin(store(), target, kVolume, id, /*everything=*/false));
    ASSERT_TRUE(testing::CopyAll(store(), target, kVolume).ok());
    ASSERT_OK(target->FinishJoin(kVolume, id));
  };
  auto delta_is_refused = [&](LaneId lane, uint64_t id) {
    auto delta = testing::PlanJoin(store(), other->store.get(), kVolume, lane, id, /*everything=*/false);
    return delta.ok() && !delta->everything && absl::IsOutOfRange(other->store->BeginJoin(kVolume, *delta));
  };
  join(1);
  ExpectPinned(other->store.get(), 1, 1000);
  // Told once more, it is not one that comes back.
  ASSERT_OK(other->store->UpdateVolume(kVolume, {++version_, 0, {pin}}));
  EXPECT_FALSE(delta_is_refused(LaneId{1}, 2));
  join(3);

  ASSERT_OK(other->store->UpdateVolume(kVolume, {++version_, 0, {}}));
  FlushAndNote(other->store.get());
  ASSERT_OK(other->store->UpdateVolume(kVolume, {++version_, 0, {pin}}));
  EXPECT_TRUE(delta_is_refused(LaneId{0}, 4));
  std::shared_ptr<FaultFs> after = other->fs->AfterPowerCut(1);
  Open(&other, std::move(after));
  EXPECT_TRUE(delta_is_refused(LaneId{0}, 4));
  EXPECT_TRUE(delta_is_refused(LaneId{1}, 4));
  join(4);
  ExpectPinned(other->store.get(), 1, 1000);
}

}  // namespace
}  // namespace weir::store
