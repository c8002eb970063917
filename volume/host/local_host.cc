#include "volume/host/local_host.h"

#include <map>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/health_check_service_interface.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/metrics/process.h"
#include "proto/monitor/monitor_server.h"
#include "proto/monitor/shared_check.h"
#include "proto/wire/identity.h"
#include "proto/wire/transport.h"
#include "volume/host/clock.h"
#include "volume/host/explain.h"
#include "volume/host/rebuild.h"
#include "volume/host/registration.h"
#include "volume/host/registry_service.h"
#include "volume/host/scrub_status.h"
#include "volume/host/volume_service.h"

namespace weir::host {
namespace {

constexpr int kControlThreads = 16;
constexpr int kBackgroundThreads = 4;
constexpr int kCatalogThreads = 4;
// Two a volume at most.
constexpr size_t kCatalogWaitingMax = 1 << 20;
constexpr int kCopiesThreads = 4;
constexpr size_t kCopiesWaitingMax = 4096;
constexpr int kJoinThreads = 4;
constexpr size_t kJoinWaitingMax = 4096;
constexpr int kParentThreads = 16;
constexpr size_t kParentWaitingMax = 16384;
constexpr size_t kControlWaitingMax = 256;
constexpr size_t kBackgroundWaitingMax = 4096;
constexpr size_t kMessageBytesMax = 8 << 20;
constexpr absl::Duration kAskDeadline = absl::Seconds(2);
constexpr absl::Duration kServerStopDeadline = absl::Seconds(3);

// One that has not answered.
void DescribeSilent(const Provision::Found& found, v1::ReplicaSummary* replica) {
  replica->set_state("UNREACHABLE");
  replica->set_state_reason(std::string(found.answer.status().message()));
  const absl::Time now = absl::Now();
  if (!IsGone(found.record, now)) return;
  const absl::Duration gone =
      now - absl::FromUnixMillis(static_cast<int64_t>(found.record.alive_until_ms()));
  replica->set_state("GONE");
  replica->set_state_reason(absl::StrCat("it has not registered itself since its lease ended ",
                                         absl::FormatDuration(absl::Trunc(gone, absl::Seconds(1))),
                                         " ago"));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Host>> Host::Start(HostOptions options) {
  RETURN_IF_ERROR(options.Validate());
  SetLogLevel(options.log_level);
  SetLogFormat(options.log_format);
  // Debian's Abseil is built with its checks on: each lock of any absl::Mutex in
  // the process, gRPC's included, then goes through one global lock.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  RETURN_IF_ERROR(wire::UseTls(options.tls));
  RETURN_IF_ERROR(wire::CheckListen(options.listen, options.tls.insecure));
  if (!options.tls.insecure) RETURN_IF_ERROR(catalog::Catalog::CheckPlainText(options.catalog));
  for (const auto& [name, address] : options.replicas) RETURN_IF_ERROR(wire::CheckDial("replicas", address, options.tls));
  ASSIGN_OR_RETURN(std::unique_ptr<catalog::Catalog> catalog,
                   catalog::Catalog::Open(options.catalog));
  auto host =
      std::make_unique<LocalHost>(std::move(options), std::move(catalog));
  RETURN_IF_ERROR(host->Start());
  return host;
}

IoOutcome HostedVolume::SubmitAndWait(IoRequest request) {
  // Shared: a notified waiter may return before Notify does.
  struct Waiting {
    absl::Notification done;
    IoOutcome outcome;
  };
  auto waiting = std::make_shared<Waiting>();
  Submit(std::move(request), [waiting](IoOutcome outcome) {
    waiting->outcome = std::move(outcome);
    waiting->done.Notify();
  });
  waiting->done.WaitForNotification();
  return std::move(waiting->outcome);
}

LocalHost::LocalHost(HostOptions options,
                     std::unique_ptr<catalog::Catalog> catalog)
    : options_(std::move(options)),
      catalog_(std::move(catalog)),
      self_{options_.name.empty() ? DefaultFrontendName(options_.listen) : options_.name, "",
            catalog_->shared()},
      provision_(catalog_.get()),
      metrics_(std::make_shared<Metrics>()),
      timer_(std::make_unique<Timer>()),
      background_(std::make_unique<WorkQueue>("weir-background",
                                              kBackgroundThreads,
                                              kBackgroundWaitingMax)),
      catalog_calls_(std::make_unique<WorkQueue>("weir-catalog", kCatalogThreads, kCatalogWaitingMax)),
      copies_(std::make_shared<WorkQueue>("weir-copies", kCopiesThreads, kCopiesWaitingMax)),
      joins_(std::make_unique<WorkQueue>("weir-join", kJoinThreads, kJoinWaitingMax)),
      parents_(std::make_unique<WorkQueue>("weir-parent", kParentThreads, kParentWaitingMax)),
      control_(std::make_unique<WorkQueue>("weir-control", kControlThreads,
                                           kControlWaitingMax)),
      service_(std::make_unique<VolumeService>(this, control_.get())),
      registry_(std::make_unique<RegistryService>(
          [this](const v1::RegisterRequest& request) { return provision_.Register(request); },
          control_.get())) {
  metrics_->set_refresh([this] { RefreshMetrics(); });
}

absl::Status LocalHost::Start() {
  RETURN_IF_ERROR(provision_.RegisterReplicas(options_.replicas));
  RETURN_IF_ERROR(StartService());
  if (!options_.listen.empty()) RETURN_IF_ERROR(RegisterFrontend());
  RETURN_IF_ERROR(StartMonitor());
  LookLater();
  for (const std::string& name : options_.attach) {
    const bool accepted = control_->Run([this, name] {
      const absl::Status status = Attach(name, AttachMode::kUnlessElsewhere).status();
      if (status.ok()) return;
      LOG(ERROR) << "volume=" << name << " could not be attached at start: "
                 << status << "; it is tried again when the volume is used";
    });
    if (!accepted) {
      return absl::InvalidArgumentError("attach: too many volumes are named");
    }
  }
  return absl::OkStatus();
}

absl::Status LocalHost::StartService() {
  if (options_.listen.empty()) return absl::OkStatus();
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  wire::SetServerLimits({.message_bytes_max = kMessageBytesMax}, &builder);
  builder.AddListeningPort(options_.listen, wire::ServerCredentials(options_.listen), &port_);
  builder.RegisterService(service_.get());
  builder.RegisterService(registry_.get());
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || (port_ == 0 && !absl::StartsWith(options_.listen,
                                                             "unix:"))) {
    return absl::FailedPreconditionError(absl::StrCat(
        "cannot listen on ", options_.listen,
        ": another process may be using it; stop that one or choose another "
        "--listen"));
  }
  for (const char* name : {v1::VolumeService::service_full_name(), v1::RegistryService::service_full_name()}) {
    server_->GetHealthCheckService()->SetServingStatus(name, true);
  }
  self_.address = AdvertisedAddress(options_.listen, port_);
  return absl::OkStatus();
}

absl::Status LocalHost::StartMonitor() {
  if (options_.metrics_listen.empty()) return absl::OkStatus();
  catalog_answers_ = std::make_unique<monitor::SharedCheck>(
      monitor::SharedCheck::Options{.whom = "the catalog"}, [this] {
        const absl::Status status = catalog_->GetFrontend(self_.name).status();
        return absl::IsNotFound(status) ? absl::OkStatus() : status;  // that is an answer
      });
  catalog_looks_ = std::make_unique<WorkQueue>("weir-look", /*threads=*/1, /*waiting_max=*/1);
  monitor::MonitorServer::Options options;
  options.listen = options_.metrics_listen;
  options.insecure = options_.tls.insecure || options_.insecure_metrics;
  options.metrics = {metrics_, std::make_shared<metrics::ProcessCollector>("weir-volume")};
  options.etcd = catalog::Catalog::EtcdFiles(options_.catalog);
  options.nbd = options_.nbd_tls;
  options.ready = [this] { return Ready(); };
  ASSIGN_OR_RETURN(monitor_, monitor::MonitorServer::Start(std::move(options)));
  metrics_port_ = monitor_->port();
  return absl::OkStatus();
}

absl::Status LocalHost::Ready() {
  {
    absl::MutexLock lock(&mu_);
    if (stopping_) return absl::UnavailableError("it is shutting down");
  }
  return catalog_answers_->Get();
}

LocalHost::~LocalHost() {
  std::vector<std::string> names;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    for (auto& [name, entry] : entries_) {
      if (entry.attaching != nullptr) entry.attaching->Cancel();
      names.push_back(name);
    }
  }
  EndService();  // before volumes are flushed
  for (const std::string& name : names) {
    const absl::Status status = DetachAtExit(name);
    if (!status.ok()) {
      LOG(WARNING) << "volume=" << name << " was not detached cleanly, what "
                   << "was not flushed is up to its replicas: " << status;
    }
  }
  monitor_.reset();
  catalog_looks_.reset();
  if (server_ != nullptr) {
    server_->Shutdown(absl::ToChronoTime(absl::Now() + kServerStopDeadline));
    server_.reset();
  }
  control_.reset();
  // The runners are stopped, so no engine asks any more. Then nobody tells of records, and the last copies are
  // brought before the timer goes, which they use.
  catalog_calls_.reset();
  copies_.reset();
  timer_.reset();  // its events give the others work
  joins_.reset();
  parents_.reset();
  background_.reset();
}

void LocalHost::LetGoOfHeld(absl::Duration wait) {
  std::vector<std::shared_ptr<Attached>> all;
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
    for (auto& [name, entry] : entries_) {
      if (entry.attaching != nullptr) entry.attaching->Cancel();
      if (entry.attached != nullptr) all.push_back(entry.attached);
    }
  }
  EndService();
  for (const std::shared_ptr<Attached>& attached : all) {
    if (!attached->runner->HasWaited(wait)) continue;
    LOG(WARNING) << "volume=" << attached->runner->name() << " is let go of while requests wait, since this frontend is to end";
    attached->let_go = true;
    attached->runner->Stop("this frontend was stopped");
  }
}

