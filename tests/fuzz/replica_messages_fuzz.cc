// replica: what a frontend sends, on a real store: frames of an I/O stream and the steps of a
// takeover and of a join, in any order. A fence that does not fit is refused by pure functions, tried
// here too; beyond them stands anybody who knows the right fence.
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/wire/frame.h"
#include "replica/server/admission.h"
#include "replica/server/convert.h"
#include "replica/server/frame_run.h"
#include "replica/store/store.h"
#include "replica/store/testing/temp_store.h"
#include "tests/fuzz/input.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {
namespace {

constexpr store::VolumeGeometry kGeometry = {64, {2, 8}};
constexpr uint64_t kRoundBytes = 1 << 20;
// A store that has taken so many volumes is thrown away, so that memory stays bounded.
constexpr int kVolumesMax = 1000;
constexpr int kStepsMax = 64;

// One store for many inputs, each with a new volume of its own.
class Shelf {
 public:
  store::Store& StoreForNext() {
    if (store_ == nullptr || volumes_ == kVolumesMax) {
      store_.reset();
      dir_ = std::make_unique<store::testing::TempDir>();
      auto opened = store::Store::Open(store::testing::SmallOptions(*dir_, 1));
      CHECK_OK(opened);
      store_ = *std::move(opened);
      CHECK_OK(store_->BindCluster("cluster"));
      volumes_ = 0;
    }
    ++volumes_;
    return *store_;
  }
  VolumeId volume() const { return VolumeId{static_cast<uint64_t>(volumes_)}; }

 private:
  std::unique_ptr<store::testing::TempDir> dir_;
  std::unique_ptr<store::Store> store_;
  int volumes_ = 0;
};

class Session {
 public:
  Session(store::Store& store, VolumeId volume) : store_(store), volume_(volume) {
    store::testing::Writer writer(volume, kGeometry);
    CHECK_OK(writer.Attach(&store, 1));
  }
  ~Session() {
    // No message may have broken the store, or left the volume half there.
    CHECK_OK(store_.health());
    const absl::StatusOr<store::VolumeState> state = store_.GetVolume(volume_);
    CHECK_OK(state);
    for (const store::LaneState& lane : state->lanes) {
      CHECK(lane.invalid_blocks > 0 || ReadsAll(lane.lane));
    }
  }

  void Step(uint8_t kind, absl::string_view message) {
    switch (kind % 13) {
      case 0: Frame(message, false); break;
      case 1: Frame(message, true); break;
      case 2: With<v1::BeginJoinRequest>(message, [&](const auto& request) {
        return store_.BeginJoin(volume_, JoinLaneFromProto(request));
      }); break;
      case 3: With<v1::CopyInRequest>(message, [&](const auto& request) {
        const store::CopyPart part = CopyPartFromProto(request);
        return request.repair() ? store_.Repair(volume_, part) : store_.CopyIn(volume_, part);
      }); break;
      case 4: With<v1::GetChangesRequest>(message, [&](const auto& request) {
        return store_.ReadChanges(volume_, LaneId{request.lane()},
                                  Position::FromBits(request.from_position()),
                                  Position::FromBits(request.to_position())).status();
      }); break;
      case 5: With<v1::ReadVersionsRequest>(message, [&](const auto& request) {
        return store_.ReadVersions(volume_, LaneId{request.lane()},
                                   RangesFromProto(request.ranges()),
                                   Position::FromBits(request.at_most_position()),
                                   kRoundBytes,
                                   request.lost_too() ? store::Damaged::kAsLost : store::Damaged::kRefused).status();
      }); break;
      case 6: With<v1::GetJoinRequest>(message, [&](const auto& request) {
        const uint32_t ranges_max = request.ranges_max() != 0 ? request.ranges_max() : 4096;
        return store_.InvalidBlocks(volume_, LaneId{request.lane()}, request.from_block(),
                                    ranges_max).status();
      }); break;
      case 7: With<v1::FinishJoinRequest>(message, [&](const auto& request) {
        return store_.FinishJoin(volume_, request.join_id());
      }); break;
      case 8: With<v1::TakeBaseRequest>(message, [&](const auto& request) {
        return store_.TakeBase(volume_, request.fence().epoch(), request.act_epoch(),
                               PositionsFromProto(request.expected()));
      }); break;
      case 9: With<v1::AdoptTailRequest>(message, [&](const auto& request) {
        store::Tail tail = TailFromProto(request);
        AppendChunk(request.chunk(), &tail);
        return store_.AdoptTail(volume_, tail);
      }); break;
      case 10: With<v1::ReadTailRequest>(message, [&](const auto& request) { return ReadTail(request); });
        break;
      case 11: Control(message); break;
      case 12: With<v1::GetDigestsRequest>(message, [&](const auto& request) {
        return store_.Digests(volume_, LaneId{request.lane()},
                              {request.first_block(), request.block_count()},
                              Position::FromBits(request.at_position()), kRoundBytes).status();
      }); break;
    }
  }

