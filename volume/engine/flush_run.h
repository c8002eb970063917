// One run of the flush worker: every flush domain of every in-sync target is
// asked once, all at once, and the answers are folded. DESIGN.md, "Barriers".
#ifndef WEIR_VOLUME_ENGINE_FLUSH_RUN_H_
#define WEIR_VOLUME_ENGINE_FLUSH_RUN_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "volume/engine/stats.h"
#include "volume/engine/types.h"

namespace weir::engine {

// Thread-safety: none. Knows nothing of sessions: the engine asks which clones
// to send and reports what became of them.
class FlushRun {
 public:
  using Purpose = FlushPurpose;

  // `number`: not 0, and no other run's. `positions`: by lane, what the flush must make durable.
  FlushRun(Purpose purpose, uint64_t number, Time begun, std::vector<uint64_t> positions)
      : purpose_(purpose), number_(number), begun_(begun), positions_(std::move(positions)) {}

  Purpose purpose() const { return purpose_; }
  uint64_t number() const { return number_; }
  Time begun() const { return begun_; }
  // Nobody waits for it any more; it still moves the durable point.
  void BecomeAuto() { purpose_ = Purpose::kAuto; }
  const std::vector<uint64_t>& positions() const { return positions_; }

  // `target` takes part, as `replica` in errors(). Its domains are asked once
  // it is connected.
  void AddTarget(TargetId target, std::string replica);
  // The target's session began: what it has not answered is to be asked (again).
  // `same_domains`: as in the session before; else every domain is.
  void TargetConnected(TargetId target, uint32_t num_flush_requests, bool same_domains);
  // Its session ended: unanswered clones are to be asked again.
  void TargetLost(TargetId target);
  // What it has not answered counts as `result`.
  void TargetFailed(TargetId target, Result result, const std::string& reason);
  // What nobody has answered counts as requeued.
  void RequeueRest();
  // It has left the table: it is waited for no more.
  void TargetLeft(TargetId target);

  // The next domain of `target` to ask at `now`, which then counts as sent.
  std::optional<uint32_t> NextToSend(TargetId target, Time now);
  // The answer to a clone that NextToSend gave. False: it is not waited for any more.
  [[nodiscard]] bool Completed(TargetId target, uint32_t flush_nr, Result result,
                               const std::string& message);
  // The answer was below the flush's position: ask once more, not before `at`.
  void AskAgain(TargetId target, uint32_t flush_nr, Time at);
  // When a clone that is held back may go; infinite if none is.
  Time NextTimer() const;

  bool done() const;
  // How many domains it asks, of those members that are known and have not left.
  uint64_t width() const;
  Result folded() const { return folded_; }
  const std::vector<TargetError>& errors() const { return errors_; }
  // The I/O errors that targets answered; not those that were put down for them
  // because they were away.
  struct Answer {
    TargetId target{};
    Result result;
    std::string message;
  };
  const std::vector<Answer>& answered_errors() const { return answered_errors_; }
  bool HasAnsweredError(TargetId target) const;
  // Targets whose clones came back with this kind.
  std::vector<TargetId> TargetsWith(Result::Kind kind) const;

 private:
  enum class ClonePhase { kToSend, kSent, kDone };
  struct Part {
    ClonePhase phase = ClonePhase::kToSend;
    Time not_before = -absl::InfiniteDuration();
    Result result;
  };
  struct Member {
    TargetId target{};
    std::string replica;
    bool connected_once = false;  // its number of domains is known
    bool connected = false;
    bool left = false;
    bool failed = false;
    std::vector<Part> parts;
  };
  Member* Find(TargetId target);
  void Fold(const Member& member, uint32_t flush_nr, Result result,
            const std::string& message);

  Purpose purpose_;
  const uint64_t number_;
  Time begun_;
  std::vector<uint64_t> positions_;
  std::vector<Member> members_;
  Result folded_;
  std::vector<TargetError> errors_;
  std::vector<Answer> answered_errors_;
};

}  // namespace weir::engine

#endif  // WEIR_VOLUME_ENGINE_FLUSH_RUN_H_
