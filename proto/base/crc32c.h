// CRC32C (Castagnoli) of blocks, by ISA-L.
#ifndef WEIR_PROTO_BASE_CRC32C_H_
#define WEIR_PROTO_BASE_CRC32C_H_

#include <cstdint>
#include <vector>

#include "absl/strings/string_view.h"

namespace weir {

// The usual CRC32C of `bytes` (check value of "123456789": 0xe3069283).
uint32_t Crc32c(absl::string_view bytes);

// One a block of `data`. REQUIRES: data.size() is a multiple of kBlockBytes.
std::vector<uint32_t> BlockChecksums(absl::string_view data);

// The first block of `data` whose checksum differs, or -1. REQUIRES: `crcs`
// has one entry a block.
int64_t FirstBadBlock(absl::string_view data, const std::vector<uint32_t>& crcs);

}  // namespace weir

#endif  // WEIR_PROTO_BASE_CRC32C_H_
