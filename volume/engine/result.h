// What a clone, a flush or a request came to, and dm's folding of several.
#ifndef WEIR_VOLUME_ENGINE_RESULT_H_
#define WEIR_VOLUME_ENGINE_RESULT_H_

#include <string>

namespace weir::engine {

// OK, or a positive errno of which three have a meaning of their own:
// EOPNOTSUPP (not supported), EAGAIN (requeue: not an error, do it again) and
// ESTALE (fenced: a newer epoch exists, final for this frontend).
class Result {
 public:
  enum class Kind { kOk, kError, kRequeue, kNotSupported, kFenced };

  constexpr Result() = default;
  explicit constexpr Result(int error) : error_(error) {}
  static constexpr Result Ok() { return Result(); }

  Kind kind() const;
  bool ok() const { return error_ == 0; }
  int error() const { return error_; }
  friend bool operator==(Result, Result) = default;

 private:
  int error_ = 0;
};

// Adds one clone's result to a barrier_error, in completion order, as dm's
// request-based core does: the first error is kept, except that NOT_SUPPORTED
// supersedes every error, and REQUEUE every error but NOT_SUPPORTED. Beyond
// dm: FENCED supersedes all, since nothing this frontend says counts any more.
Result FoldBarrierError(Result so_far, Result completed);

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_RESULT_H_
