// The engine's vocabulary: what goes in and what comes out.
#ifndef WEIR_VOLUME_ENGINE_TYPES_H_
#define WEIR_VOLUME_ENGINE_TYPES_H_

#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "proto/base/block_digest.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "volume/engine/result.h"

namespace weir::engine {

// Monotonic time since any fixed origin; the engine only compares and adds.
using Time = absl::Duration;

enum class RequestId : uint64_t {};
enum class CloneId : uint64_t {};
enum class ControlId : uint64_t {};
// A target's name inside the engine; stays the same over table swaps.
enum class TargetId : uint32_t {};

enum class RequestKind {
  kRead,
  kWrite,
  kWriteZeroes,
  kDiscard,
  kFlush,
  kBarrier,
  kExtents,
};

// What a client submits. The host has checked its shape: 0 < range within the
// volume (except kFlush, which has none), `data` is range.count blocks and
// `crcs` one a block for kWrite and kBarrier, else both are empty.
struct Request {
  RequestId id{};
  RequestKind kind = RequestKind::kRead;
  BlockRange range;
  bool fua = false;
  Payload data;
  std::vector<uint32_t> crcs;
  bool in_lock = false;     // by whoever has locked its range, or restores the volume: goes ahead of what waits for that
  uint64_t pin = 0;         // the engine's own: a barrier that sets this pin where others write
  ControlId pin_control{};  // answered instead of the request
  Time pin_deadline{};      // for its turn
};

// The copy of a request, or of a fragment of it, that goes to one target.
// `position` is set for write-like kinds, `flush_nr` for kFlush. kBarrier
// never appears: its write is a kWrite.
struct Clone {
  CloneId id{};
  RequestKind kind = RequestKind::kRead;
  LaneId lane{};
  BlockRange range;
  Position position;
  bool fua = false;
  uint32_t flush_nr = 0;
  bool overlay = false;  // see Options::overlay
  Payload data;
  std::vector<uint32_t> crcs;
};

struct Run {
  uint64_t blocks = 0;
  bool allocated = false;
};

// A target's answer to a clone. The host has verified `data` against `crcs`
// and says EBADMSG where it does not match.
struct CloneReply {
  Result result;
  std::string message;     // for people, on error
  Position position;       // write-like: the lane's position; read, extents: newest version seen
  bool zeroes = false;     // read: all zeros, `data` empty
  Payload data;            // read
  std::vector<BlockRange> absent;  // read of an overlay: blocks without a version, zeros in `data`
  std::vector<std::pair<LaneId, Position>> durable;  // flush: its domain's lanes; FUA: its lane
  std::vector<Run> extents;
};

// What a target says of itself when a session to it begins.
struct TargetHello {
  uint64_t incarnation = 0;  // of its process
  uint32_t num_flush_requests = 1;
  uint64_t inflight_bytes_max = 4 << 20;
  bool flush_supported = true;
  bool space_exhausted = false;  // see Engine::TargetSpaceChanged
  struct Lane {
    Position position;
    Position durable;
    uint32_t domain = 0;
  };
  std::vector<Lane> lanes;  // by lane
};

enum class TargetState { kInSync, kOut };

struct TargetConfig {
  std::string replica;   // name
  std::string address;
  std::string store_id;
  TargetState state = TargetState::kInSync;
  // kOut only: an operator took it out, so it is not brought back by itself.
  bool stays_out = false;
  // kOut only, by lane: what it had synced when it left, so what it may come back with; empty: not known.
  std::vector<Position> left_at;
  // Of its host when it last became in_sync in this epoch; empty: not since the takeover.
  std::string boot_id;
  // In a table that is loaded: the member whose place it takes for good, with an empty store;
  // it has that one's name if only the store is another. Empty: it is a member itself.
  std::string replaces;
  // It was added, and takes this member's place for good once it is in sync: then that one leaves. Cleared by that.
  std::string succeeds;
  // kOut only: it has left for its successor, and is to be forgotten.
  bool gone = false;

