// The contract of every method of the store, one test a sentence of store.h.
#include "replica/store/store.h"

#include <cerrno>
#include <filesystem>
#include <fstream>
#include <thread>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store {
namespace {

using testing::BlockOf;
using testing::SmallOptions;
using testing::TempDir;
using testing::WriteOne;
using testing::Writer;

// Two lanes, stripes of 8 blocks: lane 0 has blocks 0-7, 16-23, ...
constexpr VolumeGeometry kGeometry{.size_blocks = 256,
                                   .lanes = {.lanes = 2, .stripe_blocks = 8}};
constexpr VolumeId kVolume{0x1122334455667788};
constexpr LaneId kLane0{0};
constexpr LaneId kLane1{1};

#define ASSERT_OK(expr) \
  if (absl::Status weir_got = (expr); !weir_got.ok()) FAIL() << weir_got
#define EXPECT_OK(expr) \
  if (absl::Status weir_got = (expr); !weir_got.ok()) ADD_FAILURE() << weir_got

class StoreTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Open();
    ASSERT_OK(writer_.Attach(store_.get(), 1));
  }
  void Open() {
    auto store = Store::Open(options_);
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
  }
  void Reopen() {
    store_.reset();
    Open();
  }
  absl::Status OpenError() {
    store_.reset();
    return Store::Open(options_).status();
  }
  // Opened as a kill leaves it now.
  void Kill() {
    const std::string killed = dir_ / "killed";
    std::filesystem::create_directory(killed);
    for (std::string& path : options_.data_dirs) {
      const std::string copy = killed + "/" + std::filesystem::path(path).filename().string();
      std::filesystem::copy(path, copy, std::filesystem::copy_options::recursive);
      path = copy;
    }
    Reopen();
  }
  WriteResult Write(const WriteOp& op) {
    return WriteOne(store_.get(), kVolume, op);
  }
  ReadResult Read(uint64_t first, uint64_t count) {
    auto result = store_->Read(kVolume, {first, count});
    EXPECT_TRUE(result.ok()) << result.status();
    return result.ok() ? *result : ReadResult();
  }
  LaneState StateOf(LaneId lane) {
    return store_->GetVolume(kVolume)->lanes[Index(lane)];
  }

  TempDir dir_;
  Options options_ = SmallOptions(dir_, 2);
  Writer writer_{kVolume, kGeometry};
  std::unique_ptr<Store> store_;
};

using OpenTest = StoreTest;
using VolumeTest = StoreTest;
using WriteTest = StoreTest;
using FlushTest = StoreTest;
using TakeoverTest = StoreTest;
using StatsTest = StoreTest;

// --- opening ---

TEST_F(OpenTest, RaisesTheGenerationDrawsAnIncarnationAndKeepsTheStoreId) {
  const Identity before = store_->identity();
  EXPECT_EQ(before.store_id.size(), 32u);
  Reopen();
  EXPECT_EQ(store_->identity().store_id, before.store_id);
  EXPECT_EQ(store_->identity().generation, before.generation + 1);
  EXPECT_NE(store_->identity().incarnation, before.incarnation);
  EXPECT_NE(store_->identity().incarnation, 0u);
  EXPECT_EQ(store_->num_domains(), 2u);
}

TEST_F(OpenTest, KeepsTheNewestCopyOfARecordUntilTheVolumeIsDeleted) {
  ASSERT_OK(store_->CreateVolume(kVolume, kGeometry));
  EXPECT_EQ(store_->GetRecord(kVolume)->record, "");
  EXPECT_OK(store_->KeepRecord(kVolume, {2, 5, "five"}));
  EXPECT_OK(store_->KeepRecord(kVolume, {2, 4, "late"}));
  EXPECT_OK(store_->KeepRecord(kVolume, {1, 9, "of an older epoch"}));
  Reopen();
  EXPECT_EQ(store_->GetRecord(kVolume)->record, "five");
  EXPECT_EQ(store_->GetRecord(kVolume)->revision, 5u);
  EXPECT_OK(store_->KeepRecord(kVolume, {3, 1, "six"}));
  EXPECT_EQ(store_->GetRecord(kVolume)->record, "six");
  EXPECT_EQ(store_->GetRecord(kVolume)->epoch, 3u);
  EXPECT_TRUE(absl::IsInvalidArgument(store_->KeepRecord(kVolume, {4, 1, ""})));
  EXPECT_TRUE(absl::IsInvalidArgument(
      store_->KeepRecord(kVolume, {4, 1, std::string(kRecordCopyBytesMax + 1, 'x')})));
  ASSERT_OK(store_->DeleteVolume(kVolume));
  EXPECT_TRUE(absl::IsNotFound(store_->GetRecord(kVolume).status()));
  ASSERT_OK(store_->CreateVolume(kVolume, kGeometry));
  EXPECT_EQ(store_->GetRecord(kVolume)->record, "");
}

