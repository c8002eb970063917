#include "volume/engine/result.h"

#include <cerrno>

namespace weir::engine {
namespace {

// Which of two results stands when both are not OK; the first stands on a tie.
int Precedence(Result::Kind kind) {
  switch (kind) {
    case Result::Kind::kOk:
      return 0;
    case Result::Kind::kError:
      return 1;
    case Result::Kind::kRequeue:
      return 2;
    case Result::Kind::kNotSupported:
      return 3;
    case Result::Kind::kFenced:
      return 4;
  }
  return 0;
}

}  // namespace

Result::Kind Result::kind() const {
  switch (error_) {
    case 0:
      return Kind::kOk;
    case EOPNOTSUPP:
      return Kind::kNotSupported;
    case EAGAIN:
      return Kind::kRequeue;
    case ESTALE:
      return Kind::kFenced;
    default:
      return Kind::kError;
  }
}

Result FoldBarrierError(Result so_far, Result completed) {
  return Precedence(completed.kind()) > Precedence(so_far.kind()) ? completed
                                                                  : so_far;
}

}  // namespace weir::engine
