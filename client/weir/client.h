// Weir's C++ client library: volumes over gRPC.
//
//   ASSIGN_OR_RETURN(auto client, weir::Client::Connect("127.0.0.1:7700"));
//   ASSIGN_OR_RETURN(auto volume, client->OpenVolume("demo"));
//   RETURN_IF_ERROR(volume->Write(0, std::string(4096, 'x')));
//   RETURN_IF_ERROR(volume->Flush());  // on stable storage on every replica
//
// Statuses carry the errno (weir::StatusToErrno) and a message for people.
// Thread-safety: all methods of all classes may be called from any thread.
#ifndef WEIR_CLIENT_WEIR_CLIENT_H_
#define WEIR_CLIENT_WEIR_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "absl/time/time.h"
#include "proto/base/tls_files.h"
#include "weir/v1/volume.pb.h"

namespace weir {

// For a process that goes on with a volume where another one, which has died, stopped. Whoever has that one's unanswered
// requests (the kernel, for a block device) sends them again; their first copies may still be on their way, and
// must not take effect after what comes next.
struct Succession {
  // Made up at random by the first, the same for all of them. Empty: nobody goes on with this handle.
  std::string client;
  // Of each one higher than of the one before.
  uint32_t generation = 0;
  // Volume::epoch() of the first one, just opened; 0: this is the first. OpenVolume is ABORTED where something
  // may be lost that was answered since.
  uint32_t epoch = 0;
};

struct ClientOptions {
  // This process's certificate, with the URI weir://client (or another role, see proto/wire/access.h)
  // among its names. A process has one: all its clients give the same. Empty: plain text, to this machine, or with
  // tls.insecure to any.
  TlsFiles tls;
  absl::Duration connect_timeout = absl::Seconds(10);
  // For each control call, and for how long requests of a lost stream wait for a new one.
  absl::Duration timeout = absl::Seconds(60);
  // Bytes of data a volume handle may have unanswered; at the limit calls wait.
  // A request larger than this runs alone.
  uint64_t inflight_bytes_max = 16 << 20;
  // Between two attempts to reconnect; doubles from the first to the second.
  absl::Duration reconnect_delay_min = absl::Milliseconds(50);
  absl::Duration reconnect_delay_max = absl::Seconds(1);
  // If it is given, the client opens one volume.
  Succession succession;
};

// One request's answer with what single targets said.
struct IoResult {
  absl::Status status;
  std::vector<v1::TargetResult> targets;  // those that did not answer plain success
  std::string data;                       // reads
  std::vector<v1::Extent> extents;
};

// An open volume: one I/O stream. Dropping the handle waits for what is in
// flight (so it must not be dropped in a callback).
//
// When the stream breaks, the handle reconnects by itself, and attaches the volume if its
// frontend was restarted. While nothing that was answered is lost, unanswered
// requests are sent again: the frontend has lived on, or the one that took over says so (some
// replica's host has not restarted since). A request is idempotent as long as its caller has seen no
// answer. The frontend cuts the older stream off first, and replicas refuse an older frontend, so
// a first copy cannot come after a later write; the second one can: where several clients write the same
// blocks, what one has written over the first may be overwritten by the second, until that is answered.
// Requests that wait longer than ClientOptions::timeout fail with UNAVAILABLE; whether such a write took
// effect is not known.
//
// If the volume was taken over and that cannot be said, writes that were
// answered but not flushed may be lost. A caller that holds such data must
// hear of it, and must not read something older in their place. So every
// request, those waiting included, fails with ABORTED until Reset() is called. The same
// holds after a detach that somebody has asked for. A frontend that is stopped detaches its volumes, too:
// then requests wait, as if it had crashed, and go on if it is the next one to attach the volume.
//
// An answer counts once: repeated ones, and those of an older stream, are
// ignored.
class Volume {
 public:
  using Callback = std::function<void(IoResult)>;
  virtual ~Volume() = default;

  virtual uint64_t size_bytes() const = 0;
  virtual uint32_t epoch() const = 0;
  virtual bool flush_supported() const = 0;
  // Of one READ, WRITE or BARRIER.
  virtual uint32_t length_bytes_max() const = 0;

  // Callback forms: `done` runs once, with no lock held, on a gRPC thread, or (where the request
  // is refused at once) on the caller's; it must not block.
  // Offsets and lengths are multiples of 4096. At the limit of bytes in flight
  // they wait, except when called from a `done`, which would wait for itself: there, start at
  // most one request for the one that is done.
  virtual void ReadAsync(uint64_t offset, uint32_t length, Callback done) = 0;
  virtual void WriteAsync(uint64_t offset, std::string data, bool fua, Callback done) = 0;
  virtual void WriteZeroesAsync(uint64_t offset, uint32_t length, bool fua, Callback done) = 0;
  virtual void DiscardAsync(uint64_t offset, uint32_t length, Callback done) = 0;
  virtual void BarrierAsync(uint64_t offset, std::string data, Callback done) = 0;
  virtual void FlushAsync(Callback done) = 0;
  virtual void ExtentsAsync(uint64_t offset, uint32_t length, Callback done) = 0;