TEST_F(OpenTest, BindsToOneClusterForEver) {
  EXPECT_OK(store_->BindCluster("c1"));
  EXPECT_OK(store_->BindCluster("c1"));
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->BindCluster("c2")));
  Reopen();
  EXPECT_EQ(store_->identity().cluster_id, "c1");
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->BindCluster("c2")));
}

TEST_F(OpenTest, RefusesADirectoryInUse) {
  auto second = Store::Open(options_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_NE(second.status().message().find("in use"), std::string::npos);
}

TEST_F(OpenTest, RefusesDirectoriesInAnotherOrder) {
  std::swap(options_.data_dirs[0], options_.data_dirs[1]);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
}

TEST_F(OpenTest, RefusesAnEmptyDirectoryAmongFullOnes) {
  store_.reset();
  std::filesystem::remove_all(options_.data_dirs[1]);
  absl::Status status = OpenError();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
}

TEST_F(OpenTest, RefusesFewerAndMoreDirectories) {
  options_.data_dirs.push_back(dir_ / "d2");
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
  options_.data_dirs.resize(1);
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
}

TEST_F(OpenTest, RefusesADirectoryOfAnotherStore) {
  store_.reset();
  Options other = options_;
  other.data_dirs = {dir_ / "e0", dir_ / "e1"};
  ASSERT_TRUE(Store::Open(other).ok());
  options_.data_dirs[1] = dir_ / "e1";
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
}

TEST_F(OpenTest, RefusesForeignFiles) {
  std::filesystem::create_directory(dir_ / "f0");
  std::ofstream(dir_ / "f0/precious.txt") << "data";
  options_.data_dirs = {dir_ / "f0"};
  EXPECT_TRUE(absl::IsFailedPrecondition(OpenError()));
}

TEST_F(OpenTest, SaysWhatToDoAboutAPathThatCannotBe) {
  std::ofstream(dir_ / "file") << "data";
  const struct {
    std::string directory;
    const char* want;
  } kCases[] = {
      {dir_ / "missing/d0", "No such file or directory; make the directory above it first"},
      {dir_ / "file/d0", "Not a directory; give a path of directories"},
      {dir_ / "file", "Not a directory; give a path of directories"},
  };
  for (const auto& c : kCases) {
    options_.data_dirs = {c.directory};
    const absl::Status status = OpenError();
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;  // no data is lost
    EXPECT_TRUE(absl::StrContains(status.message(), c.directory)) << status;
    EXPECT_TRUE(absl::StrContains(status.message(), c.want)) << status;
  }
}

TEST_F(OpenTest, RefusesANewerFormat) {
  store_.reset();
  std::ofstream(options_.data_dirs[0] + "/STORE") << "weir-store format 7\nx\n";
  absl::Status status = OpenError();
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_NE(status.message().find("newer"), absl::string_view::npos) << status;
}

TEST_F(OpenTest, RefusesAFailedStore) {
  store_.reset();
  std::ofstream(options_.data_dirs[1] + "/FAILED") << "sync failed\n";
  EXPECT_TRUE(absl::IsDataLoss(OpenError()));
}

TEST_F(OpenTest, RefusesADirectoryRestoredFromAnOldCopy) {
  store_.reset();
  namespace fs = std::filesystem;
  fs::copy(options_.data_dirs[1], dir_ / "copy", fs::copy_options::recursive);
  Open();
  Reopen();
  store_.reset();
  fs::remove_all(options_.data_dirs[1]);
  fs::rename(dir_ / "copy", options_.data_dirs[1]);
  EXPECT_TRUE(absl::IsDataLoss(OpenError()));
}

TEST_F(OpenTest, ValidatesOptions) {
  Options options;
  EXPECT_TRUE(absl::IsInvalidArgument(Store::Open(options).status()));
  options.data_dirs = {dir_ / "x", dir_ / "x"};
  EXPECT_TRUE(absl::IsInvalidArgument(Store::Open(options).status()));
}

// --- volumes ---

// Who is to become a member again may have a copy from before the volume has grown, or have grown alone.
TEST_F(VolumeTest, CreatingIsIdempotentWhateverTheSize) {
  EXPECT_OK(store_->CreateVolume(kVolume, kGeometry));
  VolumeGeometry other = kGeometry;
  other.size_blocks *= 2;
  EXPECT_OK(store_->CreateVolume(kVolume, other));
  EXPECT_EQ(store_->GetVolume(kVolume)->geometry.size_blocks, kGeometry.size_blocks);
  other.size_blocks = kGeometry.size_blocks - 1;
  EXPECT_OK(store_->CreateVolume(kVolume, other));
  EXPECT_EQ(store_->GetVolume(kVolume)->geometry.size_blocks, kGeometry.size_blocks);
  other = kGeometry;
  ++other.lanes.stripe_blocks;
  EXPECT_TRUE(absl::IsAlreadyExists(store_->CreateVolume(kVolume, other)));
  other.size_blocks = 0;
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->CreateVolume(VolumeId{9}, other)));
}

