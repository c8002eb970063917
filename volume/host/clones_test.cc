// Restores through the host. Clones are tried against real replicas, in tests/system: FakeReplica holds one
// volume at a time.
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

class RestoreTest : public HostFixture {
 protected:
  absl::StatusOr<v1::RestoreVolumeResponse> Restore(const std::string& snapshot) {
    v1::RestoreVolumeRequest request;
    request.set_name("demo");
    request.set_snapshot(snapshot);
    return host_->RestoreVolume(request);
  }
};

TEST_F(RestoreTest, AnAttachedVolumeIsNotRestored) {
  StartAttached();
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  EXPECT_TRUE(absl::IsFailedPrecondition(Restore("monday").status()));
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_TRUE(absl::IsNotFound(Restore("tuesday").status()));
}

// The replica cannot say what has changed, so the restore ends in the middle.
TEST_F(RestoreTest, OneThatWasCutShortKeepsClientsAwayUntilItIsDone) {
  StartAttached();
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
  ASSERT_TRUE(host_->CreateSnapshot("demo", "tuesday").ok());
  EXPECT_EQ(Write(0, 'b'), 0);
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  for (auto& replica : replicas_) replica->RefuseChangedSince(true);
  EXPECT_FALSE(Restore("monday").ok());
  const absl::Status refused = host_->Attach("demo").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused));
  EXPECT_TRUE(absl::StrContains(refused.message(), "demo@monday")) << refused;
  EXPECT_TRUE(absl::IsFailedPrecondition(Restore("tuesday").status()));
  for (auto& replica : replicas_) replica->RefuseChangedSince(false);
  const auto restored = Restore("monday");
  ASSERT_TRUE(restored.ok()) << restored.status();
  EXPECT_EQ(restored->restored_bytes(), 4096u);
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  EXPECT_EQ(Read(4096), std::string(4096, '\0'));
}

}  // namespace
}  // namespace weir::host
