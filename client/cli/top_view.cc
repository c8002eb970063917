#include "client/cli/top_view.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"

namespace weir::cli {
namespace {

constexpr const char* kWriteKinds[] = {"write", "write_zeroes", "discard", "barrier"};
constexpr const char* kDataKinds[] = {"write", "barrier"};

Figure Lookup(const Series& series, const Labels& labels) {
  const auto found = series.find(labels);
  return found == series.end() ? Figure() : Figure(found->second);
}

template <typename Kinds>
Figure SumOfKinds(const Series& series, const std::string& volume, const Kinds& kinds) {
  Figure sum;
  for (const char* kind : kinds) {
    const Figure one = Lookup(series, {{"kind", kind}, {"volume", volume}});
    if (one) sum = sum.value_or(0) + *one;
  }
  return sum;
}

Figure QuantileOf(double q, const Histograms& histograms, const Labels& labels) {
  const auto found = histograms.find(labels);
  return found == histograms.end() ? Figure() : Quantile(q, found->second);
}

Figure SumOf(const Metrics& metrics, const std::string& name) {
  const auto series = metrics.find(name);
  if (series == metrics.end()) return std::nullopt;
  double sum = 0;
  for (const auto& [labels, value] : series->second) sum += value;
  return sum;
}

// A series of none is one of 0, in a process that has been looked at twice: errors appear with the first.
Figure OrNone(const Figure& figure, const Figure& known) { return figure || !known ? figure : Figure(0); }

std::string LabelOf(const Labels& labels, const std::string& name) {
  const auto found = labels.find(name);
  return found == labels.end() ? "" : found->second;
}

// The parts of a view that one frontend's metrics give.
class FrontendPart {
 public:
  FrontendPart(const Scrape* before, const Scrape& now)
      : before_(before), now_(now), change_(before, now),
        requests_(change_.Rates("weir_volume_requests_total", {"kind", "volume"})),
        bytes_(change_.Rates("weir_volume_request_bytes_total", {"kind", "volume"})),
        errors_(change_.Rates("weir_volume_request_errors_total", {"volume"})),
        seconds_(change_.Observed("weir_volume_request_duration_seconds", {"kind", "volume"})),
        runs_(change_.Rates("weir_volume_flush_runs_total", {"volume", "result"})),
        run_seconds_(change_.Observed("weir_volume_flush_run_duration_seconds", {"volume"})),
        asked_(change_.Rates("weir_volume_flush_fan_out_clones_sum", {"volume"})),
        asking_(change_.Rates("weir_volume_flush_fan_out_clones_count", {"volume"})),
        merged_(change_.Rates("weir_volume_flushes_merged_total", {"volume"})),
        requeued_(change_.Rates("weir_volume_flushes_requeued_total", {"volume"})),
        hidden_(change_.Rates("weir_volume_target_hidden_errors_total", {"volume"})),
        clone_seconds_(change_.Observed("weir_volume_clone_duration_seconds", {"replica", "volume"})),
        target_errors_(change_.Rates("weir_volume_target_errors_total", {"replica", "volume"})) {}

  // Its attached volumes.
  std::vector<std::string> Volumes() const {
    std::vector<std::string> names;
    const auto epochs = now_.metrics.find("weir_volume_epoch");
    if (epochs == now_.metrics.end()) return names;
    for (const auto& [labels, epoch] : epochs->second) names.push_back(LabelOf(labels, "volume"));
    return names;
  }

