// A frontend that deletes a volume, as host/local_host.cc and host/provision.cc do, in the order that engine::Deletion says.
#include <algorithm>
#include <utility>

#include "tests/sim/frontend.h"

namespace weir::sim {

void Frontend::Delete(std::function<void(absl::Status)> done) {
  if (serving() || attaching()) return done(absl::FailedPreconditionError("it is attached"));
  deletion_.emplace(Deleting{.done = std::move(done)});
  parts_.catalog->Get(index_, [this, life = life_](absl::StatusOr<CatalogRecord> read) {
    Enter(life, [this, read = std::move(read)] {
      if (!read.ok() || read->gone) return EndDeletion(read.status());
      if (IsElsewhere(*read)) return EndDeletion(absl::FailedPreconditionError("it is attached elsewhere"));
      deletion_->decides = engine::Deletion(read->deleting, read->volume.members.size());
      deletion_->record = *read;
      DeleteNext();
    });
  });
}

void Frontend::EndDeletion(const absl::Status& status) {
  Trace("deletion: ", status.ToString());
  const auto done = std::move(deletion_->done);
  deletion_.reset();
  done(status);
}

void Frontend::DeleteNext() {
  using Act = engine::Deletion::Act;
  const engine::Deletion::Step step = deletion_->decides.Next();
  switch (step.act) {
    case Act::kMark:
      return MarkDeleting();
    case Act::kDeleteCopy:
      return DeleteCopy(static_cast<uint32_t>(step.member));
    case Act::kRemove:
      return RemoveRecord();
    case Act::kDone:
      return EndDeletion(absl::OkStatus());
  }
}

// As host::VolumeRecordHolder: what is not known is read back.
void Frontend::MarkDeleting() {
  CatalogRecord next = deletion_->record;
  next.deleting = true;
  parts_.catalog->Put(index_, next, [this, life = life_](absl::StatusOr<uint64_t> put) {
    Enter(life, [this, put = std::move(put), life] {
      if (put.ok()) {
        deletion_->record.deleting = true;
        deletion_->record.revision = *put;
        return DeleteNext();
      }
      parts_.catalog->Get(index_, [this, life](absl::StatusOr<CatalogRecord> read) {
        Enter(life, [this, read = std::move(read)] {
          if (!read.ok() || read->revision == deletion_->record.revision) {
            return EndDeletion(absl::UnavailableError("unknown"));
          }
          // Nothing changes it any more once it says so, but its removal.
          if (read->gone || !read->deleting) return EndDeletion(absl::AbortedError("the record has changed"));
          deletion_->record = *read;
          DeleteNext();
        });
      });
    });
  });
}

void Frontend::DeleteCopy(uint32_t member) {
  v1::Fence fence = FenceOf(deletion_->record.volume, member, 0);
  fence.set_epoch(std::max<Epoch>(1, fence.epoch()));
  Call<absl::Status>(
      member, [fence](ReplicaNode& node) { return node.DeleteVolume(fence); },
      [this](const absl::Status& status) { status.ok() ? DeleteNext() : EndDeletion(status); });
}

void Frontend::RemoveRecord() {
  CatalogRecord next = deletion_->record;
  next.gone = true;
  parts_.catalog->Put(index_, next, [this, life = life_](absl::StatusOr<uint64_t> put) {
    Enter(life, [this, put = std::move(put)] { put.ok() ? DeleteNext() : EndDeletion(put.status()); });
  });
}

}  // namespace weir::sim
