// What does the simulator find, and where does it come? See ops/simulate --mutations --help and
// --marks.
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <map>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/check.h"
#include "tests/mutation/copy/tests/sim/clone_world.h"
#include "tests/mutation/copy/tests/sim/cluster.h"
#include "tests/mutation/mark.h"
#include "tests/mutation/mutant.h"

// The linker's names for where all marks lie.
extern weir::Mark __start_weir_marks[];
extern weir::Mark __stop_weir_marks[];

namespace weir::sim {
namespace {

struct Mutant {
  const char* name;
  const char* rule;
  // That finds it; empty: any may. Or clusters of one kind: whose volume is deleted, or restored; kClones: each a CloneWorld.
  const char* script;
  uint64_t seed;       // tried first; 0: there is none
};
constexpr Mutant kMutants[] = {
#include "tests/mutation/mutants.inc"
};

constexpr char kClones[] = "clones";
constexpr char kDeletes[] = "deletes";
constexpr char kRestores[] = "restores";
constexpr char kReplaces[] = "replaces";
bool IsOf(const Mutant& mutant, const char* kind) { return std::strcmp(mutant.script, kind) == 0; }
bool OfClones(const Mutant& mutant) { return IsOf(mutant, kClones); }
bool OfKind(const Mutant& mutant) {
  return OfClones(mutant) || IsOf(mutant, kDeletes) || IsOf(mutant, kRestores) || IsOf(mutant, kReplaces);
}

constexpr unsigned kClusterSecondsMax = 20;  // one takes a few ms; a mutant may never end
constexpr rlim_t kMemoryBytesMax = rlim_t{4} << 30;

struct Flags {
  uint64_t seeds = 100000;
  int jobs = 1;
  uint64_t seed = 0;
  std::vector<std::string> only;
  const Script* script = nullptr;
  bool marks = false;
  std::string table;
};

// The later ones are for --script: each is there for what the others do not find.
constexpr size_t kScriptsAmongOthers = 5;

// Odd seeds keep a good copy, so that liveness is judged; with even ones anything goes. Three in seven are of a script.
// `script`: all are of that one, if it is not null.
ClusterOptions OptionsOf(uint64_t seed, const Script* script) {
  ClusterOptions options;
  options.script = script;
  if (script == nullptr && seed % 7 >= 4) options.script = &Scripts()[seed / 35 % kScriptsAmongOthers];
  if (seed % 2 != 0) return options;
  options.survivable = false;
  options.faults = 30;
  return options;
}

// What a child has come to; shared with its parent, so that it outlives a crash.
struct Progress {
  uint64_t seed = 0;
  char violation[300] = "";
};

struct Finding {
  bool found = false;
  uint64_t seed = 0;
  std::string violation;
};

// Null: of whichever script its seed says, or none.
const Script* ScriptFor(const Mutant& mutant, const Flags& flags) {
  if (flags.script != nullptr || *mutant.script == '\0' || OfKind(mutant)) return flags.script;
  const Script* script = FindScript(mutant.script);
  CHECK(script != nullptr);
  return script;
}

ClusterOptions OptionsFor(const Mutant& mutant, uint64_t seed, const Script* script) {
  ClusterOptions options = OptionsOf(seed, script);
  options.deletes = IsOf(mutant, kDeletes);
  options.restores = IsOf(mutant, kRestores);
  options.replaces = IsOf(mutant, kReplaces);
  return options;
}

void TrySeed(uint64_t seed, const Mutant& mutant, const Script* script, Progress* progress) {
  progress->seed = seed;
  alarm(kClusterSecondsMax);
  const std::string violation = OfClones(mutant) ? CloneWorld(seed, CloneWorldOptions()).Run().violation
                                                 : Cluster(seed, OptionsFor(mutant, seed, script)).Run().violation;
  if (violation.empty()) return;
  std::snprintf(progress->violation, sizeof(progress->violation), "%s", violation.c_str());
  _exit(1);
}

// In a process of its own: a mutant may crash, loop, or eat all memory.
void Try(size_t index, const Flags& flags, Progress* progress) {
  active_mutant = static_cast<int>(index + 1);
  const rlimit limit{kMemoryBytesMax, kMemoryBytesMax};
  setrlimit(RLIMIT_AS, &limit);
  const Mutant& mutant = kMutants[index];
  const Script* script = ScriptFor(mutant, flags);
  if (mutant.seed > 0 && flags.script == nullptr) TrySeed(mutant.seed, mutant, script, progress);
  for (uint64_t seed = 1; seed <= flags.seeds; ++seed) TrySeed(seed, mutant, script, progress);
  _exit(0);
}

Finding FindingOf(const Progress& progress, int status) {
  Finding finding{.found = true, .seed = progress.seed, .violation = progress.violation};
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) finding.found = false;
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    finding.violation = signal == SIGALRM  ? "it does not end"
                        : signal == SIGABRT ? "a CHECK of the code itself"
                                            : absl::StrCat("it crashes with signal ", signal);
  }
  return finding;
}

