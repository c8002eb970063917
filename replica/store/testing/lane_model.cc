#include "replica/store/testing/lane_model.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "proto/base/status_macros.h"
#include "replica/store/testing/temp_store.h"

namespace weir::store::testing {

LaneModel::LaneModel(VolumeId id, const VolumeGeometry& geometry)
    : id_(id), geometry_(geometry), histories_(geometry.lanes.lanes) {
  answered_.durable.resize(geometry.lanes.lanes);
  for (auto& history : histories_) history.push_back(Event());  // (0, 0): empty
}

LaneModel::LaneModel(const LaneModel& other)
    : id_(other.id_), geometry_(other.geometry_) {
  absl::MutexLock lock(&other.mutex_);
  histories_ = other.histories_;
  answered_ = other.answered_;
}

void LaneModel::Submitted(const WriteOp& op, uint64_t stamp) {
  absl::MutexLock lock(&mutex_);
  histories_[Index(op.lane)].push_back(
      {op.position, op.range, op.kind == WriteKind::kWrite, stamp});
}

void LaneModel::BaseSubmitted(Epoch epoch) {
  absl::MutexLock lock(&mutex_);
  for (auto& history : histories_) history.push_back(Event{.position = Position(epoch, 0), .range = {}});
}

void LaneModel::Opened() {
  absl::MutexLock lock(&mutex_);
  answered_.opened = true;
}

void LaneModel::Created() {
  absl::MutexLock lock(&mutex_);
  answered_.created = true;
}

void LaneModel::Promised(Epoch epoch) {
  absl::MutexLock lock(&mutex_);
  answered_.promised = epoch;
}

void LaneModel::Durable(LaneId lane, Position position) {
  absl::MutexLock lock(&mutex_);
  Position& durable = answered_.durable[Index(lane)];
  durable = std::max(durable, position);
}

Answered LaneModel::answered() const {
  absl::MutexLock lock(&mutex_);
  return answered_;
}

absl::Status LaneModel::Check(Store* store, const Answered& answered,
                              Leniency leniency) const {
  absl::StatusOr<VolumeState> state = store->GetVolume(id_);
  if (!state.ok()) {
    if (absl::IsNotFound(state.status()) && !answered.created) {
      return absl::OkStatus();
    }
    return state.status();
  }
  if (state->promised_epoch < answered.promised) {
    return absl::InternalError(absl::StrCat("promise ", answered.promised,
                                            " became ", state->promised_epoch));
  }
  std::vector<uint64_t> stamps;
  std::vector<Position> positions;
  for (const LaneState& lane : state->lanes) positions.push_back(lane.position);
  {
    absl::MutexLock lock(&mutex_);
    for (const LaneState& lane : state->lanes) {
      RETURN_IF_ERROR(CheckLane(lane, answered.durable[Index(lane.lane)]));
    }
    stamps = ContentAt(positions);
  }
  return CheckContent(store, stamps, leniency);
}

absl::Status LaneModel::CheckLane(const LaneState& lane,
                                  Position durable) const {
  const auto& history = histories_[Index(lane.lane)];
  const bool on_history =
      std::any_of(history.begin(), history.end(), [&](const Event& event) {
        return event.position == lane.position;
      });
  if (on_history && lane.position >= durable &&
      lane.durable_position >= durable &&
      lane.durable_position <= lane.position) {
    return absl::OkStatus();
  }
  return absl::InternalError(absl::StrCat(
      "lane ", Index(lane.lane), " is at ", lane.position.ToString(),
      on_history ? "" : ", which is not on its history", ", says durable ",
      lane.durable_position.ToString(), ", had answered durable ",
      durable.ToString()));
}

absl::Status LaneModel::CheckPinned(Store* store, const Pin& pin,
                                    Leniency leniency) const {
  std::vector<uint64_t> stamps;
  {
    absl::MutexLock lock(&mutex_);
    stamps = ContentAt(pin.positions);
  }
  const std::string zeros(kBlockBytes, '\0');
  for (uint64_t block = 0; block < stamps.size(); ++block) {
    const auto read = store->ReadPinned(id_, pin.id, {block, 1});
    if (!read.ok() && leniency.read_errors) continue;
    RETURN_IF_ERROR(read.status());
    const bool zero = read->empty() || (*read)[0].zero;
    if ((zero ? zeros : (*read)[0].data) !=
        (stamps[block] == 0 ? zeros : BlockOf(stamps[block]))) {
      return absl::InternalError(absl::StrCat("block ", block, " at pin ", pin.id, " is not of stamp ",
                                              stamps[block]));
    }
  }
  return absl::OkStatus();
}

std::vector<uint64_t> LaneModel::ContentAt(
    const std::vector<Position>& positions) const {
  std::vector<uint64_t> stamps(geometry_.size_blocks, 0);
  for (size_t lane = 0; lane < positions.size(); ++lane) {
    for (const Event& event : histories_[lane]) {
      if (event.position > positions[lane]) break;
      for (uint64_t i = 0; i < event.range.count; ++i) {
        stamps[event.range.first + i] = event.data ? event.stamp + i : 0;
      }
    }
  }
  return stamps;
}

absl::Status LaneModel::CheckContent(Store* store,
                                     const std::vector<uint64_t>& stamps,
                                     Leniency leniency) const {
  const std::string zeros(kBlockBytes, '\0');
  // One read when it may not fail, else block by block.
  const uint64_t step = leniency.read_errors ? 1 : stamps.size();
  for (uint64_t first = 0; first < stamps.size(); first += step) {
    absl::StatusOr<ReadResult> read = store->Read(id_, {first, step});
    if (!read.ok() && leniency.read_errors) continue;
    RETURN_IF_ERROR(read.status());
    if (read->zeroes) read->data.assign(step * kBlockBytes, '\0');
    for (uint64_t i = 0; i < step; ++i) {
      const uint64_t stamp = stamps[first + i];
      const absl::string_view got =
          absl::string_view(read->data).substr(i * kBlockBytes, kBlockBytes);
      if (got != (stamp == 0 ? zeros : BlockOf(stamp))) {
        return absl::InternalError(
            absl::StrCat("block ", first + i, " is not of stamp ", stamp,
                         got == zeros ? " but zeros" : ""));
      }
    }
  }
  return absl::OkStatus();
}

}  // namespace weir::store::testing
