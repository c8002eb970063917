#include "volume/host/registration.h"

#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace weir::host {
namespace {

const absl::Time kNow = absl::FromUnixSeconds(1'000'000);

v1::RegisterRequest Request() {
  v1::RegisterRequest request;
  request.set_name("r1");
  request.set_address("10.0.0.1:7301");
  request.set_cluster_id("here");
  request.set_store_id("s1");
  request.set_generation(5);
  request.set_incarnation(101);
  (*request.mutable_labels())["zone"] = "a";
  request.set_capacity_bytes(1000);
  request.set_available_bytes(700);
  request.set_lease_ms(15'000);
  return request;
}

// As if it had registered itself `ago`.
v1::ReplicaRecord Known(const v1::RegisterRequest& request, absl::Duration ago = absl::Seconds(1)) {
  const auto record = Registered(request, {}, "here", kNow - ago);
  EXPECT_TRUE(record.ok()) << record.status();
  return *record;
}

TEST(RegistrationTest, KeepsWhatAReplicaSaysOfItself) {
  const v1::ReplicaRecord record = Known(Request(), absl::ZeroDuration());
  EXPECT_EQ(record.name(), "r1");
  EXPECT_EQ(record.address(), "10.0.0.1:7301");
  EXPECT_EQ(record.store_id(), "s1");
  EXPECT_EQ(record.labels().at("zone"), "a");
  EXPECT_EQ(record.available_bytes(), 700u);
  EXPECT_FALSE(IsGone(record, kNow + absl::Seconds(14)));
  EXPECT_TRUE(IsGone(record, kNow + absl::Seconds(15)));
  EXPECT_FALSE(IsGone(v1::ReplicaRecord(), kNow)) << "it does not register itself";
}

TEST(RegistrationTest, RefusesWhoIsNotWhatItSays) {
  struct Case {
    std::string name;
    void (*change)(v1::RegisterRequest&);
    absl::Duration known_ago;
    std::string refused;  // part of the message; empty: taken
  };
  const absl::Duration alive = absl::Seconds(1), gone = absl::Seconds(20);
  const Case cases[] = {
      {"again", [](auto&) {}, alive, ""},
      {"after a restart", [](auto& r) { r.set_generation(6), r.set_incarnation(102); }, alive, ""},
      {"moved", [](auto& r) { r.set_address("10.0.0.2:7301"); }, alive, ""},
      {"not in a cluster yet", [](auto& r) { r.clear_cluster_id(); }, alive, ""},
      {"another cluster's", [](auto& r) { r.set_cluster_id("there"); }, alive, "belong to cluster there"},
      {"another name for a known store", [](auto& r) { r.set_name("r2"); }, gone, "is that of replica r1"},
      {"a name that is in use", [](auto& r) { r.set_store_id("s2"), r.set_incarnation(102); }, alive,
       "is that of another process"},
      {"a new disk, once the old process is gone",
       [](auto& r) { r.set_store_id("s2"), r.set_incarnation(102), r.set_generation(1); }, gone, ""},
      {"of the next version", [](auto& r) { r.set_protocol(2); }, alive, ""},
      {"of the one after", [](auto& r) { r.set_protocol(3); }, alive, "the replica speaks version 3"},
      {"an older copy", [](auto& r) { r.set_generation(4), r.set_incarnation(102); }, gone, "an older copy"},
      {"an older copy that was started as often", [](auto& r) { r.set_incarnation(102); }, gone, "an older copy"},
      {"another replica", [](auto& r) { r.set_name("r2"), r.set_store_id("s2"); }, alive, ""},
  };
  for (const Case& c : cases) {
    v1::RegisterRequest request = Request();
    c.change(request);
    const auto got = Registered(request, {Known(Request(), c.known_ago)}, "here", kNow);
    if (c.refused.empty()) {
      EXPECT_TRUE(got.ok()) << c.name << ": " << got.status();
      continue;
    }
    EXPECT_TRUE(absl::IsFailedPrecondition(got.status())) << c.name << ": " << got.status();
    EXPECT_TRUE(absl::StrContains(got.status().message(), c.refused)) << c.name << ": " << got.status();
  }
}

TEST(RegistrationTest, OneThatTheFrontendWasToldOfMayRegisterItselfLater) {
  v1::ReplicaRecord named;
  named.set_name("r1");
  named.set_address("10.0.0.9:7301");
  named.set_store_id("s1");
  const auto got = Registered(Request(), {named}, "here", kNow);
  ASSERT_TRUE(got.ok()) << got.status();
  EXPECT_EQ(got->address(), "10.0.0.1:7301");
}

TEST(RegistrationTest, RefusesWhatHasNoShape) {
  for (auto change : {+[](v1::RegisterRequest& r) { r.clear_name(); },
                      +[](v1::RegisterRequest& r) { r.clear_address(); },
                      +[](v1::RegisterRequest& r) { r.clear_store_id(); },
                      +[](v1::RegisterRequest& r) { r.set_name(std::string(64, 'r')); },
                      +[](v1::RegisterRequest& r) { r.set_lease_ms(10 * 60 * 1000 + 1); }}) {
    v1::RegisterRequest request = Request();
    change(request);
    EXPECT_TRUE(absl::IsInvalidArgument(Registered(request, {}, "here", kNow).status()));
  }
}

TEST(RegistrationTest, OneThatIsShutDownIsGoneAtOnceAndItsNameFree) {
  v1::RegisterRequest goodbye = Request();
  goodbye.set_lease_ms(0);
  const v1::ReplicaRecord before = Known(Request());
  const auto gone = Registered(goodbye, {before}, "here", kNow);
  ASSERT_TRUE(gone.ok()) << gone.status();
  EXPECT_FALSE(IsWorthNoWrite(before, *gone, kNow));
  EXPECT_TRUE(IsGone(*gone, kNow));
  v1::RegisterRequest other = Request();
  other.set_store_id("s2");
  other.set_incarnation(102);
  EXPECT_TRUE(Registered(other, {*gone}, "here", kNow).ok());
}

TEST(RegistrationTest, TheCatalogIsWrittenToOnlyWhenItMatters) {
  auto after = [](void (*change)(v1::RegisterRequest&)) {
    v1::RegisterRequest request = Request();
    change(request);
    return Known(request, absl::ZeroDuration());
  };
  const auto same = +[](v1::RegisterRequest&) {};
  EXPECT_TRUE(IsWorthNoWrite(Known(Request(), absl::Seconds(5)), after(same), kNow));
  EXPECT_FALSE(IsWorthNoWrite(Known(Request(), absl::Seconds(10)), after(same), kNow));
  EXPECT_FALSE(IsWorthNoWrite(v1::ReplicaRecord(), after(same), kNow));
  EXPECT_TRUE(IsWorthNoWrite(Known(Request()), after([](auto& r) { r.set_available_bytes(1); }), kNow));
  EXPECT_FALSE(IsWorthNoWrite(Known(Request()), after([](auto& r) { r.set_address("b:1"); }), kNow));
  EXPECT_FALSE(IsWorthNoWrite(Known(Request()), after([](auto& r) { r.clear_labels(); }), kNow));
}

}  // namespace
}  // namespace weir::host
