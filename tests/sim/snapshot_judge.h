// Judges snapshots by what replicas hold: S1 to S4 of README.md. Knows nothing of how they come about.
//
// Thread-safety: none.
#ifndef WEIR_TESTS_SIM_SNAPSHOT_JUDGE_H_
#define WEIR_TESTS_SIM_SNAPSHOT_JUDGE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/types/span.h"
#include "proto/base/position.h"

namespace weir::sim {

// A replica, as the judge asks it.
class SnapshotHolder {
 public:
  virtual ~SnapshotHolder() = default;
  virtual const std::string& name() const = 0;
  // By the catalog's record.
  virtual bool member() const = 0;
  // False: its store has failed, and nothing is asked of it.
  virtual bool healthy() const = 0;
  virtual uint64_t size_blocks() const = 0;
  virtual bool has_pin(const Pin& pin) const = 0;
  virtual Position durable(uint32_t lane) const = 0;
  // The value of each block at the pin; none: it refuses to read one.
  virtual std::optional<std::vector<uint64_t>> ContentAt(uint64_t pin, uint64_t blocks) const = 0;
};

// What the catalog says.
struct SnapshotRecord {
  uint64_t size_blocks = 0;
  // A takeover is under way, or the record was made anew: its members are yet to be examined.
  bool recovering = false;
  std::vector<Pin> pins;
};

class SnapshotJudge {
 public:
  // `holders` outlive it.
  explicit SnapshotJudge(absl::Span<const SnapshotHolder* const> holders)
      : holders_(holders.begin(), holders.end()) {}

  // A snapshot was answered: as the members hold it is how it has to stay. What they hold; none: no member
  // tells, and it is not judged.
  std::optional<std::vector<uint64_t>> Taken(uint64_t pin, uint64_t blocks);

  // What is wrong; empty: nothing.
  std::string Check(const SnapshotRecord& record) const;

 private:
  std::string CheckHolder(const SnapshotHolder& holder, const SnapshotRecord& record, const Pin& pin) const;

  const std::vector<const SnapshotHolder*> holders_;
  absl::flat_hash_map<uint64_t, std::vector<uint64_t>> taken_;  // by pin
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_SNAPSHOT_JUDGE_H_