class Check {
 public:
  explicit Check(Flags flags) : flags_(std::move(flags)), findings_(std::size(kMutants)) {}

  int Run() {
    for (size_t i = 0; i < std::size(kMutants); ++i) {
      if (!Wanted(i)) continue;
      while (children_.size() >= static_cast<size_t>(flags_.jobs)) Await();
      Begin(i);
    }
    while (!children_.empty()) Await();
    if (!flags_.table.empty()) WriteTable();
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start_);
    std::printf("%lu mutants, %lu survived, %.0f s\n", tried_, survived_, seconds);
    return survived_ == 0 ? 0 : 1;
  }

 private:
  struct Child {
    size_t mutant = 0;
    Progress* progress = nullptr;
  };

  bool Wanted(size_t index) const {
    return flags_.only.empty() ||
           std::find(flags_.only.begin(), flags_.only.end(), kMutants[index].name) !=
               flags_.only.end();
  }

  void Begin(size_t index) {
    void* shared = mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE,
                        MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    CHECK(shared != MAP_FAILED);
    auto* progress = new (shared) Progress();
    std::fflush(stdout);
    const pid_t pid = fork();
    CHECK(pid >= 0);
    if (pid == 0) Try(index, flags_, progress);
    children_[pid] = {index, progress};
  }

  void Await() {
    int status = 0;
    const pid_t pid = wait(&status);
    const auto child = children_.find(pid);
    CHECK(child != children_.end());
    const size_t index = child->second.mutant;
    const Finding finding = findings_[index] = FindingOf(*child->second.progress, status);
    munmap(child->second.progress, sizeof(Progress));
    children_.erase(child);
    ++tried_;
    if (!finding.found) ++survived_;
    std::printf("%-42s %s\n", kMutants[index].name,
                finding.found
                    ? absl::StrCat("seed ", finding.seed, ": ", finding.violation).c_str()
                    : "SURVIVED");
    std::fflush(stdout);
  }

  void WriteTable() const {
    std::ofstream out(flags_.table);
    out << "# Mutations: deliberate bugs, and the schedule that finds each\n\n"
           "Written by `ops/simulate --mutations`; the bugs are in `tests/mutation/mutants.txt`. "
           "Seeds are tried from 1, so a\nseed's number is how many schedules it took, but where "
           "`mutants.txt` names one to begin with. Replay one:\n`ops/simulate --mutations "
           "--only=NAME --seed=N`.\n\n"
           "| rule | mutant | seed | found by |\n| --- | --- | --- | --- |\n";
    for (size_t i = 0; i < std::size(kMutants); ++i) {
      const Finding& finding = findings_[i];
      const Script* script = ScriptFor(kMutants[i], flags_);
      const std::string of = OfKind(kMutants[i]) ? absl::StrCat(" of `--", kMutants[i].script, "`")
                             : script == nullptr ? ""
                                                 : absl::StrCat(" of `--script=", script->name, "`");
      out << "| " << kMutants[i].rule << " | `" << kMutants[i].name << "` | "
          << (finding.found ? absl::StrCat(finding.seed, of) : "-") << " | "
          << (finding.found ? finding.violation : "**survived**") << " |\n";
    }
  }

  const Flags flags_;
  const absl::Time start_ = absl::Now();
  std::vector<Finding> findings_;
  std::map<pid_t, Child> children_;
  uint64_t tried_ = 0;
  uint64_t survived_ = 0;
};

