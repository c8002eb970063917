#include "client/weir/fake_frontend.h"

#include <stdlib.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>

#include "absl/strings/str_cat.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/server_context.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "proto/wire/status.h"

namespace weir {

FakeFrontend::FakeFrontend() {
  char dir[] = "/tmp/weir-fake-XXXXXX";  // a unix socket's path must be short
  CHECK(mkdtemp(dir) != nullptr);
  dir_ = dir;
  address_ = absl::StrCat("unix:", dir_, "/frontend");
  Start();
}

FakeFrontend::~FakeFrontend() {
  Release();
  Stop();
  unlink(absl::StrCat(dir_, "/frontend").c_str());
  rmdir(dir_.c_str());
}

void FakeFrontend::Start() {
  grpc::ServerBuilder builder;
  builder.AddListeningPort(address_, grpc::InsecureServerCredentials());
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
}

void FakeFrontend::Stop() {
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
}

void FakeFrontend::Script(std::vector<Act> acts) {
  absl::MutexLock lock(&mutex_);
  script_.assign(acts.begin(), acts.end());
}

void FakeFrontend::Restart(uint32_t epoch, uint32_t intact_since) {
  Stop();
  {
    absl::MutexLock lock(&mutex_);
    attached_ = false;
    epoch_ = epoch;
    intact_since_ = intact_since;
  }
  Start();
}

void FakeFrontend::RestartWithoutIt() {
  Stop();
  {
    absl::MutexLock lock(&mutex_);
    attached_ = false;
    elsewhere_ = true;
  }
  Start();
}

void FakeFrontend::Hold() {
  absl::MutexLock lock(&mutex_);
  held_ = true;
}

void FakeFrontend::Release() {
  absl::MutexLock lock(&mutex_);
  held_ = false;
}

void FakeFrontend::AwaitRequests(int requests) {
  absl::MutexLock lock(&mutex_);
  auto arrived = [this, requests]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) {
    return static_cast<int>(requests_.size()) >= requests;
  };
  mutex_.Await(absl::Condition(&arrived));
}

int FakeFrontend::attaches() const {
  absl::MutexLock lock(&mutex_);
  return attaches_;
}

int FakeFrontend::opens() const {
  absl::MutexLock lock(&mutex_);
  return static_cast<int>(sessions_.size());
}

std::vector<std::pair<std::string, uint64_t>> FakeFrontend::sessions() const {
  absl::MutexLock lock(&mutex_);
  return sessions_;
}

std::vector<v1::VolumeIo> FakeFrontend::requests() const {
  absl::MutexLock lock(&mutex_);
  return requests_;
}

grpc::Status FakeFrontend::Attach(grpc::ServerContext*, const v1::AttachRequest* request,
                                  v1::AttachResponse*) {
  absl::MutexLock lock(&mutex_);
  if (request->name() != "demo") {
    return wire::ToGrpc(absl::NotFoundError(absl::StrCat("no volume ", request->name())));
  }
  ++attaches_;
  if (elsewhere_) return wire::ToGrpc(absl::FailedPreconditionError("volume demo is attached at frontend two"));
  attached_ = true;
  return grpc::Status::OK;
}

grpc::Status FakeFrontend::GetVolume(grpc::ServerContext*, const v1::GetVolumeRequest* request,
                                     v1::GetVolumeResponse* response) {
  if (request->name() != "demo") {
    return wire::ToGrpc(absl::NotFoundError(absl::StrCat("no volume ", request->name())));
  }
  response->mutable_volume()->set_name("demo");
  response->mutable_volume()->set_size_bytes(kSizeBytes);
  return grpc::Status::OK;
}

grpc::Status FakeFrontend::CreateVolume(grpc::ServerContext*, const v1::CreateVolumeRequest*,
                                        v1::CreateVolumeResponse*) {
  return wire::ToGrpc(ErrnoToStatus(ENOSPC, "no replica has that much space"));
}

grpc::Status FakeFrontend::Io(grpc::ServerContext*, Stream* stream) {
  v1::VolumeIoFrame frame;
  if (!stream->Read(&frame)) return grpc::Status::OK;
  CHECK_EQ(frame.open().volume(), "demo");
  if (grpc::Status status = OpenStream(frame.open(), stream); !status.ok()) return status;
  while (stream->Read(&frame)) {
    size_t at = 0;
    for (const v1::VolumeIo& io : frame.ios()) {
      std::string data;
      if (io.kind() == v1::REQUEST_KIND_WRITE || io.kind() == v1::REQUEST_KIND_BARRIER) {
        data = frame.payload().substr(at, io.length_bytes());
        at += data.size();
      }
      grpc::Status status = Answer(io, data, Arrived(io), stream);
      if (!status.ok()) return status;
    }
  }
  return grpc::Status::OK;
}