  // Blocking forms; not to be called in a callback. All but Barrier split what is longer than
  // length_bytes_max(), and answer the first error by offset.
  absl::StatusOr<std::string> Read(uint64_t offset, uint32_t length);
  absl::Status Write(uint64_t offset, std::string data, bool fua = false);
  absl::Status WriteZeroes(uint64_t offset, uint64_t length, bool fua = false);
  absl::Status Discard(uint64_t offset, uint64_t length);
  absl::Status Barrier(uint64_t offset, std::string data);
  absl::Status Flush();
  absl::StatusOr<std::vector<v1::Extent>> Extents(uint64_t offset, uint64_t length);

  // Accepts that the volume was taken over or detached: requests are admitted
  // again. Data that was written but not flushed before must be taken for lost.
  virtual void Reset() = 0;
};

// A connection to one frontend. Volumes opened through it may outlive it.
class Client {
 public:
  // `address`: host:port or unix:PATH. UNAVAILABLE: nobody answers there.
  static absl::StatusOr<std::unique_ptr<Client>> Connect(const std::string& address,
                                                         ClientOptions options = {});
  virtual ~Client() = default;

  // Attaches the volume if it is not, and opens a stream. FAILED_PRECONDITION: another frontend
  // has it; the message says which.
  virtual absl::StatusOr<std::unique_ptr<Volume>> OpenVolume(const std::string& name) = 0;

  virtual absl::StatusOr<v1::Volume> CreateVolume(const v1::CreateVolumeRequest& request) = 0;
  virtual absl::Status DeleteVolume(const std::string& name) = 0;
  virtual absl::StatusOr<std::vector<v1::Volume>> ListVolumes() = 0;
  virtual absl::StatusOr<v1::Volume> GetVolume(const std::string& name) = 0;
  // Also takes it over from another frontend that has it, dead or alive.
  virtual absl::Status Attach(const std::string& name) = 0;
  virtual absl::Status Detach(const std::string& name, bool force = false) = 0;
  virtual absl::Status Suspend(const std::string& name, bool noflush = false,
                               absl::Duration deadline = absl::Seconds(30)) = 0;
  virtual absl::Status Resume(const std::string& name) = 0;
  virtual absl::Status LoadTable(const std::string& name, const v1::Table& table) = 0;
  // Gives a member's place to another replica; `with` empty: chosen. Answers who took it, or, with
  // `make_before_break`, who is to take it once it is in sync.
  virtual absl::StatusOr<std::string> ReplaceMember(const std::string& name,
                                                    const std::string& replica,
                                                    const std::string& with = "",
                                                    bool make_before_break = false) = 0;
  // All of its new size. Open handles keep the old one until they reconnect.
  virtual absl::StatusOr<v1::Volume> ExpandVolume(const std::string& name,
                                                  uint64_t size_bytes) = 0;
  // --- clones; proto/weir/v1/volume.proto has what they mean ---
  virtual absl::StatusOr<v1::Volume> CloneVolume(const v1::CloneVolumeRequest& request) = 0;
  // Copies some; to be called with the reply's next_bytes until it is done.
  virtual absl::StatusOr<v1::FlattenVolumeResponse> FlattenVolume(const std::string& name,
                                                                  uint64_t from_bytes) = 0;
  // Of a detached volume, or a suspended one, which stays so. Answers how much had been written since. Takes as long as that does.
  virtual absl::StatusOr<uint64_t> RestoreVolume(const std::string& name,
                                                 const std::string& snapshot) = 0;
  // --- snapshots; proto/weir/v1/volume.proto has what they mean ---
  virtual absl::StatusOr<v1::Snapshot> CreateSnapshot(const std::string& volume,
                                                      const std::string& name) = 0;
  // `volume` empty: of all.
  virtual absl::StatusOr<std::vector<v1::Snapshot>> ListSnapshots(const std::string& volume) = 0;
  virtual absl::StatusOr<v1::Snapshot> GetSnapshot(const std::string& volume,
                                                   const std::string& name) = 0;
  virtual absl::Status DeleteSnapshot(const std::string& volume, const std::string& name) = 0;
  // At most 4 MiB; offset and length are multiples of 4096.
  virtual absl::StatusOr<std::string> ReadSnapshot(const std::string& volume,
                                                   const std::string& name, uint64_t offset,
                                                   uint32_t length) = 0;
  // Compares all replicas while clients go on, and repairs them from each other; `stop`: ends that. Answers at
  // once, GetVolume says how far it is.
  virtual absl::StatusOr<v1::ScrubStatus> Scrub(const std::string& name, bool stop = false) = 0;
  virtual absl::StatusOr<v1::ExplainResponse> Explain(const std::string& name) = 0;
  // Blocks for that many seconds, or until the volume is detached.
  virtual absl::StatusOr<v1::TraceResponse> Trace(const v1::TraceRequest& request) = 0;
  virtual absl::StatusOr<std::vector<v1::ReplicaSummary>> ListReplicas() = 0;
  // One that is gone for ever; see VolumeService.ForgetReplica.
  virtual absl::Status ForgetReplica(const std::string& name) = 0;
  // For a catalog that was lost; see VolumeService.RebuildCatalog.
  virtual absl::StatusOr<v1::RebuildCatalogResponse> RebuildCatalog(
      const v1::RebuildCatalogRequest& request) = 0;
  // With per-target details, also on success.
  virtual IoResult Flush(const std::string& name) = 0;
};

}  // namespace weir

#endif  // WEIR_CLIENT_WEIR_CLIENT_H_
