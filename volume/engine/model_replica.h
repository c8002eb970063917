// A replica for tests: per lane a prefix of the volume's history, a synced part
// of it, and nothing else. What it can do wrong is decided by its user.
#ifndef WEIR_VOLUME_ENGINE_MODEL_REPLICA_H_
#define WEIR_VOLUME_ENGINE_MODEL_REPLICA_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "volume/engine/types.h"

namespace weir::engine {

inline constexpr Epoch kModelEpoch = 7;

// Every write the engine has numbered. A block's value is the id of the request
// that wrote it, 0 for zeros.
class History {
 public:
  struct Version {
    uint64_t n = 0;
    uint64_t value = 0;
  };

  History(uint32_t lanes, uint64_t size_blocks) : lanes_(lanes), versions_(size_blocks) {
    for (auto& v : versions_) v.push_back(Version{});
  }

  // What was sent as number n of the lane; the same each time or it is wrong.
  // Answers whether it is new; `wrong` says what does not fit.
  bool Note(const Clone& clone, std::string* wrong) {
    auto& lane = lanes_[Index(clone.lane)];
    const uint64_t n = clone.position.n();
    if (n <= lane.size()) {
      const Clone& first = lane[n - 1];
      if (first.kind != clone.kind || !(first.range == clone.range) || first.fua != clone.fua ||
          first.data.bytes() != clone.data.bytes()) {
        *wrong = absl::StrCat("number ", clone.position.ToString(), " was sent with another write");
      }
      return false;
    }
    if (n != lane.size() + 1) *wrong = absl::StrCat("gap before ", clone.position.ToString());
    lane.push_back(clone);
    for (uint64_t i = 0; i < clone.range.count; ++i) {
      versions_[clone.range.first + i].push_back({n, ValueIn(clone.data, i)});
    }
    return true;
  }
  const std::vector<Version>& versions(uint64_t block) const { return versions_[block]; }
  // The version of `block` that a replica at `n` shows.
  Version At(uint64_t block, uint64_t n) const {
    const auto& all = versions_[block];
    auto it = std::find_if(all.rbegin(), all.rend(), [n](const Version& v) { return v.n <= n; });
    return *it;
  }
  static uint64_t ValueIn(const Payload& data, uint64_t block) {
    if (data.empty()) return 0;
    uint64_t value = 0;
    std::memcpy(&value, data.bytes().data() + block * kBlockBytes, sizeof(value));
    return value;
  }

 private:
  std::vector<std::vector<Clone>> lanes_;  // entry n-1 is write n
  std::vector<std::vector<Version>> versions_;  // by block, oldest first
};

// Thread-safety: none.
struct ModelReplica {
  struct Lane {
    uint64_t applied = 0;
    uint64_t synced = 0;
  };
  uint32_t domains = 1;
  std::vector<Lane> lanes;

  uint32_t DomainOf(uint32_t lane) const { return lane % domains; }

  // Strictly in order. False: a gap.
  bool Apply(const Clone& clone) {
    Lane& lane = lanes[Index(clone.lane)];
    const uint64_t n = clone.position.n();
    if (n > lane.applied + 1) return false;
    lane.applied = std::max(lane.applied, n);
    return true;
  }
  void Sync(uint32_t lane, uint64_t n) {
    lanes[lane].synced = std::max(lanes[lane].synced, std::min(n, lanes[lane].applied));
  }
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_MODEL_REPLICA_H_
