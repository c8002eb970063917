#include "volume/catalog/catalog.h"

#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "rocksdb/db.h"

namespace weir::catalog {
namespace {

class EmbeddedCatalogTest : public testing::Test {
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

TEST_F(EmbeddedCatalogTest, ASecondFrontendIsRefusedWithThePidOfTheFirst) {
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

TEST_F(EmbeddedCatalogTest, ANewerFormatIsRefused) {
  MakeAndClose();
  rocksdb::DB* db = nullptr;
  ASSERT_TRUE(rocksdb::DB::Open(rocksdb::Options(), dir_ + "/db", &db).ok());
  ASSERT_TRUE(db->Put(rocksdb::WriteOptions(), "format", "2").ok());
  delete db;
  const absl::Status status = Open();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_TRUE(absl::StrContains(status.message(), "newer")) << status;
}

TEST_F(EmbeddedCatalogTest, ALogCutShortIsRefusedNotOpenedWithLess) {
  MakeAndClose();
  ASSERT_EQ(Logs().size(), 1u);
  const auto size = std::filesystem::file_size(Logs()[0]);
  for (auto keep = size / 2; keep < size; keep += size / 16 + 1) {
    std::filesystem::resize_file(Logs()[0], keep);
    EXPECT_TRUE(absl::IsDataLoss(Open())) << keep;
  }
}

TEST_F(EmbeddedCatalogTest, AFlippedBitInTheLogIsRefused) {
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

TEST_F(EmbeddedCatalogTest, AMissingLogDatabaseOrFloorIsRefused) {
  MakeAndClose();
  std::filesystem::rename(dir_ + "/floor", dir_ + "/floor.kept");
  EXPECT_TRUE(absl::IsDataLoss(Open()));
  std::filesystem::rename(dir_ + "/floor.kept", dir_ + "/floor");
  ASSERT_TRUE(Open().ok());
  catalog_.reset();
  std::filesystem::remove_all(dir_ + "/db");
  EXPECT_TRUE(absl::IsDataLoss(Open()));
}

TEST_F(EmbeddedCatalogTest, IsMadeForTheClusterThatHasLostItsOwn) {
  const std::string id = "0123456789abcdef0123456789abcdef";
  EXPECT_TRUE(absl::IsInvalidArgument(Catalog::Open("embedded:" + dir_ + "?cluster=mine").status()));
  {
    const auto made = Catalog::Open("embedded:" + dir_ + "?cluster=" + id);
    ASSERT_TRUE(made.ok()) << made.status();
    EXPECT_EQ((*made)->cluster_id(), id);
  }
  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(catalog_->cluster_id(), id);
  catalog_.reset();
  const std::string other(32, 'a');
  EXPECT_TRUE(absl::IsFailedPrecondition(Catalog::Open("embedded:" + dir_ + "?cluster=" + other).status()));
  EXPECT_EQ(Catalog::EmbeddedDirectory("embedded:/a/b?cluster=" + id), "/a/b");
  EXPECT_EQ(Catalog::EmbeddedDirectory("etcd:h:1"), "");
}

TEST_F(EmbeddedCatalogTest, AnUnwritableFolderSaysWhatToDo) {
  EXPECT_TRUE(absl::IsInvalidArgument(Catalog::Open("embedded:").status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      Catalog::Open("embedded:/proc/nowhere").status()));
}

}  // namespace
}  // namespace weir::catalog
