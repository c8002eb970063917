#include "client/cli/output.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

using ::testing::HasSubstr;

TEST(TextTableTest, AlignsColumnsAndEndsLinesClean) {
  TextTable table({"NAME", "SIZE", "STATE"});
  table.AddRow({"a", "1GiB", ""});
  table.AddRow({"longer", "4096B", "ACTIVE"});
  EXPECT_EQ(table.ToString(),
            "NAME    SIZE   STATE\n"
            "a       1GiB   -\n"
            "longer  4096B  ACTIVE\n");
}

TEST(JsonTest, HasTheProtosNamesAndDefaults) {
  v1::Volume volume;
  volume.set_size_bytes(1 << 30);
  const std::string json = ToJson(volume);
  EXPECT_THAT(json, HasSubstr("\"size_bytes\": \"1073741824\""));
  EXPECT_THAT(json, HasSubstr("\"flush_supported\": false"));
}

TEST(JoinTextTest, SaysHowLongOnlyWhereThatIsKnown) {
  v1::Target target;
  target.set_join_bytes_copied(1 << 20);
  target.set_join_bytes_left(3 << 20);
  EXPECT_EQ(JoinText(target), "1MiB copied, 3MiB to go");
  target.set_join_seconds_left(90);
  EXPECT_EQ(JoinText(target), "1MiB copied, 3MiB to go, some 1m30s");
}

TEST(ErrorLineTest, IsOneLineThatSaysWhatToDo) {
  EXPECT_EQ(ErrorLine(absl::NotFoundError("no volume demo; create it")),
            "weirctl: no volume demo; create it\n");
  EXPECT_EQ(ErrorLine(absl::UnavailableError("two\nlines")),
            "weirctl: two lines; check that the process runs, then try again\n");
  EXPECT_THAT(ErrorLine(absl::PermissionDeniedError("the caller's certificate has role viewer")), HasSubstr("--tls_cert"));
  EXPECT_THAT(ErrorLine(absl::DataLossError("")), HasSubstr("weirctl: DATA_LOSS; see"));
}

TEST(HexDumpTest, LooksLikeHexdumpAndFoldsRepeatedLines) {
  EXPECT_EQ(HexDump(std::string(64, 'Z') + std::string("\0end", 4), 4096),
            "00001000  5a 5a 5a 5a 5a 5a 5a 5a  5a 5a 5a 5a 5a 5a 5a 5a  |ZZZZZZZZZZZZZZZZ|\n"
            "*\n"
            "00001040  00 65 6e 64                                       |.end|\n"
            "00001044\n");
  EXPECT_EQ(HexDump("", 0), "00000000\n");
}

TEST(PatternTest, TakesHexDecimalAndCharacters) {
  EXPECT_EQ(*ParsePattern("0x5a"), 0x5a);
  EXPECT_EQ(*ParsePattern("90"), 90);
  EXPECT_EQ(*ParsePattern("'z'"), 'z');
  EXPECT_EQ(*ParsePattern("0"), 0);
  for (const char* bad : {"", "256", "0x100", "zz", "-1", "0x", "''"}) {
    EXPECT_FALSE(ParsePattern(bad).ok()) << bad;
  }
}

}  // namespace
}  // namespace weir::cli
