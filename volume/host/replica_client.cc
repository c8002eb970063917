#include "volume/host/replica_client.h"

#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "proto/wire/status.h"
#include "volume/host/replica_channel.h"

namespace weir::host {

void Cancellation::Cancel() {
  absl::MutexLock lock(&mu_);
  cancelled_ = true;
  for (grpc::ClientContext* context : running_) context->TryCancel();
}

bool Cancellation::WaitFor(absl::Duration wait) {
  absl::MutexLock lock(&mu_);
  return mu_.AwaitWithTimeout(absl::Condition(&cancelled_), wait);
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
      stub_(v1::ReplicaService::NewStub(MakeReplicaChannel(address_))) {}

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
    absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::GetReplicaResponse response;
  RETURN_IF_ERROR(
      Explain(stub_->GetReplica(&call.context, {}, &response), "asking it"));
  return response;
}

absl::StatusOr<v1::CreateReplicaVolumeResponse> ReplicaClient::CreateVolume(
    const v1::CreateReplicaVolumeRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::CreateReplicaVolumeResponse response;
  RETURN_IF_ERROR(
      Explain(stub_->CreateVolume(&call.context, request, &response),
              "creating the volume"));
  return response;
}

absl::Status ReplicaClient::DeleteVolume(
    const v1::DeleteReplicaVolumeRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::DeleteReplicaVolumeResponse response;
  return Explain(stub_->DeleteVolume(&call.context, request, &response),
                 "deleting the volume");
}

absl::StatusOr<v1::SealResponse> ReplicaClient::Seal(
    const v1::SealRequest& request, absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::SealResponse response;
  RETURN_IF_ERROR(
      Explain(stub_->Seal(&call.context, request, &response), "sealing it"));
  return response;
}

absl::Status ReplicaClient::TakeBase(const v1::TakeBaseRequest& request,
                                     absl::Duration deadline) {
  Call call(cancellation_, deadline);
  v1::TakeBaseResponse response;
  return Explain(stub_->TakeBase(&call.context, request, &response),
                 "taking the new base");
}

absl::Status ReplicaClient::CopyTailFrom(ReplicaClient& source,
                                         const v1::ReadTailRequest& read,
                                         const v1::AdoptTailRequest& adopt,
                                         absl::Duration deadline) {
  Call reading(cancellation_, deadline);
  Call adopting(cancellation_, deadline);
  v1::AdoptTailResponse response;
  auto reader = source.stub_->ReadTail(&reading.context, read);
  auto writer = stub_->AdoptTail(&adopting.context, &response);

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

}  // namespace weir::host
