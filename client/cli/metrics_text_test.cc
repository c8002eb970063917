#include "client/cli/metrics_text.h"

#include <cmath>
#include <limits>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Pair;
using ::testing::UnorderedElementsAre;

constexpr double kInfinite = std::numeric_limits<double>::infinity();

Scrape At(int seconds, absl::string_view text) {
  absl::StatusOr<Metrics> metrics = ParseMetrics(text);
  EXPECT_TRUE(metrics.ok()) << metrics.status();
  return {"p", absl::OkStatus(), *std::move(metrics), absl::Seconds(seconds)};
}

TEST(ParseMetricsTest, ReadsNamesLabelsAndValues) {
  const auto metrics = ParseMetrics(
      "# HELP a_total What it counts.\n"
      "# TYPE a_total counter\n"
      "a_total{volume=\"demo\",kind=\"read\"} 12\n"
      "a_total{kind=\"write\",} 3.5e3 1700000000000\n"
      "\n"
      "b -Inf\r\n"
      "c{} +Inf\n"
      "  d { x = \"1\" , y=\"2\" }  7 \n"
      "e{path=\"a\\\\b\\\"c\\n}\"} 1\n"
      "a_total{kind=\"write\"} 4\n");
  ASSERT_TRUE(metrics.ok()) << metrics.status();
  EXPECT_EQ(ValueOf(*metrics, "a_total", {{"kind", "read"}, {"volume", "demo"}}), 12);
  EXPECT_EQ(ValueOf(*metrics, "a_total", {{"kind", "write"}}), 4);  // the last one
  EXPECT_EQ(ValueOf(*metrics, "b", {}), -kInfinite);
  EXPECT_EQ(ValueOf(*metrics, "c", {}), kInfinite);
  EXPECT_EQ(ValueOf(*metrics, "d", {{"x", "1"}, {"y", "2"}}), 7);
  EXPECT_EQ(ValueOf(*metrics, "e", {{"path", "a\\b\"c\n}"}}), 1);
  EXPECT_EQ(ValueOf(*metrics, "e", {}), std::nullopt);
  EXPECT_EQ(ValueOf(*metrics, "f", {}), std::nullopt);
}

TEST(ParseMetricsTest, SaysWhichLineIsDamaged) {
  for (const char* line : {"a", "a{", "a{b", "a{b=", "a{b=1} 2", "a{b=\"1} 2", "a{b=\"1\\", "a{b=\"1\" c=\"2\"} 3", "a{b=\"1\"}",
                           "a x", "1a 2", "{b=\"1\"} 2", "<html>", "a{,} 1", "a 1e", "\xff\xfe 1"}) {
    const auto metrics = ParseMetrics(std::string("good 1\n") + line + "\n");
    EXPECT_EQ(metrics.status().code(), absl::StatusCode::kInvalidArgument) << line;
    EXPECT_THAT(std::string(metrics.status().message()), HasSubstr("line 2 is no metric: ")) << line;
  }
}

TEST(QuantileTest, IsWhatPrometheusSays) {
  struct Case {
    const char* name;
    double q;
    Buckets buckets;
    std::optional<double> want;
  };
  const Case kCases[] = {
      {"no bucket", 0.5, {}, std::nullopt},
      {"nothing observed", 0.5, {{1, 0}, {kInfinite, 0}}, std::nullopt},
      {"no infinite bucket", 0.5, {{1, 1}, {2, 2}}, std::nullopt},
      {"the infinite one alone", 0.5, {{kInfinite, 3}}, std::nullopt},
      {"within the first bucket, from 0", 0.5, {{1, 10}, {kInfinite, 10}}, 0.5},
      {"within the second", 0.75, {{1, 2}, {2, 4}, {kInfinite, 4}}, 1.5},
      {"at a bound", 0.5, {{1, 2}, {2, 4}, {kInfinite, 4}}, 1},
      {"past an empty bucket", 0.9, {{1, 0}, {2, 0}, {4, 10}, {kInfinite, 10}}, 3.8},
      {"in the last one: its lower bound", 0.99, {{1, 1}, {2, 2}, {kInfinite, 10}}, 2},
      {"a bucket below 0: its bound", 0.5, {{-1, 10}, {1, 10}, {kInfinite, 10}}, -1},
      {"counts that shrink are rounding", 0.5, {{1, 10}, {2, 9}, {kInfinite, 10}}, 0.5},
  };
  for (const Case& c : kCases) {
    const auto got = Quantile(c.q, c.buckets);
    ASSERT_EQ(got.has_value(), c.want.has_value()) << c.name;
    if (got) EXPECT_NEAR(*got, *c.want, 1e-9) << c.name;
  }
}

