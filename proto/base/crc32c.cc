#include "proto/base/crc32c.h"

#include <isa-l/crc.h>

#include "proto/base/check.h"
#include "proto/base/position.h"

namespace weir {

uint32_t Crc32c(absl::string_view bytes) {
  // ISA-L takes a non-const pointer but only reads.
  auto* data = reinterpret_cast<unsigned char*>(const_cast<char*>(bytes.data()));
  return ~crc32_iscsi(data, static_cast<int>(bytes.size()), ~0u);
}

std::vector<uint32_t> BlockChecksums(absl::string_view data) {
  CHECK_EQ(data.size() % kBlockBytes, 0u);
  std::vector<uint32_t> crcs;
  crcs.reserve(data.size() / kBlockBytes);
  for (size_t at = 0; at < data.size(); at += kBlockBytes) {
    crcs.push_back(Crc32c(data.substr(at, kBlockBytes)));
  }
  return crcs;
}

int64_t FirstBadBlock(absl::string_view data,
                      const std::vector<uint32_t>& crcs) {
  CHECK_EQ(crcs.size() * kBlockBytes, data.size());
  for (size_t block = 0; block < crcs.size(); ++block) {
    if (Crc32c(data.substr(block * kBlockBytes, kBlockBytes)) != crcs[block]) {
      return static_cast<int64_t>(block);
    }
  }
  return -1;
}

}  // namespace weir
