// Runs volumes: engines with their targets, catalog, timers and metrics.
//
// The host is a library: weir-volume and the nbdkit plugin are thin callers.
// One mutex a volume guards its engine; the thread that brings an event runs
// the engine and carries the effects out, in order and without the mutex, so the I/O
// path has no hand-over to another thread.
//
// Thread-safety: all methods may be called from any thread. Callbacks run on
// gRPC's threads, or on the caller's before Submit returns, with no lock held; they must not block.
#ifndef WEIR_VOLUME_HOST_HOST_H_
#define WEIR_VOLUME_HOST_HOST_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/base/log.h"
#include "proto/base/payload.h"
#include "proto/base/tls_files.h"
#include "volume/engine/types.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

class Tracer;

// Requests of up to this many bytes; larger ones are for the caller to split.
inline constexpr uint32_t kRequestBytesMax = 4 << 20;

struct HostOptions {
  std::string catalog;  // as catalog::Catalog::Open takes it
  // (name, address) of the replicas of this cluster, registered in the catalog at start.
  std::vector<std::pair<std::string, std::string>> replicas;
  // The same over restarts, and no other frontend's of this catalog; empty: by host and `listen`.
  std::string name;
  std::map<std::string, std::string> labels;  // where this frontend is: zone, rack, ...
  std::string listen;          // VolumeService, health, reflection; empty: none
  std::string metrics_listen;  // /metrics, /healthz, /readyz over HTTP; empty: none
  TlsFiles tls;      // the process's identity, for `listen` and towards replicas
  TlsFiles nbd_tls;  // certificate and authority of nbdkits that serve it over TLS, no key; to say when they expire
  // `metrics_listen` may be for other machines; with tls.insecure also `listen`, replicas and etcd in plain text.
  bool insecure_metrics = false;
  LogLevel log_level = LogLevel::kInfo;      // of the whole process, as the format
  LogFormat log_format = LogFormat::kText;
  std::vector<std::string> attach;  // in the background, once the servers run
  absl::Duration attach_deadline = absl::Seconds(30);
  // How long an attach waits for a replica while min_in_sync others are there.
  absl::Duration give_up_after = absl::Seconds(2);
  // Passed on to every engine; see engine::Options.
  absl::Duration leave_after = absl::Milliseconds(700);
  absl::Duration hold_deadline = absl::Minutes(5);
  // How long a member may be slower than all others before it leaves; infinite: for ever.
  absl::Duration slow_after = absl::Seconds(30);
  // How long a member may be out before another replica takes its place; infinite: never.
  absl::Duration replace_after = absl::Minutes(10);
  uint64_t join_bytes_per_second = 64 << 20;
  // How often all replicas of an attached volume are compared; infinite: only when asked for.
  absl::Duration scrub_every = absl::Hours(7 * 24);
  uint64_t scrub_bytes_per_second = 32 << 20;
  // A request that takes longer is logged; infinite: none is.
  absl::Duration slow_request_log = absl::Seconds(1);
  absl::Duration lease = absl::Seconds(3);
  absl::Duration requeue_deadline = absl::Seconds(30);
  absl::Duration clone_deadline = absl::Seconds(10);
  absl::Duration flush_interval = absl::Seconds(1);
  uint64_t flush_bytes = 16 << 20;
  uint64_t replay_bytes_max = 48 << 20;
  // Data of a volume's unanswered requests, beyond which streams are not read. With
  // the replay buffer it keeps a frontend of one busy volume near 128 MiB.
  uint64_t unanswered_bytes_max = 32 << 20;

  absl::Status Validate() const;
};

// A request's answer.
struct IoOutcome {
  engine::Result result;
  std::string message;                       // for people, on error
  std::vector<engine::TargetError> targets;  // hidden errors included
  std::vector<engine::ReadPart> parts;       // reads: in order, covering the range
  std::vector<engine::Run> extents;
  std::vector<BlockRange> absent;            // IoRequest::own_only: blocks that a clone has nothing of
};
using IoCallback = std::function<void(IoOutcome)>;

// A client's request, in bytes. Misaligned, empty, too long or past the end is EINVAL
// (a write past the end: ENOSPC, as block devices say it).
struct IoRequest {
  engine::RequestKind kind = engine::RequestKind::kRead;
  uint64_t offset_bytes = 0;
  uint64_t length_bytes = 0;
  bool fua = false;
  Payload data;  // kWrite, kBarrier: length_bytes
  bool in_lock = false;   // see engine::Request
  bool own_only = false;  // a read of a clone that does not fall through to its parent
};

