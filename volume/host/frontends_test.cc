// Several frontends on one catalog.
#include "volume/host/frontend.h"

#include <cerrno>
#include <string>
#include <thread>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/notification.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/monitor/http_get.h"
#include "volume/catalog/testing/fake_etcd.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

bool Says(const absl::Status& status, absl::string_view words) {
  return absl::StrContains(status.message(), words);
}

// `host_` is frontend "one", with "demo" attached there as volume_; `two_` is the other.
class FrontendsTest : public HostFixture {
 protected:
  FrontendsTest() : etcd_(3) {}
  ~FrontendsTest() override {
    for (auto& replica : replicas_) replica->Release();
    two_.reset();
    host_.reset();  // before the etcd
  }

  HostOptions OptionsOf(const std::string& name) {
    HostOptions options = Options();
    options.catalog =
        absl::StrCat("etcd:", absl::StrJoin(etcd_.endpoints(), ","), "?timeout=500ms");
    options.name = name;
    return options;
  }

  void SetUp() override {
    StartHost(OptionsOf("one"));
    ASSERT_TRUE(host_->CreateVolume(CreateRequest()).ok());
    Attach();
    StartTwo();
  }
  void StartTwo() {
    auto two = Host::Start(OptionsOf("two"));
    ASSERT_TRUE(two.ok()) << two.status();
    two_ = *std::move(two);
  }
  // Frontend two has it from now on; volume_ stays that of frontend one.
  std::shared_ptr<HostedVolume> TakeOverByTwo() {
    auto attached = two_->Attach("demo");
    EXPECT_TRUE(attached.ok()) << attached.status();
    return attached.ok() ? *std::move(attached) : nullptr;
  }

  catalog::FakeEtcd etcd_;
  std::unique_ptr<Host> two_;
};

TEST_F(FrontendsTest, TheRecordSaysWhoHasAVolumeAndNobodyElseTakesItUnasked) {
  const auto seen = two_->GetVolume("demo");
  ASSERT_TRUE(seen.ok()) << seen.status();
  EXPECT_EQ(seen->state(), "ELSEWHERE");
  EXPECT_EQ(seen->frontend(), "one");
  EXPECT_EQ(seen->frontend_address(), absl::StrCat("127.0.0.1:", host_->port()));
  EXPECT_EQ(host_->GetVolume("demo")->state(), "ACTIVE");

  const std::string where = absl::StrCat("frontend one (127.0.0.1:", host_->port(), ")");
  const absl::Status refused =
      two_->Attach("demo", AttachMode::kUnlessElsewhere).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused) && Says(refused, where)) << refused;
  v1::SuspendRequest suspend;
  suspend.set_name("demo");
  for (const absl::Status& status :
       {two_->GetAttached("demo").status(), two_->Suspend(suspend), two_->Resume("demo"),
        two_->Detach("demo", true), two_->DeleteVolume("demo")}) {
    EXPECT_TRUE(absl::IsFailedPrecondition(status) && Says(status, where)) << status;
  }
  EXPECT_TRUE(absl::StrContains(two_->Explain("demo")->summary(), where));
  EXPECT_EQ(Write(0, 'a'), 0);
}

TEST_F(FrontendsTest, AnAttachTakesItOverAndTheOldOneRefusesEverything) {
  ASSERT_EQ(Write(0, 'a'), 0);
  const std::shared_ptr<HostedVolume> old = volume_;
  volume_ = TakeOverByTwo();
  ASSERT_NE(volume_, nullptr);
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  ASSERT_EQ(Write(0, 'b'), 0);
  ASSERT_EQ(Flush(), 0);

  volume_ = old;
  EXPECT_EQ(Write(0, 'z'), ESTALE);
  EXPECT_THAT(Read(0), testing::StartsWith(absl::StrCat("errno ", ESTALE)));
  EXPECT_EQ(Flush(), ESTALE);
  EXPECT_EQ(host_->GetVolume("demo")->state(), "FENCED");
  EXPECT_EQ(host_->GetVolume("demo")->frontend(), "two");
  EXPECT_TRUE(absl::StrContains(host_->Explain("demo")->summary(), "taken over by frontend two"));
  // Who only connects does not take it back; who asks for it does.
  EXPECT_TRUE(absl::IsFailedPrecondition(
      host_->Attach("demo", AttachMode::kUnlessElsewhere).status()));
  Attach();
  EXPECT_EQ(Read(0), std::string(4096, 'b'));
  EXPECT_EQ(two_->GetVolume("demo")->state(), "FENCED");
}