TEST_F(VolumeTest, LanesAreSpreadOverTheDomainsAndSurviveAReopen) {
  Reopen();
  auto state = store_->GetVolume(kVolume);
  ASSERT_TRUE(state.ok());
  EXPECT_EQ(state->geometry.size_blocks, kGeometry.size_blocks);
  EXPECT_EQ(state->promised_epoch, 1u);
  ASSERT_EQ(state->lanes.size(), 2u);
  EXPECT_EQ(state->lanes[0].domain, 0u);
  EXPECT_EQ(state->lanes[1].domain, 1u);
  EXPECT_EQ(state->lanes[1].position, Position(1, 0));
  EXPECT_EQ(state->lanes[1].durable_position, Position(1, 0));
  EXPECT_EQ(state->lanes[1].lineage, (std::vector<LineageEntry>{{0, 0}}));
}

TEST_F(VolumeTest, ADeletedVolumeIsGoneAndItsIdStartsEmpty) {
  ASSERT_OK(Write(writer_.Data(3, 2, 100)).status);
  EXPECT_OK(store_->DeleteVolume(kVolume));
  EXPECT_OK(store_->DeleteVolume(kVolume));
  EXPECT_TRUE(absl::IsNotFound(store_->GetVolume(kVolume).status()));
  EXPECT_TRUE(absl::IsNotFound(store_->Read(kVolume, {3, 1}).status()));
  EXPECT_TRUE(store_->Volumes().empty());
  Writer again(kVolume, kGeometry);
  ASSERT_OK(again.Attach(store_.get(), 1));
  EXPECT_TRUE(Read(3, 2).zeroes);
  Reopen();
  EXPECT_TRUE(Read(3, 2).zeroes);
}

TEST_F(VolumeTest, SpaceLiveIsExact) {
  EXPECT_EQ(store_->GetSpaceUsed(kVolume)->live_bytes, 0u);
  ASSERT_OK(Write(writer_.Data(0, 8, 1)).status);
  ASSERT_OK(Write(writer_.Data(8, 4, 1)).status);
  EXPECT_EQ(store_->GetSpaceUsed(kVolume)->live_bytes, 12 * kBlockBytes);
  ASSERT_OK(Write(writer_.Data(2, 4, 50)).status);
  EXPECT_EQ(store_->GetSpaceUsed(kVolume)->live_bytes, 12 * kBlockBytes);
  ASSERT_OK(Write(writer_.Zeroes(WriteKind::kDiscard, 0, 3)).status);
  EXPECT_EQ(store_->GetSpaceUsed(kVolume)->live_bytes, 9 * kBlockBytes);
}

// --- writes and reads ---

