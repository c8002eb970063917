// The store's keys and values in RocksDB, one column family each kind.
//
//   versions  volume:8 | lane:2 block:6 | ~position:8   -> header, data
//   blocks    volume:8 | lane:2 block:6                 -> position:8 kind:1   (newest version)
//   changes   volume:8 | lane:2 | position:8 | first:8 | count:8  -> nothing, or after:8
//   default   one letter, then volume:8 and lane:2 where it is about one
//
// All numbers in keys are big endian, so that keys sort as numbers do; the
// position in `versions` is inverted, so that a block's newest version is first.
// Thread-safety: pure functions.
#ifndef WEIR_REPLICA_STORE_KEYS_H_
#define WEIR_REPLICA_STORE_KEYS_H_

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/position.h"
#include "replica/store/lane.h"
#include "replica/store/store.h"

namespace weir::store {

// Where a block lies: the lane is part of its key, so that a lane is one run of keys.
struct BlockAddress {
  VolumeId volume{};
  LaneId lane{};
  uint64_t block = 0;
};

inline constexpr size_t kVersionKeyBytes = 24;
inline constexpr size_t kBlockKeyBytes = 16;
inline constexpr size_t kChangeKeyBytes = 34;
// Limits of the key layout: 16 bits of lane, 48 bits of block.
inline constexpr uint32_t kLanesMax = 1 << 16;
inline constexpr uint64_t kBlocksMax = uint64_t{1} << 48;

// --- versions ---
std::string VersionKey(const BlockAddress& address, Position position);
struct VersionKeyParts {
  BlockAddress address;
  Position position;
};
// False if `key` is none.
bool ParseVersionKey(absl::string_view key, VersionKeyParts* parts);

enum class BlockKind : uint8_t { kData = 1, kZero = 2 };

// Leads every version: format, kind, the data's checksum by the frontend, and
// a checksum over all of that and the block's identity, which finds a block
// that was stored or read at the wrong place.
inline constexpr size_t kVersionHeaderBytes = 10;
std::string VersionHeader(const BlockAddress& address, Position position,
                          BlockKind kind, uint32_t data_crc);
struct VersionValue {
  BlockKind kind = BlockKind::kZero;
  uint32_t crc = 0;        // over data
  absl::string_view data;  // one block, or empty for kZero
};
// EBADMSG if anything does not match; the data is verified too.
absl::StatusOr<VersionValue> ParseVersion(const BlockAddress& address,
                                          Position position,
                                          absl::string_view value);

// --- blocks ---
std::string BlockKey(const BlockAddress& address);
bool ParseBlockKey(absl::string_view key, BlockAddress* address);
struct NewestVersion {
  Position position;
  BlockKind kind = BlockKind::kZero;
  friend bool operator==(const NewestVersion&, const NewestVersion&) = default;
};
std::string NewestValue(const NewestVersion& newest);
bool ParseNewestValue(absl::string_view value, NewestVersion* newest);

// --- changes ---
// Its value is empty: a write at exactly that position. Or a position: written
// somewhere after that, up to the key's; so a join and an adopted tail leave it.
std::string ChangeKey(VolumeId volume, LaneId lane, const ChangeEntry& change);
// The least key of changes at or past `position`.
std::string ChangeKeyFrom(VolumeId volume, LaneId lane, Position position);
struct ChangeKeyParts {
  VolumeId volume{};
  LaneId lane{};
  ChangeEntry change;
};
bool ParseChangeKey(absl::string_view key, ChangeKeyParts* parts);

// --- default ---
inline constexpr char kIdentityKey[] = "I";   // -> DomainIdentity, see identity.h
inline constexpr char kMarkKey[] = "M";       // -> the newest sync mark: serial:8
inline constexpr char kGenerationKey[] = "G"; // -> generation:8, raised by every Open
inline constexpr char kRaisedKey[] = "H";     // domain 0 -> generation:8 that every domain has come to
inline constexpr char kClusterKey[] = "C";    // -> cluster id
std::string VolumeRecordKey(VolumeId volume);          // domain 0: geometry
std::string VolumePartKey(VolumeId volume);            // other domains: "has lanes here"
std::string PromiseKey(VolumeId volume);               // domain 0: epoch:8
std::string RecordCopyKey(VolumeId volume);            // domain 0: epoch:8 revision:8 record
std::string DeletedKey(VolumeId volume);               // being purged
std::string PositionKey(VolumeId volume, LaneId lane); // applied
std::string LineageKey(VolumeId volume, LaneId lane);
std::string SyncedKey(VolumeId volume, LaneId lane);   // as of the newest mark
std::string PointKey(VolumeId volume, LaneId lane);    // what every member has synced
std::string PinsKey(VolumeId volume, LaneId lane);     // (id:8 position:8) for each pin
std::string KnownKey(VolumeId volume, LaneId lane);    // known:8 jumped:8, as in Lane::State
std::string JoinKey(VolumeId volume, LaneId lane);     // join that is not finished
// stripe:8 -> the blocks of the stripe that are marked invalid, a bit each
std::string MarkKey(VolumeId volume, LaneId lane, uint64_t stripe);
// The least key above all marks of the lane.
std::string MarksEnd(VolumeId volume, LaneId lane);
// False if `key` is no mark of this lane.
bool ParseMarkKey(absl::string_view key, VolumeId volume, LaneId lane, uint64_t* stripe);
// The volume that ends a key of the kind `letter`; false if it is another key.
bool ParseVolumeKey(absl::string_view key, char letter, VolumeId* volume);

std::string EncodeGeometry(const VolumeGeometry& geometry);
bool ParseGeometry(absl::string_view value, VolumeGeometry* geometry);
std::string EncodeLineage(const std::vector<LineageEntry>& lineage);
bool ParseLineage(absl::string_view value, std::vector<LineageEntry>* lineage);
struct JoinRecord {
  uint64_t join_id = 0;
  Position to;
  uint64_t watermark = 0;
};
std::string EncodeJoin(const JoinRecord& join);
bool ParseJoin(absl::string_view value, JoinRecord* join);
std::string EncodePins(const std::vector<LanePin>& pins);
bool ParsePins(absl::string_view value, std::vector<LanePin>* pins);
std::string EncodeKnown(Position known, Position jumped);
bool ParseKnown(absl::string_view value, Position* known, Position* jumped);
std::string EncodeNumber(uint64_t number);  // big endian, 8 bytes
bool ParseNumber(absl::string_view value, uint64_t* number);

// The least key of `volume` in versions, blocks and changes.
std::string VolumePrefix(VolumeId volume);
// The least key above all of `volume`; empty: there is none.
std::string VolumeEnd(VolumeId volume);

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_KEYS_H_
