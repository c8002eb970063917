// VolumeRunner's reads that fall through to a clone's parent.
#include <cerrno>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "proto/base/errno.h"
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
  ParentReads::Read read;
  read.submitted = shared->second.submitted;
  read.ask = [self = shared_from_this(), parent, shared]() -> absl::Status {
    // Not held for what is not needed any more, nor by who does not have the volume any more.
    if (self->parent() == nullptr) return absl::FailedPreconditionError("it is no clone any more");
    const absl::Status status = parent->Fill(shared->second.first_block, shared->first.absent, &shared->first.parts);
    return status.ok() || !self->fenced() ? status : ErrnoToStatus(ESTALE, "the volume was taken over");
  };
  read.done = [self = shared_from_this(), shared](const absl::Status& status) {
    self->ReleaseBytes(shared->second.bytes);
    IoOutcome& filled = shared->first;
    if (!status.ok() && self->parent() == nullptr) {
      // Flat meanwhile, and the snapshot gone: all that it had is the volume's own.
      IoRequest again;
      again.offset_bytes = shared->second.first_block * kBlockBytes;
      again.length_bytes = shared->second.bytes;
      return self->Submit(std::move(again), std::move(shared->second.done));
    }
    if (!status.ok()) {
      filled.result = engine::Result(StatusToErrno(status) == ESTALE ? ESTALE : EIO);
      filled.message = std::string(status.message());
      filled.parts.clear();
    }
    filled.absent.clear();
    shared->second.done(std::move(filled));
  };
  HoldBytes(shared->second.bytes);
  if (parent_reads_->Run(read)) return true;
  ReleaseBytes(shared->second.bytes);
  outcome = std::move(shared->first);
  request = std::move(shared->second);
  outcome.result = engine::Result(EBUSY);
  outcome.message = "too many reads wait for the parents of clones; send fewer at a time";
  outcome.parts.clear();
  return false;
}

// Until its answer; see AwaitRoom.
void VolumeRunner::HoldBytes(uint64_t bytes) {
  absl::MutexLock lock(&mu_);
  unanswered_bytes_ += bytes;
}

void VolumeRunner::ReleaseBytes(uint64_t bytes) {
  std::vector<std::function<void()>> resumed;
  {
    absl::MutexLock lock(&mu_);
    unanswered_bytes_ -= bytes;
    if (unanswered_bytes_ < config_.unanswered_bytes_max) resumed.swap(awaiting_room_);
  }
  for (const auto& resume : resumed) resume();
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
