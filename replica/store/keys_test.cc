#include "replica/store/keys.h"

#include "gtest/gtest.h"

namespace weir::store {
namespace {

// 64 bits are stored, 32 are used: what does not fit must not be cut to what would.
TEST(KeysTest, AGeometryOutOfRangeIsRefused) {
  const std::string good = EncodeGeometry({64, {2, 8}});
  VolumeGeometry geometry;
  ASSERT_TRUE(ParseGeometry(good, &geometry));
  EXPECT_EQ(EncodeGeometry(geometry), good);
  // The highest byte of each number: blocks, lanes, stripe.
  for (size_t at : {0, 8, 16}) {
    std::string damaged = good;
    damaged[at] = 1;
    EXPECT_FALSE(ParseGeometry(damaged, &geometry)) << at;
  }
  EXPECT_FALSE(ParseGeometry(EncodeGeometry({64, {0, 8}}), &geometry));
  EXPECT_FALSE(ParseGeometry(EncodeGeometry({64, {2, 0}}), &geometry));
}

}  // namespace
}  // namespace weir::store
