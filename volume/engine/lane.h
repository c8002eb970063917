// One lane as the engine sees it: its history above the lowest durable point,
// and how far each target has come.
#ifndef WEIR_VOLUME_ENGINE_LANE_H_
#define WEIR_VOLUME_ENGINE_LANE_H_

#include <cstdint>
#include <deque>
#include <vector>

#include "volume/engine/types.h"

namespace weir::engine {

// A numbered write. It keeps its number and is never withdrawn; it stays here
// until every member has synced it, so that a target can be refilled.
struct WriteEntry {
  uint64_t n = 0;
  RequestKind kind = RequestKind::kWrite;
  BlockRange range;
  bool fua = false;
  Payload data;
  std::vector<uint32_t> crcs;
  RequestId request{};
  bool open = true;  // the request still waits for this entry

  uint64_t bytes() const { return data.size() + kOverheadBytes; }
  // What an entry costs beside its data, roughly; bounds zeroes and discards too.
  static constexpr uint64_t kOverheadBytes = 256;
};

// Positions within the engine's epoch, so plain numbers.
struct Cursor {
  uint64_t sent = 0;     // highest n sent on the current session
  uint64_t applied = 0;  // highest n the target is known to have
  uint64_t durable = 0;  // highest n the target is known to have synced
};

// Invariants: entries are contiguous, the last one is last(); for every
// cursor durable <= applied <= sent <= last(); trimmed() < first entry.
class Lane {
 public:
  explicit Lane(size_t targets) : cursors_(targets) {}

  // Numbers `entry` and keeps it. REQUIRES: last() < Position::kNMax.
  const WriteEntry& Append(WriteEntry entry);
  uint64_t last() const { return last_; }
  // REQUIRES: in the buffer.
  WriteEntry& At(uint64_t n) { return entries_[n - entries_.front().n]; }
  bool Has(uint64_t n) const {
    return !entries_.empty() && n >= entries_.front().n && n <= last_;
  }
  // Drops entries up to `n`; answers how many bytes that were.
  uint64_t Trim(uint64_t n);
  // What is at or below is on stable storage everywhere and kept no more.
  uint64_t trimmed() const { return last_ - entries_.size(); }
  bool empty() const { return entries_.empty(); }
  const std::deque<WriteEntry>& entries() const { return entries_; }

  void AddTarget() { cursors_.emplace_back(); }
  Cursor& cursor(TargetId target) { return cursors_[Slot(target)]; }
  // Reads must be served by a target that has come at least this far.
  uint64_t read_floor() const { return completed > failed ? completed : failed; }
  const Cursor& cursor(TargetId target) const { return cursors_[Slot(target)]; }

  // Highest n that every target waited for has applied; never goes back, also
  // when a target loses its unsynced tail and must be refilled.
  uint64_t completed = 0;
  // Highest n that every target waited for has synced; never goes back.
  uint64_t synced = 0;
  // Highest n that the targets were told every member has synced.
  uint64_t told = 0;
  // Highest n whose request was failed: reads must not miss it.
  uint64_t failed = 0;

 private:
  static size_t Slot(TargetId target) { return static_cast<size_t>(target); }

  std::deque<WriteEntry> entries_;
  uint64_t last_ = 0;
  std::vector<Cursor> cursors_;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_LANE_H_
