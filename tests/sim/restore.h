// How far a frontend's restore of a simulated volume has come; see cluster_restores.cc.
#ifndef WEIR_TESTS_SIM_RESTORE_H_
#define WEIR_TESTS_SIM_RESTORE_H_

#include <cstdint>
#include <deque>
#include <optional>

#include "proto/base/position.h"
#include "volume/engine/pinned.h"
#include "volume/engine/restoration.h"

namespace weir::sim {

struct Restore {
  uint64_t number = 0;  // of the call of an operator; 0: none is under way
  Epoch epoch = 0;
  uint64_t pin = 0;
  bool attached = false;  // for this, and nobody else
  bool began = false;     // no client is served from here on
  uint64_t control = 0;   // awaited; 0: none
  uint64_t request = 0;   // the same
  std::optional<engine::Restoration> decides;
  std::optional<engine::AskPinned> asks;
  std::deque<BlockRange> changed;
  struct Write {
    BlockRange range;
    uint64_t original = 0;  // 0: zeros
  };
  std::deque<Write> writes;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_RESTORE_H_
