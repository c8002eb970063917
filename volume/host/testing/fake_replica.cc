#include "volume/host/testing/fake_replica.h"

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "grpcpp/security/server_credentials.h"
#include "grpcpp/server_builder.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/position.h"
#include "proto/wire/status.h"

namespace weir::host {
namespace {

constexpr uint32_t kDomains = 2;

bool IsWriteLike(v1::IoKind kind) {
  return kind == v1::IO_KIND_WRITE || kind == v1::IO_KIND_WRITE_ZEROES ||
         kind == v1::IO_KIND_DISCARD;
}

grpc::Status Aborted(const char* why) {
  return grpc::Status(grpc::StatusCode::ABORTED, why);
}

}  // namespace

FakeReplica::FakeReplica(std::string name) : name_(std::move(name)), store_id_("store-" + name_) { Start(); }

FakeReplica::~FakeReplica() { Stop(); }

void FakeReplica::ReplaceDisk() {
  absl::MutexLock lock(&mu_);
  store_id_ += "+";
  volumes_.clear();
  volume_ = nullptr;
}

void FakeReplica::Start() {
  {
    absl::MutexLock lock(&mu_);
    ++incarnation_;
    stopping_ = false;
  }
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             500);
  builder.AddListeningPort(address_.empty() ? "127.0.0.1:0" : address_,
                           grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(this);
  server_ = builder.BuildAndStart();
  CHECK(server_ != nullptr);
  address_ = absl::StrCat("127.0.0.1:", port);
}

void FakeReplica::Stop() {
  {
    absl::MutexLock lock(&mu_);
    stopping_ = true;
  }
  if (server_ == nullptr) return;
  server_->Shutdown(std::chrono::system_clock::now());
  server_.reset();
}

void FakeReplica::SetLabels(std::map<std::string, std::string> labels) {
  absl::MutexLock lock(&mu_);
  labels_ = std::move(labels);
}

void FakeReplica::FailNext(v1::IoKind kind, int error, int count) {
  absl::MutexLock lock(&mu_);
  faults_[kind] = {error, count};
}

void FakeReplica::RefuseFlush(bool announce) {
  absl::MutexLock lock(&mu_);
  refuse_flush_ = true;
  announce_no_flush_ = announce;
}

void FakeReplica::SetFull(bool full) {
  absl::MutexLock lock(&mu_);
  full_ = full;
}

void FakeReplica::RefuseStreams(int count, grpc::Status status) {
  absl::MutexLock lock(&mu_);
  refuse_streams_ = count;
  stream_refusal_ = std::move(status);
}

uint64_t FakeReplica::blocks_read() const {
  absl::MutexLock lock(&mu_);
  return blocks_read_;
}

int FakeReplica::streams_to_refuse() const {
  absl::MutexLock lock(&mu_);
  return refuse_streams_;
}

void FakeReplica::CorruptReads(int count) {
  absl::MutexLock lock(&mu_);
  corrupt_reads_ = count;
}

void FakeReplica::FailNextAdministration(grpc::Status status) {
  absl::MutexLock lock(&mu_);
  next_administration_ = std::move(status);
}

void FakeReplica::ChangeVolumesFirst(int count) {
  absl::MutexLock lock(&mu_);
  change_first_ = count;
}

void FakeReplica::PromiseHigherEpoch() {
  absl::MutexLock lock(&mu_);
  CHECK(volume_ != nullptr);
  volume_->promised += 100;
}

void FakeReplica::ForgetLastWrite() {
  absl::MutexLock lock(&mu_);
  Lane& lane = volume_->lanes[0];
  CHECK(!lane.changes.empty());
  const Change& last = lane.changes.back();
  for (size_t i = 0; i < last.before.size(); ++i) {
    volume_->blocks[last.first_block + i] = last.before[i];
  }
  lane.position = last.position - 1;
  lane.changes.pop_back();
}

void FakeReplica::HoldWrites() {
  absl::MutexLock lock(&mu_);
  hold_writes_ = true;
}

void FakeReplica::Release() {
  absl::MutexLock lock(&mu_);
  hold_writes_ = false;
  read_pinned_hangs_ = false;
}

bool FakeReplica::HasVolume() const {
  absl::MutexLock lock(&mu_);
  return !volumes_.empty();
}

uint64_t FakeReplica::flushes() const {
  absl::MutexLock lock(&mu_);
  return flushes_;
}

// --- the stream ---

grpc::Status FakeReplica::Io(
    grpc::ServerContext*,
    grpc::ServerReaderWriter<v1::IoReplyFrame, v1::IoFrame>* stream) {
  v1::IoFrame frame;
  if (!stream->Read(&frame)) return grpc::Status::OK;
  const v1::Fence fence = frame.hello().fence();
  v1::IoReplyFrame hello;
  {
    absl::MutexLock lock(&mu_);
    if (refuse_streams_ > 0) {
      --refuse_streams_;
      return stream_refusal_;
    }
    const grpc::Status status = CheckFence(fence);
    if (!status.ok()) return status;
    v1::HelloReply* reply = hello.mutable_hello();
    reply->set_store_id(store_id_);
    reply->set_incarnation(incarnation_);
    reply->set_num_flush_requests(kDomains);
    LaneStates(reply->mutable_lanes());
    reply->set_inflight_bytes_max(16 << 20);
    reply->set_flush_supported(!announce_no_flush_);
    reply->set_space_exhausted(full_);
  }
  stream->Write(hello);
  while (stream->Read(&frame)) {
    v1::IoReplyFrame replies;
    size_t offset = 0;
    for (const v1::Io& io : frame.ios()) {
      std::string data;
      if (io.kind() == v1::IO_KIND_WRITE) {
        data = frame.payload().substr(offset, io.block_count() * kBlockBytes);
        offset += data.size();
      }
      absl::MutexLock lock(&mu_);
      if (IsWriteLike(io.kind())) {
        mu_.Await(absl::Condition(
            +[](FakeReplica* self) {
              self->mu_.AssertHeld();
              return !self->hold_writes_ || self->stopping_;
            },
            this));
      }
      const grpc::Status status = CheckFence(fence);
      if (!status.ok()) return status;
      v1::IoReply* reply = replies.add_replies();
      reply->set_id(io.id());
      reply->set_store_us(kStoreMicros);
      Answer(io, data, reply, replies.mutable_payload());
    }
    replies.set_pong(frame.ping());
    if (replies.replies_size() > 0 || replies.pong() != 0) stream->Write(replies);
  }
  return grpc::Status::OK;
}

bool FakeReplica::TakeFault(v1::IoKind kind, v1::IoReply* reply) {
  auto found = faults_.find(kind);
  if (found == faults_.end() || found->second.second == 0) return false;
  --found->second.second;
  reply->set_error(found->second.first);
  reply->set_message("injected");
  return true;
}

void FakeReplica::Answer(const v1::Io& io, const std::string& data,
                         v1::IoReply* reply, std::string* payload) {
  if (TakeFault(io.kind(), reply)) return;
  if (IsWriteLike(io.kind())) return Apply(io, data, reply);
  if (io.kind() == v1::IO_KIND_FLUSH) {
    if (refuse_flush_) {
      reply->set_error(EOPNOTSUPP);
      return;
    }
    ++flushes_;
    for (uint32_t i = io.flush_nr(); i < volume_->lanes.size(); i += kDomains) {
      volume_->lanes[i].durable = volume_->lanes[i].position;
      v1::LanePosition* point = reply->add_durable();
      point->set_lane(i);
      point->set_position(volume_->lanes[i].durable);
    }
    return;
  }
  reply->set_position(volume_->lanes[io.lane()].position);
  if (io.kind() == v1::IO_KIND_EXTENTS) {
    for (uint64_t i = 0; i < io.block_count(); ++i) {
      const auto found = volume_->blocks.find(io.first_block() + i);
      v1::Extent* extent = reply->add_extents();
      extent->set_block_count(1);
      extent->set_allocated(found != volume_->blocks.end() && !found->second.empty());
    }
    return;
  }
  for (uint64_t i = 0; i < io.block_count(); ++i) {
    const auto found = volume_->blocks.find(io.first_block() + i);
    if (io.overlay() && found == volume_->blocks.end()) {
      v1::BlockRun* run = reply->add_absent();
      run->set_first_block(io.first_block() + i);
      run->set_block_count(1);
    }
    std::string block = found == volume_->blocks.end() ? "" : found->second;
    block.resize(kBlockBytes, '\0');
    reply->add_crc32c(Crc32c(block));
    if (corrupt_reads_ > 0) {
      --corrupt_reads_;
      block[17] ^= 4;
    }
    payload->append(block);
  }
  blocks_read_ += io.block_count();
  reply->set_payload_blocks(io.block_count());
}

void FakeReplica::Apply(const v1::Io& io, const std::string& data,
                        v1::IoReply* reply) {
  Lane& lane = volume_->lanes[io.lane()];
  reply->set_position(lane.position);
  if (io.position() <= lane.position) return;  // refilled: has it already
  if (io.position() != lane.position + 1) {
    reply->set_error(EAGAIN);
    return;
  }
  if (io.kind() == v1::IO_KIND_WRITE &&
      FirstBadBlock(data, {io.crc32c().begin(), io.crc32c().end()}) >= 0) {
    reply->set_error(EBADMSG);
    return;
  }
  Change change{io.position(), io.first_block(), {}, {}};
  for (uint64_t i = 0; i < io.block_count(); ++i) {
    std::string& block = volume_->blocks[io.first_block() + i];
    change.before.push_back(block);
    block = io.kind() == v1::IO_KIND_WRITE
                ? data.substr(i * kBlockBytes, kBlockBytes)
                : std::string();
    change.after.push_back(block);
  }
  lane.changes.push_back(std::move(change));
  lane.position = io.position();
  reply->set_position(lane.position);
  if (!io.fua()) return;
  lane.durable = lane.position;
  v1::LanePosition* point = reply->add_durable();
  point->set_lane(io.lane());
  point->set_position(lane.durable);
}

// --- unary calls ---

grpc::Status FakeReplica::CheckFence(const v1::Fence& fence) {
  auto found = volumes_.find(fence.volume_id());
  if (found == volumes_.end()) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such volume");
  }
  volume_ = &found->second;
  if (fence.epoch() < volume_->promised) {
    return wire::ToGrpc(ErrnoToStatus(ESTALE, "fenced by a newer epoch"));
  }
  return grpc::Status::OK;
}

