#include "volume/engine/takeover.h"

#include <algorithm>
#include <cerrno>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "gtest/gtest.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"

namespace weir::engine {
namespace {

constexpr Time kStart = absl::Seconds(50);
constexpr absl::Duration kDeadline = absl::Seconds(10);
constexpr absl::Duration kGiveUpAfter = absl::Seconds(2);
constexpr absl::Duration kLease = absl::Seconds(4);

TakeoverOptions OptionsOf(uint32_t lanes) {
  return {.lanes = lanes,
          .owner = "me",
          .give_up_after = kGiveUpAfter,
          .deadline = kDeadline,
          .lease = kLease};
}

TakeoverRecord RecordOf(Epoch epoch, Epoch act_epoch, size_t members) {
  TakeoverRecord record;
  record.epoch = epoch;
  record.act_epoch = act_epoch;
  for (size_t i = 0; i < members; ++i) {
    const std::string name(1, static_cast<char>('a' + i));
    record.members.push_back({.replica = name, .store_id = "store-" + name});
  }
  return record;
}

SealedState StateOf(const std::string& name, std::vector<SealedState::Lane> lanes) {
  SealedState state;
  state.store_id = "store-" + name;
  state.boot_id = "boot-" + name;
  state.incarnation = 30;
  state.lanes = std::move(lanes);
  return state;
}

SealedState::Lane LaneAt(Position position, std::vector<LineageEntry> lineage = {}) {
  return SealedState::Lane{position, position, std::move(lineage), 0};
}

template <typename T>
std::vector<T> Of(const TakeoverEffects& effects) {
  std::vector<T> found;
  for (const TakeoverEffect& effect : effects) {
    if (const T* t = std::get_if<T>(&effect)) found.push_back(*t);
  }
  return found;
}

// A takeover of members a, b, c with one lane, unless said otherwise, with what it asked for.
class Script {
 public:
  explicit Script(TakeoverRecord record, uint32_t lanes = 1)
      : Script(std::move(record), OptionsOf(lanes)) {}
  Script(TakeoverRecord record, TakeoverOptions options)
      : takeover_(std::move(record), std::move(options), kStart) {
    takeover_.Start(effects_);
  }

  template <typename T>
  std::vector<T> Take() {
    return Of<T>(TakeAll());
  }
  TakeoverEffects TakeAll() { return std::exchange(effects_, {}); }
  size_t pending() const { return effects_.size(); }
  std::string failure() {
    const auto failed = Take<TakeoverFailed>();
    return failed.empty() ? "" : failed[0].status.ToString();
  }

  void Committed(absl::Status status = absl::OkStatus()) {
    takeover_.RecordCommitted(status, kStart, effects_);
  }
  void Sealed(uint32_t member, absl::StatusOr<SealedState> state, Time now = kStart) {
    takeover_.MemberSealed(member, state, now, effects_);
  }
  // Every member answers its seal, with one lane.
  void SealedAt(const std::vector<SealedState::Lane>& lanes) {
    Committed();
    effects_.clear();
    for (uint32_t i = 0; i < lanes.size(); ++i) {
      Sealed(i, StateOf(std::string(1, static_cast<char>('a' + i)), {lanes[i]}));
    }
  }
  void Copied(const CopyLane& copy, absl::Status status = absl::OkStatus()) {
    takeover_.LaneCopied(copy, status, kStart, effects_);
  }
  void Based(uint32_t member, absl::Status status = absl::OkStatus(), Time now = kStart) {
    takeover_.BaseTaken(member, status, now, effects_);
  }
  void Woken(Time now) { takeover_.Woken(now, effects_); }

