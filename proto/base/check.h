// CHECK and its kin, with upstream Abseil's names (this Abseil has none yet).
//
// For what must not happen: a wrong block is worse than a stopped process.
#ifndef WEIR_PROTO_BASE_CHECK_H_
#define WEIR_PROTO_BASE_CHECK_H_

#include <cstdio>
#include <cstdlib>

#include "absl/status/status.h"

namespace weir::internal {

[[noreturn]] inline void CheckFailed(const char* file, int line,
                                     const char* condition) {
  std::fprintf(stderr, "%s:%d: CHECK failed: %s\n", file, line, condition);
  std::abort();
}

inline const absl::Status& AsStatus(const absl::Status& status) {
  return status;
}
template <typename T>
const absl::Status& AsStatus(const T& status_or) {
  return status_or.status();
}

}  // namespace weir::internal

#define CHECK(condition)                                              \
  (static_cast<bool>(condition)                                       \
       ? static_cast<void>(0)                                         \
       : ::weir::internal::CheckFailed(__FILE__, __LINE__, #condition))
#define CHECK_EQ(a, b) CHECK((a) == (b))
#define CHECK_NE(a, b) CHECK((a) != (b))
#define CHECK_LE(a, b) CHECK((a) <= (b))
#define CHECK_LT(a, b) CHECK((a) < (b))
#define CHECK_GE(a, b) CHECK((a) >= (b))
#define CHECK_GT(a, b) CHECK((a) > (b))
#define CHECK_OK(expr)                                                     \
  do {                                                                     \
    const auto& weir_check_result = (expr);                                \
    if (!weir_check_result.ok()) {                                         \
      ::weir::internal::CheckFailed(                                       \
          __FILE__, __LINE__,                                              \
          ::weir::internal::AsStatus(weir_check_result).ToString().c_str()); \
    }                                                                      \
  } while (false)

#endif  // WEIR_PROTO_BASE_CHECK_H_
