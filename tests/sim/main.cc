// Tries many simulated clusters; see ops/simulate --help.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "tests/sim/clone_world.h"
#include "tests/sim/cluster.h"
#include "tests/sim/rocks_store.h"
#include "tests/sim/shrink.h"

namespace weir::sim {
namespace {

struct Flags {
  uint64_t first = 1;
  uint64_t seeds = 20000;
  double hours = 0;  // instead of seeds
  int jobs = 1;
  bool replay = false;  // `first`, with its transcript
  bool quiet = false;
  bool rocksdb = false;
  ClusterOptions cluster;
};

// One seed in a hundred runs twice and must do the same; not on the real store, whose threads are its own.
constexpr uint64_t kTwiceEvery = 100;
constexpr absl::Duration kProgressEvery = absl::Seconds(5);

struct Totals {
  uint64_t clusters = 0;
  uint64_t ok = 0;
  uint64_t failed = 0;
  uint64_t attaches = 0;
  uint64_t steps = 0;
  uint64_t old_catalogs = 0;
  uint64_t restores = 0;
  uint64_t deletions = 0;
  uint64_t replaced = 0;
  uint64_t leftovers = 0;
  uint64_t trace_hash = 0;  // in whatever order they ran
  std::vector<uint64_t> faults = std::vector<uint64_t>(static_cast<size_t>(Fault::kFaultKinds));

  void Add(const ClusterResult& result) {
    ++clusters;
    ok += result.requests_ok;
    failed += result.requests_failed;
    attaches += result.attaches;
    steps += result.steps;
    old_catalogs += result.old_catalogs;
    restores += result.restores;
    deletions += result.deletions;
    replaced += result.replaced;
    leftovers += result.leftovers;
    trace_hash += result.trace_hash;
    for (size_t i = 0; i < faults.size(); ++i) faults[i] += result.faults[i];
  }
};

// Of this thread's cluster, for a CHECK of the code itself that fails.
thread_local uint64_t seed_under_way = 0;

void TellSeed(int signal) {
  char line[64];
  const int length = std::snprintf(line, sizeof line, "seed %lu: it crashes\n",
                                   static_cast<unsigned long>(seed_under_way));
  (void)!write(STDERR_FILENO, line, static_cast<size_t>(length));
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

class Simulation {
 public:
  explicit Simulation(Flags flags) : flags_(flags), next_(flags.first) {}

  int Run() {
    std::vector<std::thread> threads;
    for (int i = 1; i < flags_.jobs; ++i) threads.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : threads) thread.join();
    absl::MutexLock lock(&mutex_);
    Report();
    return failing_seed_ == 0 ? 0 : 1;
  }

 private:
  bool Over() const {
    if (flags_.hours > 0) return absl::Now() - start_ >= absl::Hours(1) * flags_.hours;
    return next_ >= flags_.first + flags_.seeds;
  }

  void Work() {
    while (failing_seed_ == 0 && !Over()) {
      const uint64_t seed = seed_under_way = next_++;
      const ClusterResult result = Cluster(seed, flags_.cluster).Run();
      std::string violation = result.violation;
      if (violation.empty() && !flags_.rocksdb && seed % kTwiceEvery == 0) {
        const ClusterResult again = Cluster(seed, flags_.cluster).Run();
        if (again.trace_hash != result.trace_hash) violation = "the same seed did something else";
      }
      absl::MutexLock lock(&mutex_);
      totals_.Add(result);
      if (!violation.empty()) Fail(seed, violation);
      Progress();
    }
  }

  void Fail(uint64_t seed, const std::string& violation) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const ClusterOptions shrunk = Shrink(seed, flags_.cluster);
    const char* store = flags_.rocksdb ? " --rocksdb" : "";
    std::printf("seed %lu: %s\n  replay: ops/simulate %s%s\n  shrunk: ops/simulate %s%s\n",
                static_cast<unsigned long>(seed), violation.c_str(),
                FlagsOf(seed, flags_.cluster).c_str(), store, FlagsOf(seed, shrunk).c_str(), store);
    failing_seed_ = seed;
  }

  void Progress() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    if (flags_.quiet || absl::Now() - shown_ < kProgressEvery) return;
    shown_ = absl::Now();
    const double seconds = absl::ToDoubleSeconds(shown_ - start_);
    const double part = flags_.hours > 0 ? seconds / (flags_.hours * 3600)
                                         : static_cast<double>(totals_.clusters) / flags_.seeds;
    std::fprintf(stderr, "%lu clusters, %.0f a second, %.0f %%\n",
                 static_cast<unsigned long>(totals_.clusters), totals_.clusters / seconds,
                 100 * part);
  }

