// What every catalog must do, embedded or in etcd.
#include "volume/catalog/catalog.h"

#include <unistd.h>

#include <atomic>
#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "volume/catalog/testing/fake_etcd.h"

namespace weir::catalog {
namespace {

class CatalogTest : public testing::TestWithParam<const char*> {
 protected:
  void SetUp() override {
    if (GetParam() == std::string("etcd")) {
      etcd_ = std::make_unique<FakeEtcd>(3);
      etcd_->set_page_keys_max(2);
      spec_ = absl::StrCat("etcd:", absl::StrJoin(etcd_->endpoints(), ","));
      return;
    }
    dir_ = absl::StrCat(testing::TempDir(), "/conformance_", ::getpid());
    std::filesystem::remove_all(dir_);
    spec_ = "embedded:" + dir_;
  }
  void TearDown() override {
    catalog_.reset();
    if (!dir_.empty()) std::filesystem::remove_all(dir_);
  }

  absl::Status Open() {
    catalog_.reset();
    absl::StatusOr<std::unique_ptr<Catalog>> opened = Catalog::Open(spec_);
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

  std::unique_ptr<FakeEtcd> etcd_;
  std::string dir_;
  std::string spec_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_P(CatalogTest, KeepsRecordsAndClusterIdOverAReopen) {
  ASSERT_TRUE(Open().ok());
  const std::string cluster = catalog_->cluster_id();
  EXPECT_EQ(cluster.size(), 32u);
  auto revision = catalog_->PutVolume(Volume("demo", 3), 0);
  ASSERT_TRUE(revision.ok()) << revision.status();
  v1::ReplicaRecord replica;
  replica.set_name("replica1");
  replica.set_address("127.0.0.1:1");
  ASSERT_TRUE(catalog_->PutReplica(replica, 0).ok());
  v1::FrontendRecord frontend;
  frontend.set_name("fe");
  frontend.set_address("127.0.0.1:2");
  auto known = catalog_->PutFrontend(frontend, 0);
  ASSERT_TRUE(known.ok()) << known.status();
  EXPECT_TRUE(absl::IsAborted(catalog_->PutFrontend(frontend, *known + 7).status()));

  ASSERT_TRUE(Open().ok());
  EXPECT_EQ(catalog_->GetFrontend("fe")->revision, *known);
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetFrontend("other").status()));
  EXPECT_EQ(catalog_->ListFrontends()->size(), 1u);
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

TEST_P(CatalogTest, APutAtAnotherRevisionIsAborted) {
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

TEST_P(CatalogTest, ADeletedAndRemadeRecordHasANewRevision) {
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

TEST_P(CatalogTest, AReplicaIsForgottenAtItsRevisionAndAVolumeOfItsNameStays) {
  ASSERT_TRUE(Open().ok());
  v1::ReplicaRecord replica;
  replica.set_name("demo");
  const auto known = catalog_->PutReplica(replica, 0);
  ASSERT_TRUE(known.ok());
  ASSERT_TRUE(catalog_->PutVolume(Volume("demo", 1), 0).ok());
  EXPECT_TRUE(absl::IsAborted(catalog_->DeleteReplica("demo", *known + 7)));
  ASSERT_TRUE(catalog_->DeleteReplica("demo", *known).ok());
  ASSERT_TRUE(Open().ok());
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetReplica("demo").status()));
  EXPECT_TRUE(catalog_->GetVolume("demo").ok());
}

TEST_P(CatalogTest, OfManyRacingPutsAtOneRevisionExactlyOneWins) {
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

TEST_P(CatalogTest, ListsAllOfOneKindAndNoOthers) {
  ASSERT_TRUE(Open().ok());
  EXPECT_TRUE(catalog_->ListVolumes()->empty());
  for (int i = 0; i < 7; ++i) {
    ASSERT_TRUE(catalog_->PutVolume(Volume(absl::StrCat("v", i), 1), 0).ok());
  }
  v1::ReplicaRecord replica;
  replica.set_name("v3");
  ASSERT_TRUE(catalog_->PutReplica(replica, 0).ok());
  const auto volumes = catalog_->ListVolumes();
  ASSERT_TRUE(volumes.ok()) << volumes.status();
  ASSERT_EQ(volumes->size(), 7u);
  for (size_t i = 0; i < 7; ++i) {
    EXPECT_EQ((*volumes)[i].record.name(), absl::StrCat("v", i));
    EXPECT_EQ((*volumes)[i].revision, catalog_->GetVolume(absl::StrCat("v", i))->revision);
  }
  EXPECT_EQ(catalog_->ListReplicas()->size(), 1u);
}

INSTANTIATE_TEST_SUITE_P(Every, CatalogTest, testing::Values("embedded", "etcd"),
                         [](const auto& info) { return std::string(info.param); });

TEST(CatalogSpecTest, AnUnknownSchemeSaysWhatToGive) {
  for (const char* spec : {"", "consul:x", "embedded:", "etcd:", "etcd:x", "etcd:a:1,", "etcd:a:0",
                           "etcd:http://a:1", "etcd:a:1?ca=", "etcd:a:1?color=red",
                           "etcd:a:1?ca=f&cert=f", "etcd:a:1?timeout=0s", "etcd:a:1?cert=f&key=f"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(Catalog::Open(spec).status())) << spec;
  }
  EXPECT_TRUE(
      absl::IsFailedPrecondition(Catalog::Open("etcd:a:1?ca=/proc/nowhere").status()));
}

TEST(CatalogSpecTest, PlainTextIsForAnEtcdOnThisMachine) {
  for (const char* spec : {"embedded:/x", "etcd:127.0.0.1:1,[::1]:2,localhost:3", "etcd:10.0.0.1:1?ca=/f",
                           "etcd:127.0.0.1:1?prefix=w/", "etcd:nonsense"}) {
    EXPECT_TRUE(Catalog::CheckPlainText(spec).ok()) << spec;
  }
  for (const char* spec : {"etcd:10.0.0.1:1", "etcd:127.0.0.1:1,node7:1", "etcd:node7:1?prefix=w/"}) {
    const absl::Status refused = Catalog::CheckPlainText(spec);
    EXPECT_TRUE(absl::IsInvalidArgument(refused)) << spec;
    EXPECT_TRUE(absl::StrContains(refused.message(), "plain text")) << refused;
  }
}

}  // namespace
}  // namespace weir::catalog
