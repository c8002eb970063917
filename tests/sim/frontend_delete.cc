// A frontend that deletes a volume, as host/local_host.cc and host/provision.cc do, in the order that engine::Deletion says.
#include <algorithm>
#include <utility>

#include "tests/sim/frontend_calls.h"

namespace weir::sim {

void Frontend::Delete(std::function<void(absl::Status)> done) {
  if (serving() || attaching()) return done(absl::FailedPreconditionError("it is attached"));
  deletion_.emplace(Deleting{.held = HeldRecord({}), .done = std::move(done)});
  parts_.catalog->Get(index_, [this, life = life_](absl::StatusOr<CatalogRecord> read) {
    Enter(life, [this, read = std::move(read)] {
      if (!read.ok() || read->gone) return EndDeletion(read.status());
      if (IsElsewhere(*read)) return EndDeletion(absl::FailedPreconditionError("it is attached elsewhere"));
      deletion_->decides = engine::Deletion(read->deleting, read->volume.members.size());
      deletion_->held = HeldRecord({*read, read->revision});
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

void Frontend::MarkDeleting() {
  CatalogRecord next = deletion_->held.record();
  next.deleting = true;
  Commit(&deletion_->held, std::move(next), [this](const absl::Status& status) { status.ok() ? DeleteNext() : EndDeletion(status); });
}

// As host/provision.cc: who is there is asked first.
void Frontend::DeleteCopy(uint32_t member) {
  const engine::TakeoverMember& at = deletion_->held.record().volume.members[member];
  Call<absl::StatusOr<ReplicaNode::Told>>(
      IndexOf(at.replica), [](ReplicaNode& node) { return node.Tell(); },
      [this, member, store_id = at.store_id](const absl::StatusOr<ReplicaNode::Told>& told) {
        engine::Deletion::Replica found{.silent = !told.ok()};
        if (told.ok()) found.store_id = told->store_id;
        switch (engine::Deletion::LeftAt(found, store_id)) {
          case engine::Deletion::Left::kNothing:
            return DeleteNext();
          case engine::Deletion::Left::kCopy:
            return DeleteCopyThere(member, *told);
          case engine::Deletion::Left::kUnknown:
            return EndDeletion(told.status());
        }
      });
}

void Frontend::DeleteCopyThere(uint32_t member, const ReplicaNode::Told& told) {
  const engine::TakeoverRecord& volume = deletion_->held.record().volume;
  const engine::TakeoverMember& at = volume.members[member];
  Call<absl::Status>(
      IndexOf(at.replica),
      [fence = FenceOf(at.store_id, told.incarnation, std::max<Epoch>(1, volume.epoch)), changes = told.volume_changes](ReplicaNode& node) {
        return node.DeleteVolume(fence, changes);
      },
      [this](const absl::Status& status) { status.ok() ? DeleteNext() : EndDeletion(status); });
}

void Frontend::RemoveRecord() {
  CatalogRecord next = deletion_->held.record();
  next.revision = deletion_->held.revision();
  next.gone = true;
  parts_.catalog->Put(index_, next, [this, life = life_](absl::StatusOr<uint64_t> put) {
    Enter(life, [this, put = std::move(put)] { put.ok() ? DeleteNext() : EndDeletion(put.status()); });
  });
}

}  // namespace weir::sim
