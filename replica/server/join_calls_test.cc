// The calls of a join over the wire, from one replica to another.
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "proto/wire/status.h"
#include "replica/server/convert.h"
#include "replica/server/server_fixture.h"
#include "replica/store/testing/temp_store.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

using store::testing::WriteOne;
using store::testing::Writer;

constexpr store::VolumeGeometry kGeometry{
    .size_blocks = (64 << 20) / kBlockBytes,
    .lanes = {.lanes = FrameBuilder::kLanes, .stripe_blocks = FrameBuilder::kStripeBlocks}};

// A running replica.
struct Node {
  FakeStore* store = nullptr;  // owned by server
  std::unique_ptr<Server> server;
  std::unique_ptr<v1::ReplicaService::Stub> stub;
};

// The source has blocks 0 to 9 of lane 0 since epoch 1 and 300 more since epoch
// 2; the target has missed epoch 2 and is sealed for it.
class JoinCallsTest : public ServerFixture {
 protected:
  void SetUp() override {
    Start(&source_);
    Start(&target_);
    Writer same(VolumeId{kVolume}, kGeometry);
    ASSERT_TRUE(writer_.Attach(source_.store, 1).ok());
    ASSERT_TRUE(same.Attach(target_.store, 1).ok());
    const store::WriteOp op = writer_.Data(0, 10, 100);
    for (Node* node : {&source_, &target_}) {
      ASSERT_TRUE(WriteOne(node->store, writer_.id, op).status.ok());
    }
    ASSERT_TRUE(writer_.Attach(source_.store, 2).ok());
    for (uint64_t i = 0; i < 300; ++i) {
      const uint64_t block = i / 64 * 256 + i % 64;  // lane 0's
      ASSERT_TRUE(WriteOne(source_.store, writer_.id, writer_.Data(block, 1, 1000 + i)).status.ok());
    }
    v1::SealResponse sealed;
    ASSERT_TRUE(Call(&Stub::Seal, target_, v1::SealRequest(), &sealed, 2).ok());
  }
  void Start(Node* node) {
    auto store = std::make_unique<FakeStore>(2);
    node->store = store.get();
    auto server = Server::StartWithStore(options_, std::move(store));
    ASSERT_TRUE(server.ok()) << server.status();
    node->server = *std::move(server);
    node->stub = v1::ReplicaService::NewStub(
        grpc::CreateChannel(node->server->address(), grpc::InsecureChannelCredentials()));
    ASSERT_TRUE(node->store->BindCluster("cluster").ok());
  }

