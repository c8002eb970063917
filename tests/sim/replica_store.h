// A replica's store in the simulator: what may befall it, and what the judge looks at.
#ifndef WEIR_TESTS_SIM_REPLICA_STORE_H_
#define WEIR_TESTS_SIM_REPLICA_STORE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proto/base/position.h"
#include "replica/store/store.h"
#include "tests/sim/dice.h"

namespace weir::sim {

inline constexpr VolumeId kVolume{1};

// Of one block. 0: zeros.
struct Version {
  Position position;
  uint64_t value = 0;
  friend bool operator==(const Version&, const Version&) = default;
};

// Thread-safety: none. One volume, kVolume.
class ReplicaStore {
 public:
  virtual ~ReplicaStore() = default;

  // What the replica calls; another one after Restart and CutPower.
  virtual store::Store& store() = 0;
  const store::Store& store() const { return const_cast<ReplicaStore*>(this)->store(); }
  // Writes must bring the checksums of their blocks.
  virtual bool verifies_checksums() const = 0;

  // --- what the simulator does to it ---
  // The process ends and starts anew: what was written is still there. Raises the incarnation.
  virtual void Restart() = 0;
  // Keeps a prefix of what each domain has not synced. To be followed by Restart.
  virtual void CutPower(Dice& dice) = 0;
  // The next sync of `domain` fails, and that is final, also over restarts.
  virtual void FailNextSync(uint32_t domain) = 0;
  virtual void set_full(bool full) = 0;
  // Makes the store that a copy of its disks, taken now, would be.
  virtual std::function<std::unique_ptr<ReplicaStore>()> CopyDisks() const = 0;
  // The next start finds that what was synced is not there, and that is final.
  virtual void LoseSynced() = 0;
  // Bit rot in the newest version of `block`, which reads find, until it is written anew.
  virtual void Damage(uint64_t block) = 0;
  virtual bool damaged(uint64_t block) const = 0;
  // Drops versions and changes that nobody needs, as compaction may at any time.
  virtual void Reclaim(Dice& dice) = 0;

  // --- what the judge looks at ---
  // Of `block`, oldest first; what lies below the newest may be missing. Null: it does not tell now. Good until the
  // next call.
  virtual const std::vector<Version>* versions(uint64_t block) const = 0;
  virtual uint64_t size_blocks() const = 0;
  virtual bool has_pin(const Pin& pin) const = 0;
  virtual Position position(uint32_t lane) const = 0;
  virtual Position durable(uint32_t lane) const = 0;
  virtual std::vector<LineageEntry> lineage(uint32_t lane) const = 0;
  virtual Epoch promised() const = 0;
  virtual bool invalid(uint64_t block) const = 0;
};

// A store with an empty volume. `id`: its store id, if it may have a given one.
using MakeReplicaStore = std::function<std::unique_ptr<ReplicaStore>(
    const std::string& id, uint32_t domains, const store::VolumeGeometry& geometry)>;

// A block's content is a number in its first bytes; the rest is zeros.
uint64_t ValueOf(absl::string_view data, uint64_t block);
// What a write brings to a block: which request it is, and for where, so that one that turns up elsewhere is found out.
inline uint64_t StampOf(uint64_t request, uint64_t block) { return request | block << 32; }
inline uint64_t RequestIn(uint64_t stamp) { return stamp & 0xffffffff; }
inline uint64_t BlockIn(uint64_t stamp) { return stamp >> 32; }

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_REPLICA_STORE_H_
