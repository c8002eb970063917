#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "proto/base/config_check.h"
#include "proto/base/config_file.h"

namespace weir {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Pair;

std::string TempFile(const std::string& text) {
  const std::string path = absl::StrCat(testing::TempDir(), "/config_test.", ::getpid());
  std::ofstream(path, std::ios::trunc) << text;
  return path;
}

TEST(ConfigFileTest, IsOneFlagALine) {
  const auto flags = ParseConfig("f", "# ours\n\n listen = 10.0.0.1:7701 \ndata-dirs=/a,/b\r\nname=\ncatalog=etcd:a:1?ca=x\n#last");
  ASSERT_TRUE(flags.ok()) << flags.status();
  EXPECT_THAT(*flags, ElementsAre(Pair("listen", "10.0.0.1:7701"), Pair("data_dirs", "/a,/b"), Pair("name", ""),
                                  Pair("catalog", "etcd:a:1?ca=x")));
}

TEST(ConfigFileTest, AMistakeIsSaidWithItsLine) {
  for (const auto& [text, words] : std::vector<std::pair<std::string, std::string>>{
           {"a=1\nlisten\n", "f:2: 'listen' is not NAME=VALUE"},
           {"=1", "f:1: '=1' is not NAME=VALUE"},
           {"--listen=x", "f:1: '--listen=x' is not NAME=VALUE"},
           {"a_b=1\n\na-b=2", "f:3: a_b is given twice"},
           {"config=other", "is not NAME=VALUE"}}) {
    const auto flags = ParseConfig("f", text);
    EXPECT_EQ(flags.status().code(), absl::StatusCode::kInvalidArgument) << text;
    EXPECT_THAT(std::string(flags.status().message()), HasSubstr(words)) << text;
  }
}

TEST(ConfigFileTest, TheCommandLineWins) {
  const std::string config = "--config=" + TempFile("listen=a:1\nname=r1\nnode_id=n\ninsecure=true\n");
  const auto all = WithConfigFile({"weir", "--listen=b:2", config, "--node-id", "m"});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, ElementsAre("weir", "--name=r1", "--insecure=true", "--listen=b:2", config, "--node-id", "m"));
}

TEST(ConfigFileTest, WithoutOneNothingChanges) {
  const auto all = WithConfigFile({"weir", "--configure=x", "config=y"});
  ASSERT_TRUE(all.ok()) << all.status();
  EXPECT_THAT(*all, ElementsAre("weir", "--configure=x", "config=y"));
}

TEST(ConfigFileTest, AFileThatCannotBeReadIsAnError) {
  for (const auto& [arguments, words] : std::vector<std::pair<std::vector<std::string>, std::string>>{
           {{"weir", "--config=/nowhere/x"}, "--config=/nowhere/x: No such file"},
           {{"weir", "--config=/"}, "--config=/: Is a directory"},
           {{"weir", "--config"}, "give it as --config=FILE"},
           {{"weir", "--config="}, "give it as --config=FILE"},
           {{"weir", "--config=" + TempFile(""), "--config=x"}, "twice"}}) {
    EXPECT_THAT(std::string(WithConfigFile(arguments).status().message()), HasSubstr(words));
  }
  EXPECT_TRUE(WithConfigFile({"weir", "--config=" + TempFile("")}).ok());
}

TEST(ConfigCheckTest, FindsNothingWhereThereIsNothingWrong) {
  ConfigCheck check;
  check.Note(absl::OkStatus());
  check.Folder("data_dirs", testing::TempDir());
  check.Folder("data_dirs", testing::TempDir() + "/new/");
  check.ReadableFile("plugin", TempFile("x"));
  check.Program("nbdkit", "sh");
  check.Program("nbdkit", "/bin/sh");
  for (const char* address : {"", "127.0.0.1:0", "localhost:7701", "0.0.0.0:1", ":1", "unix:/tmp/x.sock"}) {
    check.Listen("listen", address);
  }
  for (const char* address : {"other.example:7701", "unix:/anywhere", "[2001:db8::1]:7701"}) check.Peer("replicas", address);
  EXPECT_THAT(check.problems(), IsEmpty());
  EXPECT_EQ(check.Report("weir-test"), 0);
}

TEST(ConfigCheckTest, SaysEachProblemWithItsFlag) {
  ConfigCheck check;
  check.Note(absl::InvalidArgumentError("no catalog"));
  check.Folder("data_dirs", "/nowhere/at/all");
  check.Folder("data_dirs", TempFile("x"));
  check.ReadableFile("plugin", "/nowhere");
  check.Program("nbdkit", "no-such-program");
  check.Listen("listen", "7701");
  check.Listen("listen", "127.0.0.1:65536");
  check.Listen("listen", "192.0.2.1:7701");
  check.Listen("listen", "unix:" + std::string(200, 'x'));
  check.Listen("listen", "unix:/nowhere/all.sock");
  check.Peer("replicas", ":7701");
  EXPECT_THAT(check.problems(),
              ElementsAre("no catalog", HasSubstr("--data_dirs=/nowhere/at/all: /nowhere/at: No such file"),
                          HasSubstr("is no folder"), HasSubstr("--plugin=/nowhere: No such file"),
                          HasSubstr("is not in PATH"), HasSubstr("is not HOST:PORT"), HasSubstr("is not HOST:PORT"),
                          AllOf(HasSubstr("--listen=192.0.2.1:7701"), HasSubstr("an address of this machine")),
                          HasSubstr("a socket's path"), HasSubstr("No such file"), HasSubstr("is not HOST:PORT")));
  EXPECT_EQ(check.Report("weir-test"), 1);
}

}  // namespace
}  // namespace weir
