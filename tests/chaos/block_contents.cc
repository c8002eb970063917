#include "tests/chaos/block_contents.h"

#include <array>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace weir::chaos {
namespace {

constexpr uint64_t kMagic = 0x57454952'43484153;  // "WEIRCHAS"
constexpr size_t kWords = kBlockBytes / sizeof(uint64_t);
using Words = std::array<uint64_t, kWords>;

// Vigna's splitmix64.
uint64_t Mixed(uint64_t x) {
  x += 0x9e3779b97f4a7c15;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

Words WordsOf(uint64_t value, uint64_t block) {
  Words words;
  const uint64_t start = Mixed(value) ^ block;
  for (size_t i = 0; i < kWords; ++i) words[i] = Mixed(start + (uint64_t{i} << 32));
  words[0] = kMagic;
  words[1] = value;
  words[2] = block;
  return words;
}

}  // namespace

std::string Contents(uint64_t value, BlockRange range) {
  std::string data;
  data.reserve(range.count * kBlockBytes);
  for (uint64_t block = range.first; block < range.end(); ++block) {
    const Words words = WordsOf(value, block);
    data.append(reinterpret_cast<const char*>(words.data()), kBlockBytes);
  }
  return data;
}

absl::StatusOr<uint64_t> ValueOf(absl::string_view bytes, uint64_t block) {
  if (bytes.size() != kBlockBytes) {
    return absl::DataLossError(absl::StrCat("block ", block, " has ", bytes.size(), " bytes"));
  }
  Words words;
  std::memcpy(words.data(), bytes.data(), kBlockBytes);
  if (words == Words{}) return 0;
  if (words[0] != kMagic) {
    return absl::DataLossError(absl::StrCat("block ", block, " holds what nobody has written"));
  }
  if (words[2] != block) {
    return absl::DataLossError(absl::StrCat("block ", block, " holds block ", words[2],
                                            " of write ", words[1]));
  }
  if (words != WordsOf(words[1], block)) {
    return absl::DataLossError(
        absl::StrCat("block ", block, " holds write ", words[1], " only in part"));
  }
  return words[1];
}

}  // namespace weir::chaos
