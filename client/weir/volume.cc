// The blocking forms: callback forms, split where needed, and a wait.
#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/blocking_counter.h"
#include "absl/synchronization/notification.h"
#include "client/weir/callback_thread.h"
#include "client/weir/client.h"
#include "proto/base/check.h"
#include "proto/base/status_macros.h"

namespace weir {
namespace {

absl::Status RefuseInCallback() {
  return absl::FailedPreconditionError(
      "a blocking call in a request's callback would wait for itself; use the Async form");
}

template <typename Start>
IoResult StartAndWait(const Start& start) {
  if (InCallback::Active()) return IoResult{RefuseInCallback(), {}, "", {}};
  absl::Notification answered;
  IoResult result;
  start([&](IoResult answer) {
    result = std::move(answer);
    answered.Notify();
  });
  answered.WaitForNotification();
  return result;
}

// Runs `start(offset, length, done)` for each piece of at most `piece_max`
// bytes, all at once as far as the handle's limit admits, and waits for all.
// Results are in order of offset.
template <typename Start>
std::vector<IoResult> StartPiecesAndWait(uint64_t offset, uint64_t length, uint64_t piece_max,
                                         const Start& start) {
  std::vector<IoResult> results(std::max<uint64_t>(1, (length + piece_max - 1) / piece_max));
  if (InCallback::Active()) {
    results[0].status = RefuseInCallback();
    return results;
  }
  absl::BlockingCounter unanswered(static_cast<int>(results.size()));
  for (size_t i = 0; i < results.size(); ++i) {
    const uint64_t at = i * piece_max;
    start(offset + at, std::min(piece_max, length - at),
          [&results, &unanswered, i](IoResult answer) {
            results[i] = std::move(answer);
            unanswered.DecrementCount();
          });
  }
  unanswered.Wait();
  return results;
}

absl::Status FirstError(const std::vector<IoResult>& results) {
  for (const IoResult& result : results) RETURN_IF_ERROR(result.status);
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::string> Volume::Read(uint64_t offset, uint32_t length) {
  std::vector<IoResult> results = StartPiecesAndWait(
      offset, length, length_bytes_max(),
      [this](uint64_t at, uint64_t size, Callback done) { ReadAsync(at, size, std::move(done)); });
  RETURN_IF_ERROR(FirstError(results));
  if (results.size() == 1) return std::move(results[0].data);
  std::string data;
  data.reserve(length);
  for (const IoResult& result : results) data += result.data;
  return data;
}

absl::Status Volume::Write(uint64_t offset, std::string data, bool fua) {
  if (data.size() <= length_bytes_max()) {
    return StartAndWait(
               [&](Callback done) { WriteAsync(offset, std::move(data), fua, std::move(done)); })
        .status;
  }
  return FirstError(StartPiecesAndWait(
      offset, data.size(), length_bytes_max(), [&](uint64_t at, uint64_t size, Callback done) {
        WriteAsync(at, data.substr(at - offset, size), fua, std::move(done));
      }));
}

absl::Status Volume::WriteZeroes(uint64_t offset, uint64_t length, bool fua) {
  return FirstError(StartPiecesAndWait(offset, length, length_bytes_max(),
                                       [&](uint64_t at, uint64_t size, Callback done) {
                                         WriteZeroesAsync(at, size, fua, std::move(done));
                                       }));
}

absl::Status Volume::Discard(uint64_t offset, uint64_t length) {
  return FirstError(StartPiecesAndWait(offset, length, length_bytes_max(),
                                       [this](uint64_t at, uint64_t size, Callback done) {
                                         DiscardAsync(at, size, std::move(done));
                                       }));
}

absl::Status Volume::Barrier(uint64_t offset, std::string data) {
  return StartAndWait(
             [&](Callback done) { BarrierAsync(offset, std::move(data), std::move(done)); })
      .status;
}

absl::Status Volume::Flush() {
  return StartAndWait([&](Callback done) { FlushAsync(std::move(done)); }).status;
}

absl::StatusOr<std::vector<v1::Extent>> Volume::Extents(uint64_t offset, uint64_t length) {
  std::vector<IoResult> results = StartPiecesAndWait(
      offset, length, length_bytes_max(), [this](uint64_t at, uint64_t size, Callback done) {
        ExtentsAsync(at, size, std::move(done));
      });
  RETURN_IF_ERROR(FirstError(results));
  std::vector<v1::Extent> extents;
  for (const IoResult& result : results) {
    for (const v1::Extent& extent : result.extents) {
      if (!extents.empty() && extents.back().allocated() == extent.allocated()) {
        extents.back().set_block_count(extents.back().block_count() + extent.block_count());
      } else {
        extents.push_back(extent);
      }
    }
  }
  return extents;
}

}  // namespace weir