  using Stub = v1::ReplicaService::Stub;
  template <typename Request, typename Response>
  static absl::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&,
                                                        Response*),
                           Node& node, Request request, Response* response, Epoch epoch = 2) {
    grpc::ClientContext context;
    if (!request.has_fence()) *request.mutable_fence() = FenceOf(epoch);
    return wire::FromGrpc((node.stub.get()->*method)(&context, request, response));
  }
  static v1::BeginJoinRequest BeginOf(uint32_t lane) {
    v1::BeginJoinRequest begin;
    begin.set_lane(lane);
    begin.set_join_id(5);
    begin.set_expected_position(Position(1, lane == 0 ? 1 : 0).bits());
    begin.set_common_position(begin.expected_position());
    begin.set_to_position(Position(2, lane == 0 ? 300 : 0).bits());
    v1::LineageEntry* first = begin.add_lineage();
    first->set_epoch(0);
    v1::LineageEntry* second = begin.add_lineage();
    second->set_epoch(1);
    second->set_n(lane == 0 ? 1 : 0);
    return begin;
  }
  absl::Status Begin(uint32_t lane, const v1::GetChangesResponse& changes = {}) {
    v1::BeginJoinRequest begin = BeginOf(lane);
    *begin.mutable_changes() = changes.changes();
    v1::BeginJoinResponse response;
    return Call(&Stub::BeginJoin, target_, begin, &response);
  }
  // All lanes, with what the source tells of lane 0.
  void BeginAll() {
    v1::GetChangesResponse changes;
    ASSERT_TRUE(GetChanges(&changes).ok());
    for (uint32_t lane = 0; lane < FrameBuilder::kLanes; ++lane) {
      const absl::Status status = Begin(lane, lane == 0 ? changes : v1::GetChangesResponse());
      ASSERT_TRUE(status.ok()) << status;
    }
  }
  absl::Status GetChanges(v1::GetChangesResponse* changes) {
    v1::GetChangesRequest request;
    request.set_from_position(Position(1, 1).bits());
    request.set_to_position(Position(2, 300).bits());
    return Call(&Stub::GetChanges, source_, request, changes);
  }
  absl::Status Read(v1::ReadVersionsRequest request, std::vector<v1::VersionsPart>* parts,
                    Epoch epoch = 2) {
    grpc::ClientContext context;
    if (!request.has_fence()) *request.mutable_fence() = FenceOf(epoch);
    auto reader = source_.stub->ReadVersions(&context, request);
    v1::VersionsPart part;
    while (reader->Read(&part)) parts->push_back(part);
    return wire::FromGrpc(reader->Finish());
  }
  v1::GetJoinResponse GetJoin() {
    v1::GetJoinResponse join;
    EXPECT_TRUE(Call(&Stub::GetJoin, target_, v1::GetJoinRequest(), &join).ok());
    return join;
  }

  Node source_, target_;
  Writer writer_{VolumeId{kVolume}, kGeometry};
};

TEST_F(JoinCallsTest, ALaneGoesFromOneReplicaToAnother) {
  BeginAll();
  EXPECT_EQ(GetJoin().invalid_blocks(), 300u);
  v1::SealResponse sealed;
  ASSERT_TRUE(Call(&Stub::Seal, target_, v1::SealRequest(), &sealed, 2).ok());
  EXPECT_EQ(sealed.lanes(0).invalid_blocks(), 300u);
  EXPECT_EQ(sealed.lanes(0).join_id(), 5u);
  EXPECT_EQ(sealed.lanes(0).join_position(), Position(2, 300).bits());
  EXPECT_EQ(sealed.lanes(1).invalid_blocks(), 0u);

  // Live writes flow before anything is copied, and say why a read is refused.
  stub_ = std::move(target_.stub);
  v1::HelloReply hello;
  auto stream = Open(2, 1, &hello);
  EXPECT_EQ(hello.lanes(0).invalid_blocks(), 300u);
  FrameBuilder frame;
  frame.Write(1, 3, Position(2, 301), 'n');
  frame.Add(2, v1::IO_KIND_READ, 3);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), 0);
  EXPECT_EQ(stream->Await(2).error(), EUCLEAN);
  target_.stub = std::move(stub_);

  v1::ReadVersionsRequest read;
  read.set_at_most_position(Position(2, 300).bits());
  v1::BlockRun* all = read.add_ranges();
  all->set_block_count(kGeometry.size_blocks);
  std::vector<v1::VersionsPart> parts;
  ASSERT_TRUE(Read(read, &parts).ok());
  ASSERT_GE(parts.size(), 2u);  // 1.2 MB
  for (const v1::VersionsPart& part : parts) {
    EXPECT_LT(part.ByteSizeLong(), 1200u * 1000);
    v1::CopyInRequest copy;
    copy.set_join_id(5);
    copy.set_to_position(Position(2, 300).bits());
    *copy.mutable_ranges() = part.ranges();
    *copy.mutable_versions() = part.versions();
    v1::CopyInResponse copied;
    ASSERT_TRUE(Call(&Stub::CopyIn, target_, copy, &copied).ok());
  }
  EXPECT_EQ(GetJoin().invalid_blocks(), 0u);
  v1::FinishJoinRequest finish;
  finish.set_join_id(5);
  v1::FinishJoinResponse finished;
  ASSERT_TRUE(Call(&Stub::FinishJoin, target_, finish, &finished).ok());
  EXPECT_EQ(GetJoin().join_id(), 0u);
  for (uint64_t block : {0, 9, 63, 256, 1024}) {
    const auto ours = target_.store->Read(writer_.id, {block, 1});
    const auto theirs = source_.store->Read(writer_.id, {block, 1});
    EXPECT_EQ(ours->data, theirs->data) << block;
  }
  EXPECT_EQ(target_.store->Read(writer_.id, {3, 1})->data, std::string(kBlockBytes, 'n'));
}