grpc::Status FakeFrontend::OpenStream(const v1::VolumeOpen& open, Stream* stream) {
  v1::VolumeIoReplyFrame frame;
  {
    absl::MutexLock lock(&mutex_);
    sessions_.emplace_back(open.client(), open.session());
    if (deleted_) return wire::ToGrpc(absl::NotFoundError("no volume demo"));
    if (!attached_) {
      return wire::ToGrpc(absl::FailedPreconditionError("volume demo is not attached"));
    }
    frame.mutable_opened()->set_size_bytes(kSizeBytes);
    frame.mutable_opened()->set_block_bytes(kBlockBytes);
    frame.mutable_opened()->set_length_bytes_max(kLengthBytesMax);
    frame.mutable_opened()->set_epoch(epoch_);
    frame.mutable_opened()->set_intact_since(intact_since_);
    frame.mutable_opened()->set_flush_supported(true);
  }
  stream->Write(frame);
  return grpc::Status::OK;
}

FakeFrontend::Act FakeFrontend::Arrived(const v1::VolumeIo& io) {
  absl::MutexLock lock(&mutex_);
  requests_.push_back(io);
  auto released = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return !held_; };
  mutex_.Await(absl::Condition(&released));
  if (script_.empty()) return Act::kAnswer;
  Act act = script_.front();
  script_.pop_front();
  return act;
}

grpc::Status FakeFrontend::Answer(const v1::VolumeIo& io, const std::string& data, Act act,
                                  Stream* stream) {
  const grpc::Status broken = wire::ToGrpc(absl::UnavailableError("the frontend stops"));
  v1::VolumeIoReplyFrame frame;
  v1::VolumeIoReply* reply = frame.add_replies();
  reply->set_id(io.id());
  if (act == Act::kBreakBefore) return broken;
  if (act == Act::kDetach || act == Act::kDelete) {
    absl::MutexLock lock(&mutex_);
    attached_ = false;
    deleted_ = act == Act::kDelete;
    return wire::ToGrpc(deleted_ ? absl::NotFoundError("no volume demo")
                                 : absl::FailedPreconditionError("volume demo was detached"));
  }
  if (act == Act::kFail || act == Act::kStale) {
    reply->set_error(act == Act::kFail ? EIO : ESTALE);
    reply->set_message(act == Act::kFail ? "replica1 failed" : "epoch 2 exists");
    reply->add_targets()->set_target("replica1");
    stream->Write(frame);
    return grpc::Status::OK;
  }
  CarryOut(io, data, reply, frame.mutable_payload());
  if (act == Act::kBreakAfter) return broken;
  if (act == Act::kGarbage) frame.mutable_payload()->append("garbage");
  if (act == Act::kAnswerShort) {
    frame.mutable_payload()->resize(frame.payload().size() / 2);
    reply->set_length_bytes(static_cast<uint32_t>(frame.payload().size()));
  }
  stream->Write(frame);
  if (act == Act::kAnswerTwice) stream->Write(frame);
  return grpc::Status::OK;
}

void FakeFrontend::CarryOut(const v1::VolumeIo& io, const std::string& data,
                            v1::VolumeIoReply* reply, std::string* payload) {
  absl::MutexLock lock(&mutex_);
  const uint64_t first = io.offset_bytes() / kBlockBytes;
  const uint64_t count = io.length_bytes() / kBlockBytes;
  for (uint64_t i = 0; i < count; ++i) {
    std::string& block = blocks_[first + i];
    if (block.empty()) block.assign(kBlockBytes, '\0');
    switch (io.kind()) {
      case v1::REQUEST_KIND_READ:
        payload->append(block);
        break;
      case v1::REQUEST_KIND_WRITE:
      case v1::REQUEST_KIND_BARRIER:
        block = data.substr(i * kBlockBytes, kBlockBytes);
        break;
      case v1::REQUEST_KIND_WRITE_ZEROES:
      case v1::REQUEST_KIND_DISCARD:
        block.assign(kBlockBytes, '\0');
        break;
      default:
        break;
    }
  }
  reply->set_length_bytes(static_cast<uint32_t>(payload->size()));
  if (io.kind() == v1::REQUEST_KIND_EXTENTS) {
    v1::Extent* extent = reply->add_extents();
    extent->set_block_count(count);
    extent->set_allocated(true);
  }
}

}  // namespace weir
