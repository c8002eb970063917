// Command lines against a fake frontend: help, exit codes, output.
#include "client/cli/app.h"

#include <stdlib.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/weir/fake_frontend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class AppTest : public ::testing::Test {
 protected:
  int Run(std::vector<std::string> arguments) {
    out_.str("");
    err_.str("");
    return cli::Run(arguments, in_, out_, err_);
  }
  int RunHere(std::vector<std::string> arguments) {
    arguments.push_back(absl::StrCat("--volume_addr=", frontend_.address()));
    return Run(arguments);
  }

  FakeFrontend frontend_;
  std::istringstream in_;
  std::ostringstream out_;
  std::ostringstream err_;
};

TEST_F(AppTest, EveryLevelHasHelpWithExamples) {
  const std::vector<std::vector<std::string>> kLevels = {{"--help"},
                                                         {"volume", "--help"},
                                                         {"replica", "--help"},
                                                         {"table", "--help"},
                                                         {"io", "--help"},
                                                         {"fault", "--help"},
                                                         {"explain", "--help"},
                                                         {"top", "--help"},
                                                         {"volume", "create", "--help"},
                                                         {"io", "write", "--help"},
                                                         {"fault", "set", "--help"},
                                                         {"table", "load", "--help"}};
  for (const auto& level : kLevels) {
    EXPECT_EQ(Run(level), kExitOk) << level[0];
    std::string command = "Usage: weirctl";
    for (const std::string& word : level) {
      if (word != "--help") command += " " + word;
    }
    EXPECT_THAT(out_.str(), HasSubstr(command + " [OPTIONS]"));
    EXPECT_THAT(out_.str(), HasSubstr("Example")) << level[0];
    EXPECT_EQ(err_.str(), "");
  }
  Run({"--help"});
  EXPECT_THAT(out_.str(), HasSubstr("Exit codes: 0"));
}

TEST_F(AppTest, AWrongCommandLineIsExitCodeTwoAndPointsAtHelp) {
  struct Case {
    std::vector<std::string> arguments;
    const char* want;
  };
  const std::vector<Case> kCases = {
      {{}, "see 'weirctl --help'"},
      {{"volumes"}, "'volumes' is not known here; see 'weirctl --help'"},
      {{"volume"}, "see 'weirctl volume --help'"},
      {{"volume", "frob"}, "'frob' is not known here; see 'weirctl volume --help'"},
      {{"volume", "create", "demo"}, "see 'weirctl volume create --help'"},
      {{"volume", "create", "demo", "--size=lots"}, "not a size"},
      {{"volume", "show", "demo", "--colour"}, "see 'weirctl volume show --help'"},
      {{"volume", "list", "--output=xml"}, "see 'weirctl volume list --help'"},
      {{"volume", "list"}, "--cluster=DIR"},
      {{"fault", "list"}, "--cluster=DIR"},
      {{"fault", "set", "r1", "--op=write", "--error=EPERM"}, "use EIO, ENOSPC"},
      {{"fault", "set", "r1", "--op=write"}, "--error is required"},
      {{"io", "write", "demo", "--pattern=300", "--length=4096"}, "is not a byte"},
      {{"io", "write", "demo", "--pattern=3"}, "needs --length"},
      {{"top"}, "--metrics=URL,..."},
      {{"top", "--interval=often"}, "such as 1s; see 'weirctl top --help'"},
      {{"top", "--interval=1ms"}, "from 100ms to 1h"},
      {{"top", "--metrics=127.0.0.1:7801"}, "'127.0.0.1:7801' is no URL of metrics"},
  };
  for (const Case& c : kCases) {
    const std::string line = c.arguments.empty() ? "nothing" : c.arguments.back();
    EXPECT_EQ(Run(c.arguments), kExitUsage) << line;
    EXPECT_THAT(err_.str(), StartsWith("weirctl: ")) << line;
    EXPECT_THAT(err_.str(), HasSubstr(c.want)) << line;
    EXPECT_EQ(err_.str().find('\n'), err_.str().size() - 1) << line;
    EXPECT_EQ(out_.str(), "");
  }
}

TEST_F(AppTest, AFailedOperationIsExitCodeOneAndSaysWhatToDo) {
  EXPECT_EQ(RunHere({"volume", "show", "other"}), kExitFailed);
  EXPECT_EQ(err_.str(),
            "weirctl: no volume other; see 'weirctl volume list' and 'weirctl replica list'\n");
  EXPECT_EQ(Run({"volume", "list", "--cluster=/nonexistent"}), kExitFailed);
  EXPECT_THAT(err_.str(), HasSubstr("ops/cluster up"));
  EXPECT_EQ(Run({"replica", "show", "r9", "--replica_addrs=r1=unix:/nonexistent"}), kExitFailed);
  EXPECT_THAT(err_.str(), HasSubstr("no replica r9; there are r1"));
  EXPECT_EQ(Run({"replica", "show", "r1", "--replica_addrs=r1=unix:/nonexistent"}), kExitFailed);
  EXPECT_THAT(err_.str(), HasSubstr("cannot reach r1 at unix:/nonexistent"));
}