TEST(ChangeTest, RatesAreASecondAndSummedOverWhatIsNotKept) {
  const Scrape before = At(10, "n_total{kind=\"a\",volume=\"v\"} 100\nn_total{kind=\"b\",volume=\"v\"} 5\n");
  const Scrape now = At(12, "n_total{kind=\"a\",volume=\"v\"} 110\nn_total{kind=\"b\",volume=\"v\"} 9\n");
  const Change change(&before, now);
  EXPECT_THAT(change.Rates("n_total", {"volume"}), ElementsAre(Pair(Labels{{"volume", "v"}}, 7)));
  EXPECT_THAT(change.Rates("n_total", {"kind"}),
              UnorderedElementsAre(Pair(Labels{{"kind", "a"}}, 5), Pair(Labels{{"kind", "b"}}, 2)));
  EXPECT_THAT(change.Rates("m_total", {}), IsEmpty());
}

TEST(ChangeTest, ACounterThatIsNewOrBeganAnewCountsFromZero) {
  const Scrape before = At(0, "n_total{v=\"old\"} 100\nprocess_start_time_seconds 1\n");
  const Scrape attached_anew = At(1, "n_total{v=\"old\"} 30\nn_total{v=\"new\"} 4\nprocess_start_time_seconds 1\n");
  EXPECT_THAT(Change(&before, attached_anew).Rates("n_total", {"v"}),
              UnorderedElementsAre(Pair(Labels{{"v", "new"}}, 4), Pair(Labels{{"v", "old"}}, 30)));
  // Another process, which has counted beyond the old one meanwhile.
  const Scrape restarted = At(1, "n_total{v=\"old\"} 150\nprocess_start_time_seconds 2\n");
  EXPECT_THAT(Change(&before, restarted).Rates("n_total", {}), ElementsAre(Pair(Labels{}, 150)));
}

TEST(ChangeTest, NothingIsKnownOfOneLookOrOneWithoutAnAnswer) {
  const Scrape now = At(5, "n_total 3\nh_bucket{le=\"+Inf\"} 1\n");
  EXPECT_THAT(Change(nullptr, now).Rates("n_total", {}), IsEmpty());
  EXPECT_THAT(Change(nullptr, now).Observed("h", {}), IsEmpty());
  Scrape silent = At(4, "");
  silent.status = absl::UnavailableError("gone");
  EXPECT_THAT(Change(&silent, now).Rates("n_total", {}), IsEmpty());
  EXPECT_THAT(Change(&now, now).Rates("n_total", {}), IsEmpty());  // no time has passed
}

TEST(ChangeTest, HistogramsAreOfWhatWasObservedInBetween) {
  const Scrape before = At(0,
                           "h_bucket{v=\"x\",k=\"1\",le=\"1\"} 10\nh_bucket{v=\"x\",k=\"1\",le=\"+Inf\"} 10\n"
                           "h_bucket{v=\"x\",k=\"2\",le=\"1\"} 0\nh_bucket{v=\"x\",k=\"2\",le=\"+Inf\"} 7\n");
  const Scrape now = At(1,
                        "h_bucket{v=\"x\",k=\"1\",le=\"1\"} 12\nh_bucket{v=\"x\",k=\"1\",le=\"+Inf\"} 15\n"
                        // Began anew: one of its buckets says so, and then all count from 0.
                        "h_bucket{v=\"x\",k=\"2\",le=\"1\"} 2\nh_bucket{v=\"x\",k=\"2\",le=\"+Inf\"} 3\n"
                        "h_bucket{v=\"x\",k=\"3\",le=\"what\"} 2\n");
  const auto histograms = Change(&before, now).Observed("h", {"v"});
  EXPECT_THAT(histograms, ElementsAre(Pair(Labels{{"v", "x"}}, ElementsAre(Pair(1, 4), Pair(kInfinite, 8)))));
}

}  // namespace
}  // namespace weir::cli
