// Reads a volume as of one of its pins, straight from its replicas.
//
// What a pin holds never changes, so any replica that has it will do, whoever the volume's frontend is.
//
// Thread-safety: safe; all block.
#ifndef WEIR_VOLUME_HOST_PINNED_READER_H_
#define WEIR_VOLUME_HOST_PINNED_READER_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "volume/catalog/catalog.h"
#include "volume/engine/parent.h"
#include "volume/engine/pinned.h"
#include "volume/host/replica_client.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/replica.pb.h"

namespace weir::host {

class PinnedReader {
 public:
  // Asks the members of `record`, those in sync first. `catalog`, which says where they are now, is asked here
  // and not kept. `cancellation` may be null; it outlives the reader.
  PinnedReader(catalog::Catalog* catalog, const v1::VolumeRecord& record, uint64_t pin,
               Cancellation* cancellation = nullptr);

  using Block = engine::ParentBlock;
  // Those blocks of `range` that the volume itself has something of, ascending. Checksums are
  // verified. UNAVAILABLE: no replica can be asked; EBADMSG: one has it damaged, and none has it well; else the last one's error.
  absl::StatusOr<std::vector<Block>> Read(BlockRange range);
  // Calls `visit` with ranges of blocks that were written after the pin, lane by lane, until it fails. Asks only members
  // in sync: others do not know all that was written. Of a volume that clients write to it is a picture of the moment.
  absl::Status ForEachChange(const std::function<absl::Status(BlockRange)>& visit);
  // Of all blocks that were written after the pin: how many, how many of them the pin keeps, and how many no other pin does.
  struct Use {
    uint64_t changed = 0;
    std::optional<uint64_t> kept;  // nothing: a replica of an older version was asked
    uint64_t own = 0;
  };
  absl::StatusOr<Use> GetUse();

 private:
  struct Replica {
    std::unique_ptr<ReplicaClient> client;
    v1::Fence fence;
  };
  // Of one call, by any replica.
  absl::Status ReadPart(BlockRange part, std::vector<Block>* blocks);
  absl::Status ForEachPage(bool kept, const std::function<absl::Status(const v1::GetChangedSinceResponse&)>& visit);
  // Runs `call` on one replica after the other until one succeeds.
  // `blocks`: that are asked for.
  absl::Status OnAny(engine::AskPinned::What what, uint64_t blocks, const std::function<absl::Status(Replica&)>& call);

  const std::string volume_;
  const uint32_t lanes_;
  const uint64_t size_blocks_;
  const uint64_t pin_;
  std::vector<Replica> replicas_;  // by member
  std::vector<bool> in_sync_;      // the same
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_PINNED_READER_H_
