// The order of a restore, whom it asks, and when a copy of a deleted volume is gone.
#include "volume/engine/restoration.h"

#include <cerrno>

#include "gtest/gtest.h"
#include "proto/base/errno.h"
#include "volume/engine/deletion.h"
#include "volume/engine/pinned.h"

namespace weir::engine {
namespace {

using Act = Restoration::Act;
using Held = Restoration::Held;

TargetView Member(uint32_t id, int since_s) {
  TargetView target;
  target.id = TargetId{id};
  target.config.state = TargetState::kInSync;
  target.since = absl::Seconds(since_s);
  return target;
}

TEST(RestorationTest, OfASuspendedVolume) {
  EngineView view;
  view.targets = {Member(0, 1), Member(1, 1)};
  Restoration restoration(Held::kSuspended, /*marked=*/false);
  for (const Act act :
       {Act::kShut, Act::kMark, Act::kTell, Act::kCopy, Act::kUnmark, Act::kTell, Act::kOpen, Act::kDone, Act::kDone}) {
    EXPECT_EQ(restoration.Next(view), act);
  }
}

TEST(RestorationTest, OfOneThatIsAttachedForIt) {
  Restoration anew(Held::kAttached, /*marked=*/false);
  for (const Act act : {Act::kMark, Act::kTell, Act::kCopy, Act::kUnmark, Act::kLetGo, Act::kDone}) {
    EXPECT_EQ(anew.Next({}), act);
  }
  Restoration begun(Held::kAttached, /*marked=*/true);
  for (const Act act : {Act::kCopy, Act::kUnmark, Act::kLetGo, Act::kDone}) EXPECT_EQ(begun.Next({}), act);
}

TEST(RestorationTest, AMemberThatHasComeAnewMeansToCopyAnew) {
  EngineView view;
  view.targets = {Member(0, 1), Member(1, 1)};
  Restoration restoration(Held::kAttached, /*marked=*/true);
  EXPECT_EQ(restoration.Next(view), Act::kCopy);
  view.targets[1].since = absl::Seconds(9);
  EXPECT_EQ(restoration.Next(view), Act::kCopy);
  view.targets[1].config.state = TargetState::kOut;
  EXPECT_EQ(restoration.Next(view), Act::kCopy) << "it may have lost what it had been given";
  view.targets[1] = Member(1, 20);
  EXPECT_EQ(restoration.Next(view), Act::kUnmark) << "who has come in step has it all";
}

TEST(RestorationTest, MembersThatComeAndGoEndIt) {
  EngineView view;
  view.targets = {Member(0, 0)};
  Restoration restoration(Held::kAttached, /*marked=*/true);
  for (int copy = 0; copy < 5; ++copy) {
    EXPECT_EQ(restoration.Next(view), Act::kCopy);
    view.targets[0].since += absl::Seconds(1);
  }
  EXPECT_EQ(restoration.Next(view), Act::kGiveUp);
}

TEST(AskPinnedTest, MembersInSyncComeFirstAndAloneKnowWhatHasChanged) {
  const std::vector<bool> in_sync = {false, true, true};
  AskPinned content(AskPinned::What::kContent, in_sync);
  EXPECT_EQ(content.Next(), 1u);
  EXPECT_EQ(content.Next(), 2u);
  EXPECT_EQ(content.Next(), 0u);
  EXPECT_EQ(content.Next(), std::nullopt);
  AskPinned changes(AskPinned::What::kChanges, in_sync);
  EXPECT_EQ(changes.Next(), 1u);
  EXPECT_EQ(changes.Next(), 2u);
  EXPECT_EQ(changes.Next(), std::nullopt);
}

TEST(AskPinnedTest, ThatOneHasItDamagedIsTheAnswer) {
  AskPinned ask(AskPinned::What::kContent, {true, true, true});
  EXPECT_TRUE(absl::IsUnavailable(ask.status(2)));
  ask.Failed(absl::NotFoundError("no such pin"));
  EXPECT_TRUE(absl::IsNotFound(ask.status(2)));
  EXPECT_FALSE(AskPinned::ByBlocks({4, 2}, ask.status(2)));
  ask.Failed(ErrnoToStatus(EBADMSG, "block 4"));
  EXPECT_EQ(StatusToErrno(ask.status(2)), EBADMSG);
  EXPECT_EQ(StatusToErrno(ask.status(1)), EBADMSG);
  EXPECT_TRUE(AskPinned::ByBlocks({4, 2}, ask.status(2)));
  EXPECT_FALSE(AskPinned::ByBlocks({4, 1}, ask.status(1)));
}

TEST(AskPinnedTest, WhoCannotBeAskedNowMayTellLater) {
  AskPinned ask(AskPinned::What::kContent, {true, true, true});
  ask.Failed(absl::DeadlineExceededError("no answer"));
  ask.Failed(absl::NotFoundError("no such pin"));
  EXPECT_TRUE(absl::IsUnavailable(ask.status(1)));
  ask.Failed(ErrnoToStatus(EBADMSG, "block 4"));
  EXPECT_TRUE(absl::IsUnavailable(ask.status(1))) << "it may have the block well";
  EXPECT_EQ(StatusToErrno(ask.status(2)), EBADMSG) << "somebody may have each of the two";
}

TEST(DeletionTest, WhatIsLeftOfACopy) {
  using Left = Deletion::Left;
  EXPECT_EQ(Deletion::LeftAt({.store_id = "s1"}, "s1"), Left::kCopy);
  EXPECT_EQ(Deletion::LeftAt({.store_id = "s2"}, "s1"), Left::kNothing) << "it went with its disk";
  EXPECT_EQ(Deletion::LeftAt({.silent = true}, "s1"), Left::kUnknown) << "it may come back";
  EXPECT_EQ(Deletion::LeftAt({.forgotten = true, .silent = true}, "s1"), Left::kNothing);
  EXPECT_EQ(Deletion::LeftAt({.forgotten = true, .store_id = "s1"}, "s1"), Left::kCopy);
}

}  // namespace
}  // namespace weir::engine
