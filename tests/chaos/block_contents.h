// What the writes of the chaos driver put into blocks, and how a read block is traced back to its write.
//
// Every byte of a block follows from the write's value and the block's number, so a torn, mixed,
// misplaced or stale block is told from a good one. Thread-safety: free functions, safe.
#ifndef WEIR_TESTS_CHAOS_BLOCK_CONTENTS_H_
#define WEIR_TESTS_CHAOS_BLOCK_CONTENTS_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "proto/base/position.h"

namespace weir::chaos {

// The data of the write `value` (not 0) of `range`.
std::string Contents(uint64_t value, BlockRange range);

// Which write `bytes`, 4096 of them, read as block `block`, are of; 0: zeros. DATA_LOSS says how
// they are no single write of that block.
absl::StatusOr<uint64_t> ValueOf(absl::string_view bytes, uint64_t block);

}  // namespace weir::chaos

#endif  // WEIR_TESTS_CHAOS_BLOCK_CONTENTS_H_
