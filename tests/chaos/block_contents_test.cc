#include "tests/chaos/block_contents.h"

#include <string>

#include "gtest/gtest.h"

namespace weir::chaos {
namespace {

absl::string_view Block(const std::string& data, size_t i) {
  return absl::string_view(data).substr(i * kBlockBytes, kBlockBytes);
}

TEST(BlockContentsTest, ABlockIsTracedToItsWrite) {
  const std::string data = Contents(77, {10, 3});
  for (uint64_t i = 0; i < 3; ++i) EXPECT_EQ(ValueOf(Block(data, i), 10 + i).value(), 77);
  EXPECT_EQ(ValueOf(std::string(kBlockBytes, '\0'), 5).value(), 0);
}

TEST(BlockContentsTest, ABlockElsewhereIsRefused) {
  EXPECT_FALSE(ValueOf(Contents(77, {10, 1}), 11).ok());
}

TEST(BlockContentsTest, AnyChangedByteIsRefused) {
  const std::string good = Contents(77, {10, 1});
  for (size_t at = 0; at < kBlockBytes; at += 97) {
    std::string bad = good;
    bad[at] ^= 1;
    const auto value = ValueOf(bad, 10);
    EXPECT_FALSE(value.ok()) << at;
  }
}

TEST(BlockContentsTest, HalvesOfTwoWritesAreRefused) {
  const std::string old = Contents(1, {0, 1});
  const std::string mixed = Contents(2, {0, 1}).substr(0, 2048) + old.substr(2048);
  EXPECT_FALSE(ValueOf(mixed, 0).ok());
  EXPECT_FALSE(ValueOf(std::string(2048, '\0') + old.substr(2048), 0).ok());
}

}  // namespace
}  // namespace weir::chaos
