// A member that is being brought back: how far it has come. The rules are in join.cc.
#ifndef WEIR_VOLUME_ENGINE_JOIN_H_
#define WEIR_VOLUME_ENGINE_JOIN_H_

#include <cstdint>
#include <optional>
#include <vector>

#include "volume/engine/types.h"

namespace weir::engine {

struct Join {
  enum class Stage {
    kSealing,    // until the joiner and a member have said what they have
    kComparing,  // until it is known what has changed since they parted
    kBeginning,  // until every lane of the joiner has taken the member's history
    kConnecting, // until live writes can flow
    kCopying,    // until no block is marked
    kFinishing,  // until the joiner has forgotten the join
    kJoint,      // until it has synced all that is acknowledged; then the catalog is asked
  };
  struct LanePlan {
    Position to;
    std::optional<Position> common;
    std::vector<BlockRange> changes;
    bool everything = false;
    uint64_t blocks_expected = 0;  // to be copied, before the joiner has said
    std::optional<uint64_t> blocks_left;
    uint64_t whole_at = 0;
  };
  uint64_t id = 0;
  TargetId target{};
  TargetId source{};
  Stage stage = Stage::kSealing;
  struct Awaited {
    uint64_t step = 0;
    TargetId target{};
    uint32_t lane = 0;
    TargetId source{};  // kCopying
  };
  std::vector<Awaited> awaited;     // answers, all of this stage
  std::optional<SealedState> joiner;
  std::optional<SealedState> member;
  std::vector<LanePlan> lanes;
  uint64_t version = 0;  // of the pins and the size that it was told
  uint64_t bytes_copied = 0;
  uint64_t damaged_on = 0;  // damaged_block is, a bit for each source
  uint64_t damaged_block = 0;
  enum class Lost {
    kNone,
    kOlder,   // no member has all versions of damaged_block well
    kNewest,  // nor its newest
  };
  Lost lost = Lost::kNone;
  uint64_t one_by_one = 0;  // steps yet of one block each: among these blocks is one that is damaged somewhere
  Time step_begun{};
  bool clients_came = false;        // since the step began
  Time copied{};                    // when the last copy was done, or the first one began
  double blocks_per_second = 0;     // of late; 0: not known
  Time flushed{};                   // the joiner, last
  std::optional<std::vector<uint64_t>> promote_at;  // by lane: what it must have synced
  std::vector<bool> synced;         // by flush domain, since that was set: also what was copied
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_JOIN_H_