void LocalHost::EndService() {
  if (server_ == nullptr) return;
  // Whoever asks is to go elsewhere.
  server_->GetHealthCheckService()->SetServingStatus(false);
  service_->EndSessions();
}

bool LocalHost::stopping() {
  absl::MutexLock lock(&mu_);
  return stopping_;
}

void LocalHost::RefreshMetrics() {
  std::vector<std::shared_ptr<Attached>> all;
  {
    absl::MutexLock lock(&mu_);
    for (auto& [name, entry] : entries_) {
      if (entry.attached != nullptr) all.push_back(entry.attached);
    }
  }
  for (const auto& attached : all) {
    const VolumeRunner& runner = *attached->runner;
    metrics_->SetState(runner.name(), runner.epoch(), runner.View(), runner.Stats(), MonotonicNow());
  }
  // The question for the next scrape; if one is under way that one does.
  static_cast<void>(catalog_looks_->Run([this] { static_cast<void>(catalog_answers_->Get()); }));
  metrics_->SetCatalog(catalog_answers_->Last().ok());
}

// --- volumes ---

absl::StatusOr<v1::Volume> LocalHost::CreateVolume(
    const v1::CreateVolumeRequest& request) {
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, request.name()));
  ASSIGN_OR_RETURN(const v1::VolumeRecord record, provision_.Create(request));
  return Describe(record);
}

