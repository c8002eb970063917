// A comparison of the members of a volume, block by block, while clients write. The rules are in scrub.cc.
#ifndef WEIR_VOLUME_ENGINE_SCRUB_H_
#define WEIR_VOLUME_ENGINE_SCRUB_H_

#include <cstdint>
#include <string>
#include <vector>

#include "proto/base/block_digest.h"
#include "volume/engine/types.h"
#include "volume/engine/view.h"

namespace weir::engine {

inline uint64_t Bit(TargetId target) { return uint64_t{1} << static_cast<uint32_t>(target); }

// So many are kept: what a read finds beyond it is left to a later one, and a scrub waits.
inline constexpr size_t kDamagesMax = 256;

// Blocks that a member has damaged, or other than it should have them, and another one has well.
struct Damage {
  TargetId target{};
  LaneId lane{};
  BlockRange range;
  uint64_t sources = ~uint64_t{0};  // bit a target: who may have them well
  bool by_scrub = false;
  uint32_t attempts = 0;
};

// What a comparison makes of one block. Bit i: the i-th of those that were compared.
struct BlockVerdict {
  bool newer = false;      // somebody has it newer by now: to be compared again
  bool undecided = false;  // they differ, and nobody can be told to be right
  uint64_t good = 0;       // if some are bad: from whom it can be had
  uint64_t bad = 0;        // who has it damaged, or differs from the good ones
};

// `digests`: one a member, null where it has none, all at one position that every one has come to.
//
// A position is given out once, so a newer version proves that it was written: who has an older one
// has lost a write. Of versions that are equally new and differ, the one that most of all
// have is right. Where the newest one is damaged, or there is no such majority, nobody is.
//
// Who has nothing of a block is as good as who has zeros; but not in an `overlay` (Options::overlay): what a
// clone has nothing of is read from its parent.
BlockVerdict CompareBlock(const std::vector<const BlockDigest*>& digests, bool overlay);

struct Scrub {
  // One member's answer about the blocks at hand.
  struct Answer {
    uint64_t step = 0;
    TargetId target{};
    bool done = false;
    absl::Status status;
    BlockDigests digests;
  };
  using Answers = std::vector<Answer>;

  bool running = false;
  Time due{};         // not running: when the next one begins
  uint32_t lane = 0;
  BlockRange range;   // at hand, of the lane
  uint64_t next = 0;  // where the range after it begins
  // Not empty: they were written to while they were compared, so they alone are compared again.
  std::vector<uint64_t> again;
  uint32_t rounds = 0;     // how often that has been so
  uint32_t failures = 0;   // in a row
  Time not_before{};       // the next step: the budget that clients leave, or a pause after a failure
  Time step_begun{};
  bool clients_came = false;  // since the step began
  Answers answers;
  ScrubView view;             // of the one that runs, or else of the last one
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_SCRUB_H_
