#include "replica/server/probe_command.h"

#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/time.h"
#include "google/protobuf/util/json_util.h"
#include "proto/base/check.h"
#include "replica/probe/probe.h"
#include "replica/server/disk_probes.h"
#include "replica/server/metrics.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

constexpr int kExitBad = 1;
constexpr int kExitUsage = 2;
// What is remembered of each sync is 8 bytes; in memory there is one in a microsecond.
constexpr uint32_t kRoundsMax = 100'000;

std::string LayerText(const probe::DiskLayer& layer) {
  std::vector<std::string> words{layer.device};
  if (!layer.model.empty()) words.push_back(layer.model);
  if (!layer.backing_file.empty()) words.push_back(absl::StrCat("on ", layer.backing_file));
  words.push_back(!layer.write_back.has_value() ? "does not say whether it has a volatile cache"
                  : *layer.write_back           ? "claims a volatile cache"
                                                : "says that it has no volatile cache");
  if (layer.fua) words.push_back("FUA");
  if (layer.rotational) words.push_back("rotational");
  return absl::StrJoin(words, ", ");
}

std::string TruthText(const std::string& directory, const probe::DiskTruth& truth) {
  const probe::DiskFacts& facts = truth.facts;
  std::string text = absl::StrCat("directory     ", directory, "\nverdict       ", probe::VerdictName(truth.verdict), "\n");
  for (const std::string& reason : truth.reasons) absl::StrAppend(&text, "because       ", reason, "\n");
  for (const probe::Mount& mount : facts.mounts) {
    absl::StrAppend(&text, "file system   ", mount.type, " on ", mount.source, "\n");
  }
  for (const probe::DiskLayer& layer : facts.layers) absl::StrAppend(&text, "device        ", LayerText(layer), "\n");
  const probe::SyncTimes& times = facts.times;
  if (times.rounds == 0) return text;
  absl::StrAppend(&text, "sync          median ", probe::ShortDuration(times.sync_median), ", 99 of 100 in ",
                  probe::ShortDuration(times.sync_p99), ", at most ", probe::ShortDuration(times.sync_max), ", of ",
                  times.rounds, " with 4 KiB each\n");
  if (times.direct_median > absl::ZeroDuration()) {
    absl::StrAppend(&text, "bare write    median ", probe::ShortDuration(times.direct_median), ", past the page cache\n");
  }
  absl::StrAppend(&text, "cached write  median ", probe::ShortDuration(times.cached_median), "\n");
  return text;
}

std::string TruthJson(const std::string& directory, const probe::DiskTruth& truth) {
  v1::DataDir message;
  message.set_path(directory);
  const DirectorySpace space = SpaceOf(directory);
  message.set_capacity_bytes(space.capacity_bytes);
  message.set_available_bytes(space.available_bytes);
  *message.mutable_disk() = DiskTruthToProto(truth);
  google::protobuf::util::JsonPrintOptions options;
  options.add_whitespace = true;
  options.always_print_primitive_fields = true;
  options.preserve_proto_field_names = true;
  std::string json;
  const auto status = google::protobuf::util::MessageToJsonString(message, &json, options);
  CHECK(status.ok());  // every message of ours has a JSON form
  return json;
}

}  // namespace

int ProbeCommand(int argc, const char* const* argv, std::ostream& out, std::ostream& err) {
  CLI::App app("says what can be seen of the disk below a directory: whether what was synced there survives a power cut",
               "weir-replica probe");
  std::string directory, output = "table";
  double seconds = 5;
  app.add_option("DIR", directory, "where a store is, or is to be; nothing stays in it")->required();
  app.add_option("--seconds", seconds, absl::StrCat("measure for so long; at most ", kRoundsMax, " syncs"))
      ->capture_default_str()
      ->check(CLI::Range(0.1, 3600.0));
  app.add_option("--output", output, "table or json")
      ->capture_default_str()
      ->check(CLI::IsMember({"table", "json"}));
  app.footer("Exit codes: 0 nothing speaks against it (durable, or unknown), 1 it is suspicious or not_durable, 2 wrong "
             "arguments, or DIR cannot be written to.\nA disk that lies and takes its time for it looks durable: only a power "
             "cut shows it.");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error, out, err) == 0 ? 0 : kExitUsage;
  }
  const absl::StatusOr<probe::DiskTruth> truth =
      probe::ProbeDirectory(directory, {kRoundsMax, absl::Seconds(seconds), nullptr});
  if (!truth.ok()) {
    err << "weir-replica probe: " << std::string(truth.status().message()) << "\n";
    return kExitUsage;
  }
  out << (output == "json" ? TruthJson(directory, *truth) : TruthText(directory, *truth));
  return truth->verdict >= probe::Verdict::kSuspicious ? kExitBad : 0;
}

}  // namespace weir::replica
