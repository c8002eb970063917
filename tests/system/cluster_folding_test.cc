// DESIGN.md, "Barriers": what three replicas answer to a flush, in every order
// of their answers, and what a gRPC client is told. The pure rule is tested in
// volume/engine/result_test.cc; here the whole way is.
#include <algorithm>
#include <cerrno>
#include <vector>

#include "tests/system/cluster_fixture.h"

namespace weir::testing {
namespace {

// Far enough apart that answers come in the order that the delays say; that they have is checked.
constexpr uint32_t kStepMs = 40;

class ClusterFoldingTest : public ClusterTest {
 protected:
  // Nobody may leave, so that the client is told what the rule says.
  void SetUp() override { Start(QuietOptions(), /*min_in_sync=*/3); }

  // Replica i answers its next flush with errors[i]; order[k] is the replica
  // that answers k-th. An error of 0 is no fault.
  IoResult FlushWith(const std::vector<int>& errors, const std::vector<int>& order) {
    EXPECT_TRUE(volume_->Write(0, Blocks('f')).ok());
    for (size_t k = 0; k < order.size(); ++k) {
      const int i = order[k];
      if (errors[i] != 0) FaultNextFlush(i, errors[i], static_cast<uint32_t>(k + 1) * kStepMs);
    }
    return StartFlush().get();
  }

  // An I/O error is held against its target until the next attach.
  void AttachAnew() {
    ASSERT_TRUE(cluster_->ClearFaults().ok());
    volume_.reset();
    ASSERT_TRUE(cluster_->client().Detach("demo", /*force=*/true).ok());
    auto volume = cluster_->client().OpenVolume("demo");
    ASSERT_TRUE(volume.ok()) << volume.status();
    volume_ = *std::move(volume);
  }

  // By the order of their answers: those that were not plain success.
  static std::vector<std::string> InOrder(const IoResult& result) {
    std::vector<std::string> names;
    for (const v1::TargetResult& part : result.targets) names.push_back(part.target());
    return names;
  }