void FakeReplica::LaneStates(
    google::protobuf::RepeatedPtrField<v1::LaneState>* field) {
  for (size_t i = 0; i < volume_->lanes.size(); ++i) {
    const Lane& lane = volume_->lanes[i];
    v1::LaneState* state = field->Add();
    state->set_lane(static_cast<uint32_t>(i));
    state->set_position(lane.position);
    state->set_durable_position(lane.durable);
    state->set_domain(static_cast<uint32_t>(i) % kDomains);
    state->mutable_lineage()->Assign(lane.lineage.begin(), lane.lineage.end());
  }
}

grpc::Status FakeReplica::GetReplica(grpc::ServerContext*,
                                     const v1::GetReplicaRequest* request,
                                     v1::GetReplicaResponse* response) {
  absl::MutexLock lock(&mu_);
  if (request->volume_id() != 0) response->set_volume_changes(volume_changes_[request->volume_id()]);
  response->set_name(name_);
  response->set_store_id(store_id_);
  response->set_incarnation(incarnation_);
  response->set_boot_id("boot");
  response->set_state("SERVING");
  v1::DataDir* dir = response->add_data_dirs();
  dir->set_capacity_bytes(uint64_t{1} << 40);
  dir->set_available_bytes(uint64_t{1} << 39);
  response->mutable_labels()->insert(labels_.begin(), labels_.end());
  for (const auto& [id, volume] : volumes_) {
    response->add_volumes()->set_volume_id(id);
  }
  return grpc::Status::OK;
}

