// Who is replaced, by what table, and in which order copies of those that are no members are deleted.
#include "volume/engine/replacement.h"

#include "gtest/gtest.h"
#include "volume/engine/leftovers.h"

namespace weir::engine {
namespace {

using Act = Leftovers::Act;

constexpr absl::Duration kAfter = absl::Minutes(10);
constexpr Time kLeft = absl::Seconds(100);

TargetView Target(const std::string& replica, TargetState state) {
  TargetView target;
  target.config.replica = replica;
  target.config.store_id = "store-" + replica;
  target.config.state = state;
  target.left = kLeft;
  target.health = TargetView::Health::kConnected;
  return target;
}

TEST(LostMemberTest, IsOneThatHasBeenOutForLong) {
  EngineView view;
  view.targets = {Target("a", TargetState::kInSync), Target("b", TargetState::kOut)};
  EXPECT_EQ(LostMember(view, kAfter, kLeft + kAfter - absl::Seconds(1)), "");
  EXPECT_EQ(LostMember(view, kAfter, kLeft + kAfter), "b");
  EXPECT_EQ(LostMember(view, absl::InfiniteDuration(), kLeft + kAfter), "");
}

TEST(LostMemberTest, IsNoneThatComesBackOrStaysOutOrIsSucceeded) {
  EngineView out;
  out.targets = {Target("a", TargetState::kInSync), Target("b", TargetState::kOut)};
  for (auto change : {+[](EngineView& view) { view.targets[1].joining = true; },
                      +[](EngineView& view) { view.targets[1].config.stays_out = true; },
                      +[](EngineView& view) { view.targets[0].config.succeeds = "b"; },
                      +[](EngineView& view) { view.state = EngineView::State::kSuspended; }}) {
    EngineView view = out;
    change(view);
    EXPECT_EQ(LostMember(view, kAfter, kLeft + kAfter), "");
  }
  // Who was to succeed it, and has gone itself, does not count.
  out.targets.push_back(Target("c", TargetState::kOut));
  out.targets[2].config.gone = out.targets[2].config.stays_out = true;
  out.targets[2].config.succeeds = "b";
  EXPECT_EQ(LostMember(out, kAfter, kLeft + kAfter), "b");
}

TEST(TableWithTest, AtOnceOrBesideTheOneThatLeaves) {
  EngineView view;
  view.targets = {Target("a", TargetState::kInSync), Target("b", TargetState::kOut), Target("gone", TargetState::kOut)};
  view.targets[2].config.gone = true;
  const TargetConfig with{.replica = "c", .address = "c:1", .store_id = "store-c"};
  const Table at_once = TableWith(view, "b", with, /*make_before_break=*/false);
  ASSERT_EQ(at_once.targets.size(), 2u);
  EXPECT_EQ(at_once.targets[1].replica, "c");
  EXPECT_EQ(at_once.targets[1].replaces, "b");
  const Table beside = TableWith(view, "b", with, /*make_before_break=*/true);
  ASSERT_EQ(beside.targets.size(), 3u);
  EXPECT_EQ(beside.targets[1].replica, "b");
  EXPECT_EQ(beside.targets[2].succeeds, "b");
  EXPECT_EQ(beside.targets[2].state, TargetState::kOut);
}

class LeftoversTest : public ::testing::Test {
 protected:
  LeftoversTest() {
    record_.members = {{.replica = "a", .store_id = "store-a"}};
    view_.targets = {Target("a", TargetState::kInSync)};
  }
  // The acts are `acts`, one after the other.
  void Expect(Leftovers& decides, std::vector<std::pair<Act, size_t>> acts) {
    for (const auto& [act, store] : acts) {
      const Leftovers::Step step = decides.Next();
      ASSERT_EQ(step.act, act);
      ASSERT_TRUE(act == Act::kDone || step.store == store);
      if (act == Act::kAsk) decides.Asked(left_);
      if (act == Act::kConfirm) decides.Confirmed(record_, /*active=*/true, view_);
    }
  }
  TakeoverRecord record_;
  EngineView view_;
  Deletion::Left left_ = Deletion::Left::kCopy;
};

TEST_F(LeftoversTest, OneAfterTheOtherAndThoseThatAreGoneAreForgotten) {
  Leftovers decides({"store-b", "store-c"});
  Expect(decides, {{Act::kAsk, 0}, {Act::kConfirm, 0}, {Act::kDeleteCopy, 0}, {Act::kForget, 0}});
  left_ = Deletion::Left::kNothing;
  Expect(decides, {{Act::kAsk, 1}, {Act::kConfirm, 1}, {Act::kForget, 1}, {Act::kDone, 0}, {Act::kDone, 0}});
  EXPECT_FALSE(decides.left_some());
}

TEST_F(LeftoversTest, WhoCannotBeAskedOrIsAMemberAgainIsLeftForLater) {
  Leftovers decides({"store-b", "store-a", "store-c"});
  left_ = Deletion::Left::kUnknown;
  Expect(decides, {{Act::kAsk, 0}});
  left_ = Deletion::Left::kCopy;
  Expect(decides, {{Act::kAsk, 1}, {Act::kConfirm, 1}});
  // The catalog has let it go, and the engine has not heard of that.
  view_.targets.push_back(Target("c", TargetState::kInSync));
  Expect(decides, {{Act::kAsk, 2}, {Act::kConfirm, 2}, {Act::kDone, 0}});
  EXPECT_TRUE(decides.left_some());
}

TEST_F(LeftoversTest, AStepThatFailsLeavesItsStore) {
  for (const size_t steps : {1, 2, 3, 4}) {
    Leftovers decides({"store-b", "store-c"});
    const std::vector<std::pair<Act, size_t>> all = {{Act::kAsk, 0}, {Act::kConfirm, 0}, {Act::kDeleteCopy, 0}, {Act::kForget, 0}};
    Expect(decides, {all.begin(), all.begin() + static_cast<std::ptrdiff_t>(steps)});
    decides.Failed();
    Expect(decides, {{Act::kAsk, 1}});
    EXPECT_TRUE(decides.left_some());
  }
}

// Of which the catalog has not heard.
TEST_F(LeftoversTest, NothingIsDeletedWhileAMemberIsAwayOrTheVolumeIsNotServed) {
  view_.targets[0].health = TargetView::Health::kFailed;
  Leftovers away({"store-b"});
  Expect(away, {{Act::kAsk, 0}, {Act::kConfirm, 0}, {Act::kDone, 0}});
  EXPECT_TRUE(away.left_some());
  view_ = EngineView{.state = EngineView::State::kFenced};
  Leftovers fenced({"store-b"});
  Expect(fenced, {{Act::kAsk, 0}, {Act::kConfirm, 0}, {Act::kDone, 0}});
  EXPECT_TRUE(fenced.left_some());
}

TEST_F(LeftoversTest, NothingIsDeletedWhileACopyIsMissing) {
  Leftovers decides({"store-b", "store-c"});
  record_.members.push_back({.replica = "d", .store_id = "store-d", .in_sync = false});
  EXPECT_FALSE(IsWhole(record_, /*active=*/true));
  Expect(decides, {{Act::kAsk, 0}, {Act::kConfirm, 0}, {Act::kDone, 0}});
  EXPECT_TRUE(decides.left_some());
  record_.members[1].stays_out = true;
  EXPECT_TRUE(IsWhole(record_, /*active=*/true));
  EXPECT_FALSE(IsWhole(record_, /*active=*/false));
  record_.min_in_sync = 2;
  EXPECT_FALSE(IsWhole(record_, /*active=*/true));
}

}  // namespace
}  // namespace weir::engine
