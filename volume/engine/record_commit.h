// Replacing a volume's catalog record by compare-and-swap, by the one frontend that changes it: what the catalog's answers
// mean, and what is to be asked next.
//
//   Begin(next) -> put next() for revision() -> Put(answer) --done--> it is there
//                  ^                              | read it back
//                  +------ kAgain --------- ReadBack(answer) --> an outcome
//
// A swap whose answer is lost may have come through, or come through later. What is read back is ours if it is what was to be
// put, or an earlier attempt of ours that came late, or ours with attributes that somebody else has set meanwhile; else it was
// taken. What is read back is known from then on, and later changes go on top of it. But for a detach that comes late: what goes
// on top of it takes the volume back, so it is not what that starts from.
//
// Thread-safety: none.
#ifndef WEIR_VOLUME_ENGINE_RECORD_COMMIT_H_
#define WEIR_VOLUME_ENGINE_RECORD_COMMIT_H_

#include <cstdint>
#include <optional>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace weir::engine {

enum class CommitOutcome {
  kDone,      // the catalog has exactly what was to be put
  kAgain,     // put next() once more, on top of what was read back
  kUnknown,   // nothing has changed yet, or it could not be read back
  kDeleted,   // there is no such record any more
  kTaken,     // it is another's, for good
  kKeepsChanging,
};

// What a commit has to know of records. Kind says:
//   using Record;
//   static bool Same(const Record&, const Record&);  // but for attributes, which others may set
//   static void TakeAttributes(const Record& from, Record* to);
//   static bool IsDetached(const Record&);           // nobody has it, after a clean detach
//   static bool IsServed(const Record&);             // ACTIVE
//   static bool SameFrontend(const Record&, const Record&);  // owner and epoch
template <typename Kind>
class RecordCommit {
 public:
  using Record = typename Kind::Record;
  struct Versioned {
    Record record;
    uint64_t revision = 0;
  };

  // As it was read.
  explicit RecordCommit(Versioned read) : stored_(std::move(read)) {}

  // The record as the catalog is known to have it, or to have had it last; a detach that comes late apart.
  const Record& record() const { return stored_.record; }
  // What the next put is to take the place of.
  uint64_t revision() const { return stored_.revision; }
  const Record& next() const { return next_; }

  void Begin(Record next) {
    attempts_ = 0;
    next_ = std::move(next);
    Kind::TakeAttributes(stored_.record, &next_);
  }

  // The put's answer, with the new revision. False: unknown, or refused, and it is to be read back.
  bool Put(const absl::StatusOr<uint64_t>& put) {
    if (!put.ok()) {
      if (Kind::IsDetached(next_)) late_detach_ = next_;
      return false;
    }
    stored_ = {next_, *put};
    late_detach_.reset();
    return true;
  }

  // The read's answer. NOT_FOUND: there is none.
  CommitOutcome ReadBack(absl::StatusOr<Versioned> read) {
    if (absl::IsNotFound(read.status())) return CommitOutcome::kDeleted;
    if (!read.ok() || read->revision == stored_.revision) return CommitOutcome::kUnknown;
    if (Kind::Same(read->record, next_)) {
      stored_ = *std::move(read);
      late_detach_.reset();
      return CommitOutcome::kDone;
    }
    if (late_detach_ && Kind::Same(read->record, *late_detach_)) {
      stored_.revision = read->revision;
      Kind::TakeAttributes(read->record, &stored_.record);
    } else if (IsOurs(read->record)) {
      stored_ = *std::move(read);
    } else {
      return CommitOutcome::kTaken;
    }
    if (++attempts_ == kAttemptsMax) return CommitOutcome::kKeepsChanging;
    Kind::TakeAttributes(stored_.record, &next_);
    return CommitOutcome::kAgain;
  }

 private:
  // What moves the revision under us is one of ours that came through late, or attributes: both are few.
  static constexpr int kAttemptsMax = 8;

  bool IsOurs(const Record& read) const {
    return (Kind::SameFrontend(read, next_) && Kind::IsServed(read)) || Kind::Same(read, stored_.record);
  }

  Versioned stored_;
  Record next_;
  int attempts_ = 0;
  std::optional<Record> late_detach_;  // a detach of ours that may come through late
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_RECORD_COMMIT_H_
