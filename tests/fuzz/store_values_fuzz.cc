// replica/store: keys and values as RocksDB gives them back. What is taken is read as it was
// written: encoded anew it gives the same bytes.
#include <string>
#include <vector>

#include "proto/base/check.h"
#include "replica/store/keys.h"
#include "tests/fuzz/input.h"

namespace weir::store {
namespace {

void ReadKey(absl::string_view key) {
  VersionKeyParts version;
  if (ParseVersionKey(key, &version)) {
    CHECK_LT(version.address.block, kBlocksMax);
    CHECK(VersionKey(version.address, version.position) == key);
  }
  BlockAddress address;
  if (ParseBlockKey(key, &address)) CHECK(BlockKey(address) == key);
  ChangeKeyParts change;
  if (ParseChangeKey(key, &change)) {
    CHECK(ChangeKey(change.volume, change.lane, change.change) == key);
  }
  VolumeId volume{};
  if (key.size() >= 9 && ParseVolumeKey(key, key[0], &volume)) {
    CHECK(key.substr(1, 8) == VolumePrefix(volume));
    const LaneId lane{static_cast<uint8_t>(key.back())};
    uint64_t stripe = 0;
    if (ParseMarkKey(key, volume, lane, &stripe)) CHECK(MarkKey(volume, lane, stripe) == key);
  }
}

void ReadValue(absl::string_view value) {
  NewestVersion newest;
  if (ParseNewestValue(value, &newest)) CHECK(NewestValue(newest) == value);
  VolumeGeometry geometry;
  if (ParseGeometry(value, &geometry)) CHECK(EncodeGeometry(geometry) == value);
  std::vector<LineageEntry> lineage;
  if (ParseLineage(value, &lineage)) CHECK(EncodeLineage(lineage) == value);
  JoinRecord join;
  if (ParseJoin(value, &join)) CHECK(EncodeJoin(join) == value);
  Position known;
  Position jumped;
  if (ParseKnown(value, &known, &jumped)) CHECK(EncodeKnown(known, jumped) == value);
  uint64_t number = 0;
  if (ParseNumber(value, &number)) CHECK(EncodeNumber(number) == value);
}

// `where` is a byte, so that an input may be right for one block and read for another.
void ReadVersion(uint8_t where, absl::string_view value) {
  const BlockAddress address{VolumeId{1}, LaneId{where % 2u}, where / 2u};
  const Position position(1, where);
  const absl::StatusOr<VersionValue> version = ParseVersion(address, position, value);
  if (!version.ok()) return;
  const std::string header = VersionHeader(address, position, version->kind, version->crc);
  CHECK(value.substr(0, kVersionHeaderBytes) == header);
  CHECK(value.substr(kVersionHeaderBytes) == version->data);
  // It is nobody else's.
  CHECK(!ParseVersion({address.volume, address.lane, address.block + 1}, position, value).ok());
  CHECK(!ParseVersion(address, position.Next(), value).ok());
}

}  // namespace
}  // namespace weir::store

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  if (kind % 3 == 0) {
    weir::store::ReadKey(input.Rest());
  } else if (kind % 3 == 1) {
    weir::store::ReadValue(input.Rest());
  } else {
    const uint8_t where = input.Byte();
    weir::store::ReadVersion(where, input.Rest());
  }
  return 0;
}
