// volume/host and volume/engine: what replicas answer, as the host decodes it, on an engine with three
// targets that serves requests, loses members and brings them back. No reply may be more than the
// end of its session, or an error.
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/wire/frame.h"
#include "tests/fuzz/input.h"
#include "volume/engine/engine.h"
#include "volume/host/clone_codec.h"
#include "weir/v1/replica.pb.h"

namespace weir::host {
namespace {

using engine::RequestKind;
using engine::TargetId;

constexpr uint32_t kLanes = 2;
constexpr uint64_t kSizeBlocks = 64;
constexpr uint32_t kTargets = 3;
constexpr int kStepsMax = 200;

engine::Options EngineOptions() {
  engine::Options options;
  options.size_blocks = kSizeBlocks;
  options.lanes = {kLanes, 8};
  options.epoch = 7;
  options.requests_max = 64;
  return options;
}

engine::Table ThreeTargets() {
  engine::Table table;
  for (size_t i = 0; i < kTargets; ++i) {
    engine::TargetConfig& target = table.targets.emplace_back();
    target.replica = absl::StrCat("replica", i + 1);
    target.address = absl::StrCat("address", i + 1);
    target.store_id = absl::StrCat("store", i + 1);
  }
  return table;
}

// A host without a network: what the engine sends waits here for what the input answers.
class FuzzedHost {
 public:
  FuzzedHost() : engine_(EngineOptions(), ThreeTargets(), now_, effects_) { TakeEffects(); }
  ~FuzzedHost() { engine_.View(); }

  void Step(fuzz::Input& input) {
    const uint8_t kind = input.Byte();
    const TargetId target{(kind >> 4) % kTargets};
    switch (kind % 16) {
      case 0: Connect(target, GoodHello(target)); break;
      case 1: ConnectAs(target, input.Message()); break;
      case 2: Replies(target, input.Message()); break;
      case 3: AnswerWell(target, input.Byte()); break;
      case 4: Lose(target, input.Byte()); break;
      case 5: Submit(input); break;
      case 6: Pass(absl::Milliseconds(input.Byte())); break;
      case 7: Pass(absl::Seconds(input.Byte())); break;
      case 8: AnswerCatalog(input.Byte()); AnswerCheck(input.Byte()); break;
      case 9: AnswerJoin(input.Byte(), input.Message()); break;
      case 10: engine_.TargetSpaceChanged(target, input.Byte() % 2 == 0, now_, effects_); break;
      case 11: engine_.TargetPonged(target, input.Byte(), now_, effects_); break;
      case 12: engine_.Suspend(NextControl(), input.Byte() % 2 == 0, absl::Seconds(1), now_, effects_); break;
      case 13: engine_.Resume(NextControl(), now_, effects_); break;
      case 14: Load(input.Byte()); break;
      case 15: Scrub(input.Byte()); break;
    }
    TakeEffects();
  }

 private:
  struct Session {
    bool asked = false;      // ConnectTarget is not answered
    bool connected = false;
    std::map<uint64_t, engine::Clone> unanswered;
    // What a good replica would have.
    std::map<uint32_t, Position> applied;
    std::map<uint32_t, Position> synced;
  };

  Session& Of(TargetId target) { return sessions_[static_cast<size_t>(target)]; }
  engine::ControlId NextControl() { return engine::ControlId{++controls_}; }

  v1::HelloReply GoodHello(TargetId target) {
    v1::HelloReply hello;
    hello.set_num_flush_requests(kLanes);
    hello.set_flush_supported(true);
    for (uint32_t lane = 0; lane < kLanes; ++lane) {
      v1::LaneState* state = hello.add_lanes();
      state->set_lane(lane);
      state->set_domain(lane);
      Session& session = Of(target);
      Position& applied = session.applied[lane];
      if (applied == Position()) applied = session.synced[lane] = Position(7, 0);
      state->set_position(applied.bits());
      state->set_durable_position(session.synced[lane].bits());
    }
    return hello;
  }

  void Connect(TargetId target, const v1::HelloReply& hello) {
    Session& session = Of(target);
    if (!session.asked) return;
    const absl::StatusOr<engine::TargetHello> decoded = DecodeHello(hello, kLanes);
    if (!decoded.ok()) return Lose(target, EPROTO);
    session.asked = false;
    session.connected = true;
    engine_.TargetConnected(target, *decoded, now_, effects_);
  }

