#include "replica/server/admission.h"

#include <cerrno>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"

namespace weir::replica {
namespace {

const store::Identity kOurs = {"store-a", "cluster-a", 1, 7};

v1::Fence FenceOf(const std::string& cluster, const std::string& store, uint64_t incarnation,
                  Epoch epoch = 1) {
  v1::Fence fence;
  fence.set_cluster_id(cluster);
  fence.set_store_id(store);
  fence.set_incarnation(incarnation);
  fence.set_epoch(epoch);
  return fence;
}

TEST(AdmissionTest, OnlyWhoKnowsWhomItSpeaksToGetsIn) {
  using enum Acquaintance;
  constexpr auto kOk = absl::StatusCode::kOk;
  constexpr auto kInvalid = absl::StatusCode::kInvalidArgument;
  constexpr auto kPrecondition = absl::StatusCode::kFailedPrecondition;
  constexpr auto kAborted = absl::StatusCode::kAborted;
  struct Case {
    const char* name;
    v1::Fence fence;
    Acquaintance acquaintance;
    absl::StatusCode code;
  };
  const std::vector<Case> cases = {
      {"all known", FenceOf("cluster-a", "store-a", 7), kProcess, kOk},
      {"a stranger knows the cluster at least", FenceOf("", "", 0), kStranger, kInvalid},
      {"a stranger need not know more", FenceOf("cluster-a", "", 0), kStranger, kOk},
      {"but if it does it must be right", FenceOf("cluster-a", "store-b", 0), kStranger,
       kPrecondition},
      {"another cluster", FenceOf("cluster-b", "store-a", 7), kProcess, kPrecondition},
      {"a stream names the store", FenceOf("cluster-a", "", 0), kStore, kInvalid},
      {"a reconnecting stream may not know the incarnation", FenceOf("cluster-a", "store-a", 0),
       kStore, kOk},
      {"an earlier incarnation", FenceOf("cluster-a", "store-a", 6), kStore, kPrecondition},
      {"a takeover must know the incarnation", FenceOf("cluster-a", "store-a", 0), kProcess,
       kAborted},
      {"a takeover of an earlier incarnation", FenceOf("cluster-a", "store-a", 6), kProcess,
       kAborted},
  };
  for (const Case& c : cases) {
    EXPECT_EQ(CheckIdentity(kOurs, c.fence, c.acquaintance).code(), c.code) << c.name;
  }
  for (const auto& [protocol, code] : {std::pair(1u, kOk), std::pair(2u, kOk), std::pair(3u, kPrecondition)}) {
    v1::Fence fence = FenceOf("cluster-a", "store-a", 7);
    fence.set_protocol(protocol);
    EXPECT_EQ(CheckIdentity(kOurs, fence, kStranger).code(), code) << protocol;
  }
  const store::Identity unbound = {"store-a", "", 1, 7};
  EXPECT_TRUE(CheckIdentity(unbound, FenceOf("any", "", 0), kStranger).ok());
}

TEST(AdmissionTest, AnEpochBelowThePromiseIsFencedForEver) {
  const absl::Status fenced = CheckEpochNotBelow(5, FenceOf("c", "s", 7, 4));
  EXPECT_EQ(fenced.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(StatusToErrno(fenced), ESTALE);
  EXPECT_TRUE(CheckEpochNotBelow(5, FenceOf("c", "s", 7, 5)).ok());
  EXPECT_TRUE(CheckEpochNotBelow(5, FenceOf("c", "s", 7, 6)).ok());
  EXPECT_EQ(CheckEpochIs(5, FenceOf("c", "s", 7, 6)).code(),
            absl::StatusCode::kFailedPrecondition)
      << "not sealed yet";
  for (Epoch epoch : {Epoch{0}, Position::kEpochMax + 1}) {
    EXPECT_EQ(CheckEpochNotBelow(0, FenceOf("c", "s", 7, epoch)).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

TEST(AdmissionTest, AStreamWaitsForEveryLanesBase) {
  store::VolumeState volume;
  volume.lanes.resize(2);
  volume.lanes[0].position = Position(3, 9);
  volume.lanes[1].position = Position(2, 9);
  EXPECT_FALSE(CheckBaseTaken(volume, 3).ok());
  volume.lanes[1].position = Position(3, 0);
  EXPECT_TRUE(CheckBaseTaken(volume, 3).ok());
}

TEST(AdmissionTest, GeometryHasBounds) {
  EXPECT_TRUE(CheckGeometry(4096, 1, 1).ok());
  EXPECT_TRUE(CheckGeometry(uint64_t{1} << 40, 4, 64).ok());
  for (uint64_t size : {uint64_t{0}, uint64_t{4095}, uint64_t{6000}, ~uint64_t{4095}}) {
    EXPECT_FALSE(CheckGeometry(size, 4, 64).ok()) << size;
  }
  EXPECT_FALSE(CheckGeometry(4096, 0, 64).ok());
  EXPECT_FALSE(CheckGeometry(4096, kLanesMax + 1, 64).ok());
  EXPECT_FALSE(CheckGeometry(4096, 4, 0).ok());
  EXPECT_FALSE(CheckGeometry(4096, 4, kStripeBlocksMax + 1).ok());
}

v1::Io WriteOf(uint64_t block, uint32_t count) {
  v1::Io io;
  io.set_kind(v1::IO_KIND_WRITE);
  io.set_first_block(block);
  io.set_block_count(count);
  for (uint32_t i = 0; i < count; ++i) io.add_crc32c(1);
  return io;
}

TEST(AdmissionTest, AFrameMustSayWhichBytesAreWhose) {
  v1::IoFrame frame;
  *frame.add_ios() = WriteOf(0, 2);
  *frame.add_ios() = WriteOf(2, 1);
  EXPECT_TRUE(CheckFrame(frame, 3 * 4096, 10).ok());
  EXPECT_FALSE(CheckFrame(frame, 3 * 4096 - 1, 10).ok());
  EXPECT_FALSE(CheckFrame(frame, 0, 10).ok());
  EXPECT_FALSE(CheckFrame(frame, 3 * 4096, 1).ok()) << "too many ios";
  v1::IoFrame again = frame;
  again.mutable_hello();
  EXPECT_FALSE(CheckFrame(again, 3 * 4096, 10).ok()) << "hello twice";
  v1::IoFrame unknown = frame;
  unknown.mutable_ios(1)->set_kind(static_cast<v1::IoKind>(77));
  EXPECT_FALSE(CheckFrame(unknown, 2 * 4096, 10).ok());
  v1::IoFrame no_crc = frame;
  no_crc.mutable_ios(0)->clear_crc32c();
  EXPECT_FALSE(CheckFrame(no_crc, 3 * 4096, 10).ok());
  v1::IoFrame huge;
  huge.add_ios()->set_kind(v1::IO_KIND_WRITE);
  huge.mutable_ios(0)->set_block_count(UINT32_MAX);
  EXPECT_FALSE(CheckFrame(huge, 0, 10).ok());
}

TEST(AdmissionTest, AnIoMustLieInItsLaneAndVolume) {
  StreamScope scope;
  scope.geometry.size_blocks = 1000;
  scope.geometry.lanes = {.lanes = 4, .stripe_blocks = 64};
  scope.domains = 2;
  scope.num_flush_requests = 2;
  auto io = [](uint64_t block, uint32_t count, uint32_t lane) {
    v1::Io result = WriteOf(block, count);
    result.set_lane(lane);
    return result;
  };
  EXPECT_TRUE(CheckIo(io(0, 64, 0), scope).ok());
  EXPECT_TRUE(CheckIo(io(64, 1, 1), scope).ok());
  EXPECT_TRUE(CheckIo(io(999, 1, 3), scope).ok());
  EXPECT_EQ(StatusToErrno(CheckIo(io(0, 0, 0), scope)), EINVAL) << "no blocks";
  EXPECT_FALSE(CheckIo(io(63, 2, 0), scope).ok()) << "crosses a stripe";
  EXPECT_FALSE(CheckIo(io(0, 1, 1), scope).ok()) << "another lane's";
  EXPECT_FALSE(CheckIo(io(999, 2, 3), scope).ok()) << "past the end";
  EXPECT_FALSE(CheckIo(io(~uint64_t{0}, 2, 3), scope).ok()) << "wraps around";
  v1::Io flush;
  flush.set_kind(v1::IO_KIND_FLUSH);
  flush.set_flush_nr(1);
  EXPECT_TRUE(CheckIo(flush, scope).ok());
  flush.set_flush_nr(2);
  EXPECT_FALSE(CheckIo(flush, scope).ok());
}

}  // namespace
}  // namespace weir::replica
