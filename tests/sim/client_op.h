// What a simulated client has asked for, and what of it is judged.
#ifndef WEIR_TESTS_SIM_CLIENT_OP_H_
#define WEIR_TESTS_SIM_CLIENT_OP_H_

#include <cstdint>
#include <vector>

#include "proto/base/position.h"
#include "tests/sim/agenda.h"
#include "volume/engine/types.h"

namespace weir::sim {

struct Op {
  engine::RequestKind kind{};
  BlockRange range;
  uint32_t frontend = 0;
  Epoch epoch = 0;
  Time invoked{};
  bool done = false;
  bool fua = false;
  // What every member must have synced for a flush to be OK, by lane.
  std::vector<Position> covers;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CLIENT_OP_H_
