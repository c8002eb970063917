// A join with the frontend's client calls, from one replica on disks to another.
#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "replica/server/server.h"
#include "replica/store/store.h"
#include "replica/store/testing/temp_store.h"
#include "volume/host/replica_client.h"

namespace weir::testing {
namespace {

using host::Cancellation;
using host::ReplicaClient;
using store::testing::TempDir;
using store::testing::WriteOne;
using store::testing::Writer;

constexpr VolumeId kVolume{42};
constexpr uint32_t kLanes = 2;
// 64 MiB.
constexpr store::VolumeGeometry kGeometry{.size_blocks = 16384,
                                          .lanes = {.lanes = kLanes, .stripe_blocks = 64}};
constexpr absl::Duration kDeadline = absl::Minutes(1);

// One replica and a client of it. Writes go to its store directly.
struct Node {
  TempDir dir;
  store::Store* store = nullptr;  // owned by server
  std::unique_ptr<replica::Server> server;
  std::unique_ptr<ReplicaClient> client;
  v1::Fence fence;

  void Start(Cancellation* cancellation, Epoch epoch) {
    replica::ServerOptions options;
    options.store = store::testing::SmallOptions(dir, 2);
    auto opened = store::Store::Open(options.store);
    ASSERT_TRUE(opened.ok()) << opened.status();
    store = opened->get();
    ASSERT_TRUE(store->BindCluster("cluster").ok());
    auto started = replica::Server::StartWithStore(options, *std::move(opened));
    ASSERT_TRUE(started.ok()) << started.status();
    server = *std::move(started);
    client = std::make_unique<ReplicaClient>(dir.path(), server->address(), cancellation);
    fence.set_cluster_id("cluster");
    fence.set_volume_id(static_cast<uint64_t>(kVolume));
    fence.set_store_id(store->identity().store_id);
    fence.set_incarnation(store->identity().incarnation);
    fence.set_epoch(epoch);
  }
};

class JoinClientTest : public ::testing::Test {
 protected:
  void SetUp() override {
    source_.Start(&cancellation_, 2);
    target_.Start(&cancellation_, 2);
    ASSERT_TRUE(writer_.Attach(source_.store, 1).ok());
    for (uint64_t block = 0; block < kGeometry.size_blocks / 2; block += 64) WriteSource(block, 64);
    ASSERT_TRUE(writer_.Attach(source_.store, 2).ok());
    ASSERT_TRUE(target_.store->CreateVolume(kVolume, kGeometry).ok());
    v1::SealRequest seal;
    *seal.mutable_fence() = target_.fence;
    auto sealed = target_.client->Seal(seal, kDeadline);
    ASSERT_TRUE(sealed.ok()) << sealed.status();
  }
  void WriteSource(uint64_t block, uint64_t count) {
    ASSERT_TRUE(WriteOne(source_.store, kVolume, writer_.Data(block, count, ++stamp_ * 64))
                    .status.ok());
    writer_.Clear();
  }
  // Begins a join where the source is; from nothing if `everything`.
  absl::Status Begin(uint64_t join_id, bool everything) {
    for (uint32_t i = 0; i < kLanes; ++i) {
      const store::LaneState lane = source_.store->GetVolume(kVolume)->lanes[i];
      const Position to = lane.position;
      const Position at = target_.store->GetVolume(kVolume)->lanes[i].position;
      v1::BeginJoinRequest begin;
      *begin.mutable_fence() = target_.fence;
      begin.set_lane(i);
      begin.set_join_id(join_id);
      begin.set_expected_position(at.bits());
      begin.set_to_position(to.bits());
      begin.set_everything(everything);
      for (const LineageEntry& entry : lane.lineage) {
        v1::LineageEntry* added = begin.add_lineage();
        added->set_epoch(entry.epoch);
        added->set_n(entry.n);
      }
      if (!everything) {
        v1::GetChangesRequest ask;
        *ask.mutable_fence() = source_.fence;
        ask.set_lane(i);
        ask.set_from_position(at.bits());
        ask.set_to_position(to.bits());
        auto changes = source_.client->GetChanges(ask, kDeadline);
        if (!changes.ok()) return changes.status();
        begin.set_common_position(at.bits());
        *begin.mutable_changes() = changes->changes();
      }
      if (absl::Status status = target_.client->BeginJoin(begin, kDeadline); !status.ok()) {
        return status;
      }
    }
    return absl::OkStatus();
  }
  v1::GetJoinResponse GetJoin(uint32_t lane) {
    v1::GetJoinRequest ask;
    *ask.mutable_fence() = target_.fence;
    ask.set_lane(lane);
    auto join = target_.client->GetJoin(ask, kDeadline);
    EXPECT_TRUE(join.ok()) << join.status();
    return join.ok() ? *join : v1::GetJoinResponse();
  }
  absl::StatusOr<Position> CopyLane(uint32_t lane) {
    const v1::GetJoinResponse join = GetJoin(lane);
    v1::ReadVersionsRequest read;
    *read.mutable_fence() = source_.fence;
    read.set_lane(lane);
    read.set_at_most_position(join.to_position());
    *read.mutable_ranges() = join.invalid();
    v1::CopyInRequest copy;
    *copy.mutable_fence() = target_.fence;
    copy.set_lane(lane);
    copy.set_join_id(join.join_id());
    copy.set_to_position(join.to_position());
    return target_.client->CopyBlocks(*source_.client, read, copy, kDeadline, &copied_);
  }
  absl::Status Finish(uint64_t join_id) {
    v1::FinishJoinRequest finish;
    *finish.mutable_fence() = target_.fence;
    finish.set_join_id(join_id);
    return target_.client->FinishJoin(finish, kDeadline);
  }
  void ExpectSame() {
    for (uint64_t block = 0; block < kGeometry.size_blocks; block += 64) {
      auto ours = source_.store->Read(kVolume, {block, 64});
      auto theirs = target_.store->Read(kVolume, {block, 64});
      ASSERT_TRUE(ours.ok() && theirs.ok()) << theirs.status();
      ASSERT_TRUE(ours->data == theirs->data) << block;
    }
  }