  void ConnectAs(TargetId target, absl::string_view message) {
    v1::HelloReply hello;
    if (fuzz::Parse(message, &hello)) Connect(target, hello);
  }

  void Lose(TargetId target, int error) {
    Session& session = Of(target);
    if (!session.asked && !session.connected) return;
    session.asked = session.connected = false;
    session.unanswered.clear();
    engine_.TargetLost(target, engine::Result(error), "lost", now_, effects_);
  }

  // The ids of clones are small numbers that rise, so the input can name them.
  void Replies(TargetId target, absl::string_view message) {
    Session& session = Of(target);
    if (!session.connected) return;
    const grpc::Slice slice(message.data(), message.size());
    v1::IoReplyFrame frame;
    Payload payload;
    if (!wire::DecodeFrame(grpc::ByteBuffer(&slice, 1), 1 << 20, &frame, &payload).ok()) {
      return Lose(target, EPROTO);
    }
    auto replies = DecodeReplies(frame, payload, [&](const v1::IoReply& reply) -> std::optional<AskedFor> {
      const auto found = session.unanswered.find(reply.id());
      if (found == session.unanswered.end()) return std::nullopt;
      const AskedFor asked{found->second.kind, found->second.range.count};
      session.unanswered.erase(found);
      return asked;
    });
    if (!replies.ok()) return Lose(target, EPROTO);
    for (auto& [id, reply] : *replies) {
      engine_.CloneCompleted(target, id, std::move(reply), now_, effects_);
    }
  }

  // As a good replica answers its oldest `count` clones.
  void AnswerWell(TargetId target, int count) {
    Session& session = Of(target);
    while (session.connected && count-- > 0 && !session.unanswered.empty()) {
      const engine::Clone clone = session.unanswered.begin()->second;
      session.unanswered.erase(session.unanswered.begin());
      engine::CloneReply reply;
      Position& applied = session.applied[Index(clone.lane)];
      switch (clone.kind) {
        case RequestKind::kFlush:
          session.synced[clone.flush_nr] = session.applied[clone.flush_nr];
          reply.durable = {{LaneId{clone.flush_nr}, session.synced[clone.flush_nr]}};
          break;
        case RequestKind::kExtents:
          reply.extents = {{clone.range.count, true}};
          break;
        case RequestKind::kRead:
          reply.zeroes = true;
          break;
        default:
          applied = std::max(applied, clone.position);
          if (clone.fua) reply.durable = {{clone.lane, session.synced[Index(clone.lane)] = applied}};
      }
      reply.position = applied;
      engine_.CloneCompleted(target, clone.id, std::move(reply), now_, effects_);
      TakeEffects();
    }
  }

  void Submit(fuzz::Input& input) {
    const uint8_t kind = input.Byte();
    const uint8_t where = input.Byte();
    if (engine_.full()) return;
    engine::Request request;
    request.id = engine::RequestId{next_request_++};
    request.kind = static_cast<RequestKind>(kind % 7);
    request.fua = kind >= 128;
    if (request.kind != RequestKind::kFlush) {
      const uint64_t first = where % kSizeBlocks;
      request.range = {first, std::min<uint64_t>(1 + where / kSizeBlocks * 5, kSizeBlocks - first)};
    }
    if (request.kind == RequestKind::kWrite || request.kind == RequestKind::kBarrier) {
      const std::string data(request.range.count * kBlockBytes, 'w');
      request.data = Payload::CopyOf(data);
      request.crcs = BlockChecksums(data);
    }
    unanswered_requests_.insert(static_cast<uint64_t>(request.id));
    engine_.Submit(std::move(request), now_, effects_);
  }

  void Pass(absl::Duration time) {
    now_ += time;
    if (now_ >= engine_.next_timer()) engine_.TimerFired(now_, effects_);
  }

  void AnswerCatalog(uint8_t how) {
    if (!committing_) return;
    committing_ = false;
    const absl::Status status = how % 8 == 0   ? absl::UnavailableError("unknown")
                                : how % 8 == 1 ? absl::AbortedError("another's")
                                               : absl::OkStatus();
    engine_.MembersCommitted(status, now_, effects_);
  }