  VolumeRow Volume(const std::string& name) const {
    const Labels of_volume = {{"volume", name}};
    VolumeRow row;
    row.name = name;
    row.frontend = now_.process;
    row.state = State(name);
    row.epoch = ValueOf(now_.metrics, "weir_volume_epoch", of_volume);
    row.reads = Lookup(requests_, {{"kind", "read"}, {"volume", name}});
    row.read_bytes = Lookup(bytes_, {{"kind", "read"}, {"volume", name}});
    row.writes = SumOfKinds(requests_, name, kWriteKinds);
    row.write_bytes = SumOfKinds(bytes_, name, kDataKinds);
    row.write_p50 = QuantileOf(0.5, seconds_, {{"kind", "write"}, {"volume", name}});
    row.write_p99 = QuantileOf(0.99, seconds_, {{"kind", "write"}, {"volume", name}});
    row.flushes = Lookup(requests_, {{"kind", "flush"}, {"volume", name}});
    row.flush_p99 = QuantileOf(0.99, seconds_, {{"kind", "flush"}, {"volume", name}});
    row.errors = OrNone(Lookup(errors_, of_volume), row.reads);
    row.inflight = ValueOf(now_.metrics, "weir_volume_inflight_requests", of_volume);
    row.queued = ValueOf(now_.metrics, "weir_volume_queued_requests", of_volume);
    row.held = Held(name);
    row.durable_age = ValueOf(now_.metrics, "weir_volume_durable_point_age_seconds", of_volume);
    row.not_durable = ValueOf(now_.metrics, "weir_volume_not_durable_bytes", of_volume);
    return row;
  }

  FlushRow Flushes(const std::string& name) const {
    const Labels of_volume = {{"volume", name}};
    FlushRow row;
    row.volume = name;
    for (const auto& [labels, rate] : runs_) {
      if (LabelOf(labels, "volume") != name) continue;
      row.runs = row.runs.value_or(0) + rate;
      const std::string result = LabelOf(labels, "result");
      row.failed = row.failed.value_or(0) + (result == "ok" || result == "requeue" ? 0 : rate);
    }
    row.run_p99 = QuantileOf(0.99, run_seconds_, of_volume);
    const Figure runs = Lookup(asking_, of_volume);
    if (runs.value_or(0) > 0) row.clones = Lookup(asked_, of_volume).value_or(0) / *runs;
    row.merged = Lookup(merged_, of_volume);
    row.requeued = Lookup(requeued_, of_volume);
    row.hidden_errors = OrNone(Lookup(hidden_, of_volume), row.runs);
    return row;
  }

  std::vector<TargetRow> Targets(const std::string& volume) const {
    std::vector<TargetRow> rows;
    for (const Labels& labels : TargetsOf(volume)) {
      const auto gauge = [&](const char* name) { return ValueOf(now_.metrics, name, labels).value_or(0) > 0; };
      TargetRow row;
      row.volume = volume;
      row.replica = LabelOf(labels, "replica");
      row.state = gauge("weir_volume_target_in_sync") ? "in_sync" : "not_in_sync";
      row.health = gauge("weir_volume_target_failed") ? "failed"
                   : !gauge("weir_volume_target_up")  ? "away"
                   : gauge("weir_volume_target_slow") ? "slow"
                                                      : "connected";
      const auto clones = clone_seconds_.find(labels);
      if (clones != clone_seconds_.end() && !clones->second.empty()) {
        row.answers = clones->second.rbegin()->second / Seconds();
        row.p99 = Quantile(0.99, clones->second);
      }
      row.inflight = ValueOf(now_.metrics, "weir_volume_target_inflight_clones", labels);
      if (const Figure sessions = ValueOf(now_.metrics, "weir_volume_sessions_total", labels); sessions) {
        row.reconnects = std::max(*sessions - 1, 0.0);
      }
      row.errors = OrNone(Lookup(target_errors_, labels), row.answers);
      rows.push_back(std::move(row));
    }
    return rows;
  }

  std::vector<ResyncRow> Resyncs(const std::string& volume) const {
    std::vector<ResyncRow> rows;
    for (const Labels& labels : TargetsOf(volume)) {
      ResyncRow row;
      row.volume = volume;
      row.replica = LabelOf(labels, "replica");
      row.left = ValueOf(now_.metrics, "weir_volume_join_left_bytes", labels);
      if (row.left.value_or(0) <= 0) continue;
      row.copied = ValueOf(now_.metrics, "weir_volume_join_copied_bytes", labels);
      row.rate = CopyRate(labels, row.copied);
      row.seconds_left = ValueOf(now_.metrics, "weir_volume_join_left_seconds", labels);
      if (row.seconds_left == 0) {  // as the frontend says that it does not know
        row.seconds_left = row.rate.value_or(0) > 0 ? Figure(*row.left / *row.rate) : Figure();
      }
      rows.push_back(std::move(row));
    }
    return rows;
  }

