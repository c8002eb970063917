// What a clone has of its parent: how a read falls through to it, and how the clone comes to have all of it.
//
// Decides only. Who uses it asks whom it says, and tells what came; what is not told, since somebody could not be
// asked or the process ends, leaves the clone as good a clone as it was.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_PARENT_H_
#define WEIR_VOLUME_ENGINE_PARENT_H_

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "volume/engine/types.h"

namespace weir::engine {

// One block as of a snapshot: `data` is kBlockBytes, or empty and zeros.
struct ParentBlock {
  uint64_t block = 0;
  std::string data;
};

// One read up the line of parents: each is a snapshot, which may be one of a clone and then has a parent too. What a
// nearer one has hides what is further away, zeros too.
class LineRead {
 public:
  // `sizes`: blocks of each, the nearest first.
  LineRead(BlockRange range, std::vector<uint64_t> sizes);

  struct Ask {
    size_t level = 0;
    BlockRange range;
  };
  // Whom to ask of what; nothing: all have been asked. What came of the one before has been told.
  std::optional<Ask> Next();
  // What it has something of itself.
  void Came(std::vector<ParentBlock> blocks);
  // The blocks that are not zeros, ascending. REQUIRES: Next() has given nothing.
  std::vector<ParentBlock> Take();

 private:
  const BlockRange range_;
  const std::vector<uint64_t> sizes_;
  size_t level_ = 0;
  uint64_t at_;
  std::map<uint64_t, std::string> found_;  // zeros are found too
};

// What becomes of a clone's read whose parent cannot be asked now: it is held as a request is that needs a member which is away, and asked for again
// now and then, until the clone's hold deadline has passed since it was submitted.
inline constexpr absl::Duration kAskParentAgainAfter = absl::Milliseconds(500);
// Whether it is held; else `status` is its answer. UNAVAILABLE: the parent may be read later.
bool HoldsForParent(const absl::Status& status, Time submitted, Time now, absl::Duration hold_deadline);

// Puts `blocks` in the place of zeros in the parts of a read that begins at block `first`; others are passed over.
void FillParts(uint64_t first, const std::vector<ParentBlock>& blocks, std::vector<ReadPart>* parts);

// Copies what the parent has and the clone has not, a step at a time; `last`: then the clone is none any more.
//
// Of each step: the parent is read first, since clients are not held up by that. Then the range is locked, so that no
// write to it is under way and none begins: what the clone has nothing of then, nobody writes before the copy
// of it has come, which would overwrite something newer. What is all zeros in the parent is not copied. The record
// loses its parent once all that was copied is durable.
class Flatten {
 public:
  Flatten(BlockRange range, uint64_t step_blocks, bool last);

  enum class Act { kReadParent, kLock, kReadOwn, kWrite, kUnlock, kFlush, kDropParent, kDone };
  struct Step {
    Act act = Act::kDone;
    BlockRange range;  // of the first four
    std::string data;  // kWrite: in the lock
  };
  // The one before has been done. Whoever cannot do one gives up: unlocks, and begins again later at any place up to here.
  Step Next();
  // After kReadParent: as LineRead::Take.
  void ParentHas(std::vector<ParentBlock> blocks) { above_ = std::move(blocks); }
  // After kReadOwn: as CompleteRequest::absent.
  void OwnLacks(const std::vector<BlockRange>& absent);

 private:
  const BlockRange range_;
  const uint64_t step_blocks_;
  const bool last_;
  BlockRange step_;
  Act done_ = Act::kUnlock;  // the newest
  std::vector<ParentBlock> above_;
  std::deque<Step> writes_;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_PARENT_H_