template <typename Request>
grpc::Status FakeReplica::CountChange(const Request& request) {
  uint64_t& changes = volume_changes_[request.fence().volume_id()];
  if (request.has_volume_changes()) {
    if (change_first_ > 0) {
      --change_first_;
      ++changes;
    }
    if (request.volume_changes() != changes || request.fence().incarnation() != incarnation_) {
      return grpc::Status(grpc::StatusCode::ABORTED, "the volume has been created or deleted since");
    }
  }
  ++changes;
  return grpc::Status::OK;
}

grpc::Status FakeReplica::CreateVolume(
    grpc::ServerContext*, const v1::CreateReplicaVolumeRequest* request,
    v1::CreateReplicaVolumeResponse* response) {
  absl::MutexLock lock(&mu_);
  const grpc::Status injected =
      std::exchange(next_administration_, grpc::Status::OK);
  if (!injected.ok()) return injected;
  if (const grpc::Status counted = CountChange(*request); !counted.ok()) return counted;
  Volume& volume = volumes_[request->fence().volume_id()];
  volume.lanes.resize(request->lanes());
  volume_ = &volume;
  response->set_store_id(store_id_);
  response->set_incarnation(incarnation_);
  response->set_boot_id("boot");
  return grpc::Status::OK;
}

grpc::Status FakeReplica::DeleteVolume(
    grpc::ServerContext*, const v1::DeleteReplicaVolumeRequest* request,
    v1::DeleteReplicaVolumeResponse*) {
  absl::MutexLock lock(&mu_);
  const grpc::Status injected =
      std::exchange(next_administration_, grpc::Status::OK);
  if (!injected.ok()) return injected;
  if (request->fence().store_id() != store_id_) {
    return grpc::Status(grpc::StatusCode::FAILED_PRECONDITION, "this is another store");
  }
  if (const grpc::Status counted = CountChange(*request); !counted.ok()) return counted;
  volumes_.erase(request->fence().volume_id());
  volume_ = nullptr;
  return grpc::Status::OK;
}

