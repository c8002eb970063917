#include "replica/store/testing/workload.h"

#include <algorithm>

#include "proto/base/status_macros.h"

namespace weir::store::testing {

absl::Status Workload::Attach(Store* store) {
  ++epoch_;
  model_.BaseSubmitted(epoch_);
  RETURN_IF_ERROR(store->CreateVolume(writer_.id, writer_.geometry));
  model_.Created();
  RETURN_IF_ERROR(writer_.Attach(store, epoch_));
  model_.Promised(epoch_);
  for (uint32_t i = 0; i < writer_.geometry.lanes.lanes; ++i) {
    model_.Durable(LaneId{i}, Position(epoch_, 0));
  }
  return absl::OkStatus();
}

absl::Status Workload::Step(Store* store) {
  const uint64_t dice = Below(100);
  const uint32_t domains =
      std::min(store->num_domains(), writer_.geometry.lanes.lanes);
  if (dice < 75) return Write(store, 1 + Below(4), 8);
  if (dice < 90) return Flush(store, static_cast<uint32_t>(Below(domains)));
  if (dice < 97) return NotePoints(store);
  return Attach(store);
}

absl::Status Workload::Write(Store* store, uint64_t ops, uint64_t blocks_max) {
  const VolumeGeometry& geometry = writer_.geometry;
  std::vector<WriteOp> batch;
  for (uint64_t i = 0; i < ops; ++i) {
    const uint64_t first = Below(geometry.size_blocks);
    const uint64_t stripe = geometry.lanes.stripe_blocks;
    const uint64_t room = std::min(stripe - first % stripe,
                                   geometry.size_blocks - first);
    const uint64_t count = 1 + Below(std::min(room, blocks_max));
    const uint64_t dice = Below(10);
    if (dice < 8) {
      batch.push_back(writer_.Data(first, count, stamp_, Below(20) == 0));
    } else {
      batch.push_back(writer_.Zeroes(
          dice == 8 ? WriteKind::kDiscard : WriteKind::kWriteZeroes, first,
          count));
    }
    model_.Submitted(batch.back(), stamp_);
    stamp_ += count;
  }
  std::vector<WriteResult> results = store->Write(writer_.id, batch);
  writer_.Clear();
  for (size_t i = 0; i < batch.size(); ++i) {
    RETURN_IF_ERROR(results[i].status);
    if (batch[i].fua && results[i].durable_position < batch[i].position) {
      return absl::InternalError("FUA was answered without being durable");
    }
    model_.Durable(batch[i].lane, results[i].durable_position);
  }
  return absl::OkStatus();
}

absl::Status Workload::Flush(Store* store, uint32_t flush_nr) {
  auto flushed = store->Flush(writer_.id, flush_nr);
  RETURN_IF_ERROR(flushed.status());
  for (const auto& [lane, position] : *flushed) {
    if (position != writer_.position(lane)) {
      return absl::InternalError("a flush did not cover an answered write");
    }
    model_.Durable(lane, position);
  }
  return absl::OkStatus();
}

absl::Status Workload::NotePoints(Store* store) {
  const Answered answered = model_.answered();
  std::vector<std::pair<LaneId, Position>> points;
  for (uint32_t i = 0; i < answered.durable.size(); ++i) {
    points.emplace_back(LaneId{i}, answered.durable[i]);
  }
  return store->NoteDurablePoints(writer_.id, points);
}

}  // namespace weir::store::testing
