#include "volume/engine/result.h"

#include <algorithm>
#include <cerrno>
#include <vector>

#include "gtest/gtest.h"

namespace weir::engine {
namespace {

Result Fold(const std::vector<Result>& completed) {
  Result folded;
  for (Result result : completed) folded = FoldBarrierError(folded, result);
  return folded;
}

// What the rule says, written down without folding: NOT_SUPPORTED before
// REQUEUE before the first error; FENCED before all.
Result Expected(const std::vector<Result>& completed) {
  for (int error : {ESTALE, EOPNOTSUPP, EAGAIN}) {
    if (std::count(completed.begin(), completed.end(), Result(error)) > 0) return Result(error);
  }
  for (Result result : completed) {
    if (!result.ok()) return result;
  }
  return Result::Ok();
}

TEST(FoldTest, GivesWhatTheRuleSaysInEveryOrderOfUpToSixAnswers) {
  const std::vector<Result> kAll = {Result(),           Result(EIO),    Result(ENOSPC),
                                    Result(EAGAIN),     Result(EOPNOTSUPP), Result(ESTALE)};
  for (int length = 0; length <= 6; ++length) {
    std::vector<size_t> digits(length, 0);
    while (true) {
      std::vector<Result> completed;
      for (size_t digit : digits) completed.push_back(kAll[digit]);
      ASSERT_EQ(Fold(completed), Expected(completed));
      int at = 0;
      while (at < length && ++digits[at] == kAll.size()) digits[at++] = 0;
      if (at == length) break;
    }
  }
}

TEST(FoldTest, TheFirstOfTwoErrorsIsKept) {
  EXPECT_EQ(Fold({Result(EIO), Result(ENOSPC)}), Result(EIO));
  EXPECT_EQ(Fold({Result(ENOSPC), Result(EIO)}), Result(ENOSPC));
}

TEST(FoldTest, NotSupportedSupersedesRequeueAndRequeueSupersedesAnError) {
  EXPECT_EQ(Fold({Result(EIO), Result(EAGAIN), Result(EOPNOTSUPP)}), Result(EOPNOTSUPP));
  EXPECT_EQ(Fold({Result(EOPNOTSUPP), Result(EAGAIN), Result(EIO)}), Result(EOPNOTSUPP));
  EXPECT_EQ(Fold({Result(EIO), Result(EAGAIN)}), Result(EAGAIN));
}

}  // namespace
}  // namespace weir::engine
