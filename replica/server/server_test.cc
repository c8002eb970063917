#include "replica/server/server.h"

#include <cerrno>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "replica/server/server_fixture.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

using ServerTest = ServerFixture;

TEST_F(ServerTest, TheHelloTellsIdentityLanesAndFlushDomains) {
  StartWithVolume();
  v1::HelloReply hello;
  auto stream = Open(1, 1, &hello);
  EXPECT_EQ(hello.store_id(), "store-under-test");
  EXPECT_EQ(hello.incarnation(), 7u);
  EXPECT_EQ(hello.num_flush_requests(), 2u);
  EXPECT_EQ(hello.lanes_size(), 4);
  EXPECT_EQ(hello.lanes(1).position(), Position(1, 0).bits());
  EXPECT_TRUE(hello.flush_supported());
  EXPECT_GT(hello.inflight_bytes_max(), 0u);
}

TEST_F(ServerTest, AnyClientWritesReadsAndFlushesWithPlainMessages) {
  StartWithVolume();
  auto stream = Open();
  FrameBuilder writes;
  writes.Write(1, 0, Position(1, 1), 'a');
  writes.Write(2, 64, Position(1, 1), 'b');
  v1::Io& zeroes = writes.Add(3, v1::IO_KIND_WRITE_ZEROES, 1);
  zeroes.set_position(Position(1, 2).bits());
  ASSERT_TRUE(stream->Send(writes.frame));
  EXPECT_EQ(stream->Await(1).position(), Position(1, 1).bits());
  EXPECT_EQ(stream->Await(2).error(), 0);
  EXPECT_EQ(stream->Await(3).error(), 0);
  EXPECT_EQ(stream->reply_frames, 1) << "answers of one frame go as one frame";
  EXPECT_EQ(store_->write_calls(), 1) << "writes of one frame are one batch";

  FrameBuilder reads;
  reads.Add(4, v1::IO_KIND_READ, 0, 2);
  reads.Add(5, v1::IO_KIND_READ, 64);
  reads.Add(6, v1::IO_KIND_READ, 10);
  reads.Add(7, v1::IO_KIND_EXTENTS, 0, 4);
  reads.Flush(8, 1);
  ASSERT_TRUE(stream->Send(reads.frame));
  std::string data;
  v1::IoReply reply = stream->Await(4, &data);
  EXPECT_EQ(data, std::string(4096, 'a') + std::string(4096, '\0'));
  EXPECT_EQ(reply.crc32c_size(), 2);
  EXPECT_EQ(reply.position(), Position(1, 2).bits());
  stream->Await(5, &data);
  EXPECT_EQ(data, std::string(4096, 'b'));
  reply = stream->Await(6, &data);
  EXPECT_TRUE(reply.zeroes());
  EXPECT_TRUE(data.empty());
  reply = stream->Await(7);
  ASSERT_EQ(reply.extents_size(), 2);
  EXPECT_TRUE(reply.extents(0).allocated());
  EXPECT_EQ(reply.extents(1).block_count(), 3u);
  reply = stream->Await(8);
  ASSERT_EQ(reply.durable_size(), 2) << "lanes 1 and 3 lie in domain 1";
  EXPECT_EQ(reply.durable(0).lane(), 1u);
  EXPECT_EQ(reply.durable(0).position(), Position(1, 1).bits());
}

TEST_F(ServerTest, AGapIsRequeuedAndNothingOfItApplied) {
  StartWithVolume();
  auto stream = Open();
  FrameBuilder frame;
  frame.Write(1, 0, Position(1, 2), 'x');
  frame.Write(2, 64, Position(1, 1), 'y');
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), EAGAIN);
  EXPECT_EQ(stream->Await(2).error(), 0) << "another lane is not held up";
}

TEST_F(ServerTest, ARefusedWriteLeavesAGapForThoseBehindIt) {
  StartWithVolume();
  auto stream = Open();
  FrameBuilder frame;
  frame.Write(1, 0, Position(1, 1), 'x').set_lane(1);  // not its lane
  frame.Write(2, 0, Position(1, 2), 'y');
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), EINVAL);
  EXPECT_EQ(stream->Await(2).error(), EAGAIN);
}

TEST_F(ServerTest, DataThatDoesNotMatchItsChecksumIsRefused) {
  StartWithVolume();
  auto stream = Open();
  FrameBuilder frame;
  frame.Write(1, 0, Position(1, 1), 'x').set_crc32c(0, 1);
  ASSERT_TRUE(stream->Send(frame.frame));
  EXPECT_EQ(stream->Await(1).error(), EBADMSG);
}

