#include "client/cli/top_text.h"

#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::Contains;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;

TopView BusyView(int volumes) {
  TopView view;
  view.interval = absl::Seconds(1);
  for (int i = 0; i < volumes; ++i) {
    VolumeRow row;
    row.name = absl::StrCat("volume-", i);
    row.frontend = "frontend-of-it";
    row.state = "ACTIVE";
    row.epoch = 12;
    row.reads = 0;
    row.writes = 1234.4;
    row.write_bytes = 5 << 20;
    row.write_p50 = 0.00045;
    row.write_p99 = 0.0123;
    row.flushes = 2.5;
    row.flush_p99 = 75;
    row.inflight = 32;
    row.durable_age = 0.25;
    row.not_durable = 3 << 20;
    row.held = "too_few_members:12";
    view.volumes.push_back(row);
  }
  view.targets = {{"volume-0", "replica1", "in_sync", "connected", 10, 0.001, 1, 0, 0}};
  view.resyncs = {{"volume-0", "replica2", 3e9, 1e9, 5 << 20, 600}};
  view.replicas = {{"replica1", "serving", 10, 4096, 3, 0.002, 0, 1e9, 2e9}};
  return view;
}

TEST(TopLinesTest, ShowsEveryColumnWhereThereIsRoom) {
  const std::string text = absl::StrJoin(TopLines(BusyView(1), "title", {}), "\n");
  EXPECT_THAT(text, HasSubstr(
      "title\n"
      "\n"
      "Volumes\n"
      "VOLUME    STATE   EPOCH  FRONTEND        READ/S  R_MIB/S  WRITE/S  W_MIB/S  W_P50  W_P99   FLUSH/S  F_P99  ERR/S  INFLIGHT  "
      "QUEUED  AGE    NOT_DURABLE  HELD\n"
      "volume-0  ACTIVE  12     frontend-of-it  0       -        1234     5.0      450us  12.3ms  2.5      1m15s  -      32        "
      "-       250ms  3MiB         too_few_members:12\n"));
  EXPECT_THAT(text, HasSubstr("Resyncs\nVOLUME    REPLICA   LEFT    COPIED    MIB/S  ETA\n"
                              "volume-0  replica2  2.8GiB  953.7MiB  5.0    10m\n"));
  EXPECT_THAT(text, HasSubstr("replica1  serving  10       0.0    3       2.0ms     0        953.7MiB  1.9GiB"));
  EXPECT_THAT(text, Not(HasSubstr("Flush runs")));  // there are none
}

TEST(TopLinesTest, NoLineIsLongerAndNoneMoreThanTheTerminalHas) {
  for (const int volumes : {0, 1, 40}) {
    for (const size_t width : {1, 10, 40, 80, 120, 200}) {
      for (const size_t height : {1, 3, 8, 24, 60}) {
        const auto lines = TopLines(BusyView(volumes), "a title that is rather long for a terminal", {width, height});
        EXPECT_LE(lines.size(), height) << volumes << " " << width;
        for (const std::string& line : lines) EXPECT_LE(line.size(), width) << line;
      }
    }
  }
}

TEST(TopLinesTest, ANarrowTerminalKeepsWhatMattersMost) {
  const std::string text = absl::StrJoin(TopLines(BusyView(1), "title", {80, 50}), "\n");
  for (const char* kept : {"VOLUME", "STATE", "WRITE/S", "W_P99", "FLUSH/S", "HELD", "too_few_members:12"}) {
    EXPECT_THAT(text, HasSubstr(kept));
  }
  EXPECT_THAT(text, Not(HasSubstr("FRONTEND")));
  EXPECT_THAT(text, Not(HasSubstr("EPOCH")));
}

TEST(TopLinesTest, ALowTerminalCutsTheLongestTableAndSaysSo) {
  const auto lines = TopLines(BusyView(40), "title", {200, 24});
  EXPECT_EQ(lines.size(), 24);
  const std::string text = absl::StrJoin(lines, "\n");
  EXPECT_THAT(text, HasSubstr("volume-0 "));
  EXPECT_THAT(text, HasSubstr("... and 33 more"));
  EXPECT_THAT(text, HasSubstr("Replicas\n"));
  EXPECT_THAT(text, HasSubstr("replica1  serving"));
}

TEST(TopLinesTest, SaysWhoDoesNotAnswerAndPrintsNothingThatATerminalObeys) {
  TopView view = BusyView(1);
  view.silent = {{"replica2", "connection\033[2J refused"}};
  view.volumes[0].name = "vol\033[31m\n";
  const auto lines = TopLines(view, "title", {});
  EXPECT_THAT(lines, Contains("replica2 does not answer: connection?[2J refused"));
  const std::string text = absl::StrJoin(lines, "\n");
  EXPECT_THAT(text, HasSubstr("vol?[31m?"));
  EXPECT_EQ(text.find('\033'), std::string::npos);
}

TEST(TopLinesTest, FiguresThatCannotBeAreNotKnown) {
  TopView view = BusyView(1);
  view.volumes[0].writes = std::numeric_limits<double>::quiet_NaN();
  view.volumes[0].not_durable = std::numeric_limits<double>::infinity();
  view.replicas[0].available = -1e300;
  view.resyncs[0].seconds_left = 1e300;
  TopLines(view, "title", {80, 24});
  const std::string json = TopJson(view, "now");
  EXPECT_THAT(json, HasSubstr("\"writes_per_second\":null"));
  EXPECT_THAT(json, HasSubstr("\"not_durable_bytes\":null"));
}

TEST(TopJsonTest, IsOneObjectInOneLine) {
  const std::string json = TopJson(BusyView(2), "2026-01-02T03:04:05Z");
  EXPECT_THAT(json, EndsWith("}\n"));
  EXPECT_EQ(json.find('\n'), json.size() - 1);
  google::protobuf::Struct object;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(json, &object).ok());
  const auto& fields = object.fields();
  EXPECT_EQ(fields.at("time").string_value(), "2026-01-02T03:04:05Z");
  EXPECT_EQ(fields.at("interval_seconds").number_value(), 1);
  ASSERT_EQ(fields.at("volumes").list_value().values_size(), 2);
  const auto& volume = fields.at("volumes").list_value().values(0).struct_value().fields();
  EXPECT_EQ(volume.at("name").string_value(), "volume-0");
  EXPECT_EQ(volume.at("writes_per_second").number_value(), 1234.4);
  EXPECT_EQ(volume.at("errors_per_second").kind_case(), google::protobuf::Value::kNullValue);
  EXPECT_EQ(fields.at("silent").list_value().values_size(), 0);
}

}  // namespace
}  // namespace weir::cli
