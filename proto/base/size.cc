#include "proto/base/size.h"

#include <limits>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/strip.h"
#include "absl/time/time.h"

namespace weir {
namespace {

struct Unit {
  absl::string_view name;
  int shift;
};
constexpr Unit kUnits[] = {{"TiB", 40}, {"GiB", 30}, {"MiB", 20}, {"KiB", 10}};

int ShiftOf(absl::string_view suffix) {
  if (suffix.empty() || suffix == "B") return 0;
  for (const Unit& unit : kUnits) {
    if (suffix == unit.name || suffix == unit.name.substr(0, 1)) {
      return unit.shift;
    }
  }
  return -1;
}

}  // namespace

absl::StatusOr<uint64_t> ParseSize(absl::string_view text) {
  size_t digits = 0;
  while (digits < text.size() && absl::ascii_isdigit(text[digits])) ++digits;
  uint64_t number = 0;
  int shift = ShiftOf(text.substr(digits));
  if (shift < 0 || !absl::SimpleAtoi(text.substr(0, digits), &number) ||
      number > (std::numeric_limits<uint64_t>::max() >> shift)) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "' is not a size; write bytes or 64KiB, 64MiB, 64GiB, 64TiB"));
  }
  return number << shift;
}

std::string FormatSize(uint64_t bytes) {
  for (const Unit& unit : kUnits) {
    uint64_t one = uint64_t{1} << unit.shift;
    if (bytes < one) continue;
    if (bytes % one == 0) return absl::StrCat(bytes / one, unit.name);
    return absl::StrFormat("%.1f%s", static_cast<double>(bytes) / one, unit.name);
  }
  return absl::StrCat(bytes, "B");
}

absl::StatusOr<uint32_t> ParseSeconds(absl::string_view text) {
  absl::Duration duration;
  constexpr int64_t kMax = std::numeric_limits<uint32_t>::max();
  const bool parsed = absl::ParseDuration(text, &duration);
  const int64_t seconds = absl::ToInt64Seconds(duration);
  if (!parsed || duration != absl::Seconds(seconds) || seconds < 0 || seconds > kMax) {
    return absl::InvalidArgumentError(absl::StrCat("'", text, "' is no time; write whole seconds, as 90s, 5m or 1h30m, or 0"));
  }
  return static_cast<uint32_t>(seconds);
}

}  // namespace weir