TEST_F(ServerTest, IoGoesOnWhileAFlushSyncs) {
  StartWithVolume();
  auto stream = Open();
  store_->HoldSyncs();
  FrameBuilder flush, write;
  flush.Flush(1, 0);
  ASSERT_TRUE(stream->Send(flush.frame));
  store_->WaitUntilSyncsWait(1);
  write.Write(2, 0, Position(1, 1), 'x');
  ASSERT_TRUE(stream->Send(write.frame));
  EXPECT_EQ(stream->Await(2).error(), 0);
  EXPECT_FALSE(stream->HasReplyTo(1));
  store_->ReleaseSyncs();
  const v1::IoReply reply = stream->Await(1);
  EXPECT_EQ(reply.durable(0).position(), Position(1, 0).bits())
      << "positions are those of the sync's start";
}

TEST_F(ServerTest, EachReplySaysWhatTheReplicaTookForIt) {
  StartWithVolume();
  auto stream = Open();
  store_->HoldSyncs();
  FrameBuilder flush, write;
  flush.Flush(1, 0);
  const absl::Time begun = absl::Now();
  ASSERT_TRUE(stream->Send(flush.frame));
  store_->WaitUntilSyncsWait(1);
  const absl::Time waits = absl::Now();
  write.Write(2, 0, Position(1, 1), 'x');
  ASSERT_TRUE(stream->Send(write.frame));
  EXPECT_GT(stream->Await(2).store_us(), 0u) << "0 would say that it is not told";
  const absl::Duration waited = absl::Now() - waits;
  store_->ReleaseSyncs();
  const absl::Duration took = absl::Microseconds(stream->Await(1).store_us());
  EXPECT_GE(took + absl::Microseconds(1), waited) << "the wait for the sync is the replica's";
  EXPECT_LE(took, absl::Now() - begun);
}

TEST_F(ServerTest, AFuaWriteIsAnsweredOnlyOnceItIsDurable) {
  StartWithVolume();
  auto stream = Open();
  store_->HoldSyncs();
  FrameBuilder fua, behind;
  fua.Write(1, 0, Position(1, 1), 'x').set_fua(true);
  ASSERT_TRUE(stream->Send(fua.frame));
  store_->WaitUntilSyncsWait(1);
  behind.Write(2, 1, Position(1, 2), 'y');
  ASSERT_TRUE(stream->Send(behind.frame));
  EXPECT_EQ(stream->Await(2).error(), 0) << "the write behind is not held up";
  EXPECT_FALSE(stream->HasReplyTo(1));
  store_->ReleaseSyncs();
  const v1::IoReply reply = stream->Await(1);
  ASSERT_EQ(reply.durable_size(), 1) << "its lane only";
  EXPECT_GE(reply.durable(0).position(), Position(1, 1).bits());
}

TEST_F(ServerTest, FlushesThatWaitTogetherShareOneSync) {
  StartWithVolume();
  auto stream = Open();
  store_->HoldSyncs();
  FrameBuilder first;
  first.Flush(1, 0);
  ASSERT_TRUE(stream->Send(first.frame));
  store_->WaitUntilSyncsWait(1);
  FrameBuilder more;
  for (uint64_t id = 2; id <= 9; ++id) more.Flush(id, 0);
  more.Add(10, v1::IO_KIND_READ, 0);
  ASSERT_TRUE(stream->Send(more.frame));
  EXPECT_EQ(stream->Await(10).error(), 0);  // so the flushes have been queued
  store_->ReleaseSyncs();
  for (uint64_t id = 1; id <= 9; ++id) EXPECT_EQ(stream->Await(id).error(), 0);
  EXPECT_EQ(store_->syncs(), 2);
}

TEST_F(ServerTest, HalfCloseIsAnsweredWhenAllRequestsAre) {
  StartWithVolume();
  auto stream = Open();
  store_->HoldSyncs();
  FrameBuilder frame;
  frame.Flush(1, 0);
  ASSERT_TRUE(stream->Send(frame.frame));
  stream->HalfClose();
  store_->WaitUntilSyncsWait(1);
  store_->ReleaseSyncs();
  EXPECT_EQ(stream->Await(1).error(), 0);
  EXPECT_TRUE(stream->DrainAndFinish().ok());
}

