// The way of attaching that was chosen, for new devices; and whatever is attached is found, however that was done.
#ifndef WEIR_CLIENT_CSI_CHOSEN_ATTACH_H_
#define WEIR_CLIENT_CSI_CHOSEN_ATTACH_H_

#include <functional>
#include <optional>
#include <string>
#include <utility>

#include "client/csi/attach.h"

namespace weir::csi {

// Thread-safety: as BlockAttach.
class ChosenAttach final : public BlockAttach {
 public:
  enum class Choice {
    kNbd,
    kFuseLoop,
    kAuto,  // NBD where the node has it, asked anew each time: a module may be loaded later
  };

  // `nbd_available` may be called at any time. Both ways outlive it.
  ChosenAttach(Choice choice, BlockAttach* nbd, BlockAttach* fuse_loop, std::function<absl::Status()> nbd_available)
      : choice_(choice), nbd_(nbd), fuse_loop_(fuse_loop), nbd_available_(std::move(nbd_available)) {}

  absl::StatusOr<AttachedDevice> Attach(const Request& request, absl::Time deadline) override;
  absl::StatusOr<std::optional<AttachedDevice>> Find(const std::string& volume) override;
  absl::Status Keep(const std::string& volume) override;
  absl::Status Fail(const std::string& volume) override;
  absl::Status Refuse(const std::string& volume, absl::Time deadline) override;
  absl::Status Detach(const std::string& volume, absl::Time deadline) override;
  absl::Status Resize(const std::string& volume, absl::Time deadline) override;

 private:
  const Choice choice_;
  BlockAttach* const nbd_;
  BlockAttach* const fuse_loop_;
  const std::function<absl::Status()> nbd_available_;
};

// "nbd", "fuse-loop", "auto".
std::optional<ChosenAttach::Choice> ParseChoice(const std::string& text);

}  // namespace weir::csi

#endif  // WEIR_CLIENT_CSI_CHOSEN_ATTACH_H_