  void Report() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
    std::printf("%lu clusters in %.1f s (%.0f a second), seeds from %lu; requests: %lu OK, %lu "
                "failed; %lu attaches; %.2f us a step, of %lu; traces %016lx\n",
                static_cast<unsigned long>(totals_.clusters), seconds,
                totals_.clusters / seconds, static_cast<unsigned long>(flags_.first),
                static_cast<unsigned long>(totals_.ok), static_cast<unsigned long>(totals_.failed),
                static_cast<unsigned long>(totals_.attaches),
                1e6 * seconds * flags_.jobs / static_cast<double>(std::max<uint64_t>(totals_.steps, 1)),
                static_cast<unsigned long>(totals_.steps), static_cast<unsigned long>(totals_.trace_hash));
    for (size_t i = 0; i < totals_.faults.size(); ++i) {
      std::printf("  %-18s %lu\n", NameOf(static_cast<Fault>(i)),
                  static_cast<unsigned long>(totals_.faults[i]));
    }
    std::printf("  %-18s %lu\n", "old catalog", static_cast<unsigned long>(totals_.old_catalogs));
    std::printf("  %-18s %lu\n", "restored", static_cast<unsigned long>(totals_.restores));
    std::printf("  %-18s %lu\n", "deleted", static_cast<unsigned long>(totals_.deletions));
    std::printf("  %-18s %lu\n", "replaced members", static_cast<unsigned long>(totals_.replaced));
    std::printf("  %-18s %lu\n", "deleted leftovers", static_cast<unsigned long>(totals_.leftovers));
  }

  const Flags flags_;
  const absl::Time start_ = absl::Now();
  std::atomic<uint64_t> next_;
  std::atomic<uint64_t> failing_seed_{0};
  absl::Mutex mutex_;
  Totals totals_ ABSL_GUARDED_BY(mutex_);
  absl::Time shown_ ABSL_GUARDED_BY(mutex_) = absl::Now();
};

// Each seed a parent and its clone, instead of a cluster.
class CloneSimulation {
 public:
  explicit CloneSimulation(const Flags& flags)
      : first_(flags.first), last_(flags.first + flags.seeds), jobs_(flags.jobs),
        options_{.requests = std::min<uint64_t>(flags.cluster.requests, 150), .faults = flags.cluster.faults} {}

  int Run() {
    next_ = first_;
    std::vector<std::thread> threads;
    for (int i = 1; i < jobs_; ++i) threads.emplace_back([this] { Work(); });
    Work();
    for (std::thread& thread : threads) thread.join();
    absl::MutexLock lock(&mutex_);
    std::printf("%lu clones in %.1f s, seeds from %lu, %lu of a clone; requests: %lu OK, %lu failed; %lu were read from the parent, %lu held for it, %lu blocks "
                "copied, %lu flattened; %lu calls cut short, %lu deletions refused, %lu snapshots deleted; %lu snapshots of clones; "
                "%lu steps\n",
                worlds_, absl::ToDoubleSeconds(absl::Now() - start_), first_, totals_.lines_of_three, totals_.requests_ok,
                totals_.requests_failed, totals_.fallen_through, totals_.held_for_parents, totals_.copied, totals_.flattened, totals_.cut_short,
                totals_.refused, totals_.deleted, totals_.snapshots, totals_.steps);
    return failed_ ? 1 : 0;
  }

  int Replay() {
    CloneWorldOptions options = options_;
    options.trace = true;
    CloneWorld world(first_, options);
    const std::string violation = world.Run().violation;
    for (const std::string& line : world.trace()) std::printf("%s\n", line.c_str());
    std::printf("seed %lu: %s\n", first_, violation.empty() ? "nothing is wrong" : violation.c_str());
    return violation.empty() ? 0 : 1;
  }