TEST_F(FrontendsTest, AnAttachTakesItBackAlsoBeforeTheOldFrontendHasNoticed) {
  for (int i = 0; i < 5; ++i) {
    ASSERT_NE(TakeOverByTwo(), nullptr);
    Attach();
    ASSERT_EQ(Write(0, 'a'), 0);
  }
}

TEST_F(FrontendsTest, AfterACleanDetachAnyFrontendMayHaveIt) {
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_EQ(two_->GetVolume("demo")->frontend(), "");
  EXPECT_TRUE(two_->Attach("demo", AttachMode::kUnlessElsewhere).ok());
}

TEST_F(FrontendsTest, ClientsOfAFrontendThatHasEndedGoOnIfItIsTheNextOne) {
  const uint32_t epoch = volume_->epoch();
  volume_.reset();
  host_.reset();
  EXPECT_EQ(two_->GetVolume("demo")->state(), "DETACHED");
  EXPECT_EQ(two_->GetVolume("demo")->frontend(), "");
  StartHost(OptionsOf("one"));
  Attach();
  EXPECT_LE(volume_->intact_since(), epoch);
}

TEST_F(FrontendsTest, ClientsOfAFrontendThatHasEndedDoNotGoOnIfAnotherOneHadItBetween) {
  volume_.reset();
  host_.reset();
  const auto attached = two_->Attach("demo", AttachMode::kUnlessElsewhere);
  ASSERT_TRUE(attached.ok()) << attached.status();
  EXPECT_EQ((*attached)->intact_since(), (*attached)->epoch());
  two_.reset();
  StartHost(OptionsOf("one"));
  Attach();
  EXPECT_EQ(volume_->intact_since(), volume_->epoch());
}

TEST_F(FrontendsTest, AfterADetachThatWasAskedForNobodyGoesOn) {
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  volume_.reset();
  Attach();
  EXPECT_EQ(volume_->intact_since(), volume_->epoch());
}

// Else whoever attached it would wait for no lease of a frontend that goes on.
TEST_F(FrontendsTest, WhileADetachIsInDoubtNobodyIsServed) {
  // Only what is asked once the volume is suspended gets no answer.
  const auto detach_in_doubt = [this] {
    replicas_[0]->HoldWrites();
    volume_->Submit(WriteRequest(0, std::string(4096, 'a')), [](const IoOutcome&) {});
    absl::Status detached;
    std::thread detach([&] { detached = host_->Detach("demo", false); });
    while (!Says(host_->Resume("demo"), "is being detached")) std::this_thread::yield();
    etcd_.Misbehave(catalog::EtcdFault::kAnswerLost, 1'000'000);
    replicas_[0]->Release();
    detach.join();
    return detached;
  };
  const absl::Status detached = detach_in_doubt();
  EXPECT_TRUE(Says(detached, "may have it as detached")) << detached;
  EXPECT_FALSE(host_->Resume("demo").ok());
  EXPECT_EQ(host_->GetVolume("demo")->state(), "SUSPENDED");
  etcd_.Behave();
  EXPECT_EQ(two_->GetVolume("demo")->state(), "DETACHED");
  const v1::ExplainResponse why = *host_->Explain("demo");
  EXPECT_TRUE(absl::StrContains(why.ShortDebugString(), "the catalog may have it so")) << why.ShortDebugString();
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_FALSE(absl::StrContains(host_->Explain("demo")->ShortDebugString(), "the catalog may have it so"));
  EXPECT_EQ(two_->GetVolume("demo")->frontend(), "one");
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  // Or it is to be detached all the same.
  EXPECT_FALSE(detach_in_doubt().ok());
  etcd_.Behave();
  EXPECT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_TRUE(two_->Attach("demo", AttachMode::kUnlessElsewhere).ok());
}

TEST_F(FrontendsTest, AFrontendThatIsStartedAgainHasItsVolumesStill) {
  ASSERT_EQ(Write(0, 'a'), 0);
  // As after kill -9: another process of that name.
  auto again = Host::Start(OptionsOf("one"));
  ASSERT_TRUE(again.ok()) << again.status();
  EXPECT_EQ((*again)->GetVolume("demo")->state(), "DETACHED");
  auto attached = (*again)->Attach("demo", AttachMode::kUnlessElsewhere);
  ASSERT_TRUE(attached.ok()) << attached.status();
  volume_ = *std::move(attached);
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  volume_.reset();
  again->reset();
}

