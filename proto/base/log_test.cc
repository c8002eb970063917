#include "proto/base/log.h"

#include <optional>
#include <string>

#include "absl/time/civil_time.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir {
namespace {

using internal::FormatLogLine;

const absl::Time kThen = absl::FromCivil(absl::CivilSecond(2026, 1, 2, 3, 4, 5), absl::UTCTimeZone());

// What `log` writes to stderr.
template <typename Log>
std::string Written(Log log) {
  testing::internal::CaptureStderr();
  log();
  return testing::internal::GetCapturedStderr();
}

class LogTest : public testing::Test {
 protected:
  ~LogTest() override {
    SetLogLevel(LogLevel::kInfo);
    SetLogFormat(LogFormat::kText);
  }
};

TEST_F(LogTest, TextIsALineForPeople) {
  EXPECT_EQ(FormatLogLine(LogFormat::kText, LogLevel::kWarning, kThen, "a.cc:7", "volume=demo \"held\""),
            "W 2026-01-02T03:04:05.000Z a.cc:7] volume=demo \"held\"");
}

TEST_F(LogTest, JsonHasAFieldForEachNameOfAThing) {
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, LogLevel::kError, kThen, "a.cc:7", "volume=demo replica=r1, epoch=3: gone"),
            R"({"time":"2026-01-02T03:04:05.000Z","severity":"ERROR","source":"a.cc:7",)"
            R"("volume":"demo","replica":"r1","epoch":"3","message":"volume=demo replica=r1, epoch=3: gone"})");
}

TEST_F(LogTest, JsonStaysJsonWhateverIsSaid) {
  EXPECT_EQ(FormatLogLine(LogFormat::kJson, LogLevel::kInfo, kThen, "a.cc:7", "a \"b\" \\ \n\t\x01 volumes=x volume= é"),
            R"({"time":"2026-01-02T03:04:05.000Z","severity":"INFO","source":"a.cc:7",)"
            "\"message\":\"a \\\"b\\\" \\\\ \\u000a\\u0009\\u0001 volumes=x volume= é\"}");
}

TEST_F(LogTest, WhatIsBelowTheLevelIsNotWritten) {
  SetLogLevel(LogLevel::kWarning);
  EXPECT_EQ(Written([] { LOG(INFO) << "quiet"; }), "");
  EXPECT_THAT(Written([] { LOG(WARNING) << "said " << 1; }), testing::HasSubstr("] said 1\n"));
  SetLogFormat(LogFormat::kJson);
  EXPECT_THAT(Written([] { LOG(ERROR) << "said"; }), testing::HasSubstr("\"message\":\"said\"}\n"));
}

TEST_F(LogTest, LevelsAndFormatsHaveNames) {
  EXPECT_EQ(*ParseLogLevel("info"), LogLevel::kInfo);
  EXPECT_EQ(*ParseLogLevel("warning"), LogLevel::kWarning);
  EXPECT_EQ(*ParseLogLevel("error"), LogLevel::kError);
  EXPECT_EQ(*ParseLogFormat("text"), LogFormat::kText);
  EXPECT_EQ(*ParseLogFormat("json"), LogFormat::kJson);
  EXPECT_THAT(std::string(ParseLogLevel("debug").status().message()), testing::HasSubstr("give info, warning or error"));
  EXPECT_THAT(std::string(ParseLogFormat("").status().message()), testing::HasSubstr("give text or json"));
}

TEST_F(LogTest, BothAreSetOrNeither) {
  EXPECT_FALSE(SetLog("warning", "xml").ok());
  EXPECT_FALSE(SetLog("", std::nullopt).ok());
  EXPECT_THAT(Written([] { LOG(INFO) << "still"; }), testing::EndsWith("still\n"));
  EXPECT_TRUE(SetLog("warning", std::nullopt).ok());
  EXPECT_EQ(Written([] { LOG(INFO) << "not this"; }), "");
  EXPECT_TRUE(SetLog(std::nullopt, "json").ok());
  EXPECT_EQ(Written([] { LOG(INFO) << "nor this"; }), "");
  EXPECT_THAT(Written([] { LOG(WARNING) << "last"; }), testing::StartsWith("{"));
}

}  // namespace
}  // namespace weir