 private:
  double Seconds() const { return absl::ToDoubleSeconds(now_.at - before_->at); }

  // Of each target its labels, by replica.
  std::vector<Labels> TargetsOf(const std::string& volume) const {
    std::vector<Labels> found;
    const auto ups = now_.metrics.find("weir_volume_target_up");
    if (ups == now_.metrics.end()) return found;
    for (const auto& [labels, up] : ups->second) {
      if (LabelOf(labels, "volume") == volume) found.push_back(labels);
    }
    std::sort(found.begin(), found.end());
    return found;
  }

  std::string State(const std::string& volume) const {
    const auto states = now_.metrics.find("weir_volume_state");
    if (states == now_.metrics.end()) return "";
    for (const auto& [labels, is] : states->second) {
      if (is > 0 && LabelOf(labels, "volume") == volume) return absl::AsciiStrToUpper(LabelOf(labels, "state"));
    }
    return "";
  }

  std::string Held(const std::string& volume) const {
    const auto reasons = now_.metrics.find("weir_volume_held_requests");
    if (reasons == now_.metrics.end()) return "";
    std::vector<std::string> held;
    for (const auto& [labels, requests] : reasons->second) {
      if (requests > 0 && LabelOf(labels, "volume") == volume) {
        held.push_back(absl::StrCat(LabelOf(labels, "reason"), ":", requests));
      }
    }
    std::sort(held.begin(), held.end());
    return absl::StrJoin(held, ",");
  }

  // `copied` is a gauge, which begins anew with each join.
  Figure CopyRate(const Labels& target, const Figure& copied) const {
    if (before_ == nullptr || !copied) return std::nullopt;
    const Figure before = ValueOf(before_->metrics, "weir_volume_join_copied_bytes", target);
    if (!before) return std::nullopt;
    return (*copied < *before ? *copied : *copied - *before) / Seconds();
  }