TEST_F(WriteTest, ReadsGiveWhatWasWrittenWithItsChecksums) {
  ASSERT_OK(Write(writer_.Data(6, 2, 70)).status);
  ASSERT_OK(Write(writer_.Data(8, 1, 80)).status);
  ReadResult read = Read(5, 5);
  EXPECT_FALSE(read.zeroes);
  EXPECT_EQ(read.data, std::string(kBlockBytes, '\0') + BlockOf(70) +
                           BlockOf(71) + BlockOf(80) +
                           std::string(kBlockBytes, '\0'));
  EXPECT_EQ(read.crcs, BlockChecksums(read.data));
  EXPECT_EQ(read.newest, Position(1, 1));
}

TEST_F(WriteTest, UnwrittenDiscardedAndZeroedBlocksReadAsZeros) {
  EXPECT_TRUE(Read(0, 200).zeroes);
  EXPECT_EQ(Read(0, 200).newest, Position());
  ASSERT_OK(Write(writer_.Data(0, 4, 1)).status);
  ASSERT_OK(Write(writer_.Zeroes(WriteKind::kDiscard, 0, 2)).status);
  ASSERT_OK(Write(writer_.Zeroes(WriteKind::kWriteZeroes, 2, 2)).status);
  ReadResult read = Read(0, 4);
  EXPECT_TRUE(read.zeroes);
  EXPECT_TRUE(read.data.empty());
  EXPECT_EQ(read.newest, Position(1, 3));
}

TEST_F(WriteTest, OneCallAppliesItsOpsInOrder) {
  std::vector<WriteOp> ops = {
      writer_.Data(0, 4, 10), writer_.Zeroes(WriteKind::kDiscard, 1, 2),
      writer_.Data(2, 1, 20), writer_.Data(8, 1, 30)};
  for (const WriteResult& result : store_->Write(kVolume, ops)) {
    EXPECT_OK(result.status);
  }
  EXPECT_EQ(Read(0, 9).data,
            BlockOf(10) + std::string(kBlockBytes, '\0') + BlockOf(20) +
                BlockOf(13) + std::string(4 * kBlockBytes, '\0') + BlockOf(30));
  EXPECT_EQ(StateOf(kLane0).position, Position(1, 3));
  EXPECT_EQ(StateOf(kLane1).position, Position(1, 1));
}

TEST_F(WriteTest, AGapIsEagainAndADuplicateIsOk) {
  WriteOp first = writer_.Data(0, 1, 1);
  WriteOp second = writer_.Data(0, 1, 2);
  EXPECT_EQ(StatusToErrno(Write(second).status), EAGAIN);
  EXPECT_TRUE(Read(0, 1).zeroes);
  EXPECT_OK(Write(first).status);
  EXPECT_OK(Write(second).status);
  WriteResult again = Write(first);
  EXPECT_OK(again.status);
  EXPECT_EQ(Read(0, 1).data, BlockOf(2));
}

TEST_F(WriteTest, AFailedOpMakesLaterOnesOfItsLaneGapsAndNoOthers) {
  std::vector<WriteOp> ops = {writer_.Data(0, 1, 1), writer_.Data(8, 1, 2),
                              writer_.Data(0, 1, 3)};
  std::vector<uint32_t> wrong = {12345};
  ops[0].crcs = wrong;
  auto results = store_->Write(kVolume, ops);
  EXPECT_EQ(StatusToErrno(results[0].status), EBADMSG);
  EXPECT_OK(results[1].status);
  EXPECT_EQ(StatusToErrno(results[2].status), EAGAIN);
  EXPECT_EQ(results[2].lane_position, Position(1, 0));
}

TEST_F(WriteTest, AnotherEpochIsEstale) {
  WriteOp op = writer_.Data(0, 1, 1);
  op.position = Position(2, 1);
  EXPECT_EQ(StatusToErrno(Write(op).status), ESTALE);
  op.position = Position(0, 1);
  EXPECT_EQ(StatusToErrno(Write(op).status), ESTALE);
}

TEST_F(WriteTest, OutsideTheVolumeOrItsLaneIsEinval) {
  WriteOp good = writer_.Data(0, 2, 1);
  for (BlockRange range : std::vector<BlockRange>{
           {255, 2}, {256, 2}, {7, 2}, {8, 2}, {~0ull, 2}, {0, ~0ull}, {0, 0},
           {0, 3}}) {
    WriteOp bad = good;
    bad.range = range;
    EXPECT_EQ(StatusToErrno(Write(bad).status), EINVAL) << range.first;
  }
  EXPECT_TRUE(
      absl::IsOutOfRange(store_->Read(kVolume, {255, 2}).status()));
  EXPECT_TRUE(
      absl::IsOutOfRange(store_->Read(kVolume, {1, ~0ull}).status()));
  EXPECT_TRUE(
      absl::IsOutOfRange(store_->Extents(kVolume, {0, 0}).status()));
  EXPECT_TRUE(
      absl::IsNotFound(WriteOne(store_.get(), VolumeId{5}, good).status));
}

