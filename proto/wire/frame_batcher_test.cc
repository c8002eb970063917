#include "proto/wire/frame_batcher.h"

#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"
#include "proto/base/payload.h"
#include "proto/wire/frame.h"
#include "weir/v1/replica.pb.h"

namespace weir::wire {
namespace {

v1::IoFrame PartWithId(uint64_t id) {
  v1::IoFrame part;
  part.add_ios()->set_id(id);
  return part;
}

struct Received {
  v1::IoFrame head;
  std::string payload;
};

Received Decode(const grpc::ByteBuffer& frame) {
  Received received;
  Payload payload;
  EXPECT_TRUE(DecodeFrame(frame, 1 << 30, &received.head, &payload).ok());
  received.payload = std::string(payload.bytes());
  return received;
}

void MustQueue(FrameBatcher& batcher, uint64_t id, size_t payload_bytes = 0) {
  const Payload payload =
      Payload::CopyOf(std::string(payload_bytes, static_cast<char>('a' + id % 26)));
  ASSERT_TRUE(batcher.Queue(PartWithId(id), {payload}));
}

TEST(FrameBatcherTest, WhatBecomesReadyDuringAWriteGoesAsOneFrame) {
  FrameBatcher batcher;
  MustQueue(batcher, 1, 1000);
  FrameBatcher::Step step = batcher.Next();
  ASSERT_NE(step.write, nullptr);
  EXPECT_EQ(Decode(*step.write).head.ios_size(), 1);
  MustQueue(batcher, 2, 600);
  EXPECT_EQ(batcher.Next().write, nullptr) << "one write at a time";
  MustQueue(batcher, 3, 700);
  step = batcher.WriteDone(true);
  ASSERT_NE(step.write, nullptr);
  const Received received = Decode(*step.write);
  ASSERT_EQ(received.head.ios_size(), 2);
  EXPECT_EQ(received.head.ios(0).id(), 2u);
  EXPECT_EQ(received.payload, std::string(600, 'c') + std::string(700, 'd'));
  EXPECT_EQ(batcher.WriteDone(true).write, nullptr);
  EXPECT_EQ(batcher.queued_bytes(), 0u);
}

TEST(FrameBatcherTest, AFrameIsCutAtItsLimitAndALargePartGoesAlone) {
  FrameBatcher batcher({.frame_bytes_max = 2000, .queue_bytes_max = 1 << 20});
  MustQueue(batcher, 1, 900);
  MustQueue(batcher, 2, 900);
  MustQueue(batcher, 3, 5000);
  FrameBatcher::Step step = batcher.Next();
  EXPECT_EQ(Decode(*step.write).head.ios_size(), 2);
  EXPECT_EQ(step.parts, 2u);
  step = batcher.WriteDone(true);
  EXPECT_EQ(Decode(*step.write).payload.size(), 5000u);
  EXPECT_EQ(step.parts, 1u);
  EXPECT_EQ(batcher.WriteDone(true).parts, 0u);
}

TEST(FrameBatcherTest, AFullQueueRefusesAndAddsNothing) {
  FrameBatcher batcher({.frame_bytes_max = 4096, .queue_bytes_max = 1000});
  MustQueue(batcher, 1, 5000);  // an empty queue takes anything
  EXPECT_FALSE(batcher.Queue(PartWithId(2), {}));
  ASSERT_NE(batcher.Next().write, nullptr);
  EXPECT_FALSE(batcher.Queue(PartWithId(2), {})) << "what is being written counts";
  EXPECT_EQ(batcher.WriteDone(true).write, nullptr);
  EXPECT_TRUE(batcher.Queue(PartWithId(2), {}));
}

TEST(FrameBatcherTest, CloseFinishesAtOnceWhenIdleAndOnlyOnce) {
  FrameBatcher batcher;
  EXPECT_TRUE(batcher.Close(FrameBatcher::kDrain).finish);
  EXPECT_FALSE(batcher.Close(FrameBatcher::kDrop).finish);
  EXPECT_TRUE(batcher.Queue(PartWithId(1), {})) << "dropped, quietly";
  const FrameBatcher::Step step = batcher.Next();
  EXPECT_EQ(step.write, nullptr);
  EXPECT_FALSE(step.finish);
}

TEST(FrameBatcherTest, CloseDuringAWriteFinishesWhenTheWriteIsDone) {
  FrameBatcher batcher;
  MustQueue(batcher, 1);
  ASSERT_NE(batcher.Next().write, nullptr);
  MustQueue(batcher, 2);
  EXPECT_FALSE(batcher.Close(FrameBatcher::kDrop).finish);
  const FrameBatcher::Step step = batcher.WriteDone(true);
  EXPECT_EQ(step.write, nullptr);
  EXPECT_TRUE(step.finish);
}

TEST(FrameBatcherTest, DrainingWritesWhatIsQueuedBeforeItFinishes) {
  FrameBatcher batcher;
  MustQueue(batcher, 1);
  ASSERT_NE(batcher.Next().write, nullptr);
  MustQueue(batcher, 2);
  FrameBatcher::Step step = batcher.Close(FrameBatcher::kDrain);
  EXPECT_FALSE(step.finish);
  step = batcher.WriteDone(true);
  ASSERT_NE(step.write, nullptr);
  EXPECT_EQ(Decode(*step.write).head.ios(0).id(), 2u);
  EXPECT_TRUE(batcher.WriteDone(true).finish);
}

TEST(FrameBatcherTest, AFailedWriteDropsTheQueueAndWaitsForClose) {
  FrameBatcher batcher;
  MustQueue(batcher, 1);
  ASSERT_NE(batcher.Next().write, nullptr);
  MustQueue(batcher, 2);
  FrameBatcher::Step step = batcher.WriteDone(false);
  EXPECT_EQ(step.write, nullptr);
  EXPECT_FALSE(step.finish);
  MustQueue(batcher, 3);
  EXPECT_EQ(batcher.Next().write, nullptr);
  EXPECT_TRUE(batcher.Close(FrameBatcher::kDrain).finish);
}

// Queues a part that may wait, and looks what goes.
FrameBatcher::Step QueueWaiting(FrameBatcher& batcher, uint64_t id, size_t payload_bytes = 0) {
  const Payload payload = Payload::CopyOf(std::string(payload_bytes, 'w'));
  EXPECT_TRUE(batcher.Queue(PartWithId(id), {payload}, FrameBatcher::Haste::kMayWait));
  return batcher.Next();
}

// A frame of `parts` that may wait has gone, and is not answered.
void Send(FrameBatcher& batcher, size_t parts) {
  for (uint64_t id = 1; id <= parts; ++id) {
    ASSERT_TRUE(batcher.Queue(PartWithId(id), {}, FrameBatcher::Haste::kMayWait));
  }
  ASSERT_EQ(batcher.Next().parts, parts);
  ASSERT_EQ(batcher.WriteDone(true).write, nullptr);
}

TEST(FrameBatcherTest, PartsThatMayWaitAreGatheredWhileMoreThanTwiceAsManyAreUnanswered) {
  FrameBatcher batcher;
  Send(batcher, 5);
  EXPECT_EQ(QueueWaiting(batcher, 6).write, nullptr);
  EXPECT_EQ(QueueWaiting(batcher, 7).write, nullptr);
  EXPECT_EQ(QueueWaiting(batcher, 8).parts, 3u);
  // Eight are unanswered now.
  EXPECT_EQ(QueueWaiting(batcher, 9).write, nullptr);
  EXPECT_EQ(batcher.WriteDone(true).write, nullptr) << "the end of a write lets nothing go before its time";
  EXPECT_EQ(batcher.Answered(5).write, nullptr);
  EXPECT_EQ(batcher.Answered(1).parts, 1u) << "two are unanswered";
}

TEST(FrameBatcherTest, WithNothingUnansweredNothingWaits) {
  FrameBatcher batcher;
  EXPECT_EQ(QueueWaiting(batcher, 1).parts, 1u);
  EXPECT_EQ(batcher.WriteDone(true).write, nullptr);
  EXPECT_EQ(QueueWaiting(batcher, 2).parts, 1u) << "nor of two at a time";
  EXPECT_EQ(batcher.WriteDone(true).write, nullptr);
  EXPECT_EQ(batcher.Answered(2).write, nullptr);
  EXPECT_EQ(QueueWaiting(batcher, 3).parts, 1u);
}

TEST(FrameBatcherTest, APartInHasteTakesThoseThatWaitWithIt) {
  FrameBatcher batcher;
  Send(batcher, 7);
  EXPECT_EQ(QueueWaiting(batcher, 8).write, nullptr);
  MustQueue(batcher, 9);
  const FrameBatcher::Step step = batcher.Next();
  ASSERT_EQ(step.parts, 2u);
  EXPECT_EQ(Decode(*step.write).head.ios(0).id(), 8u) << "in the order of Queue";
  EXPECT_EQ(batcher.WriteDone(true).write, nullptr);
  EXPECT_EQ(QueueWaiting(batcher, 10).write, nullptr) << "the haste is over";
}

TEST(FrameBatcherTest, WhatIsLargeEnoughForAFrameDoesNotWait) {
  FrameBatcher batcher(
      {.frame_bytes_max = 1 << 20, .queue_bytes_max = 1 << 20, .gather_bytes_max = 2000});
  Send(batcher, 100);
  EXPECT_EQ(QueueWaiting(batcher, 101, 900).write, nullptr);
  EXPECT_EQ(QueueWaiting(batcher, 102, 1200).parts, 2u);
}

TEST(FrameBatcherTest, WhatWaitsForAnswersIsDrainedOrDroppedAtTheEnd) {
  FrameBatcher drained;
  Send(drained, 7);
  EXPECT_EQ(QueueWaiting(drained, 8).write, nullptr);
  EXPECT_EQ(drained.Close(FrameBatcher::kDrain).parts, 1u);
  EXPECT_TRUE(drained.WriteDone(true).finish);
  FrameBatcher dropped;
  Send(dropped, 7);
  EXPECT_EQ(QueueWaiting(dropped, 8).write, nullptr);
  EXPECT_TRUE(dropped.Close(FrameBatcher::kDrop).finish);
}

TEST(FrameBatcherTest, ManyThreadsLoseAndReorderNothing) {
  constexpr int kThreads = 4;
  constexpr int kEach = 2000;
  FrameBatcher batcher;
  std::atomic<int> writing{0};
  std::vector<uint64_t> last(kThreads, 0);
  int received = 0;
  // A "gRPC" that completes each write at once, on the thread that started it.
  auto carry = [&](FrameBatcher::Step step) {
    while (step.write != nullptr) {
      EXPECT_EQ(writing.fetch_add(1), 0);
      const v1::IoFrame head = Decode(*step.write).head;
      for (const v1::Io& io : head.ios()) {
        const int thread = static_cast<int>(io.id() >> 32);
        EXPECT_EQ(io.id() & 0xffffffff, ++last[thread]);
        ++received;
      }
      writing.fetch_sub(1);
      step = batcher.WriteDone(true);
    }
  };
  std::vector<std::thread> threads;
  for (uint64_t t = 0; t < kThreads; ++t) {
    threads.emplace_back([&, t] {
      for (uint64_t i = 1; i <= kEach; ++i) {
        MustQueue(batcher, t << 32 | i, 10);
        carry(batcher.Next());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(received, kThreads * kEach);
}

// As a session's threads do: some queue, one has each frame written, another one the answers.
TEST(FrameBatcherTest, PartsThatMayWaitAllGoWhileAnotherThreadTellsOfAnswers) {
  constexpr int kParts = 20000;
  FrameBatcher batcher;
  std::atomic<int> sent{0};
  const auto carry = [&](FrameBatcher::Step step) {
    while (step.write != nullptr) {
      sent += static_cast<int>(step.parts);
      step = batcher.WriteDone(true);
    }
  };
  std::thread answers([&] {
    for (int told = 0; told < kParts;) {
      const int now = sent;
      carry(batcher.Answered(static_cast<size_t>(now - told)));
      told = now;
    }
  });
  for (uint64_t id = 1; id <= kParts; ++id) carry(QueueWaiting(batcher, id, 10));
  // Ends only if nothing stays in the queue.
  answers.join();
  EXPECT_EQ(sent, kParts);
}

}  // namespace
}  // namespace weir::wire