grpc::Status FakeReplica::Seal(grpc::ServerContext*,
                               const v1::SealRequest* request,
                               v1::SealResponse* response) {
  absl::MutexLock lock(&mu_);
  const grpc::Status status = CheckFence(request->fence());
  if (!status.ok()) return status;
  volume_->promised = request->fence().epoch();
  response->set_store_id(store_id_);
  response->set_incarnation(incarnation_);
  response->set_boot_id("boot");
  response->set_flush_supported(!announce_no_flush_);
  LaneStates(response->mutable_lanes());
  return grpc::Status::OK;
}

grpc::Status FakeReplica::ReadTail(grpc::ServerContext*,
                                   const v1::ReadTailRequest* request,
                                   grpc::ServerWriter<v1::TailChunk>* writer) {
  absl::MutexLock lock(&mu_);
  const grpc::Status status = CheckFence(request->fence());
  if (!status.ok()) return status;
  const Lane& lane = volume_->lanes[request->lane()];
  if (lane.position != request->to_position()) return Aborted("not at the end");
  v1::TailChunk chunk;
  for (const Change& change : lane.changes) {
    if (change.position <= request->from_position()) continue;
    v1::ChangeEntry* entry = chunk.add_changes();
    entry->set_position(change.position);
    entry->set_first_block(change.first_block);
    entry->set_block_count(static_cast<uint32_t>(change.after.size()));
    for (size_t i = 0; i < change.after.size(); ++i) {
      v1::BlockVersion* version = chunk.add_versions();
      version->set_block(change.first_block + i);
      version->set_position(change.position);
      version->set_zero(change.after[i].empty());
      version->set_data(change.after[i]);
    }
  }
  writer->Write(chunk);
  return grpc::Status::OK;
}

grpc::Status FakeReplica::AdoptTail(
    grpc::ServerContext*, grpc::ServerReader<v1::AdoptTailRequest>* reader,
    v1::AdoptTailResponse*) {
  v1::AdoptTailRequest first;
  if (!reader->Read(&first)) return Aborted("nothing came");
  std::vector<v1::TailChunk> chunks;
  v1::AdoptTailRequest next;
  bool commit = false;
  while (!commit && reader->Read(&next)) {
    chunks.push_back(next.chunk());
    commit = next.commit();
  }
  if (!commit) return Aborted("no commit");
  absl::MutexLock lock(&mu_);
  const grpc::Status status = CheckFence(first.fence());
  if (!status.ok()) return status;
  Lane& lane = volume_->lanes[first.lane()];
  if (lane.position != first.from_position()) return Aborted("elsewhere");
  // See engine::CopyLane.
  if (volume_->record.epoch() != first.fence().epoch()) return Aborted("it was given no copy of the record before");
  for (const v1::TailChunk& chunk : chunks) {
    for (const v1::BlockVersion& version : chunk.versions()) {
      volume_->blocks[version.block()] = version.zero() ? "" : version.data();
    }
  }
  lane.position = first.to_position();
  return grpc::Status::OK;
}

void FakeReplica::FailUpdates(int count, grpc::Status status) {
  absl::MutexLock lock(&mu_);
  fail_updates_ = count;
  update_refusal_ = std::move(status);
}

