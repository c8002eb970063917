#include "volume/host/replica_client.h"

#include <algorithm>
#include <cerrno>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/client_context.h"
#include "proto/base/errno.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"
#include "volume/host/replica_channel.h"
#include "weir/v1/replica.grpc.pb.h"

namespace weir::host {

struct ReplicaClient::Service {
  explicit Service(const std::string& address) : stub(MakeReplicaChannel(address)) {}
  v1::ReplicaService::Stub stub;
};

void Cancellation::Cancel() {
  absl::MutexLock lock(&mu_);
  cancelled_ = true;
  changed_.SignalAll();
  for (grpc::ClientContext* context : running_) context->TryCancel();
}

bool Cancellation::WaitFor(absl::Duration wait) {
  absl::MutexLock lock(&mu_);
  return changed_.AwaitFor(&mu_, wait, &cancelled_);
}

Cancellation::Scope::Scope(Cancellation* cancellation,
                           grpc::ClientContext* context)
    : cancellation_(cancellation), context_(context) {
  if (cancellation_ == nullptr) return;
  absl::MutexLock lock(&cancellation_->mu_);
  cancellation_->running_.insert(context_);
  if (cancellation_->cancelled_) context_->TryCancel();
}

Cancellation::Scope::~Scope() {
  if (cancellation_ == nullptr) return;
  absl::MutexLock lock(&cancellation_->mu_);
  cancellation_->running_.erase(context_);
}

namespace {

// Copied under one deadline.
constexpr uint64_t kCopyRoundBytes = 16 << 20;

// A context with its deadline, under a cancellation while it lives.
struct Call {
  Call(Cancellation* cancellation, absl::Duration deadline)
      : scope(cancellation, &context) {
    context.set_deadline(absl::ToChronoTime(absl::Now() + deadline));
  }
  grpc::ClientContext context;
  Cancellation::Scope scope;
};

}  // namespace

ReplicaClient::ReplicaClient(std::string replica, std::string address,
                             Cancellation* cancellation)
    : replica_(std::move(replica)),
      address_(std::move(address)),
      cancellation_(cancellation),
      service_(std::make_unique<Service>(address_)) {}

ReplicaClient::~ReplicaClient() = default;

absl::Status ReplicaClient::Explain(const grpc::Status& status,
                                    const char* doing) const {
  if (status.ok()) return absl::OkStatus();
  const absl::Status error = wire::FromGrpc(status);
  absl::Status named(error.code(),
                     absl::StrCat("replica ", replica_, " at ", address_, ": ",
                                  doing, ": ", error.message()));
  error.ForEachPayload([&named](absl::string_view url, const absl::Cord& cord) {
    named.SetPayload(url, cord);
  });
  return named;
}

absl::StatusOr<v1::GetReplicaResponse> ReplicaClient::GetReplica(
    absl::Duration deadline, uint64_t volume_id) {
  Call call(cancellation_, deadline);
  v1::GetReplicaRequest request;
  request.set_volume_id(volume_id);
  v1::GetReplicaResponse response;
  RETURN_IF_ERROR(Explain(service_->stub.GetReplica(&call.context, request, &response), "asking it"));
  return response;
}

absl::StatusOr<v1::CreateReplicaVolumeResponse> ReplicaClient::CreateVolume(
    const v1::CreateReplicaVolumeRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::CreateReplicaVolumeResponse response;
  RETURN_IF_ERROR(
      Explain(service_->stub.CreateVolume(&call.context, request, &response),
              "creating the volume"));
  return response;
}

absl::Status ReplicaClient::DeleteVolume(
    const v1::DeleteReplicaVolumeRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::DeleteReplicaVolumeResponse response;
  return Explain(service_->stub.DeleteVolume(&call.context, request, &response),
                 "deleting the volume");
}

absl::StatusOr<v1::SealResponse> ReplicaClient::Seal(
    const v1::SealRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::SealResponse response;
  RETURN_IF_ERROR(
      Explain(service_->stub.Seal(&call.context, request, &response), "sealing it"));
  return response;
}

absl::Status ReplicaClient::TakeBase(const v1::TakeBaseRequest& request,
                                     absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::TakeBaseResponse response;
  return Explain(service_->stub.TakeBase(&call.context, request, &response),
                 "taking the new base");
}

absl::Status ReplicaClient::UpdateVolume(const v1::UpdateReplicaVolumeRequest& request,
                                         absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::UpdateReplicaVolumeResponse response;
  return Explain(service_->stub.UpdateVolume(&call.context, request, &response),
                 "telling it size and pins");
}

absl::Status ReplicaClient::KeepRecord(const v1::KeepRecordRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::KeepRecordResponse response;
  return Explain(service_->stub.KeepRecord(&call.context, request, &response), "giving it a copy of the record");
}

// `deadline`: for each page.
absl::StatusOr<v1::ListRecordsResponse> ReplicaClient::ListRecords(absl::Duration deadline) {
  v1::ListRecordsRequest request;
  v1::ListRecordsResponse all;
  do {
    Call call(cancellation_, deadline);
    v1::ListRecordsResponse page;
    RETURN_IF_ERROR(Explain(service_->stub.ListRecords(&call.context, request, &page),
                            "asking for its copies of records"));
    if (page.next_volume_id() != 0 && page.next_volume_id() <= request.from_volume_id()) {
      return absl::InternalError(absl::StrCat("replica ", replica_, " lists records in a circle"));
    }
    request.set_from_volume_id(page.next_volume_id());
    all.MergeFrom(page);
    all.set_next_volume_id(page.next_volume_id());
  } while (all.next_volume_id() != 0);
  return all;
}

absl::StatusOr<v1::ReadPinnedResponse> ReplicaClient::ReadPinned(
    const v1::ReadPinnedRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::ReadPinnedResponse response;
  RETURN_IF_ERROR(Explain(service_->stub.ReadPinned(&call.context, request, &response),
                          "reading at a pin"));
  return response;
}

absl::StatusOr<v1::GetChangedSinceResponse> ReplicaClient::GetChangedSince(
    const v1::GetChangedSinceRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::GetChangedSinceResponse response;
  RETURN_IF_ERROR(Explain(service_->stub.GetChangedSince(&call.context, request, &response),
                          "asking what changed since a pin"));
  return response;
}

absl::Status ReplicaClient::CopyTailFrom(ReplicaClient& source,
                                         const v1::ReadTailRequest& read,
                                         const v1::AdoptTailRequest& adopt,
                                         absl::Duration deadline) {
  Call reading(cancellation_, deadline);
  Call adopting(cancellation_, deadline);
  v1::AdoptTailResponse response;
  auto reader = source.service_->stub.ReadTail(&reading.context, read);
  auto writer = service_->stub.AdoptTail(&adopting.context, &response);

  v1::AdoptTailRequest message = adopt;
  bool writable = writer->Write(message);
  message.Clear();
  while (writable && reader->Read(message.mutable_chunk())) {
    writable = writer->Write(message);
  }
  if (!writable) reading.context.TryCancel();
  const grpc::Status read_status = reader->Finish();
  if (writable && read_status.ok()) {
    message.Clear();
    message.set_commit(true);
    writer->WriteLast(message, grpc::WriteOptions());
  } else {
    // Half-closing without `commit` would do too; this says it louder.
    adopting.context.TryCancel();
  }
  const grpc::Status adopted = writer->Finish();
  // A reader that we cancelled ourselves has nothing to say.
  if (writable) RETURN_IF_ERROR(source.Explain(read_status, "reading its tail"));
  return Explain(adopted, "adopting the tail");
}

absl::StatusOr<v1::GetChangesResponse> ReplicaClient::GetChanges(
    const v1::GetChangesRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::GetChangesResponse response;
  RETURN_IF_ERROR(Explain(service_->stub.GetChanges(&call.context, request, &response),
                          "asking what changed"));
  return response;
}

absl::Status ReplicaClient::BeginJoin(const v1::BeginJoinRequest& request,
                                      absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::BeginJoinResponse response;
  return Explain(service_->stub.BeginJoin(&call.context, request, &response),
                 "beginning a join");
}

absl::StatusOr<v1::GetJoinResponse> ReplicaClient::GetJoin(
    const v1::GetJoinRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::GetJoinResponse response;
  RETURN_IF_ERROR(Explain(service_->stub.GetJoin(&call.context, request, &response),
                          "asking what is to be copied"));
  return response;
}

absl::StatusOr<v1::GetDigestsResponse> ReplicaClient::GetDigests(
    const v1::GetDigestsRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::GetDigestsResponse response;
  RETURN_IF_ERROR(Explain(service_->stub.GetDigests(&call.context, request, &response),
                          "comparing blocks"));
  return response;
}

absl::Status ReplicaClient::FinishJoin(const v1::FinishJoinRequest& request,
                                       absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::FinishJoinResponse response;
  return Explain(service_->stub.FinishJoin(&call.context, request, &response),
                 "finishing the join");
}

absl::Status ReplicaClient::CopyIn(v1::CopyInRequest* request,
                                   absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::CopyInResponse response;
  return Explain(service_->stub.CopyIn(&call.context, *request, &response),
                 "copying blocks in");
}

namespace {

using BlockRuns = google::protobuf::RepeatedPtrField<v1::BlockRun>;

// Takes `sent` off the front of `left`. False: that is not what `left` begins with.
bool TakeOff(const BlockRuns& sent, BlockRuns* left) {
  int taken = 0;
  for (const v1::BlockRun& run : sent) {
    uint64_t first = run.first_block();
    uint64_t count = run.block_count();
    if (count == 0) return false;
    while (count > 0) {
      if (taken == left->size() || left->Get(taken).first_block() != first) return false;
      v1::BlockRun& next = *left->Mutable(taken);
      const uint64_t blocks = std::min(count, next.block_count());
      first += blocks;
      count -= blocks;
      next.set_first_block(first);
      next.set_block_count(next.block_count() - blocks);
      if (next.block_count() == 0) ++taken;
    }
  }
  left->DeleteSubrange(0, taken);
  return true;
}

// By block, newest first.
bool LosesANewest(const v1::CopyInRequest& copy) {
  for (int i = 0; i < copy.versions_size(); ++i) {
    const bool newest = i == 0 || copy.versions(i).block() != copy.versions(i - 1).block();
    if (newest && copy.versions(i).lost()) return true;
  }
  return false;
}

void Count(const v1::CopyInRequest& copy, ReplicaClient::Copied* copied) {
  for (const v1::BlockVersion& version : copy.versions()) {
    copied->bytes += version.data().size();
    copied->lost_versions += version.lost() ? 1 : 0;
  }
}

}  // namespace

absl::StatusOr<Position> ReplicaClient::CopyRound(
    ReplicaClient& source, v1::ReadVersionsRequest* read,
    v1::CopyInRequest* copy, absl::Duration deadline, Copied* counted) {
  Call reading(cancellation_, deadline);
  auto reader = source.service_->stub.ReadVersions(&reading.context, *read);
  v1::VersionsPart part;
  Position position;
  absl::Status copied;
  bool anything = false;
  while (copied.ok() && reader->Read(&part)) {
    position = std::max(position, Position::FromBits(part.position()));
    if (part.ranges().empty()) continue;
    // Else what it leaves out would be taken for copied, or it would be asked for ever.
    if (!TakeOff(part.ranges(), read->mutable_ranges())) {
      copied = source.Explain(
          grpc::Status(grpc::StatusCode::INTERNAL, "it sent other blocks than it was asked for"),
          "reading versions");
      break;
    }
    copy->mutable_ranges()->Swap(part.mutable_ranges());
    copy->mutable_versions()->Swap(part.mutable_versions());
    if (counted != nullptr && counted->refuse_lost_newest && LosesANewest(*copy)) {
      reading.context.TryCancel();
      (void)reader->Finish();
      return ErrnoToStatus(EBADMSG, absl::StrCat("replica ", source.replica(), " has a block's newest version damaged"));
    }
    copied = CopyIn(copy, deadline);
    if (!copied.ok()) break;
    anything = true;
    if (counted != nullptr) Count(*copy, counted);
  }
  // A reader that we cancelled ourselves has nothing to say.
  if (!copied.ok()) reading.context.TryCancel();
  const grpc::Status read_status = reader->Finish();
  // Its own damage says nothing of the source's.
  if (StatusToErrno(copied) == EBADMSG) return ErrnoToStatus(EIO, std::string(copied.message()));
  RETURN_IF_ERROR(copied);
  RETURN_IF_ERROR(source.Explain(read_status, "reading versions"));
  if (!anything) {
    return source.Explain(
        grpc::Status(grpc::StatusCode::INTERNAL, "it sent no blocks at all"),
        "reading versions");
  }
  return position;
}

absl::StatusOr<Position> ReplicaClient::CopyBlocks(
    ReplicaClient& source, const v1::ReadVersionsRequest& read,
    const v1::CopyInRequest& copy, absl::Duration deadline, Copied* copied) {
  v1::ReadVersionsRequest left = read;
  left.set_bytes_max(kCopyRoundBytes);
  v1::CopyInRequest message = copy;
  Position position;
  while (!left.ranges().empty()) {
    ASSIGN_OR_RETURN(const Position reached,
                     CopyRound(source, &left, &message, deadline, copied));
    position = std::max(position, reached);
  }
  return position;
}

}  // namespace weir::host
