#include "proto/wire/reload.h"

#include <unistd.h>

#include <fstream>
#include <string>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/log.h"

namespace weir::wire {
namespace {

using testing::HasSubstr;

// What a reload says, with `text` in the file of --config.
std::string Said(const std::string& text) {
  const std::string path = absl::StrCat(testing::TempDir(), "/reload_test.", ::getpid());
  std::ofstream(path, std::ios::trunc) << text;
  testing::internal::CaptureStderr();
  Reload(path);
  return testing::internal::GetCapturedStderr();
}

TEST(ReloadTest, TheLogIsAsTheFileSaysFromThenOn) {
  EXPECT_THAT(Said("listen=a:1\nlog_format=json\n"), HasSubstr("\"severity\":\"INFO\""));
  EXPECT_EQ(Said("log_level=error\n"), "");
  EXPECT_THAT(Said("log_level=info\nlog_format=text\n"), HasSubstr("I 20"));
}

TEST(ReloadTest, AFileThatIsWrongChangesNothing) {
  EXPECT_THAT(Said("log_format=json\nlog_level=loud\n"),
              testing::AllOf(HasSubstr("E 20"), HasSubstr("log_level=loud: give info, warning or error")));
  EXPECT_THAT(Said("nonsense"), HasSubstr("is not NAME=VALUE"));
}

}  // namespace
}  // namespace weir::wire