TEST_F(WriteTest, ExtentsTellDataFromHoles) {
  ASSERT_OK(Write(writer_.Data(6, 2, 1)).status);
  ASSERT_OK(Write(writer_.Data(8, 1, 1)).status);
  ASSERT_OK(Write(writer_.Zeroes(WriteKind::kDiscard, 7, 1)).status);
  auto extents = store_->Extents(kVolume, {0, 32});
  ASSERT_TRUE(extents.ok());
  EXPECT_EQ(extents->runs,
            (std::vector<std::pair<uint64_t, bool>>{
                {6, false}, {1, true}, {1, false}, {1, true}, {23, false}}));
  EXPECT_EQ(extents->newest, Position(1, 2));
}

TEST_F(WriteTest, IsThereAfterAReopen) {
  for (uint64_t i = 0; i < 300; ++i) {
    ASSERT_OK(Write(writer_.Data(i * 7 % 256, 1, i)).status);
  }
  Reopen();
  for (uint64_t i = 299; i > 299 - 256; --i) {
    EXPECT_EQ(Read(i * 7 % 256, 1).data, BlockOf(i)) << i;
  }
}

TEST_F(WriteTest, TooLittleSpaceIsRefusedBeforeAnythingIsApplied) {
  store_.reset();
  options_.reserve_bytes = uint64_t{1} << 60;
  Open();
  WriteResult result = Write(writer_.Data(0, 1, 1));
  EXPECT_EQ(StatusToErrno(result.status), ENOSPC);
  EXPECT_EQ(result.lane_position, Position(1, 0));
  EXPECT_FALSE(store_->HasSpaceFor(1));
  EXPECT_EQ(StatusToErrno(store_->CreateVolume(VolumeId{3}, kGeometry)), ENOSPC);
  EXPECT_OK(store_->health());
  EXPECT_TRUE(store_->Flush(kVolume, 0).ok());
  store_.reset();
  options_.reserve_bytes = 0;
  Open();
  EXPECT_TRUE(store_->HasSpaceFor(1));
  writer_.SetPosition(kLane0, Position(1, 0));
  EXPECT_OK(Write(writer_.Data(0, 1, 1)).status);
}

// --- flush ---

TEST_F(FlushTest, AnswersTheLanesOfItsDomain) {
  ASSERT_OK(Write(writer_.Data(0, 1, 1)).status);
  ASSERT_OK(Write(writer_.Data(8, 1, 1)).status);
  ASSERT_OK(Write(writer_.Data(8, 1, 2)).status);
  EXPECT_EQ(StateOf(kLane1).durable_position, Position(1, 0));
  auto flushed = store_->Flush(kVolume, 1);
  ASSERT_TRUE(flushed.ok()) << flushed.status();
  EXPECT_EQ(*flushed, (std::vector<std::pair<LaneId, Position>>{
                          {kLane1, Position(1, 2)}}));
  EXPECT_EQ(StateOf(kLane1).durable_position, Position(1, 2));
  EXPECT_EQ(StateOf(kLane0).durable_position, Position(1, 0));
  EXPECT_TRUE(store_->Flush(kVolume, 1).ok());
  EXPECT_EQ(StatusToErrno(store_->Flush(kVolume, 2).status()), EINVAL);
  EXPECT_TRUE(absl::IsNotFound(store_->Flush(VolumeId{5}, 0).status()));
}

TEST_F(FlushTest, AFuaWriteIsDurableWhenItIsAnswered) {
  WriteResult plain = Write(writer_.Data(0, 1, 1));
  EXPECT_EQ(plain.durable_position, Position(1, 0));
  WriteResult fua = Write(writer_.Data(0, 1, 2, /*fua=*/true));
  ASSERT_OK(fua.status);
  EXPECT_EQ(fua.durable_position, Position(1, 2));
}