// An attached volume. Lives until its last user drops it; after a detach, or
// when fenced, every request is answered with ESTALE.
class HostedVolume {
 public:
  virtual ~HostedVolume() = default;
  virtual const std::string& name() const = 0;
  virtual uint64_t size_bytes() const = 0;
  virtual uint32_t epoch() const = 0;
  // See v1.VolumeOpened.
  virtual uint32_t intact_since() const = 0;
  virtual bool flush_supported() const = 0;
  // Calls back exactly once.
  virtual void Submit(IoRequest request, IoCallback done) = 0;
  // For sources that can hold requests back. False: there is room, go on. True:
  // too much is unanswered; `resume` is called once when there is room again or
  // the volume is gone, on a thread of Submit's callbacks.
  virtual bool AwaitRoom(const std::function<void()>& resume) { return false; }
  // Null: its requests cannot be traced. May outlast the volume.
  virtual std::shared_ptr<Tracer> tracer() { return nullptr; }
  // Submit, and wait.
  IoOutcome SubmitAndWait(IoRequest request);
};

// What an attach does if another frontend has the volume, or had it last without a clean detach.
enum class AttachMode {
  kTakeOver,         // takes it over; the other one is fenced
  kUnlessElsewhere,  // FAILED_PRECONDITION: says where it is
  kRestore,          // takes it over; only this one may while the volume is being restored, and only then
};

class Host {
 public:
  // Opens the catalog, registers the replicas, starts the servers that
  // `options` name. Each error says what to do (catalog in use, port in use).
  static absl::StatusOr<std::unique_ptr<Host>> Start(HostOptions options);
  // Detaches every volume (with a flush, bounded by a few seconds each) and stops the servers.
  virtual ~Host() = default;

  // For a process that is to end and cannot while requests wait, as for replicas that are away: a volume with one that has
  // waited for `wait` is let go of, not detached cleanly, and answers all of them with ESTALE. Streams of VolumeService
  // are cut off first, so that their clients go on elsewhere; attaches that are under way end. May be called again.
  virtual void LetGoOfHeld(absl::Duration wait) = 0;

  // The port of VolumeService and of metrics, for `listen` addresses with port 0.
  virtual int port() const = 0;
  virtual int metrics_port() const = 0;

  // Control, as VolumeService documents it; all block.
  virtual absl::StatusOr<v1::Volume> CreateVolume(const v1::CreateVolumeRequest& request) = 0;
  virtual absl::Status DeleteVolume(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<v1::Volume>> ListVolumes() = 0;
  virtual absl::StatusOr<v1::Volume> GetVolume(const std::string& name) = 0;
  // Attaches unless attached already.
  virtual absl::StatusOr<std::shared_ptr<HostedVolume>> Attach(
      const std::string& name, AttachMode mode = AttachMode::kTakeOver) = 0;
  // FAILED_PRECONDITION: not attached here.
  virtual absl::StatusOr<std::shared_ptr<HostedVolume>> GetAttached(const std::string& name) = 0;
  virtual absl::Status Detach(const std::string& name, bool force) = 0;
  virtual absl::Status Suspend(const v1::SuspendRequest& request) = 0;
  virtual absl::Status Resume(const std::string& name) = 0;
  virtual absl::Status LoadTable(const v1::LoadTableRequest& request) = 0;
  virtual absl::StatusOr<v1::ReplaceMemberResponse> ReplaceMember(
      const v1::ReplaceMemberRequest& request) = 0;
  virtual absl::StatusOr<v1::Volume> ExpandVolume(const std::string& name, uint64_t size_bytes) = 0;
  virtual absl::StatusOr<v1::Volume> CloneVolume(const v1::CloneVolumeRequest& request) = 0;
  virtual absl::StatusOr<v1::FlattenVolumeResponse> FlattenVolume(
      const v1::FlattenVolumeRequest& request) = 0;
  virtual absl::StatusOr<v1::RestoreVolumeResponse> RestoreVolume(
      const v1::RestoreVolumeRequest& request) = 0;
  virtual absl::StatusOr<v1::Snapshot> CreateSnapshot(const std::string& volume,
                                                      const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots(const std::string& volume) = 0;
  virtual absl::StatusOr<v1::Snapshot> GetSnapshot(const std::string& volume,
                                                   const std::string& name) = 0;
  virtual absl::Status DeleteSnapshot(const std::string& volume, const std::string& name) = 0;
  // The bytes of `request`, which names a snapshot.
  virtual absl::StatusOr<std::string> ReadSnapshot(const v1::ReadRequest& request) = 0;
  virtual absl::StatusOr<v1::ScrubStatus> Scrub(const v1::ScrubRequest& request) = 0;
  virtual absl::StatusOr<v1::ExplainResponse> Explain(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<v1::ReplicaSummary>> ListReplicas() = 0;
  virtual absl::Status ForgetReplica(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<v1::FrontendSummary>> ListFrontends() = 0;
  virtual absl::StatusOr<v1::Volume> SetAttributes(const v1::SetAttributesRequest& request) = 0;
  virtual absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(
      const v1::RebuildCatalogRequest& request) = 0;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_HOST_H_
