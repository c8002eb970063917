#include "volume/catalog/catalog.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"

namespace weir::catalog {
namespace {

class CatalogTest : public testing::Test {
 protected:
  void SetUp() override {
    dir_ = absl::StrCat(
        testing::TempDir(), "/catalog_",
        testing::UnitTest::GetInstance()->current_test_info()->name(), "_",
        ::getpid());
    std::filesystem::remove_all(dir_);
  }
  void TearDown() override {
    catalog_.reset();
    std::filesystem::remove_all(dir_);
  }

  absl::Status Open() {
    catalog_.reset();
    absl::StatusOr<std::unique_ptr<Catalog>> opened =
        Catalog::Open("embedded:" + dir_);
    if (!opened.ok()) return opened.status();
    catalog_ = *std::move(opened);
    return absl::OkStatus();
  }

  static v1::VolumeRecord Volume(const std::string& name, uint32_t epoch) {
    v1::VolumeRecord record;
    record.set_name(name);
    record.set_epoch(epoch);
    return record;
  }

  // Puts a few records and closes the catalog.
  void MakeAndClose() {
    ASSERT_TRUE(Open().ok());
    for (int i = 0; i < 20; ++i) {
      ASSERT_TRUE(
          catalog_->PutVolume(Volume(absl::StrCat("v", i), 1), 0).ok());
    }
    catalog_.reset();
  }

  // The database's write-ahead logs.
  std::vector<std::filesystem::path> Logs() {
    std::vector<std::filesystem::path> logs;
    for (const auto& entry :
         std::filesystem::directory_iterator(dir_ + "/db")) {
      if (entry.path().extension() == ".log") logs.push_back(entry.path());
    }
    return logs;
  }

  std::string dir_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_F(CatalogTest, KeepsRecordsAndClusterIdOverAReopen) {
  ASSERT_TRUE(Open().ok());
  const std::string cluster = catalog_->cluster_id();
  EXPECT_EQ(cluster.size(), 32u);
  auto revision = catalog_->PutVolume(Volume("demo", 3), 0);
  ASSERT_TRUE(revision.ok()) << revision.status();
  v1::ReplicaRecord replica;
  replica.set_name("replica1");
  replica.set_address("127.0.0.1:1");
  ASSERT_TRUE(catalog_->PutReplica(replica, 0).ok());

  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(catalog_->cluster_id(), cluster);
  auto volume = catalog_->GetVolume("demo");
  ASSERT_TRUE(volume.ok()) << volume.status();
  EXPECT_EQ(volume->record.epoch(), 3u);
  EXPECT_EQ(volume->revision, *revision);
  auto replicas = catalog_->ListReplicas();
  ASSERT_TRUE(replicas.ok());
  ASSERT_EQ(replicas->size(), 1u);
  EXPECT_EQ((*replicas)[0].record.address(), "127.0.0.1:1");
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetVolume("other").status()));
}

TEST_F(CatalogTest, APutAtAnotherRevisionIsAborted) {
  ASSERT_TRUE(Open().ok());
  auto first = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsAborted(catalog_->PutVolume(Volume("demo", 2), 0).status()));
  auto second = catalog_->PutVolume(Volume("demo", 2), *first);
  ASSERT_TRUE(second.ok());
  EXPECT_GT(*second, *first);
  EXPECT_TRUE(
      absl::IsAborted(catalog_->PutVolume(Volume("demo", 3), *first).status()));
  EXPECT_EQ(catalog_->GetVolume("demo")->record.epoch(), 2u);
}

TEST_F(CatalogTest, ADeletedAndRemadeRecordHasANewRevision) {
  ASSERT_TRUE(Open().ok());
  auto first = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(first.ok());
  EXPECT_TRUE(absl::IsAborted(catalog_->DeleteVolume("demo", *first + 7)));
  ASSERT_TRUE(catalog_->DeleteVolume("demo", *first).ok());
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetVolume("demo").status()));
  auto again = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(again.ok());
  EXPECT_GT(*again, *first);
}

TEST_F(CatalogTest, OfManyRacingPutsAtOneRevisionExactlyOneWins) {
  ASSERT_TRUE(Open().ok());
  auto revision = catalog_->PutVolume(Volume("demo", 0), 0);
  ASSERT_TRUE(revision.ok());
  std::atomic<int> wins{0};
  std::vector<std::thread> threads;
  for (uint32_t i = 0; i < 8; ++i) {
    threads.emplace_back([this, i, &wins, at = *revision] {
      if (catalog_->PutVolume(Volume("demo", 1 + i), at).ok()) ++wins;
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(wins, 1);
}

TEST_F(CatalogTest, ASecondFrontendIsRefusedWithThePidOfTheFirst) {
  ASSERT_TRUE(Open().ok());
  auto second = Catalog::Open("embedded:" + dir_);
  EXPECT_TRUE(absl::IsFailedPrecondition(second.status())) << second.status();
  EXPECT_TRUE(absl::StrContains(second.status().message(),
                                absl::StrCat("(pid ", ::getpid(), ")")))
      << second.status();
  // From another process, too.
  const pid_t child = ::fork();
  if (child == 0) {
    auto opened = Catalog::Open("embedded:" + dir_);
    ::_exit(absl::IsFailedPrecondition(opened.status()) ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
}

TEST_F(CatalogTest, ANewerFormatIsRefused) {
  MakeAndClose();
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), dir_ + "/db", &db).ok());
  ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), "format", "2").ok());
  delete db;
  const absl::Status status = Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "newer")) << status;
}

TEST_F(CatalogTest, ALogCutShortIsRefusedNotOpenedWithLess) {
  MakeAndClose();
  ASSERT_EQ(Logs().size(), 1u);
  const auto size = std::filesystem::file_size(Logs()[0]);
  for (auto keep = size / 2; keep < size; keep += size / 16 + 1) {
    std::filesystem::resize_file(Logs()[0], keep);
    EXPECT_TRUE(absl::IsDataLoss(Open())) << keep;
  }
}

TEST_F(CatalogTest, AFlippedBitInTheLogIsRefused) {
  MakeAndClose();
  std::fstream log(Logs()[0], std::ios::in | std::ios::out | std::ios::binary);
  const auto at =
      static_cast<std::streamoff>(std::filesystem::file_size(Logs()[0]) / 2);
  log.seekg(at);
  const char byte = static_cast<char>(log.get() ^ 0x10);
  log.seekp(at);
  log.put(byte);
  log.close();
  EXPECT_TRUE(absl::IsDataLoss(Open()));
}

TEST_F(CatalogTest, AMissingLogDatabaseOrFloorIsRefused) {
  MakeAndClose();
  std::filesystem::rename(dir_ + "/floor", dir_ + "/floor.kept");
  EXPECT_TRUE(absl::IsDataLoss(Open()));
  std::filesystem::rename(dir_ + "/floor.kept", dir_ + "/floor");
  ASSERT_TRUE(Open().ok());
  catalog_.reset();
  std::filesystem::remove_all(dir_ + "/db");
  EXPECT_TRUE(absl::IsDataLoss(Open()));
}

TEST_F(CatalogTest, AnUnknownSchemeOrUnwritableFolderSaysWhatToDo) {
  EXPECT_TRUE(absl::IsInvalidArgument(Catalog::Open("etcd:x").status()));
  EXPECT_TRUE(absl::IsInvalidArgument(Catalog::Open("embedded:").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      Catalog::Open("embedded:/proc/nowhere").status()));
}

}  // namespace
}  // namespace weir::catalog