 private:
  Takeover takeover_;
  TakeoverEffects effects_;
};

TEST(TakeoverTest, RaisesTheEpochBeforeItSealsAnybody) {
  Script script(RecordOf(4, 4, 3));
  const auto commits = script.Take<CommitRecord>();
  ASSERT_EQ(commits.size(), 1u);
  EXPECT_EQ(commits[0].record.epoch, 5u);
  EXPECT_EQ(commits[0].record.act_epoch, 4u);
  EXPECT_TRUE(commits[0].record.recovering);
  EXPECT_EQ(commits[0].record.owner, "me");
  script.Committed();
  EXPECT_EQ(script.Take<SealMember>().size(), 3u);
}

TEST(TakeoverTest, OfEqualMembersCopiesNothingAndServesOnlyAfterEveryBaseAndTheCatalog) {
  Script script(RecordOf(4, 4, 3));
  const auto lane = LaneAt(Position(4, 9));
  script.SealedAt({lane, lane, lane});
  const auto bases = script.Take<TakeBaseOn>();
  ASSERT_EQ(bases.size(), 3u);
  EXPECT_EQ(bases[1].expected, std::vector<Position>{Position(4, 9)});
  EXPECT_EQ(bases[1].incarnation, 30u);
  EXPECT_EQ(bases[1].act_epoch, 4u);
  script.Based(0);
  script.Based(2);
  EXPECT_EQ(script.pending(), 0u);
  script.Based(1);
  const auto commits = script.Take<CommitRecord>();
  ASSERT_EQ(commits.size(), 1u);
  EXPECT_FALSE(commits[0].record.recovering);
  EXPECT_EQ(commits[0].record.act_epoch, 5u);
  EXPECT_EQ(commits[0].record.floor, std::vector<Position>{Position(5, 0)});
  EXPECT_EQ(commits[0].record.members[2].boot_id, "boot-c");
  script.Committed();
  EXPECT_EQ(script.Take<TakeoverDone>().size(), 1u);
}

// What an attempt to set a pin has left that never reached the record goes; what the record names stays.
TEST(TakeoverTest, TellsEveryMemberThePinsAndTheSizeOfTheRecord) {
  TakeoverRecord record = RecordOf(4, 4, 2);
  record.pins = {{77, {Position(4, 3)}}};
  record.size_blocks = 128;
  Script script(record);
  const auto lane = LaneAt(Position(4, 9));
  script.SealedAt({lane, lane});
  const auto bases = script.Take<TakeBaseOn>();
  ASSERT_EQ(bases.size(), 2u);
  for (const TakeBaseOn& base : bases) {
    EXPECT_EQ(base.pins, record.pins);
    EXPECT_EQ(base.size_blocks, 128u);
    script.Based(base.member);
  }
  const auto commits = script.Take<CommitRecord>();
  ASSERT_EQ(commits.size(), 1u);
  EXPECT_EQ(commits[0].record.pins, record.pins);
  EXPECT_EQ(commits[0].record.size_blocks, 128u);
}

// What the activation says of a client of epoch 4, or of an earlier one that was intact.
Epoch IntactSince(TakeoverRecord record, TakeoverOptions options = OptionsOf(1)) {
  Script script(std::move(record), std::move(options));
  const auto lane = LaneAt(Position(4, 9));
  script.SealedAt({lane, lane});
  script.Based(0);
  script.Based(1);
  const auto commits = script.Take<CommitRecord>();
  return commits.empty() ? 0 : commits[0].record.intact_since;
}

TEST(TakeoverTest, AClientMayGoOnIfOneMembersHostHasNotRestarted) {
  TakeoverRecord record = RecordOf(4, 4, 2);
  record.intact_since = 2;
  EXPECT_EQ(IntactSince(record), 5u) << "no host is known";
  record.members[0].boot_id = "another boot";
  record.members[1].boot_id = "another boot";
  EXPECT_EQ(IntactSince(record), 5u) << "unflushed writes went with the hosts";
  record.members[1].boot_id = "boot-b";
  EXPECT_EQ(IntactSince(record), 2u);
}

TEST(TakeoverTest, AClientMayNotGoOnAfterAFreshAttach) {
  TakeoverRecord record = RecordOf(4, 4, 2);
  record.intact_since = 2;
  record.members[1].boot_id = "boot-b";
  TakeoverOptions options = OptionsOf(1);
  options.fresh = true;
  EXPECT_EQ(IntactSince(record, options), 5u);
}

TEST(TakeoverTest, ADetachHasFlushedSoNothingIsLostWhateverRestarts) {
  TakeoverRecord record = RecordOf(4, 4, 2);
  record.intact_since = 2;
  record.detached = true;
  EXPECT_EQ(IntactSince(record), 2u);
}

TEST(TakeoverTest, InEachLaneTheLongestPrefixWinsAndTheOthersAreMadeEqualToIt) {
  Script script(RecordOf(4, 4, 2), 2);
  script.Committed();
  script.Sealed(0, StateOf("a", {LaneAt(Position(4, 7)), LaneAt(Position(4, 9))}));
  script.Sealed(1, StateOf("b", {LaneAt(Position(4, 8)), LaneAt(Position(4, 1))}));
  const auto copies = script.Take<CopyLane>();
  ASSERT_EQ(copies.size(), 2u);
  EXPECT_EQ(copies[0].source, 1u);
  EXPECT_EQ(copies[0].target, 0u);
  EXPECT_EQ(copies[0].from, Position(4, 7));
  EXPECT_EQ(copies[0].to, Position(4, 8));
  EXPECT_EQ(copies[1].source, 0u);
  EXPECT_EQ(copies[1].lane, LaneId{1});
  script.Copied(copies[1]);
  EXPECT_EQ(script.pending(), 0u);
  script.Copied(copies[0]);
  const auto bases = script.Take<TakeBaseOn>();
  ASSERT_EQ(bases.size(), 2u);
  for (const TakeBaseOn& base : bases) {
    EXPECT_EQ(base.expected, (std::vector<Position>{Position(4, 8), Position(4, 9)}));
  }
}

TEST(TakeoverTest, WhatARecoveryThatNeverBecameActiveHasWrittenDoesNotCount) {
  // Epoch 5 crashed after a had taken its base at 4.10; it is not longer than b, which
  // has 4.10 too, but c is shorter and gets what counts, with a's or b's lineage.
  Script script(RecordOf(5, 4, 3));
  script.SealedAt({LaneAt(Position(5, 0), {{4, 10}}), LaneAt(Position(4, 10)),
                   LaneAt(Position(4, 7))});
  const auto copies = script.Take<CopyLane>();
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].target, 2u);
  EXPECT_EQ(copies[0].from, Position(4, 7));
  script.Copied(copies[0]);
  const auto bases = script.Take<TakeBaseOn>();
  ASSERT_EQ(bases.size(), 3u);
  EXPECT_EQ(bases[0].expected[0], Position(5, 0));
  EXPECT_EQ(bases[1].expected[0], Position(4, 10));
  EXPECT_EQ(bases[2].expected[0], copies[0].to);
}

