// The catalog's one record, behind a network that may lose what it asks or what it answers.
//
// Thread-safety: none.
#ifndef WEIR_TESTS_SIM_CATALOG_MODEL_H_
#define WEIR_TESTS_SIM_CATALOG_MODEL_H_

#include <cstdint>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/sim/agenda.h"
#include "tests/sim/dice.h"
#include "volume/engine/record_commit.h"
#include "volume/engine/takeover.h"

namespace weir::sim {

// A store that is no member, and may have a copy.
struct FormerMember {
  std::string replica;
  std::string store_id;
  friend bool operator==(const FormerMember&, const FormerMember&) = default;
};

struct CatalogRecord {
  engine::TakeoverRecord volume;
  std::vector<FormerMember> former;
  uint64_t restoring = 0;  // from which pin; 0: it is not
  bool deleting = false;   // the volume is
  bool gone = false;       // it was, and there is no record any more: the rest is as it was last
  uint64_t attributes = 0;  // raised by each change of somebody who does not have the volume
  uint64_t revision = 1;
};

// See engine::RecordCommit.
struct RecordKind {
  using Record = CatalogRecord;
  static bool Same(const Record& a, const Record& b) {
    return a.volume == b.volume && a.former == b.former && a.restoring == b.restoring && a.deleting == b.deleting && a.gone == b.gone;
  }
  static void TakeAttributes(const Record& from, Record* to) { to->attributes = from.attributes; }
  static bool IsDetached(const Record& record) { return record.volume.detached; }
  static bool IsServed(const Record& record) {
    return !record.volume.recovering && !record.volume.detached && !record.deleting && !record.gone;
  }
  static bool SameFrontend(const Record& a, const Record& b) {
    return a.volume.owner == b.volume.owner && a.volume.epoch == b.volume.epoch;
  }
};
using HeldRecord = engine::RecordCommit<RecordKind>;

class CatalogModel {
 public:
  // `applied` is told of every put at the instant at which it counts.
  CatalogModel(Agenda* agenda, Dice* dice, CatalogRecord first,
               std::function<void(const CatalogRecord&)> applied)
      : agenda_(agenda), dice_(dice), record_(std::move(first)), applied_(std::move(applied)) {}

  // As it is now, for the judge.
  const CatalogRecord& record() const { return record_; }
  // Some frontend has put back attributes that somebody else had changed.
  bool attributes_lost() const { return attributes_lost_; }
  // It was lost, and is made anew. Nothing that was asked before counts any more.
  void Replace(engine::TakeoverRecord rebuilt, uint64_t restoring = 0);

  // Until then nothing gets through.
  void OutageUntil(Time until) { outage_until_ = until; }
  // It answers, if less than others wait for.
  void SlowUntil(Time until) { slow_until_ = until; }
  // An answer, or what was asked, is lost so often.
  void set_loss_percent(uint64_t percent) { loss_percent_ = percent; }

  // Until then nothing gets through to or from `client`.
  void CutUntil(uint32_t client, Time until) { cut_ = {client, until}; }
  // What is asked arrives, but no answer comes back to `client` until then.
  void DeafUntil(uint32_t client, Time until) { deaf_ = {client, until}; }

  // UNAVAILABLE: no answer came.
  void Get(uint32_t client, std::function<void(absl::StatusOr<CatalogRecord>)> done);
  // Now and then somebody else has changed attributes just before.
  // `next.revision`: the one that it is to take the place of. ABORTED: the record is at another one. UNAVAILABLE: no
  // answer came; it may count or not, now or a little later.
  void Put(uint32_t client, CatalogRecord next, std::function<void(absl::StatusOr<uint64_t>)> done);

 private:
  // Runs `ask` at the catalog, then `answer` at the caller unless a loss is drawn, then `lost`.
  void Exchange(uint32_t client, std::function<void()> ask, std::function<void()> answer,
                std::function<void()> lost);

  Agenda* const agenda_;
  Dice* const dice_;
  CatalogRecord record_;
  const std::function<void(const CatalogRecord&)> applied_;
  Time outage_until_{};
  Time slow_until_{};
  uint64_t loss_percent_ = 0;
  bool attributes_lost_ = false;
  std::pair<uint32_t, Time> deaf_;
  std::pair<uint32_t, Time> cut_;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CATALOG_MODEL_H_