absl::Status LocalHost::DeleteVolume(const std::string& name) {
  v1::ParentRecord parent;
  RETURN_IF_ERROR(DeleteHeld(name, &parent));
  if (parent.pin() != 0) ForgetClone(parent, name);
  return absl::OkStatus();
}

absl::Status LocalHost::DeleteHeld(const std::string& name, v1::ParentRecord* parent) {
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
  bool attaching = false;
  if (AttachedOrNull(name, &attaching) != nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", name, " is attached; detach it first, then delete it"));
  }
  ASSIGN_OR_RETURN(catalog::VersionedVolume volume, catalog_->GetVolume(name));
  RETURN_IF_ERROR(CheckOwnGrant(volume.record));
  RETURN_IF_ERROR(RefuseElsewhere(volume.record, self_));
  for (const v1::SnapshotRecord& snapshot : volume.record.snapshots()) {
    ASSIGN_OR_RETURN(const std::vector<std::string> clones, LiveClones(snapshot));
    if (!clones.empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "volume ", name, " has clones: ", absl::StrJoin(clones, ", "),
          "; delete or flatten them first"));
    }
    // One whose restore cannot come to its end can do nothing else: not even its snapshots can be deleted.
    if (!snapshot.of_clone() && volume.record.restoring().empty()) {
      return absl::FailedPreconditionError(absl::StrCat(
          "volume ", name, " has snapshots, such as ", snapshot.name(), "; delete them first"));
    }
  }
  *parent = volume.record.parent();
  return provision_.Delete(std::move(volume));
}