TEST(TakeoverTest, AShorterMemberDoesNotWinByTheEpochOfAnUnfinishedRecovery) {
  Script script(RecordOf(5, 4, 2));
  script.SealedAt({LaneAt(Position(5, 0), {{4, 7}}), LaneAt(Position(4, 10))});
  const auto copies = script.Take<CopyLane>();
  ASSERT_EQ(copies.size(), 1u);
  EXPECT_EQ(copies[0].source, 1u);
  // The base that it took in vain is not what it has in common with the other.
  EXPECT_EQ(copies[0].from, Position(4, 7));
  EXPECT_EQ(copies[0].expected, Position(5, 0));
  EXPECT_EQ(copies[0].to, Position(4, 10));
}

TEST(TakeoverTest, AnActEpochWithoutWritesIsAnEndLikeAnyOther) {
  Script script(RecordOf(5, 4, 2));
  script.SealedAt({LaneAt(Position(4, 0), {{3, 8}}), LaneAt(Position(5, 0), {{3, 8}, {4, 0}})});
  EXPECT_EQ(script.Take<TakeBaseOn>().size(), 2u);
}

TEST(TakeoverTest, AVolumeThatNeverWasActiveHoldsNothingThatCounts) {
  Script script(RecordOf(2, 0, 3));
  script.SealedAt({LaneAt(Position(0, 0)), LaneAt(Position(1, 0), {{0, 0}}),
                   LaneAt(Position(2, 0), {{0, 0}, {1, 0}})});
  EXPECT_EQ(script.Take<TakeBaseOn>().size(), 3u);
}

TEST(TakeoverTest, AMemberWithNoPartInTheActEpochIsAnOlderCopyAndIsGivenUp) {
  TakeoverRecord record = RecordOf(5, 5, 2);
  record.floor = {Position(5, 1)};
  Script script(record);
  script.SealedAt({LaneAt(Position(4, 99)), LaneAt(Position(5, 3), {{4, 50}})});
  const auto effects = script.TakeAll();
  ASSERT_EQ(Of<GiveUpMember>(effects).size(), 1u);
  EXPECT_TRUE(absl::StrContains(Of<GiveUpMember>(effects)[0].reason, "lane 0: is at 4.99"));
  ASSERT_EQ(Of<TakeBaseOn>(effects).size(), 1u);
  EXPECT_EQ(Of<TakeBaseOn>(effects)[0].member, 1u);
  // It has promised the new epoch, so it serves nobody: no lease to wait for.
  script.Based(1);
  const auto commits = script.Take<CommitRecord>();
  ASSERT_EQ(commits.size(), 1u);
  EXPECT_FALSE(commits[0].record.members[0].in_sync);
  EXPECT_FALSE(commits[0].record.members[0].stays_out);
  EXPECT_EQ(commits[0].record.members[0].left_at, std::vector<Position>{Position(5, 1)});
  EXPECT_TRUE(commits[0].record.members[1].in_sync);
  EXPECT_EQ(commits[0].record.lease, kLease);
}

// It would throw out whoever has them, or level the others down to who was away.
TEST(TakeoverTest, WritesOfAnEpochThatTheRecordDoesNotKnowMakeItTheOlderOne) {
  const auto was_away = LaneAt(Position(4, 9));
  const auto wrote = LaneAt(Position(5, 1), {{4, 9}});
  // The epoch of before the copy was taken anew, and the next one, after that attempt has failed.
  for (Epoch epoch : {4u, 5u}) {
    Script script(RecordOf(epoch, 4, 3));
    script.SealedAt({was_away, was_away, wrote});
    const std::string failure = script.failure();
    EXPECT_NE(failure.find("replica c has been written to in epoch 5"), std::string::npos) << failure;
    EXPECT_NE(failure.find("nobody has served since epoch 4"), std::string::npos) << failure;
  }
  // A base alone is what an attempt has left that never served.
  Script script(RecordOf(5, 4, 2));
  script.SealedAt({was_away, LaneAt(Position(5, 0), {{4, 9}})});
  EXPECT_EQ(script.Take<TakeBaseOn>().size(), 2u);
}