 private:
  template <typename Request, typename Call>
  void With(absl::string_view message, Call call) {
    Request request;
    if (!fuzz::Parse(message, &request)) return;
    const store::Identity identity = store_.identity();
    CheckIdentity(identity, request.fence(), Acquaintance::kProcess).IgnoreError();
    CheckEpochIs(1, request.fence()).IgnoreError();
    const absl::Status status = call(request);
    // An internal error would be a mistake of ours, whatever was asked.
    CHECK(!absl::IsInternal(status));
  }

  absl::Status ReadTail(const v1::ReadTailRequest& request) {
    absl::StatusOr<store::Tail> tail =
        store_.ReadTail(volume_, LaneId{request.lane()},
                        Position::FromBits(request.from_position()),
                        Position::FromBits(request.to_position()));
    if (!tail.ok()) return tail.status();
    // What is told of it in chunks is all of it.
    store::Tail received;
    const size_t changes = tail->changes.size();
    const size_t versions = tail->versions.size();
    TailChunker chunker(*std::move(tail), 4096);
    v1::TailChunk chunk;
    while (chunker.Next(&chunk)) AppendChunk(chunk, &received);
    CHECK_EQ(received.changes.size(), changes);
    CHECK_EQ(received.versions.size(), versions);
    return absl::OkStatus();
  }

  void Control(absl::string_view message) {
    v1::CreateReplicaVolumeRequest create;
    if (fuzz::Parse(message, &create)) {
      CheckIdentity(store_.identity(), create.fence(), Acquaintance::kStranger).IgnoreError();
      const auto geometry =
          CheckGeometry(create.size_bytes(), create.lanes(), create.stripe_blocks());
      if (geometry.ok()) CHECK_GT(geometry->lanes.stripe_blocks, 0u);
    }
    v1::Fault fault;
    if (fuzz::Parse(message, &fault)) faults_.Add(fault).status().IgnoreError();
  }

  // `repaired`: with what a frontend never gets wrong made right, to reach what lies behind it.
  void Frame(absl::string_view message, bool repaired) {
    const grpc::Slice slice(message.data(), message.size());
    v1::IoFrame frame;
    Payload payload;
    if (!wire::DecodeFrame(grpc::ByteBuffer(&slice, 1), 1 << 20, &frame, &payload).ok()) return;
    if (repaired) payload = Repair(&frame);
    if (!CheckFrame(frame, payload.size(), 64).ok()) return;
    StreamScope scope;
    scope.geometry = kGeometry;
    scope.domains = store_.num_domains();
    scope.num_flush_requests = NumFlushRequests(scope.domains, kGeometry.lanes);
    scope.epoch = 1;
    const int ios = frame.ios_size();
    FrameRun run(store_, faults_, [](v1::FaultOp) {}, volume_, scope, std::move(frame),
                 std::move(payload));
    std::vector<Answer> answers;
    run.ApplyWrites(&answers);
    while (run.ReadNext(&answers)) {
    }
    CHECK_LE(static_cast<int>(answers.size()), ios);  // a fault may have dropped some
  }

  Payload Repair(v1::IoFrame* frame) {
    std::string data;
    for (v1::Io& io : *frame->mutable_ios()) {
      io.set_first_block(io.first_block() % kGeometry.size_blocks);
      io.set_block_count(io.block_count() % 4);
      io.set_lane(Index(kGeometry.lanes.LaneOf(io.first_block())));
      io.clear_crc32c();
      if (io.kind() == v1::IO_KIND_WRITE) {
        for (uint32_t i = 0; i < io.block_count(); ++i) {
          const std::string block = store::testing::BlockOf(io.id() + i);
          io.add_crc32c(Crc32c(block));
          data += block;
        }
      }
      // The next one of its lane, if it leaves that open.
      if (io.position() == 0 && IsWrite(io.kind())) io.set_position(NextOf(io.lane()));
    }
    return Payload::CopyOf(data);
  }

  uint64_t NextOf(uint32_t lane) const {
    const absl::StatusOr<store::VolumeState> state = store_.GetVolume(volume_);
    CHECK_OK(state);
    return state->lanes[lane].position.Next().bits();
  }

  bool ReadsAll(LaneId lane) const {
    for (uint64_t block = 0; block < kGeometry.size_blocks; ++block) {
      if (kGeometry.lanes.LaneOf(block) != lane) continue;
      if (!store_.Read(volume_, {block, 1}).ok()) return false;
    }
    return true;
  }

  store::Store& store_;
  const VolumeId volume_;
  FaultTable faults_;
};

}  // namespace
}  // namespace weir::replica

// The store grows, so libFuzzer would look for leaks after each input; and what RocksDB's threads
// hold would be taken for lost at times.
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static weir::replica::Shelf* const shelf = new weir::replica::Shelf;
  weir::store::Store& store = shelf->StoreForNext();
  weir::replica::Session session(store, shelf->volume());
  weir::fuzz::Input input(data, size);
  for (int i = 0; i < weir::replica::kStepsMax && !input.empty(); ++i) {
    const uint8_t kind = input.Byte();
    session.Step(kind, input.Message());
  }
  return 0;
}