absl::StatusOr<std::vector<v1::Volume>> LocalHost::ListVolumes() {
  ASSIGN_OR_RETURN(const std::vector<catalog::VersionedVolume> records,
                   catalog_->ListVolumes());
  std::vector<v1::Volume> volumes;
  for (const catalog::VersionedVolume& volume : records) {
    volumes.push_back(Describe(volume.record));
  }
  return volumes;
}

absl::StatusOr<v1::Volume> LocalHost::GetVolume(const std::string& name) {
  absl::Status asked;
  ASSIGN_OR_RETURN(const v1::VolumeRecord record, RecordOf(name, &asked));
  return Describe(record);
}

absl::StatusOr<v1::VolumeRecord> LocalHost::RecordOf(const std::string& name, absl::Status* asked) {
  absl::StatusOr<catalog::VersionedVolume> read = catalog_->GetVolume(name);
  *asked = read.status();
  if (read.ok()) return std::move(read->record);
  bool attaching = false;
  const std::shared_ptr<Attached> attached = AttachedOrNull(name, &attaching);
  if (attached == nullptr || absl::IsNotFound(read.status())) return read.status();
  return attached->Record();
}

v1::Volume LocalHost::Describe(const v1::VolumeRecord& record) {
  bool attaching = false;
  const std::shared_ptr<Attached> attached = AttachedOrNull(record.name(), &attaching);
  const bool elsewhere = IsElsewhere(record, self_);
  if (attached == nullptr) return DescribeVolume(record, nullptr, false, attaching, elsewhere);
  const engine::EngineView view = attached->runner->View();
  v1::Volume volume =
      DescribeVolume(record, &view, attached->runner->flush_supported(), attaching, elsewhere);
  *volume.mutable_scrub() = DescribeScrub(view.scrub, MonotonicNow());
  return volume;
}

absl::StatusOr<v1::ExplainResponse> LocalHost::Explain(const std::string& name) {
  absl::Status asked;
  ASSIGN_OR_RETURN(const v1::VolumeRecord record, RecordOf(name, &asked));
  bool attaching = false;
  const std::shared_ptr<Attached> attached = AttachedOrNull(name, &attaching);
  const bool elsewhere = IsElsewhere(record, self_);
  if (attached == nullptr) return ExplainUnattached(record, attaching, elsewhere);
  const engine::EngineView view = attached->runner->View();
  v1::ExplainResponse out =
      ExplainVolume(record, &view, attached->runner->flush_supported(), attaching, elsewhere,
                    options_, MonotonicNow());
  if (const auto stats = attached->runner->Stats(); stats && view.state != engine::EngineView::State::kFenced) {
    ExplainStats(*stats, MonotonicNow(), &out);
  }
  const std::string error = attached->CatalogError();
  if (!error.empty()) {
    out.add_facts(absl::StrCat("the catalog has not taken the last change of members: ", error));
    out.add_next("it is tried again every moment; what needs the change is held until then");
  }
  if (IsBeingRestored(name)) {
    out.add_next("once it is restored it stays suspended, to be resumed");
  } else if (const absl::Status cut_short = RefuseRestoringHere(*attached); !cut_short.ok() && record.restoring().empty()) {
    out.add_facts(std::string(cut_short.message()));
  }
  if (attached->detach_in_doubt) {
    out.add_facts("it was to be detached, and the catalog may have it so; nothing is served until that is known");
    out.add_actions(absl::StrCat("or detach it again: weirctl volume detach ", name, "; either once the catalog answers"));
  }
  if (!asked.ok()) {
    out.add_facts(absl::StrCat("the catalog has no answer, so no replica can leave or come back: ", asked.message()));
  }
  ExplainSpace(record, asked.ok(), &out);
  return out;
}