  void AnswerCheck(uint8_t how) {
    if (!std::exchange(checking_, false)) return;
    engine_.EpochChecked(how % 8 == 0 ? absl::UnavailableError("unknown") : absl::OkStatus(), now_, effects_);
  }

  void AnswerJoin(uint8_t how, absl::string_view message) {
    if (joins_.empty()) return;
    const engine::RunJoinStep step = joins_.front();
    joins_.erase(joins_.begin());
    engine::JoinStepResult result;
    v1::SealResponse sealed;
    v1::GetChangesResponse changes;
    v1::GetDigestsResponse digests;
    if (how % 8 == 0) result.status = absl::AbortedError("another incarnation");
    if (how % 8 == 1) result.status = absl::OutOfRangeError("not known");
    if (fuzz::Parse(message, &sealed)) result.sealed = DecodeSeal(sealed);
    if (fuzz::Parse(message, &changes)) {
      auto ranges = DecodeRuns(changes.changes(), kSizeBlocks);
      if (ranges.ok()) result.changes = *std::move(ranges);
    }
    if (step.kind == engine::RunJoinStep::Kind::kDigest && fuzz::Parse(message, &digests)) {
      auto decoded = DecodeDigests(digests, step.changes.front());
      result.status = decoded.status();
      if (decoded.ok()) result.digests = *std::move(decoded);
    }
    result.blocks_left = how / 64;
    result.whole_at = step.to;
    engine_.JoinStepDone(step.step, std::move(result), now_, effects_);
  }

  void Scrub(uint8_t what) {
    engine_.View();
    if (what % 4 == 1) engine_.StartScrub(now_, effects_);
    if (what % 4 == 2) engine_.StopScrub(now_, effects_);
  }

  void Load(uint8_t what) {
    engine::Table table = ThreeTargets();
    for (size_t i = 0; i < kTargets; ++i) {
      if ((what >> i & 1) != 0) table.targets[i].state = engine::TargetState::kOut;
      table.targets[i].stays_out = (what >> (i + 3) & 1) != 0;
    }
    engine_.LoadTable(NextControl(), std::move(table), now_, effects_);
  }

  void TakeEffects() {
    // Moved out first: nothing here calls the engine.
    engine::Effects effects = std::move(effects_);
    effects_.clear();
    for (const engine::Effect& effect : effects) {
      if (const auto* send = std::get_if<engine::SendClone>(&effect)) {
        CHECK(Of(send->target).connected);
        Of(send->target).unanswered[static_cast<uint64_t>(send->clone.id)] = send->clone;
      } else if (const auto* done = std::get_if<engine::CompleteRequest>(&effect)) {
        // Each once.
        CHECK_EQ(unanswered_requests_.erase(static_cast<uint64_t>(done->id)), 1u);
      } else if (const auto* connect = std::get_if<engine::ConnectTarget>(&effect)) {
        Session& session = Of(connect->target);
        session.asked = true;
        session.connected = false;
        session.unanswered.clear();
      } else if (const auto* disconnect = std::get_if<engine::DisconnectTarget>(&effect)) {
        Session& session = Of(disconnect->target);
        session.asked = session.connected = false;
        session.unanswered.clear();
      } else if (std::holds_alternative<engine::CommitMembers>(effect)) {
        CHECK(!committing_);  // one at a time
        committing_ = true;
      } else if (std::holds_alternative<engine::CheckEpoch>(effect)) {
        CHECK(!checking_);  // one at a time
        checking_ = true;
      } else if (const auto* join = std::get_if<engine::RunJoinStep>(&effect)) {
        joins_.push_back(*join);
      }
    }
  }

  engine::Time now_ = absl::Seconds(100);
  engine::Effects effects_;
  engine::Engine engine_;
  Session sessions_[kTargets];
  std::set<uint64_t> unanswered_requests_;
  std::vector<engine::RunJoinStep> joins_;
  uint64_t next_request_ = 1;
  uint64_t controls_ = 0;
  bool committing_ = false;
  bool checking_ = false;
};

}  // namespace
}  // namespace weir::host

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::fuzz::Input input(data, size);
  weir::host::FuzzedHost host;
  for (int i = 0; i < weir::host::kStepsMax && !input.empty(); ++i) host.Step(input);
  return 0;
}
