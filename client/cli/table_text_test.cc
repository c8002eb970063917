#include "client/cli/table_text.h"

#include "client/cli/output.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::HasSubstr;

v1::Volume Demo() {
  v1::Volume volume;
  volume.set_name("demo");
  volume.set_size_bytes(1 << 30);
  for (const char* name : {"replica1", "replica2", "replica3"}) {
    v1::Target* target = volume.mutable_table()->add_targets();
    target->set_replica(name);
    target->set_address("127.0.0.1:7701");
    target->set_state("in_sync");
  }
  volume.mutable_table()->mutable_targets(1)->set_state("out");
  volume.mutable_table()->mutable_targets(2)->set_state("joining");
  return volume;
}

TEST(TableTextTest, LooksLikeDmsetupTable) {
  EXPECT_EQ(FormatTable(Demo()),
            "# volume demo, 1GiB\n"
            "0 2097152 replica replica1 127.0.0.1:7701 in_sync\n"
            "0 2097152 replica replica2 127.0.0.1:7701 out\n"
            "0 2097152 replica replica3 127.0.0.1:7701 joining\n");
}

TEST(TableTextTest, TakesBackWhatItPrints) {
  auto table = ParseTable(FormatTable(Demo()), 1 << 30);
  ASSERT_TRUE(table.ok()) << table.status();
  EXPECT_EQ(table->SerializeAsString(), Demo().table().SerializeAsString());
}

TEST(TableTextTest, TakesBackTheJsonOfATableAndOfAVolume) {
  for (const std::string& json : {ToJson(Demo().table()), ToJson(Demo())}) {
    auto table = ParseTable(json, 1 << 30);
    ASSERT_TRUE(table.ok()) << table.status();
    EXPECT_EQ(table->SerializeAsString(), Demo().table().SerializeAsString());
  }
}

struct Bad {
  const char* text;
  const char* want;
};

TEST(TableTextTest, NamesTheLineThatIsWrong) {
  const Bad kCases[] = {
      {"", "holds no target"},
      {"# only a comment\n", "holds no target"},
      {"0 8 replica r1 a:1 in_sync\n0 8 replica r2", "line 2 is not"},
      {"0 8 linear r1 a:1 in_sync", "line 1 is not"},
      {"8 8 replica r1 a:1 in_sync", "must begin with '0 8'"},
      {"0 16 replica r1 a:1 in_sync", "must begin with '0 8'"},
      {"0 x replica r1 a:1 in_sync", "must begin with '0 8'"},
      {"0 8 replica r1 a:1 gone", "use in_sync, joining or out"},
      {"{\"targets\": 7}", "JSON"},
      {"{\"nonsense\": 7}", "JSON"},
      {"{}", "holds no target"},
      {"{\"targets\": [{\"replica\": \"\"}]}", "target 1 names no replica"},
      {R"({"targets": [{"replica": "r1", "address": "a:1", "state": "gone"}]})",
       "use in_sync, joining or out"},
  };
  for (const Bad& c : kCases) {
    auto table = ParseTable(c.text, 4096);
    ASSERT_FALSE(table.ok()) << c.text;
    EXPECT_THAT(std::string(table.status().message()), HasSubstr(c.want)) << c.text;
  }
}

}  // namespace
}  // namespace weir::cli
