#include "replica/server/sessions.h"

#include <cerrno>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/errno.h"

namespace weir::replica {
namespace {

absl::Status Fenced(VolumeId volume, Epoch epoch) {
  return ErrnoToStatus(ESTALE,
                       absl::StrCat("fenced: volume=", static_cast<uint64_t>(volume),
                                    " has been taken over in epoch ", epoch));
}

absl::Status Superseded(VolumeId volume, uint64_t number) {
  return absl::AbortedError(absl::StrCat("volume=", static_cast<uint64_t>(volume),
                                         ": session ", number, " of the same epoch took over"));
}

}  // namespace

bool Session::Enter() {
  absl::MutexLock lock(&slot_->mutex);
  if (slot_->current.get() != this) return false;
  ++slot_->running;
  return true;
}

void Session::Leave() {
  absl::MutexLock lock(&slot_->mutex);
  --slot_->running;
}

void Session::End(const absl::Status& why) {
  if (const std::shared_ptr<SessionOwner> owner = owner_.lock()) owner->End(why);
}

Sessions::~Sessions() {
  for (const std::shared_ptr<Slot>& slot : AllSlots()) {
    std::shared_ptr<Session> dropped;  // destroyed without the lock
    absl::MutexLock lock(&slot->mutex);
    dropped.swap(slot->current);
  }
}

absl::StatusOr<std::shared_ptr<Session>> Sessions::Open(
    VolumeId volume, Epoch epoch, uint64_t number, std::weak_ptr<SessionOwner> owner) {
  const std::shared_ptr<Slot> slot = SlotOf(volume);
  std::shared_ptr<Session> opened(new Session(slot, std::move(owner)));
  std::shared_ptr<Session> ended;
  {
    absl::MutexLock lock(&slot->mutex);
    if (epoch < slot->epoch) return Fenced(volume, slot->epoch);
    if (epoch == slot->epoch && number <= slot->last_number) {
      return Superseded(volume, slot->last_number);
    }
    slot->epoch = epoch;
    slot->last_number = number;
    ended = std::exchange(slot->current, opened);
  }
  if (ended != nullptr) ended->End(Superseded(volume, number));
  absl::MutexLock lock(&slot->mutex);
  // Only the current session can enter, and ours has not begun: what runs is older.
  const auto drained_or_ended = [&slot, &opened]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return slot->running == 0 || slot->current != opened;
  };
  slot->mutex.Await(absl::Condition(&drained_or_ended));
  if (slot->current != opened) return Superseded(volume, slot->last_number);
  return opened;
}

void Sessions::Close(const std::shared_ptr<Session>& session) {
  std::shared_ptr<Session> dropped;  // destroyed without the lock
  absl::MutexLock lock(&session->slot_->mutex);
  if (session->slot_->current == session) dropped.swap(session->slot_->current);
}

absl::StatusOr<std::shared_ptr<const void>> Sessions::Hold(VolumeId volume, Epoch epoch) {
  const std::shared_ptr<Slot> slot = SlotOf(volume);
  absl::MutexLock lock(&slot->mutex);
  if (epoch < slot->epoch) return Fenced(volume, slot->epoch);
  ++slot->running;
  return std::shared_ptr<const void>(slot.get(), [slot](const void*) {
    absl::MutexLock release(&slot->mutex);
    --slot->running;
  });
}

void Sessions::Raise(VolumeId volume, Epoch epoch) {
  const std::shared_ptr<Slot> slot = SlotOf(volume);
  std::shared_ptr<Session> ended;
  {
    absl::MutexLock lock(&slot->mutex);
    if (epoch > slot->epoch) {
      slot->epoch = epoch;
      slot->last_number = 0;
      ended.swap(slot->current);
    }
  }
  if (ended != nullptr) ended->End(Fenced(volume, epoch));
  absl::MutexLock lock(&slot->mutex);
  // A current session is one of this epoch: Seal is repeated, and it may go on.
  const auto drained = [&slot]() ABSL_NO_THREAD_SAFETY_ANALYSIS {
    return slot->running == 0 || slot->current != nullptr;
  };
  slot->mutex.Await(absl::Condition(&drained));
}

void Sessions::EndVolume(VolumeId volume, const absl::Status& why) {
  const std::shared_ptr<Slot> slot = SlotOf(volume);
  std::shared_ptr<Session> ended;
  {
    absl::MutexLock lock(&slot->mutex);
    ended.swap(slot->current);
  }
  if (ended != nullptr) ended->End(why);
  {
    absl::MutexLock lock(&slot->mutex);
    const auto drained = [&slot]() ABSL_NO_THREAD_SAFETY_ANALYSIS { return slot->running == 0; };
    slot->mutex.Await(absl::Condition(&drained));
  }
  absl::MutexLock lock(&mutex_);
  const auto found = slots_.find(volume);
  if (found != slots_.end() && found->second == slot) slots_.erase(found);
}

void Sessions::EndAll(const absl::Status& why) {
  for (const std::shared_ptr<Slot>& slot : AllSlots()) {
    std::shared_ptr<Session> ended;
    {
      absl::MutexLock lock(&slot->mutex);
      ended.swap(slot->current);
    }
    if (ended != nullptr) ended->End(why);
  }
}

void Sessions::TellSpaceChanged() {
  for (const std::shared_ptr<Slot>& slot : AllSlots()) {
    std::shared_ptr<Session> told;
    {
      absl::MutexLock lock(&slot->mutex);
      told = slot->current;
    }
    const std::shared_ptr<SessionOwner> owner = told == nullptr ? nullptr : told->owner_.lock();
    if (owner != nullptr) owner->SpaceChanged();
  }
}

size_t Sessions::count() const {
  size_t count = 0;
  for (const std::shared_ptr<Slot>& slot : AllSlots()) {
    absl::MutexLock lock(&slot->mutex);
    if (slot->current != nullptr) ++count;
  }
  return count;
}

std::shared_ptr<Session::Slot> Sessions::SlotOf(VolumeId volume) {
  absl::MutexLock lock(&mutex_);
  std::shared_ptr<Slot>& slot = slots_[volume];
  if (slot == nullptr) slot = std::make_shared<Slot>();
  return slot;
}

std::vector<std::shared_ptr<Session::Slot>> Sessions::AllSlots() const {
  absl::MutexLock lock(&mutex_);
  std::vector<std::shared_ptr<Slot>> all;
  for (const auto& [volume, slot] : slots_) all.push_back(slot);
  return all;
}

}  // namespace weir::replica
