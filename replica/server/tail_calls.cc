#include "replica/server/tail_calls.h"

#include <cstdint>
#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "absl/types/optional.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"
#include "replica/server/admission.h"
#include "replica/server/convert.h"

namespace weir::replica {
namespace {

// gRPC's usual limit is 4 MiB a message; others may have less. A block is 4 KiB.
constexpr size_t kChunkBytes = 1000 * 1000;

absl::Status Busy() {
  return absl::UnavailableError("the replica is busy or shutting down; try again");
}

class ReadTailCall final : public grpc::ServerWriteReactor<v1::TailChunk> {
 public:
  ReadTailCall(Replica& replica, const wire::VolumeGrant& grant, const v1::ReadTailRequest& request)
      : replica_(replica), request_(request) {
    if (const absl::Status status = grant.Check(request_.fence().volume_id()); !status.ok()) {
      Finish(wire::ToGrpc(status));
      return;
    }
    if (!replica.control().Run([this] { Begin(); })) Finish(wire::ToGrpc(Busy()));
  }

  void OnWriteDone(bool ok) override {
    if (!ok) return Finish(grpc::Status(grpc::StatusCode::CANCELLED, "the caller went away"));
    WriteNext();
  }
  void OnDone() override { delete this; }

 private:
  void Begin() {
    const absl::Status status = replica_.gate().Step(request_.fence(), [this](VolumeId id) {
      ASSIGN_OR_RETURN(store::Tail tail,
                       replica_.store().ReadTail(
                           id, LaneId{request_.lane()},
                           Position::FromBits(request_.from_position()),
                           Position::FromBits(request_.to_position())));
      chunker_.emplace(std::move(tail), kChunkBytes);
      return absl::OkStatus();
    });
    if (!status.ok()) return Finish(wire::ToGrpc(status));
    WriteNext();
  }

  void WriteNext() {
    if (!chunker_->Next(&chunk_)) return Finish(grpc::Status::OK);
    StartWrite(&chunk_);
  }

  Replica& replica_;
  const v1::ReadTailRequest request_;
  absl::optional<TailChunker> chunker_;
  v1::TailChunk chunk_;
};

class AdoptTailCall final : public grpc::ServerReadReactor<v1::AdoptTailRequest> {
 public:
  AdoptTailCall(Replica& replica, const wire::VolumeGrant& grant)
      : replica_(replica), grant_(grant) {
    StartRead(&message_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) return HalfClosed();
    if (absl::Status status = Take(); !status.ok()) return Finish(wire::ToGrpc(status));
    StartRead(&message_);
  }
  void OnDone() override { delete this; }

 private:
  absl::Status Take() {
    if (committed_) return absl::InvalidArgumentError("a message after the one with commit");
    if (!first_.has_value()) {
      RETURN_IF_ERROR(TakeFirst());
    } else if (message_.has_fence()) {
      return absl::InvalidArgumentError("fence is for the first message only");
    }
    bytes_ += message_.ByteSizeLong();
    if (bytes_ > replica_.options().tail_bytes_max) {
      return absl::ResourceExhaustedError(
          absl::StrCat("a tail above ", replica_.options().tail_bytes_max,
                       " bytes; raise --tail_bytes_max, or rebuild this replica"));
    }
    AppendChunk(message_.chunk(), &tail_);
    committed_ = message_.commit();
    return absl::OkStatus();
  }

  absl::Status TakeFirst() {
    if (!message_.has_fence()) {
      return absl::InvalidArgumentError("the first message must carry fence");
    }
    RETURN_IF_ERROR(grant_.Check(message_.fence().volume_id()));
    // Who must not anyway shall not fill our memory first; decided again at the end.
    RETURN_IF_ERROR(
        CheckIdentity(replica_.store().identity(), message_.fence(), Acquaintance::kProcess));
    first_ = message_.fence();
    tail_ = TailFromProto(message_);
    return absl::OkStatus();
  }

  void HalfClosed() {
    if (!committed_) {
      return Finish(wire::ToGrpc(
          absl::InvalidArgumentError("closed without commit; nothing was adopted")));
    }
    const bool taken = replica_.control().Run([this] {
      const absl::Status status = replica_.gate().Step(*first_, [this](VolumeId id) {
        RETURN_IF_ERROR(replica_.store().AdoptTail(id, tail_));
        LOG(INFO) << "replica=" << replica_.options().name
                  << " volume=" << static_cast<uint64_t>(id) << " epoch=" << first_->epoch()
                  << " lane=" << Index(tail_.lane) << " adopted "
                  << tail_.versions.size() << " blocks up to " << tail_.to.ToString();
        return absl::OkStatus();
      });
      if (!status.ok()) replica_.CheckHealth();
      Finish(wire::ToGrpc(status));
    });
    if (!taken) Finish(wire::ToGrpc(Busy()));
  }

  Replica& replica_;
  const wire::VolumeGrant grant_;
  v1::AdoptTailRequest message_;
  absl::optional<v1::Fence> first_;
  store::Tail tail_;
  uint64_t bytes_ = 0;
  bool committed_ = false;
};

}  // namespace

grpc::ServerWriteReactor<v1::TailChunk>* StartReadTail(Replica& replica,
                                                       const wire::VolumeGrant& grant,
                                                       const v1::ReadTailRequest& request) {
  return new ReadTailCall(replica, grant, request);
}

grpc::ServerReadReactor<v1::AdoptTailRequest>* StartAdoptTail(Replica& replica,
                                                           const wire::VolumeGrant& grant) {
  return new AdoptTailCall(replica, grant);
}

}  // namespace weir::replica