  const Scrape* const before_;  // null, unless it answered then and now
  const Scrape& now_;
  const Change change_;
  const Series requests_, bytes_, errors_;
  const Histograms seconds_;
  const Series runs_;
  const Histograms run_seconds_;
  const Series asked_, asking_, merged_, requeued_, hidden_;
  const Histograms clone_seconds_;
  const Series target_errors_;
};

ReplicaRow MakeReplicaRow(const Scrape* before, const Scrape& now) {
  const Change change(before, now);
  const auto rate = [&](const char* counter) { return Lookup(change.Rates(counter, {}), {}); };
  ReplicaRow row;
  row.name = now.process;
  row.state = SumOf(now.metrics, "weir_replica_store_failed").value_or(0) > 0      ? "failed"
              : SumOf(now.metrics, "weir_replica_space_exhausted").value_or(0) > 0 ? "full"
                                                                                    : "serving";
  row.requests = rate("weir_replica_requests_total");
  row.bytes = rate("weir_replica_bytes_total");
  row.syncs = rate("weir_replica_sync_seconds_count");
  row.sync_p99 = QuantileOf(0.99, change.Observed("weir_replica_sync_seconds", {}), {});
  const Figure slowdowns = rate("weir_replica_rocksdb_slowdowns_total");
  const Figure stops = rate("weir_replica_rocksdb_stops_total");
  if (slowdowns || stops) row.stalls = slowdowns.value_or(0) + stops.value_or(0);
  row.available = SumOf(now.metrics, "weir_replica_data_dir_available_bytes");
  row.capacity = SumOf(now.metrics, "weir_replica_data_dir_capacity_bytes");
  return row;
}

// The listing that says most of each volume: that of the frontend that has it.
std::map<std::string, const v1::Volume*> Listed(const Look& look) {
  std::map<std::string, const v1::Volume*> listed;
  for (const v1::Volume& volume : look.volumes) {
    const v1::Volume*& one = listed[volume.name()];
    if (one == nullptr || (volume.has_activity() && !one->has_activity())) one = &volume;
  }
  return listed;
}

// What only the listing knows: joining from out, and how a target does.
void Refine(const v1::Volume& volume, std::vector<TargetRow>& rows) {
  for (TargetRow& row : rows) {
    for (const v1::Target& target : volume.table().targets()) {
      if (target.replica() != row.replica) continue;
      row.state = target.state();
      if (row.health != "slow") row.health = target.health();
    }
  }
}

void SortByLoad(std::vector<VolumeRow>& volumes) {
  const auto load = [](const VolumeRow& v) { return v.reads.value_or(0) + v.writes.value_or(0) + v.flushes.value_or(0); };
  std::stable_sort(volumes.begin(), volumes.end(),
                   [&](const VolumeRow& a, const VolumeRow& b) { return load(a) > load(b); });
}

}  // namespace

TopView MakeTopView(const Look* before, const Look& now, const std::string& only) {
  TopView view;
  std::vector<FrontendPart> parts;
  std::vector<ReplicaRow> replicas;
  for (size_t i = 0; i < now.scrapes.size(); ++i) {
    const Scrape& scrape = now.scrapes[i];
    if (!scrape.status.ok()) {
      view.silent.push_back({scrape.process, std::string(scrape.status.message())});
      continue;
    }
    const Scrape* earlier = before != nullptr && i < before->scrapes.size() ? &before->scrapes[i] : nullptr;
    if (earlier != nullptr && (!earlier->status.ok() || scrape.at <= earlier->at)) earlier = nullptr;
    if (earlier != nullptr) view.interval = std::max(view.interval, scrape.at - earlier->at);
    if (scrape.metrics.count("weir_replica_streams") > 0) replicas.push_back(MakeReplicaRow(earlier, scrape));
    parts.emplace_back(earlier, scrape);
  }
  view.silent.insert(view.silent.end(), now.frontends.begin(), now.frontends.end());

  // Of two frontends that tell of a volume the later one has it.
  std::map<std::string, std::pair<VolumeRow, const FrontendPart*>> volumes;
  for (const FrontendPart& part : parts) {
    for (const std::string& name : part.Volumes()) {
      VolumeRow row = part.Volume(name);
      auto& known = volumes[name];
      if (known.second == nullptr || row.epoch > known.first.epoch) known = {std::move(row), &part};
    }
  }
  const auto listed = Listed(now);
  for (const auto& [name, volume] : listed) {
    auto& known = volumes[name];
    if (known.second != nullptr) continue;
    known.first.name = name;
    known.first.frontend = volume->frontend();
    known.first.state = volume->state();
    known.first.epoch = volume->epoch();
  }
  for (auto& [name, known] : volumes) {
    if (only.empty() || name == only) view.volumes.push_back(known.first);
  }
  SortByLoad(view.volumes);

  std::set<std::string> members;
  for (const VolumeRow& row : view.volumes) {
    const FrontendPart* part = volumes[row.name].second;
    if (part == nullptr) continue;
    view.flushes.push_back(part->Flushes(row.name));
    std::vector<TargetRow> targets = part->Targets(row.name);
    if (const auto found = listed.find(row.name); found != listed.end() && found->second->has_activity()) {
      Refine(*found->second, targets);
    }
    for (const TargetRow& target : targets) members.insert(target.replica);
    view.targets.insert(view.targets.end(), targets.begin(), targets.end());
    const std::vector<ResyncRow> resyncs = part->Resyncs(row.name);
    view.resyncs.insert(view.resyncs.end(), resyncs.begin(), resyncs.end());
  }
  for (ReplicaRow& row : replicas) {
    if (only.empty() || members.count(row.name) > 0) view.replicas.push_back(std::move(row));
  }
  return view;
}

}  // namespace weir::cli