// Clusters without a bug: how often do they come to each mark?
int ShowMarks(uint64_t seeds) {
  for (uint64_t seed = 1; seed <= seeds; ++seed) {
    const ClusterResult result = Cluster(seed, OptionsOf(seed, nullptr)).Run();
    if (result.violation.empty()) continue;
    std::printf("seed %lu: %s\n", seed, result.violation.c_str());
    return 1;
  }
  std::vector<const Mark*> marks;
  for (const Mark* mark = __start_weir_marks; mark < __stop_weir_marks; ++mark) {
    marks.push_back(mark);
  }
  std::stable_sort(marks.begin(), marks.end(), [](const Mark* a, const Mark* b) {
    return a->hits.load() < b->hits.load();
  });
  uint64_t never = 0;
  for (const Mark* mark : marks) {
    const uint64_t hits = mark->hits.load();
    if (hits == 0) ++never;
    std::printf("%10s  %s\n", hits == 0 ? "NEVER" : absl::StrCat(hits).c_str(), mark->text);
  }
  std::printf("%lu marks, %lu never hit, in %lu clusters\n", marks.size(), never, seeds);
  return 0;
}

// 0: there is no such mutant.
int IndexOf(const std::string& name) {
  for (size_t i = 0; i < std::size(kMutants); ++i) {
    if (name == kMutants[i].name) return static_cast<int>(i + 1);
  }
  return 0;
}

template <typename World>
int Show(uint64_t seed, World world) {
  const std::string violation = world.Run().violation;
  for (const std::string& line : world.trace()) std::printf("%s\n", line.c_str());
  std::printf("seed %lu: %s\n", seed, violation.empty() ? "nothing is wrong" : violation.c_str());
  return violation.empty() ? 0 : 1;
}

int Replay(const Flags& flags) {
  if (!flags.only.empty()) active_mutant = IndexOf(flags.only[0]);
  if (active_mutant != 0 && OfClones(kMutants[active_mutant - 1])) {
    return Show(flags.seed, CloneWorld(flags.seed, {.trace = true}));
  }
  ClusterOptions options = OptionsOf(flags.seed, flags.script);
  if (active_mutant != 0) {
    const Mutant& mutant = kMutants[active_mutant - 1];
    options = OptionsFor(mutant, flags.seed, ScriptFor(mutant, flags));
  }
  options.trace = true;
  return Show(flags.seed, Cluster(flags.seed, options));
}

int Main(int argc, char** argv) {
  Flags flags;
  std::string script;
  CLI::App app("Does the simulator find every deliberate bug of tests/mutation/mutants.txt?");
  app.add_option("--seeds", flags.seeds, "clusters for each, at most")->capture_default_str();
  app.add_option("--jobs", flags.jobs, "processes")->capture_default_str();
  app.add_option("--only", flags.only, "these mutants only");
  app.add_option("--script", script, "all clusters are of this script; else three in seven are of one")
      ->check(CLI::IsMember(ScriptNames()));
  app.add_option("--seed", flags.seed, "replay this one with the one mutant of --only (or none)");
  app.add_option("--table", flags.table, "write the table there");
  app.add_flag("--marks", flags.marks, "instead: which rare branches do --seeds clusters come to?");
  CLI11_PARSE(app, argc, argv);
  flags.script = FindScript(script);
  if (flags.marks) return ShowMarks(flags.seeds);
  for (const std::string& name : flags.only) {
    if (IndexOf(name) != 0) continue;
    std::fprintf(stderr, "there is no mutant %s\n", name.c_str());
    return 2;
  }
  return flags.seed != 0 ? Replay(flags) : Check(flags).Run();
}

}  // namespace
}  // namespace weir::sim

int main(int argc, char** argv) { return weir::sim::Main(argc, argv); }
