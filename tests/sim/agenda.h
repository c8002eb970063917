// What is to happen, in virtual time.
#ifndef WEIR_TESTS_SIM_AGENDA_H_
#define WEIR_TESTS_SIM_AGENDA_H_

#include <algorithm>
#include <cstdint>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/functional/any_invocable.h"
#include "absl/time/time.h"

namespace weir::sim {

// Since any fixed origin, as engine::Time.
using Time = absl::Duration;

// Thread-safety: none. Things due in the same nanosecond happen in the order in which they were
// entered.
class Agenda {
 public:
  using What = absl::AnyInvocable<void()>;

  Time now() const { return absl::Nanoseconds(now_); }
  // `when` in the past means now.
  void At(Time when, What what) {
    const uint32_t slot = Keep(std::move(what));
    // Rounded up: whoever waits until then must not wake up before.
    const int64_t due = absl::ToInt64Nanoseconds(absl::Ceil(when, absl::Nanoseconds(1)));
    heap_.push_back({std::max(due, now_), next_turn_++, slot});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  void After(absl::Duration delay, What what) { At(now() + delay, std::move(what)); }
  bool empty() const { return heap_.empty(); }
  // REQUIRES: !empty().
  Time next() const { return absl::Nanoseconds(heap_.front().when); }
  void RunNext() {
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    const Item item = heap_.back();
    heap_.pop_back();
    now_ = item.when;
    What what = std::move(kept_[item.slot]);
    free_.push_back(item.slot);
    what();
  }

 private:
  // Small, since a heap moves its items about.
  struct Item {
    int64_t when = 0;  // ns
    uint64_t turn = 0;
    uint32_t slot = 0;  // of kept_
  };
  static bool Later(const Item& a, const Item& b) {
    return std::tie(a.when, a.turn) > std::tie(b.when, b.turn);
  }

  uint32_t Keep(What what) {
    if (free_.empty()) {
      kept_.push_back(std::move(what));
      return static_cast<uint32_t>(kept_.size() - 1);
    }
    const uint32_t slot = free_.back();
    free_.pop_back();
    kept_[slot] = std::move(what);
    return slot;
  }

  int64_t now_ = 1'000'000'000'000;
  uint64_t next_turn_ = 0;
  std::vector<Item> heap_;
  std::vector<What> kept_;
  std::vector<uint32_t> free_;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_AGENDA_H_