TEST_F(ServerTest, SlowReadersAreHeldBackAndLoseNothing) {
  options_.unanswered_bytes_max = 256 << 10;
  StartWithVolume();
  auto stream = Open();
  for (uint64_t block = 0; block < 64; ++block) {
    FrameBuilder write;
    write.Write(block + 1, block, Position(1, block + 1), static_cast<char>('a' + block % 26));
    ASSERT_TRUE(stream->Send(write.frame));
    ASSERT_EQ(stream->Await(block + 1).error(), 0);
  }
  // 64 MiB of answers, asked for at once, before any is read.
  FrameBuilder reads;
  for (uint64_t id = 1000; id < 1256; ++id) reads.Add(id, v1::IO_KIND_READ, 0, 64);
  ASSERT_TRUE(stream->Send(reads.frame));
  std::string data;
  for (uint64_t id = 1000; id < 1256; ++id) {
    EXPECT_EQ(stream->Await(id, &data).error(), 0);
    ASSERT_EQ(data.size(), 64u * 4096);
    EXPECT_EQ(data[63 * 4096], 'a' + 63 % 26);
  }
}

// --- fencing ---

TEST_F(ServerTest, ANewerSessionEndsTheOlderStream) {
  StartWithVolume();
  auto first = Open(1, 1);
  auto second = Open(1, 2);
  EXPECT_EQ(first->DrainAndFinish().code(), absl::StatusCode::kAborted);
  FrameBuilder frame;
  frame.Write(1, 0, Position(1, 1), 'x');
  ASSERT_TRUE(second->Send(frame.frame));
  EXPECT_EQ(second->Await(1).error(), 0);
}

