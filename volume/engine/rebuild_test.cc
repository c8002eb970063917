#include "volume/engine/rebuild.h"

#include <set>
#include <string>
#include <vector>

#include "absl/strings/match.h"
#include "gtest/gtest.h"

namespace weir::engine {
namespace {

TakeoverRecord Active(Epoch epoch, const std::set<std::string>& in_sync) {
  TakeoverRecord record;
  record.epoch = record.act_epoch = epoch;
  record.owner = "somebody";
  record.detached = true;
  record.intact_since = 3;
  record.size_blocks = 64;
  record.min_in_sync = 2;
  for (const std::string name : {"a", "b", "c"}) {
    record.members.push_back({.replica = name, .store_id = "store-" + name, .boot_id = "boot",
                              .in_sync = in_sync.contains(name)});
  }
  return record;
}

// All of it is on stable storage.
std::vector<SealedState::Lane> At(const std::vector<Position>& positions) {
  std::vector<SealedState::Lane> lanes;
  for (Position position : positions) lanes.push_back({position, position, {}});
  return lanes;
}

RebuildSource Source(const std::string& name, Epoch epoch, uint64_t revision, const TakeoverRecord& record) {
  RebuildSource source;
  source.replica = name;
  source.store_id = "store-" + name;
  source.promised = epoch;
  source.lanes = At({Position(epoch, 7), Position(epoch, 0)});
  source.size_blocks = 64;
  source.copy = RecordCopy{epoch, revision, record};
  return source;
}

const std::set<std::string> kAll = {"a", "b", "c"};

TEST(RebuildTest, TheNewestCopyCounts) {
  // c has left, and was not told of it; its epoch is the same.
  const auto rebuilt = Rebuild({Source("c", 5, 1, Active(5, kAll)), Source("a", 5, 2, Active(5, {"a", "b"})),
                                Source("b", 4, 9, Active(4, kAll))},
                               {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_EQ(rebuilt->source, 1u);
  EXPECT_TRUE(rebuilt->record.members[0].in_sync);
  EXPECT_TRUE(rebuilt->record.members[1].in_sync);
  EXPECT_FALSE(rebuilt->record.members[2].in_sync);
}

TEST(RebuildTest, OfTwoCopiesOfOneRevisionTheOneThatServesCounts) {
  // c was given the record as it was before its lanes were levelled, which failed, so it was given up.
  TakeoverRecord before = Active(4, kAll);
  before.epoch = 5;
  before.recovering = true;
  RebuildSource given_up = Source("c", 4, 0, Active(4, kAll));
  given_up.promised = 5;
  given_up.copy = RecordCopy{5, 1, before};
  for (const bool first : {true, false}) {
    std::vector<RebuildSource> sources = {Source("a", 5, 1, Active(5, {"a", "b"})), Source("b", 5, 1, Active(5, {"a", "b"}))};
    sources.insert(first ? sources.begin() : sources.end(), given_up);
    const auto rebuilt = Rebuild(sources, {});
    ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
    EXPECT_EQ(rebuilt->record.act_epoch, 5u);
    EXPECT_FALSE(rebuilt->record.members[2].in_sync);
  }
}

TEST(RebuildTest, NobodyHasItAndNoClientMayGoOn) {
  const auto rebuilt = Rebuild({Source("a", 5, 1, Active(5, kAll)), Source("b", 5, 1, Active(5, kAll)),
                                Source("c", 5, 1, Active(5, kAll))},
                               {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_TRUE(rebuilt->record.recovering);
  EXPECT_FALSE(rebuilt->record.detached);
  EXPECT_EQ(rebuilt->record.owner, "");
  EXPECT_EQ(rebuilt->record.intact_since, 0u);
  EXPECT_EQ(rebuilt->record.members[0].boot_id, "");
  EXPECT_EQ(rebuilt->record.act_epoch, 5u);
}

// Its takeover must reach whoever may have all.
TEST(RebuildTest, NoMemberInSyncIsGivenUpUnsealed) {
  const auto rebuilt = Rebuild({Source("a", 5, 1, Active(5, kAll)), Source("b", 5, 1, Active(5, kAll)),
                                Source("c", 5, 1, Active(5, kAll))},
                               {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_EQ(rebuilt->record.lease, absl::InfiniteDuration());
}

// Simulator, seed 60110. Whoever took the base of epoch 4 had read a record in which 3 had not served.
TEST(RebuildTest, AnEpochThatMembersWereToldOfAndThatNeverServedDoesNotCount) {
  TakeoverRecord told = Active(3, {"a", "c"}), served = Active(1, kAll);
  told.floor = {Position(3, 0), Position(3, 0)};
  served.floor = {Position(1, 2), Position(1, 0)};
  RebuildSource a = Source("a", 3, 5, told), b = Source("b", 1, 2, served), c = Source("c", 3, 5, told);
  for (RebuildSource* source : {&a, &c}) {
    source->promised = 4;
    source->lanes = At({Position(4, 0), Position(4, 0)});
    source->lanes[0].lineage = {{0, 0}, {1, 26}};
    source->lanes[1].lineage = {{0, 0}, {1, 5}};
  }
  b.lanes = At({Position(1, 25), Position(1, 5)});
  const auto rebuilt = Rebuild({a, b, c}, {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_EQ(rebuilt->record.act_epoch, 1u);
  EXPECT_EQ(rebuilt->record.floor, served.floor);
  EXPECT_TRUE(rebuilt->record.members[0].in_sync);
  EXPECT_FALSE(rebuilt->record.members[1].in_sync);
  EXPECT_TRUE(rebuilt->record.members[2].in_sync);
  // But one of them with an older copy of its disk is found out.
  a.lanes = c.lanes = At({Position(1, 1), Position(1, 0)});
  EXPECT_FALSE(Rebuild({a, b, c}, {}).ok());
}

TEST(RebuildTest, WhoIsAheadOfAllInSyncHasBeenInSync) {
  // b came in after the only copy of this epoch that is left, and a left.
  RebuildSource a = Source("a", 5, 1, Active(5, {"a"})), b = Source("b", 4, 9, Active(4, kAll)), c = b;
  b.lanes = At({Position(5, 7), Position(5, 1)});
  c.replica = "c";
  c.store_id = "store-c";
  const auto rebuilt = Rebuild({a, b, c}, {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_TRUE(rebuilt->record.members[0].in_sync);
  EXPECT_TRUE(rebuilt->record.members[1].in_sync);
  EXPECT_FALSE(rebuilt->record.members[2].in_sync);
  // Who is below the floor was none, whatever it is ahead in.
  a.copy->record.floor = {Position(5, 7), Position(5, 0)};
  b.lanes[0] = At({Position(5, 6)})[0];
  EXPECT_FALSE(Rebuild({a, b, c}, {})->record.members[1].in_sync);
  b.lanes[0] = At({Position(5, 7)})[0];
  EXPECT_TRUE(Rebuild({a, b, c}, {})->record.members[1].in_sync);
  // One that no copy names is nobody that a takeover could ask.
  RebuildSource spare = b;
  spare.replica = "spare";
  const std::vector<RebuildSource> with_spare = {a, c, spare, Source("b", 5, 1, Active(5, {"a"}))};
  EXPECT_TRUE(absl::IsDataLoss(Rebuild(with_spare, {}).status()));
  EXPECT_TRUE(Rebuild(with_spare, {"spare"}).ok());
}

TEST(RebuildTest, WhoIsBeingBroughtBackHasLeft) {
  // c's join has moved its position beyond what it has.
  RebuildSource a = Source("a", 5, 2, Active(5, kAll)), b = Source("b", 5, 1, Active(5, kAll)), c = Source("c", 5, 1, Active(5, kAll));
  c.lanes[1] = {.position = Position(5, 9), .durable = Position(5, 9), .invalid_blocks = 1};
  const auto rebuilt = Rebuild({a, b, c}, {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_TRUE(rebuilt->record.members[0].in_sync);
  EXPECT_TRUE(rebuilt->record.members[1].in_sync);
  EXPECT_FALSE(rebuilt->record.members[2].in_sync);
  // Nor is it ahead if the copy has it out.
  a.copy->record = Active(5, {"a", "b"});
  EXPECT_FALSE(Rebuild({a, b, c}, {})->record.members[2].in_sync);
  // All blocks are copied, but it was not told to forget the join.
  c.lanes[1] = {.position = Position(5, 0), .durable = Position(5, 0), .join_to = Position(5, 0)};
  EXPECT_FALSE(Rebuild({a, b, c}, {})->record.members[2].in_sync);
}

TEST(RebuildTest, IfAllInSyncHaveLeftWhoeverHasNoLessThanAnotherMayHaveStayed) {
  // The copy's only one in sync is brought back from a, which came in after it.
  RebuildSource a = Source("a", 4, 9, Active(4, kAll)), b = Source("b", 5, 1, Active(5, {"b"})), c = Source("c", 4, 9, Active(4, kAll));
  a.lanes = b.lanes = At({Position(5, 7), Position(5, 1)});
  b.lanes[0].invalid_blocks = 3;
  c.lanes = At({Position(5, 4), Position(5, 1)});
  for (const auto& sources : {std::vector{a, b, c}, std::vector{c, b, a}}) {
    const auto rebuilt = Rebuild(sources, {});
    ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
    EXPECT_TRUE(rebuilt->record.members[0].in_sync);
    EXPECT_FALSE(rebuilt->record.members[1].in_sync);
    EXPECT_FALSE(rebuilt->record.members[2].in_sync);
  }
  // Each has something that the other lacks: they are to be levelled. Or something that a power cut may take from the other.
  c.lanes = At({Position(5, 4), Position(5, 2)});
  EXPECT_TRUE(Rebuild({a, b, c}, {})->record.members[0].in_sync);
  EXPECT_TRUE(Rebuild({a, b, c}, {})->record.members[2].in_sync);
  c.lanes = a.lanes;
  EXPECT_TRUE(Rebuild({a, b, c}, {})->record.members[2].in_sync);
  a.lanes[0].durable = Position(5, 3);
  EXPECT_FALSE(Rebuild({a, b, c}, {})->record.members[0].in_sync);
  EXPECT_TRUE(Rebuild({a, b, c}, {})->record.members[2].in_sync);
  // An epoch in which nobody has written.
  a.lanes = b.lanes = At({Position(5, 0), Position(5, 0)});
  b.lanes[0].invalid_blocks = 3;
  c.lanes = At({Position(4, 9), Position(4, 9)});
  EXPECT_TRUE(Rebuild({a, b, c}, {})->record.members[0].in_sync);
  EXPECT_FALSE(Rebuild({a, b, c}, {})->record.members[2].in_sync);
  // Nobody is whole.
  a.lanes[0].invalid_blocks = 1;
  EXPECT_TRUE(absl::IsDataLoss(Rebuild({a, b, c}, {}).status()));
}

TEST(RebuildTest, WhomAReplicaWasBroughtBackFromMustBeThere) {
  // No copy names d, which came in after all others and served alone; a is being brought back from it.
  RebuildSource a = Source("a", 5, 1, Active(5, {"a"})), b = Source("b", 5, 1, Active(5, {"a"})), c = Source("c", 4, 9, Active(4, kAll));
  a.lanes[0] = {.position = Position(5, 9), .durable = Position(5, 9), .invalid_blocks = 1, .join_to = Position(5, 9)};
  const absl::Status missing = Rebuild({a, b, c}, {}).status();
  EXPECT_TRUE(absl::IsDataLoss(missing)) << missing;
  EXPECT_TRUE(absl::StrContains(missing.message(), "--without=a")) << missing;
  // Who knows that a power cut has taken it.
  const auto rebuilt = Rebuild({a, b, c}, {"a"});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_FALSE(rebuilt->record.members[0].in_sync);
  EXPECT_TRUE(rebuilt->record.members[1].in_sync);
  b.lanes[0] = At({Position(5, 9)})[0];
  EXPECT_TRUE(Rebuild({a, b, c}, {}).ok());
  EXPECT_TRUE(Rebuild({a, b}, {"c"}).ok()) << "what only c had may be lost";
}

// A takeover has come as far as its bases, and not to its end: only the lineage tells what of the epoch that served is below.
TEST(RebuildTest, ABaseIsNoWriteOfTheEpochThatServed) {
  RebuildSource a = Source("a", 5, 1, Active(5, {"a"})), b = Source("b", 4, 9, Active(4, kAll)), c = Source("c", 4, 9, Active(4, kAll));
  a.lanes = {{Position(9, 0), Position(9, 0), {{5, 5}}}, {Position(9, 0), Position(9, 0), {{5, 0}}}};
  b.lanes = At({Position(5, 6), Position(5, 0)});
  const auto rebuilt = Rebuild({a, b, c}, {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_TRUE(rebuilt->record.members[1].in_sync);
  b.lanes = At({Position(5, 5), Position(5, 0)});
  EXPECT_FALSE(Rebuild({a, b, c}, {})->record.members[1].in_sync);
}

TEST(RebuildTest, ItsEpochIsAboveEveryPromise) {
  RebuildSource sealed = Source("b", 5, 1, Active(5, kAll));
  sealed.promised = 9;  // by a takeover that did not come to its end
  const auto rebuilt = Rebuild({Source("a", 5, 1, Active(5, kAll)), sealed, Source("c", 5, 1, Active(5, kAll))}, {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_GT(rebuilt->record.epoch, 9u + 1000) << "who has not answered may have promised more";
  EXPECT_EQ(rebuilt->record.act_epoch, 5u);
}

TEST(RebuildTest, EveryMemberMustHaveAnsweredAlsoOneThatWasOut) {
  const std::vector<RebuildSource> two = {Source("a", 5, 1, Active(5, {"a", "b"})),
                                          Source("b", 5, 1, Active(5, {"a", "b"}))};
  const absl::Status missing = Rebuild(two, {}).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(missing)) << missing;
  EXPECT_TRUE(absl::StrContains(missing.message(), "--without=c")) << missing;
  EXPECT_TRUE(Rebuild(two, {"c"}).ok());
  // With another disk it is not the member.
  std::vector<RebuildSource> replaced = two;
  replaced.push_back(Source("c", 5, 1, Active(5, kAll)));
  replaced.back().store_id = "new";
  replaced.back().copy.reset();
  EXPECT_TRUE(absl::IsFailedPrecondition(Rebuild(replaced, {}).status()));
}

TEST(RebuildTest, WhoIsDoneWithoutIsNoMemberInSync) {
  const auto rebuilt = Rebuild({Source("a", 5, 1, Active(5, kAll)), Source("b", 5, 1, Active(5, kAll))}, {"c"});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_FALSE(rebuilt->record.members[2].in_sync);
  const absl::Status none = Rebuild({Source("c", 5, 1, Active(5, {"a", "b"}))}, {"a", "b"}).status();
  EXPECT_TRUE(absl::IsDataLoss(none)) << none;
}

TEST(RebuildTest, WritesOfAnEpochWithoutACopyAreNotPassedOver) {
  RebuildSource newer = Source("b", 5, 1, Active(5, kAll));
  newer.lanes[1] = At({Position(6, 1)})[0];
  const std::vector<RebuildSource> sources = {Source("a", 5, 1, Active(5, kAll)), newer,
                                              Source("c", 5, 1, Active(5, kAll))};
  EXPECT_TRUE(absl::IsDataLoss(Rebuild(sources, {}).status()));
  // A base alone is that of a takeover that did not come to its end.
  std::vector<RebuildSource> base = sources;
  base[1].lanes[1] = At({Position(6, 0)})[0];
  EXPECT_TRUE(Rebuild(base, {}).ok());
}

TEST(RebuildTest, PinsThatNotEveryMemberHasAreLost) {
  TakeoverRecord record = Active(5, {"a", "b"});
  record.pins = {{1, {Position(4, 1), Position(4, 1)}}, {2, {Position(5, 1), Position(5, 0)}}};
  RebuildSource a = Source("a", 5, 1, record), b = Source("b", 5, 1, record), c = Source("c", 5, 1, record);
  a.pins = {1, 2, 3};
  b.pins = {2};
  a.size_blocks = 96;  // it was to grow, and may have
  b.size_blocks = 80;
  const auto rebuilt = Rebuild({a, b, c}, {});
  ASSERT_TRUE(rebuilt.ok()) << rebuilt.status();
  EXPECT_EQ(rebuilt->lost_pins, std::vector<uint64_t>{1});
  ASSERT_EQ(rebuilt->record.pins.size(), 1u);
  EXPECT_EQ(rebuilt->record.pins[0].id, 2u);
  EXPECT_EQ(rebuilt->record.size_blocks, 96u);
}

TEST(RebuildTest, WithoutACopyThereIsNothingToGoBy) {
  RebuildSource source = Source("a", 0, 0, Active(1, kAll));
  source.copy.reset();
  EXPECT_TRUE(absl::IsFailedPrecondition(Rebuild({source}, {}).status()));
  EXPECT_TRUE(absl::IsFailedPrecondition(Rebuild({}, {}).status()));
}

}  // namespace
}  // namespace weir::engine
