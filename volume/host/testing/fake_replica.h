// A replica in memory, behind a real gRPC server: what volume/host's tests
// talk to. It keeps ReplicaService's rules as far as a frontend can see them
// (order in a lane, promise, base, tails), and does what tests tell it to.
//
// Thread-safety: safe.
#ifndef WEIR_VOLUME_HOST_TESTING_FAKE_REPLICA_H_
#define WEIR_VOLUME_HOST_TESTING_FAKE_REPLICA_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "grpcpp/server.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::host {

class FakeReplica final : public v1::ReplicaService::Service {
 public:
  explicit FakeReplica(std::string name);
  ~FakeReplica() override;

  const std::string& name() const { return name_; }
  const std::string& address() const { return address_; }

  // Ends the process, so to speak: streams break, calls are refused. Data stays.
  void Stop();
  // Starts it again at the same address, with a new incarnation.
  void Start();

  // What it says of itself.
  void SetLabels(std::map<std::string, std::string> labels);

  // It is an empty one. Of a volume that is not attached.
  void ReplaceDisk();
  // The next `count` clones of `kind` are answered with `error`.
  void FailNext(v1::IoKind kind, int error, int count = 1);
  // Every later flush is answered EOPNOTSUPP, and hello says so if `announce`.
  void RefuseFlush(bool announce);
  // Hello says that there is no room for more data.
  void SetFull(bool full);
  // The next `count` streams end so, instead of being answered with a hello.
  void RefuseStreams(int count, grpc::Status status);
  // What a read returns no longer matches its checksum, `count` times.
  void CorruptReads(int count);
  // The next CreateVolume or DeleteVolume fails with this.
  void FailNextAdministration(grpc::Status status);
  // The next `count` creations and deletions whose callers say what they were told find that there was another one since.
  void ChangeVolumesFirst(int count);
  // Another frontend seals the volume with an epoch beyond all others'.
  void PromiseHigherEpoch();
  // Drops unflushed writes of lane 0, as a power cut would.
  void ForgetLastWrite();
  // Writes are not answered until Release.
  void HoldWrites();
  void Release();

  // The next `count` updates of pins and size fail with this.
  // What it says that it takes for each clone.
  static constexpr uint32_t kStoreMicros = 7;
  void FailUpdates(int count, grpc::Status status);
  // It does not say what has changed since a pin, in lanes from `from_lane` on.
  void RefuseChangedSince(bool refuse, uint32_t from_lane = 0);
  // The next time that it is asked what has changed it runs `meanwhile`, and says that nothing has: as with an older disk.
  void ForgetWhatChanged(std::function<void()> meanwhile);
  // The next time that it is asked for what a pin holds it runs `meanwhile`, and then answers.
  void BeforeReadPinned(std::function<void()> meanwhile);
  // Until then it is answered so, unless that is OK.
  void AnswerReadPinned(grpc::StatusCode answer);
  // Of this block it is UNAVAILABLE.
  void RefuseReadPinnedOf(std::optional<uint64_t> block);
  // It is not answered until it hangs no more.
  void HangReadPinned(bool hang);
  uint64_t pinned_reads() const;
  uint64_t pinned_reads_at_once_max() const;
  // As it was told last.
  std::vector<v1::Pin> pins() const;
  uint64_t size_bytes() const;

  bool HasVolume() const;
  uint64_t flushes() const;
  uint64_t blocks_read() const;
  int streams_to_refuse() const;

  grpc::Status Io(grpc::ServerContext* context,
                  grpc::ServerReaderWriter<v1::IoReplyFrame, v1::IoFrame>* stream)
      override;
  grpc::Status GetReplica(grpc::ServerContext* context,
                          const v1::GetReplicaRequest* request,
                          v1::GetReplicaResponse* response) override;
  grpc::Status CreateVolume(grpc::ServerContext* context,
                            const v1::CreateReplicaVolumeRequest* request,
                            v1::CreateReplicaVolumeResponse* response) override;
  grpc::Status DeleteVolume(grpc::ServerContext* context,
                            const v1::DeleteReplicaVolumeRequest* request,
                            v1::DeleteReplicaVolumeResponse* response) override;
  grpc::Status Seal(grpc::ServerContext* context, const v1::SealRequest* request,
                    v1::SealResponse* response) override;
  grpc::Status ReadTail(grpc::ServerContext* context,
                        const v1::ReadTailRequest* request,
                        grpc::ServerWriter<v1::TailChunk>* writer) override;
  grpc::Status AdoptTail(grpc::ServerContext* context,
                         grpc::ServerReader<v1::AdoptTailRequest>* reader,
                         v1::AdoptTailResponse* response) override;
  grpc::Status TakeBase(grpc::ServerContext* context,
                        const v1::TakeBaseRequest* request,
                        v1::TakeBaseResponse* response) override;
  grpc::Status UpdateVolume(grpc::ServerContext* context,
                            const v1::UpdateReplicaVolumeRequest* request,
                            v1::UpdateReplicaVolumeResponse* response) override;
  grpc::Status KeepRecord(grpc::ServerContext* context, const v1::KeepRecordRequest* request,
                          v1::KeepRecordResponse* response) override;
  grpc::Status ListRecords(grpc::ServerContext* context, const v1::ListRecordsRequest* request,
                           v1::ListRecordsResponse* response) override;
  grpc::Status ReadPinned(grpc::ServerContext* context, const v1::ReadPinnedRequest* request,
                          v1::ReadPinnedResponse* response) override;
  grpc::Status GetChangedSince(grpc::ServerContext* context,
                               const v1::GetChangedSinceRequest* request,
                               v1::GetChangedSinceResponse* response) override;

