#include "replica/store/keys.h"

#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"

namespace weir::store {
namespace {

constexpr char kVersionFormat = 1;

template <typename T>
void Append(std::string* out, T number) {
  for (int shift = 8 * (sizeof(T) - 1); shift >= 0; shift -= 8) {
    out->push_back(static_cast<char>(number >> shift));
  }
}

template <typename T>
T Load(absl::string_view bytes, size_t at) {
  T number = 0;
  for (size_t i = 0; i < sizeof(T); ++i) {
    number = static_cast<T>(number << 8 | static_cast<uint8_t>(bytes[at + i]));
  }
  return number;
}

void Append64(std::string* out, uint64_t number) { Append<uint64_t>(out, number); }

void Append16(std::string* out, uint32_t number) {
  CHECK_LT(number, kLanesMax);
  Append<uint16_t>(out, static_cast<uint16_t>(number));
}

uint64_t Load64(absl::string_view bytes, size_t at) {
  return Load<uint64_t>(bytes, at);
}

uint32_t Load16(absl::string_view bytes, size_t at) {
  return Load<uint16_t>(bytes, at);
}

void AppendAddress(std::string* out, const BlockAddress& address) {
  CHECK_LT(address.block, kBlocksMax);
  Append64(out, static_cast<uint64_t>(address.volume));
  Append64(out, uint64_t{Index(address.lane)} << 48 | address.block);
}

BlockAddress LoadAddress(absl::string_view key) {
  const uint64_t lane_block = Load64(key, 8);
  return {VolumeId{Load64(key, 0)}, LaneId{static_cast<uint32_t>(lane_block >> 48)},
          lane_block & (kBlocksMax - 1)};
}

std::string LetterKey(char letter, VolumeId volume) {
  std::string key(1, letter);
  Append64(&key, static_cast<uint64_t>(volume));
  return key;
}

std::string LetterKey(char letter, VolumeId volume, LaneId lane) {
  std::string key = LetterKey(letter, volume);
  Append16(&key, Index(lane));
  return key;
}

}  // namespace

std::string VersionKey(const BlockAddress& address, Position position) {
  std::string key;
  key.reserve(kVersionKeyBytes);
  AppendAddress(&key, address);
  Append64(&key, ~position.bits());
  return key;
}

bool ParseVersionKey(absl::string_view key, VersionKeyParts* parts) {
  if (key.size() != kVersionKeyBytes) return false;
  parts->address = LoadAddress(key);
  parts->position = Position::FromBits(~Load64(key, 16));
  return true;
}

std::string VersionHeader(const BlockAddress& address, Position position,
                          BlockKind kind, uint32_t data_crc) {
  std::string header;
  header.reserve(kVersionHeaderBytes);
  header.push_back(kVersionFormat);
  header.push_back(static_cast<char>(kind));
  Append<uint32_t>(&header, data_crc);
  std::string covered = header;
  covered.append(VersionKey(address, position));
  Append<uint32_t>(&header, Crc32c(covered));
  return header;
}

absl::StatusOr<VersionValue> ParseVersion(const BlockAddress& address,
                                          Position position,
                                          absl::string_view value) {
  VersionValue version;
  bool good = value.size() >= kVersionHeaderBytes;
  if (good) {
    version.kind = static_cast<BlockKind>(value[1]);
    version.crc = Load<uint32_t>(value, 2);
    version.data = value.substr(kVersionHeaderBytes);
    const size_t data_bytes = version.kind == BlockKind::kData ? kBlockBytes : 0;
    good = value.substr(0, kVersionHeaderBytes) ==
               VersionHeader(address, position, version.kind, version.crc) &&
           version.data.size() == data_bytes &&
           (data_bytes == 0 || Crc32c(version.data) == version.crc);
  }
  if (!good) {
    return ErrnoToStatus(
        EBADMSG, absl::StrCat("stored block ", address.block, " of volume ",
                              static_cast<uint64_t>(address.volume), " at ",
                              position.ToString(), " does not match its checksums"));
  }
  return version;
}

std::string BlockKey(const BlockAddress& address) {
  std::string key;
  key.reserve(kBlockKeyBytes);
  AppendAddress(&key, address);
  return key;
}

bool ParseBlockKey(absl::string_view key, BlockAddress* address) {
  if (key.size() != kBlockKeyBytes) return false;
  *address = LoadAddress(key);
  return true;
}

std::string NewestValue(const NewestVersion& newest) {
  std::string value;
  Append64(&value, newest.position.bits());
  value.push_back(static_cast<char>(newest.kind));
  return value;
}

bool ParseNewestValue(absl::string_view value, NewestVersion* newest) {
  if (value.size() != 9) return false;
  newest->position = Position::FromBits(Load64(value, 0));
  newest->kind = static_cast<BlockKind>(value[8]);
  return newest->kind == BlockKind::kData || newest->kind == BlockKind::kZero;
}

std::string ChangeKey(VolumeId volume, LaneId lane, const ChangeEntry& change) {
  std::string key = ChangeKeyFrom(volume, lane, change.position);
  Append64(&key, change.range.first);
  Append64(&key, change.range.count);
  return key;
}

std::string ChangeKeyFrom(VolumeId volume, LaneId lane, Position position) {
  std::string key;
  key.reserve(kChangeKeyBytes);
  Append64(&key, static_cast<uint64_t>(volume));
  Append16(&key, Index(lane));
  Append64(&key, position.bits());
  return key;
}

bool ParseChangeKey(absl::string_view key, ChangeKeyParts* parts) {
  if (key.size() != kChangeKeyBytes) return false;
  parts->volume = VolumeId{Load64(key, 0)};
  parts->lane = LaneId{Load16(key, 8)};
  parts->change.position = Position::FromBits(Load64(key, 10));
  parts->change.range = {Load64(key, 18), Load64(key, 26)};
  return true;
}

std::string VolumeRecordKey(VolumeId volume) { return LetterKey('v', volume); }
std::string VolumePartKey(VolumeId volume) { return LetterKey('w', volume); }
std::string PromiseKey(VolumeId volume) { return LetterKey('e', volume); }
std::string RecordCopyKey(VolumeId volume) { return LetterKey('r', volume); }
std::string DeletedKey(VolumeId volume) { return LetterKey('x', volume); }
std::string PositionKey(VolumeId volume, LaneId lane) {
  return LetterKey('p', volume, lane);
}
std::string LineageKey(VolumeId volume, LaneId lane) {
  return LetterKey('l', volume, lane);
}
std::string SyncedKey(VolumeId volume, LaneId lane) {
  return LetterKey('s', volume, lane);
}
std::string PointKey(VolumeId volume, LaneId lane) {
  return LetterKey('d', volume, lane);
}

std::string PinsKey(VolumeId volume, LaneId lane) {
  return LetterKey('n', volume, lane);
}
std::string KnownKey(VolumeId volume, LaneId lane) {
  return LetterKey('k', volume, lane);
}
std::string JoinKey(VolumeId volume, LaneId lane) {
  return LetterKey('j', volume, lane);
}
std::string MarkKey(VolumeId volume, LaneId lane, uint64_t stripe) {
  std::string key = LetterKey('m', volume, lane);
  Append64(&key, stripe);
  return key;
}
std::string MarksEnd(VolumeId volume, LaneId lane) {
  return MarkKey(volume, lane, ~uint64_t{0});  // no volume has so many stripes
}

bool ParseMarkKey(absl::string_view key, VolumeId volume, LaneId lane,
                  uint64_t* stripe) {
  const std::string prefix = LetterKey('m', volume, lane);
  if (key.size() != prefix.size() + 8 || key.substr(0, prefix.size()) != prefix) {
    return false;
  }
  *stripe = Load64(key, prefix.size());
  return true;
}

bool ParseVolumeKey(absl::string_view key, char letter, VolumeId* volume) {
  if (key.size() < 9 || key[0] != letter) return false;
  *volume = VolumeId{Load64(key, 1)};
  return true;
}

std::string EncodeGeometry(const VolumeGeometry& geometry) {
  std::string value;
  Append64(&value, geometry.size_blocks);
  Append64(&value, geometry.lanes.lanes);
  Append64(&value, geometry.lanes.stripe_blocks);
  return value;
}

bool ParseGeometry(absl::string_view value, VolumeGeometry* geometry) {
  if (value.size() != 24) return false;
  geometry->size_blocks = Load64(value, 0);
  const uint64_t lanes = Load64(value, 8);
  const uint64_t stripe_blocks = Load64(value, 16);
  geometry->lanes.lanes = static_cast<uint32_t>(lanes);
  geometry->lanes.stripe_blocks = static_cast<uint32_t>(stripe_blocks);
  return geometry->size_blocks <= kBlocksMax && lanes > 0 && lanes <= kLanesMax &&
         stripe_blocks > 0 && stripe_blocks == geometry->lanes.stripe_blocks;
}

std::string EncodeLineage(const std::vector<LineageEntry>& lineage) {
  std::string value;
  for (const LineageEntry& entry : lineage) {
    Append64(&value, Position(entry.epoch, entry.n).bits());
  }
  return value;
}

bool ParseLineage(absl::string_view value, std::vector<LineageEntry>* lineage) {
  if (value.size() % 8 != 0) return false;
  lineage->clear();
  for (size_t at = 0; at < value.size(); at += 8) {
    const Position position = Position::FromBits(Load64(value, at));
    lineage->push_back({position.epoch(), position.n()});
  }
  return true;
}

std::string EncodeJoin(const JoinRecord& join) {
  std::string value;
  Append64(&value, join.join_id);
  Append64(&value, join.to.bits());
  Append64(&value, join.watermark);
  return value;
}

bool ParseJoin(absl::string_view value, JoinRecord* join) {
  if (value.size() != 24) return false;
  join->join_id = Load64(value, 0);
  join->to = Position::FromBits(Load64(value, 8));
  join->watermark = Load64(value, 16);
  return join->join_id != 0;
}

std::string EncodePins(const std::vector<LanePin>& pins) {
  std::string value;
  for (const LanePin& pin : pins) {
    Append64(&value, pin.id);
    Append64(&value, pin.position.bits());
  }
  return value;
}

bool ParsePins(absl::string_view value, std::vector<LanePin>* pins) {
  if (value.size() % 16 != 0 || value.size() / 16 > kPinsMax) return false;
  pins->clear();
  for (size_t at = 0; at < value.size(); at += 16) {
    const LanePin pin{Load64(value, at), Position::FromBits(Load64(value, at + 8))};
    if (pin.id == 0) return false;
    pins->push_back(pin);
  }
  return true;
}

std::string EncodeKnown(Position known, Position jumped) {
  std::string value;
  Append64(&value, known.bits());
  Append64(&value, jumped.bits());
  return value;
}

bool ParseKnown(absl::string_view value, Position* known, Position* jumped) {
  if (value.size() != 16) return false;
  *known = Position::FromBits(Load64(value, 0));
  *jumped = Position::FromBits(Load64(value, 8));
  return true;
}

std::string EncodeNumber(uint64_t number) {
  std::string value;
  Append64(&value, number);
  return value;
}

bool ParseNumber(absl::string_view value, uint64_t* number) {
  if (value.size() != 8) return false;
  *number = Load64(value, 0);
  return true;
}

std::string VolumePrefix(VolumeId volume) {
  return EncodeNumber(static_cast<uint64_t>(volume));
}

std::string VolumeEnd(VolumeId volume) {
  const uint64_t next = static_cast<uint64_t>(volume) + 1;
  return next == 0 ? std::string() : EncodeNumber(next);
}

}  // namespace weir::store
