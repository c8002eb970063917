#include "replica/store/testing/temp_store.h"

#include <stdlib.h>
#include <unistd.h>

#include <cstring>

#include "proto/base/check.h"
#include "proto/base/crc32c.h"
#include "proto/base/status_macros.h"

namespace weir::store::testing {

TempDir::TempDir() {
  const char* base = getenv("TEST_TMPDIR");
  if (access("/dev/shm", W_OK) == 0) base = "/dev/shm";
  std::string name = std::string(base != nullptr ? base : "/tmp") + "/weirXXXXXX";
  CHECK(mkdtemp(name.data()) != nullptr);
  path_ = name;
}

TempDir::~TempDir() {
  std::error_code ignored;
  std::filesystem::remove_all(path_, ignored);
}

std::string BlockOf(uint64_t stamp) {
  std::string block(kBlockBytes, '\0');
  uint64_t word = stamp * 0x9e3779b97f4a7c15u + 1;
  for (size_t at = 0; at < block.size(); at += sizeof(word)) {
    std::memcpy(&block[at], &word, sizeof(word));
    word = word * 6364136223846793005u + 1442695040888963407u;
  }
  return block;
}

Options SmallOptions(const TempDir& dir, int directories) {
  Options options;
  for (int i = 0; i < directories; ++i) {
    options.data_dirs.push_back(dir / ("d" + std::to_string(i)));
  }
  options.memtable_bytes = 1 << 20;
  options.block_cache_bytes = 1 << 20;
  options.reserve_bytes = 1 << 20;
  return options;
}

absl::Status Writer::Attach(Store* store, Epoch epoch) {
  RETURN_IF_ERROR(store->CreateVolume(id, geometry));
  RETURN_IF_ERROR(store->Promise(id, epoch));
  ASSIGN_OR_RETURN(VolumeState state, store->GetVolume(id));
  std::vector<std::pair<LaneId, Position>> expected;
  for (const LaneState& lane : state.lanes) {
    expected.emplace_back(lane.lane, lane.position);
    positions_[Index(lane.lane)] = Position(epoch, 0);
  }
  return store->TakeBase(id, epoch, epoch - 1, expected);
}

WriteOp Writer::Data(uint64_t block, uint64_t count, uint64_t stamp, bool fua) {
  auto buffer = std::make_shared<Buffer>();
  for (uint64_t i = 0; i < count; ++i) buffer->data += BlockOf(stamp + i);
  buffer->crcs = BlockChecksums(buffer->data);
  WriteOp op = Zeroes(WriteKind::kWrite, block, count);
  op.fua = fua;
  op.data = buffer->data;
  op.crcs = buffer->crcs;
  buffers_.push_back(std::move(buffer));
  return op;
}

WriteOp Writer::Zeroes(WriteKind kind, uint64_t block, uint64_t count) {
  WriteOp op;
  op.kind = kind;
  op.lane = geometry.lanes.LaneOf(block);
  op.range = {block, count};
  Position& position = positions_[Index(op.lane)];
  position = position.Next();
  op.position = position;
  return op;
}

WriteResult WriteOne(Store* store, VolumeId id, const WriteOp& op) {
  return store->Write(id, absl::MakeConstSpan(&op, 1))[0];
}

uint64_t BytesUnder(const std::string& path) {
  uint64_t bytes = 0;
  std::error_code ignored;
  for (const auto& entry :
       std::filesystem::recursive_directory_iterator(path, ignored)) {
    if (entry.is_regular_file(ignored)) bytes += entry.file_size(ignored);
  }
  return bytes;
}

}  // namespace weir::store::testing