TEST_F(AppTest, TopSaysWhyItHasNothingToShow) {
  EXPECT_EQ(RunHere({"top", "--metrics=r1=http://127.0.0.1:1/metrics"}), kExitFailed);
  EXPECT_THAT(err_.str(), StartsWith("weirctl: no process shows its metrics (http://127.0.0.1:1/metrics: "));
  EXPECT_THAT(err_.str(), HasSubstr("check that they run"));
  EXPECT_EQ(out_.str(), "");
}

TEST_F(AppTest, WritesAndReads) {
  EXPECT_EQ(RunHere({"io", "write", "demo", "--offset=4KiB", "--length=8KiB", "--pattern=0x5a"}),
            kExitOk)
      << err_.str();
  EXPECT_EQ(out_.str(), "wrote 8KiB at 4096\n");
  EXPECT_EQ(RunHere({"io", "read", "demo", "--length=8KiB"}), kExitOk);
  EXPECT_THAT(out_.str(), HasSubstr("00001000  5a 5a 5a 5a"));
  EXPECT_THAT(out_.str(), EndsWith("00002000\n"));
  EXPECT_EQ(RunHere({"io", "read", "demo", "--offset=4096", "--output-file=-"}), kExitOk);
  EXPECT_EQ(out_.str(), std::string(4096, 'Z'));
  EXPECT_EQ(RunHere({"io", "read", "demo", "--checksum", "--output=json"}), kExitOk);
  EXPECT_THAT(
      out_.str(),
      HasSubstr(
          "\"sha256\": \"ad7facb2586fc6e966c004d7d1d16b024f5805ff7cb47c7a85dabd8b48892ca7\""));
  EXPECT_EQ(RunHere({"io", "zero", "demo", "--offset=4096", "--length=4096"}), kExitOk);
  EXPECT_EQ(RunHere({"io", "discard", "demo", "--offset=8192", "--length=4096"}), kExitOk);
  EXPECT_EQ(RunHere({"io", "read", "demo", "--offset=4096", "--output=json"}), kExitOk);
  EXPECT_EQ(out_.str(), absl::StrCat("{\"volume\": \"demo\", \"offset_bytes\": 4096, \"length_bytes\": 4096, \"data\": \"",
                                     absl::Base64Escape(std::string(4096, '\0')), "\"}\n"));
  in_.str(std::string(4096, 'b'));
  EXPECT_EQ(RunHere({"io", "barrier", "demo"}), kExitOk) << err_.str();
  EXPECT_EQ(frontend_.requests().back().kind(), v1::REQUEST_KIND_BARRIER);
}

TEST_F(AppTest, WhatAnswersNothingIsAnObjectToo) {
  EXPECT_EQ(RunHere({"volume", "attach", "demo"}), kExitOk) << err_.str();
  EXPECT_EQ(out_.str(), "attached demo\n");
  EXPECT_EQ(RunHere({"volume", "attach", "demo", "--output=json"}), kExitOk) << err_.str();
  EXPECT_EQ(out_.str(), "{\"volume\": \"demo\", \"result\": \"attached\"}\n");
}

TEST_F(AppTest, ShowsWhatTargetsSaidOfAFlushThatFailed) {
  ASSERT_EQ(RunHere({"volume", "attach", "demo"}), kExitOk) << err_.str();
  frontend_.Script({FakeFrontend::Act::kFail});
  EXPECT_EQ(RunHere({"volume", "flush", "demo"}), kExitFailed);
  EXPECT_THAT(out_.str(), HasSubstr("replica1"));
  EXPECT_THAT(err_.str(), StartsWith("weirctl: flush of demo failed: replica1 failed; "));
}

TEST_F(AppTest, FindsTheFrontendInTheClustersFile) {
  char dir[] = "/tmp/weir-cli-XXXXXX";
  ASSERT_NE(mkdtemp(dir), nullptr);
  const std::string path = absl::StrCat(dir, "/cluster.env");
  std::ofstream(path) << "VOLUME_ADDR='" << frontend_.address() << "'\n";
  EXPECT_EQ(Run({"volume", "show", "demo", absl::StrCat("--cluster=", dir)}), kExitOk)
      << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("size             1MiB"));
  setenv("WEIR_CLUSTER", dir, 1);
  EXPECT_EQ(Run({"volume", "show", "demo", "--output=json"}), kExitOk) << err_.str();
  EXPECT_THAT(out_.str(), HasSubstr("\"size_bytes\": \"1048576\""));
  unsetenv("WEIR_CLUSTER");
  unlink(path.c_str());
  rmdir(dir);
}

}  // namespace
}  // namespace weir::cli
