#include "replica/server/frame_run.h"

#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"

namespace weir::replica {
namespace {

BlockRange RangeOf(const v1::Io& io) { return {io.first_block(), io.block_count()}; }

store::WriteKind WriteKindOf(v1::IoKind kind) {
  switch (kind) {
    case v1::IO_KIND_WRITE_ZEROES:
      return store::WriteKind::kWriteZeroes;
    case v1::IO_KIND_DISCARD:
      return store::WriteKind::kDiscard;
    default:
      return store::WriteKind::kWrite;
  }
}

Answer AnswerTo(const v1::Io& io) {
  Answer answer;
  answer.reply.set_id(io.id());
  answer.kind = io.kind();
  answer.lane = LaneId{io.lane()};
  answer.bytes = uint64_t{io.block_count()} * kBlockBytes;
  return answer;
}

store::WriteOp WriteOpOf(const v1::Io& io, absl::string_view data) {
  store::WriteOp op;
  op.kind = WriteKindOf(io.kind());
  op.lane = LaneId{io.lane()};
  op.range = RangeOf(io);
  op.position = Position::FromBits(io.position());
  // FUA is a sync that others may share: the domain's worker makes it, so that
  // the writes behind are not held up.
  op.fua = false;
  op.overlay = io.overlay();
  op.data = data;
  op.crcs = absl::MakeConstSpan(io.crc32c().data(), static_cast<size_t>(io.crc32c_size()));
  return op;
}

}  // namespace

void SetError(const absl::Status& status, v1::IoReply* reply) {
  reply->set_error(StatusToErrno(status));
  reply->set_message(std::string(status.message()));
}

void CompleteSync(const absl::StatusOr<LanePositions>& synced, Answer* answer) {
  answer->sync_domain.reset();
  if (!synced.ok()) {
    SetError(synced.status(), &answer->reply);
    return;
  }
  for (const auto& [lane, position] : *synced) {
    if (answer->kind != v1::IO_KIND_FLUSH && lane != answer->lane) continue;
    PositionToProto(lane, position, answer->reply.add_durable());
  }
}

FrameRun::FrameRun(store::Store& store, FaultTable& faults, const OnInjected& on_injected,
                   VolumeId volume, const StreamScope& scope, v1::IoFrame frame, Payload payload)
    : store_(store),
      faults_(faults),
      on_injected_(on_injected),
      volume_(volume),
      scope_(scope),
      frame_(std::move(frame)),
      payload_(std::move(payload)) {}

bool FrameRun::Admit(const v1::Io& io, Answer* answer, std::vector<Answer>* answers) {
  if (absl::Status status = CheckIo(io, scope_); !status.ok()) {
    SetError(status, &answer->reply);
    answers->push_back(std::move(*answer));
    return false;
  }
  const v1::FaultOp op = FaultOpOf(io.kind());
  if (op == v1::FAULT_OP_UNSPECIFIED) return true;
  const uint32_t domain =
      op == v1::FAULT_OP_FLUSH ? io.flush_nr() : io.lane() % scope_.domains;
  const FaultVerdict verdict = faults_.Strike(op, domain);
  if (!verdict.hits()) return true;
  on_injected_(op);
  answer->delay = verdict.delay;
  if (verdict.error != 0) {
    answer->reply.set_error(verdict.error);
    answer->reply.set_message("injected fault");
    answers->push_back(std::move(*answer));
  }
  return !verdict.suppresses();
}

void FrameRun::ApplyWrites(std::vector<Answer>* answers) {
  NoteDurablePoints();
  std::vector<store::WriteOp> ops;
  std::vector<Answer> write_answers;  // by op
  std::vector<bool> fua;              // by op
  size_t offset = 0;
  for (const v1::Io& io : frame_.ios()) {
    absl::string_view data;
    if (io.kind() == v1::IO_KIND_WRITE) {
      data = payload_.bytes().substr(offset, size_t{io.block_count()} * kBlockBytes);
      offset += data.size();
    }
    if (!IsWrite(io.kind()) && io.kind() != v1::IO_KIND_FLUSH) continue;
    Answer answer = AnswerTo(io);
    if (!Admit(io, &answer, answers)) continue;
    if (io.kind() == v1::IO_KIND_FLUSH) {
      answer.sync_domain = io.flush_nr();
      answers->push_back(std::move(answer));
      continue;
    }
    ops.push_back(WriteOpOf(io, data));
    write_answers.push_back(std::move(answer));
    fua.push_back(io.fua());
  }
  if (ops.empty()) return;
  const std::vector<store::WriteResult> results = store_.Write(volume_, ops);
  for (size_t i = 0; i < results.size(); ++i) {
    Answer& answer = write_answers[i];
    answer.reply.set_position(results[i].lane_position.bits());
    if (!results[i].status.ok()) {
      NoteError(results[i].status);
      SetError(results[i].status, &answer.reply);
    } else if (fua[i]) {
      answer.sync_domain = Index(ops[i].lane) % scope_.domains;
    }
    answers->push_back(std::move(answer));
  }
}

bool FrameRun::ReadNext(std::vector<Answer>* answers) {
  while (next_read_ < frame_.ios_size()) {
    const v1::Io& io = frame_.ios(next_read_++);
    if (io.kind() != v1::IO_KIND_READ && io.kind() != v1::IO_KIND_EXTENTS) continue;
    Answer answer = AnswerTo(io);
    if (!Admit(io, &answer, answers)) return true;
    if (io.kind() == v1::IO_KIND_READ) {
      Read(io, &answer);
    } else {
      Extents(io, &answer);
    }
    answers->push_back(std::move(answer));
    return true;
  }
  return false;
}

void FrameRun::Read(const v1::Io& io, Answer* answer) {
  absl::StatusOr<store::ReadResult> read = store_.Read(volume_, RangeOf(io));
  if (!read.ok()) {
    NoteError(read.status());
    SetError(read.status(), &answer->reply);
    return;
  }
  answer->reply.set_position(read->newest.bits());
  if (io.overlay()) RangesToProto(read->absent, answer->reply.mutable_absent());
  if (read->zeroes) {
    answer->reply.set_zeroes(true);
    return;
  }
  answer->reply.set_payload_blocks(io.block_count());
  answer->reply.mutable_crc32c()->Add(read->crcs.begin(), read->crcs.end());
  auto data = std::make_shared<const std::string>(std::move(read->data));
  const absl::string_view bytes = *data;
  answer->data = Payload(std::move(data), bytes);
}

void FrameRun::Extents(const v1::Io& io, Answer* answer) {
  const absl::StatusOr<store::ExtentsResult> extents = store_.Extents(volume_, RangeOf(io));
  if (!extents.ok()) {
    NoteError(extents.status());
    SetError(extents.status(), &answer->reply);
    return;
  }
  answer->reply.set_position(extents->newest.bits());
  for (const auto& [blocks, allocated] : extents->runs) {
    v1::Extent* extent = answer->reply.add_extents();
    extent->set_block_count(blocks);
    extent->set_allocated(allocated);
  }
}

void FrameRun::NoteDurablePoints() {
  // First: the points would trim what is to be kept.
  if (frame_.has_keep_changes()) {
    NoteError(store_.KeepChanges(volume_, PositionsFromProto(frame_.keep_changes().after())));
  }
  if (frame_.durable_points().empty()) return;
  LanePositions points = PositionsFromProto(frame_.durable_points());
  std::erase_if(points, [this](const auto& point) {
    return Index(point.first) >= scope_.geometry.lanes.lanes;
  });
  // News, not a request: it has no answer. Only a failed store makes it fail,
  // and that ends the stream.
  NoteError(store_.NoteDurablePoints(volume_, points));
}

void FrameRun::NoteError(const absl::Status& status) {
  if (StatusToErrno(status) == EIO) store_error_ = true;
}

}  // namespace weir::replica
