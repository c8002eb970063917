// Copying blocks from one replica to another, on replicas that say what a test wants.
#include "volume/host/replica_client.h"

#include <atomic>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::host {
namespace {

using Runs = std::vector<std::pair<uint64_t, uint64_t>>;

Runs RunsOf(const google::protobuf::RepeatedPtrField<v1::BlockRun>& field) {
  Runs runs;
  for (const v1::BlockRun& run : field) runs.emplace_back(run.first_block(), run.block_count());
  return runs;
}

void AddRuns(const Runs& runs, google::protobuf::RepeatedPtrField<v1::BlockRun>* field) {
  for (const auto& [first, count] : runs) {
    v1::BlockRun* run = field->Add();
    run->set_first_block(first);
    run->set_block_count(count);
  }
}

// Answers each read with the next script: parts, then a status. Records what it is asked.
class ScriptedReplica final : public v1::ReplicaService::Service {
 public:
  struct Script {
    std::vector<v1::VersionsPart> parts;
    grpc::Status status;
    bool hang = false;  // until the caller cancels
  };

  ScriptedReplica() {
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
    builder.RegisterService(this);
    server_ = builder.BuildAndStart();
    address_ = "127.0.0.1:" + std::to_string(port);
  }
  const std::string& address() const { return address_; }

  grpc::Status ReadVersions(grpc::ServerContext* context, const v1::ReadVersionsRequest* request,
                            grpc::ServerWriter<v1::VersionsPart>* writer) override {
    reads.push_back(RunsOf(request->ranges()));
    if (scripts.empty()) return {grpc::StatusCode::INTERNAL, "no script"};
    const Script script = scripts.front();
    scripts.pop_front();
    for (const v1::VersionsPart& part : script.parts) writer->Write(part);
    if (script.hang) {
      if (!hanging.HasBeenNotified()) hanging.Notify();
      // A stream of empty parts: the only way a synchronous service notices a cancellation.
      while (!context->IsCancelled() && writer->Write(v1::VersionsPart())) {
      }
    }
    return script.status;
  }
  grpc::Status CopyIn(grpc::ServerContext*, const v1::CopyInRequest* request,
                      v1::CopyInResponse*) override {
    if (!copy_status.ok()) return copy_status;
    copies.push_back(*request);
    return grpc::Status::OK;
  }

  std::deque<Script> scripts;
  absl::Notification hanging;
  std::vector<Runs> reads;
  std::vector<v1::CopyInRequest> copies;
  grpc::Status copy_status;

 private:
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

v1::VersionsPart Part(const Runs& runs, uint64_t position, int blocks) {
  v1::VersionsPart part;
  AddRuns(runs, part.mutable_ranges());
  part.set_position(position);
  for (int i = 0; i < blocks; ++i) part.add_versions()->set_data(std::string(4096, 'x'));
  return part;
}

class ReplicaClientTest : public ::testing::Test {
 protected:
  absl::StatusOr<Position> Copy(const Runs& runs) {
    v1::ReadVersionsRequest read;
    AddRuns(runs, read.mutable_ranges());
    v1::CopyInRequest copy;
    copy.set_join_id(5);
    copy.set_lane(2);
    copy.set_to_position(77);
    return target_client_.CopyBlocks(source_client_, read, copy, absl::Minutes(1), &copied_);
  }

