#include "client/cli/top_text.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/time/time.h"
#include "client/cli/output.h"
#include "google/protobuf/struct.pb.h"
#include "google/protobuf/util/json_util.h"
#include "proto/base/check.h"
#include "proto/base/size.h"

namespace weir::cli {
namespace {

constexpr double kBytesMax = 1e18;  // fits in 64 bits
constexpr size_t kSectionLinesMin = 3;  // its title, its header, and how many more there are

bool Known(const Figure& figure) { return figure && std::isfinite(*figure); }

std::string Number(const Figure& figure) {
  if (!Known(figure)) return "";
  const bool small = *figure > 0 && *figure < 10 && *figure != std::floor(*figure);
  return absl::StrFormat("%.*f", small ? 1 : 0, *figure);
}

std::string Seconds(const Figure& figure) {
  if (!Known(figure)) return "";
  if (*figure <= 0) return "0";
  if (*figure < 1e-3) return absl::StrFormat("%.0fus", *figure * 1e6);
  if (*figure < 1) return absl::StrFormat("%.*fms", *figure < 0.1 ? 1 : 0, *figure * 1e3);
  if (*figure < 60) return absl::StrFormat("%.1fs", *figure);
  return absl::FormatDuration(absl::Seconds(std::round(std::min(*figure, kBytesMax))));
}

std::string Size(const Figure& figure) {
  if (!Known(figure)) return "";
  return FormatSize(static_cast<uint64_t>(std::clamp(*figure, 0.0, kBytesMax)));
}

std::string Mib(const Figure& bytes) {
  return Known(bytes) ? absl::StrFormat("%.1f", *bytes / (1 << 20)) : "";
}

std::string Printable(std::string text) {
  for (char& c : text) {
    if (!absl::ascii_isprint(c)) c = '?';
  }
  return text;
}

template <typename Row>
struct Column {
  const char* header;
  int rank;  // those with the highest are left out first
  std::function<std::string(const Row&)> cell;
};

template <typename Row>
std::vector<std::string> TableLines(const std::vector<Row>& rows, const std::vector<Column<Row>>& columns) {
  std::vector<std::string> header;
  for (const Column<Row>& column : columns) header.push_back(column.header);
  TextTable table(std::move(header));
  for (const Row& row : rows) {
    std::vector<std::string> cells;
    for (const Column<Row>& column : columns) cells.push_back(Printable(column.cell(row)));
    table.AddRow(std::move(cells));
  }
  std::vector<std::string> lines = absl::StrSplit(table.ToString(), '\n');
  lines.pop_back();  // what follows the last end of line
  return lines;
}

size_t Widest(const std::vector<std::string>& lines) {
  size_t widest = 0;
  for (const std::string& line : lines) widest = std::max(widest, line.size());
  return widest;
}

// A title, a header and a line a row; no rows: nothing.
template <typename Row>
std::vector<std::string> Section(const char* title, const std::vector<Row>& rows, std::vector<Column<Row>> columns,
                                 size_t width) {
  if (rows.empty()) return {};
  std::vector<std::string> lines = TableLines(rows, columns);
  while (width > 0 && Widest(lines) > width && columns.size() > 1) {
    // Of equals the last.
    auto least = columns.begin();
    for (auto column = columns.begin(); column != columns.end(); ++column) {
      if (column->rank >= least->rank) least = column;
    }
    columns.erase(least);
    lines = TableLines(rows, columns);
  }
  lines.insert(lines.begin(), title);
  return lines;
}

std::vector<std::string> Volumes(const std::vector<VolumeRow>& rows, size_t width) {
  using R = VolumeRow;
  return Section<R>("Volumes", rows,
                    {{"VOLUME", 0, [](const R& r) { return r.name; }},
                     {"STATE", 1, [](const R& r) { return r.state; }},
                     {"EPOCH", 9, [](const R& r) { return Number(r.epoch); }},
                     {"FRONTEND", 12, [](const R& r) { return r.frontend; }},
                     {"READ/S", 2, [](const R& r) { return Number(r.reads); }},
                     {"R_MIB/S", 6, [](const R& r) { return Mib(r.read_bytes); }},
                     {"WRITE/S", 1, [](const R& r) { return Number(r.writes); }},
                     {"W_MIB/S", 6, [](const R& r) { return Mib(r.write_bytes); }},
                     {"W_P50", 7, [](const R& r) { return Seconds(r.write_p50); }},
                     {"W_P99", 3, [](const R& r) { return Seconds(r.write_p99); }},
                     {"FLUSH/S", 2, [](const R& r) { return Number(r.flushes); }},
                     {"F_P99", 3, [](const R& r) { return Seconds(r.flush_p99); }},
                     {"ERR/S", 5, [](const R& r) { return Number(r.errors); }},
                     {"INFLIGHT", 8, [](const R& r) { return Number(r.inflight); }},
                     {"QUEUED", 10, [](const R& r) { return Number(r.queued); }},
                     {"AGE", 4, [](const R& r) { return Seconds(r.durable_age); }},
                     {"NOT_DURABLE", 5, [](const R& r) { return Size(r.not_durable); }},
                     {"HELD", 1, [](const R& r) { return r.held; }}},
                    width);
}

std::vector<std::string> Flushes(const std::vector<FlushRow>& rows, size_t width) {
  using R = FlushRow;
  return Section<R>("Flush runs", rows,
                    {{"VOLUME", 0, [](const R& r) { return r.volume; }},
                     {"RUN/S", 1, [](const R& r) { return Number(r.runs); }},
                     {"P99", 1, [](const R& r) { return Seconds(r.run_p99); }},
                     {"CLONES/RUN", 4, [](const R& r) { return Number(r.clones); }},
                     {"MERGED/S", 3, [](const R& r) { return Number(r.merged); }},
                     {"REQUEUED/S", 3, [](const R& r) { return Number(r.requeued); }},
                     {"FAILED/S", 2, [](const R& r) { return Number(r.failed); }},
                     {"HIDDEN_ERR/S", 5, [](const R& r) { return Number(r.hidden_errors); }}},
                    width);
}

std::vector<std::string> Targets(const std::vector<TargetRow>& rows, size_t width) {
  using R = TargetRow;
  return Section<R>("Targets", rows,
                    {{"VOLUME", 1, [](const R& r) { return r.volume; }},
                     {"REPLICA", 0, [](const R& r) { return r.replica; }},
                     {"STATE", 1, [](const R& r) { return r.state; }},
                     {"HEALTH", 2, [](const R& r) { return r.health; }},
                     {"CLONE/S", 4, [](const R& r) { return Number(r.answers); }},
                     {"P99", 3, [](const R& r) { return Seconds(r.p99); }},
                     {"INFLIGHT", 5, [](const R& r) { return Number(r.inflight); }},
                     {"RECONNECTS", 6, [](const R& r) { return Number(r.reconnects); }},
                     {"ERR/S", 5, [](const R& r) { return Number(r.errors); }}},
                    width);
}

std::vector<std::string> Resyncs(const std::vector<ResyncRow>& rows, size_t width) {
  using R = ResyncRow;
  return Section<R>("Resyncs", rows,
                    {{"VOLUME", 1, [](const R& r) { return r.volume; }},
                     {"REPLICA", 0, [](const R& r) { return r.replica; }},
                     {"LEFT", 1, [](const R& r) { return Size(r.left); }},
                     {"COPIED", 4, [](const R& r) { return Size(r.copied); }},
                     {"MIB/S", 3, [](const R& r) { return Mib(r.rate); }},
                     {"ETA", 2, [](const R& r) { return Seconds(r.seconds_left); }}},
                    width);
}

std::vector<std::string> Replicas(const std::vector<ReplicaRow>& rows, size_t width) {
  using R = ReplicaRow;
  return Section<R>("Replicas", rows,
                    {{"REPLICA", 0, [](const R& r) { return r.name; }},
                     {"STATE", 1, [](const R& r) { return r.state; }},
                     {"CLONE/S", 5, [](const R& r) { return Number(r.requests); }},
                     {"MIB/S", 6, [](const R& r) { return Mib(r.bytes); }},
                     {"SYNC/S", 4, [](const R& r) { return Number(r.syncs); }},
                     {"SYNC_P99", 2, [](const R& r) { return Seconds(r.sync_p99); }},
                     {"STALL/S", 4, [](const R& r) { return Number(r.stalls); }},
                     {"FREE", 3, [](const R& r) { return Size(r.available); }},
                     {"OF", 7, [](const R& r) { return Size(r.capacity); }}},
                    width);
}

// Takes lines from the longest, until all fit. What is left of one that was cut says so in its last line.
void CutToHeight(std::vector<std::vector<std::string>>& sections, size_t height) {
  std::vector<size_t> keep;
  size_t lines = 0;
  for (const auto& section : sections) {
    keep.push_back(section.size());
    lines += section.size();
  }
  while (lines > height) {
    const auto longest = std::max_element(keep.begin(), keep.end());
    if (*longest <= kSectionLinesMin) break;
    --*longest;
    --lines;
  }
  for (size_t i = 0; i < sections.size(); ++i) {
    if (keep[i] == sections[i].size()) continue;
    const size_t missing = sections[i].size() - keep[i] + 1;
    sections[i].resize(keep[i]);
    sections[i].back() = absl::StrCat("... and ", missing, " more");
  }
}

using Object = google::protobuf::Struct;

void Put(Object& object, const char* name, const std::string& text) {
  (*object.mutable_fields())[name].set_string_value(Printable(text));
}

void Put(Object& object, const char* name, const Figure& figure) {
  google::protobuf::Value& value = (*object.mutable_fields())[name];
  if (Known(figure)) {
    value.set_number_value(*figure);
  } else {
    value.set_null_value(google::protobuf::NULL_VALUE);
  }
}

template <typename Row>
void PutRows(Object& object, const char* name, const std::vector<Row>& rows, void (*put)(Object&, const Row&)) {
  google::protobuf::ListValue& list = *(*object.mutable_fields())[name].mutable_list_value();
  for (const Row& row : rows) put(*list.add_values()->mutable_struct_value(), row);
}

void PutVolume(Object& o, const VolumeRow& r) {
  Put(o, "name", r.name);
  Put(o, "frontend", r.frontend);
  Put(o, "state", r.state);
  Put(o, "epoch", r.epoch);
  Put(o, "reads_per_second", r.reads);
  Put(o, "read_bytes_per_second", r.read_bytes);
  Put(o, "writes_per_second", r.writes);
  Put(o, "write_bytes_per_second", r.write_bytes);
  Put(o, "write_p50_seconds", r.write_p50);
  Put(o, "write_p99_seconds", r.write_p99);
  Put(o, "flushes_per_second", r.flushes);
  Put(o, "flush_p99_seconds", r.flush_p99);
  Put(o, "errors_per_second", r.errors);
  Put(o, "inflight_requests", r.inflight);
  Put(o, "queued_requests", r.queued);
  Put(o, "held", r.held);
  Put(o, "durable_point_age_seconds", r.durable_age);
  Put(o, "not_durable_bytes", r.not_durable);
}

void PutFlush(Object& o, const FlushRow& r) {
  Put(o, "volume", r.volume);
  Put(o, "runs_per_second", r.runs);
  Put(o, "run_p99_seconds", r.run_p99);
  Put(o, "clones_per_run", r.clones);
  Put(o, "merged_per_second", r.merged);
  Put(o, "requeued_per_second", r.requeued);
  Put(o, "failed_per_second", r.failed);
  Put(o, "hidden_errors_per_second", r.hidden_errors);
}

void PutTarget(Object& o, const TargetRow& r) {
  Put(o, "volume", r.volume);
  Put(o, "replica", r.replica);
  Put(o, "state", r.state);
  Put(o, "health", r.health);
  Put(o, "clones_per_second", r.answers);
  Put(o, "clone_p99_seconds", r.p99);
  Put(o, "inflight_clones", r.inflight);
  Put(o, "reconnects", r.reconnects);
  Put(o, "errors_per_second", r.errors);
}

void PutResync(Object& o, const ResyncRow& r) {
  Put(o, "volume", r.volume);
  Put(o, "replica", r.replica);
  Put(o, "left_bytes", r.left);
  Put(o, "copied_bytes", r.copied);
  Put(o, "bytes_per_second", r.rate);
  Put(o, "seconds_left", r.seconds_left);
}

void PutReplica(Object& o, const ReplicaRow& r) {
  Put(o, "name", r.name);
  Put(o, "state", r.state);
  Put(o, "clones_per_second", r.requests);
  Put(o, "bytes_per_second", r.bytes);
  Put(o, "syncs_per_second", r.syncs);
  Put(o, "sync_p99_seconds", r.sync_p99);
  Put(o, "stalls_per_second", r.stalls);
  Put(o, "available_bytes", r.available);
  Put(o, "capacity_bytes", r.capacity);
}

void PutSilent(Object& o, const Look::Silent& r) {
  Put(o, "process", r.process);
  Put(o, "why", r.why);
}

}  // namespace

std::vector<std::string> TopLines(const TopView& view, const std::string& title, TopSize size) {
  std::vector<std::string> silent;
  for (const Look::Silent& one : view.silent) {
    silent.push_back(absl::StrCat(Printable(one.process), " does not answer: ", Printable(one.why)));
  }
  std::vector<std::vector<std::string>> sections = {{title}, std::move(silent), Volumes(view.volumes, size.width),
                                                    Flushes(view.flushes, size.width), Targets(view.targets, size.width),
                                                    Resyncs(view.resyncs, size.width), Replicas(view.replicas, size.width)};
  sections.erase(std::remove_if(sections.begin(), sections.end(), [](const auto& lines) { return lines.empty(); }),
                 sections.end());
  // An empty line between two, as long as there is room for more than the least.
  const size_t between = sections.size() - 1;
  if (size.height > 0) CutToHeight(sections, size.height > 2 * between ? size.height - between : size.height);
  std::vector<std::string> lines;
  for (const auto& section : sections) {
    if (!lines.empty() && (size.height == 0 || size.height > 2 * between)) lines.push_back("");
    lines.insert(lines.end(), section.begin(), section.end());
  }
  if (size.height > 0 && lines.size() > size.height) lines.resize(size.height);
  for (std::string& line : lines) {
    if (size.width > 0 && line.size() > size.width) line.resize(size.width);
  }
  return lines;
}

std::string TopJson(const TopView& view, const std::string& time) {
  Object object;
  Put(object, "time", time);
  Put(object, "interval_seconds",
      view.interval > absl::ZeroDuration() ? Figure(absl::ToDoubleSeconds(view.interval)) : Figure());
  PutRows(object, "volumes", view.volumes, PutVolume);
  PutRows(object, "flushes", view.flushes, PutFlush);
  PutRows(object, "targets", view.targets, PutTarget);
  PutRows(object, "resyncs", view.resyncs, PutResync);
  PutRows(object, "replicas", view.replicas, PutReplica);
  PutRows(object, "silent", view.silent, PutSilent);
  std::string json;
  CHECK(google::protobuf::util::MessageToJsonString(object, &json).ok());
  return json + "\n";
}

}  // namespace weir::cli
