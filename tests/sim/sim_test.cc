// A short run of the simulator; ops/simulate does long ones.
#include <cstdint>

#include "gtest/gtest.h"
#include "tests/sim/clone_world.h"
#include "tests/sim/cluster.h"
#include "tests/sim/rocks_store.h"

namespace weir::sim {
namespace {

constexpr uint64_t kSeeds = 1000;

TEST(SimTest, ClustersThatKeepAGoodCopyKeepTheContractAndHeal) {
  uint64_t ok = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const ClusterResult result = Cluster(seed, ClusterOptions()).Run();
    ASSERT_EQ(result.violation, "") << "replay: ops/simulate --seed=" << seed;
    ok += result.requests_ok;
  }
  EXPECT_GT(ok, kSeeds * ClusterOptions().requests / 2) << "a volume that fails is safe, and of no use";
}

TEST(SimTest, WhateverHappensTheContractHolds) {
  ClusterOptions options;
  options.survivable = false;
  options.faults = 30;
  for (uint64_t seed = 1; seed <= kSeeds / 2; ++seed) {
    const ClusterResult result = Cluster(seed, options).Run();
    ASSERT_EQ(result.violation, "")
        << "replay: ops/simulate --anything-goes --faults=30 --seed=" << seed;
  }
}

TEST(SimTest, ScriptedClustersToo) {
  for (const Script& script : Scripts()) {
    ClusterOptions options;
    options.script = &script;
    for (uint64_t seed = 1; seed <= kSeeds / 10; ++seed) {
      const ClusterResult result = Cluster(seed, options).Run();
      ASSERT_EQ(result.violation, "") << "replay: ops/simulate --script=" << script.name << " --seed=" << seed;
    }
  }
}

TEST(SimTest, ClustersThatAreRestoredToo) {
  ClusterOptions options;
  options.restores = true;
  uint64_t restores = 0, beyond = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const ClusterResult result = Cluster(seed, options).Run();
    ASSERT_EQ(result.violation, "") << "replay: ops/simulate --restores --seed=" << seed;
    restores += result.restores;
    beyond += result.beyond_restore ? 1 : 0;
  }
  EXPECT_GT(restores, kSeeds / 20);
  EXPECT_LT(beyond, kSeeds / 100) << "of clusters of one replica, whose block rots";
}

TEST(SimTest, ClustersWhoseVolumeIsDeletedToo) {
  ClusterOptions options;
  options.deletes = true;
  uint64_t deletions = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const ClusterResult result = Cluster(seed, options).Run();
    ASSERT_EQ(result.violation, "") << "replay: ops/simulate --deletes --seed=" << seed;
    deletions += result.deletions;
  }
  EXPECT_EQ(deletions, kSeeds);
}

TEST(SimTest, ClustersWhoseMembersAreReplacedToo) {
  ClusterOptions options;
  options.replaces = true;
  uint64_t replaced = 0, leftovers = 0;
  for (uint64_t seed = 1; seed <= kSeeds; ++seed) {
    const ClusterResult result = Cluster(seed, options).Run();
    ASSERT_EQ(result.violation, "") << "replay: ops/simulate --replaces --seed=" << seed;
    replaced += result.replaced;
    leftovers += result.leftovers;
  }
  EXPECT_GT(replaced, kSeeds / 4);
  EXPECT_GT(leftovers, kSeeds / 4);
}

// RocksDB's background threads make runs differ, and 1,000 would take minutes.
TEST(SimTest, ClustersOnTheRealStoreKeepTheContractAndHeal) {
  ClusterOptions options;
  options.make_store = MakeRocksStore;
  for (uint64_t seed = 1; seed <= 30; ++seed) {
    const ClusterResult result = Cluster(seed, options).Run();
    ASSERT_EQ(result.violation, "") << "replay: ops/simulate --rocksdb --seed=" << seed;
  }
}

TEST(SimTest, AClonesClientsSeeItsSnapshotAndWhatTheyWriteAlsoOnceItIsFlattened) {
  CloneWorldResult all;
  for (uint64_t seed = 1; seed <= kSeeds / 3; ++seed) {
    const CloneWorldResult result = CloneWorld(seed, CloneWorldOptions()).Run();
    ASSERT_EQ(result.violation, "") << "replay: ops/simulate --clones --seed=" << seed;
    all.Add(result);
  }
  // All that is to be judged does happen.
  EXPECT_GT(all.requests_ok, all.requests_failed * 5);
  for (const uint64_t happened : {all.fallen_through, all.copied, all.flattened, all.cut_short, all.refused, all.deleted}) {
    EXPECT_GT(happened, kSeeds / 10);
  }
}

TEST(SimTest, ASeedGivesTheSameRunEachTime) {
  for (uint64_t seed = 1; seed <= 50; ++seed) {
    const uint64_t first = Cluster(seed, ClusterOptions()).Run().trace_hash;
    EXPECT_EQ(Cluster(seed, ClusterOptions()).Run().trace_hash, first) << seed;
    const uint64_t first_clone = CloneWorld(seed, CloneWorldOptions()).Run().trace_hash;
    EXPECT_EQ(CloneWorld(seed, CloneWorldOptions()).Run().trace_hash, first_clone) << seed;
  }
}

}  // namespace
}  // namespace weir::sim
