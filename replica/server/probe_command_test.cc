#include "replica/server/probe_command.h"

#include <unistd.h>

#include <initializer_list>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "google/protobuf/util/json_util.h"
#include "gtest/gtest.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

class ProbeCommandTest : public ::testing::Test {
 protected:
  int Probe(std::initializer_list<std::string> words) {
    std::vector<const char*> argv{"probe"};
    for (const std::string& word : words) argv.push_back(word.c_str());
    out_.str("");
    err_.str("");
    return ProbeCommand(static_cast<int>(argv.size()), argv.data(), out_, err_);
  }

  const std::string directory_ = testing::TempDir();
  std::ostringstream out_, err_;
};

TEST_F(ProbeCommandTest, WrongUseIsTwoAndSaysWhat) {
  EXPECT_EQ(Probe({}), 2);
  EXPECT_THAT(err_.str(), HasSubstr("DIR is required"));
  EXPECT_EQ(Probe({directory_, "--seconds=0"}), 2);
  EXPECT_EQ(Probe({directory_, "--output=xml"}), 2);
  EXPECT_EQ(Probe({directory_, "another"}), 2);
  EXPECT_EQ(Probe({"/nowhere/at/all"}), 2);
  EXPECT_THAT(err_.str(), StartsWith("weir-replica probe: /nowhere/at/all: No such file"));
  EXPECT_EQ(out_.str(), "");
  EXPECT_EQ(Probe({"/proc/self/maps"}), 2);
}

TEST_F(ProbeCommandTest, HelpSaysTheExitCodes) {
  EXPECT_EQ(Probe({"--help"}), 0);
  EXPECT_THAT(out_.str(), HasSubstr("Exit codes: 0"));
}

TEST_F(ProbeCommandTest, TableAndJsonSayTheVerdictWithItsReasonAndTimes) {
  const int code = Probe({directory_, "--seconds=0.1"});
  EXPECT_THAT(code, testing::AnyOf(0, 1));  // whatever the disk of this machine is
  EXPECT_THAT(out_.str(), HasSubstr("\nverdict       "));
  EXPECT_THAT(out_.str(), HasSubstr("\nbecause       "));
  EXPECT_THAT(out_.str(), HasSubstr("\nsync          median "));

  Probe({directory_, "--seconds=0.1", "--output=json"});
  v1::DataDir dir;
  ASSERT_TRUE(google::protobuf::util::JsonStringToMessage(out_.str(), &dir).ok()) << out_.str();
  EXPECT_EQ(dir.path(), directory_);
  EXPECT_GT(dir.capacity_bytes(), 0u);
  EXPECT_GT(dir.disk().sync_rounds(), 0u);
  EXPECT_GE(dir.disk().reasons_size(), 1);
}

TEST_F(ProbeCommandTest, WhatDoesNotKeepDataIsOne) {
  if (access("/dev/shm", W_OK) != 0) GTEST_SKIP() << "/dev/shm cannot be written to";
  EXPECT_EQ(Probe({"/dev/shm", "--seconds=0.1"}), 1);
  EXPECT_THAT(out_.str(), HasSubstr("verdict       not_durable\nbecause       tmpfs keeps its files in memory\n"));
}

}  // namespace
}  // namespace weir::replica
