// A block that one replica's disk gives back otherwise than it was written.
#include <filesystem>
#include <fstream>
#include <string>

#include "tests/system/cluster_fixture.h"

namespace weir::testing {
namespace {

constexpr int kBlocks = 64;

class ClusterRepairTest : public ClusterTest {
 protected:
  static std::string Content(int block) { return Blocks(static_cast<char>('A' + block % 26)); }

  // Flips a bit in the middle of each of the replica's files of data. It does not run meanwhile.
  int FlipBits(int replica) {
    int flipped = 0;
    const std::string data = cluster_->dir() + "/" + cluster_->replica_name(replica) + ".data";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(cluster_->dir())) {
      const std::string path = entry.path();
      if (path.compare(0, data.size(), data) != 0 || entry.path().extension() != ".blob") continue;
      if (entry.file_size() < 4096) continue;
      std::fstream file(entry.path(), std::ios::in | std::ios::out | std::ios::binary);
      const auto middle = static_cast<std::streamoff>(entry.file_size() / 2);
      file.seekg(middle);
      const char byte = static_cast<char>(file.get() ^ 1);
      file.seekp(middle);
      file.put(byte);
      EXPECT_TRUE(file.good()) << entry.path();
      ++flipped;
    }
    return flipped;
  }

  v1::Target TargetOf(int replica) {
    const auto volume = cluster_->host().GetVolume("demo");
    EXPECT_TRUE(volume.ok()) << volume.status();
    for (const v1::Target& target : volume->table().targets()) {
      if (target.replica() == cluster_->replica_name(replica)) return target;
    }
    return {};
  }

  void WriteAndDamage() {
    Start();
    for (int block = 0; block < kBlocks; ++block) {
      ASSERT_TRUE(volume_->Write(block * 4096, Content(block)).ok());
    }
    ASSERT_TRUE(volume_->Flush().ok());
    // What was in the log lies in files of data after a start.
    for (int i = 0; i < 2; ++i) {
      cluster_->StopReplica(1);
      if (i == 1) ASSERT_GT(FlipBits(1), 0);
      ASSERT_TRUE(cluster_->StartReplica(1).ok());
      ASSERT_TRUE(Eventually([&] { return TargetOf(1).health() == "connected"; }));
    }
  }

  v1::ScrubStatus ScrubOf() { return cluster_->host().GetVolume("demo")->scrub(); }
  void Scrub() {
    v1::ScrubRequest request;
    request.set_name("demo");
    ASSERT_TRUE(cluster_->host().Scrub(request).ok());
    ASSERT_TRUE(Eventually([&] {
      const v1::ScrubStatus scrub = ScrubOf();
      return scrub.state() == "finished" && scrub.waiting_blocks() == 0;
    })) << ScrubOf().DebugString();
  }

  // Each block once; whoever is asked, it is what was written.
  void ReadAll() {
    for (int block = 0; block < kBlocks; ++block) {
      const auto read = volume_->Read(block * 4096, 4096);
      ASSERT_TRUE(read.ok()) << read.status();
      ASSERT_TRUE(*read == Content(block)) << block;
    }
  }
};

TEST_F(ClusterRepairTest, AReadThatFindsABlockDamagedHealsIt) {
  WriteAndDamage();
  ASSERT_TRUE(Eventually([&] {
    ReadAll();
    return TargetOf(1).repaired_blocks() > 0 && TargetOf(1).damaged_blocks() == 0;
  }));
  // Healed for good: reads of that replica find nothing any more.
  uint64_t errors = 0;
  ASSERT_TRUE(Eventually([&] {
    const uint64_t before = errors;
    for (int i = 0; i < 6; ++i) ReadAll();
    errors = TargetOf(1).errors();
    return errors == before;
  }));
  EXPECT_EQ(TargetOf(1).state(), "in_sync");
}

TEST_F(ClusterRepairTest, AScrubHealsWhatNobodyHasRead) {
  WriteAndDamage();
  EXPECT_EQ(ScrubOf().state(), "none");
  Scrub();
  EXPECT_GT(ScrubOf().bad_blocks(), 0u);
  EXPECT_EQ(ScrubOf().repaired_blocks(), ScrubOf().bad_blocks());
  EXPECT_EQ(ScrubOf().left_blocks(), 0u);
  EXPECT_GE(ScrubOf().bytes_read(), 3 * (kBlocks - ScrubOf().skipped_blocks()) * 4096u);
  EXPECT_EQ(TargetOf(1).repaired_blocks(), ScrubOf().repaired_blocks());
  // Nothing is left for reads or the next scrub to find.
  for (int i = 0; i < 6; ++i) ReadAll();
  EXPECT_EQ(TargetOf(1).errors(), 0u);
  EXPECT_EQ(TargetOf(1).state(), "in_sync");
  Scrub();
  EXPECT_EQ(ScrubOf().bad_blocks(), 0u);
}

TEST_F(ClusterRepairTest, AScrubIsEndedByWhoAsksForIt) {
  Start();
  v1::ScrubRequest request;
  request.set_name("demo");
  request.set_stop(true);
  ASSERT_TRUE(cluster_->host().Scrub(request).ok());
  EXPECT_EQ(ScrubOf().state(), "none");
  request.set_name("other");
  EXPECT_TRUE(absl::IsNotFound(cluster_->host().Scrub(request).status()));
}

}  // namespace
}  // namespace weir::testing
