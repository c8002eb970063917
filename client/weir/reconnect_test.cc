// What a volume handle does when its stream ends, and when answers come late,
// twice, or make no sense.
#include <cerrno>
#include <string>
#include <vector>

#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "client/weir/client.h"
#include "client/weir/fake_frontend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"

namespace weir {
namespace {

using ::testing::HasSubstr;
using Act = FakeFrontend::Act;

std::string Block(char c) { return std::string(4096, c); }
std::string Message(const absl::Status& status) { return std::string(status.message()); }

class ReconnectTest : public ::testing::Test {
 protected:
  ReconnectTest() {
    options_.reconnect_delay_min = absl::Milliseconds(1);
    options_.reconnect_delay_max = absl::Milliseconds(10);
  }

  void Open() {
    auto client = Client::Connect(frontend_.address(), options_);
    ASSERT_TRUE(client.ok()) << client.status();
    auto volume = (*client)->OpenVolume("demo");
    ASSERT_TRUE(volume.ok()) << volume.status();
    volume_ = *std::move(volume);
  }

  FakeFrontend frontend_;
  ClientOptions options_;
  std::unique_ptr<Volume> volume_;
};

TEST_F(ReconnectTest, SendsAWriteAgainThatWasNotCarriedOut) {
  Open();
  frontend_.Script({Act::kBreakBefore});
  ASSERT_TRUE(volume_->Write(0, Block('a')).ok());
  EXPECT_TRUE(*volume_->Read(0, 4096) == Block('a'));
  EXPECT_EQ(frontend_.opens(), 2);
  EXPECT_EQ(frontend_.attaches(), 1);
}

TEST_F(ReconnectTest, SendsAWriteAgainWhoseReplyWasLost) {
  Open();
  frontend_.Script({Act::kBreakAfter, Act::kBreakAfter});
  ASSERT_TRUE(volume_->Write(0, Block('a')).ok());
  EXPECT_EQ(frontend_.requests().size(), 3u);
  EXPECT_TRUE(*volume_->Read(0, 4096) == Block('a'));
}

TEST_F(ReconnectTest, ASuccessorsSessionIsHigherThanAllOfTheOneThatDied) {
  options_.succession = {"heirloom", 1, 0};
  Open();
  const uint32_t epoch = volume_->epoch();
  frontend_.Script({Act::kBreakBefore});
  ASSERT_TRUE(volume_->Flush().ok());
  volume_.reset();
  options_.succession = {"heirloom", 2, epoch};
  Open();
  const auto sessions = frontend_.sessions();
  ASSERT_EQ(sessions.size(), 3u);
  for (const auto& [client, session] : sessions) EXPECT_EQ(client, "heirloom");
  EXPECT_LT(sessions[0].second, sessions[1].second);
  EXPECT_LT(sessions[1].second, sessions[2].second);
}

TEST_F(ReconnectTest, ASuccessorGoesOnAfterATakeoverThatLostNothing) {
  options_.succession = {"heirloom", 1, 0};
  Open();
  const uint32_t epoch = volume_->epoch();
  volume_.reset();
  frontend_.Restart(epoch + 2, /*intact_since=*/epoch);
  options_.succession = {"heirloom", 2, epoch};
  Open();
  EXPECT_TRUE(volume_->Flush().ok());
}

TEST_F(ReconnectTest, ASuccessorIsRefusedWhereWritesMayBeLost) {
  options_.succession = {"heirloom", 1, 0};
  Open();
  const uint32_t epoch = volume_->epoch();
  volume_.reset();
  frontend_.Restart(epoch + 2, /*intact_since=*/epoch + 1);
  options_.succession = {"heirloom", 2, epoch};
  auto client = Client::Connect(frontend_.address(), options_);
  ASSERT_TRUE(client.ok());
  const absl::Status refused = (*client)->OpenVolume("demo").status();
  EXPECT_TRUE(absl::IsAborted(refused)) << refused;
  // Whoever succeeds nobody may have it.
  options_.succession = {};
  Open();
}

TEST_F(ReconnectTest, SendsFlushesAndReadsAgain) {
  Open();
  ASSERT_TRUE(volume_->Write(0, Block('a')).ok());
  frontend_.Script({Act::kBreakAfter});
  EXPECT_TRUE(volume_->Flush().ok());
  frontend_.Script({Act::kBreakAfter});
  auto data = volume_->Read(0, 4096);
  ASSERT_TRUE(data.ok());
  EXPECT_TRUE(*data == Block('a'));
}

TEST_F(ReconnectTest, SendsEverythingAgainInTheOrderOfSubmission) {
  Open();
  frontend_.Hold();
  absl::BlockingCounter left(8);
  for (int i = 0; i < 8; ++i) {
    volume_->WriteAsync(i * 4096, Block('a' + i), false, [&](IoResult result) {
      EXPECT_TRUE(result.status.ok()) << result.status;
      left.DecrementCount();
    });
  }
  frontend_.AwaitRequests(1);
  frontend_.Script({Act::kAnswer, Act::kBreakBefore});
  frontend_.Release();
  left.Wait();
  std::vector<v1::VolumeIo> requests = frontend_.requests();
  ASSERT_GE(requests.size(), 8u);
  // The last seven arrivals are the second stream's.
  for (int i = 1; i < 8; ++i) {
    EXPECT_EQ(requests[requests.size() - 8 + i].offset_bytes(), i * 4096u);
  }
}

TEST_F(ReconnectTest, ARequestThatComesWhileOthersAreSentAgainGoesAfterThem) {
  constexpr int kWaiting = 2000, kMore = 8000;
  options_.inflight_bytes_max = 64 << 20;
  Open();
  frontend_.Hold();
  absl::BlockingCounter left(kWaiting + kMore);
  const auto answered = [&](IoResult result) {
    EXPECT_TRUE(result.status.ok()) << result.status;
    left.DecrementCount();
  };
  for (int i = 0; i < kWaiting; ++i) volume_->WriteAsync(0, Block('w'), false, answered);
  frontend_.AwaitRequests(1);
  frontend_.Script({Act::kBreakBefore});
  frontend_.Release();
  for (int i = 0; i < kMore; ++i) volume_->BarrierAsync(0, Block('b'), answered);
  left.Wait();
  EXPECT_EQ(frontend_.opens(), 2);
  // Ids rise in the order of submission; they fall once, where the second stream begins.
  int falls = 0;
  uint64_t last = 0;
  for (const v1::VolumeIo& request : frontend_.requests()) {
    if (request.id() <= last) ++falls;
    last = request.id();
  }
  EXPECT_EQ(falls, 1);
}

TEST_F(ReconnectTest, ANewStreamSupersedesTheOlderOneOfTheSameHandle) {
  Open();
  frontend_.Script({Act::kBreakBefore});
  ASSERT_TRUE(volume_->Write(0, Block('a')).ok());
  Open();  // another handle
  auto sessions = frontend_.sessions();
  ASSERT_EQ(sessions.size(), 3u);
  EXPECT_EQ(sessions[0].first, sessions[1].first);
  EXPECT_GT(sessions[1].second, sessions[0].second);
  EXPECT_NE(sessions[2].first, sessions[0].first);
  EXPECT_EQ(sessions[0].first.size(), 32u);
}

TEST_F(ReconnectTest, AnAnswerCountsOnce) {
  Open();
  frontend_.Script({Act::kAnswerTwice, Act::kAnswerTwice});
  int answers = 0;
  absl::Notification done;
  volume_->WriteAsync(0, Block('a'), false, [&](IoResult result) {
    EXPECT_TRUE(result.status.ok());
    ++answers;
    done.Notify();
  });
  done.WaitForNotification();
  auto data = volume_->Read(0, 4096);
  ASSERT_TRUE(data.ok()) << data.status();
  EXPECT_TRUE(*data == Block('a'));
  EXPECT_TRUE(volume_->Flush().ok());
  EXPECT_EQ(answers, 1);
  EXPECT_EQ(frontend_.opens(), 1);
}

TEST_F(ReconnectTest, AShortReadFailsAndOnlyThatRead) {
  Open();
  frontend_.Script({Act::kAnswerShort});
  auto data = volume_->Read(0, 8192);
  EXPECT_EQ(StatusToErrno(data.status()), EIO);
  EXPECT_THAT(Message(data.status()), HasSubstr("malformed reply"));
  EXPECT_TRUE(volume_->Read(0, 8192).ok());
  EXPECT_EQ(frontend_.opens(), 1);
}

TEST_F(ReconnectTest, AMalformedFrameIsTriedAgainAndThenFailsTheRequest) {
  Open();
  frontend_.Script({Act::kGarbage});
  EXPECT_TRUE(volume_->Write(0, Block('a')).ok());
  EXPECT_EQ(frontend_.opens(), 2);
  frontend_.Script({Act::kGarbage, Act::kGarbage, Act::kGarbage});
  EXPECT_THAT(Message(volume_->Write(0, Block('a'))), HasSubstr("malformed frame"));
  EXPECT_TRUE(volume_->Flush().ok());
}

TEST_F(ReconnectTest, AttachesAFrontendThatWasRestarted) {
  Open();
  frontend_.Restart(/*epoch=*/1);
  EXPECT_TRUE(volume_->Flush().ok());
  EXPECT_EQ(frontend_.attaches(), 2);
}

TEST_F(ReconnectTest, AfterATakeoverEverythingFailsUntilReset) {
  Open();
  ASSERT_TRUE(volume_->Write(0, Block('a')).ok());
  frontend_.Restart(/*epoch=*/2);
  absl::Status flush = volume_->Flush();
  EXPECT_EQ(flush.code(), absl::StatusCode::kAborted) << flush;
  EXPECT_THAT(Message(flush), HasSubstr("epoch 1, now 2"));
  EXPECT_EQ(volume_->Write(0, Block('b')).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(volume_->Read(0, 4096).status().code(), absl::StatusCode::kAborted);
  EXPECT_EQ(frontend_.requests().size(), 1u);  // none of these went out

  volume_->Reset();
  EXPECT_TRUE(volume_->Flush().ok());
  EXPECT_TRUE(volume_->Write(0, Block('b')).ok());
  EXPECT_EQ(volume_->epoch(), 2u);
}

TEST_F(ReconnectTest, GoesOnAfterATakeoverThatHasLostNothing) {
  Open();
  ASSERT_TRUE(volume_->Write(0, Block('a')).ok());
  frontend_.Restart(/*epoch=*/3, /*intact_since=*/1);
  EXPECT_TRUE(volume_->Flush().ok());
  EXPECT_EQ(volume_->epoch(), 3u);
  frontend_.Restart(/*epoch=*/4, /*intact_since=*/4);
  EXPECT_EQ(volume_->Flush().code(), absl::StatusCode::kAborted);
}

TEST_F(ReconnectTest, DoesNotGoBackToAnOlderEpoch) {
  Open();
  frontend_.Restart(/*epoch=*/3, /*intact_since=*/1);
  ASSERT_TRUE(volume_->Flush().ok());
  frontend_.Restart(/*epoch=*/2, /*intact_since=*/1);
  EXPECT_EQ(volume_->Flush().code(), absl::StatusCode::kAborted);
}

TEST_F(ReconnectTest, AnUnansweredWriteOfAnOlderEpochIsNotSentAgain) {
  Open();
  frontend_.Hold();
  absl::Notification done;
  absl::Status status;
  volume_->WriteAsync(0, Block('a'), false, [&](IoResult result) {
    status = result.status;
    done.Notify();
  });
  frontend_.AwaitRequests(1);
  frontend_.Script({Act::kBreakBefore});
  frontend_.Release();
  frontend_.Restart(/*epoch=*/2);
  done.WaitForNotification();
  if (status.ok()) GTEST_SKIP() << "the stream was opened again before the restart";
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
}

TEST_F(ReconnectTest, AStaleAnswerRefusesEverythingUntilReset) {
  Open();
  frontend_.Script({Act::kStale});
  EXPECT_EQ(volume_->Write(0, Block('a')).code(), absl::StatusCode::kAborted);
  EXPECT_EQ(volume_->Flush().code(), absl::StatusCode::kAborted);
  volume_->Reset();
  EXPECT_TRUE(volume_->Flush().ok());
}

TEST_F(ReconnectTest, ADetachIsNotUndoneBehindTheOperatorsBack) {
  Open();
  frontend_.Script({Act::kDetach});
  absl::Status status = volume_->Flush();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_THAT(Message(status), HasSubstr("detached"));
  EXPECT_EQ(frontend_.attaches(), 1);
  volume_->Reset();
  EXPECT_TRUE(volume_->Flush().ok());
  EXPECT_EQ(frontend_.attaches(), 2);
}

TEST_F(ReconnectTest, AVolumeThatAnotherFrontendHasByNowIsNotWaitedFor) {
  Open();
  frontend_.RestartWithoutIt();
  const absl::Status status = volume_->Write(0, Block('a'));
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted) << status;
  EXPECT_THAT(Message(status), HasSubstr("frontend two"));
}

TEST_F(ReconnectTest, ADeletedVolumeIsNotFound) {
  Open();
  frontend_.Script({Act::kDelete});
  EXPECT_EQ(volume_->Flush().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(volume_->Write(0, Block('a')).code(), absl::StatusCode::kNotFound);
}

TEST_F(ReconnectTest, GivesUpAfterTheTimeoutAndRecoversLater) {
  options_.timeout = absl::Milliseconds(100);
  Open();
  frontend_.Stop();
  absl::Status status = volume_->Write(0, Block('a'));
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable);
  EXPECT_THAT(Message(status), HasSubstr("check that weir-volume runs"));
  frontend_.Start();
  while (!status.ok()) status = volume_->Write(0, Block('a'));  // until it has found it
  EXPECT_TRUE(*volume_->Read(0, 4096) == Block('a'));
}

TEST_F(ReconnectTest, TheHandleMayBeDroppedWhileItReconnects) {
  Open();
  frontend_.Stop();
  volume_.reset();
}

TEST_F(ReconnectTest, ResetOfAnOpenHandleChangesNothing) {
  Open();
  volume_->Reset();
  EXPECT_TRUE(volume_->Flush().ok());
  EXPECT_EQ(frontend_.opens(), 1);
}

}  // namespace
}  // namespace weir