TEST_F(FrontendsTest, WithoutEtcdAVolumeIsServedOpenedAndExplainedButNotMoved) {
  etcd_.Misbehave(catalog::EtcdFault::kNoLeader, 1'000'000);
  EXPECT_EQ(Write(0, 'a'), 0);
  EXPECT_EQ(Flush(), 0);
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  EXPECT_TRUE(host_->Attach("demo", AttachMode::kUnlessElsewhere).ok());
  EXPECT_EQ(host_->GetVolume("demo")->state(), "ACTIVE");
  EXPECT_TRUE(host_->Explain("demo").ok());
  EXPECT_TRUE(absl::IsUnavailable(two_->Attach("demo").status()));
  EXPECT_TRUE(absl::IsUnavailable(host_->ListVolumes().status()));
  etcd_.Behave();
  EXPECT_NE(TakeOverByTwo(), nullptr);
}

TEST_F(FrontendsTest, AMemberThatFailsWhileEtcdIsAwayLeavesOnceItIsBack) {
  etcd_.Misbehave(catalog::EtcdFault::kNoLeader, 1'000'000);
  replicas_[2]->Stop();
  absl::Notification written;
  int error = -1;
  volume_->Submit(WriteRequest(0, std::string(4096, 'c')), [&](IoOutcome outcome) {
    error = outcome.result.error();
    written.Notify();
  });
  const auto says_why = [this] {
    const auto explained = host_->Explain("demo");
    for (const std::string& fact : explained->facts()) {
      if (absl::StrContains(fact, "the catalog has not taken")) return true;
    }
    return false;
  };
  while (!says_why()) ASSERT_FALSE(written.HasBeenNotified());
  EXPECT_FALSE(written.HasBeenNotified());
  etcd_.Behave();
  written.WaitForNotification();
  EXPECT_EQ(error, 0);
  EXPECT_FALSE(says_why());
}

TEST(FrontendTest, TheAddressForOthersHasThePortAndNoWildcard) {
  EXPECT_EQ(AdvertisedAddress("10.0.0.1:0", 77), "10.0.0.1:77");
  EXPECT_EQ(AdvertisedAddress("unix:/run/w", 0), "unix:/run/w");
  EXPECT_EQ(AdvertisedAddress("", 0), "");
  for (const char* listen : {"0.0.0.0:7", "[::]:7", ":7"}) {
    EXPECT_FALSE(absl::StartsWith(AdvertisedAddress(listen, 7), "0.0.0.0")) << listen;
    EXPECT_FALSE(absl::StartsWith(AdvertisedAddress(listen, 7), "[")) << listen;
    EXPECT_TRUE(absl::EndsWith(AdvertisedAddress(listen, 7), ":7")) << listen;
  }
}

TEST_F(FrontendsTest, EitherMayChangeAttributesAndNeitherLosesTheVolumeByIt) {
  v1::SetAttributesRequest request;
  request.set_name("demo");
  (*request.mutable_set())["csi.node"] = "one";
  ASSERT_TRUE(two_->SetAttributes(request).ok());
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_NE(TakeOverByTwo(), nullptr);
  (*request.mutable_set())["csi.node"] = "two";
  ASSERT_TRUE(host_->SetAttributes(request).ok());
  ASSERT_TRUE(two_->Detach("demo", false).ok());
  EXPECT_EQ(host_->GetVolume("demo")->attributes().at("csi.node"), "two");
  EXPECT_EQ(host_->ListFrontends()->size(), 2u);
}

TEST_F(FrontendsTest, IsReadyWhileTheCatalogAnswers) {
  HostOptions options = OptionsOf("three");
  options.metrics_listen = "127.0.0.1:0";
  auto three = Host::Start(options);
  ASSERT_TRUE(three.ok()) << three.status();
  const auto ask = [&](const char* page) {
    return monitor::HttpGet(absl::StrCat("127.0.0.1:", (*three)->metrics_port()), page);
  };
  etcd_.Misbehave(catalog::EtcdFault::kNoLeader, 1'000'000);
  EXPECT_THAT(ask("/readyz"), testing::StartsWith("HTTP/1.1 503 "));
  EXPECT_THAT(ask("/healthz"), testing::EndsWith("\r\n\r\nok\n")) << "a restart would not help";
  etcd_.Behave();
  while (!absl::EndsWith(ask("/readyz"), "\r\n\r\nok\n")) {
  }
}

