// What store tests share: directories that go away, blocks whose content says
// who wrote them, a volume that numbers its writes.
#ifndef WEIR_REPLICA_STORE_TESTING_TEMP_STORE_H_
#define WEIR_REPLICA_STORE_TESTING_TEMP_STORE_H_

#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"
#include "proto/base/position.h"
#include "replica/store/store.h"

namespace weir::store::testing {

// A directory of its own, removed at the end. Prefers memory: what is tested
// here is what the store asks of a file system, not how fast it is.
class TempDir {
 public:
  TempDir();
  ~TempDir();
  const std::string& path() const { return path_; }
  std::string operator/(absl::string_view name) const {
    return path_ + "/" + std::string(name);
  }

 private:
  std::string path_;
};

// A block whose every 8 bytes depend on `stamp`.
std::string BlockOf(uint64_t stamp);

// Small options over `directories` of `dir`.
Options SmallOptions(const TempDir& dir, int directories);

// Makes a volume, takes base in epoch 1 and numbers writes in each lane.
// Owns the data of the ops it has built until Clear.
class Writer {
 public:
  Writer(VolumeId id, VolumeGeometry geometry)
      : id(id), geometry(geometry), positions_(geometry.lanes.lanes) {}

  const VolumeId id;
  const VolumeGeometry geometry;

  // Creates the volume and takes base (epoch, 0) from wherever the lanes are.
  absl::Status Attach(Store* store, Epoch epoch);

  // The next write of its lane: `count` blocks of stamps `stamp`, stamp + 1...
  WriteOp Data(uint64_t block, uint64_t count, uint64_t stamp, bool fua = false);
  WriteOp Zeroes(WriteKind kind, uint64_t block, uint64_t count);
  Position position(LaneId lane) const { return positions_[Index(lane)]; }
  void SetPosition(LaneId lane, Position position) {
    positions_[Index(lane)] = position;
  }
  void Clear() { buffers_.clear(); }

 private:
  struct Buffer {
    std::string data;
    std::vector<uint32_t> crcs;
  };
  std::vector<Position> positions_;  // by lane
  std::vector<std::shared_ptr<Buffer>> buffers_;  // a copy's ops refer to them too
};

// Writes one op and gives its result.
WriteResult WriteOne(Store* store, VolumeId id, const WriteOp& op);

// Bytes of all files under `path`.
uint64_t BytesUnder(const std::string& path);

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_TEMP_STORE_H_
