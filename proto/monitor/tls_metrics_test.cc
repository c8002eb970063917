#include "proto/monitor/tls_metrics.h"

#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::monitor {
namespace {

using testing::IsEmpty;
using testing::Pair;
using testing::UnorderedElementsAre;

// Hours until each certificate expires, by which it is.
std::map<std::string, int64_t> HoursLeft(const TlsMetrics& metrics) {
  std::map<std::string, int64_t> hours;
  for (const prometheus::MetricFamily& family : metrics.Collect()) {
    EXPECT_EQ(family.name, "weir_tls_certificate_expiry_timestamp_seconds");
    for (const prometheus::ClientMetric& metric : family.metric) {
      const absl::Time end = absl::FromUnixSeconds(static_cast<int64_t>(metric.gauge.value));
      // Half an hour more, since some seconds have gone by.
      hours[metric.label.at(0).value] = absl::ToInt64Hours(end - absl::Now() + absl::Minutes(30));
    }
  }
  return hours;
}

class TlsMetricsTest : public testing::Test {
 protected:
  TlsMetricsTest() : dir_(absl::StrCat(testing::TempDir(), "/tls_metrics_", ::getpid())) {
    std::filesystem::create_directories(dir_);
    Make("own", 3);
    Make("ca", 9);
  }
  ~TlsMetricsTest() override { std::filesystem::remove_all(dir_); }

  void Make(const std::string& name, int days) {
    ASSERT_EQ(std::system(absl::StrCat("openssl req -x509 -newkey rsa:2048 -nodes -subj /CN=x -days ", days, " -keyout ", dir_,
                                       "/", name, ".key -out ", dir_, "/", name, ".pem 2>/dev/null")
                              .c_str()),
              0);
  }
  TlsFiles Files() const { return {dir_ + "/own.pem", dir_ + "/own.key", dir_ + "/ca.pem"}; }

  const std::string dir_;
};

TEST_F(TlsMetricsTest, TellsWhenBothExpireAndSeesNewOnes) {
  const TlsMetrics metrics(Files());
  EXPECT_THAT(HoursLeft(metrics), UnorderedElementsAre(Pair("own", 72), Pair("authority", 216)));
  Make("own", 30);
  EXPECT_THAT(HoursLeft(metrics), UnorderedElementsAre(Pair("own", 720), Pair("authority", 216)));
}

TEST_F(TlsMetricsTest, FilesThatCannotBeUsedDoNotHideWhatIsUsed) {
  const TlsMetrics metrics(Files());
  HoursLeft(metrics);
  std::filesystem::rename(dir_ + "/ca.key", dir_ + "/own.key");
  EXPECT_THAT(HoursLeft(metrics), UnorderedElementsAre(Pair("own", 72), Pair("authority", 216)));
}

TEST_F(TlsMetricsTest, TellsOfEtcdsAsTheyWereAtTheStart) {
  const TlsFiles etcd{dir_ + "/own.pem", dir_ + "/own.key", dir_ + "/ca.pem"};
  const TlsMetrics metrics({}, etcd), authority_alone({}, TlsFiles{.ca = etcd.ca}), both(Files(), etcd);
  Make("own", 30);
  EXPECT_THAT(HoursLeft(metrics), UnorderedElementsAre(Pair("etcd", 72), Pair("etcd_authority", 216)));
  EXPECT_THAT(HoursLeft(authority_alone), UnorderedElementsAre(Pair("etcd_authority", 216)));
  EXPECT_THAT(HoursLeft(both), UnorderedElementsAre(Pair("own", 720), Pair("authority", 216), Pair("etcd", 72),
                                                    Pair("etcd_authority", 216)));
}

TEST_F(TlsMetricsTest, TellsOfNbdsWithoutItsKeyAndSeesNewOnes) {
  const TlsMetrics metrics({}, {}, TlsFiles{.cert = dir_ + "/own.pem", .ca = dir_ + "/ca.pem"});
  EXPECT_THAT(HoursLeft(metrics), UnorderedElementsAre(Pair("nbd", 72), Pair("nbd_authority", 216)));
  Make("own", 30);
  std::filesystem::remove(dir_ + "/ca.pem");
  EXPECT_THAT(HoursLeft(metrics), UnorderedElementsAre(Pair("nbd", 720), Pair("nbd_authority", 216)));
  EXPECT_THAT(HoursLeft(TlsMetrics({}, {}, TlsFiles{.cert = dir_ + "/absent.pem"})), IsEmpty());
}

TEST_F(TlsMetricsTest, WithoutTlsThereIsNothingToTell) { EXPECT_THAT(HoursLeft(TlsMetrics({})), IsEmpty()); }

}  // namespace
}  // namespace weir::monitor
