// The same calls on ModelStore and on the real store; see store_conformance_test.cc.
#ifndef WEIR_TESTS_SIM_CONFORMANCE_H_
#define WEIR_TESTS_SIM_CONFORMANCE_H_

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gtest/gtest.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "replica/store/testing/join_steps.h"
#include "tests/sim/dice.h"
#include "tests/sim/model_store.h"
#include "tests/sim/rocks_store.h"

namespace weir::sim {

using store::Store;

inline constexpr int kSteps = 120;

inline std::string Data(uint64_t value) {
  std::string data(kBlockBytes, '\0');
  std::memcpy(data.data(), &value, sizeof(value));
  return data;
}

inline std::string Words(const absl::Status& status) {
  return status.ok() ? "OK" : absl::StrCat(absl::StatusCodeToString(status.code()), "/", StatusToErrno(status),
                                           " (", status.message(), ")");
}

// What a replica is on both kinds of store.
struct Pair {
  std::unique_ptr<ReplicaStore> model, real;
  Epoch act_epoch = 0;      // the last one that it was written to in
  uint64_t version = 0;     // of its volume's updates
  std::vector<Pin> pins;
  bool syncs_more = false;  // D3, since the last flush of everything
  bool reclaims = false;    // D3: a pin was dropped, and what it kept is reclaimed some time
  std::map<LaneId, Position> given_up;  // D9: bases, by lane
  // By domain, for a power cut: what it was after each call since the last sync.
  std::vector<std::vector<std::string>> states;

  Store& m() { return model->store(); }
  Store& r() { return real->store(); }
};

// One write, by lane and position: whoever comes there writes the same.
struct Logged {
  store::WriteKind kind = store::WriteKind::kWrite;
  BlockRange range;
  std::string data;
  std::vector<uint32_t> crcs;
};

// What block versions say of each block, with D1.
using Versions = std::map<uint64_t, std::vector<std::pair<Position, uint64_t>>>;

class Conformance {
 public:
  explicit Conformance(uint64_t seed)
      : dice_(seed),
        geometry_{.size_blocks = 12 * (1 + seed % 3),
                  .lanes = {.lanes = static_cast<uint32_t>(1 + seed % 3), .stripe_blocks = 4}},
        domains_(std::min<uint32_t>(1 + seed / 3 % 2, geometry_.lanes.lanes)),
        overlay_(seed / 2 % 2 == 0),
        reclaims_(seed % 5 < 2),
        joins_(seed % 5 != 0 && seed % 5 != 4),
        pins_(seed % 5 != 1 && seed % 5 != 3),
        cut_dirty_(seed / 5 % 2 == 0) {
    for (Pair& pair : pairs_) {
      pair.model = MakeModelStore("model", domains_, geometry_);
      pair.real = MakeRocksStore("", domains_, geometry_);
      SyncedAll(pair);
    }
  }

  void Run();

 private:
  // --- telling ---

  void Say(const Pair& pair, const std::string& call) {
    calls_.push_back(absl::StrCat(step_, " ", &pair == &pairs_[0] ? "a" : "b", ".", call));
    if (calls_.size() > 25) calls_.erase(calls_.begin());
  }
  void Differ(const std::string& what) {
    ADD_FAILURE() << what << "\nlast calls:\n  " << absl::StrJoin(calls_, "\n  ");
  }
  template <typename T>
  bool Equal(const T& model, const T& real, absl::string_view what) {
    if (model == real) return true;
    Differ(absl::StrCat(what, " differs"));
    return false;
  }
  bool EqualPositions(Position model, Position real, absl::string_view what) {
    if (model == real) return true;
    Differ(absl::StrCat(what, ": the model ", model.ToString(), ", the real store ", real.ToString()));
    return false;
  }
  // False also if both have failed.
  bool Ok(const absl::Status& model, const absl::Status& real) {
    if (model.code() != real.code() || StatusToErrno(model) != StatusToErrno(real)) {
      Differ(absl::StrCat("the model says ", Words(model), ", the real store ", Words(real)));
      return false;
    }
    if (!calls_.empty()) calls_.back() += model.ok() ? " OK" : absl::StrCat(" ", StatusToErrno(model));
    return model.ok();
  }

  // --- what is there ---

