// One version of one block, as it goes from store to store.
#ifndef WEIR_REPLICA_STORE_BLOCK_VERSION_H_
#define WEIR_REPLICA_STORE_BLOCK_VERSION_H_

#include <cstdint>
#include <string>

#include "proto/base/position.h"

namespace weir::store {

struct BlockVersion {
  uint64_t block = 0;
  Position position;
  bool zero = false;
  uint32_t crc = 0;   // over data
  std::string data;
  // The store that it comes from cannot read it any more: no data, and whoever takes it over can read it no better.
  bool lost = false;
};

}  // namespace weir::store

#endif  // WEIR_REPLICA_STORE_BLOCK_VERSION_H_
