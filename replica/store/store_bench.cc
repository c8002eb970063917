// What the store costs, on a directory of the disk to be judged:
//
//   bazel-bin/replica/store/store_bench DIR
//
// CPU (all threads, background work included) and time of 4 KiB random writes
// in batches of 1 and 32, reads, and a flush after one write against a plain
// fdatasync of one appended and of one overwritten 4 KiB block of the same disk.
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <functional>
#include <random>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "replica/store/store.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store {
namespace {

using testing::Writer;

constexpr VolumeId kVolume{1};
// 1 GiB in 4 lanes.
constexpr VolumeGeometry kGeometry{.size_blocks = 262144, .lanes = {}};

double CpuMicros() {
  rusage usage;
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  return 1e6 * (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

long MaxRssMib() {
  rusage usage;
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  return usage.ru_maxrss / 1024;
}

void Report(const char* what, int operations, double cpu, absl::Duration time) {
  std::printf("%-28s %8.1f us CPU %8.1f us each\n", what, cpu / operations,
              absl::ToDoubleMicroseconds(time) / operations);
}

// Operations are of one block each; `batch` of them go in one call.
void MeasureWrites(Store* store, Writer* writer, const char* what, int total,
                   int batch) {
  std::mt19937_64 random(1);
  const double cpu = CpuMicros();
  const absl::Time start = absl::Now();
  double making = 0;
  for (int done = 0; done < total; done += batch) {
    const double before = CpuMicros();
    std::vector<WriteOp> ops;
    for (int i = 0; i < batch; ++i) {
      ops.push_back(writer->Data(random() % kGeometry.size_blocks, 1, done + i));
    }
    making += CpuMicros() - before;
    for (const WriteResult& result : store->Write(kVolume, ops)) {
      CHECK_OK(result.status);
    }
    writer->Clear();
    if (done % 16384 < batch) {  // as an engine does every 64 MiB
      for (uint32_t i = 0; i < store->num_domains(); ++i) {
        auto flushed = store->Flush(kVolume, i);
        CHECK_OK(flushed);
        CHECK_OK(store->NoteDurablePoints(kVolume, *flushed));
      }
    }
  }
  Report(what, total, CpuMicros() - cpu - making, absl::Now() - start);
}

void MeasureReads(Store* store, int total) {
  std::mt19937_64 random(2);
  const double cpu = CpuMicros();
  const absl::Time start = absl::Now();
  for (int i = 0; i < total; ++i) {
    CHECK_OK(store->Read(kVolume, {random() % kGeometry.size_blocks, 1}));
  }
  Report("read 4 KiB", total, CpuMicros() - cpu, absl::Now() - start);
}

void ReportMedian(const char* what, std::vector<double> micros) {
  std::sort(micros.begin(), micros.end());
  std::printf("%-28s %8.1f us median %8.1f us p99\n", what,
              micros[micros.size() / 2], micros[micros.size() * 99 / 100]);
}

std::vector<double> Time(int times, const std::function<void()>& before,
                         const std::function<void()>& action) {
  std::vector<double> micros;
  for (int i = 0; i < times; ++i) {
    before();
    const absl::Time start = absl::Now();
    action();
    micros.push_back(absl::ToDoubleMicroseconds(absl::Now() - start));
  }
  return micros;
}

void MeasureSyncs(Store* store, Writer* writer, const std::string& directory) {
  constexpr int kTimes = 500;
  const std::string block(kBlockBytes, 'x');
  const int fd = open((directory + "/plain").c_str(), O_CREAT | O_RDWR, 0600);
  CHECK(fd >= 0);
  off_t at = 0;
  const auto sync = [&] { CHECK(fdatasync(fd) == 0); };
  ReportMedian("fdatasync, appended block",
               Time(kTimes,
                    [&] {
                      CHECK(pwrite(fd, block.data(), block.size(), at) > 0);
                      at += block.size();
                    },
                    sync));
  ReportMedian("fdatasync, overwritten block",
               Time(kTimes,
                    [&] { CHECK(pwrite(fd, block.data(), block.size(), 0) > 0); },
                    sync));
  close(fd);
  ReportMedian("flush after one write",
               Time(kTimes,
                    [&] {
                      WriteOp op = writer->Data(0, 1, 1);
                      CHECK_OK(testing::WriteOne(store, kVolume, op).status);
                      writer->Clear();
                    },
                    [&] { CHECK_OK(store->Flush(kVolume, 0)); }));
  ReportMedian("flush with nothing new",
               Time(kTimes, [] {}, [&] { CHECK_OK(store->Flush(kVolume, 0)); }));
}

void Run(const std::string& directory) {
  Options options;
  options.data_dirs = {directory + "/d0", directory + "/d1"};
  auto store = Store::Open(options);
  CHECK_OK(store);
  Writer writer(kVolume, kGeometry);
  CHECK_OK(writer.Attach(store->get(), 1));
  MeasureWrites(store->get(), &writer, "write 4 KiB, batches of 1", 65536, 1);
  MeasureWrites(store->get(), &writer, "write 4 KiB, batches of 32", 262144, 32);
  MeasureReads(store->get(), 50000);
  MeasureSyncs(store->get(), &writer, directory);
  auto space = (*store)->GetSpaceUsed(kVolume);
  CHECK_OK(space);
  const uint64_t disk = testing::BytesUnder(directory);
  std::printf("live %llu MiB, pinned %llu, reclaimable %llu, on disk %llu MiB; "
              "peak memory %ld MiB\n",
              static_cast<unsigned long long>(space->live_bytes >> 20),
              static_cast<unsigned long long>(space->pinned_bytes >> 20),
              static_cast<unsigned long long>(space->reclaimable_bytes >> 20),
              static_cast<unsigned long long>(disk >> 20), MaxRssMib());
}

}  // namespace
}  // namespace weir::store

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: store_bench DIR (empty, on the disk to judge)\n");
    return 2;
  }
  weir::store::Run(argv[1]);
  return 0;
}