TEST(TakeoverTest, LineageTellsOfWritesThatTheRecordDoesNotKnowToo) {
  // Nothing was written after a second attach that the record lacks.
  Script script(RecordOf(4, 4, 2));
  script.SealedAt({LaneAt(Position(4, 9)), LaneAt(Position(6, 0), {{4, 9}, {5, 3}})});
  EXPECT_TRUE(absl::StrContains(script.failure(), "replica b has been written to in epoch 5"));

  Script attempts(RecordOf(6, 4, 2));
  attempts.SealedAt({LaneAt(Position(4, 9)), LaneAt(Position(6, 0), {{4, 9}, {5, 0}})});
  EXPECT_EQ(attempts.Take<TakeBaseOn>().size(), 2u);
}

TEST(TakeoverTest, WhoWasGivenUpAndKnowsBetterStopsItUntilItHasEnded) {
  const auto begin = [](Script& script) {
    script.Committed();
    script.Sealed(0, StateOf("a", {LaneAt(Position(4, 9))}));
    script.Woken(kStart + kGiveUpAfter);
    ASSERT_EQ(script.Take<GiveUpMember>().size(), 1u);
  };
  TakeoverRecord record = RecordOf(4, 4, 2);
  record.lease = kLease;
  const SealedState wrote = StateOf("b", {LaneAt(Position(5, 1), {{4, 9}})});

  Script writes(record);
  begin(writes);
  writes.Sealed(1, wrote, kStart + kGiveUpAfter);
  EXPECT_TRUE(absl::StrContains(writes.failure(), "replica b has been written to in epoch 5"));

  Script promised(record);
  begin(promised);
  promised.Based(0, absl::OkStatus(), kStart + 2 * kLease);
  promised.Sealed(1, ErrnoToStatus(ESTALE, "promised 9"), kStart + 2 * kLease);
  EXPECT_TRUE(absl::StrContains(promised.failure(), "promised 9"));
  promised.Committed();
  EXPECT_EQ(promised.pending(), 0u);

  Script knows_no_better(record);
  begin(knows_no_better);
  knows_no_better.Sealed(1, StateOf("b", {LaneAt(Position(4, 9))}), kStart + kGiveUpAfter);
  knows_no_better.Based(0, absl::OkStatus(), kStart + 2 * kLease);
  knows_no_better.Committed();
  EXPECT_EQ(knows_no_better.Take<TakeoverDone>().size(), 1u);
  knows_no_better.Sealed(1, wrote, kStart + 2 * kLease);
  EXPECT_EQ(knows_no_better.pending(), 0u);
}

TEST(TakeoverTest, WithoutAGoodMemberItHaltsAndSaysWhatIsWrongWithTheFirst) {
  TakeoverRecord record = RecordOf(5, 5, 2);
  record.floor = {Position(5, 4)};
  Script script(record);
  script.SealedAt({LaneAt(Position(5, 3)), LaneAt(Position(4, 9))});
  EXPECT_TRUE(absl::StrContains(script.failure(), "replica a lane 0: ends at 5.3, below the floor"));
}

TEST(TakeoverTest, AMemberWithBlocksThatAJoinHadStillToCopyIsGivenUp) {
  Script script(RecordOf(4, 4, 2));
  SealedState::Lane half = LaneAt(Position(4, 9));
  half.invalid_blocks = 3;
  script.SealedAt({half, LaneAt(Position(4, 2))});
  const auto gone = script.Take<GiveUpMember>();
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_EQ(gone[0].reason, "lane 0: lacks 3 blocks");
}

TEST(TakeoverTest, AMemberBelowTheFloorHasLostWhatItHadSynced) {
  TakeoverRecord record = RecordOf(5, 5, 2);
  record.floor = {Position(5, 4)};
  Script script(record);
  script.SealedAt({LaneAt(Position(5, 3)), LaneAt(Position(5, 9))});
  const auto gone = script.Take<GiveUpMember>();
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_TRUE(absl::StrContains(gone[0].reason, "ends at 5.3, below the floor 5.4"));
}

TEST(TakeoverTest, TheBaseOfAnUnfinishedRecoveryDoesNotLiftAMemberOverTheFloor) {
  TakeoverRecord record = RecordOf(6, 5, 2);
  record.floor = {Position(5, 4)};
  Script script(record);
  script.SealedAt({LaneAt(Position(6, 0), {{5, 3}}), LaneAt(Position(5, 9))});
  const auto gone = script.Take<GiveUpMember>();
  ASSERT_EQ(gone.size(), 1u);
  EXPECT_TRUE(absl::StrContains(gone[0].reason, "below the floor"));
}

TEST(TakeoverTest, AnotherStoreUnderTheNameOfAMemberIsRefused) {
  Script script(RecordOf(4, 4, 1));
  script.Committed();
  script.Sealed(0, StateOf("z", {LaneAt(Position(4, 1))}));
  EXPECT_TRUE(absl::StrContains(script.failure(), "store-z"));
}

