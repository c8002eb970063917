// What is to happen, in virtual time.
#ifndef WEIR_TESTS_SIM_AGENDA_H_
#define WEIR_TESTS_SIM_AGENDA_H_

#include <algorithm>
#include <cstdint>
#include <functional>
#include <tuple>
#include <utility>
#include <vector>

#include "absl/time/time.h"

namespace weir::sim {

// Since any fixed origin, as engine::Time.
using Time = absl::Duration;

// Thread-safety: none. Things due at the same time happen in the order in which they were entered.
class Agenda {
 public:
  Time now() const { return now_; }
  // `when` in the past means now.
  void At(Time when, std::function<void()> what) {
    heap_.push_back({std::max(when, now_), next_turn_++, std::move(what)});
    std::push_heap(heap_.begin(), heap_.end(), Later);
  }
  void After(absl::Duration delay, std::function<void()> what) {
    At(now_ + delay, std::move(what));
  }
  bool empty() const { return heap_.empty(); }
  // REQUIRES: !empty().
  Time next() const { return heap_.front().when; }
  void RunNext() {
    std::pop_heap(heap_.begin(), heap_.end(), Later);
    Item item = std::move(heap_.back());
    heap_.pop_back();
    now_ = item.when;
    item.what();
  }

 private:
  struct Item {
    Time when;
    uint64_t turn = 0;
    std::function<void()> what;
  };
  static bool Later(const Item& a, const Item& b) {
    return std::tie(a.when, a.turn) > std::tie(b.when, b.turn);
  }

  Time now_ = absl::Seconds(1000);
  uint64_t next_turn_ = 0;
  std::vector<Item> heap_;
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_AGENDA_H_
