#include "volume/host/options.h"

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "volume/host/nbdkit.h"

namespace weir::host {
namespace {

TEST(OptionsTest, EveryKeyIsAcceptedAndHasHelp) {
  for (const HostOptionKey& key : HostOptionKeys()) {
    HostOptions options;
    EXPECT_FALSE(absl::IsNotFound(SetHostOption(key.key, "x=1", &options)))
        << key.key;
    EXPECT_STRNE(HostOptionHelp(key.key), "");
  }
  HostOptions options;
  EXPECT_TRUE(absl::IsNotFound(SetHostOption("nonsense", "1", &options)));
}

TEST(OptionsTest, ParsesWhatPeopleWrite) {
  HostOptions options;
  EXPECT_TRUE(SetHostOption("catalog", "embedded:/x", &options).ok());
  EXPECT_TRUE(
      SetHostOption("replicas", "r1=127.0.0.1:1,r2=unix:/a=b", &options).ok());
  EXPECT_TRUE(SetHostOption("attach", "a,b", &options).ok());
  EXPECT_TRUE(SetHostOption("hold_deadline", "1m30s", &options).ok());
  EXPECT_TRUE(SetHostOption("flush_bytes", "4MiB", &options).ok());
  ASSERT_EQ(options.replicas.size(), 2u);
  EXPECT_EQ(options.replicas[1].second, "unix:/a=b");
  EXPECT_EQ(options.attach, (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(options.hold_deadline, absl::Seconds(90));
  EXPECT_EQ(options.flush_bytes, 4u << 20);
  EXPECT_TRUE(SetHostOption("join_bytes_per_second", "0", &options).ok());
  EXPECT_EQ(options.join_bytes_per_second, 0u);
  EXPECT_EQ(options.slow_request_log, absl::Seconds(1));
  EXPECT_TRUE(SetHostOption("slow_request_log", "0", &options).ok());
  EXPECT_EQ(options.slow_request_log, absl::InfiniteDuration());
  EXPECT_TRUE(SetHostOption("labels", "zone=a,rack=7", &options).ok());
  EXPECT_EQ(options.labels.at("rack"), "7");
  EXPECT_TRUE(options.Validate().ok());
}

TEST(OptionsTest, RefusesBadValuesAndNamesTheKey) {
  const std::pair<const char*, const char*> cases[] = {
      {"replicas", "r1"},        {"replicas", "=x"},
      {"labels", "zone"},        {"labels", "zone=a,zone=b"},
      {"attach_deadline", "5"},  {"attach_deadline", "-1s"},
      {"clone_deadline", "inf"}, {"flush_bytes", "lots"},
      {"log_level", "debug"},    {"log_format", "xml"},
  };
  for (const auto& [key, value] : cases) {
    HostOptions options;
    const absl::Status status = SetHostOption(key, value, &options);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << key << "=" << value;
    EXPECT_TRUE(absl::StrContains(status.message(), key)) << status;
  }
}

TEST(OptionsTest, ValidateFindsWhatDoesNotFitTogether) {
  HostOptions options;
  EXPECT_FALSE(options.Validate().ok()) << "no catalog";
  options.catalog = "embedded:/x";
  options.replicas = {{"a", "h:1"}, {"b", "h:1"}};
  EXPECT_FALSE(options.Validate().ok()) << "one address twice";
  options.replicas = {{"a", "h:1"}, {"a", "h:2"}};
  EXPECT_FALSE(options.Validate().ok()) << "one name twice";
  options.replicas.clear();
  options.unanswered_bytes_max = 0;
  EXPECT_FALSE(options.Validate().ok()) << "nothing could ever be read";
  options.unanswered_bytes_max = 1;
  options.replay_bytes_max = options.flush_bytes - 1;
  EXPECT_FALSE(options.Validate().ok());
}

TEST(OptionsTest, AConfigurationIsCheckedWithoutAHost) {
  HostOptions options;
  options.catalog = "embedded:/tmp/none";
  options.replicas = {{"r1", "localhost:7701"}};
  options.listen = "127.0.0.1:7700";
  ConfigCheck good;
  CheckHostOptions(options, &good);
  EXPECT_TRUE(good.problems().empty()) << good.problems().front();

  options.catalog = "etcd:10.0.0.1";  // no port
  options.replicas = {{"r1", "7701"}};
  options.listen = "0.0.0.0:7700";
  options.metrics_listen = "nonsense";
  ConfigCheck bad;
  CheckHostOptions(options, &bad);
  EXPECT_EQ(bad.problems().size(), 5u);  // metrics_listen is two
}

TEST(OptionsTest, CertificatesOfNbdThatCannotBeReadAreSaid) {
  HostOptions options;
  options.catalog = "embedded:/tmp/none";
  ASSERT_TRUE(SetHostOption("nbd_tls_cert", "/nowhere/server.pem", &options).ok());
  ASSERT_TRUE(SetHostOption("nbd_tls_ca", "/nowhere/ca.pem", &options).ok());
  ConfigCheck check;
  CheckHostOptions(options, &check);
  ASSERT_EQ(check.problems().size(), 2u);
  EXPECT_TRUE(absl::StrContains(check.problems()[0], "/nowhere/server.pem")) << check.problems()[0];
}

TEST(OptionsTest, PlainTextForOtherMachinesIsSaid) {
  HostOptions options;
  options.catalog = "etcd:10.0.0.1:2379";
  options.listen = "0.0.0.0:7700";
  options.metrics_listen = "0.0.0.0:9700";
  options.replicas = {{"r1", "other.example:7701"}};
  const auto problems = [&options] {
    ConfigCheck check;
    CheckHostOptions(options, &check);
    return check.problems().size();
  };
  EXPECT_EQ(problems(), 4u);
  EXPECT_TRUE(SetHostOption("insecure_metrics", "true", &options).ok());
  EXPECT_EQ(problems(), 3u);
  EXPECT_TRUE(SetHostOption("insecure", "true", &options).ok());
  EXPECT_EQ(problems(), 0u);

  options = HostOptions();
  options.catalog = "etcd:10.0.0.1:2379";
  const absl::Status refused = Host::Start(options).status();
  EXPECT_TRUE(absl::IsInvalidArgument(refused)) << refused;
}

TEST(NbdkitTest, TheCommandHandsEveryOptionToThePlugin) {
  const std::vector<std::string> command = NbdkitCommand(
      {"nbdkit", "/p.so", "/s", "64", "", "/c"},
      {{"catalog", "embedded:/x"}, {"replicas", "a=b"}});
  EXPECT_EQ(command,
            (std::vector<std::string>{
                "nbdkit", "-f", "-U", "/s", "--threads=64", "--filter=blocksize",
                "/p.so", "minblock=4096", "config=/c", "catalog=embedded:/x",
                "replicas=a=b"}));
}

TEST(NbdkitTest, AMissingPluginOrAForeignFileIsAnError) {
  EXPECT_TRUE(absl::IsFailedPrecondition(
      BecomeNbdkit({"nbdkit", "/nowhere.so", "/s", "64", "", ""}, {})));
  EXPECT_TRUE(absl::IsFailedPrecondition(
      BecomeNbdkit({"nbdkit", "/etc/passwd", "/etc/passwd", "64", "", ""}, {})));
}

}  // namespace
}  // namespace weir::host