TEST_F(FlushTest, AfterAnUncleanStartTheDurablePositionIsTheLastSyncMark) {
  ASSERT_OK(Write(writer_.Data(0, 1, 1)).status);
  ASSERT_TRUE(store_->Flush(kVolume, 0).ok());
  ASSERT_OK(Write(writer_.Data(0, 1, 2)).status);
  Kill();
  EXPECT_EQ(StateOf(kLane0).position, Position(1, 2));
  EXPECT_EQ(StateOf(kLane0).durable_position, Position(1, 1));
  ASSERT_TRUE(store_->Flush(kVolume, 0).ok());
  EXPECT_EQ(StateOf(kLane0).durable_position, Position(1, 2));
}

TEST_F(FlushTest, ManyThreadsShareSyncsAndEachIsCovered) {
  constexpr int kThreads = 8;
  VolumeGeometry geometry{.size_blocks = 512,
                          .lanes = {.lanes = kThreads, .stripe_blocks = 8}};
  const VolumeId id{77};
  Writer all(id, geometry);
  ASSERT_OK(all.Attach(store_.get(), 1));
  std::vector<std::thread> threads;
  for (int t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      Writer mine(id, geometry);
      mine.SetPosition(LaneId(t), Position(1, 0));
      for (int i = 0; i < 50; ++i) {
        WriteOp op = mine.Data(t * 8 + i % 8, 1, t * 1000 + i);
        EXPECT_OK(WriteOne(store_.get(), id, op).status);
        auto flushed = store_->Flush(id, t % 2);
        ASSERT_TRUE(flushed.ok());
        for (const auto& [lane, position] : *flushed) {
          if (lane == LaneId(t)) EXPECT_EQ(position, op.position);
        }
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

// --- takeover ---

TEST_F(TakeoverTest, APromiseIsKeptForEver) {
  EXPECT_OK(store_->Promise(kVolume, 5));
  EXPECT_OK(store_->Promise(kVolume, 5));
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Promise(kVolume, 4)));
  Reopen();
  EXPECT_TRUE(absl::IsFailedPrecondition(store_->Promise(kVolume, 4)));
  EXPECT_EQ(store_->GetVolume(kVolume)->promised_epoch, 5u);
}

TEST_F(TakeoverTest, TakingBaseRemembersWhereTheEarlierEpochEnded) {
  ASSERT_OK(Write(writer_.Data(0, 1, 1)).status);
  const std::vector<std::pair<LaneId, Position>> right = {
      {kLane0, Position(1, 1)}, {kLane1, Position(1, 0)}};
  const std::vector<std::pair<LaneId, Position>> wrong = {
      {kLane0, Position(1, 2)}, {kLane1, Position(1, 0)}};
  ASSERT_OK(store_->Promise(kVolume, 3));
  EXPECT_TRUE(absl::IsAborted(store_->TakeBase(kVolume, 3, 2, wrong)));
  EXPECT_TRUE(
      absl::IsFailedPrecondition(store_->TakeBase(kVolume, 2, 1, right)));
  EXPECT_OK(store_->TakeBase(kVolume, 3, 2, right));
  EXPECT_OK(store_->TakeBase(kVolume, 3, 2, right));
  Reopen();
  EXPECT_EQ(StateOf(kLane0).position, Position(3, 0));
  EXPECT_EQ(StateOf(kLane0).durable_position, Position(3, 0));
  EXPECT_EQ(StateOf(kLane0).lineage,
            (std::vector<LineageEntry>{{0, 0}, {1, 1}}));
}

TEST_F(TakeoverTest, TheEndOfTheLastServingEpochStaysHoweverManyAttachesFail) {
  ASSERT_OK(Write(writer_.Data(0, 1, 1)).status);
  for (Epoch epoch = 2; epoch < 1200; ++epoch) {
    std::vector<std::pair<LaneId, Position>> expected = {
        {kLane0, StateOf(kLane0).position}, {kLane1, StateOf(kLane1).position}};
    ASSERT_OK(store_->TakeBase(kVolume, epoch, 1, expected));
  }
  EXPECT_EQ(StateOf(kLane0).lineage,
            (std::vector<LineageEntry>{{0, 0}, {1, 1}}));
}

TEST_F(TakeoverTest, ATailReadHereMakesAnotherStoreEqual) {
  TempDir other_dir;
  auto other = Store::Open(SmallOptions(other_dir, 1));
  ASSERT_TRUE(other.ok()) << other.status();
  Writer other_writer(kVolume, kGeometry);
  ASSERT_OK(other_writer.Attach(other->get(), 1));
  WriteOp shared = writer_.Data(0, 4, 1);
  ASSERT_OK(Write(shared).status);
  ASSERT_OK(WriteOne(other->get(), kVolume, shared).status);
  ASSERT_OK(Write(writer_.Data(1, 2, 50)).status);
  ASSERT_OK(Write(writer_.Zeroes(WriteKind::kDiscard, 2, 1)).status);
  ASSERT_OK(Write(writer_.Zeroes(WriteKind::kDiscard, 100, 1)).status);

  auto tail = store_->ReadTail(kVolume, kLane0, Position(1, 1), Position(1, 4));
  ASSERT_TRUE(tail.ok()) << tail.status();
  EXPECT_EQ(tail->changes.size(), 3u);
  EXPECT_EQ(tail->versions.size(), 2u);
  Tail damaged = *tail;
  damaged.versions[0].data[7] ^= 1;
  EXPECT_EQ(StatusToErrno((*other)->AdoptTail(kVolume, damaged)), EBADMSG);
  ASSERT_OK((*other)->AdoptTail(kVolume, *tail));
  EXPECT_OK((*other)->AdoptTail(kVolume, *tail));  // again: already there
  EXPECT_EQ((*other)->GetVolume(kVolume)->lanes[0].position, Position(1, 4));
  EXPECT_EQ((*other)->Read(kVolume, {0, 8})->data, Read(0, 8).data);
  auto again =
      (*other)->ReadTail(kVolume, kLane0, Position(1, 1), Position(1, 4));
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->changes.size(), 3u);

  ASSERT_OK(Write(writer_.Data(0, 1, 9)).status);
  auto gap = store_->ReadTail(kVolume, kLane0, Position(1, 2), Position(1, 5));
  ASSERT_TRUE(gap.ok());
  EXPECT_TRUE(absl::IsAborted((*other)->AdoptTail(kVolume, *gap)));
}

