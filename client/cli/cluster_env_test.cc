#include "client/cli/cluster_env.h"

#include <cstdlib>
#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;

TEST(ClusterEnvTest, ReadsWhatOpsClusterWrites) {
  auto env = ParseClusterEnv(
      "# made by ops/cluster\n"
      "NBD_URI='nbd+unix:///demo?socket=/tmp/c/nbd.sock'\n"
      "VOLUME_ADDR='127.0.0.1:7700'\n"
      "REPLICA_ADDRS='127.0.0.1:7701 127.0.0.1:7702'\n"
      "METRICS_URLS='http://127.0.0.1:7801/metrics'\n"
      "PIDS='replica1=12 volume=13'\n"
      "BIN='/opt/weir bin'\n");
  ASSERT_TRUE(env.ok()) << env.status();
  EXPECT_EQ(env->nbd_uri, "nbd+unix:///demo?socket=/tmp/c/nbd.sock");
  EXPECT_EQ(env->volume_addr, "127.0.0.1:7700");
  EXPECT_THAT(env->replica_addrs,
              ElementsAre(Pair("replica1", "127.0.0.1:7701"), Pair("replica2", "127.0.0.1:7702")));
  EXPECT_THAT(env->pids, ElementsAre(Pair("replica1", "12"), Pair("volume", "13")));
  EXPECT_EQ(env->bin, "/opt/weir bin");
}

struct Quoting {
  const char* name;
  const char* text;
  const char* value;
};

TEST(ClusterEnvTest, UnderstandsTheShellsPlainQuotings) {
  const Quoting kCases[] = {
      {"bare", "BIN=/opt/weir", "/opt/weir"},
      {"export", "export BIN=/opt/weir", "/opt/weir"},
      {"empty", "BIN=", ""},
      {"comment after it", "BIN=/a # here", "/a"},
      {"hash inside", "BIN='/a#b'", "/a#b"},
      {"single quotes keep dollars", "BIN='$HOME`x`\\'", "$HOME`x`\\"},
      {"a quote in a quote", "BIN='it'\\''s'", "it's"},
      {"double quotes", "BIN=\"a \\\"b\\\" \\$c \\d\"", "a \"b\" $c \\d"},
      {"pieces", "BIN=/a'/b c'\"/d\"", "/a/b c/d"},
      {"the last one counts", "BIN=a\nBIN=b", "b"},
      {"unknown names", "OTHER=x\nBIN=b\r\n", "b"},
  };
  for (const Quoting& c : kCases) {
    auto env = ParseClusterEnv(c.text);
    ASSERT_TRUE(env.ok()) << c.name << ": " << env.status();
    EXPECT_EQ(env->bin, c.value) << c.name;
  }
}

TEST(ClusterEnvTest, RefusesWhatOnlyAShellCouldRead) {
  const Quoting kCases[] = {
      {"expansion", "\nBIN=$HOME", "line 2"},
      {"expansion in double quotes", "BIN=\"$HOME\"", "needs a shell"},
      {"command", "BIN=`id`", "needs a shell"},
      {"open quote", "BIN='a", "not closed"},
      {"two words", "BIN=a b", "must be quoted"},
      {"not an assignment", "rm -rf /", "NAME='value'"},
      {"bad name", "2BIN=a", "NAME='value'"},
      {"bad pid list", "PIDS='replica1'", "NAME=VALUE"},
  };
  for (const Quoting& c : kCases) {
    auto env = ParseClusterEnv(c.text);
    ASSERT_FALSE(env.ok()) << c.name;
    EXPECT_THAT(std::string(env.status().message()), HasSubstr(c.value)) << c.name;
  }
}

TEST(ClusterEnvTest, SaysHowToMakeAMissingFile) {
  auto env = ReadClusterEnv("/nonexistent");
  EXPECT_THAT(std::string(env.status().message()), HasSubstr("ops/cluster up --dir=/nonexistent"));
}

TEST(NamedValuesTest, SplitsAtBlanksAndCommas) {
  auto values = ParseNamedValues(" a=1,b=unix:/x=y\tc=3 ");
  ASSERT_TRUE(values.ok());
  EXPECT_THAT(*values, ElementsAre(Pair("a", "1"), Pair("b", "unix:/x=y"), Pair("c", "3")));
}

TEST(ReplicaAddrsTest, NamesAddressesThatStandAloneByTheirPlace) {
  EXPECT_THAT(ParseReplicaAddrs("a=unix:/x=y 127.0.0.1:1, unix:/p=q"),
              ElementsAre(Pair("a", "unix:/x=y"), Pair("replica2", "127.0.0.1:1"),
                          Pair("replica3", "unix:/p=q")));
}

TEST(MetricsUrlsTest, ANameIsGivenOrThatOfTheProcessAtThisPlaceOrTheHost) {
  const std::string two = "a=http://10.0.0.1:7801/metrics?x=1,https://host/metrics";
  auto urls = ParseMetricsUrls(two, {"replica1", "volume"});
  ASSERT_TRUE(urls.ok()) << urls.status();
  EXPECT_THAT(*urls, ElementsAre(Pair("a", "http://10.0.0.1:7801/metrics?x=1"), Pair("volume", "https://host/metrics")));
  urls = ParseMetricsUrls(two, {"replica1"});  // not as many: nobody knows whose it is
  ASSERT_TRUE(urls.ok()) << urls.status();
  EXPECT_THAT(*urls, ElementsAre(Pair("a", "http://10.0.0.1:7801/metrics?x=1"), Pair("host", "https://host/metrics")));
  for (const char* wrong : {"127.0.0.1:7801", "a=", "=http://h/", "ftp://h/metrics", "http:/h"}) {
    EXPECT_THAT(std::string(ParseMetricsUrls(wrong, {}).status().message()), HasSubstr("is no URL of metrics")) << wrong;
  }
  EXPECT_THAT(*ParseMetricsUrls(" , ", {}), IsEmpty());
}

}  // namespace
}  // namespace weir::cli
