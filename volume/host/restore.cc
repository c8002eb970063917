// LocalHost's restoring of volumes: what was written after a snapshot is written once more, as it was in that.
//
// The record says so from before the first block until after the last one is durable, and as long as it does no
// client gets at the volume. What was cut short is done again, all of it: it writes the same.
#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "volume/host/host.h"
#include "volume/host/local_host.h"
#include "volume/host/parent_reader.h"
#include "volume/host/pinned_reader.h"

namespace weir::host {
namespace {

constexpr absl::Duration kDetachDeadline = absl::Seconds(30);
constexpr uint64_t kStepBlocks = (1 << 20) / kBlockBytes;

absl::Status Submit(VolumeRunner& runner, IoRequest request) {
  const IoOutcome outcome = runner.SubmitAndWait(std::move(request));
  if (outcome.result.ok()) return absl::OkStatus();
  return ErrnoToStatus(outcome.result.error(), outcome.message);
}

// Blocks `range`: `blocks` of it have data, all others are zeros.
absl::Status WriteBack(VolumeRunner& runner, BlockRange range,
                       const std::vector<PinnedReader::Block>& blocks) {
  auto next = blocks.begin();
  for (uint64_t at = range.first; at < range.end();) {
    IoRequest request;
    request.offset_bytes = at * kBlockBytes;
    if (next != blocks.end() && next->block == at) {
      request.kind = engine::RequestKind::kWrite;
      std::string data;
      for (; next != blocks.end() && next->block == at; ++next, ++at) data += next->data;
      request.length_bytes = data.size();
      request.data = Payload::CopyOf(std::move(data));
    } else {
      request.kind = engine::RequestKind::kWriteZeroes;
      const uint64_t end = next == blocks.end() ? range.end() : next->block;
      request.length_bytes = (end - at) * kBlockBytes;
      at = end;
    }
    RETURN_IF_ERROR(Submit(runner, std::move(request)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<v1::RestoreVolumeResponse> LocalHost::RestoreVolume(
    const v1::RestoreVolumeRequest& request) {
  const std::string& name = request.name();
  RETURN_IF_ERROR(catalog_->GetVolume(name).status());
  ASSIGN_OR_RETURN(const Exclusive held, Exclusive::Take(this, name));
  bool attaching = false;
  if (AttachedOrNull(name, &attaching) != nullptr) {
    return absl::FailedPreconditionError(absl::StrCat(
        "volume ", name, " is attached; detach it first, then restore it"));
  }
  RETURN_IF_ERROR(ChangeRecord(name, [&](v1::VolumeRecord record) -> absl::StatusOr<v1::VolumeRecord> {
    if (FindSnapshot(record, request.snapshot()) == nullptr) {
      return absl::NotFoundError(
          absl::StrCat("volume ", name, " has no snapshot '", request.snapshot(), "'"));
    }
    if (!record.restoring().empty() && record.restoring() != request.snapshot()) {
      return absl::FailedPreconditionError(
          absl::StrCat("volume ", name, " is being restored from ", record.restoring(),
                       ", which was cut short; finish that first"));
    }
    record.set_restoring(request.snapshot());
    return record;
  }));
  ASSIGN_OR_RETURN(const std::shared_ptr<Attached> attached,
                   AttachAnew(name, AttachMode::kRestore));
  v1::RestoreVolumeResponse response;
  absl::Status status = CopyBack(*attached, &response);
  if (status.ok()) {
    status = attached->Commit([](v1::VolumeRecord record) {
      record.clear_restoring();
      return record;
    });
  }
  const absl::Status detached = DetachHeld(*attached, Clients::kEnd, /*force=*/!status.ok(), kDetachDeadline);
  if (detached.ok()) Drop(name);
  RETURN_IF_ERROR(status);
  RETURN_IF_ERROR(detached);
  LOG(INFO) << "volume=" << name << " was restored from snapshot=" << request.snapshot() << ", "
            << FormatSize(response.restored_bytes()) << " were written since";
  return response;
}

absl::Status LocalHost::CopyBack(Attached& attached, v1::RestoreVolumeResponse* response) {
  const v1::VolumeRecord record = attached.Record();
  const v1::SnapshotRecord* snapshot = FindSnapshot(record, record.restoring());
  if (snapshot == nullptr) return absl::AbortedError("the snapshot was deleted meanwhile");
  ASSIGN_OR_RETURN(const auto content,
                   ParentReader::Open(catalog_.get(), AsParent(record, *snapshot)));
  PinnedReader changes(catalog_.get(), record, snapshot->pin().id());
  uint64_t blocks = 0;
  RETURN_IF_ERROR(changes.ForEachChange([&](BlockRange range) -> absl::Status {
    blocks += range.count;
    while (range.count > 0) {
      const BlockRange part{range.first, std::min(range.count, kStepBlocks)};
      ASSIGN_OR_RETURN(const std::vector<PinnedReader::Block> was, content->Read(part));
      RETURN_IF_ERROR(WriteBack(*attached.runner, part, was));
      range = {part.end(), range.count - part.count};
    }
    return absl::OkStatus();
  }));
  response->set_restored_bytes(blocks * kBlockBytes);
  IoRequest flush;
  flush.kind = engine::RequestKind::kFlush;
  return Submit(*attached.runner, flush);
}

}  // namespace weir::host