TEST_F(TakeoverTest, ATailIsRefusedWhereItCannotBeWhole) {
  ASSERT_OK(Write(writer_.Data(0, 1, 1)).status);
  ASSERT_OK(Write(writer_.Data(0, 1, 2)).status);
  EXPECT_TRUE(absl::IsFailedPrecondition(
      store_->ReadTail(kVolume, kLane0, Position(1, 0), Position(1, 1)).status()));
  EXPECT_TRUE(absl::IsOutOfRange(
      store_->ReadTail(kVolume, kLane0, Position(0, 7), Position(1, 2)).status()));
  ASSERT_TRUE(store_->Flush(kVolume, 0).ok());
  const std::vector<std::pair<LaneId, Position>> points = {
      {kLane0, Position(1, 1)}};
  ASSERT_OK(store_->NoteDurablePoints(kVolume, points));
  EXPECT_TRUE(absl::IsOutOfRange(
      store_->ReadTail(kVolume, kLane0, Position(1, 0), Position(1, 2)).status()));
  EXPECT_TRUE(
      store_->ReadTail(kVolume, kLane0, Position(1, 1), Position(1, 2)).ok());
  const std::vector<std::pair<LaneId, Position>> beyond = {
      {kLane0, Position(1, 3)}};
  EXPECT_TRUE(
      absl::IsInvalidArgument(store_->NoteDurablePoints(kVolume, beyond)));
}

// --- what it tells of its domains ---

uint64_t CountOf(const DomainStats& stats, Step step) {
  uint64_t count = 0;
  for (uint64_t n : stats.steps[static_cast<size_t>(step)].buckets) count += n;
  return count;
}

TEST_F(StatsTest, StepsAreCountedWhereTheyAreDone) {
  const std::vector<DomainStats> before = store_->GetDomainStats();
  ASSERT_EQ(before.size(), 2u);
  ASSERT_OK(Write(writer_.Data(0, 1, 70)).status);  // lane 0, so domain 0
  Read(0, 1);
  ASSERT_TRUE(store_->Flush(kVolume, 0).ok());
  const std::vector<DomainStats> after = store_->GetDomainStats();
  for (Step step : {Step::kWriteBatch, Step::kRead, Step::kWalSync, Step::kFloor}) {
    EXPECT_EQ(CountOf(after[0], step), CountOf(before[0], step) + 1) << static_cast<int>(step);
    EXPECT_GT(after[0].steps[static_cast<size_t>(step)].sum, before[0].steps[static_cast<size_t>(step)].sum);
    EXPECT_EQ(CountOf(after[1], step), CountOf(before[1], step)) << static_cast<int>(step);
  }
}