std::vector<v1::Pin> FakeReplica::pins() const {
  absl::MutexLock lock(&mu_);
  return volume_ == nullptr ? std::vector<v1::Pin>() : volume_->pins;
}

uint64_t FakeReplica::size_bytes() const {
  absl::MutexLock lock(&mu_);
  return volume_ == nullptr ? 0 : volume_->size_bytes;
}

grpc::Status FakeReplica::UpdateVolume(grpc::ServerContext*,
                                       const v1::UpdateReplicaVolumeRequest* request,
                                       v1::UpdateReplicaVolumeResponse*) {
  absl::MutexLock lock(&mu_);
  const grpc::Status status = CheckFence(request->fence());
  if (!status.ok()) return status;
  if (fail_updates_ > 0) {
    --fail_updates_;
    return update_refusal_;
  }
  if (request->version() < volume_->update_version) return Aborted("late");
  volume_->update_version = request->version();
  volume_->size_bytes = std::max(volume_->size_bytes, request->size_bytes());
  volume_->pins.assign(request->pins().begin(), request->pins().end());
  // A frontend sets a pin while nothing goes on, so this is what there was at it.
  std::map<uint64_t, std::map<uint64_t, std::string>> kept;
  for (const v1::Pin& pin : volume_->pins) {
    const auto known = volume_->pinned.find(pin.id());
    kept[pin.id()] = known == volume_->pinned.end() ? volume_->blocks : known->second;
  }
  volume_->pinned = std::move(kept);
  return grpc::Status::OK;
}

void FakeReplica::BeforeReadPinned(std::function<void()> meanwhile) {
  absl::MutexLock lock(&mu_);
  before_read_pinned_ = std::move(meanwhile);
}

void FakeReplica::AnswerReadPinned(grpc::StatusCode answer) {
  absl::MutexLock lock(&mu_);
  read_pinned_answer_ = answer;
}

void FakeReplica::RefuseReadPinnedOf(std::optional<uint64_t> block) {
  absl::MutexLock lock(&mu_);
  refused_block_ = block;
}

void FakeReplica::HangReadPinned(bool hang) {
  absl::MutexLock lock(&mu_);
  read_pinned_hangs_ = hang;
  pinned_reads_max_ = pinned_reads_now_;
}

uint64_t FakeReplica::pinned_reads_at_once_max() const {
  absl::MutexLock lock(&mu_);
  return pinned_reads_max_;
}

uint64_t FakeReplica::pinned_reads() const {
  absl::MutexLock lock(&mu_);
  return pinned_reads_;
}

grpc::Status FakeReplica::ReadPinned(grpc::ServerContext*, const v1::ReadPinnedRequest* request,
                                     v1::ReadPinnedResponse* response) {
  std::function<void()> meanwhile;
  {
    absl::MutexLock lock(&mu_);
    meanwhile = std::exchange(before_read_pinned_, nullptr);
  }
  if (meanwhile != nullptr) meanwhile();
  absl::MutexLock lock(&mu_);
  ++pinned_reads_;
  pinned_reads_max_ = std::max(pinned_reads_max_, ++pinned_reads_now_);
  const auto goes_on = [this] {
    mu_.AssertHeld();
    return !read_pinned_hangs_;
  };
  mu_.Await(absl::Condition(&goes_on));
  --pinned_reads_now_;
  if (refused_block_ && *refused_block_ >= request->first_block() && *refused_block_ < request->first_block() + request->block_count()) {
    return grpc::Status(grpc::StatusCode::UNAVAILABLE, "as the test wants it");
  }
  if (read_pinned_answer_ != grpc::StatusCode::OK) return grpc::Status(read_pinned_answer_, "as the test wants it");
  if (volume_ == nullptr || volume_->pinned.count(request->pin()) == 0) {
    return grpc::Status(grpc::StatusCode::NOT_FOUND, "no such pin");
  }
  const std::map<uint64_t, std::string>& blocks = volume_->pinned[request->pin()];
  for (uint64_t i = 0; i < request->block_count(); ++i) {
    const auto found = blocks.find(request->first_block() + i);
    if (found == blocks.end()) continue;
    v1::BlockVersion* version = response->add_versions();
    version->set_block(found->first);
    version->set_data(found->second);
    version->set_crc32c(Crc32c(found->second));
  }
  return grpc::Status::OK;
}