TEST(TakeoverTest, AMemberWithAnotherNumberOfLanesIsRefused) {
  Script script(RecordOf(4, 4, 1));
  script.Committed();
  script.Sealed(0, StateOf("a", {}));
  EXPECT_TRUE(absl::StrContains(script.failure(), "0 lanes of 1"));
}

TEST(TakeoverTest, ASealIsRepeatedUntilTheDeadline) {
  Script script(RecordOf(4, 4, 1));
  script.Committed();
  script.Take<SealMember>();
  script.Sealed(0, absl::UnavailableError("refused"));
  const auto again = script.Take<SealMember>();
  ASSERT_EQ(again.size(), 1u);
  EXPECT_GT(again[0].delay, absl::ZeroDuration());
  script.Sealed(0, absl::DeadlineExceededError("slow"), kStart + kDeadline / 2);
  EXPECT_EQ(script.Take<SealMember>().size(), 1u);
  script.Sealed(0, absl::UnavailableError("refused"), kStart + kDeadline);
  EXPECT_TRUE(absl::StrContains(script.failure(), "replica a could not be sealed: refused"));
}

TEST(TakeoverTest, AMemberThatComesBackBeforeTheDeadlineIsTaken) {
  Script script(RecordOf(4, 4, 1));
  script.Committed();
  script.Sealed(0, absl::UnavailableError("refused"));
  script.Sealed(0, StateOf("a", {LaneAt(Position(4, 1))}), kStart + absl::Seconds(1));
  EXPECT_EQ(script.Take<TakeBaseOn>().size(), 1u);
}

TEST(TakeoverTest, AMemberThatHasPromisedANewerEpochEndsItAtOnce) {
  Script script(RecordOf(4, 4, 2));
  script.Committed();
  script.Sealed(1, ErrnoToStatus(ESTALE, "promised 9"));
  EXPECT_TRUE(absl::StrContains(script.failure(), "promised 9"));
  script.Sealed(0, StateOf("a", {LaneAt(Position(4, 1))}));
  EXPECT_EQ(script.pending(), 0u);
}

TEST(TakeoverTest, MembersThatHaveLeftAreNotAsked) {
  TakeoverRecord record = RecordOf(4, 4, 3);
  record.members[1].in_sync = false;
  Script script(record);
  script.Committed();
  const auto seals = script.Take<SealMember>();
  ASSERT_EQ(seals.size(), 2u);
  EXPECT_EQ(seals[0].member, 0u);
  EXPECT_EQ(seals[1].member, 2u);
}

TEST(TakeoverTest, WithoutAMemberInSyncItHalts) {
  TakeoverRecord record = RecordOf(4, 4, 1);
  record.members[0].in_sync = false;
  Script script(record);
  script.Committed();
  EXPECT_TRUE(absl::StrContains(script.failure(), "no member in sync"));
}

TEST(TakeoverTest, OneThatHasLostTheCompareAndSwapGivesUp) {
  Script first(RecordOf(4, 4, 1));
  first.Committed(absl::AbortedError("changed"));
  EXPECT_TRUE(absl::StrContains(first.failure(), "ABORTED"));

  Script last(RecordOf(4, 4, 1));
  last.SealedAt({LaneAt(Position(4, 1))});
  last.Based(0);
  last.Committed(absl::AbortedError("changed"));
  EXPECT_TRUE(absl::StrContains(last.failure(), "ABORTED"));
}

TEST(TakeoverTest, AFailedCopyOrBaseGivesItsMemberUpIfEnoughRemain) {
  TakeoverRecord two = RecordOf(4, 4, 2);
  two.min_in_sync = 2;
  Script copy(two);
  copy.SealedAt({LaneAt(Position(4, 1)), LaneAt(Position(4, 2))});
  copy.Copied(copy.Take<CopyLane>()[0], absl::AbortedError("restarted"));
  EXPECT_TRUE(absl::StrContains(copy.failure(), "from b to a: restarted"));

  Script base(two);
  base.SealedAt({LaneAt(Position(4, 1)), LaneAt(Position(4, 1))});
  base.Based(1, absl::AbortedError("restarted"));
  EXPECT_TRUE(absl::StrContains(base.failure(), "replica b could not take the new epoch"));
  base.Based(0);
  EXPECT_EQ(base.pending(), 0u);

  TakeoverRecord three = RecordOf(4, 4, 3);
  three.min_in_sync = 1;
  Script goes_on(three);
  goes_on.SealedAt({LaneAt(Position(4, 1)), LaneAt(Position(4, 2)), LaneAt(Position(4, 2))});
  goes_on.Copied(goes_on.Take<CopyLane>()[0], absl::AbortedError("restarted"));
  ASSERT_EQ(goes_on.Take<TakeBaseOn>().size(), 2u);
  goes_on.Based(2, absl::UnavailableError("killed"));
  goes_on.Based(1);
  const auto commits = goes_on.Take<CommitRecord>();
  ASSERT_EQ(commits.size(), 1u);
  EXPECT_FALSE(commits[0].record.members[0].in_sync);
  EXPECT_TRUE(commits[0].record.members[1].in_sync);
  EXPECT_FALSE(commits[0].record.members[2].in_sync);
}