TEST_F(StatsTest, WhatIsWrittenIsFoundInWalsMemtablesAndBlobs) {
  const DomainStats before = store_->GetDomainStats()[0];
  // Eight memtables' worth.
  for (uint64_t i = 0; i < 8 * options_.memtable_bytes / kBlockBytes; ++i) {
    ASSERT_OK(Write(writer_.Data(i % 8, 1, i)).status);
  }
  const DomainStats after = store_->GetDomainStats()[0];
  EXPECT_GT(after.wal_bytes, before.wal_bytes);
  EXPECT_GT(after.memtable_flushes, before.memtable_flushes);
  EXPECT_GT(after.blob_bytes, before.blob_bytes);
  EXPECT_GT(after.table_bytes, before.table_bytes);
  EXPECT_GT(after.memtable_bytes, 0u);
  EXPECT_FALSE(after.stopped);
}

// A base that came of an attach that was cut off is given up, also where it has been synced.
TEST_F(TakeoverTest, ALaneThatIsTakenBackBelowASyncedBaseOpensAfterAKill) {
  TempDir other_dir;
  auto other = Store::Open(SmallOptions(other_dir, 2));
  ASSERT_TRUE(other.ok()) << other.status();
  Writer other_writer(kVolume, kGeometry);
  ASSERT_OK(other_writer.Attach(other->get(), 1));
  const WriteOp shared = writer_.Data(0, 4, 1);
  const WriteOp longer = writer_.Data(1, 2, 50);
  ASSERT_OK(Write(shared).status);
  ASSERT_OK(WriteOne(other->get(), kVolume, shared).status);
  ASSERT_OK(WriteOne(other->get(), kVolume, longer).status);

  ASSERT_OK(store_->TakeBase(kVolume, 2, 1, {{{kLane0, Position(1, 1)}, {kLane1, Position(1, 0)}}}));
  ASSERT_TRUE(store_->Flush(kVolume, 0).ok());
  auto tail = (*other)->ReadTail(kVolume, kLane0, Position(1, 1), Position(1, 2));
  ASSERT_TRUE(tail.ok()) << tail.status();
  tail->expected = Position(2, 0);
  ASSERT_OK(store_->AdoptTail(kVolume, *tail));

  Kill();
  EXPECT_EQ(StateOf(kLane0).position, Position(1, 2));
  EXPECT_LE(StateOf(kLane0).durable_position, Position(1, 2));
  EXPECT_EQ(Read(0, 8).data, (*other)->Read(kVolume, {0, 8})->data);
  ASSERT_TRUE(store_->Flush(kVolume, 0).ok());
  EXPECT_EQ(StateOf(kLane0).durable_position, Position(1, 2));
  Reopen();
  EXPECT_EQ(StateOf(kLane0).durable_position, Position(1, 2));
}

TEST_F(TakeoverTest, ALaneThatIsTakenBackIsDurableAsFarAsItIsSynced) {
  ASSERT_OK(Write(writer_.Data(0, 1, 1)).status);
  ASSERT_OK(store_->TakeBase(kVolume, 2, 1, {{{kLane0, Position(1, 1)}, {kLane1, Position(1, 0)}}}));
  ASSERT_TRUE(store_->Flush(kVolume, 0).ok());
  Tail nothing{.lane = kLane0, .from = Position(1, 1), .to = Position(1, 1), .expected = Position(2, 0), .lineage = {{0, 0}}};
  ASSERT_OK(store_->AdoptTail(kVolume, nothing));
  auto flushed = store_->Flush(kVolume, 0);
  ASSERT_TRUE(flushed.ok()) << flushed.status();
  EXPECT_EQ(flushed->front().second, Position(1, 1));
  EXPECT_EQ(StateOf(kLane0).durable_position, Position(1, 1));
}

}  // namespace
}  // namespace weir::store
