// Snapshots and growing, with real replicas: what a snapshot has never changes, whoever comes and goes.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/time/clock.h"
#include "tests/system/cluster_fixture.h"

namespace weir::testing {
namespace {

class ClusterSnapshotTest : public ClusterTest {
 protected:
  Client& client() { return cluster_->client(); }
  void WriteAll(char c, size_t blocks) {
    for (size_t i = 0; i < blocks; ++i) {
      ASSERT_TRUE(volume_->Write(i * 4096, Blocks(static_cast<char>(c + i % 20))).ok()) << i;
    }
  }
  void ExpectSnapshot(const std::string& name, char c, size_t blocks) {
    auto data = client().ReadSnapshot("demo", name, 0, static_cast<uint32_t>(blocks * 4096));
    ASSERT_TRUE(data.ok()) << data.status();
    for (size_t b = 0; b < blocks; ++b) {
      EXPECT_TRUE(data->substr(b * 4096, 4096) == Blocks(static_cast<char>(c + b % 20)))
          << name << " block " << b;
    }
  }
  bool AllBecomeInSync() {
    return Eventually([&] {
      auto volume = client().GetVolume("demo");
      if (!volume.ok()) return false;
      for (const v1::Target& target : volume->table().targets()) {
        if (target.state() != "in_sync") return false;
      }
      return true;
    });
  }
};

TEST_F(ClusterSnapshotTest, EachReplicaHasItAlsoOneThatWasAwayWhenItWasTaken) {
  Start(QuietOptions());
  WriteAll('a', 100);
  ASSERT_TRUE(client().CreateSnapshot("demo", "first").ok());
  WriteAll('b', 50);
  cluster_->StopReplica(1);
  WriteAll('c', 70);
  ASSERT_TRUE(client().CreateSnapshot("demo", "second").ok());
  WriteAll('d', 30);
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  ASSERT_TRUE(AllBecomeInSync());
  WriteAll('e', 100);
  // The one that was away alone.
  cluster_->StopReplica(0);
  cluster_->StopReplica(2);
  ExpectSnapshot("first", 'a', 100);
  ExpectSnapshot("second", 'c', 70);
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  ASSERT_TRUE(cluster_->StartReplica(2).ok());
  ASSERT_TRUE(AllBecomeInSync());
}

TEST_F(ClusterSnapshotTest, ANewDiskGetsTheSnapshotsToo) {
  Start(QuietOptions());
  WriteAll('a', 60);
  ASSERT_TRUE(client().CreateSnapshot("demo", "first").ok());
  WriteAll('b', 60);
  cluster_->StopReplica(2);
  cluster_->LoseDisks(2);
  ASSERT_TRUE(cluster_->StartReplica(2).ok());
  ASSERT_TRUE(Eventually([&] { return client().ReplaceMember("demo", "replica3").ok(); }));
  ASSERT_TRUE(AllBecomeInSync());
  cluster_->StopReplica(0);
  cluster_->StopReplica(1);
  ExpectSnapshot("first", 'a', 60);
  ASSERT_TRUE(cluster_->StartReplica(0).ok());
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
}

TEST_F(ClusterSnapshotTest, UnderLoadItIsOneMomentOfTheVolumeAndClientsGoOn) {
  Start(QuietOptions());
  // A writer that overwrites a pair of blocks in turn: the second is never newer than the first, at any moment.
  std::atomic<bool> stop{false};
  std::atomic<int> failures{0};
  std::thread writer([&] {
    for (uint32_t i = 1; !stop; ++i) {
      std::string block(4096, '\0');
      block.replace(0, 8, absl::StrFormat("%08d", i));
      for (uint64_t at : {uint64_t{0}, uint64_t{8 << 20}}) {
        if (!volume_->Write(at, block).ok()) ++failures;
      }
    }
  });
  absl::Duration longest;
  for (int i = 0; i < 20; ++i) {
    const absl::Time begun = absl::Now();
    auto taken = client().CreateSnapshot("demo", absl::StrCat("s", i));
    longest = std::max(longest, absl::Now() - begun);
    EXPECT_TRUE(taken.ok()) << taken.status();
  }
  stop = true;
  writer.join();
  EXPECT_EQ(failures, 0);
  for (int i = 0; i < 20; ++i) {
    auto first = client().ReadSnapshot("demo", absl::StrCat("s", i), 0, 4096);
    auto second = client().ReadSnapshot("demo", absl::StrCat("s", i), 8 << 20, 4096);
    ASSERT_TRUE(first.ok() && second.ok());
    const int a = std::atoi(first->substr(0, 8).c_str()), b = std::atoi(second->substr(0, 8).c_str());
    EXPECT_TRUE(a == b || a == b + 1) << "snapshot " << i << " has " << a << " and " << b;
  }
  RecordProperty("longest_ms", static_cast<int>(absl::ToInt64Milliseconds(longest)));
}

TEST_F(ClusterSnapshotTest, TheFrontendAndEveryReplicaComeAndGo) {
  Start(QuietOptions());
  WriteAll('a', 40);
  ASSERT_TRUE(client().CreateSnapshot("demo", "first").ok());
  WriteAll('b', 40);
  volume_.reset();
  cluster_->StopFrontend();
  for (int i = 0; i < 3; ++i) cluster_->StopReplica(i);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(cluster_->StartReplica(i).ok());
  ASSERT_TRUE(cluster_->StartFrontend().ok());
  ExpectSnapshot("first", 'a', 40);
  auto shown = client().GetSnapshot("demo", "first");
  ASSERT_TRUE(shown.ok()) << shown.status();
  EXPECT_EQ(shown->changed_bytes(), 40u * 4096);
  EXPECT_EQ(shown->kept_bytes(), 40u * 4096);
  EXPECT_EQ(shown->own_bytes(), 40u * 4096);
  ASSERT_TRUE(client().DeleteSnapshot("demo", "first").ok());
  EXPECT_TRUE(client().ListSnapshots("demo")->empty());
}

TEST_F(ClusterSnapshotTest, AVolumeGrowsUnderItsClientsAndOneThatWasAwayGrowsToo) {
  Start(QuietOptions());
  WriteAll('a', 20);
  cluster_->StopReplica(1);
  auto grown = client().ExpandVolume("demo", 2 * kSizeBytes);
  // One that is away has to leave first.
  if (!grown.ok()) grown = client().ExpandVolume("demo", 2 * kSizeBytes);
  ASSERT_TRUE(grown.ok()) << grown.status();
  auto larger = client().OpenVolume("demo");
  ASSERT_TRUE(larger.ok()) << larger.status();
  EXPECT_EQ((*larger)->size_bytes(), 2 * kSizeBytes);
  ASSERT_TRUE((*larger)->Write(2 * kSizeBytes - 4096, Blocks('z')).ok());
  EXPECT_TRUE(volume_->Write(0, Blocks('y')).ok());
  ASSERT_TRUE(cluster_->StartReplica(1).ok());
  ASSERT_TRUE(AllBecomeInSync());
  ASSERT_TRUE((*larger)->Write(kSizeBytes, Blocks('w')).ok());
  EXPECT_TRUE(*(*larger)->Read(2 * kSizeBytes - 4096, 4096) == Blocks('z'));
  EXPECT_TRUE(*(*larger)->Read(kSizeBytes + 4096, 4096) == Blocks('\0'));
}

}  // namespace
}  // namespace weir::testing
