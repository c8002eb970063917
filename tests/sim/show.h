// Effects as lines of a transcript.
#ifndef WEIR_TESTS_SIM_SHOW_H_
#define WEIR_TESTS_SIM_SHOW_H_

#include <string>

#include "volume/engine/types.h"

namespace weir::sim {

std::string Show(const engine::Effect& effect);

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_SHOW_H_