TEST_F(JoinCallsTest, AStreamOpensOnlyOnceEveryLaneHasBegun) {
  stub_ = v1::ReplicaService::NewStub(
      grpc::CreateChannel(target_.server->address(), grpc::InsecureChannelCredentials()));
  ASSERT_TRUE(Begin(0).ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(EndOf(HelloOf(2, 1))));
  for (uint32_t lane = 1; lane < FrameBuilder::kLanes; ++lane) ASSERT_TRUE(Begin(lane).ok());
  auto stream = Open(2, 2);
  FrameBuilder frame;
  frame.Add(1, v1::IO_KIND_READ, 63);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), 0);
}

TEST_F(JoinCallsTest, AReadOfVersionsEndsAfterItsBytesAndSaysHowFarItCame) {
  v1::ReadVersionsRequest read;
  read.set_at_most_position(Position(2, 300).bits());
  read.set_bytes_max(10 * kBlockBytes);
  read.add_ranges()->set_block_count(5);
  read.add_ranges()->set_first_block(20);
  read.mutable_ranges(1)->set_block_count(4000);
  std::vector<v1::VersionsPart> parts;
  ASSERT_TRUE(Read(read, &parts).ok());
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].versions_size(), 10);
  ASSERT_EQ(parts[0].ranges_size(), 1);
  EXPECT_EQ(parts[0].ranges(0).block_count(), 5u);
  EXPECT_EQ(parts[0].position(), Position(2, 300).bits());
  // Nothing at all: nothing to tell.
  parts.clear();
  read.clear_ranges();
  EXPECT_TRUE(Read(read, &parts).ok());
  for (const v1::VersionsPart& part : parts) EXPECT_EQ(part.ranges_size(), 0);
}

TEST_F(JoinCallsTest, EveryCallNeedsThisProcessAndThePromisedEpoch) {
  const auto refused = [this](const v1::Fence& fence) {
    v1::GetChangesRequest changes;
    v1::BeginJoinRequest begin = BeginOf(0);
    v1::CopyInRequest copy;
    v1::GetJoinRequest join;
    v1::FinishJoinRequest finish;
    v1::ReadVersionsRequest read;
    for (v1::Fence* mine : {changes.mutable_fence(), begin.mutable_fence(), copy.mutable_fence(),
                            join.mutable_fence(), finish.mutable_fence(), read.mutable_fence()}) {
      *mine = fence;
    }
    v1::GetChangesResponse told;
    v1::BeginJoinResponse begun;
    v1::CopyInResponse copied;
    v1::GetJoinResponse got;
    v1::FinishJoinResponse finished;
    std::vector<v1::VersionsPart> parts;
    return std::vector<absl::Status>{Call(&Stub::GetChanges, source_, changes, &told),
                                     Read(read, &parts),
                                     Call(&Stub::BeginJoin, target_, begin, &begun),
                                     Call(&Stub::CopyIn, target_, copy, &copied),
                                     Call(&Stub::GetJoin, target_, join, &got),
                                     Call(&Stub::FinishJoin, target_, finish, &finished)};
  };
  v1::Fence fence = FenceOf(2);
  fence.set_incarnation(6);
  for (const absl::Status& status : refused(fence)) EXPECT_TRUE(absl::IsAborted(status)) << status;
  for (const absl::Status& status : refused(FenceOf(1))) {
    EXPECT_EQ(StatusToErrno(status), ESTALE) << status;
  }
  for (const absl::Status& status : refused(FenceOf(3))) {  // not sealed
    EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
    EXPECT_NE(StatusToErrno(status), ESTALE);
  }
  fence = FenceOf(2);
  fence.set_volume_id(1);
  for (const absl::Status& status : refused(fence)) EXPECT_TRUE(absl::IsNotFound(status)) << status;
}

