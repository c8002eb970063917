#include "volume/host/rebuild.h"

#include <algorithm>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "volume/host/replica_client.h"
#include "volume/host/testing/fixture.h"
#include "volume/host/volume_record.h"

namespace weir::host {
namespace {

v1::VolumeRecord RecordOf(const std::string& name, uint64_t id, uint32_t epoch) {
  v1::VolumeRecord record;
  record.set_name(name);
  record.set_id(id);
  record.set_size_bytes(8 << 20);
  record.set_lanes(1);
  record.set_stripe_blocks(64);
  record.set_min_in_sync(1);
  record.set_state(v1::VolumeRecord::ACTIVE);
  record.set_epoch(epoch);
  record.set_act_epoch(epoch);
  record.set_frontend("lost");
  v1::Member* member = record.add_members();
  member->set_replica("r1");
  member->set_store_id("s1");
  member->set_in_sync(true);
  return record;
}

void Add(const v1::VolumeRecord& record, v1::ListRecordsResponse* replica) {
  v1::KeptRecord* kept = replica->add_records();
  kept->set_volume_id(record.id());
  kept->set_epoch(record.epoch());
  kept->set_promised_epoch(record.epoch());
  kept->set_record(record.SerializeAsString());
  kept->set_size_bytes(record.size_bytes());
  kept->add_lanes()->set_position(Position(record.epoch(), 3).bits());
}

// A catalog in a temporary folder, and what the replica r1 answers.
class RebuildCatalogTest : public HostFixture {
 protected:
  void SetUp() override {
    auto opened = catalog::Catalog::Open("embedded:" + dir_);
    ASSERT_TRUE(opened.ok()) << opened.status();
    catalog_ = *std::move(opened);
    r1_.set_name("r1");
    r1_.set_store_id("s1");
    r1_.set_cluster_id(catalog_->cluster_id());
  }

  absl::StatusOr<v1::RebuildCatalogResponse> Rebuild(bool dry_run = false) {
    v1::RebuildCatalogRequest request;
    request.set_dry_run(dry_run);
    return RebuildCatalog(*catalog_, {{"10.0.0.1:7301", r1_}}, request);
  }

  std::unique_ptr<catalog::Catalog> catalog_;
  v1::ListRecordsResponse r1_;
};

TEST_F(RebuildCatalogTest, PutsTheRecordUnderNobodyAndTheReplica) {
  v1::VolumeRecord record = RecordOf("demo", 7, 5);
  (*record.mutable_attributes())["kept"] = "yes";
  Add(record, &r1_);
  ASSERT_TRUE(Rebuild(/*dry_run=*/true).ok());
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetVolume("demo").status())) << "it was only asked";
  EXPECT_TRUE(absl::IsNotFound(catalog_->GetReplica("r1").status()));
  const auto rebuilt = Rebuild();
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_EQ(rebuilt->volumes(0).outcome(), v1::RebuiltVolume::REBUILT);
  const auto put = catalog_->GetVolume("demo");
  ASSERT_TRUE(put.ok()) << put.status();
  EXPECT_EQ(put->record.state(), v1::VolumeRecord::RECOVERING);
  EXPECT_EQ(put->record.frontend(), "");
  EXPECT_EQ(put->record.act_epoch(), 5u);
  EXPECT_EQ(put->record.attributes().at("kept"), "yes");
  EXPECT_EQ(catalog_->GetReplica("r1")->record.address(), "10.0.0.1:7301");
}

TEST_F(RebuildCatalogTest, WhoLacksBlocksIsNotInSync) {
  Add(RecordOf("demo", 7, 5), &r1_);
  r1_.mutable_records(0)->mutable_lanes(0)->set_invalid_blocks(1);
  const auto rebuilt = Rebuild();
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_EQ(rebuilt->volumes(0).outcome(), v1::RebuiltVolume::REFUSED);
}

TEST_F(RebuildCatalogTest, OneThatCannotBeKeepsNoOtherOneWaiting) {
  v1::VolumeRecord wide = RecordOf("wide", 8, 5);
  v1::Member* member = wide.add_members();
  member->set_replica("r2");
  member->set_store_id("s2");
  Add(wide, &r1_);
  Add(RecordOf("demo", 9, 5), &r1_);
  Add(RecordOf("demo", 10, 5), &r1_);
  r1_.add_records()->set_volume_id(11);  // never attached
  const auto rebuilt = Rebuild();
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  ASSERT_EQ(rebuilt->volumes_size(), 4);
  EXPECT_EQ(rebuilt->volumes(0).outcome(), v1::RebuiltVolume::REFUSED);
  EXPECT_EQ(rebuilt->volumes(0).name(), "wide");
  EXPECT_TRUE(absl::StrContains(rebuilt->volumes(0).reason(), "--without=r2")) << rebuilt->volumes(0).reason();
  EXPECT_EQ(rebuilt->volumes(1).outcome(), v1::RebuiltVolume::REBUILT);
  EXPECT_EQ(rebuilt->volumes(2).outcome(), v1::RebuiltVolume::REFUSED) << "there are two of that name";
  EXPECT_EQ(rebuilt->volumes(3).outcome(), v1::RebuiltVolume::EMPTY);
}