  const std::string& place() const { return replaces.empty() ? replica : replaces; }
};

// Immutable once loaded; swapped whole.
struct Table {
  std::vector<TargetConfig> targets;
};

// One target's part in a result that was not plain success.
struct TargetError {
  std::string replica;
  uint32_t flush_nr = 0;
  Result result;
  std::string message;
};

// --- effects, in the order in which they must be carried out ---

// Send on the target's current session. Clones to one target keep their order.
struct SendClone {
  TargetId target{};
  Clone clone;
};

// Tell the target what every member has synced, and after what its changes must stay known, for
// the sake of absent members, whatever that is. May be lost.
struct SendDurablePoints {
  TargetId target{};
  std::vector<std::pair<LaneId, Position>> points;
  std::vector<std::pair<LaneId, Position>> keep_after;  // lanes not named: nothing is kept
};

// A part of a read's answer, in order of blocks; the parts cover the range.
struct ReadPart {
  uint64_t blocks = 0;
  Payload data;  // empty: zeros
};

// The request is done; the engine has forgotten it.
struct CompleteRequest {
  RequestId id{};
  Result result;
  std::string message;              // for people, on error
  std::vector<TargetError> targets;  // hidden errors included
  std::vector<ReadPart> parts;      // kRead
  std::vector<Run> extents;         // kExtents
  std::vector<BlockRange> absent;   // kRead of an overlay: blocks that it has nothing of, ascending
};

// End the target's session, if any, and begin a new one, now or after `delay`; answered by
// TargetConnected or TargetLost. Until then nothing is sent to it.
struct ConnectTarget {
  TargetId target{};
  TargetConfig config;
  absl::Duration delay;
};

// End the session for good: the target has failed, left the table, or the volume is fenced.
struct DisconnectTarget {
  TargetId target{};
  std::string reason;
};

// A suspend, resume, table load, pin or growth is done. ETIMEDOUT: it was undone.
// EBUSY, EINVAL: refused, `message` says why.
struct CompleteControl {
  ControlId id{};
  Result result;
  std::string message;
  std::vector<Position> pinned{};  // by lane, of a pin that is set
};

// Make the catalog's members those that the table has in_sync, and its floor at least `floor`.
// Answered by MembersCommitted; one at a time.
struct CommitMembers {
  Table table;
  std::vector<Position> floor;  // by lane: what each of these members has synced
  std::vector<std::string> reasons;  // by target, for people: why it leaves; empty: it does not
};

// Look into the catalog, as it is now, whether the volume's epoch is still this one. Answered by EpochChecked; one
// at a time.
struct CheckEpoch {};

// Ask the target, on its current session, whether it still serves this epoch. Answered by
// TargetPonged, or not at all.
struct PingTarget {
  TargetId target{};
  uint64_t ping = 0;
};

// What a member says of itself when it is sealed: at a takeover, and when it joins.
struct SealedState {
  std::string store_id;
  std::string boot_id;
  uint64_t incarnation = 0;
  bool flush_supported = true;
  struct Lane {
    Position position;
    Position durable;
    std::vector<LineageEntry> lineage;
    uint64_t invalid_blocks = 0;  // of a join that was not finished
    Position join_to = {};        // ... and where it brings the lane to; 0: there is none
  };
  std::vector<Lane> lanes;  // by lane
};

// One step of bringing a member back, of repairing one, of telling it of pins, or of comparing them; see DESIGN.md.
// Answered by JoinStepDone, always.
// Each names the incarnations it means; another one is ABORTED.
struct RunJoinStep {
  enum class Kind {
    kSeal,     // `target` promises this epoch and says what it has -> sealed
    kChanges,  // what `target` (a member) changed in one lane in (common, to] -> changes
    kBegin,    // as kUpdate; then its lane takes the history up to `to`, and marks what may differ
    kCopy,     // copies up to bytes_max of marked blocks from `source` -> copied
    kFinish,   // forgets the join; every block has been copied
    kRepair,   // writes blocks of `target`, a member, that are damaged anew from `source`
    kUpdate,   // tells `target` the volume's size and pins, durably
    kDigest,   // what `target`, a member that has come to `to`, has of the lane's blocks -> digests
  };
  uint64_t step = 0;     // names the answer
  Kind kind = Kind::kSeal;
  uint64_t join_id = 0;
  TargetId target{};
  TargetConfig target_config;
  uint64_t incarnation = 0;  // its; 0: not known yet
  TargetId source{};         // kCopy
  TargetConfig source_config;
  uint64_t source_incarnation = 0;
  LaneId lane{};
  Position expected;     // kBegin: where the lane must be
  Position to;           // the join's R
  Position common;       // the newest point on both histories
  std::vector<LineageEntry> lineage;  // kBegin: a member's
  std::vector<BlockRange> changes;    // kBegin: a member's since `common`; kRepair: the damaged ones; kCopy of what
                                      // is lost: the one block, if it is still marked;
                                      // kDigest: one range, of which a prefix is enough
  bool everything = false;            // kBegin: no common point, mark all
  uint64_t bytes_max = 0;
  bool lost_too = false;  // kCopy, kRepair: what the source has damaged comes as lost, and a repair leaves it as it is
  bool newest_too = false;  // kCopy of what is lost: also a block's newest version; else that is EBADMSG
  absl::Duration delay;  // before it begins: the budget that clients leave
  // kUpdate, kBegin: rises with each change of what follows, and never comes twice.
  uint64_t version = 0;
  uint64_t size_blocks = 0;
  std::vector<Pin> pins;
};

struct JoinStepResult {
  absl::Status status;
  SealedState sealed;
  std::vector<BlockRange> changes;
  BlockDigests digests;
  uint64_t blocks_left = 0;   // kCopy: still marked in the lane
  uint64_t bytes_copied = 0;
  uint64_t versions_lost = 0;  // kCopy, kRepair: of what was copied
  uint64_t first_block = 0;    // kCopy, also one that has failed: of what was to be copied
  // kCopy: the target is whole only once it has come to this.
  Position whole_at;
};

// What a scrub has found, or how it has ended, for the log.
struct ReportScrub {
  std::string what;
  bool good = true;  // nobody needs to look at it
};

using Effect =
    std::variant<SendClone, SendDurablePoints, CompleteRequest, ConnectTarget, DisconnectTarget,
                 CompleteControl, CommitMembers, PingTarget, RunJoinStep, ReportScrub, CheckEpoch>;
using Effects = std::vector<Effect>;

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_TYPES_H_
