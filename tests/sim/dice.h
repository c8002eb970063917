// All chance of a simulated run, from one seed.
#ifndef WEIR_TESTS_SIM_DICE_H_
#define WEIR_TESTS_SIM_DICE_H_

#include <cstdint>

#include "absl/time/time.h"

namespace weir::sim {

// SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014).
// Small and good enough: seeds that follow each other give unrelated runs.
class Dice {
 public:
  explicit Dice(uint64_t seed) : state_(seed * 0x9e3779b97f4a7c15) {}

  uint64_t Next() {
    uint64_t z = (state_ += 0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
    return z ^ (z >> 31);
  }
  // REQUIRES: n > 0.
  uint64_t Below(uint64_t n) { return Next() % n; }
  bool Percent(uint64_t p) { return Below(100) < p; }
  bool PerMille(uint64_t p) { return p > 0 && Below(1000) < p; }
  absl::Duration Micros(uint64_t from, uint64_t to) {
    return absl::Microseconds(from + Below(to - from + 1));
  }

 private:
  uint64_t state_;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_DICE_H_