  uint64_t SizeOf(Pair& pair) { return pair.model->size_blocks(); }
  uint32_t lanes() const { return geometry_.lanes.lanes; }
  LaneId AnyLane() { return LaneId{static_cast<uint32_t>(dice_.Below(lanes()))}; }
  LaneId LaneOf(uint64_t block) const { return geometry_.lanes.LaneOf(block); }
  Position At(Pair& pair, LaneId lane) { return pair.model->position(Index(lane)); }
  // D9
  bool WentBack(Pair& pair, LaneId lane) { return At(pair, lane) < pair.given_up[lane]; }
  bool Whole(Pair& pair) { return store::testing::InvalidBlocksOf(pair.m(), kVolume) == 0; }
  BlockRange AnyRange(Pair& pair) {
    const uint64_t first = dice_.Below(SizeOf(pair));
    if (dice_.Percent(3)) return {first, SizeOf(pair) - first + 1};
    return {first, 1 + dice_.Below(SizeOf(pair) - first)};
  }
  // On the lane's history for the most part; at or below `to`.
  Position AnyPosition(Pair& pair, LaneId lane, Position to) {
    const std::vector<LineageEntry> lineage = pair.model->lineage(Index(lane));
    Position position = to;
    if (!lineage.empty() && dice_.Percent(40)) {
      const LineageEntry& end = lineage[dice_.Below(lineage.size())];
      position = Position(end.epoch, end.n + (dice_.Percent(10) ? 1 : 0));
    }
    position = Position(position.epoch(), position.n() - dice_.Below(std::min<uint64_t>(position.n(), 9) + 1));
    return std::min(position, to);
  }
  static Versions Short(const std::vector<store::BlockVersion>& all);
  static std::pair<Position, uint64_t> ValueAt(const Versions& versions, uint64_t block, Position at);
  void CheckCrcs(const std::vector<store::BlockVersion>& versions) {
    for (const store::BlockVersion& v : versions) {
      if (!v.zero && (v.crc != Crc32c(v.data) || v.data != Data(ValueOf(v.data, 0)))) Differ("data or crc of a version");
    }
  }
  void CompareNewest(const std::vector<store::BlockVersion>& model, const std::vector<store::BlockVersion>& real,
                     absl::string_view what);
  std::set<uint64_t> BlocksOf(const std::vector<BlockRange>& ranges, LaneId lane) const {
    std::set<uint64_t> blocks;
    for (const BlockRange& range : ranges) {
      for (uint64_t b = range.first; b < range.end(); ++b) {
        if (LaneOf(b) == lane) blocks.insert(b);
      }
    }
    return blocks;
  }

  // --- for power cuts ---

  std::string StateOf(Store& store, uint32_t domain);
  void Changed(Pair& pair, LaneId lane) {
    const uint32_t domain = Index(lane) % domains_;
    if (cut_dirty_) pair.states[domain].push_back(StateOf(pair.m(), domain));
  }
  void Synced(Pair& pair, uint32_t domain) {
    pair.states.resize(domains_);
    if (cut_dirty_) pair.states[domain] = {StateOf(pair.m(), domain)};
  }
  void SyncedAll(Pair& pair) {
    for (uint32_t d = 0; d < domains_; ++d) Synced(pair, d);
    pair.syncs_more = false;
  }

  void Step(Pair& pair);
  const Logged& LogAt(Pair& pair, LaneId lane, Position position);
  void Write(Pair& pair);
  void CompareWrite(Pair& pair, const std::vector<store::WriteOp>& ops, const std::vector<Position>& before);
  void Flush(Pair& pair, uint32_t domain);
  void FlushAll(Pair& pair) {
    for (uint32_t d = 0; d < domains_; ++d) Flush(pair, d);
    pair.syncs_more = false;
  }
  void Promise(Pair& pair);
  void TakeBase(Pair& pair);
  void Update(Pair& pair);
  void MissPin(Pair& pair);
  void KeepRecord(Pair& pair);
  void DurablePoints(Pair& pair);
  void Recreate(Pair& pair);
  void Restart(Pair& pair);
  void CutClean(Pair& pair);
  void CutDirty(Pair& pair);
  void FailSync(Pair& pair);
  void CompareState(Pair& pair);
  void CompareAll(Pair& pair);
  void Read(Pair& pair, BlockRange range);
  void Extents(Pair& pair, BlockRange range);
  void ReadPinned(Pair& pair, uint64_t pin, BlockRange range);
  void ChangedSince(Pair& pair, uint64_t pin, LaneId lane);
  void Invalid(Pair& pair, LaneId lane);
  void Digests(Pair& pair, LaneId lane, Position at);
  void Changes(Pair& pair, LaneId lane, Position from, Position to);
  bool Tail(Pair& pair, LaneId lane, Position from, Position to, store::Tail* tail);
  void Adopt(Pair& source, Pair& target);
  void BeginJoin(Pair& source, Pair& target);
  void Begin(Pair& target, const store::JoinLane& join);
  void Copy(Pair& source, Pair& target);
  void Repair(Pair& source, Pair& target);
  void FinishJoin(Pair& pair);
  bool VersionsOf(Pair& pair, LaneId lane, const std::vector<BlockRange>& ranges, Position at_most,
                  store::VersionsPart* part);
  absl::Status ReadAll(Store& store, LaneId lane, std::vector<BlockRange> ranges, Position at_most,
                       store::VersionsPart* part);

  Dice dice_;
  const store::VolumeGeometry geometry_;
  const uint32_t domains_;
  const bool overlay_;
  const bool reclaims_;   // durable points are told
  const bool joins_;      // what one replica has goes to the other
  const bool pins_;
  const bool cut_dirty_;  // in the end; one op a Write call then, as those of a call may be cut apart in the model
  Pair pairs_[2];
  std::map<std::pair<LaneId, Position>, Logged> log_;
  Epoch epoch_ = 0;  // the highest ever
  uint64_t value_ = 0, pin_id_ = 0, join_id_ = 0, revision_ = 0;
  int step_ = 0;
  std::vector<std::string> calls_;  // the last ones
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CONFORMANCE_H_
