// weirctl top: looks at all processes of a cluster again and again, and shows what happens.
#include <signal.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "client/cli/commands.h"
#include "client/cli/held_signals.h"
#include "client/cli/http_get.h"
#include "client/cli/screen.h"
#include "client/cli/top_text.h"
#include "client/cli/top_view.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

// For each process to answer; they are asked at once, so a dead machine delays a look by no more than this.
constexpr absl::Duration kAnswerWithin = absl::Seconds(2);
constexpr absl::Duration kIntervalMin = absl::Milliseconds(100);
// A process with thousands of volumes has some MiB.
constexpr size_t kPageBytesMax = 64 << 20;
constexpr char kFooter[] =
    "In a terminal it is drawn in place until Ctrl-C; else a table each interval, or a line of JSON.\n"
    "Figures a second and quantiles are of the last interval, '-' is not known. WRITE/S counts zeroes, discards\n"
    "and barriers too. AGE: what was answered so long ago is durable everywhere; NOT_DURABLE: data that is not yet.\n"
    "HELD: why requests are not carried on with, and how many; 'weirctl explain VOLUME' says more.\n"
    "Examples:\n"
    "  weirctl top\n"
    "  weirctl top --volume=demo --interval=5s\n"
    "  weirctl top --count=1 --output=json\n"
    "  weirctl top --metrics=replica1=http://10.0.0.1:7801/metrics,volume=http://10.0.0.4:7800/metrics";

struct Flags {
  std::string metrics;
  std::string volume;
  std::string interval = "1s";
  uint64_t count = 0;
};

// absl::Now() may jump; this does not.
absl::Duration Monotonic() {
  timespec now;
  clock_gettime(CLOCK_MONOTONIC, &now);
  return absl::DurationFromTimespec(now);
}

// The processes to look at. Thread-safety: none; Take() has threads of its own, and has joined them when it returns.
class Processes {
 public:
  Processes(NamedValues metrics_urls, const NamedValues& frontends, absl::Duration timeout)
      : metrics_urls_(std::move(metrics_urls)), timeout_(timeout) {
    for (const auto& [name, address] : frontends) frontends_.push_back({name, address, nullptr});
  }

  // Asks all at once. Blocks for little more than the timeout, whatever they do.
  Look Take() {
    Look look;
    look.scrapes.resize(metrics_urls_.size());
    std::vector<absl::StatusOr<std::vector<v1::Volume>>> listed(frontends_.size(), absl::UnknownError(""));
    std::vector<std::thread> asking;
    for (size_t i = 0; i < metrics_urls_.size(); ++i) {
      asking.emplace_back([&, i] { look.scrapes[i] = TakeScrape(metrics_urls_[i]); });
    }
    for (size_t i = 0; i < frontends_.size(); ++i) {
      asking.emplace_back([&, i] { listed[i] = List(frontends_[i]); });
    }
    for (std::thread& one : asking) one.join();
    for (size_t i = 0; i < frontends_.size(); ++i) {
      if (listed[i].ok()) {
        look.volumes.insert(look.volumes.end(), listed[i]->begin(), listed[i]->end());
      } else {
        look.frontends.push_back({absl::StrCat(frontends_[i].name, " (gRPC)"), std::string(listed[i].status().message())});
      }
    }
    return look;
  }

 private:
  struct Frontend {
    std::string name, address;
    std::unique_ptr<Client> client;  // null: not connected yet, or anew
  };

  Scrape TakeScrape(const std::pair<std::string, std::string>& named) const {
    Scrape scrape;
    scrape.process = named.first;
    const absl::Duration asked = Monotonic();
    const absl::StatusOr<std::string> page = HttpGet(named.second, timeout_, kPageBytesMax);
    scrape.at = (asked + Monotonic()) / 2;  // it was written at some moment in between
    scrape.status = page.status();
    if (!page.ok()) return scrape;
    absl::StatusOr<Metrics> metrics = ParseMetrics(*page);
    if (metrics.ok()) {
      scrape.metrics = *std::move(metrics);
    } else {
      scrape.status = absl::UnavailableError(absl::StrCat(named.second, ": ", metrics.status().message()));
    }
    return scrape;
  }

  absl::StatusOr<std::vector<v1::Volume>> List(Frontend& frontend) const {
    if (frontend.client == nullptr) {
      ClientOptions options;
      options.connect_timeout = options.timeout = timeout_;
      ASSIGN_OR_RETURN(frontend.client, Client::Connect(frontend.address, options));
    }
    absl::StatusOr<std::vector<v1::Volume>> volumes = frontend.client->ListVolumes();
    if (!volumes.ok()) frontend.client.reset();
    return volumes;
  }

  const NamedValues metrics_urls_;
  const absl::Duration timeout_;
  std::vector<Frontend> frontends_;
};

// Whether there is anything to show.
absl::Status Check(const Look& look, const std::string& volume) {
  std::vector<std::string> whys;
  for (const Scrape& scrape : look.scrapes) {
    if (!scrape.status.ok()) whys.emplace_back(scrape.status.message());
  }
  if (whys.size() == look.scrapes.size()) {
    return absl::UnavailableError(absl::StrCat("no process shows its metrics (", absl::StrJoin(whys, ", "),
                                               "); check that they run, and --metrics"));
  }
  // One that does not answer may have it.
  if (!volume.empty() && whys.empty() && look.frontends.empty() && MakeTopView(nullptr, look, volume).volumes.empty()) {
    return absl::NotFoundError(absl::StrCat("no volume ", volume));
  }
  return absl::OkStatus();
}

