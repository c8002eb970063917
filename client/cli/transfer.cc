#include "client/cli/transfer.h"

#include <algorithm>
#include <deque>
#include <future>
#include <memory>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "client/cli/progress.h"
#include "proto/base/position.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

// Large enough that the trip costs nothing, small enough that several fit
// into a handle's limit of bytes in flight.
constexpr uint64_t kPieceBytes = 1 << 20;
constexpr size_t kReadsAhead = 8;

// Writes that are under way, and the first error among them.
class Writes {
 public:
  explicit Writes(Progress& progress) : progress_(progress) {}
  ~Writes() { AwaitAnswers(); }  // their callbacks point here

  Volume::Callback Started(uint64_t bytes) {
    absl::MutexLock lock(&mutex_);
    ++unanswered_;
    return [this, bytes](IoResult result) {
      absl::MutexLock lock(&mutex_);
      if (status_.ok()) status_ = std::move(result.status);
      if (status_.ok()) progress_.Add(bytes);
      --unanswered_;
    };
  }

  absl::Status status() {
    absl::MutexLock lock(&mutex_);
    return status_;
  }

  void AwaitAnswers() {
    absl::MutexLock lock(&mutex_);
    auto answered = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return unanswered_ == 0; };
    mutex_.Await(absl::Condition(&answered));
  }

 private:
  absl::Mutex mutex_;
  Progress& progress_ ABSL_GUARDED_BY(mutex_);
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  int unanswered_ ABSL_GUARDED_BY(mutex_) = 0;
};

}  // namespace

Source PatternSource(uint8_t byte, uint64_t length) {
  auto left = std::make_shared<uint64_t>(length);
  return [byte, left](uint64_t bytes_max) -> absl::StatusOr<std::string> {
    const uint64_t bytes = std::min(bytes_max, *left);
    *left -= bytes;
    return std::string(bytes, static_cast<char>(byte));
  };
}

Source StreamSource(std::istream& in, uint64_t length) {
  auto taken = std::make_shared<uint64_t>(0);
  return [&in, length, taken](uint64_t bytes_max) -> absl::StatusOr<std::string> {
    const uint64_t want = length == 0 ? bytes_max : std::min(bytes_max, length - *taken);
    std::string data(want, '\0');
    in.read(data.data(), static_cast<std::streamsize>(want));
    data.resize(static_cast<size_t>(in.gcount()));
    *taken += data.size();
    if (length != 0 && data.size() < want) {
      return absl::OutOfRangeError(
          absl::StrCat("the input ends after ", *taken, " bytes; give a smaller --length"));
    }
    return data;
  };
}

absl::StatusOr<uint64_t> WriteAll(Volume& volume, uint64_t offset, bool fua, const Source& source,
                                  std::ostream& err) {
  const uint64_t piece = std::min<uint64_t>(kPieceBytes, volume.length_bytes_max());
  Progress progress(err, "write", 0);
  Writes writes(progress);
  uint64_t done = 0;
  while (writes.status().ok()) {
    ASSIGN_OR_RETURN(std::string data, source(piece));
    if (data.empty()) break;
    const uint64_t bytes = data.size();
    if (bytes % kBlockBytes != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("the input ends inside a block, after ", done + bytes,
                       " bytes; make it a multiple of 4096 (truncate -s %4096 FILE)"));
    }
    volume.WriteAsync(offset + done, std::move(data), fua, writes.Started(bytes));
    done += bytes;
  }
  writes.AwaitAnswers();
  RETURN_IF_ERROR(writes.status());
  if (done == 0) return absl::InvalidArgumentError("the input is empty; give --pattern or --file");
  return done;
}

absl::Status ReadAll(Volume& volume, uint64_t offset, uint64_t length, std::ostream& err,
                     const Sink& sink) {
  const uint64_t piece = std::min<uint64_t>(kPieceBytes, volume.length_bytes_max());
  Progress progress(err, "read", length);
  std::deque<std::future<IoResult>> ahead;
  uint64_t asked = 0;
  while (asked < length || !ahead.empty()) {
    if (asked < length && ahead.size() < kReadsAhead) {
      auto answer = std::make_shared<std::promise<IoResult>>();
      ahead.push_back(answer->get_future());
      const uint32_t bytes = static_cast<uint32_t>(std::min(piece, length - asked));
      volume.ReadAsync(offset + asked, bytes,
                       [answer](IoResult result) { answer->set_value(std::move(result)); });
      asked += bytes;
      continue;
    }
    IoResult result = ahead.front().get();
    ahead.pop_front();
    RETURN_IF_ERROR(result.status);
    RETURN_IF_ERROR(sink(result.data));
    progress.Add(result.data.size());
  }
  return absl::OkStatus();
}

}  // namespace weir::cli
