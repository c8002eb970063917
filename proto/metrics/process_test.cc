#include "proto/base/version.h"
#include "proto/metrics/process.h"

#include <fcntl.h>
#include <unistd.h>

#include <chrono>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "prometheus/metric_family.h"
#include "prometheus/metric_type.h"

namespace weir::metrics {
namespace {

using prometheus::MetricFamily;

double ValueOf(const std::vector<MetricFamily>& families, const std::string& name) {
  for (const MetricFamily& family : families) {
    if (family.name != name) continue;
    EXPECT_EQ(family.metric.size(), 1u) << name;
    return family.type == prometheus::MetricType::Counter ? family.metric[0].counter.value
                                                          : family.metric[0].gauge.value;
  }
  ADD_FAILURE() << name << " is missing";
  return -1;
}

TEST(ProcessTest, TellsWhatTheProcessUses) {
  const ProcessCollector collector("tested");
  const std::vector<MetricFamily> before = collector.Collect();
  EXPECT_GT(ValueOf(before, "process_cpu_seconds_total"), 0);
  EXPECT_GT(ValueOf(before, "process_resident_memory_bytes"), 1 << 20);
  EXPECT_GT(ValueOf(before, "process_virtual_memory_bytes"), ValueOf(before, "process_resident_memory_bytes"));
  EXPECT_GE(ValueOf(before, "process_threads"), 1);
  EXPECT_LT(ValueOf(before, "process_open_fds"), ValueOf(before, "process_max_fds"));
  const double now = static_cast<double>(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now()));
  EXPECT_LE(ValueOf(before, "process_start_time_seconds"), now + 2);
  EXPECT_GT(ValueOf(before, "process_start_time_seconds"), now - 3600);
}

TEST(ProcessTest, AFileThatIsOpenedIsCounted) {
  const ProcessCollector collector("tested");
  const double before = ValueOf(collector.Collect(), "process_open_fds");
  const int fd = open("/dev/null", O_RDONLY);
  ASSERT_GE(fd, 0);
  EXPECT_EQ(ValueOf(collector.Collect(), "process_open_fds"), before + 1);
  close(fd);
  EXPECT_EQ(ValueOf(collector.Collect(), "process_open_fds"), before);
}

TEST(ProcessTest, SaysWhatRuns) {
  const std::vector<MetricFamily> families = ProcessCollector("tested").Collect();
  ASSERT_EQ(families[0].name, "weir_build_info");
  const auto& labels = families[0].metric.at(0).label;
  ASSERT_EQ(labels.size(), 2u);
  EXPECT_EQ(labels[0].value, "tested");
  EXPECT_EQ(labels[1].name, "version");
  EXPECT_EQ(labels[1].value, kVersion);
}

}  // namespace
}  // namespace weir::metrics
