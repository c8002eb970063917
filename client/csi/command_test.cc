#include "client/csi/command.h"

#include "absl/strings/match.h"
#include "absl/time/clock.h"
#include "gtest/gtest.h"

namespace weir::csi {
namespace {

absl::Time Soon() { return absl::Now() + absl::Seconds(30); }

TEST(CommandTest, SaysWhatTheProgramSaid) {
  const auto result = RunCommand({"sh", "-c", "echo out; echo err >&2; exit 3"}, Soon());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit_code, 3);
  EXPECT_EQ(result->out, "out\n");
  EXPECT_EQ(result->err, "err\n");
  const auto failed = RunOrFail({"sh", "-c", "echo why >&2; exit 3"}, Soon());
  EXPECT_TRUE(absl::StrContains(failed.status().message(), "why")) << failed.status();
  EXPECT_EQ(*RunOrFail({"sh", "-c", "cat; echo 'a  b'"}, Soon()), "a  b\n") << "its input is empty";
}

TEST(CommandTest, AProgramThatIsNotThereHangsOrDiesIsAnError) {
  EXPECT_FALSE(RunCommand({"no-such-program-here"}, Soon()).ok());
  EXPECT_FALSE(RunCommand({"sh", "-c", "kill -9 $$"}, Soon()).ok());
  const auto slow = RunCommand({"sleep", "1000"}, absl::Now() + absl::Milliseconds(50));
  EXPECT_TRUE(absl::IsDeadlineExceeded(slow.status())) << slow.status();
}

TEST(CommandTest, MuchOutputIsReadToItsEnd) {
  const auto result = RunCommand({"sh", "-c", "head -c 300000 /dev/zero; head -c 300000 /dev/zero >&2"}, Soon());
  ASSERT_TRUE(result.ok()) << result.status();
  EXPECT_EQ(result->exit_code, 0);
  EXPECT_GE(result->out.size(), size_t{64} << 10);
}

}  // namespace
}  // namespace weir::csi