 private:
  struct Change {
    uint64_t position = 0;
    uint64_t first_block = 0;
    std::vector<std::string> before;  // empty string: zeros
    std::vector<std::string> after;
  };
  struct Lane {
    uint64_t position = 0;
    uint64_t durable = 0;
    std::vector<v1::LineageEntry> lineage;
    std::vector<Change> changes;
  };
  struct Volume {
    uint32_t promised = 0;
    std::vector<Lane> lanes;
    std::map<uint64_t, std::string> blocks;  // absent: zeros
    uint64_t size_bytes = 0;
    uint64_t update_version = 0;
    v1::KeptRecord record;  // its copy
    std::vector<v1::Pin> pins;
    std::map<uint64_t, std::map<uint64_t, std::string>> pinned;  // by pin: what `blocks` was
  };

  grpc::Status CheckFence(const v1::Fence& fence)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void LaneStates(google::protobuf::RepeatedPtrField<v1::LaneState>* field)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Answer(const v1::Io& io, const std::string& data, v1::IoReply* reply,
              std::string* payload) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  void Apply(const v1::Io& io, const std::string& data, v1::IoReply* reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  bool TakeFault(v1::IoKind kind, v1::IoReply* reply)
      ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string name_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;

  mutable absl::Mutex mu_;
  std::string store_id_ ABSL_GUARDED_BY(mu_);
  uint64_t incarnation_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<uint64_t, Volume> volumes_ ABSL_GUARDED_BY(mu_);
  Volume* volume_ ABSL_GUARDED_BY(mu_) = nullptr;  // tests use one at a time
  std::map<v1::IoKind, std::pair<int, int>> faults_ ABSL_GUARDED_BY(mu_);
  int corrupt_reads_ ABSL_GUARDED_BY(mu_) = 0;
  std::map<std::string, std::string> labels_ ABSL_GUARDED_BY(mu_);
  bool refuse_flush_ ABSL_GUARDED_BY(mu_) = false;
  bool announce_no_flush_ ABSL_GUARDED_BY(mu_) = false;
  bool full_ ABSL_GUARDED_BY(mu_) = false;
  int refuse_streams_ ABSL_GUARDED_BY(mu_) = 0;
  grpc::Status stream_refusal_ ABSL_GUARDED_BY(mu_);
  bool hold_writes_ ABSL_GUARDED_BY(mu_) = false;
  bool stopping_ ABSL_GUARDED_BY(mu_) = false;
  grpc::Status next_administration_ ABSL_GUARDED_BY(mu_);
  // As the server's gate: counts a creation or deletion, unless there was another one since its caller asked.
  template <typename Request>
  grpc::Status CountChange(const Request& request) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  std::map<uint64_t, uint64_t> volume_changes_ ABSL_GUARDED_BY(mu_);
  int change_first_ ABSL_GUARDED_BY(mu_) = 0;
  int fail_updates_ ABSL_GUARDED_BY(mu_) = 0;
  bool refuse_changed_since_ ABSL_GUARDED_BY(mu_) = false;
  uint32_t refuse_from_lane_ ABSL_GUARDED_BY(mu_) = 0;
  std::function<void()> forgets_what_changed_ ABSL_GUARDED_BY(mu_);
  std::function<void()> before_read_pinned_ ABSL_GUARDED_BY(mu_);
  grpc::StatusCode read_pinned_answer_ ABSL_GUARDED_BY(mu_) = grpc::StatusCode::OK;
  std::optional<uint64_t> refused_block_ ABSL_GUARDED_BY(mu_);
  bool read_pinned_hangs_ ABSL_GUARDED_BY(mu_) = false;
  uint64_t pinned_reads_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t pinned_reads_now_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t pinned_reads_max_ ABSL_GUARDED_BY(mu_) = 0;
  grpc::Status update_refusal_ ABSL_GUARDED_BY(mu_);
  uint64_t blocks_read_ ABSL_GUARDED_BY(mu_) = 0;
  uint64_t flushes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_TESTING_FAKE_REPLICA_H_