// Volume "demo" has a snapshot "monday" of a block of 'a', and 'b' since.
class FrontendsRestoreTest : public FrontendsTest {
 protected:
  void SetUp() override {
    FrontendsTest::SetUp();
    EXPECT_EQ(Write(0, 'a'), 0);
    ASSERT_TRUE(host_->CreateSnapshot("demo", "monday").ok());
    EXPECT_EQ(Write(0, 'b'), 0);
  }
  void Suspend(bool noflush) {
    v1::SuspendRequest suspend;
    suspend.set_name("demo");
    suspend.set_noflush(noflush);
    ASSERT_TRUE(host_->Suspend(suspend).ok());
  }
  static absl::Status Restore(Host& host) {
    v1::RestoreVolumeRequest restore;
    restore.set_name("demo");
    restore.set_snapshot("monday");
    return host.RestoreVolume(restore).status();
  }
  // Of a restore whose mark has come to the catalog, and the catalog's answer has been lost.
  absl::Status RestoreInDoubt() {
    const int many = 1 << 30;
    for (auto& replica : replicas_) replica->FailNext(v1::IO_KIND_WRITE, EAGAIN, many);
    volume_->Submit(WriteRequest(4096, std::string(4096, 'c')), [](const IoOutcome&) {});
    Suspend(/*noflush=*/true);
    absl::Status restored;
    std::thread restoring([&] { restored = Restore(*host_); });
    // What was cut short goes on, and is not done yet: only what is asked after that gets no answer.
    while (!absl::StrContains(host_->Explain("demo")->summary(), "being restored")) std::this_thread::yield();
    etcd_.Misbehave(catalog::EtcdFault::kAnswerLost, 1'000'000);
    for (auto& replica : replicas_) replica->FailNext(v1::IO_KIND_WRITE, EAGAIN, 0);
    restoring.join();
    return restored;
  }
};

// Else what it would write were undone by the restore that the catalog calls for.
TEST_F(FrontendsRestoreTest, WhileItsMarkIsInDoubtNobodyIsServed) {
  const absl::Status restored = RestoreInDoubt();
  EXPECT_TRUE(absl::IsUnavailable(restored)) << restored;
  for (int healed = 0; healed < 2; ++healed) {
    EXPECT_TRUE(Says(host_->Resume("demo"), "restore it again, or detach it")) << host_->Resume("demo");
    EXPECT_FALSE(host_->Attach("demo").ok());
    EXPECT_EQ(host_->GetVolume("demo")->state(), "SUSPENDED");
    etcd_.Behave();
  }
  EXPECT_FALSE(two_->Attach("demo").ok());
  const absl::Status again = Restore(*host_);
  ASSERT_TRUE(again.ok()) << again;
  ASSERT_TRUE(host_->Resume("demo").ok());
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
}

// Nothing has been restored, and a detach takes the mark back.
TEST_F(FrontendsRestoreTest, OneWhoseMarkIsInDoubtMayBeLeftByADetach) {
  EXPECT_FALSE(RestoreInDoubt().ok());
  etcd_.Behave();
  const absl::Status detached = host_->Detach("demo", false);
  ASSERT_TRUE(detached.ok()) << detached;
  volume_ = TakeOverByTwo();
  ASSERT_NE(volume_, nullptr);
  EXPECT_EQ(Read(0), std::string(4096, 'b'));
}

TEST_F(FrontendsRestoreTest, OneThatWasCutShortIsDoneByAnotherFrontend) {
  Suspend(/*noflush=*/false);
  // It has to be asked of the one that has the volume, unless that has begun it.
  const absl::Status elsewhere = Restore(*two_);
  EXPECT_TRUE(absl::IsFailedPrecondition(elsewhere) && Says(elsewhere, "frontend one")) << elsewhere;
  for (auto& replica : replicas_) replica->RefuseChangedSince(true);
  EXPECT_FALSE(Restore(*host_).ok());
  for (auto& replica : replicas_) replica->RefuseChangedSince(false);
  const absl::Status attached = two_->Attach("demo").status();
  EXPECT_TRUE(absl::IsFailedPrecondition(attached) && Says(attached, "demo@monday")) << attached;
  const absl::Status restored = Restore(*two_);
  ASSERT_TRUE(restored.ok()) << restored;
  volume_ = TakeOverByTwo();
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  EXPECT_FALSE(host_->Resume("demo").ok());
}

}  // namespace
}  // namespace weir::host