void FakeReplica::RefuseChangedSince(bool refuse, uint32_t from_lane) {
  absl::MutexLock lock(&mu_);
  refuse_changed_since_ = refuse;
  refuse_from_lane_ = from_lane;
}

void FakeReplica::ForgetWhatChanged(std::function<void()> meanwhile) {
  absl::MutexLock lock(&mu_);
  forgets_what_changed_ = std::move(meanwhile);
}

grpc::Status FakeReplica::GetChangedSince(grpc::ServerContext*,
                                          const v1::GetChangedSinceRequest* request,
                                          v1::GetChangedSinceResponse* response) {
  std::function<void()> meanwhile;
  {
    absl::MutexLock lock(&mu_);
    meanwhile = std::exchange(forgets_what_changed_, nullptr);
  }
  if (meanwhile != nullptr) meanwhile();
  absl::MutexLock lock(&mu_);
  const bool refused = refuse_changed_since_ && request->lane() >= refuse_from_lane_;
  if (refused || volume_ == nullptr || volume_->pinned.count(request->pin()) == 0) {
    return grpc::Status(grpc::StatusCode::INTERNAL, "it does not say");
  }
  // All in lane 0's page, wherever they lie.
  response->set_next_block(volume_->size_bytes / kBlockBytes);
  if (request->lane() != 0 || meanwhile != nullptr) return grpc::Status::OK;
  const std::map<uint64_t, std::string>& before = volume_->pinned[request->pin()];
  for (const auto& [block, data] : volume_->blocks) {
    const auto old = before.find(block);
    if (old != before.end() && old->second == data) continue;
    v1::BlockRun* run = response->add_changed();
    run->set_first_block(block);
    run->set_block_count(1);
  }
  return grpc::Status::OK;
}

grpc::Status FakeReplica::KeepRecord(grpc::ServerContext*, const v1::KeepRecordRequest* request,
                                     v1::KeepRecordResponse*) {
  absl::MutexLock lock(&mu_);
  v1::Fence fence = request->fence();
  fence.set_incarnation(incarnation_);
  const grpc::Status status = CheckFence(fence);
  if (!status.ok()) return status;
  volume_->record.set_volume_id(fence.volume_id());
  volume_->record.set_epoch(fence.epoch());
  volume_->record.set_revision(request->revision());
  volume_->record.set_record(request->record());
  return grpc::Status::OK;
}

grpc::Status FakeReplica::ListRecords(grpc::ServerContext*, const v1::ListRecordsRequest*,
                                      v1::ListRecordsResponse* response) {
  absl::MutexLock lock(&mu_);
  response->set_name(name_);
  response->set_store_id(store_id_);
  for (const auto& [id, volume] : volumes_) {
    v1::KeptRecord* kept = response->add_records();
    *kept = volume.record;
    kept->set_volume_id(id);
    kept->set_promised_epoch(volume.promised);
    for (size_t i = 0; i < volume.lanes.size(); ++i) {
      v1::LaneState* lane = kept->add_lanes();
      lane->set_lane(static_cast<uint32_t>(i));
      lane->set_position(volume.lanes[i].position);
    }
    for (const v1::Pin& pin : volume.pins) kept->add_pins(pin.id());
  }
  return grpc::Status::OK;
}

grpc::Status FakeReplica::TakeBase(grpc::ServerContext*,
                                   const v1::TakeBaseRequest* request,
                                   v1::TakeBaseResponse*) {
  absl::MutexLock lock(&mu_);
  const grpc::Status status = CheckFence(request->fence());
  if (!status.ok()) return status;
  for (const v1::LanePosition& expected : request->expected()) {
    Lane& lane = volume_->lanes[expected.lane()];
    const Position base(request->fence().epoch(), 0);
    if (lane.position == base.bits()) continue;
    if (lane.position != expected.position()) return Aborted("not as expected");
    const Position end = Position::FromBits(lane.position);
    if (end.epoch() != 0) {
      v1::LineageEntry entry;
      entry.set_epoch(end.epoch());
      entry.set_n(end.n());
      lane.lineage.push_back(entry);
    }
    lane.position = lane.durable = base.bits();
    lane.changes.clear();
  }
  return grpc::Status::OK;
}

}  // namespace weir::host
