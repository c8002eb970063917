// Whom to ask for what a pin has, and for what was written since.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_PINNED_H_
#define WEIR_VOLUME_ENGINE_PINNED_H_

#include <cstddef>
#include <deque>
#include <optional>
#include <vector>

#include "absl/status/status.h"
#include "proto/base/position.h"

namespace weir::engine {

// One question, put to one member after the other until one answers it.
class AskPinned {
 public:
  enum class What {
    kContent,  // it never changes, so whoever has the pin will do: members in sync first
    kChanges,  // only members in sync know them all
  };
  // `in_sync`: of each member.
  AskPinned(What what, const std::vector<bool>& in_sync);

  // Whom to ask; nothing: nobody is left, and status() is the answer. The one before has Failed.
  std::optional<size_t> Next();
  void Failed(const absl::Status& answer);
  // UNAVAILABLE: one could not be asked, and may tell later, or there is none. EBADMSG: one has it damaged, and none has it well; of more than
  // one of the question's blocks also if another may tell later, since each may be answered by somebody. Else the last one's error.
  absl::Status status(uint64_t blocks) const;

  // The blocks are to be asked for one by one: replicas that are damaged each in another block have them all between them.
  static bool ByBlocks(BlockRange range, const absl::Status& status);

 private:
  std::deque<size_t> left_;
  absl::Status damaged_, away_, other_;  // OK: none has said so
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_PINNED_H_