TEST_F(JoinCallsTest, AJoinToAnotherEpochThanTheFencesIsRefused) {
  v1::BeginJoinRequest begin = BeginOf(0);
  begin.set_to_position(Position(3, 0).bits());
  v1::BeginJoinResponse response;
  EXPECT_TRUE(absl::IsInvalidArgument(Call(&Stub::BeginJoin, target_, begin, &response)));
}

TEST_F(JoinCallsTest, ANewerEpochEndsAReadThatIsUnderWay) {
  v1::ReadVersionsRequest read;
  *read.mutable_fence() = FenceOf(2);
  read.set_at_most_position(Position(2, 300).bits());
  read.add_ranges()->set_block_count(kGeometry.size_blocks);
  grpc::ClientContext context;
  auto reader = source_.stub->ReadVersions(&context, read);
  v1::VersionsPart part;
  ASSERT_TRUE(reader->Read(&part));
  v1::SealResponse sealed;
  ASSERT_TRUE(Call(&Stub::Seal, source_, v1::SealRequest(), &sealed, 3).ok());
  // A part that was read before may still come.
  while (reader->Read(&part)) {
  }
  const absl::Status status = wire::FromGrpc(reader->Finish());
  EXPECT_TRUE(status.ok() || StatusToErrno(status) == ESTALE) << status;
  std::vector<v1::VersionsPart> parts;
  EXPECT_EQ(StatusToErrno(Read(read, &parts)), ESTALE);
}

TEST_F(JoinCallsTest, AFrameSaysWhichChangesAreKept) {
  stub_ = v1::ReplicaService::NewStub(
      grpc::CreateChannel(source_.server->address(), grpc::InsecureChannelCredentials()));
  auto stream = Open(2, 1);
  FrameBuilder frame;
  v1::LanePosition* kept = frame.frame.mutable_keep_changes()->add_after();
  kept->set_lane(1);
  kept->set_position(Position(1, 0).bits());
  frame.Add(1, v1::IO_KIND_READ, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  stream->Await(1);
  EXPECT_EQ(source_.store->kept_changes(), (LanePositions{{LaneId{1}, Position(1, 0)}}));
  FrameBuilder none;
  none.frame.mutable_keep_changes();
  none.Add(2, v1::IO_KIND_READ, 0);
  ASSERT_TRUE(stream->Send(none.frame));
  stream->Await(2);
  EXPECT_TRUE(source_.store->kept_changes().empty());
}

TEST_F(JoinCallsTest, TheWholeJoinMayBeAskedForInPages) {
  BeginAll();
  v1::GetJoinRequest page;
  page.set_ranges_max(2);
  std::vector<uint64_t> firsts;
  v1::GetJoinResponse join;
  do {
    ASSERT_TRUE(Call(&Stub::GetJoin, target_, page, &join).ok());
    for (const v1::BlockRun& run : join.invalid()) firsts.push_back(run.first_block());
    page.set_from_block(join.next_block());
  } while (join.next_block() < kGeometry.size_blocks);
  EXPECT_EQ(firsts, (std::vector<uint64_t>{0, 256, 512, 768, 1024}));
  EXPECT_EQ(join.join_id(), 5u);
  EXPECT_EQ(join.to_position(), Position(2, 300).bits());
}

}  // namespace
}  // namespace weir::replica
