// How a frontend's own files call replicas, and go on in the life that they were called in.
#ifndef WEIR_TESTS_SIM_FRONTEND_CALLS_H_
#define WEIR_TESTS_SIM_FRONTEND_CALLS_H_

#include <functional>
#include <memory>
#include <optional>
#include <type_traits>
#include <utility>

#include "absl/strings/str_cat.h"
#include "tests/sim/frontend.h"

namespace weir::sim {

template <typename What>
void Frontend::Enter(uint64_t life, What&& what) {
  if (life != life_) return;
  if (!paused() && waiting_.empty()) return what();
  Wait(std::forward<What>(what));
}

template <typename What>
void Frontend::Later(absl::Duration delay, What what) {
  parts_.agenda->After(delay, [this, life = life_, what = std::move(what)]() mutable {
    Enter(life, std::move(what));
  });
}

template <typename... Parts>
void Frontend::Trace(const Parts&... parts) const {
  if (parts_.trace) parts_.trace(absl::StrCat("f", index_, " ", parts...));
}

// The answer of a call that did not get through.
template <typename Result>
Result Failed(const absl::Status& why) {
  if constexpr (std::is_constructible_v<Result, absl::Status>) {
    return Result(why);
  } else {
    Result result;
    result.status = why;
    return result;
  }
}

template <typename Result>
void Frontend::Call(uint32_t node, std::function<Result(ReplicaNode&)> call,
                    std::function<void(Result)> done) {
  auto result = std::make_shared<std::optional<Result>>();
  parts_.network->Call(
      index_, node, [result, call](ReplicaNode& node) { *result = call(node); },
      [this, life = life_, result, done](absl::Status reached) {
        Enter(life, [result, done, reached] {
          done(reached.ok() ? std::move(**result) : Failed<Result>(reached));
        });
      });
}

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_FRONTEND_CALLS_H_
