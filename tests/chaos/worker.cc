#include "tests/chaos/worker.h"

#include <algorithm>
#include <string>
#include <utility>

#include "tests/chaos/block_contents.h"

namespace weir::chaos {
namespace {

constexpr absl::Duration kReconnectAfter = absl::Milliseconds(100);
// Most requests meet here, on the first stripe of each of four lanes, so that they overlap.
constexpr uint64_t kHotBlocks = 256;
constexpr uint64_t kLongBlocks = 256;  // a request of 1 MiB, across stripes

}  // namespace

bool DoRecorded(const Request& request, BlockClient& client, History& history) {
  const History::Call call =
      history.Begin(request, client.epoch(), client.name(), client.goes_on());
  const bool carries = request.kind == Kind::kWrite || request.kind == Kind::kBarrier;
  const BlockClient::Answer answer =
      client.Do(request, carries ? Contents(call.id, request.range) : std::string());
  if (answer.broken) {
    history.Unanswered(call, answer.epoch);
    return false;
  }
  history.Answered(call, answer.epoch, answer.status, answer.data);
  return true;
}

bool Directory::Use(const std::string& name) {
  for (size_t i = 0; i < all_.size(); ++i) {
    if (all_[i].name != name) continue;
    current_ = i;
    return true;
  }
  return false;
}

Worker::Worker(Options options, const Directory& directory, History& history,
               const absl::Notification& stop)
    : options_(std::move(options)),
      directory_(directory),
      history_(history),
      stop_(stop),
      random_(options_.seed),
      thread_([this] { Run(); }) {}

void Worker::Run() {
  std::unique_ptr<BlockClient> client;
  while (!stop_.HasBeenNotified()) {
    if (client == nullptr) {
      if (directory_.IsCurrent(options_.frontend)) client = TryConnect();
      if (client == nullptr) {
        stop_.WaitForNotificationWithTimeout(kReconnectAfter);
        continue;
      }
    }
    // A connection from before the frontend was replaced is used until it is refused.
    if (!DoRecorded(Draw(client->has_barriers()), *client, history_)) client.reset();
    stop_.WaitForNotificationWithTimeout(options_.pause);
  }
}

std::unique_ptr<BlockClient> Worker::TryConnect() {
  absl::StatusOr<std::unique_ptr<BlockClient>> client = options_.connect(options_.frontend);
  if (!client.ok()) return nullptr;
  history_.Activated((*client)->epoch());
  return *std::move(client);
}

BlockRange Worker::DrawRange() {
  const uint64_t dice = Below(100);
  const uint64_t count = dice < 70 ? 1 : dice < 97 ? 2 + Below(15) : kLongBlocks;
  const uint64_t area = Below(10) < 7 ? std::min(kHotBlocks, options_.blocks) : options_.blocks;
  const uint64_t first = Below(area);
  return {first, std::min(count, options_.blocks - first)};
}

Request Worker::Draw(bool barriers) {
  const uint64_t dice = Below(100);
  if (dice < 35) return {Kind::kRead, DrawRange(), false};
  if (dice < 80) return {Kind::kWrite, DrawRange(), false};
  if (dice < 85) return {Kind::kWrite, DrawRange(), true};
  if (dice < 88) return {Kind::kZero, DrawRange(), Below(2) == 0};
  if (dice < 90) return {Kind::kDiscard, DrawRange(), false};
  if (dice < 92 && barriers) return {Kind::kBarrier, DrawRange(), false};
  return {Kind::kFlush, {}, false};
}

}  // namespace weir::chaos