  ScriptedReplica source_, target_;
  Cancellation cancellation_;
  ReplicaClient source_client_{"s", source_.address(), &cancellation_};
  ReplicaClient target_client_{"t", target_.address(), &cancellation_};
  ReplicaClient::Copied copied_;
};

TEST_F(ReplicaClientTest, CopiesPartByPartAndAsksForWhatAStreamHasLeft) {
  source_.scripts.push_back({{Part({{0, 4}}, 90, 3), Part({{4, 4}, {20, 2}}, 95, 2)}, {}});
  source_.scripts.push_back({{Part({{22, 8}, {50, 1}}, 93, 0)}, {}});
  const absl::StatusOr<Position> position = Copy({{0, 8}, {20, 10}, {50, 1}});
  ASSERT_TRUE(position.ok()) << position.status();
  EXPECT_EQ(position->bits(), 95u);
  EXPECT_EQ(copied_.bytes, 5u * 4096);
  EXPECT_EQ(source_.reads, (std::vector<Runs>{{{0, 8}, {20, 10}, {50, 1}}, {{22, 8}, {50, 1}}}));
  ASSERT_EQ(target_.copies.size(), 3u);
  EXPECT_EQ(RunsOf(target_.copies[1].ranges()), (Runs{{4, 4}, {20, 2}}));
  EXPECT_EQ(target_.copies[1].versions_size(), 2);
  EXPECT_EQ(RunsOf(target_.copies[2].ranges()), (Runs{{22, 8}, {50, 1}}));
  EXPECT_EQ(target_.copies[2].versions_size(), 0);
  for (const v1::CopyInRequest& copy : target_.copies) {
    EXPECT_EQ(copy.join_id(), 5u);
    EXPECT_EQ(copy.lane(), 2u);
    EXPECT_EQ(copy.to_position(), 77u);
  }
}

TEST_F(ReplicaClientTest, ASourceThatFailsIsNamedAndWhatItSentIsCopied) {
  source_.scripts.push_back(
      {{Part({{0, 4}}, 90, 4)}, grpc::Status(grpc::StatusCode::DATA_LOSS, "bad block")});
  const absl::Status status = Copy({{0, 8}}).status();
  EXPECT_TRUE(absl::IsDataLoss(status)) << status;
  EXPECT_NE(status.message().find("replica s"), absl::string_view::npos) << status;
  EXPECT_EQ(target_.copies.size(), 1u);
  EXPECT_EQ(copied_.bytes, 4u * 4096);
}

TEST_F(ReplicaClientTest, ATargetThatRefusesEndsTheReadAndIsNamed) {
  source_.scripts.push_back({{Part({{0, 4}}, 90, 4)}, {}, /*hang=*/true});
  target_.copy_status = grpc::Status(grpc::StatusCode::ABORTED, "another join");
  const absl::Status status = Copy({{0, 8}}).status();
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_NE(status.message().find("replica t"), absl::string_view::npos) << status;
  EXPECT_EQ(copied_.bytes, 0u);
}

TEST_F(ReplicaClientTest, ASourceThatSendsNothingIsAnErrorAndNoLoop) {
  source_.scripts.push_back({{Part({}, 90, 0)}, {}});
  EXPECT_EQ(Copy({{0, 8}}).status().code(), absl::StatusCode::kInternal);
}

TEST_F(ReplicaClientTest, ASourceThatSendsOtherBlocksIsAnErrorAndNoneAreCopied) {
  const std::vector<Runs> wrong = {{{4, 4}},            // leaves some out
                                   {{0, 9}},            // more than it was asked for
                                   {{0, 4}, {20, 10}},  // leaves some out in between
                                   {{20, 10}, {0, 8}},  // not in order
                                   {{0, 0}},            // would never end
                                   {{1000, 8}}};
  for (const Runs& runs : wrong) {
    source_.scripts.push_back({{Part(runs, 90, 1)}, {}});
    const absl::Status status = Copy({{0, 8}, {20, 10}}).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInternal) << status;
    EXPECT_NE(status.message().find("replica s"), absl::string_view::npos) << status;
  }
  EXPECT_TRUE(target_.copies.empty());
}

TEST_F(ReplicaClientTest, ARunMayTakeTwoThatTouchAtOnce) {
  source_.scripts.push_back({{Part({{0, 8}}, 90, 0)}, {}});
  EXPECT_TRUE(Copy({{0, 4}, {4, 4}}).ok());
}

TEST_F(ReplicaClientTest, NoBlocksNeedNoCall) {
  EXPECT_TRUE(Copy({}).ok());
  EXPECT_TRUE(source_.reads.empty());
}

TEST_F(ReplicaClientTest, ACancellationEndsACopyAtOnce) {
  source_.scripts.push_back({{Part({{0, 4}}, 90, 4)}, {}, /*hang=*/true});
  std::thread canceller([this] {
    source_.hanging.WaitForNotification();
    cancellation_.Cancel();
  });
  EXPECT_TRUE(absl::IsCancelled(Copy({{0, 8}}).status()));
  canceller.join();
}

}  // namespace
}  // namespace weir::host
