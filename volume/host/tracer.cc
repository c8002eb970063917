#include "volume/host/tracer.h"

#include <algorithm>
#include <utility>

#include "proto/base/check.h"
#include "volume/host/metrics.h"

namespace weir::host {
namespace {

using engine::RequestKind;

uint64_t Micros(absl::Duration duration) {
  return static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Microseconds(duration), 0));
}

uint64_t Millis(absl::Duration duration) { return Micros(duration) / 1000; }

bool Covers(BlockRange whole, BlockRange part) {
  return whole.first <= part.first && part.end() <= whole.end();
}

// The request's kinds that a clone of `clone` may be of.
bool KindFits(RequestKind clone, RequestKind request) {
  const bool of_barrier = clone == RequestKind::kWrite || clone == RequestKind::kFlush;
  return clone == request || (of_barrier && request == RequestKind::kBarrier);
}

}  // namespace

absl::Status Tracer::Start(const Options& options, engine::Time now, std::function<void()> stopped) {
  absl::MutexLock lock(&mu_);
  if (!stop_reason_.empty()) return absl::FailedPreconditionError(stop_reason_);
  if (trace_ != nullptr) {
    return absl::ResourceExhaustedError("somebody else traces this volume now; try again when that is over");
  }
  trace_ = std::make_unique<Trace>();
  trace_->options = options;
  trace_->begun = trace_->second_begun = now;
  trace_->stopped = std::move(stopped);
  const auto seconds = static_cast<uint64_t>(std::max<int64_t>(absl::ToInt64Seconds(options.length), 1));
  // Half of the samples, so that some are left for one in kOneIn.
  trace_->all_up_to = std::min<uint64_t>(kAllUpTo, kSamplesMax / 2 / seconds);
  active_.store(true, std::memory_order_relaxed);
  return absl::OkStatus();
}

void Tracer::Stop(const std::string& reason) {
  std::function<void()> stopped;
  {
    absl::MutexLock lock(&mu_);
    if (!stop_reason_.empty()) return;
    stop_reason_ = reason;
    if (trace_ != nullptr) stopped = std::exchange(trace_->stopped, nullptr);
  }
  if (stopped) stopped();
}

uint64_t Tracer::Submitted(RequestKind kind, BlockRange range, engine::Time now) {
  absl::MutexLock lock(&mu_);
  if (trace_ == nullptr || !SampleNextLocked(now)) return 0;
  Request& request = trace_->live.emplace_back();
  request.sample = next_sample_++;
  request.kind = kind;
  request.range = range;
  request.submitted = now;
  return request.sample;
}

bool Tracer::SampleNextLocked(engine::Time now) {
  if (now - trace_->second_begun >= absl::Seconds(1)) {
    trace_->second_begun = now;
    trace_->in_second = 0;
  }
  const uint64_t nth = trace_->in_second++;
  if (nth >= trace_->all_up_to && nth % kOneIn != 0) return false;
  return trace_->live.size() < kLiveMax && trace_->samples + trace_->live.size() < kSamplesMax;
}

void Tracer::Completed(uint64_t sample, RequestKind kind, int error, engine::Time admitted, engine::Time now) {
  absl::MutexLock lock(&mu_);
  if (trace_ == nullptr) return;
  ++trace_->kinds[kind].requests;
  if (sample == 0) return;
  const auto found = std::find_if(trace_->live.begin(), trace_->live.end(),
                                  [sample](const Request& request) { return request.sample == sample; });
  if (found == trace_->live.end()) return;  // of an earlier trace
  const Request request = std::move(*found);
  trace_->live.erase(found);
  AddSampleLocked(request, PartsOf(request, admitted, now), error);
}

// Each from the end of the one before, so that their sum is the whole.
Tracer::Parts Tracer::PartsOf(const Request& request, engine::Time admitted, engine::Time now) {
  const engine::Time taken = std::clamp(admitted, request.submitted, now);
  // Without a clone all of it is the engine's.
  const engine::Time queued = std::clamp(request.first_queued, taken, now);
  // One that was not answered was waited for until something else ended the request.
  const bool all_answered = std::all_of(request.clones.begin(), request.clones.end(),
                                        [](const Clone& clone) { return clone.answered; });
  const engine::Time answered = all_answered ? std::clamp(request.last_answered, queued, now) : now;
  return {now - request.submitted, taken - request.submitted, queued - taken, answered - queued, now - answered};
}

void Tracer::AddSampleLocked(const Request& request, const Parts& parts, int error) {
  ++trace_->samples;
  KindSamples& kind = trace_->kinds[request.kind];
  for (size_t i = 0; i < kParts; ++i) {
    kind.parts[i].push_back(static_cast<float>(absl::ToDoubleMicroseconds(parts[i])));
  }
  for (const Clone& clone : request.clones) {
    if (!clone.answered || trace_->clone_samples >= kCloneSamplesMax) continue;
    ++trace_->clone_samples;
    ReplicaSamples& replica = kind.replicas[clone.replica];
    ++replica.clones;
    for (size_t i = 0; i < kCloneStages; ++i) {
      replica.stages[i].push_back(static_cast<float>(absl::ToDoubleMicroseconds(clone.times.stages[i])));
    }
  }
  std::vector<v1::TracedRequest>& slowest = trace_->slowest;
  const uint64_t total = Micros(parts[kTotal]);
  const auto place = std::find_if(slowest.begin(), slowest.end(),
                                  [total](const v1::TracedRequest& other) { return other.total_us() < total; });
  const bool full = slowest.size() >= trace_->options.slowest;
  if (full && place == slowest.end()) return;
  slowest.insert(place, Describe(request, parts, error, trace_->begun));
  if (full) slowest.pop_back();
}