  Cancellation cancellation_;
  Node source_, target_;
  Writer writer_{kVolume, kGeometry};
  uint64_t stamp_ = 0;
  host::ReplicaClient::Copied copied_;
};

TEST_F(JoinClientTest, ANewReplicaGetsEverythingAndThenOnlyWhatChanged) {
  ASSERT_TRUE(Begin(1, /*everything=*/true).ok());
  EXPECT_EQ(GetJoin(0).invalid_blocks(), kGeometry.size_blocks / kLanes);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    auto reached = CopyLane(lane);
    ASSERT_TRUE(reached.ok()) << reached.status();
    EXPECT_EQ(*reached, source_.store->GetVolume(kVolume)->lanes[lane].position);
  }
  EXPECT_EQ(copied_.bytes, 32u << 20);
  ASSERT_TRUE(Finish(1).ok());
  ExpectSame();

  for (uint64_t block = 5; block < 16384; block += 640) WriteSource(block, 2);
  copied_.bytes = 0;
  ASSERT_TRUE(Begin(2, /*everything=*/false).ok());
  for (uint32_t lane = 0; lane < kLanes; ++lane) ASSERT_TRUE(CopyLane(lane).ok());
  EXPECT_GE(copied_.bytes, 26u * 2 * kBlockBytes);
  EXPECT_LE(copied_.bytes, 2 * 26u * 2 * kBlockBytes) << "with what they had before, where it is kept";
  ASSERT_TRUE(Finish(2).ok());
  ExpectSame();
}

TEST_F(JoinClientTest, ASourceThatGoesAwayIsNamedAndTheCopyGoesOnFromWhereItWas) {
  ASSERT_TRUE(Begin(1, /*everything=*/true).ok());
  const std::string address = source_.server->address();
  source_.server.reset();
  const absl::Status status = CopyLane(0).status();
  EXPECT_FALSE(status.ok());
  EXPECT_NE(status.message().find(address), absl::string_view::npos) << status;
  EXPECT_TRUE(absl::IsFailedPrecondition(Finish(1)));
  source_.Start(&cancellation_, 2);
  for (uint32_t lane = 0; lane < kLanes; ++lane) {
    auto reached = CopyLane(lane);
    ASSERT_TRUE(reached.ok()) << reached.status();
  }
  ASSERT_TRUE(Finish(1).ok());
  ExpectSame();
}

TEST_F(JoinClientTest, ATargetThatRestartedIsToldAndItsJoinBeginsAnew) {
  ASSERT_TRUE(Begin(1, /*everything=*/true).ok());
  ASSERT_TRUE(CopyLane(0).ok());
  const uint64_t before = target_.fence.incarnation();
  target_.server.reset();
  target_.Start(&cancellation_, 2);
  const uint64_t incarnation = target_.fence.incarnation();
  target_.fence.set_incarnation(before);
  EXPECT_TRUE(absl::IsAborted(Begin(2, /*everything=*/false)));
  target_.fence.set_incarnation(incarnation);
  ASSERT_TRUE(Begin(2, /*everything=*/false).ok());
  EXPECT_EQ(GetJoin(0).invalid_blocks(), 0u);
  EXPECT_EQ(GetJoin(1).invalid_blocks(), kGeometry.size_blocks / kLanes);
  ASSERT_TRUE(CopyLane(1).ok());
  ASSERT_TRUE(Finish(2).ok());
  ExpectSame();
}

}  // namespace
}  // namespace weir::testing
