#include "replica/server/pin_calls.h"

#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/str_cat.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "replica/server/admission.h"
#include "replica/server/convert.h"

namespace weir::replica {
namespace {

constexpr uint32_t kPageRangesDefault = 4096;
// Each is looked at two or three times: a call is to take a fraction of a second.
constexpr uint64_t kKeptBlocksMax = 2048;

// The page ends after that many blocks.
void CutAfter(uint64_t blocks_max, store::ChangedPage* page) {
  uint64_t blocks = 0;
  for (size_t i = 0; i < page->ranges.size(); ++i) {
    BlockRange& range = page->ranges[i];
    if (blocks + range.count > blocks_max) {
      range.count = blocks_max - blocks;
      page->next_block = range.end();
      page->ranges.resize(range.count > 0 ? i + 1 : i);
      return;
    }
    blocks += range.count;
  }
}

}  // namespace

absl::Status UpdateVolume(Replica& replica, const v1::UpdateReplicaVolumeRequest& request) {
  const store::VolumeUpdate update = UpdateFromProto(request);
  return replica.gate().Step(request.fence(), [&](VolumeId id) {
    RETURN_IF_ERROR(CheckUpdate(update, request.fence()));
    RETURN_IF_ERROR(replica.store().UpdateVolume(id, update));
    LOG(INFO) << "replica=" << replica.options().name << " volume=" << static_cast<uint64_t>(id)
              << " epoch=" << request.fence().epoch() << " has " << update.pins.size()
              << " pins, size_bytes=" << request.size_bytes();
    return absl::OkStatus();
  });
}

absl::Status ReadPinned(Replica& replica, const v1::ReadPinnedRequest& request,
                        v1::ReadPinnedResponse* response) {
  RETURN_IF_ERROR(replica.gate().CheckReader(request.fence()));
  ASSIGN_OR_RETURN(std::vector<store::BlockVersion> versions,
                   replica.store().ReadPinned(VolumeIdOf(request.fence()), request.pin(),
                                              {request.first_block(), request.block_count()}));
  for (store::BlockVersion& version : versions) {
    VersionToProto(std::move(version), response->add_versions());
  }
  return absl::OkStatus();
}

absl::Status GetChangedSince(Replica& replica, const v1::GetChangedSinceRequest& request,
                             v1::GetChangedSinceResponse* response) {
  RETURN_IF_ERROR(replica.gate().CheckReader(request.fence()));
  const uint32_t ranges_max =
      request.ranges_max() != 0 ? request.ranges_max() : kPageRangesDefault;
  ASSIGN_OR_RETURN(store::ChangedPage page,
                   replica.store().ChangedSince(VolumeIdOf(request.fence()), request.pin(),
                                                LaneId{request.lane()}, request.from_block(),
                                                ranges_max));
  if (request.kept()) CutAfter(kKeptBlocksMax, &page);
  RangesToProto(page.ranges, response->mutable_changed());
  response->set_next_block(page.next_block);
  if (!request.kept()) return absl::OkStatus();
  // What has changed is told also where a version cannot be read.
  const absl::StatusOr<store::KeptBlocks> kept =
      replica.store().KeptBy(VolumeIdOf(request.fence()), request.pin(), LaneId{request.lane()}, page.ranges);
  if (!kept.ok()) return absl::OkStatus();
  response->set_kept_blocks(kept->blocks);
  response->set_own_blocks(kept->own_blocks);
  return absl::OkStatus();
}

}  // namespace weir::replica
