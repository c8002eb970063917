// RETURN_IF_ERROR and ASSIGN_OR_RETURN, with upstream's names.
#ifndef WEIR_PROTO_BASE_STATUS_MACROS_H_
#define WEIR_PROTO_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define RETURN_IF_ERROR(expr)                                       \
  do {                                                              \
    if (absl::Status weir_status = (expr); !weir_status.ok()) {     \
      return weir_status;                                           \
    }                                                               \
  } while (false)

#define WEIR_CONCAT_INNER(a, b) a##b
#define WEIR_CONCAT(a, b) WEIR_CONCAT_INNER(a, b)
#define ASSIGN_OR_RETURN(lhs, expr) \
  ASSIGN_OR_RETURN_INNER(WEIR_CONCAT(weir_status_or_, __LINE__), lhs, expr)
#define ASSIGN_OR_RETURN_INNER(tmp, lhs, expr)    \
  auto tmp = (expr);                              \
  if (!tmp.ok()) return std::move(tmp).status();  \
  lhs = *std::move(tmp)

#endif  // WEIR_PROTO_BASE_STATUS_MACROS_H_
