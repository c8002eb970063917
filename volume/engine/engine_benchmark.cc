// What an event costs: 4 KiB writes at depth 32 over three targets and four
// lanes, with the engine's own flushes. One iteration is one write: its
// submission, three answers, and its share of the flushes.
#include <deque>
#include <memory>
#include <utility>

#include "benchmark/benchmark.h"
#include "proto/base/check.h"
#include "volume/engine/engine.h"

namespace weir::engine {
namespace {

constexpr uint32_t kTargets = 3;
constexpr uint32_t kLanes = 4;
constexpr uint64_t kBlocks = 1 << 20;

class Bench {
 public:
  explicit Bench(uint64_t depth) : depth_(depth) {
    Options options;
    options.size_blocks = kBlocks;
    options.epoch = 2;
    Table table;
    for (uint32_t i = 0; i < kTargets; ++i) {
      table.targets.push_back({.replica = std::string(1, static_cast<char>('a' + i))});
    }
    CHECK_OK(options.Validate());
    engine_ = std::make_unique<Engine>(options, table, now_, effects_);
    effects_.clear();
    TargetHello hello;
    hello.lanes.assign(kLanes, TargetHello::Lane{Position(2, 0), Position(2, 0), 0});
    for (uint32_t i = 0; i < kTargets; ++i) {
      engine_->TargetConnected(TargetId{i}, hello, now_, effects_);
      applied_[i].assign(kLanes, Position(2, 0));
    }
  }

  void OneWrite() {
    while (open_ < depth_) Submit();
    const uint64_t open = open_;
    while (open_ == open) Answer();
    now_ += absl::Microseconds(20);
    benchmark::DoNotOptimize(engine_->next_timer());
  }

 private:
  void Submit() {
    Request request;
    request.id = RequestId{next_id_++};
    request.kind = RequestKind::kWrite;
    request.range = BlockRange{next_id_ * 7919 % kBlocks, 1};
    request.data = data_;
    request.crcs.assign(1, 17);
    ++open_;
    engine_->Submit(std::move(request), now_, effects_);
    Drain();
  }

  void Answer() {
    CHECK(!sent_.empty());
    SendClone send = std::move(sent_.front());
    sent_.pop_front();
    const auto target = static_cast<uint32_t>(send.target);
    CloneReply reply;
    if (send.clone.kind == RequestKind::kFlush) {
      for (uint32_t lane = 0; lane < kLanes; ++lane) {
        reply.durable.emplace_back(LaneId{lane}, applied_[target][lane]);
      }
    } else {
      applied_[target][Index(send.clone.lane)] = send.clone.position;
    }
    engine_->CloneCompleted(send.target, send.clone.id, std::move(reply), now_, effects_);
    benchmark::DoNotOptimize(engine_->next_timer());
    Drain();
  }

  void Drain() {
    for (Effect& effect : effects_) {
      if (auto* send = std::get_if<SendClone>(&effect)) sent_.push_back(std::move(*send));
      if (std::holds_alternative<CompleteRequest>(effect)) --open_;
    }
    effects_.clear();
  }

  const uint64_t depth_;
  Time now_ = absl::Seconds(1);
  Effects effects_;
  std::unique_ptr<Engine> engine_;
  std::deque<SendClone> sent_;
  std::vector<Position> applied_[kTargets];
  const Payload data_ = Payload::CopyOf(std::string(kBlockBytes, 'x'));
  uint64_t next_id_ = 1;
  uint64_t open_ = 0;
};

void BM_Write4KiB(benchmark::State& state) {
  Bench bench(static_cast<uint64_t>(state.range(0)));
  for (auto _ : state) bench.OneWrite();
  state.SetItemsProcessed(state.iterations());
}
BENCHMARK(BM_Write4KiB)->Arg(1)->Arg(32)->Arg(256);

}  // namespace
}  // namespace weir::engine