 private:
  void Work() {
    for (uint64_t seed = next_++; seed < last_ && !failed_; seed = next_++) {
      seed_under_way = seed;
      CloneWorldResult result = CloneWorld(seed, options_).Run();
      const bool twice = result.violation.empty() && seed % kTwiceEvery == 0;
      if (twice && CloneWorld(seed, options_).Run().trace_hash != result.trace_hash) {
        result.violation = "the same seed did something else";
      }
      absl::MutexLock lock(&mutex_);
      ++worlds_;
      totals_.Add(result);
      if (result.violation.empty()) continue;
      failed_ = true;
      std::printf("seed %lu: %s\n  replay: ops/simulate --clones --requests=%lu --faults=%lu --seed=%lu\n", seed,
                  result.violation.c_str(), options_.requests, options_.faults, seed);
    }
  }

  const uint64_t first_;
  const uint64_t last_;
  const int jobs_;
  const CloneWorldOptions options_;
  const absl::Time start_ = absl::Now();
  std::atomic<uint64_t> next_{0};
  std::atomic<bool> failed_{false};
  absl::Mutex mutex_;
  uint64_t worlds_ ABSL_GUARDED_BY(mutex_) = 0;
  CloneWorldResult totals_ ABSL_GUARDED_BY(mutex_);
};

int Replay(const Flags& flags) {
  ClusterOptions options = flags.cluster;
  options.trace = true;
  Cluster cluster(flags.first, options);
  const ClusterResult result = cluster.Run();
  for (const std::string& line : cluster.trace()) std::printf("%s\n", line.c_str());
  std::printf("seed %lu: %s\n", static_cast<unsigned long>(flags.first),
              result.violation.empty() ? "nothing is wrong" : result.violation.c_str());
  return result.violation.empty() ? 0 : 1;
}

int Main(int argc, char** argv) {
  Flags flags;
  uint64_t seed = 0;
  bool anything_goes = false;
  std::string script;
  std::vector<uint64_t> skipped;
  CLI::App app("Tries simulated clusters under random faults and judges them by the contract");
  app.add_option("--seeds", flags.seeds, "how many clusters")->capture_default_str();
  app.add_option("--hours", flags.hours, "instead of --seeds: for how long");
  app.add_option("--first-seed", flags.first, "the first seed; others follow")
      ->capture_default_str();
  app.add_option("--seed", seed, "replay this one seed and print its transcript");
  app.add_option("--jobs", flags.jobs, "threads")->capture_default_str();
  app.add_option("--requests", flags.cluster.requests, "requests of a cluster")
      ->capture_default_str();
  app.add_option("--faults", flags.cluster.faults, "faults of a cluster")->capture_default_str();
  app.add_option("--skip-fault", skipped, "with --seed: not this one of its faults, from 0")
      ->check(CLI::Range(0, 63));
  app.add_option("--script", script, "not any fault, but those of this schedule")
      ->check(CLI::IsMember(ScriptNames()));
  app.add_flag("--restores", flags.cluster.restores, "a volume that is suspended is restored, every other time");
  app.add_flag("--deletes", flags.cluster.deletes, "its volume is deleted, while it is used");
  app.add_flag("--replaces", flags.cluster.replaces, "members' places are given to other replicas, and what those had is deleted")
      ->excludes("--restores")->excludes("--deletes");
  app.add_flag("--anything-goes", anything_goes,
               "also faults that take the last good copy: safety is judged, liveness is not");
  bool clones = false;
  app.add_flag("--clones", clones, "of each seed not a cluster but a volume and its clone; --requests: at most 150")
      ->excludes("--hours")->excludes("--skip-fault")->excludes("--script")->excludes("--anything-goes")->excludes("--deletes");
  app.add_flag("--rocksdb", flags.rocksdb,
               "replicas keep their data in the real store, on disks in memory: slower, and a seed "
               "need not do the same again");
  app.add_flag("--quiet", flags.quiet, "no progress");
  CLI11_PARSE(app, argc, argv);
  flags.cluster.survivable = !anything_goes;
  if (flags.rocksdb) flags.cluster.make_store = MakeRocksStore;
  flags.cluster.script = FindScript(script);
  for (uint64_t fault : skipped) flags.cluster.skipped_faults |= uint64_t{1} << fault;
  for (int signal : {SIGABRT, SIGSEGV}) std::signal(signal, TellSeed);
  if (seed == 0) return clones ? CloneSimulation(flags).Run() : Simulation(flags).Run();
  flags.first = seed_under_way = seed;
  if (clones) return CloneSimulation(flags).Replay();
  return Replay(flags);
}

}  // namespace
}  // namespace weir::sim

int main(int argc, char** argv) {
  // Nothing here can deadlock: one thread a cluster. To look for it costs one part in thirty.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  return weir::sim::Main(argc, argv);
}
