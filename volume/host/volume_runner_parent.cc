// VolumeRunner's reads that fall through to a clone's parent.
#include <cerrno>
#include <memory>
#include <string>
#include <utility>

#include "proto/base/position.h"
#include "volume/host/volume_runner.h"

namespace weir::host {

std::shared_ptr<ParentReader> VolumeRunner::FallsThroughTo(const IoRequest& request) const {
  return config_.engine.overlay && !request.own_only ? parent() : nullptr;
}

bool VolumeRunner::CompleteFromParent(IoOutcome& outcome, PendingRequest& request) {
  const std::shared_ptr<ParentReader> parent = request.parent;
  if (parent == nullptr || !outcome.result.ok()) return false;
  if (request.kind == engine::RequestKind::kExtents) {
    // Who does not ask the parent cannot say that there is nothing.
    uint64_t blocks = 0;
    for (const engine::Run& run : outcome.extents) blocks += run.blocks;
    outcome.extents = {{blocks, true}};
    return false;
  }
  if (outcome.absent.empty()) return false;
  auto shared = std::make_shared<std::pair<IoOutcome, PendingRequest>>(std::move(outcome),
                                                                       std::move(request));
  const bool queued = config_.parents->Run([self = shared_from_this(), parent, shared] {
    IoOutcome& filled = shared->first;
    const absl::Status status =
        parent->Fill(shared->second.first_block, filled.absent, &filled.parts);
    if (!status.ok() && self->parent() == nullptr) {
      // Flat meanwhile, and the snapshot gone: all that it had is the volume's own.
      IoRequest again;
      again.offset_bytes = shared->second.first_block * kBlockBytes;
      again.length_bytes = shared->second.bytes;
      return self->Submit(std::move(again), std::move(shared->second.done));
    }
    if (!status.ok()) {
      filled.result = engine::Result(EIO);
      filled.message = std::string(status.message());
      filled.parts.clear();
    }
    filled.absent.clear();
    shared->second.done(std::move(filled));
  });
  if (queued) return true;
  outcome = std::move(shared->first);
  request = std::move(shared->second);
  outcome.result = engine::Result(EBUSY);
  outcome.message = "too many reads wait for the parents of clones; send fewer at a time";
  outcome.parts.clear();
  return false;
}

std::shared_ptr<ParentReader> VolumeRunner::parent() const {
  absl::MutexLock lock(&parent_mu_);
  return parent_;
}

void VolumeRunner::DropParent() {
  absl::MutexLock lock(&parent_mu_);
  parent_.reset();
}

}  // namespace weir::host