// Shows views as --output and where it goes demand.
class Display {
 public:
  Display(Context& context, absl::Duration interval) : context_(context), interval_(interval) {
    if (!context.json() && Screen::Is(context.out)) screen_.emplace(context.out);
  }

  bool in_place() const { return screen_.has_value(); }

  void Show(TopView view) {
    view_ = std::move(view);
    taken_ = absl::Now();
    if (in_place()) return Redraw();
    if (context_.json()) {
      context_.out << TopJson(view_, absl::FormatTime(absl::RFC3339_full, taken_, absl::UTCTimeZone())) << std::flush;
      return;
    }
    context_.out << (shown_++ == 0 ? "" : "\n") << absl::StrJoin(TopLines(view_, Title(), TopSize()), "\n") << std::endl;
  }

  // The last view again, in the size that the terminal has by now.
  void Redraw() {
    if (in_place()) screen_->Draw(TopLines(view_, Title(), screen_->Size()));
  }

 private:
  std::string Title() const {
    return absl::StrCat("weirctl top  ", absl::FormatTime("%H:%M:%S", taken_, absl::LocalTimeZone()), "  every ",
                        absl::FormatDuration(interval_), "  volumes ", view_.volumes.size(), "  replicas ",
                        view_.replicas.size());
  }

  Context& context_;
  const absl::Duration interval_;
  std::optional<Screen> screen_;  // only in a terminal
  TopView view_;
  absl::Time taken_;
  uint64_t shown_ = 0;
};

// Until the interval is over: true; or a signal ends it all: false.
bool Wait(const HeldSignals& signals, absl::Duration until, Display& display) {
  for (;;) {
    const absl::Duration left = until - Monotonic();
    const int signal = signals.Await(left);
    if (signal == SIGWINCH) {
      display.Redraw();
    } else if (signal != 0) {
      return false;
    } else if (Monotonic() >= until) {
      return true;
    }
  }
}

absl::Status Watch(Processes& processes, const Flags& flags, absl::Duration interval, const HeldSignals& signals,
                   Context& context) {
  absl::Duration begun = Monotonic();
  Look before = processes.Take();
  RETURN_IF_ERROR(Check(before, flags.volume));
  Display display(context, interval);
  if (display.in_place()) display.Show(MakeTopView(nullptr, before, flags.volume));
  for (uint64_t shown = 0; flags.count == 0 || shown < flags.count; ++shown) {
    if (!Wait(signals, begun + interval, display)) return absl::OkStatus();
    begun = Monotonic();
    Look now = processes.Take();
    display.Show(MakeTopView(&before, now, flags.volume));
    if (!context.out) return absl::DataLossError("what top shows cannot be written; see where its output goes");
    before = std::move(now);
  }
  return absl::OkStatus();
}

// The processes whose metrics to read: those of --metrics, else all of the cluster.
absl::StatusOr<NamedValues> MetricsUrls(const ClusterEnv& env, const std::string& flag) {
  if (!flag.empty()) return ParseMetricsUrls(flag, {});
  std::vector<std::string> names;
  for (const NamedValues* processes : {&env.replica_addrs, &env.volume_addrs}) {
    for (const auto& [name, address] : *processes) names.push_back(name);
  }
  return ParseMetricsUrls(env.metrics_urls, names);
}

absl::Status RunTop(const Flags& flags, Context& context) {
  absl::Duration interval;
  if (!absl::ParseDuration(flags.interval, &interval) || interval < kIntervalMin || interval > absl::Hours(1)) {
    return context.Usage(absl::InvalidArgumentError(
        absl::StrCat("--interval=", flags.interval, ": give one from 100ms to 1h, such as 1s")));
  }
  ASSIGN_OR_RETURN(const ClusterEnv env, context.Environment());
  const absl::StatusOr<NamedValues> urls = MetricsUrls(env, flags.metrics);
  if (!urls.ok()) return context.Usage(urls.status());
  if (urls->empty()) {
    return context.Usage(absl::InvalidArgumentError(
        "where the processes show their metrics is not known; give --cluster=DIR (or WEIR_CLUSTER) or "
        "--metrics=URL,..."));
  }
  NamedValues frontends = env.volume_addrs;
  if (!context.volume_addr.empty()) frontends = {{"frontend", context.volume_addr}};
  const HeldSignals signals({SIGWINCH});
  Processes processes(*urls, frontends, std::min(kAnswerWithin, absl::Seconds(context.timeout_s)));
  return Watch(processes, flags, interval, signals, context);
}

}  // namespace

void AddTopCommand(CLI::App& app, Context& context) {
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags] { return RunTop(*flags, context); };
  CLI::App* command = AddCommand(&app, context, "top",
                                 "a live view of volumes, flushes, targets, resyncs and replicas", body);
  command->add_option("--volume", flags->volume, "only this one, and its replicas")->type_name("NAME");
  command->add_option("--interval", flags->interval, "between two looks")->capture_default_str();
  command->add_option("--count", flags->count, "end after so many views; 0: go on")->capture_default_str();
  command->add_option("--metrics", flags->metrics,
                      "where the processes show their metrics; else those of the cluster")
      ->type_name("[NAME=]URL,...");
  command->footer(kFooter);
}

}  // namespace weir::cli