v1::ExplainResponse LocalHost::ExplainUnattached(const v1::VolumeRecord& record, bool attaching, bool elsewhere) {
  v1::ExplainResponse out = ExplainVolume(record, nullptr, false, attaching, elsewhere, options_, MonotonicNow());
  if (elsewhere || record.behind()) return out;
  if (const absl::Status own = CheckOwnGrant(record); !own.ok()) out.add_facts(std::string(own.message()));
  std::shared_ptr<AttachProgress> progress;
  {
    absl::MutexLock lock(&mu_);
    const auto entry = entries_.find(record.name());
    if (entry != entries_.end()) progress = entry->second.progress;
  }
  if (progress != nullptr && progress->Explain(record, MonotonicNow(), &out)) return out;
  const absl::StatusOr<std::vector<Provision::Found>> found = provision_.AskReplicas(kAskDeadline);
  if (!found.ok()) return out;  // the catalog is away by now, and the next call says so
  std::map<std::string, absl::Status> errors;
  for (const Provision::Found& one : *found) {
    if (!one.answer.ok()) {
      errors[one.record.name()] = one.answer.status();
    } else if (one.answer->state() != "SERVING") {
      errors[one.record.name()] =
          absl::FailedPreconditionError(absl::StrCat("it is ", one.answer->state(), ": ", one.answer->state_reason()));
    }
  }
  ExplainAbsent(record, errors, &out);
  return out;
}

absl::StatusOr<std::vector<v1::ReplicaSummary>> LocalHost::ListReplicas() {
  ASSIGN_OR_RETURN(const std::vector<Provision::Found> found,
                   provision_.AskReplicas(kAskDeadline));
  std::vector<v1::ReplicaSummary> replicas;
  for (const Provision::Found& one : found) {
    v1::ReplicaSummary& replica = replicas.emplace_back();
    replica.set_name(one.record.name());
    replica.set_address(one.record.address());
    replica.set_store_id(one.record.store_id());
    if (!one.answer.ok()) {
      *replica.mutable_labels() = one.record.labels();
      replica.set_capacity_bytes(one.record.capacity_bytes());
      replica.set_available_bytes(one.record.available_bytes());
      DescribeSilent(one, &replica);
      continue;
    }
    replica.set_store_id(one.answer->store_id());
    replica.set_state(one.answer->state());
    replica.set_state_reason(one.answer->state_reason());
    replica.set_volumes(static_cast<uint32_t>(one.answer->volumes_size()));
    *replica.mutable_labels() = one.answer->labels();
    uint64_t capacity = 0, available = 0;
    for (const v1::DataDir& dir : one.answer->data_dirs()) {
      capacity += dir.capacity_bytes();
      available += dir.available_bytes();
    }
    replica.set_capacity_bytes(capacity);
    replica.set_available_bytes(available);
  }
  return replicas;
}

bool LocalHost::IsBeingRestored(const std::string& name) {
  absl::MutexLock lock(&mu_);
  const auto found = entries_.find(name);
  return found != entries_.end() && !found->second.restoring.empty();
}

// --- control of attached volumes ---

absl::Status LocalHost::Suspend(const v1::SuspendRequest& request) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached,
                   FindAttached(request.name()));
  const uint32_t deadline_ms =
      request.deadline_ms() == 0 ? 30'000 : request.deadline_ms();
  return attached->runner->Suspend(request.noflush(),
                                   absl::Milliseconds(deadline_ms));
}

absl::Status LocalHost::Resume(const std::string& name) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached,
                   FindAttached(name));
  if (!attached->detach_in_doubt) return attached->runner->Resume();
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
  return attached->detach_in_doubt ? StayAttached(*attached) : attached->runner->Resume();
}

