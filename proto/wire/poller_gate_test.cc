#include "proto/wire/poller_gate.h"

#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/synchronization/notification.h"
#include "absl/time/clock.h"
#include "grpc/support/cpu.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "gtest/gtest.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::wire {
namespace {

const absl::Duration kAWhile = 20 * PollerGate::kHeldUp;

// A thread that takes one step at a time.
class Stepper {
 public:
  ~Stepper() {
    if (!next_.HasBeenNotified()) next_.Notify();
    if (thread_.joinable()) thread_.join();
  }
  // Begins to Enter.
  void Enter(PollerGate* gate) {
    thread_ = std::thread([this, gate] {
      gate->Enter();
      entered_.store(true);
      next_.WaitForNotification();
      then_();
    });
  }
  bool entered() const { return entered_.load(); }
  bool EntersWithin(absl::Duration wait) {
    for (const absl::Duration until = SteadyNow() + wait; !entered() && SteadyNow() < until;) absl::SleepFor(absl::Milliseconds(1));
    return entered();
  }
  void Then(std::function<void()> then) {
    then_ = std::move(then);
    next_.Notify();
  }

 private:
  std::function<void()> then_ = [] {};
  std::atomic<bool> entered_{false};
  absl::Notification next_;
  std::thread thread_;
};

TEST(PollerGateTest, OneWaitsAndTheNextOneOnceThatHasFoundNothing) {
  PollerGate gate;
  Stepper second;
  gate.Enter();
  second.Enter(&gate);
  EXPECT_FALSE(second.EntersWithin(kAWhile));
  gate.Leave(/*got_event=*/false);
  EXPECT_TRUE(second.EntersWithin(absl::Minutes(1)));
  second.Then([&] { gate.Leave(false); });
}

TEST(PollerGateTest, WhoHasAnEventComesBackBeforeAnother) {
  bool kept = false;
  for (int tries = 0; tries < 100 && !kept; ++tries) {  // since this thread itself may be held up
    PollerGate gate;
    gate.Enter();
    std::atomic<bool> overtaken{false};
    std::thread second([&] {
      gate.Enter();
      overtaken.store(true);
      gate.Leave(false);
    });
    absl::SleepFor(absl::Milliseconds(1));
    for (int i = 0; i < 1000; ++i) {
      gate.Leave(/*got_event=*/true);
      gate.Enter();
    }
    kept = !overtaken.load();
    gate.Leave(false);
    second.join();
    EXPECT_TRUE(overtaken.load());
  }
  EXPECT_TRUE(kept);
}

TEST(PollerGateTest, WhoIsHeldUpByItsEventLosesTheTurnAndGetsItBackLater) {
  for (const absl::Duration idle : {absl::ZeroDuration(), kAWhile}) {
    PollerGate gate;
    Stepper second;
    gate.Enter();
    second.Enter(&gate);
    absl::SleepFor(idle);  // for so long the second one does not look any more
    EXPECT_FALSE(second.entered());
    gate.Leave(/*got_event=*/true);
    EXPECT_TRUE(second.EntersWithin(absl::Minutes(1)));
    // The first one is done, and waits behind the second one.
    Stepper first;
    first.Enter(&gate);
    EXPECT_FALSE(first.EntersWithin(kAWhile));
    second.Then([&] { gate.Leave(false); });
    EXPECT_TRUE(first.EntersWithin(absl::Minutes(1)));
    first.Then([&] { gate.Leave(false); });
  }
}

TEST(PollerGateTest, NeverDoTwoWait) {
  PollerGate gate;
  std::atomic<int> waiting{0};
  std::atomic<int> rounds{0};
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 2000; ++i) {
        gate.Enter();
        EXPECT_EQ(waiting.fetch_add(1), 0);
        waiting.fetch_sub(1);
        gate.Leave(/*got_event=*/i % 4 != t);
        if (i % 500 == 0) absl::SleepFor(2 * PollerGate::kHeldUp);
        rounds.fetch_add(1);
      }
      // As a thread that ends.
      gate.Enter();
      gate.Leave(false);
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(rounds.load(), 8000);
}

TEST(PollerGateTest, CallbacksOfThisGrpcGoByTurnsOnFewCores) {
  const bool few_cores = gpr_cpu_num_cores() < 4;
  EXPECT_EQ(LetOnePollerWait(), few_cores);
  v1::ReplicaService::CallbackService service;
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  ASSERT_NE(server, nullptr);
  const auto stub = v1::ReplicaService::NewStub(
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  for (int i = 0; i < 3; ++i) {
    grpc::ClientContext context;
    v1::GetReplicaResponse response;
    EXPECT_EQ(stub->GetReplica(&context, {}, &response).error_code(), grpc::StatusCode::UNIMPLEMENTED);
  }
  EXPECT_EQ(PollerTurns() >= 3, few_cores) << PollerTurns();
}

}  // namespace
}  // namespace weir::wire
