#include "proto/metrics/process.h"

#include <dirent.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <cstdint>
#include <fstream>
#include <sstream>

#include "proto/base/version.h"
#include "proto/metrics/families.h"

namespace weir::metrics {
namespace {

using prometheus::MetricFamily;
using prometheus::MetricType;

double CpuSeconds() {
  struct rusage usage;
  if (getrusage(RUSAGE_SELF, &usage) != 0) return 0;
  const auto seconds = [](const struct timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

struct Stat {
  double threads = 0;
  double start_ticks = 0;  // since the machine's start
  double virtual_bytes = 0;
  double resident_bytes = 0;
};

// proc(5), /proc/pid/stat; zeros if it cannot be read.
Stat ReadStat() {
  Stat stat;
  std::ifstream file("/proc/self/stat");
  std::string line;
  if (!std::getline(file, line)) return stat;
  // The name, in parentheses, may have any character in it.
  std::istringstream rest(line.substr(line.rfind(')') + 1));
  std::string word;
  for (int field = 3; rest >> word; ++field) {
    if (field == 20) stat.threads = std::stod(word);
    if (field == 22) stat.start_ticks = std::stod(word);
    if (field == 23) stat.virtual_bytes = std::stod(word);
    if (field == 24) stat.resident_bytes = std::stod(word) * static_cast<double>(sysconf(_SC_PAGESIZE));
    if (field == 24) break;
  }
  return stat;
}

// When the machine started, in seconds since 1970.
double BootTime() {
  std::ifstream file("/proc/stat");
  std::string word;
  double seconds = 0;
  while (file >> word) {
    if (word == "btime" && file >> seconds) break;
  }
  return seconds;
}

double OpenFiles() {
  DIR* folder = opendir("/proc/self/fd");
  if (folder == nullptr) return 0;
  double files = -3;  // ".", ".." and the folder itself
  while (readdir(folder) != nullptr) ++files;
  closedir(folder);
  return files;
}

double FilesMax() {
  struct rlimit limit;
  return getrlimit(RLIMIT_NOFILE, &limit) == 0 ? static_cast<double>(limit.rlim_cur) : 0;
}

}  // namespace

std::vector<MetricFamily> ProcessCollector::Collect() const {
  std::vector<MetricFamily> families;
  const auto add = [&families](MetricType type, const char* name, const char* help, double value) {
    MetricFamily& family = families.emplace_back(MakeFamily(type, name, help));
    type == MetricType::Counter ? AddCounter(family, {}, value) : AddGauge(family, {}, value);
  };
  families.push_back(MakeFamily(MetricType::Gauge, "weir_build_info", "1; the labels say what runs."));
  AddGauge(families.back(), {{"component", component_}, {"version", kVersion}}, 1);
  const Stat stat = ReadStat();
  add(MetricType::Counter, "process_cpu_seconds_total", "CPU time in user and system mode.", CpuSeconds());
  add(MetricType::Gauge, "process_resident_memory_bytes", "Memory that is in RAM.", stat.resident_bytes);
  add(MetricType::Gauge, "process_virtual_memory_bytes", "Address space.", stat.virtual_bytes);
  add(MetricType::Gauge, "process_threads", "Threads.", stat.threads);
  add(MetricType::Gauge, "process_open_fds", "Open file descriptors.", OpenFiles());
  add(MetricType::Gauge, "process_max_fds", "How many file descriptors may be open.", FilesMax());
  add(MetricType::Gauge, "process_start_time_seconds", "When it started, since 1970 UTC.",
      BootTime() + stat.start_ticks / static_cast<double>(sysconf(_SC_CLK_TCK)));
  return families;
}

}  // namespace weir::metrics