absl::Status LocalHost::LoadTable(const v1::LoadTableRequest& request) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached,
                   FindAttached(request.name()));
  ASSIGN_OR_RETURN(engine::Table table, TableFromWire(request.table(), attached->Record()));
  return attached->runner->LoadTable(std::move(table));
}

absl::StatusOr<v1::ScrubStatus> LocalHost::Scrub(const v1::ScrubRequest& request) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached, FindAttached(request.name()));
  RETURN_IF_ERROR(attached->runner->Scrub(request.stop()));
  return DescribeScrub(attached->runner->View().scrub, MonotonicNow());
}

absl::StatusOr<std::shared_ptr<HostedVolume>> LocalHost::GetAttached(
    const std::string& name) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached,
                   FindAttached(name));
  return std::static_pointer_cast<HostedVolume>(attached->runner);
}

absl::StatusOr<std::shared_ptr<LocalHost::Attached>> LocalHost::FindAttached(
    const std::string& name) {
  ASSIGN_OR_RETURN(std::shared_ptr<Attached> attached, FindAttachedOrRestored(name));
  RETURN_IF_ERROR(RefuseRestoringHere(*attached));
  return attached;
}

absl::StatusOr<std::shared_ptr<LocalHost::Attached>> LocalHost::FindAttachedOrRestored(
    const std::string& name) {
  bool attaching = false;
  std::shared_ptr<Attached> attached = AttachedOrNull(name, &attaching);
  if (attached != nullptr) return attached;
  ASSIGN_OR_RETURN(const catalog::VersionedVolume volume, catalog_->GetVolume(name));
  RETURN_IF_ERROR(RefuseElsewhere(volume.record, self_));
  return absl::FailedPreconditionError(absl::StrCat(
      "volume ", name,
      attaching ? " is still being attached; try again in a moment"
                : " is not attached here; attach it first"));
}

std::shared_ptr<LocalHost::Attached> LocalHost::AttachedOrNull(
    const std::string& name, bool* attaching) {
  absl::MutexLock lock(&mu_);
  auto found = entries_.find(name);
  if (found == entries_.end()) return nullptr;
  *attaching = found->second.attaching != nullptr;
  return found->second.attached;
}

std::shared_ptr<LocalHost::Attached> LocalHost::ServedOrNull(const std::string& name) {
  std::shared_ptr<Attached> attached;
  {
    absl::MutexLock lock(&mu_);
    auto found = entries_.find(name);
    if (found == entries_.end() || found->second.busy) return nullptr;
    attached = found->second.attached;
  }
  const bool serves = attached != nullptr && !attached->runner->fenced() && RefuseRestoringHere(*attached).ok();
  return serves ? attached : nullptr;
}

// --- the record of an attached volume ---

absl::Status LocalHost::Attached::Commit(
    const std::function<v1::VolumeRecord(v1::VolumeRecord)>& change) {
  absl::MutexLock lock(&mu);
  v1::VolumeRecord record = holder.record();
  if (flat) record.clear_parent();
  const absl::Status status = holder.Commit(change(std::move(record)));
  if (status.ok()) teller->Tell(holder.record(), holder.revision());
  absl::MutexLock seen_lock(&seen_mu);
  seen = holder.record();
  catalog_error = status.ok() ? "" : std::string(status.message());
  return status;
}

absl::StatusOr<v1::RebuildCatalogResponse> LocalHost::RebuildCatalog(const v1::RebuildCatalogRequest& request) {
  return AskAndRebuildCatalog(*catalog_, request);
}

absl::Status LocalHost::Attached::TellNow() {
  catalog::VersionedVolume now;
  {
    absl::MutexLock lock(&mu);
    now = {holder.record(), holder.revision()};
  }
  return teller->TellNow(now.record, now.revision);
}

v1::VolumeRecord LocalHost::Attached::Record() {
  absl::MutexLock lock(&seen_mu);
  return seen;
}

std::string LocalHost::Attached::CatalogError() {
  absl::MutexLock lock(&seen_mu);
  return catalog_error;
}

}  // namespace weir::host
