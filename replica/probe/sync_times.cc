#include "replica/probe/sync_times.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <random>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "proto/base/status_macros.h"

namespace weir::probe {
namespace {

// Two halves: one that is synced, one that is written past the page cache, so that neither touches the other's pages.
constexpr uint32_t kBlocks = 64;

class File {
 public:
  File() = default;
  explicit File(int fd) : fd_(fd) {}
  File(File&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  File& operator=(File&& other) noexcept {
    std::swap(fd_, other.fd_);
    return *this;
  }
  ~File() {
    if (fd_ >= 0) close(fd_);
  }
  int fd() const { return fd_; }
  bool is_open() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

absl::StatusOr<File> Nameless(const std::string& directory) {
  File file(open(directory.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
  if (file.is_open()) return file;
  // Not every file system can, and some say EISDIR.
  if (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL) {
    return ErrnoToStatus(errno, absl::StrCat(directory, ": no file can be made there: ", std::strerror(errno)));
  }
  std::string name = directory + "/.weir-probe-XXXXXX.tmp";
  file = File(mkostemps(name.data(), /*suffixlen=*/4, O_CLOEXEC));
  if (file.is_open() && unlink(name.c_str()) == 0) return file;
  return ErrnoToStatus(errno, absl::StrCat(directory, ": no file can be made there: ", std::strerror(errno)));
}

// Numbers that no device can compress or has seen before: a seed that is the same each time would let one that
// looks for equal blocks write nothing.
struct alignas(kBlockBytes) Block {
  std::array<uint64_t, kBlockBytes / sizeof(uint64_t)> words;

  void Fill(std::mt19937_64& numbers) {
    for (uint64_t& word : words) word = numbers();
  }
};

absl::Status Write(const File& file, const Block& block, uint64_t at, const std::string& directory) {
  const ssize_t written = pwrite(file.fd(), &block, sizeof(block), static_cast<off_t>(at * kBlockBytes));
  if (written == sizeof(block)) return absl::OkStatus();
  const int error = written < 0 ? errno : ENOSPC;
  return ErrnoToStatus(error, absl::StrCat(directory, ": a write failed: ", std::strerror(error)));
}

absl::Status Sync(const File& file, const std::string& directory) {
  if (fdatasync(file.fd()) == 0) return absl::OkStatus();
  return ErrnoToStatus(errno, absl::StrCat(directory, ": a sync failed: ", std::strerror(errno)));
}

class Stopwatch {
 public:
  absl::Duration passed() const { return absl::FromChrono(std::chrono::steady_clock::now() - start_); }

 private:
  const std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace

absl::StatusOr<SyncTimes> MeasureSyncs(const std::string& directory, const Rounds& rounds) {
  ASSIGN_OR_RETURN(const File file, Nameless(directory));
  std::mt19937_64 numbers(std::random_device{}());
  Block block;
  // Space is allocated and metadata written before: what is timed is a block and a flush, not the file system's journal.
  for (uint64_t at = 0; at < 2 * kBlocks; ++at) {
    block.Fill(numbers);
    RETURN_IF_ERROR(Write(file, block, at, directory));
  }
  RETURN_IF_ERROR(Sync(file, directory));
  File direct(open(absl::StrCat("/proc/self/fd/", file.fd()).c_str(), O_RDWR | O_DIRECT | O_CLOEXEC));
  std::vector<absl::Duration> syncs, directs, cached;
  const Stopwatch whole;
  for (uint32_t i = 0; i < std::max(rounds.count_max, 1U); ++i) {
    if (i > 0 && whole.passed() >= rounds.time_max) break;
    if (i > 0 && rounds.stop != nullptr && rounds.stop->load(std::memory_order_relaxed)) break;
    block.Fill(numbers);
    const Stopwatch sync;
    RETURN_IF_ERROR(Write(file, block, i % kBlocks, directory));
    RETURN_IF_ERROR(Sync(file, directory));
    syncs.push_back(sync.passed());
    if (!direct.is_open()) continue;
    // In turns, so that what else the disk does hits both alike. Some file systems refuse only now.
    const Stopwatch bare;
    if (Write(direct, block, kBlocks + i % kBlocks, directory).ok()) {
      directs.push_back(bare.passed());
    } else {
      direct = File();
    }
  }
  // After all syncs, which would write these too.
  for (size_t i = 0; i < std::min<size_t>(syncs.size(), kBlocks); ++i) {
    const Stopwatch into_cache;
    RETURN_IF_ERROR(Write(file, block, i, directory));
    cached.push_back(into_cache.passed());
  }
  return Summarize(std::move(syncs), std::move(directs), std::move(cached));
}

SyncTimes Summarize(std::vector<absl::Duration> syncs, std::vector<absl::Duration> directs,
                    std::vector<absl::Duration> cached) {
  for (auto* all : {&syncs, &directs, &cached}) std::sort(all->begin(), all->end());
  SyncTimes times;
  times.rounds = static_cast<uint32_t>(syncs.size());
  times.sync_median = syncs[syncs.size() / 2];
  times.sync_p99 = syncs[syncs.size() * 99 / 100];
  times.sync_max = syncs.back();
  if (!directs.empty()) times.direct_median = directs[directs.size() / 2];
  if (!cached.empty()) times.cached_median = cached[cached.size() / 2];
  return times;
}

}  // namespace weir::probe
