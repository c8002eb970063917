#include "client/csi/chosen_attach.h"

#include "proto/base/status_macros.h"

namespace weir::csi {

absl::StatusOr<AttachedDevice> ChosenAttach::Attach(const Request& request, absl::Time deadline) {
  if (choice_ == Choice::kFuseLoop) return fuse_loop_->Attach(request, deadline);
  const absl::Status available = nbd_available_();
  if (available.ok()) return nbd_->Attach(request, deadline);
  if (choice_ == Choice::kNbd) return available;
  return fuse_loop_->Attach(request, deadline);
}

absl::StatusOr<std::optional<AttachedDevice>> ChosenAttach::Find(const std::string& volume) {
  ASSIGN_OR_RETURN(std::optional<AttachedDevice> found, nbd_->Find(volume));
  if (found.has_value()) return found;
  return fuse_loop_->Find(volume);
}

absl::Status ChosenAttach::Keep(const std::string& volume) {
  RETURN_IF_ERROR(nbd_->Keep(volume));
  return fuse_loop_->Keep(volume);
}

absl::Status ChosenAttach::Fail(const std::string& volume) {
  RETURN_IF_ERROR(nbd_->Fail(volume));
  return fuse_loop_->Fail(volume);
}

absl::Status ChosenAttach::Refuse(const std::string& volume, absl::Time deadline) {
  RETURN_IF_ERROR(nbd_->Refuse(volume, deadline));
  return fuse_loop_->Refuse(volume, deadline);
}

absl::Status ChosenAttach::Detach(const std::string& volume, absl::Time deadline) {
  RETURN_IF_ERROR(nbd_->Detach(volume, deadline));
  return fuse_loop_->Detach(volume, deadline);
}

absl::Status ChosenAttach::Resize(const std::string& volume, absl::Time deadline) {
  ASSIGN_OR_RETURN(const std::optional<AttachedDevice> found, nbd_->Find(volume));
  return (found.has_value() ? nbd_ : fuse_loop_)->Resize(volume, deadline);
}

std::optional<ChosenAttach::Choice> ParseChoice(const std::string& text) {
  if (text == "nbd") return ChosenAttach::Choice::kNbd;
  if (text == "fuse-loop") return ChosenAttach::Choice::kFuseLoop;
  if (text == "auto") return ChosenAttach::Choice::kAuto;
  return std::nullopt;
}

}  // namespace weir::csi
