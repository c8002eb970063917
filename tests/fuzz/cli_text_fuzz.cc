// client/cli and proto/base: what people and scripts write: tables, sizes, faults, cluster.env; and /metrics.
#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>

#include "absl/strings/ascii.h"
#include "client/cli/cluster_env.h"
#include "client/cli/fault_spec.h"
#include "client/cli/metrics_text.h"
#include "client/cli/table_text.h"
#include "proto/base/check.h"
#include "proto/base/size.h"
#include "tests/fuzz/input.h"

namespace weir::cli {
namespace {

constexpr uint64_t kSizeBytes = uint64_t{1} << 30;

bool HasSpace(absl::string_view text) {
  return std::any_of(text.begin(), text.end(), [](char c) { return absl::ascii_isspace(c); });
}

// What `table show` prints `table load` takes back, in any of the states.
void ReadTable(absl::string_view text) {
  const absl::StatusOr<v1::Table> table = ParseTable(text, kSizeBytes);
  if (!table.ok()) return;
  v1::Volume volume;
  volume.set_size_bytes(kSizeBytes);
  *volume.mutable_table() = *table;
  for (const v1::Target& target : table->targets()) {
    CHECK(!target.replica().empty());
    if (HasSpace(target.replica()) || HasSpace(target.address())) return;  // no names; only JSON can say them
  }
  const absl::StatusOr<v1::Table> again = ParseTable(FormatTable(volume), kSizeBytes);
  CHECK(again.ok());
  CHECK_EQ(again->targets_size(), table->targets_size());
  for (int i = 0; i < table->targets_size(); ++i) {
    CHECK(again->targets(i).replica() == table->targets(i).replica());
    CHECK(again->targets(i).address() == table->targets(i).address());
    CHECK(again->targets(i).state() == table->targets(i).state());
  }
}

void ReadSize(absl::string_view text) {
  const absl::StatusOr<uint64_t> size = ParseSize(text);
  if (!size.ok()) return;
  const absl::StatusOr<uint64_t> again = ParseSize(FormatSize(*size));
  // Exactly, but where the text has one decimal.
  if (again.ok() && FormatSize(*size).find('.') == std::string::npos) CHECK_EQ(*again, *size);
}

// What a fault prints as is the same fault.
void ReadFault(fuzz::Input input) {
  const std::string op(input.Message());
  const std::string error(input.Message());
  const uint64_t flush_nr = input.Byte();
  const uint64_t count = input.Number(8);
  const std::optional<uint32_t> domain =
      flush_nr == 0 ? std::nullopt : std::optional<uint32_t>(static_cast<uint32_t>(flush_nr - 1));
  const absl::StatusOr<v1::Fault> fault = ParseFault(op, error, domain, count);
  if (!fault.ok()) return;
  const absl::StatusOr<v1::Fault> again =
      ParseFault(FaultOpText(*fault), FaultErrorText(*fault), domain, count);
  CHECK_OK(again);
  CHECK(again->SerializeAsString() == fault->SerializeAsString());
}

// Two looks at a process that answers anything.
void ReadMetrics(fuzz::Input input) {
  absl::StatusOr<Metrics> before = ParseMetrics(input.Message());
  absl::StatusOr<Metrics> now = ParseMetrics(input.Rest());
  if (!before.ok() || !now.ok()) return;
  const Scrape first = {"p", absl::OkStatus(), *std::move(before), absl::Seconds(1)};
  const Scrape second = {"p", absl::OkStatus(), *std::move(now), absl::Seconds(2)};
  const Change change(&first, second);
  for (const auto& [name, series] : second.metrics) {
    CHECK(!name.empty() && !series.empty());
    change.Rates(name, {"volume"});
    const std::string histogram = name.substr(0, name.rfind("_bucket"));
    for (const auto& [labels, buckets] : change.Observed(histogram, {"volume"})) Quantile(0.99, buckets);
  }
}

}  // namespace
}  // namespace weir::cli

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::fuzz::Input input(data, size);
  switch (input.Byte() % 6) {
    case 0: weir::cli::ReadTable(input.Rest()); break;
    case 1: weir::cli::ReadSize(input.Rest()); break;
    case 2: weir::cli::ReadFault(input); break;
    case 3: weir::cli::ParseClusterEnv(input.Rest()).status().IgnoreError(); break;
    case 4: {
      const absl::string_view text = input.Rest();
      weir::cli::ParseNamedValues(text).status().IgnoreError();
      weir::cli::ParseReplicaAddrs(text);
      weir::cli::ParseMetricsUrls(text, {"a", "b"}).status().IgnoreError();
      break;
    }
    case 5: weir::cli::ReadMetrics(input); break;
  }
  return 0;
}