TEST(TakeoverTest, ANewerEpochEndsItAtAnyStep) {
  Script base(RecordOf(4, 4, 3));
  base.SealedAt({LaneAt(Position(4, 1)), LaneAt(Position(4, 1)), LaneAt(Position(4, 1))});
  base.Based(1, ErrnoToStatus(ESTALE, "promised 9"));
  EXPECT_TRUE(absl::StrContains(base.failure(), "promised 9"));
}

// --- members that cannot be reached ---

// Of a, b and c the last cannot be reached; the frontend before may still live.
TakeoverRecord RecordOfThree(uint32_t min_in_sync) {
  TakeoverRecord record = RecordOf(4, 4, 3);
  record.min_in_sync = min_in_sync;
  record.lease = kLease;
  return record;
}

TEST(TakeoverTest, AMemberThatCannotBeReachedIsGivenUpIfEnoughAreSealed) {
  Script script(RecordOfThree(2));
  script.SealedAt({LaneAt(Position(4, 5)), LaneAt(Position(4, 5))});
  script.Sealed(2, absl::UnavailableError("refused"), kStart + absl::Seconds(1));
  script.TakeAll();
  script.Woken(kStart + kGiveUpAfter);
  const auto effects = script.TakeAll();
  ASSERT_EQ(Of<GiveUpMember>(effects).size(), 1u);
  EXPECT_EQ(Of<GiveUpMember>(effects)[0].reason, "refused");
  EXPECT_EQ(Of<TakeBaseOn>(effects).size(), 2u);
}

TEST(TakeoverTest, ItsLeaseMustPassSinceTheFirstSealBeforeAnybodyServes) {
  Script script(RecordOfThree(2));
  script.SealedAt({LaneAt(Position(4, 5)), LaneAt(Position(4, 5))});
  script.Woken(kStart + kGiveUpAfter);
  script.TakeAll();
  const Time based = kStart + kGiveUpAfter + absl::Milliseconds(10);
  script.Based(0, absl::OkStatus(), based);
  script.Based(1, absl::OkStatus(), based);
  const auto waits = script.Take<WaitFor>();
  ASSERT_EQ(waits.size(), 1u);
  const Time free = kStart + kLease * 1.25;
  EXPECT_EQ(based + waits[0].delay, free);
  script.Woken(free - absl::Milliseconds(1));  // a timer that is early
  EXPECT_TRUE(script.Take<CommitRecord>().empty());
  script.Woken(free);
  EXPECT_EQ(script.Take<CommitRecord>().size(), 1u);
}

TEST(TakeoverTest, AfterACleanDetachNobodyCanRead) {
  TakeoverRecord record = RecordOfThree(2);
  record.detached = true;
  record.lease = absl::InfiniteDuration();
  Script script(record);
  script.SealedAt({LaneAt(Position(4, 5)), LaneAt(Position(4, 5))});
  script.Woken(kStart + kGiveUpAfter);
  script.TakeAll();
  script.Based(0);
  script.Based(1);
  EXPECT_EQ(script.Take<CommitRecord>().size(), 1u);
}

TEST(TakeoverTest, FewerThanMinInSyncAreTakenOnlyAtTheDeadline) {
  Script script(RecordOfThree(3));
  script.SealedAt({LaneAt(Position(4, 5)), LaneAt(Position(4, 5))});
  script.TakeAll();
  script.Woken(kStart + kGiveUpAfter);
  auto waits = script.Take<WaitFor>();
  ASSERT_EQ(waits.size(), 1u);
  EXPECT_EQ(waits[0].delay, kDeadline - kGiveUpAfter);
  script.Woken(kStart + kDeadline);
  EXPECT_EQ(script.Take<TakeBaseOn>().size(), 2u);
}

TEST(TakeoverTest, WhereNoLeaseIsKnownEveryMemberMustBeSealed) {
  TakeoverRecord record = RecordOfThree(2);
  record.lease = absl::InfiniteDuration();
  Script script(record);
  script.SealedAt({LaneAt(Position(4, 5)), LaneAt(Position(4, 5))});
  script.Sealed(2, absl::InternalError("cannot promise"), kStart + absl::Seconds(1));
  script.Woken(kStart + kGiveUpAfter);
  EXPECT_TRUE(script.Take<TakeBaseOn>().empty());
  script.Woken(kStart + kDeadline);
  EXPECT_TRUE(absl::StrContains(script.failure(), "replica c could not be sealed: cannot promise"));
}

