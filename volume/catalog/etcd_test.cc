#include "volume/catalog/etcd.h"

#include <string>
#include <thread>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "volume/catalog/testing/fake_etcd.h"

namespace weir::catalog {
namespace {

class EtcdCatalogTest : public testing::Test {
 protected:
  EtcdCatalogTest() : etcd_(3), catalog_(Open()) {}

  std::unique_ptr<Catalog> Open() {
    absl::StatusOr<std::unique_ptr<EtcdCatalog>> opened = TryOpen();
    EXPECT_TRUE(opened.ok()) << opened.status();
    return *std::move(opened);
  }
  absl::StatusOr<std::unique_ptr<EtcdCatalog>> TryOpen(const std::string& prefix = "weir/") {
    EtcdConfig config;
    config.endpoints = etcd_.endpoints();
    config.prefix = prefix;
    config.attempt_deadline = absl::Milliseconds(200);
    config.call_deadline = absl::Milliseconds(700);
    config.round_delay = absl::Milliseconds(10);
    return EtcdCatalog::Open(config);
  }

  static v1::VolumeRecord Volume(const std::string& name, uint32_t epoch) {
    v1::VolumeRecord record;
    record.set_name(name);
    record.set_epoch(epoch);
    return record;
  }

  static constexpr int kAlways = 1'000'000;
  FakeEtcd etcd_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_F(EtcdCatalogTest, FrontendsAgreeOnOneClusterAndSeeEachOthersChanges) {
  std::vector<std::string> ids(4);
  std::vector<std::thread> threads;
  for (std::string& id : ids) {
    threads.emplace_back([this, &id] { id = (*TryOpen("race/"))->cluster_id(); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::string& id : ids) EXPECT_EQ(id, ids[0]);

  std::unique_ptr<Catalog> other = Open();
  EXPECT_EQ(other->cluster_id(), catalog_->cluster_id());
  EXPECT_NE(other->cluster_id(), ids[0]);  // of another prefix
  const auto made = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(made.ok()) << made.status();
  EXPECT_TRUE(absl::IsAborted(other->PutVolume(Volume("demo", 2), 0).status()));
  ASSERT_TRUE(other->PutVolume(Volume("demo", 2), *made).ok());
  EXPECT_TRUE(absl::IsAborted(catalog_->PutVolume(Volume("demo", 3), *made).status()));
  EXPECT_EQ(catalog_->GetVolume("demo")->record.epoch(), 2u);
}

TEST_F(EtcdCatalogTest, AChangeWhoseAnswerIsLostIsFoundToBeOurs) {
  uint64_t revision = 0;
  uint32_t epoch = 1;
  for (EtcdFault fault : {EtcdFault::kAnswerLost, EtcdFault::kAnswerSilent, EtcdFault::kNoHeader,
                          EtcdFault::kTooFewAnswers, EtcdFault::kSilent}) {
    etcd_.Misbehave(fault, 1);
    const auto put = catalog_->PutVolume(Volume("demo", epoch), revision);
    ASSERT_TRUE(put.ok()) << put.status();
    const auto read = catalog_->GetVolume("demo");
    EXPECT_EQ(read->revision, *put);
    EXPECT_EQ(read->record.epoch(), epoch);
    revision = *put;
    ++epoch;
  }
  etcd_.Misbehave(EtcdFault::kAnswerLost, 1);
  EXPECT_TRUE(catalog_->DeleteVolume("demo", revision).ok());
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetVolume("demo").status()));
}

TEST_F(EtcdCatalogTest, AnotherOnesEqualRecordIsNotTakenForOurs) {
  // The first attempt never comes through; meanwhile another frontend writes the same.
  std::unique_ptr<Catalog> other = Open();
  etcd_.Misbehave(EtcdFault::kSilent, 1);
  std::thread rival;
  absl::StatusOr<uint64_t> theirs;
  rival = std::thread([&] { theirs = other->PutVolume(Volume("demo", 1), 0); });
  rival.join();
  ASSERT_TRUE(theirs.ok()) << theirs.status();
  etcd_.Behave();
  etcd_.Misbehave(EtcdFault::kSilent, 1);
  EXPECT_TRUE(absl::IsAborted(catalog_->PutVolume(Volume("demo", 1), 0).status()));
}

TEST_F(EtcdCatalogTest, AnAttemptThatIsCarriedOutLateChangesNothingThatWasDecidedSince) {
  const auto first = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(first.ok());
  etcd_.Misbehave(EtcdFault::kCarriedOutLate, 1);
  const auto second = catalog_->PutVolume(Volume("demo", 2), *first);
  ASSERT_TRUE(second.ok()) << second.status();
  etcd_.AwaitCarriedOutLate(1);
  // Whichever attempt came first, it is this record, once, at the revision that was answered.
  EXPECT_EQ(catalog_->GetVolume("demo")->record.epoch(), 2u);
  EXPECT_EQ(catalog_->GetVolume("demo")->revision, *second);
}

TEST_F(EtcdCatalogTest, WithoutAnAnswerTheOutcomeIsUnknownAndNeverAborted) {
  const auto first = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(first.ok());
  for (EtcdFault fault : {EtcdFault::kNoLeader, EtcdFault::kSilent, EtcdFault::kAnswerLost}) {
    etcd_.Misbehave(fault, kAlways);
    const auto put = catalog_->PutVolume(Volume("demo", 2), *first);
    EXPECT_TRUE(absl::IsUnavailable(put.status())) << put.status();
    EXPECT_TRUE(absl::IsUnavailable(catalog_->GetVolume("demo").status()));
    EXPECT_TRUE(absl::IsUnavailable(TryOpen().status()));
    etcd_.Behave();
  }
  // The last ones came through: reading back shows it.
  EXPECT_EQ(catalog_->GetVolume("demo")->record.epoch(), 2u);
}

TEST_F(EtcdCatalogTest, AnAnswerThatContradictsItselfIsNeverAborted) {
  const auto first = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(first.ok());
  // Not changed, and denied: the record is at the revision that was asked for.
  etcd_.Misbehave(EtcdFault::kDeniesComparisons, 1);
  EXPECT_TRUE(absl::IsDataLoss(catalog_->PutVolume(Volume("demo", 2), *first).status()));
  etcd_.Misbehave(EtcdFault::kFutureKey, kAlways);
  EXPECT_TRUE(absl::IsDataLoss(catalog_->PutVolume(Volume("demo", 2), 7).status()));
  etcd_.Behave();
  EXPECT_EQ(catalog_->GetVolume("demo")->record.epoch(), 1u);
}

TEST_F(EtcdCatalogTest, AValueThatIsNotWhatWasWrittenIsRefused) {
  ASSERT_TRUE(catalog_->PutVolume(Volume("demo", 1), 0).ok());
  ASSERT_TRUE(catalog_->PutVolume(Volume("two", 1), 0).ok());
  etcd_.Misbehave(EtcdFault::kBadValue, 1);
  EXPECT_TRUE(absl::IsDataLoss(catalog_->GetVolume("demo").status()));
  EXPECT_TRUE(catalog_->GetVolume("demo").ok());
  // Another key's value has the wrong checksum too.
  etcd_.Put("weir/volume/demo", etcd_.Value("weir/volume/two"));
  const absl::Status status = catalog_->GetVolume("demo").status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_TRUE(absl::StrContains(status.message(), "weir/volume/demo")) << status;
  EXPECT_TRUE(absl::IsDataLoss(catalog_->ListVolumes().status()));
}

TEST_F(EtcdCatalogTest, AnEtcdThatWasWipedOrMadeAnewIsNotTakenForDeletedVolumes) {
  const auto first = catalog_->PutVolume(Volume("demo", 1), 0);
  ASSERT_TRUE(first.ok());
  for (const std::string& key : etcd_.Keys()) etcd_.Erase(key);
  EXPECT_TRUE(absl::IsDataLoss(catalog_->GetVolume("demo").status()));
  EXPECT_TRUE(absl::IsDataLoss(catalog_->ListVolumes().status()));
  EXPECT_TRUE(absl::IsDataLoss(catalog_->PutVolume(Volume("demo", 2), *first).status()));
  EXPECT_TRUE(absl::IsDataLoss(catalog_->DeleteVolume("demo", *first)));
  const std::unique_ptr<Catalog> anew = Open();  // another cluster, in the same etcd
  EXPECT_NE(anew->cluster_id(), catalog_->cluster_id());
  const absl::Status status = catalog_->PutVolume(Volume("demo", 2), 0).status();
  EXPECT_TRUE(absl::IsDataLoss(status));
  EXPECT_TRUE(absl::StrContains(status.message(), "another catalog")) << status;
}

TEST_F(EtcdCatalogTest, ANewerFormatOrAForeignKeyIsRefused) {
  v1::ClusterRecord newer;
  newer.set_cluster_id("0123456789abcdef0123456789abcdef");
  newer.set_format(2);
  etcd_.Put("weir/cluster", newer.SerializeAsString());
  EXPECT_TRUE(absl::IsFailedPrecondition(TryOpen().status())) << TryOpen().status();
  EXPECT_TRUE(absl::StrContains(TryOpen().status().message(), "newer"));
  etcd_.Put("weir/cluster", "some other program's");
  EXPECT_TRUE(absl::IsDataLoss(TryOpen().status())) << TryOpen().status();
}

}  // namespace
}  // namespace weir::catalog
