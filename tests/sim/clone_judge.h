// Judges a clone by what its clients see and by what the catalog says: K1 and K2 of README.md. Knows nothing of how a clone
// comes about, reads or is flattened.
//
// A clone is judged as a volume whose first writes, all durable, are the content of the snapshot: until its clients have
// written a block it shows that, and whoever had it read from anywhere, or copied, is not asked.
//
// Thread-safety: none.
#ifndef WEIR_TESTS_SIM_CLONE_JUDGE_H_
#define WEIR_TESTS_SIM_CLONE_JUDGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "tests/sim/contract_judge.h"
#include "weir/v1/catalog.pb.h"

namespace weir::sim {

// Values of at least this are of the parent's clients, others of the clone's.
inline constexpr uint64_t kOfParent = uint64_t{1} << 30;

class CloneJudge {
 public:
  // `snapshot`: the value of each of its blocks; past them the clone, of `blocks`, has zeros.
  CloneJudge(const std::vector<uint64_t>& snapshot, uint64_t blocks);

  // For what clients of the clone do; their operations are numbered from first_op().
  ContractJudge& clients() { return clients_; }
  uint64_t first_op() const { return first_op_; }
  // A read of `range` that is OK: instead of ContractJudge::Returned.
  void ReadReturned(OpId op, BlockRange range, const std::vector<uint64_t>& values);

  // Empty: none.
  const std::string& violation() const { return violation_.empty() ? clients_.violation() : violation_; }

 private:
  std::vector<uint64_t> snapshot_;  // of all blocks of the clone
  const uint64_t first_op_;
  ContractJudge clients_;
  std::string violation_;
};

// K2: a clone that can be attached and has a parent has it: what is wrong, empty: nothing.
std::string CheckParentIsThere(const std::optional<v1::VolumeRecord>& clone, const v1::VolumeRecord& parent);

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CLONE_JUDGE_H_