TEST(TakeoverTest, AMemberThatRefusesItsSealIsGivenUpAtOnceAndItsLeaseIsWaitedFor) {
  Script script(RecordOfThree(2));
  script.SealedAt({LaneAt(Position(4, 5)), LaneAt(Position(4, 5))});
  script.Sealed(2, absl::NotFoundError("no such volume"));
  EXPECT_EQ(script.Take<TakeBaseOn>().size(), 2u);
  script.Based(0);
  script.Based(1);
  EXPECT_EQ(script.Take<WaitFor>().size(), 1u);
}

TEST(TakeoverTest, EpochsThatAreUsedUpAreRefused) {
  Script script(RecordOf(Position::kEpochMax, 4, 1));
  EXPECT_TRUE(absl::StrContains(script.failure(), "used up its epochs"));
}

// --- any history of sessions, crashes and unfinished takeovers ---

struct ModelLane {
  std::vector<uint64_t> values;  // every write, of all epochs
  Position position;
  std::vector<LineageEntry> lineage;

  bool OnLineage(Position at) const {
    if (at.epoch() == position.epoch()) return at.n() <= position.n();
    return std::any_of(lineage.begin(), lineage.end(), [at](const LineageEntry& e) {
      return e.epoch == at.epoch() && at.n() <= e.n;
    });
  }
};

struct ModelStore {
  std::vector<ModelLane> now;
  std::vector<ModelLane> synced;
  Epoch promised = 0;
  uint64_t incarnation = 1;
};

class Stores {
 public:
  Stores(uint64_t seed, size_t members, uint32_t lanes)
      : random_(seed), lanes_(lanes), record_(RecordOf(0, 0, members)), stores_(members) {
    for (ModelStore& store : stores_) {
      store.now.resize(lanes);
      store.synced = store.now;
    }
  }

  // One takeover; if `may_crash` it stops dead before a random effect, or cannot reach a member. True: done.
  bool TakeOver(bool may_crash);
  // A session writes, and is cut off with some writes on some members only.
  void Write();
  // Some members lose what they have not synced, or a part of it.
  void Power();
  // Who was given up is made equal to a member, as a join does.
  void Rejoin();
  std::string violation() const { return violation_; }

 private:
  uint64_t Below(uint64_t n) { return random_() % n; }
  void CarryOut(const TakeoverEffect& effect, Takeover& takeover, TakeoverEffects& effects);
  void CheckLevel();
  bool OnlyTimeIsLeft(const TakeoverEffects& due) const;

  std::mt19937_64 random_;
  const uint32_t lanes_;
  TakeoverRecord record_;
  std::vector<ModelStore> stores_;
  std::vector<std::vector<uint64_t>> longest_;  // by lane, as sealed
  uint64_t next_value_ = 1;
  size_t unreachable_ = 0;
  Time now_{};
  bool done_ = false;
  std::string violation_;
};

bool Stores::TakeOver(bool may_crash) {
  Takeover takeover(record_, OptionsOf(lanes_), kStart);
  now_ = kStart;
  unreachable_ = may_crash && Below(3) == 0 ? Below(stores_.size()) : stores_.size();
  TakeoverEffects due;
  takeover.Start(due);
  done_ = false;
  while (!due.empty() && violation_.empty()) {
    if (may_crash && Below(12) == 0) return false;
    const size_t pick = Below(due.size());  // answers come in any order
    if (std::holds_alternative<WaitFor>(due[pick]) && !OnlyTimeIsLeft(due)) continue;
    const TakeoverEffect effect = due[pick];
    due.erase(due.begin() + static_cast<ptrdiff_t>(pick));
    CarryOut(effect, takeover, due);
  }
  return done_;
}

bool Stores::OnlyTimeIsLeft(const TakeoverEffects& due) const {
  return std::all_of(due.begin(), due.end(), [this](const TakeoverEffect& effect) {
    const auto* seal = std::get_if<SealMember>(&effect);
    return std::holds_alternative<WaitFor>(effect) || (seal && seal->member == unreachable_);
  });
}