  static int ErrorOf(const IoResult& result, const std::string& target) {
    for (const v1::TargetResult& part : result.targets) {
      if (part.target() == target && part.error() != 0) return part.error();
    }
    return 0;
  }
};

std::string Name(const std::vector<int>& order) {
  std::string name;
  for (int i : order) name += std::to_string(i + 1);
  return "answers in order " + name;
}

std::vector<std::string> Names(const std::vector<int>& order) {
  std::vector<std::string> names;
  for (int i : order) names.push_back("replica" + std::to_string(i + 1));
  return names;
}

TEST_F(ClusterFoldingTest, NotSupportedSupersedesEveryOtherErrorInEveryOrder) {
  const std::vector<int> errors = {EIO, EAGAIN, EOPNOTSUPP};
  std::vector<int> order = {0, 1, 2};
  do {
    SCOPED_TRACE(Name(order));
    IoResult result = FlushWith(errors, order);
    EXPECT_EQ(StatusToErrno(result.status), EOPNOTSUPP) << result.status;
    EXPECT_EQ(result.status.code(), absl::StatusCode::kUnimplemented);
    // What precedence hides is still told, target by target.
    EXPECT_EQ(ErrorOf(result, "replica1"), EIO);
    EXPECT_EQ(ErrorOf(result, "replica2"), EAGAIN);
    EXPECT_EQ(ErrorOf(result, "replica3"), EOPNOTSUPP);
    EXPECT_EQ(InOrder(result), Names(order));
    // And held against its target.
    EXPECT_EQ(StatusToErrno(volume_->Flush()), EIO);
    AttachAnew();
  } while (std::next_permutation(order.begin(), order.end()));
}

TEST_F(ClusterFoldingTest, RequeueSupersedesAnIoErrorAndTheFlushRunsAgain) {
  for (const std::vector<int>& order : {std::vector<int>{0, 1, 2}, std::vector<int>{1, 0, 2}}) {
    SCOPED_TRACE(Name(order));
    IoResult result = FlushWith({EIO, EAGAIN, 0}, order);
    // The second run meets the target that failed in the first.
    EXPECT_EQ(StatusToErrno(result.status), EIO) << result.status;
    EXPECT_EQ(ErrorOf(result, "replica1"), EIO);
    AttachAnew();
  }
}

TEST_F(ClusterFoldingTest, RequeueAloneIsNoErrorAndTheCallerWaits) {
  IoResult result = FlushWith({0, EAGAIN, EAGAIN}, {0, 1, 2});
  EXPECT_TRUE(result.status.ok()) << result.status;
  EXPECT_TRUE(volume_->Flush().ok());
}

TEST_F(ClusterFoldingTest, TheFirstOfTwoErrorsIsKept) {
  IoResult first = FlushWith({EIO, ENOSPC, 0}, {0, 1, 2});
  EXPECT_EQ(StatusToErrno(first.status), EIO) << first.status;
  EXPECT_EQ(InOrder(first), Names({0, 1}));
  AttachAnew();
  IoResult second = FlushWith({EIO, ENOSPC, 0}, {1, 0, 2});
  EXPECT_EQ(StatusToErrno(second.status), ENOSPC) << second.status;
  EXPECT_EQ(ErrorOf(second, "replica1"), EIO);
  EXPECT_EQ(InOrder(second), Names({1, 0}));
}

TEST_F(ClusterFoldingTest, NotSupportedAloneReachesTheClient) {
  IoResult result = FlushWith({0, 0, EOPNOTSUPP}, {2});
  EXPECT_EQ(StatusToErrno(result.status), EOPNOTSUPP) << result.status;
}

TEST_F(ClusterFoldingTest, AControlFlushShowsTheDetailsToo) {
  FaultNextFlush(1, EIO, 0);
  ASSERT_TRUE(volume_->Write(0, Blocks('c')).ok());
  IoResult result = cluster_->client().Flush("demo");
  EXPECT_EQ(StatusToErrno(result.status), EIO);
  EXPECT_EQ(ErrorOf(result, "replica2"), EIO);
}

TEST_F(ClusterFoldingTest, AFailedPreFlushLeavesTheBarriersDataUnwritten) {
  ASSERT_TRUE(volume_->Write(0, Blocks('o')).ok());
  FaultNextFlush(0, EIO, 0);
  absl::Status status = volume_->Barrier(0, Blocks('n'));
  EXPECT_EQ(StatusToErrno(status), EIO) << status;
  AttachAnew();
  EXPECT_TRUE(*volume_->Read(0, 4096) == Blocks('o'));
}

TEST_F(ClusterFoldingTest, AReplicaThatCannotFlushSaysSoAtAttach) {
  v1::Fault fault;
  fault.set_op(v1::FAULT_OP_FLUSH);
  fault.set_error(EOPNOTSUPP);
  ASSERT_TRUE(cluster_->SetFault(2, fault).ok());
  volume_.reset();
  ASSERT_TRUE(cluster_->client().Detach("demo", /*force=*/true).ok());
  auto volume = cluster_->client().OpenVolume("demo");
  ASSERT_TRUE(volume.ok()) << volume.status();
  EXPECT_FALSE((*volume)->flush_supported());
  EXPECT_EQ(StatusToErrno((*volume)->Flush()), EOPNOTSUPP);
  EXPECT_TRUE((*volume)->Write(0, Blocks('w')).ok());
}

class ClusterRequeueTest : public ClusterTest {};

// It leaves by --requeue_deadline; an attach that had no more patience than that would be refused though two are good.
TEST_F(ClusterRequeueTest, AReplicaThatAnswersNothingButRequeueDoesNotKeepTheVolumeFromBeingAttached) {
  ClusterOptions options = QuietOptions();
  options.frontend.requeue_deadline = options.frontend.attach_deadline = absl::Seconds(4);
  Start(options);
  volume_.reset();
  ASSERT_TRUE(cluster_->client().Detach("demo", /*force=*/true).ok());
  v1::Fault fault;
  fault.set_op(v1::FAULT_OP_FLUSH);
  fault.set_error(EAGAIN);
  ASSERT_TRUE(cluster_->SetFault(2, fault).ok());
  auto volume = cluster_->client().OpenVolume("demo");
  ASSERT_TRUE(volume.ok()) << volume.status();
  EXPECT_TRUE((*volume)->Write(0, Blocks('w')).ok());
  EXPECT_TRUE((*volume)->Flush().ok());
}

}  // namespace
}  // namespace weir::testing