TEST_F(RebuildCatalogTest, OneThatCouldNotBeAttachedSinceIsDecidedAgain) {
  Add(RecordOf("demo", 7, 5), &r1_);
  ASSERT_TRUE(Rebuild().ok());
  auto put = catalog_->GetVolume("demo");
  const uint32_t epoch = put->record.epoch();
  put->record.set_epoch(epoch + 3);  // as attempts to attach leave it
  put->record.set_owner("one of them");
  ASSERT_TRUE(catalog_->PutVolume(put->record, put->revision).ok());
  EXPECT_EQ(Rebuild()->volumes(0).outcome(), v1::RebuiltVolume::REBUILT);
  put = catalog_->GetVolume("demo");
  EXPECT_EQ(put->record.owner(), "");
  EXPECT_GE(put->record.epoch(), epoch + 3);
  put->record.set_lease_ms(3000);
  put->record.set_state(v1::VolumeRecord::ACTIVE);
  ASSERT_TRUE(catalog_->PutVolume(put->record, put->revision).ok());
  EXPECT_EQ(Rebuild()->volumes(0).outcome(), v1::RebuiltVolume::KNOWN);
}

TEST_F(RebuildCatalogTest, AParentKnowsItsClonesAgain) {
  v1::VolumeRecord parent = RecordOf("parent", 7, 5), clone = RecordOf("copy", 8, 2);
  v1::SnapshotRecord* snapshot = parent.add_snapshots();
  snapshot->set_name("then");
  snapshot->set_size_bytes(parent.size_bytes());
  snapshot->mutable_pin()->set_id(99);
  snapshot->mutable_pin()->add_positions(Position(5, 1).bits());
  clone.mutable_parent()->set_volume("parent");
  clone.mutable_parent()->set_volume_id(7);
  clone.mutable_parent()->set_snapshot("then");
  clone.mutable_parent()->set_pin(99);
  Add(parent, &r1_);
  Add(clone, &r1_);
  const auto lost = Rebuild(/*dry_run=*/true);
  ASSERT_TRUE(lost.ok()) << lost.status();
  EXPECT_EQ(lost->volumes(0).outcome(), v1::RebuiltVolume::REFUSED) << "the replica has no such pin";
  EXPECT_EQ(lost->volumes(1).outcome(), v1::RebuiltVolume::REFUSED);
  r1_.mutable_records(0)->add_pins(99);
  const auto rebuilt = Rebuild();
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_EQ(rebuilt->volumes(1).outcome(), v1::RebuiltVolume::REBUILT) << rebuilt->volumes(1).reason();
  const auto put = catalog_->GetVolume("parent");
  ASSERT_EQ(put->record.snapshots_size(), 1);
  ASSERT_EQ(put->record.snapshots(0).clones_size(), 1);
  EXPECT_EQ(put->record.snapshots(0).clones(0).volume(), "copy");
}

TEST_F(RebuildCatalogTest, AReplicaOfAnotherClusterSaysHowToGoOn) {
  r1_.set_cluster_id("0123456789abcdef0123456789abcdef");
  const absl::Status refused = Rebuild().status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_TRUE(absl::StrContains(refused.message(), "?cluster=0123456789abcdef0123456789abcdef")) << refused;
}

TEST_F(RebuildCatalogTest, ACopyThatCannotBeReadIsNone) {
  Add(RecordOf("demo", 7, 5), &r1_);
  for (const std::string bytes : {"\xff\xff", ""}) {
    r1_.mutable_records(0)->set_record(bytes);
    const auto rebuilt = Rebuild();
    ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
    EXPECT_EQ(rebuilt->volumes(0).outcome(), v1::RebuiltVolume::REFUSED);
  }
  v1::VolumeRecord other = RecordOf("demo", 8, 5);  // of another volume
  r1_.mutable_records(0)->set_record(other.SerializeAsString());
  EXPECT_EQ(Rebuild()->volumes(0).outcome(), v1::RebuiltVolume::REFUSED);
}

class LostCatalogTest : public HostFixture {
 protected:
  // The lowest of what the replicas have promised for the one volume.
  uint64_t Promised() {
    uint64_t lowest = UINT64_MAX;
    for (const auto& replica : replicas_) {
      const auto answer = ReplicaClient(replica->name(), replica->address()).ListRecords(absl::Seconds(5));
      EXPECT_TRUE(answer.ok()) << answer.status();
      if (!answer.ok()) return 0;
      lowest = std::min<uint64_t>(lowest, answer->records(0).promised_epoch());
    }
    return lowest;
  }
};

TEST_F(LostCatalogTest, ItsVolumesServeAgain) {
  StartAttached();
  ASSERT_EQ(Write(0, 'x'), 0);
  ASSERT_EQ(Flush(), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "then").ok());
  const uint32_t epoch = volume_->epoch();
  volume_.reset();
  for (auto& replica : replicas_) replica->Release();
  host_.reset();
  std::filesystem::remove_all(dir_);
  StartHost();
  EXPECT_TRUE(absl::IsNotFound(host_->Attach("demo").status()));
  v1::RebuildCatalogRequest look;
  look.set_dry_run(true);
  ASSERT_TRUE(host_->RebuildCatalog(look).ok());
  EXPECT_EQ(Promised(), epoch) << "to look changes nothing";
  const auto rebuilt = host_->RebuildCatalog(v1::RebuildCatalogRequest());
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  ASSERT_EQ(rebuilt->volumes_size(), 1);
  EXPECT_EQ(rebuilt->volumes(0).in_sync_size(), 3);
  EXPECT_EQ(rebuilt->unreachable_size(), 0);
  EXPECT_GT(Promised(), epoch + 100) << "whoever may still serve is refused, and who takes over with the lost catalog";
  Attach();
  EXPECT_GT(volume_->epoch(), epoch);
  EXPECT_EQ(volume_->intact_since(), volume_->epoch()) << "no client of before may go on";
  EXPECT_EQ(Read(0), std::string(4096, 'x'));
  EXPECT_TRUE(host_->GetSnapshot("demo", "then").ok());
}

}  // namespace
}  // namespace weir::host
