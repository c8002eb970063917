// ReplicaService's unary calls, and the copies of a lane, in blocking form.
//
// Thread-safety: safe; each call blocks up to its deadline. A Cancellation
// ends the calls that run under it, and those still to come, at once.
#ifndef WEIR_VOLUME_HOST_REPLICA_CLIENT_H_
#define WEIR_VOLUME_HOST_REPLICA_CLIENT_H_

#include <atomic>
#include <cstdint>
#include <memory>
#include <set>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "proto/base/steady.h"
#include "weir/v1/replica.pb.h"

namespace grpc {
class ClientContext;
class Status;
}

namespace weir::host {

// Thread-safe.
class Cancellation {
 public:
  void Cancel();
  // True once cancelled, or false after `wait`.
  bool WaitFor(absl::Duration wait);

  // While this lives, Cancel cancels `context`.
  class Scope {
   public:
    Scope(Cancellation* cancellation, grpc::ClientContext* context);
    ~Scope();
    Scope(const Scope&) = delete;
    Scope& operator=(const Scope&) = delete;

   private:
    Cancellation* const cancellation_;
    grpc::ClientContext* const context_;
  };

 private:
  absl::Mutex mu_;
  SteadyCondVar changed_;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  std::set<grpc::ClientContext*> running_ ABSL_GUARDED_BY(mu_);
};

class ReplicaClient {
 public:
  // `cancellation` may be null. It outlives the client.
  ReplicaClient(std::string replica, std::string address,
                Cancellation* cancellation = nullptr);
  ~ReplicaClient();

  const std::string& replica() const { return replica_; }

  // Errors name the replica and its address.
  // `volume_id`: see GetReplicaRequest.
  absl::StatusOr<v1::GetReplicaResponse> GetReplica(absl::Duration deadline, uint64_t volume_id = 0);
  absl::StatusOr<v1::CreateReplicaVolumeResponse> CreateVolume(
      const v1::CreateReplicaVolumeRequest& request, absl::Duration deadline);
  absl::Status DeleteVolume(const v1::DeleteReplicaVolumeRequest& request,
                            absl::Duration deadline);
  absl::StatusOr<v1::SealResponse> Seal(const v1::SealRequest& request,
                                        absl::Duration deadline);
  absl::Status TakeBase(const v1::TakeBaseRequest& request,
                        absl::Duration deadline);
  absl::Status UpdateVolume(const v1::UpdateReplicaVolumeRequest& request,
                            absl::Duration deadline);
  absl::Status KeepRecord(const v1::KeepRecordRequest& request, absl::Duration deadline);
  absl::StatusOr<v1::ListRecordsResponse> ListRecords(absl::Duration deadline);
  absl::StatusOr<v1::ReadPinnedResponse> ReadPinned(const v1::ReadPinnedRequest& request,
                                                    absl::Duration deadline);
  absl::StatusOr<v1::GetChangedSinceResponse> GetChangedSince(
      const v1::GetChangedSinceRequest& request, absl::Duration deadline);

  // Pipes ReadTail of `source` into AdoptTail here. `adopt`: the first
  // message, without a chunk.
  absl::Status CopyTailFrom(ReplicaClient& source,
                            const v1::ReadTailRequest& read,
                            const v1::AdoptTailRequest& adopt,
                            absl::Duration deadline);

  // --- join; proto/weir/v1/replica.proto has what they mean ---
  absl::StatusOr<v1::GetChangesResponse> GetChanges(
      const v1::GetChangesRequest& request, absl::Duration deadline);
  absl::Status BeginJoin(const v1::BeginJoinRequest& request,
                         absl::Duration deadline);
  absl::StatusOr<v1::GetJoinResponse> GetJoin(const v1::GetJoinRequest& request,
                                              absl::Duration deadline);
  absl::Status FinishJoin(const v1::FinishJoinRequest& request,
                          absl::Duration deadline);
  absl::StatusOr<v1::GetDigestsResponse> GetDigests(
      const v1::GetDigestsRequest& request, absl::Duration deadline);

  // Copies the blocks of `read.ranges` (ascending, disjoint) from `source`,
  // part by part: pipes ReadVersions into CopyIn here. `copy`: its fence, lane,
  // join and position. `deadline` is for about 16 MiB, so a call may take
  // many of it; what it copied before an error stays copied. Errors name the
  // replica that is at fault: for `source`'s, another source may do.
  //
  // `copied`, if given, tells how much of it has been copied in so far.
  // Returns the highest position that the source was at: the target is whole
  // once it has come there too.
  struct Copied {
    std::atomic<uint64_t> bytes{0};          // of data
    std::atomic<uint64_t> lost_versions{0};  // `read.lost_too`
    bool refuse_lost_newest = false;         // set by the caller: EBADMSG if a block's newest version is lost
  };
  absl::StatusOr<Position> CopyBlocks(ReplicaClient& source,
                                      const v1::ReadVersionsRequest& read,
                                      const v1::CopyInRequest& copy,
                                      absl::Duration deadline,
                                      Copied* copied);

 private:
  struct Service;  // the generated stub; its header is slow to compile

  absl::Status CopyIn(v1::CopyInRequest* request, absl::Duration deadline);
  // One stream of it. Takes from `read` what has been copied.
  absl::StatusOr<Position> CopyRound(ReplicaClient& source,
                                     v1::ReadVersionsRequest* read,
                                     v1::CopyInRequest* copy,
                                     absl::Duration deadline,
                                     Copied* copied);
  absl::Status Explain(const grpc::Status& status, const char* doing) const;

  const std::string replica_;
  const std::string address_;
  Cancellation* const cancellation_;
  const std::unique_ptr<Service> service_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_REPLICA_CLIENT_H_