v1::TracedRequest Tracer::Describe(const Request& request, const Parts& parts, int error, engine::Time begun) {
  v1::TracedRequest told;
  told.set_kind(KindName(request.kind));
  told.set_offset_bytes(request.range.first * kBlockBytes);
  told.set_length_bytes(request.range.count * kBlockBytes);
  told.set_error(error);
  told.set_began_ms(Millis(request.submitted - begun));
  told.set_total_us(Micros(parts[kTotal]));
  told.set_backlog_us(Micros(parts[kBacklog]));
  told.set_engine_us(Micros(parts[kEngine]));
  told.set_replicas_us(Micros(parts[kReplicas]));
  told.set_finish_us(Micros(parts[kFinish]));
  for (const Clone& clone : request.clones) {
    v1::TracedClone* one = told.add_clones();
    one->set_replica(clone.replica);
    one->set_answered(clone.answered);
    one->set_send_us(Micros(clone.times[CloneStage::kSend]));
    one->set_store_us(Micros(clone.times[CloneStage::kStore]));
    one->set_wire_us(Micros(clone.times[CloneStage::kWire]));
  }
  return told;
}

bool Tracer::IsOf(const engine::Clone& clone, const Request& request) {
  if (!KindFits(clone.kind, request.kind) || request.clones.size() >= kClonesOfRequestMax) return false;
  return clone.kind == RequestKind::kFlush || Covers(request.range, clone.range);
}

// A write has one for each replica, a read one in all.
bool Tracer::HasLike(const std::string& replica, const engine::Clone& clone, const Request& request) {
  const bool one_in_all = clone.kind == RequestKind::kRead || clone.kind == RequestKind::kExtents;
  return std::any_of(request.clones.begin(), request.clones.end(), [&](const Clone& other) {
    return other.range.first == clone.range.first && (one_in_all || other.replica == replica);
  });
}

void Tracer::Queued(const std::string& replica, const engine::Clone& clone, engine::Time now) {
  const auto add = [&](Request& request) {
    request.first_queued = std::min(request.first_queued, now);
    request.clones.push_back({clone.id, replica, clone.range, false, {}});
  };
  absl::MutexLock lock(&mu_);
  if (trace_ == nullptr) return;
  Request* again = nullptr;  // it is sent once more, for one that has had its like
  for (Request& request : trace_->live) {
    if (!IsOf(clone, request)) continue;
    if (clone.kind == RequestKind::kFlush) {
      add(request);
    } else if (!HasLike(replica, clone, request)) {
      return add(request);
    } else if (again == nullptr) {
      again = &request;
    }
  }
  if (again != nullptr) add(*again);
}

void Tracer::Answered(engine::CloneId id, const CloneTimes& times, engine::Time now) {
  absl::MutexLock lock(&mu_);
  if (trace_ == nullptr) return;
  for (Request& request : trace_->live) {
    for (Clone& clone : request.clones) {
      if (clone.id != id) continue;
      clone.answered = true;
      clone.times = times;
      request.last_answered = now;
    }
  }
}

v1::TracedTimes Tracer::Quantiles(Samples& samples) {
  v1::TracedTimes told;
  if (samples.empty()) return told;
  std::sort(samples.begin(), samples.end());
  told.set_median_us(static_cast<uint64_t>(samples[(samples.size() - 1) / 2]));
  told.set_p99_us(static_cast<uint64_t>(samples[(samples.size() - 1) * 99 / 100]));
  return told;
}

v1::TraceResponse Tracer::Finish(engine::Time now) {
  std::unique_ptr<Trace> trace;
  v1::TraceResponse told;
  {
    absl::MutexLock lock(&mu_);
    active_.store(false, std::memory_order_relaxed);
    trace = std::move(trace_);
    told.set_ended_because(stop_reason_);
  }
  CHECK(trace != nullptr);
  told.set_traced_ms(Millis(now - trace->begun));
  told.set_unanswered(trace->live.size());
  for (auto& [kind, samples] : trace->kinds) {
    v1::TracedKind* of_kind = told.add_kinds();
    of_kind->set_kind(KindName(kind));
    of_kind->set_requests(samples.requests);
    of_kind->set_sampled(samples.parts[kTotal].size());
    *of_kind->mutable_total() = Quantiles(samples.parts[kTotal]);
    *of_kind->mutable_backlog() = Quantiles(samples.parts[kBacklog]);
    *of_kind->mutable_engine() = Quantiles(samples.parts[kEngine]);
    *of_kind->mutable_replicas() = Quantiles(samples.parts[kReplicas]);
    *of_kind->mutable_finish() = Quantiles(samples.parts[kFinish]);
    for (auto& [name, clones] : samples.replicas) {
      v1::TracedReplica* of_replica = of_kind->add_by_replica();
      of_replica->set_replica(name);
      of_replica->set_clones(clones.clones);
      *of_replica->mutable_send() = Quantiles(clones.stages[static_cast<size_t>(CloneStage::kSend)]);
      *of_replica->mutable_store() = Quantiles(clones.stages[static_cast<size_t>(CloneStage::kStore)]);
      *of_replica->mutable_wire() = Quantiles(clones.stages[static_cast<size_t>(CloneStage::kWire)]);
    }
  }
  told.mutable_slowest()->Assign(trace->slowest.begin(), trace->slowest.end());
  return told;
}

}  // namespace weir::host
