#include "replica/server/disk_probes.h"

#include <pthread.h>

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "proto/base/log.h"
#include "replica/probe/probe.h"

namespace weir::replica {
namespace {

probe::DiskTruth Unmeasured(const absl::Status& why) {
  probe::DiskFacts facts;
  facts.unmeasured = std::string(why.message());
  return probe::Judge(std::move(facts));
}

v1::DiskTruth::Verdict VerdictToProto(probe::Verdict verdict) {
  switch (verdict) {
    case probe::Verdict::kDurable:
      return v1::DiskTruth::DURABLE;
    case probe::Verdict::kUnknown:
      return v1::DiskTruth::UNKNOWN;
    case probe::Verdict::kSuspicious:
      return v1::DiskTruth::SUSPICIOUS;
    case probe::Verdict::kNotDurable:
      return v1::DiskTruth::NOT_DURABLE;
  }
  return v1::DiskTruth::VERDICT_UNSPECIFIED;
}

uint64_t Nanoseconds(absl::Duration duration) { return static_cast<uint64_t>(absl::ToInt64Nanoseconds(duration)); }

}  // namespace

DiskProbes::DiskProbes(std::string replica, std::vector<std::string> directories)
    : replica_(std::move(replica)), directories_(std::move(directories)), found_(directories_.size()) {
  if (!directories_.empty()) thread_ = std::thread([this] { Run(); });
}

void DiskProbes::Stop() {
  stopped_ = true;
  if (thread_.joinable()) thread_.join();
}

std::shared_ptr<const probe::DiskTruth> DiskProbes::Of(size_t index) const {
  absl::MutexLock lock(&mutex_);
  return found_.at(index);
}

void DiskProbes::Run() {
  pthread_setname_np(pthread_self(), "weir-probe");
  probe::Rounds rounds;
  rounds.stop = &stopped_;
  for (size_t i = 0; i < directories_.size() && !stopped_; ++i) {
    absl::StatusOr<probe::DiskTruth> truth = probe::ProbeDirectory(directories_[i], rounds);
    if (!truth.ok()) truth = Unmeasured(truth.status());
    const std::string said =
        absl::StrCat("replica=", replica_, " ", directories_[i], " is ", probe::VerdictName(truth->verdict), ": ",
                     absl::StrJoin(truth->reasons, "; "));
    if (truth->verdict >= probe::Verdict::kSuspicious) {
      LOG(WARNING) << said;
    } else {
      LOG(INFO) << said;
    }
    absl::MutexLock lock(&mutex_);
    found_[i] = std::make_shared<const probe::DiskTruth>(*std::move(truth));
  }
}

v1::DiskTruth DiskTruthToProto(const probe::DiskTruth& truth) {
  const probe::DiskFacts& facts = truth.facts;
  v1::DiskTruth proto;
  proto.set_verdict(VerdictToProto(truth.verdict));
  for (const std::string& reason : truth.reasons) proto.add_reasons(reason);
  if (!facts.mounts.empty()) proto.set_file_system(facts.mounts[0].type);
  for (const probe::DiskLayer& layer : facts.layers) {
    v1::DiskLayer* one = proto.add_layers();
    one->set_device(layer.device);
    one->set_model(layer.model);
    one->set_backing_file(layer.backing_file);
    if (layer.write_back.has_value()) one->set_write_back(*layer.write_back);
    one->set_fua(layer.fua);
    one->set_rotational(layer.rotational);
  }
  if (truth.volatile_cache.has_value()) proto.set_volatile_cache(*truth.volatile_cache);
  proto.set_sync_rounds(facts.times.rounds);
  proto.set_sync_median_ns(Nanoseconds(facts.times.sync_median));
  proto.set_sync_p99_ns(Nanoseconds(facts.times.sync_p99));
  proto.set_sync_max_ns(Nanoseconds(facts.times.sync_max));
  proto.set_direct_write_median_ns(Nanoseconds(facts.times.direct_median));
  proto.set_cached_write_median_ns(Nanoseconds(facts.times.cached_median));
  return proto;
}

}  // namespace weir::replica
