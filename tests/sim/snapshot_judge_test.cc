// What the judge of snapshots has to reject, and what it may not.
#include "tests/sim/snapshot_judge.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::sim {
namespace {

using testing::StartsWith;

constexpr uint64_t kBlocks = 4;
const Pin kPin{.id = 7, .positions = {Position(2, 5), Position(2, 3)}};

// A replica that can be made to hold anything.
struct Holder final : SnapshotHolder {
  explicit Holder(std::string n) : called(std::move(n)) {}
  const std::string& name() const override { return called; }
  bool member() const override { return is_member; }
  bool healthy() const override { return is_healthy; }
  uint64_t size_blocks() const override { return size; }
  bool has_pin(const Pin& pin) const override { return std::find(pins.begin(), pins.end(), pin) != pins.end(); }
  Position durable(uint32_t lane) const override { return synced[lane]; }
  std::optional<std::vector<uint64_t>> ContentAt(uint64_t, uint64_t blocks) const override {
    if (refuses) return std::nullopt;
    return std::vector<uint64_t>(content.begin(), content.begin() + blocks);
  }

  const std::string called;
  bool is_member = true;
  bool is_healthy = true;
  bool refuses = false;
  uint64_t size = kBlocks;
  std::vector<Pin> pins = {kPin};
  std::vector<Position> synced = {Position(2, 5), Position(3, 0)};
  std::vector<uint64_t> content = {1, 2, 0, 3};
};

struct World {
  Holder a{"a"}, b{"b"}, spare{"spare"};
  SnapshotRecord record{.size_blocks = kBlocks, .recovering = false, .pins = {kPin}};
  SnapshotJudge judge{std::vector<const SnapshotHolder*>{&a, &b, &spare}};

  World() {
    spare.is_member = false;
    EXPECT_EQ(judge.Taken(kPin.id, kBlocks), a.content);
  }
};

struct Case {
  const char* rule;
  const char* what;
  std::function<void(World&)> happens;
};

const Case kIllegal[] = {
    {"S1", "a member has not the snapshot", [](World& w) { w.b.pins.clear(); }},
    {"S1", "it has it at other positions", [](World& w) { w.b.pins[0].positions[1] = Position(2, 4); }},
    {"S1", "it has another one's number", [](World& w) { w.b.pins[0].id = 8; }},
    {"S1", "while a takeover is under way", [](World& w) { w.record.recovering = true; w.a.pins.clear(); }},
    {"S1", "the second of two is missing", [](World& w) {
       w.record.pins.push_back({.id = 8, .positions = kPin.positions});
       w.a.pins.push_back(w.record.pins[1]);
     }},
    {"S2", "a member has not synced all of it", [](World& w) { w.b.synced[0] = Position(2, 4); }},
    {"S2", "in one lane of an older epoch", [](World& w) { w.b.synced[1] = Position(1, 9); }},
    {"S3", "a later write shows", [](World& w) { w.b.content[1] = 9; }},
    {"S3", "a later discard shows", [](World& w) { w.b.content[0] = 0; }},
    {"S3", "a write of before is missing, on who has left", [](World& w) { w.spare.content[3] = 0; }},
    {"S3", "on every replica alike", [](World& w) { w.a.content[2] = w.b.content[2] = w.spare.content[2] = 4; }},
    {"S4", "a member has less room than the volume", [](World& w) { w.record.size_blocks = kBlocks + 1; }},
    {"S4", "only one of them", [](World& w) { w.a.size = kBlocks - 1; }},
};

TEST(SnapshotJudgeTest, RejectsWhatMayNotBe) {
  for (const Case& c : kIllegal) {
    World world;
    ASSERT_EQ(world.judge.Check(world.record), "");
    c.happens(world);
    EXPECT_THAT(world.judge.Check(world.record), StartsWith(c.rule)) << c.what;
  }
}

const Case kLegal[] = {
    {"", "who is no member has not the snapshot", [](World& w) { w.spare.pins.clear(); w.spare.refuses = true; }},
    {"", "who is no member has synced less", [](World& w) { w.spare.synced = {Position(), Position()}; }},
    {"", "who is no member has less room", [](World& w) { w.spare.size = 0; }},
    {"", "a failed store has anything", [](World& w) {
       w.b.is_healthy = false;
       w.b.size = 0;
       w.b.pins.clear();
       w.b.content = {9, 9, 9, 9};
     }},
    {"", "a member refuses to read a damaged block", [](World& w) { w.b.refuses = true; }},
    {"", "members of a record made anew are yet to be levelled", [](World& w) {
       w.record.recovering = true;
       w.b.synced[0] = Position(2, 1);
       w.b.size = 0;
     }},
    {"", "the volume has grown, and so have they", [](World& w) { w.record.size_blocks = w.a.size = w.b.size = 9; }},
    {"", "the snapshot was deleted", [](World& w) { w.record.pins.clear(); w.a.pins.clear(); w.b.content[0] = 9; }},
};

TEST(SnapshotJudgeTest, AllowsWhatMayBe) {
  for (const Case& c : kLegal) {
    World world;
    c.happens(world);
    EXPECT_EQ(world.judge.Check(world.record), "") << c.what;
  }
}

TEST(SnapshotJudgeTest, WhatNoMemberTellsIsNotJudged) {
  Holder a("a");
  a.refuses = true;
  SnapshotJudge judge(std::vector<const SnapshotHolder*>{&a});
  EXPECT_EQ(judge.Taken(kPin.id, kBlocks), std::nullopt);
  a.refuses = false;
  EXPECT_EQ(judge.Check({.size_blocks = kBlocks, .recovering = false, .pins = {kPin}}), "");
}

}  // namespace
}  // namespace weir::sim
