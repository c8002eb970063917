// What a join costs, on a directory of the disk to be judged:
//
//   bazel-bin/replica/store/join_bench DIR
//
// A new store gets a full volume of 1 GiB; then, after 8 MiB of it were
// overwritten in random 4 KiB blocks without the target, only those. Both stores
// in one process, so neither wire nor the other's disk is in it. Times end with a
// sync of every domain; CPU is of all threads and both stores.
#include <sys/resource.h>

#include <cstdio>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/check.h"
#include "replica/store/store.h"
#include "replica/store/testing/join_steps.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store {
namespace {

using testing::Writer;

constexpr VolumeId kVolume{1};
// 1 GiB in 4 lanes.
constexpr VolumeGeometry kGeometry{.size_blocks = 262144, .lanes = {}};
constexpr int kChangedBlocks = 2048;

double CpuSeconds() {
  rusage usage;
  CHECK(getrusage(RUSAGE_SELF, &usage) == 0);
  return static_cast<double>(usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) +
         static_cast<double>(usage.ru_utime.tv_usec + usage.ru_stime.tv_usec) / 1e6;
}

void FlushAndNote(Store* store) {
  for (uint32_t i = 0; i < store->num_domains(); ++i) {
    auto flushed = store->Flush(kVolume, i);
    CHECK_OK(flushed);
    CHECK_OK(store->NoteDurablePoints(kVolume, *flushed));
  }
}

std::unique_ptr<Store> OpenIn(const std::string& directory) {
  Options options;
  options.data_dirs = {directory + "/d0", directory + "/d1"};
  auto opened = Store::Open(options);
  CHECK_OK(opened);
  return *std::move(opened);
}

void WriteOps(Store* store, Writer* writer, std::vector<WriteOp>* ops) {
  for (const WriteResult& result : store->Write(kVolume, *ops)) CHECK_OK(result.status);
  ops->clear();
  writer->Clear();
}

// Gives its seconds.
double Join(const char* what, Store* source, Store* target, uint64_t join_id, bool everything) {
  const double cpu = CpuSeconds();
  const absl::Time start = absl::Now();
  CHECK_OK(testing::BeginJoin(source, target, kVolume, join_id, everything));
  const double begun = absl::ToDoubleSeconds(absl::Now() - start);
  const uint64_t blocks = testing::InvalidBlocksOf(*target, kVolume);
  auto copied = testing::CopyAll(source, target, kVolume);
  CHECK_OK(copied);
  CHECK_OK(target->FinishJoin(kVolume, join_id));
  for (uint32_t i = 0; i < target->num_domains(); ++i) CHECK_OK(target->Flush(kVolume, i));
  const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
  std::printf("%-12s %7llu blocks invalid, %8.1f MiB copied, begun in %6.3f s, done in %7.3f s, "
              "%6.2f s CPU\n",
              what, static_cast<unsigned long long>(blocks),
              static_cast<double>(*copied) / (1 << 20), begun, seconds, CpuSeconds() - cpu);
  return seconds;
}

void Run(const std::string& directory) {
  const std::unique_ptr<Store> source = OpenIn(directory + "/source");
  const std::unique_ptr<Store> target = OpenIn(directory + "/target");
  Writer writer(kVolume, kGeometry);
  CHECK_OK(writer.Attach(source.get(), 1));
  CHECK_OK(target->CreateVolume(kVolume, kGeometry));
  CHECK_OK(target->Promise(kVolume, 1));
  std::vector<WriteOp> ops;
  for (uint64_t block = 0; block < kGeometry.size_blocks; block += 64) {
    ops.push_back(writer.Data(block, 64, block));
    if (ops.size() == 16) WriteOps(source.get(), &writer, &ops);
    if (block % 16384 == 0) FlushAndNote(source.get());
  }
  FlushAndNote(source.get());
  const double full = Join("everything", source.get(), target.get(), 1, true);
  std::mt19937_64 random(1);
  for (int i = 0; i < kChangedBlocks; ++i) {
    ops.push_back(writer.Data(random() % kGeometry.size_blocks, 1, 1000000 + i));
    if (ops.size() == 32) WriteOps(source.get(), &writer, &ops);
  }
  const double delta = Join("what changed", source.get(), target.get(), 2, false);
  std::printf("%.0f times faster\n", full / delta);
}

}  // namespace
}  // namespace weir::store

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: join_bench DIR (empty, on the disk to judge)\n");
    return 2;
  }
  weir::store::Run(argv[1]);
  return 0;
}