TEST_F(ServerTest, SealEndsTheOldEpochAndItStaysOut) {
  StartWithVolume();
  auto old_stream = Open(1, 1);
  FrameBuilder frame;
  frame.Write(1, 0, Position(1, 1), 'x');
  ASSERT_TRUE(old_stream->Send(frame.frame));
  EXPECT_EQ(old_stream->Await(1).error(), 0);

  v1::SealResponse sealed;
  ASSERT_TRUE(Seal(2, &sealed).ok());
  EXPECT_EQ(sealed.lanes(0).position(), Position(1, 1).bits());
  EXPECT_EQ(sealed.incarnation(), 7u);
  EXPECT_FALSE(sealed.boot_id().empty());
  const absl::Status ended = old_stream->DrainAndFinish();
  EXPECT_EQ(ended.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(StatusToErrno(ended), ESTALE);
  EXPECT_EQ(StatusToErrno(EndOf(HelloOf(1, 2))), ESTALE);
  EXPECT_EQ(StatusToErrno(Seal(1, &sealed)), ESTALE);
  EXPECT_EQ(EndOf(HelloOf(2, 1)).code(), absl::StatusCode::kFailedPrecondition)
      << "the base is not taken yet";
  v1::SealResponse again;
  ASSERT_TRUE(Seal(2, &again).ok()) << "a lost answer may be asked for again";
  EXPECT_EQ(again.SerializeAsString(), sealed.SerializeAsString());
  ASSERT_TRUE(TakeBase(2, again).ok());
  ASSERT_TRUE(TakeBase(2, again).ok()) << "idempotent";
  auto new_stream = Open(2, 1);
}

TEST_F(ServerTest, AHelloThatMeansAnotherReplicaIsRefused) {
  StartWithVolume();
  auto fence = [](v1::IoFrame& frame) { return frame.mutable_hello()->mutable_fence(); };
  v1::IoFrame cluster = HelloOf(1, 1), store = cluster, incarnation = cluster, epoch = cluster,
              volume = cluster;
  fence(cluster)->set_cluster_id("another");
  fence(store)->set_store_id("another");
  fence(incarnation)->set_incarnation(6);
  fence(epoch)->set_epoch(2);
  fence(volume)->set_volume_id(43);
  EXPECT_EQ(EndOf(cluster).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(EndOf(store).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(EndOf(incarnation).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(EndOf(epoch).code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(EndOf(volume).code(), absl::StatusCode::kNotFound);
}

TEST_F(ServerTest, TakeBaseIsBoundToTheIncarnationAndToWhatWasSealed) {
  StartWithVolume();
  v1::SealResponse sealed;
  ASSERT_TRUE(Seal(2, &sealed).ok());
  v1::SealResponse elsewhere = sealed;
  elsewhere.mutable_lanes(0)->set_position(Position(1, 5).bits());
  EXPECT_EQ(TakeBase(2, elsewhere).code(), absl::StatusCode::kAborted);
  grpc::ClientContext context;
  v1::TakeBaseRequest request;
  *request.mutable_fence() = FenceOf(2);
  request.mutable_fence()->set_incarnation(6);
  v1::TakeBaseResponse response;
  EXPECT_EQ(stub_->TakeBase(&context, request, &response).error_code(),
            grpc::StatusCode::ABORTED);
}

TEST_F(ServerTest, ACopyOfTheRecordIsKeptForThePromisedEpochWhateverTheProcess) {
  StartWithVolume();
  auto keep = [this](Epoch epoch, uint64_t revision, const std::string& record,
                     const std::string& store = "store-under-test") {
    grpc::ClientContext context;
    v1::KeepRecordRequest request;
    *request.mutable_fence() = FenceOf(epoch);
    request.mutable_fence()->clear_incarnation();
    request.mutable_fence()->set_store_id(store);
    request.set_revision(revision);
    request.set_record(record);
    v1::KeepRecordResponse response;
    return wire::FromGrpc(stub_->KeepRecord(&context, request, &response));
  };
  EXPECT_TRUE(keep(1, 3, "three").ok());
  EXPECT_TRUE(keep(1, 2, "two").ok()) << "it came late";
  v1::SealResponse sealed;
  ASSERT_TRUE(Seal(2, &sealed).ok());
  EXPECT_EQ(StatusToErrno(keep(1, 4, "of who was taken from")), ESTALE);
  EXPECT_EQ(keep(3, 4, "of who has not sealed").code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(keep(2, 4, "of another disk", "other").code(), absl::StatusCode::kFailedPrecondition);
  grpc::ClientContext context;
  v1::ListRecordsResponse listed;
  ASSERT_TRUE(stub_->ListRecords(&context, v1::ListRecordsRequest(), &listed).ok());
  ASSERT_EQ(listed.records_size(), 1);
  EXPECT_EQ(listed.store_id(), "store-under-test");
  EXPECT_EQ(listed.records(0).record(), "three");
  EXPECT_EQ(listed.records(0).epoch(), 1u);
  EXPECT_EQ(listed.records(0).promised_epoch(), 2u);
  EXPECT_EQ(listed.records(0).size_bytes(), kVolumeBytes);
  EXPECT_EQ(listed.next_volume_id(), 0u);
}

TEST_F(ServerTest, CopiesOfRecordsComeInPages) {
  Start();
  const std::string large(700 << 10, 'r');
  for (uint64_t id = 1; id <= 5; ++id) {
    ASSERT_TRUE(store_->CreateVolume(VolumeId{id}, {.size_blocks = 64, .lanes = {1, 64}}).ok());
    ASSERT_TRUE(store_->KeepRecord(VolumeId{id}, {1, 1, large}).ok());
  }
  std::vector<int> pages;
  v1::ListRecordsRequest request;
  do {
    grpc::ClientContext context;
    v1::ListRecordsResponse page;
    ASSERT_TRUE(stub_->ListRecords(&context, request, &page).ok());
    pages.push_back(page.records_size());
    request.set_from_volume_id(page.next_volume_id());
  } while (request.from_volume_id() != 0);
  EXPECT_EQ(pages, (std::vector<int>{2, 2, 1}));
}

TEST_F(ServerTest, DeletingAVolumeEndsItsStreamAndIsIdempotent) {
  StartWithVolume();
  auto stream = Open();
  for (int i = 0; i < 2; ++i) {
    grpc::ClientContext context;
    v1::DeleteReplicaVolumeRequest request;
    *request.mutable_fence() = FenceOf(1);
    v1::DeleteReplicaVolumeResponse response;
    EXPECT_TRUE(stub_->DeleteVolume(&context, request, &response).ok());
  }
  EXPECT_EQ(stream->DrainAndFinish().code(), absl::StatusCode::kNotFound);
}

// What comes late undoes nothing that was asked for since.
TEST_F(ServerTest, AVolumeIsChangedOnlyIfNoneWasSinceTheReplicaWasAsked) {
  StartWithVolume();
  const auto changes = [this] {
    grpc::ClientContext context;
    v1::GetReplicaRequest request;
    request.set_volume_id(kVolume);
    v1::GetReplicaResponse response;
    EXPECT_TRUE(stub_->GetReplica(&context, request, &response).ok());
    return response.volume_changes();
  };
  const auto delete_volume = [this](uint64_t volume_changes) {
    grpc::ClientContext context;
    v1::DeleteReplicaVolumeRequest request;
    *request.mutable_fence() = FenceOf(1);
    request.set_volume_changes(volume_changes);
    v1::DeleteReplicaVolumeResponse response;
    return stub_->DeleteVolume(&context, request, &response).error_code();
  };
  const auto create_volume = [this](uint64_t volume_changes) {
    grpc::ClientContext context;
    v1::CreateReplicaVolumeRequest request;
    *request.mutable_fence() = FenceOf(1);
    request.set_size_bytes(kVolumeBytes);
    request.set_lanes(FrameBuilder::kLanes);
    request.set_stripe_blocks(FrameBuilder::kStripeBlocks);
    request.set_volume_changes(volume_changes);
    v1::CreateReplicaVolumeResponse response;
    return stub_->CreateVolume(&context, request, &response).error_code();
  };
  const uint64_t before = changes();
  // It is there, and that counts: whoever is told so relies on it.
  EXPECT_EQ(create_volume(before), grpc::StatusCode::OK);
  EXPECT_EQ(delete_volume(before), grpc::StatusCode::ABORTED);
  EXPECT_TRUE(store_->GetVolume(VolumeId{kVolume}).ok());
  EXPECT_EQ(delete_volume(changes()), grpc::StatusCode::OK);
  EXPECT_FALSE(store_->GetVolume(VolumeId{kVolume}).ok());
  EXPECT_EQ(create_volume(before + 1), grpc::StatusCode::ABORTED);
  EXPECT_FALSE(store_->GetVolume(VolumeId{kVolume}).ok());
  EXPECT_EQ(create_volume(changes()), grpc::StatusCode::OK);
}

// A delete whose caller has given up, and has brought the volume back since, must not come late.
TEST_F(ServerTest, ACallWhoseCallerHasGivenUpIsNotBegun) {
  StartWithVolume();
  auto delete_volume = [this](uint64_t volume, absl::Duration deadline) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
    v1::DeleteReplicaVolumeRequest request;
    *request.mutable_fence() = FenceOf(1);
    request.mutable_fence()->set_volume_id(volume);
    v1::DeleteReplicaVolumeResponse response;
    return stub_->DeleteVolume(&context, request, &response).error_code();
  };
  const store::VolumeState kept = *store_->GetVolume(VolumeId{kVolume});
  for (uint64_t volume : {101, 102}) {
    ASSERT_TRUE(store_->CreateVolume(VolumeId{volume}, kept.geometry).ok());
  }
  // Each of the two threads has one.
  store_->HoldDeletes();
  std::vector<std::thread> threads;
  for (uint64_t volume : {101, 102}) {
    threads.emplace_back([&delete_volume, volume] {
      EXPECT_EQ(delete_volume(volume, absl::Seconds(60)), grpc::StatusCode::OK);
    });
  }
  store_->WaitUntilDeletesWait(2);
  EXPECT_EQ(delete_volume(kVolume, absl::Milliseconds(200)), grpc::StatusCode::DEADLINE_EXCEEDED);
  // By the end of another one the server knows of the end of that.
  EXPECT_EQ(delete_volume(999, absl::Milliseconds(200)), grpc::StatusCode::DEADLINE_EXCEEDED);
  store_->ReleaseDeletes();
  for (std::thread& thread : threads) thread.join();
  server_->Shutdown();
  EXPECT_TRUE(store_->GetVolume(VolumeId{kVolume}).ok());
  EXPECT_FALSE(store_->GetVolume(VolumeId{101}).ok());
}

TEST_F(ServerTest, ShutdownEndsStreamsAtOnceAndSaysWhy) {
  StartWithVolume();
  auto stream = Open();
  const absl::Time start = absl::Now();
  server_->Shutdown();
  EXPECT_LT(absl::Now() - start, absl::Seconds(1));
  EXPECT_EQ(stream->DrainAndFinish().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ServerTest, FrontendsHearWhenSpaceRunsOutAndWhenItIsBack) {
  options_.space_check_interval = absl::Milliseconds(5);
  StartWithVolume();
  auto stream = Open();
  v1::IoReplyFrame frame;
  store_->SetFreeBytes(1 << 20);
  ASSERT_TRUE(stream->ReceiveFrame(&frame));
  EXPECT_TRUE(frame.has_space_exhausted() && frame.space_exhausted());
  v1::HelloReply hello;
  auto second = Open(1, 2, &hello);
  EXPECT_TRUE(hello.space_exhausted());
  store_->SetFreeBytes(1 << 30);
  ASSERT_TRUE(second->ReceiveFrame(&frame));
  EXPECT_TRUE(frame.has_space_exhausted() && !frame.space_exhausted());
}

}  // namespace
}  // namespace weir::replica
