// What a clone has of its parent: who is asked of what, and in which order it is flattened.
#include "volume/engine/parent.h"

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::engine {
namespace {

using testing::ElementsAre;

std::string Block(char content) { return std::string(kBlockBytes, content); }
ParentBlock Of(uint64_t block, char content) { return {block, Block(content)}; }
ParentBlock Zeros(uint64_t block) { return {block, ""}; }

// What was asked, as LEVEL:FIRST+COUNT, and what came of it, as BLOCK=CONTENT.
struct Line {
  std::vector<std::vector<ParentBlock>> levels;
  std::vector<uint64_t> sizes;
  std::vector<std::string> asked;

  std::vector<std::string> Read(BlockRange range) {
    LineRead read(range, sizes);
    while (const auto ask = read.Next()) {
      asked.push_back(absl::StrCat(ask->level, ":", ask->range.first, "+", ask->range.count));
      std::vector<ParentBlock> came;
      for (const ParentBlock& block : levels[ask->level]) {
        if (block.block >= ask->range.first && block.block < ask->range.end()) came.push_back(block);
      }
      read.Came(std::move(came));
    }
    std::vector<std::string> found;
    for (const ParentBlock& block : read.Take()) found.push_back(absl::StrCat(block.block, "=", block.data.substr(0, 1)));
    return found;
  }
};

TEST(LineReadTest, ANearerParentHidesWhatIsFurtherAwayZerosToo) {
  Line line{.levels = {{Of(2, 'a'), Zeros(3)}, {Of(1, 'x'), Of(2, 'y'), Of(3, 'z')}}, .sizes = {8, 8}, .asked = {}};
  EXPECT_THAT(line.Read({0, 6}), ElementsAre("1=x", "2=a"));
  EXPECT_THAT(line.asked, ElementsAre("0:0+6", "1:0+2", "1:4+2"));
}

TEST(LineReadTest, NobodyIsAskedPastItsEnd) {
  Line line{.levels = {{Of(0, 'a')}, {Of(1, 'b'), Of(5, 'c')}}, .sizes = {4, 2}, .asked = {}};
  EXPECT_THAT(line.Read({0, 8}), ElementsAre("0=a", "1=b"));
  EXPECT_THAT(line.asked, ElementsAre("0:0+4", "1:1+1"));
  line.asked.clear();
  EXPECT_THAT(line.Read({4, 2}), ElementsAre());
  EXPECT_THAT(line.asked, ElementsAre());
}

TEST(FillPartsTest, FillsZerosBetweenWhatTheCloneHas) {
  std::vector<ReadPart> parts = {{2, Payload()}, {1, Payload::CopyOf(Block('o'))}, {1, Payload()}};
  FillParts(10, {Of(9, 'n'), Of(11, 'a'), Of(13, 'b'), Of(14, 'n')}, &parts);
  ASSERT_EQ(parts.size(), 1u);
  EXPECT_EQ(parts[0].blocks, 4u);
  EXPECT_EQ(parts[0].data.bytes(), std::string(kBlockBytes, '\0') + Block('a') + Block('o') + Block('b'));
}

// Carries a flattening out on `own` and `parent`, by block; 0: nothing there.
struct Copying {
  std::string parent, own;
  std::vector<std::string> did;

  void Run(Flatten flatten) {
    using Act = Flatten::Act;
    for (Flatten::Step step = flatten.Next(); step.act != Act::kDone; step = flatten.Next()) {
      static constexpr const char* kNames[] = {"parent", "lock", "own", "write", "unlock", "flush", "drop"};
      const std::string range = absl::StrCat(" ", step.range.first, "+", step.range.count);
      did.push_back(absl::StrCat(kNames[static_cast<int>(step.act)], step.range.count > 0 ? range : ""));
      if (step.act == Act::kReadParent) flatten.ParentHas(Above(step.range));
      if (step.act == Act::kReadOwn) flatten.OwnLacks(Absent(step.range));
      if (step.act != Act::kWrite) continue;
      ASSERT_EQ(step.data.size(), step.range.count * kBlockBytes);
      for (uint64_t i = 0; i < step.range.count; ++i) {
        char& block = own[step.range.first + i];
        EXPECT_EQ(block, '0') << "it has something there";
        block = step.data[i * kBlockBytes];
      }
    }
  }
  std::vector<ParentBlock> Above(BlockRange range) const {
    std::vector<ParentBlock> blocks;
    for (uint64_t b = range.first; b < std::min<uint64_t>(range.end(), parent.size()); ++b) {
      if (parent[b] != '0') blocks.push_back(Of(b, parent[b]));
    }
    return blocks;
  }
  std::vector<BlockRange> Absent(BlockRange range) const {
    std::vector<BlockRange> absent;
    for (uint64_t b = range.first; b < range.end(); ++b) {
      if (own[b] == '0') absent.push_back({b, 1});
    }
    return absent;
  }
};

TEST(FlattenTest, CopiesWhatTheCloneHasNothingOfAndLetsGoOfItsParentAtTheEnd) {
  Copying copying{.parent = "abcdef0000gh", .own = "0X00Y0000000Z", .did = {}};
  copying.Run(Flatten({0, 13}, 4, /*last=*/true));
  EXPECT_EQ(copying.own, "aXcdYf0000ghZ");
  EXPECT_THAT(copying.did, ElementsAre("parent 0+4", "lock 0+4", "own 0+4", "write 0+1", "write 2+2", "unlock",  //
                                       "parent 4+4", "lock 4+4", "own 4+4", "write 5+1", "unlock",               //
                                       "parent 8+4", "lock 8+4", "own 8+4", "write 10+2", "unlock",              //
                                       "parent 12+1", "flush", "drop"));
}

TEST(FlattenTest, APartThatIsNotTheLastKeepsTheParent) {
  Copying copying{.parent = "ab0000", .own = "000000", .did = {}};
  copying.Run(Flatten({1, 3}, 4, /*last=*/false));
  EXPECT_EQ(copying.own, "0b0000");
  EXPECT_THAT(copying.did, ElementsAre("parent 1+3", "lock 1+3", "own 1+3", "write 1+1", "unlock"));
}

TEST(FlattenTest, NobodyIsLockedOutWhereThereIsNothingToCopy) {
  Copying copying{.parent = "0000", .own = "00X0", .did = {}};
  copying.Run(Flatten({0, 4}, 4, /*last=*/true));
  EXPECT_THAT(copying.did, ElementsAre("parent 0+4", "flush", "drop"));
}

TEST(FlattenTest, WhatTheCloneHasByNowIsNotOverwritten) {
  Copying copying{.parent = "abcd", .own = "WXYZ", .did = {}};
  copying.Run(Flatten({0, 4}, 4, /*last=*/true));
  EXPECT_EQ(copying.own, "WXYZ");
  EXPECT_THAT(copying.did, ElementsAre("parent 0+4", "lock 0+4", "own 0+4", "unlock", "flush", "drop"));
}

TEST(HoldsForParentTest, UntilTheDeadlineForWhoIsAwayAndForNobodyElse) {
  const Time t0 = absl::Seconds(100);
  const absl::Duration deadline = absl::Seconds(3);
  const absl::Status away = absl::UnavailableError("");
  EXPECT_TRUE(HoldsForParent(away, t0, t0, deadline));
  EXPECT_TRUE(HoldsForParent(away, t0, t0 + absl::Milliseconds(2999), deadline));
  EXPECT_FALSE(HoldsForParent(away, t0, t0 + deadline, deadline));
  EXPECT_TRUE(HoldsForParent(away, t0, t0 + absl::Hours(1000), absl::InfiniteDuration()));
  EXPECT_FALSE(HoldsForParent(absl::OkStatus(), t0, t0, deadline));
  EXPECT_FALSE(HoldsForParent(absl::NotFoundError(""), t0, t0, deadline));
}

}  // namespace
}  // namespace weir::engine
