#include "volume/engine/scrub.h"

#include <string>
#include <vector>

#include "gtest/gtest.h"

namespace weir::engine {
namespace {

using Kind = BlockDigest::Kind;

// "-": none; else EPOCH-less position and content: "5d1" data with checksum 1, "5z" zeros, "5x" damaged, "5n" newer.
BlockVerdict Compare(const std::vector<std::string>& members, bool overlay) {
  std::vector<BlockDigest> digests(members.size());
  std::vector<const BlockDigest*> pointers;
  for (size_t i = 0; i < members.size(); ++i) {
    if (members[i] == "-") {
      pointers.push_back(nullptr);
      continue;
    }
    const char kind = members[i][1];
    digests[i].position = Position(1, static_cast<uint64_t>(members[i][0] - '0'));
    digests[i].kind = kind == 'd'   ? Kind::kData
                      : kind == 'z' ? Kind::kZeroes
                      : kind == 'x' ? Kind::kDamaged
                                    : Kind::kNewer;
    if (kind == 'd') digests[i].crc = static_cast<uint32_t>(members[i][2] - '0');
    pointers.push_back(&digests[i]);
  }
  return CompareBlock(pointers, overlay);
}

TEST(CompareBlockTest, DecidesWhoIsRight) {
  struct Case {
    std::string name;
    std::vector<std::string> members;
    std::string verdict;  // one letter a member: g good, b bad; or equal, newer, undecided
    bool overlay = false;
  };
  const Case cases[] = {
      {"all equal", {"5d1", "5d1", "5d1"}, "equal"},
      {"never written", {"-", "-"}, "equal"},
      {"one alone", {"5d1"}, "equal"},
      {"zeros of different age, and none", {"5z", "-", "7z"}, "equal"},
      {"written to meanwhile", {"5d1", "6n", "5x"}, "newer"},
      {"one damaged", {"5d1", "5x", "5d1"}, "gbg"},
      {"two damaged", {"5x", "5x", "5d1"}, "bbg"},
      {"all damaged", {"5x", "5x"}, "undecided"},
      {"alone and damaged", {"5x"}, "undecided"},
      {"one has lost a write", {"5d1", "4d2", "5d1"}, "gbg"},
      {"all but one have lost a write", {"4d2", "5d1", "4d2"}, "bgb"},
      {"one has lost all", {"5d1", "-", "5d1"}, "gbg"},
      {"one has lost a discard", {"5z", "4d2", "5z"}, "gbg"},
      {"nothing there is as good as zeros", {"5z", "4d2", "-"}, "gbg"},
      {"one came back to life over a discard", {"4d2", "5z"}, "bg"},
      {"the newest is damaged", {"5x", "4d2", "4d2"}, "undecided"},
      {"the newest is damaged on one", {"5x", "4d2", "5d1"}, "bbg"},
      {"the older one is damaged", {"4x", "5d1"}, "bg"},
      {"two against one", {"5d1", "5d2", "5d1"}, "gbg"},
      {"one against one", {"5d1", "5d2"}, "undecided"},
      {"one against one, and one damaged", {"5d1", "5d2", "5x"}, "undecided"},
      {"one against one, and an older one", {"5d1", "5d2", "4d1"}, "undecided"},
      {"data against zeros of one position", {"5d1", "5z", "5z"}, "bgg"},
      {"three different", {"5d1", "5d2", "5d3"}, "undecided"},
      {"two against two", {"5d1", "5d1", "5d2", "5d2"}, "undecided"},
      {"three against two", {"5d1", "5d1", "5d2", "5d2", "5d1"}, "ggbbg"},
      {"a clone that has nothing", {"-", "-", "-"}, "equal", true},
      {"a clone's zeros of different age", {"5z", "7z"}, "equal", true},
      {"one lets a clone's parent show through", {"5z", "-", "5z"}, "gbg", true},
      {"all but one let it show through", {"-", "5z", "-"}, "bgb", true},
      {"a clone's data lost on one", {"-", "5d1"}, "bg", true},
  };
  for (const Case& c : cases) {
    const BlockVerdict verdict = Compare(c.members, c.overlay);
    std::string got;
    if (verdict.newer) {
      got = "newer";
    } else if (verdict.undecided) {
      got = "undecided";
    } else if (verdict.bad == 0) {
      got = "equal";
    } else {
      for (size_t i = 0; i < c.members.size(); ++i) {
        const bool good = (verdict.good >> i & 1) != 0;
        EXPECT_NE(good, (verdict.bad >> i & 1) != 0) << c.name;
        got += good ? 'g' : 'b';
      }
    }
    EXPECT_EQ(got, c.verdict) << c.name;
  }
}

}  // namespace
}  // namespace weir::engine
