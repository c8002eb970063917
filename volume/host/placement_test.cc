#include "volume/host/placement.h"

#include "gtest/gtest.h"

namespace weir::host {
namespace {

Candidate In(const std::string& zone, const std::string& rack, uint64_t available = 0) {
  return {{{"zone", zone}, {"rack", rack}}, available};
}

TEST(PlacementTest, WithoutLabelsSpaceDecides) {
  EXPECT_EQ(SpreadOut({{{}, 1}, {{}, 5}, {{}, 3}}, 2), (std::vector<size_t>{1, 2}));
  EXPECT_EQ(SpreadOut({{{}, 1}, {{}, 1}}, 2), (std::vector<size_t>{0, 1}));
}

TEST(PlacementTest, EachCopyGoesToAZoneOfItsOwnThoughThereIsLessSpace) {
  const std::vector<Candidate> candidates = {In("a", "1", 9), In("a", "2", 8), In("b", "1", 1),
                                             In("c", "1", 2)};
  EXPECT_EQ(SpreadOut(candidates, 3), (std::vector<size_t>{0, 3, 2}));
  EXPECT_EQ(SpreadOut(candidates, 4), (std::vector<size_t>{0, 3, 2, 1}));
}

TEST(PlacementTest, InOneZoneRacksDecide) {
  EXPECT_EQ(SpreadOut({In("a", "1", 9), In("a", "1", 8), In("a", "2", 1)}, 2),
            (std::vector<size_t>{0, 2}));
  // A rack of the same name in another zone is no help: the zone counts first.
  EXPECT_EQ(SpreadOut({In("a", "1", 9), In("a", "2", 8), In("b", "1", 1)}, 2),
            (std::vector<size_t>{0, 2}));
}

TEST(PlacementTest, AnyOtherLabelCountsLeast) {
  const std::vector<Candidate> candidates = {{{{"power", "x"}}, 9}, {{{"power", "x"}}, 8},
                                             {{{"power", "y"}}, 1}};
  EXPECT_EQ(SpreadOut(candidates, 2), (std::vector<size_t>{0, 2}));
  EXPECT_EQ(Farthest({{{{"power", "x"}, {"zone", "b"}}, 0}, {{{"power", "y"}, {"zone", "a"}}, 9}},
                     {{{"power", "x"}, {"zone", "a"}}}),
            0u);
}

TEST(PlacementTest, AReplacementGoesWhereTheOthersAreNot) {
  const std::vector<Labels> others = {{{"zone", "a"}}, {{"zone", "b"}}};
  EXPECT_EQ(Farthest({In("a", "1", 9), In("b", "1", 8), In("c", "1", 1)}, others), 2u);
  // Without a label: together with nobody who has one.
  EXPECT_EQ(Farthest({In("a", "1", 9), {{}, 1}}, others), 1u);
}

}  // namespace
}  // namespace weir::host