void Stores::CarryOut(const TakeoverEffect& effect, Takeover& takeover, TakeoverEffects& effects) {
  if (const auto* commit = std::get_if<CommitRecord>(&effect)) {
    record_ = commit->record;
    record_.lease = kLease;
    // What the members hold now is what there is to choose from.
    if (record_.recovering) longest_.assign(lanes_, {});
    takeover.RecordCommitted(absl::OkStatus(), now_, effects);
  } else if (const auto* seal = std::get_if<SealMember>(&effect)) {
    if (seal->member == unreachable_) {
      return takeover.MemberSealed(seal->member, absl::UnavailableError("away"), now_, effects);
    }
    ModelStore& store = stores_[seal->member];
    store.promised = record_.epoch;
    SealedState state;
    state.store_id = record_.members[seal->member].store_id;
    state.incarnation = store.incarnation;
    for (uint32_t lane = 0; lane < lanes_; ++lane) {
      const ModelLane& at = store.now[lane];
      state.lanes.push_back({at.position, at.position, at.lineage, 0});
      if (at.values.size() > longest_[lane].size()) longest_[lane] = at.values;
    }
    takeover.MemberSealed(seal->member, state, now_, effects);
  } else if (const auto* copy = std::get_if<CopyLane>(&effect)) {
    const ModelLane& source = stores_[copy->source].now[Index(copy->lane)];
    ModelLane& target = stores_[copy->target].now[Index(copy->lane)];
    const bool prefix = target.values.size() <= source.values.size() &&
                        std::equal(target.values.begin(), target.values.end(), source.values.begin());
    if (target.position != copy->expected || source.position != copy->to || !prefix ||
        !source.OnLineage(copy->from) || !target.OnLineage(copy->from)) {
      violation_ = absl::StrCat("cannot copy (", copy->from.ToString(), ", ", copy->to.ToString(), "]");
    }
    target = source;
    takeover.LaneCopied(*copy, absl::OkStatus(), now_, effects);
  } else if (const auto* base = std::get_if<TakeBaseOn>(&effect)) {
    ModelStore& store = stores_[base->member];
    for (uint32_t lane = 0; lane < lanes_; ++lane) {
      ModelLane& at = store.now[lane];
      if (at.position != base->expected[lane]) violation_ = "a base expects another position";
      // Ends of epochs that never served do not use up the lineage.
      at.lineage.push_back({at.position.epoch(), at.position.n()});
      std::erase_if(at.lineage, [base](const LineageEntry& e) { return e.epoch > base->act_epoch; });
      at.position = Position(record_.epoch, 0);
    }
    store.synced = store.now;
    takeover.BaseTaken(base->member, absl::OkStatus(), now_, effects);
  } else if (const auto* wait = std::get_if<WaitFor>(&effect)) {
    now_ += wait->delay;
    takeover.Woken(now_, effects);
  } else if (const auto* failed = std::get_if<TakeoverFailed>(&effect)) {
    for (size_t i = 0; i < stores_.size(); ++i) {
      const bool sealed = i != unreachable_ && record_.members[i].in_sync;
      if (sealed) violation_ = failed->status.ToString();
    }
  } else if (std::holds_alternative<TakeoverDone>(effect)) {
    done_ = true;
    CheckLevel();
  }
}

void Stores::CheckLevel() {
  for (uint32_t lane = 0; lane < lanes_; ++lane) {
    for (size_t i = 0; i < stores_.size(); ++i) {
      const ModelStore& store = stores_[i];
      if (!record_.members[i].in_sync) continue;
      if (store.now[lane].values != longest_[lane]) {
        violation_ = "a member is not equal to the longest prefix";
      }
      if (store.now[lane].position != Position(record_.epoch, 0)) violation_ = "a base is missing";
    }
  }
}

void Stores::Rejoin() {
  size_t good = 0;
  while (!record_.members[good].in_sync) ++good;
  for (size_t i = 0; i < stores_.size(); ++i) {
    if (record_.members[i].in_sync) continue;
    stores_[i].now = stores_[i].synced = stores_[good].now;
    record_.members[i].in_sync = true;
  }
}

void Stores::Write() {
  for (uint32_t lane = 0; lane < lanes_; ++lane) {
    std::vector<uint64_t> values(Below(6));
    for (uint64_t& value : values) value = next_value_++;
    for (ModelStore& store : stores_) {
      ModelLane& at = store.now[lane];
      const size_t count = Below(values.size() + 1);
      at.values.insert(at.values.end(), values.begin(), values.begin() + count);
      at.position = Position(record_.epoch, count);
      if (Below(2) == 0) store.synced[lane] = at;
    }
  }
}

void Stores::Power() {
  for (ModelStore& store : stores_) {
    if (Below(2) == 0) continue;
    ++store.incarnation;
    for (uint32_t lane = 0; lane < lanes_; ++lane) {
      ModelLane& at = store.now[lane];
      const ModelLane& safe = store.synced[lane];
      const bool same_epoch = at.position.epoch() == safe.position.epoch();
      if (!same_epoch || Below(2) == 0) {
        at = safe;
      } else {  // a point between
        const uint64_t lost = Below(at.position.n() - safe.position.n() + 1);
        at.values.resize(at.values.size() - lost);
        at.position = Position(at.position.epoch(), at.position.n() - lost);
      }
    }
  }
}

TEST(TakeoverPropertyTest, AfterAnyHistoryAllMembersEqualTheLongestPrefix) {
  for (uint64_t seed = 1; seed <= 3000; ++seed) {
    Stores stores(seed, 1 + seed % 3, 1 + seed % 2);
    for (int round = 0; round < 5; ++round) {
      for (int attempt = 0; attempt < 6; ++attempt) {
        if (stores.TakeOver(/*may_crash=*/attempt < 5)) break;
        if (attempt % 2 == 0) stores.Power();
        ASSERT_EQ(stores.violation(), "") << "seed " << seed;
      }
      ASSERT_EQ(stores.violation(), "") << "seed " << seed;
      stores.Rejoin();
      stores.Write();
      stores.Power();
    }
  }
}

}  // namespace
}  // namespace weir::engine
