#include "volume/host/long_request.h"

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <utility>

#include "proto/base/position.h"

namespace weir::host {
namespace {

void SubmitThrough(SubmitGate* gate, HostedVolume& volume, IoRequest request,
                   IoCallback done) {
  if (gate == nullptr) return volume.Submit(std::move(request), std::move(done));
  if (!gate->Enter()) {
    IoOutcome outcome;
    outcome.result = engine::Result(ECANCELED);
    outcome.message = "cut off by a newer session of this client";
    return done(std::move(outcome));
  }
  volume.Submit(std::move(request), std::move(done));
  gate->Leave();
}

// One long request. Pieces follow each other, so its fields have one user at
// a time; each piece's callback holds it.
class Pieces : public std::enable_shared_from_this<Pieces> {
 public:
  Pieces(std::shared_ptr<HostedVolume> volume, IoRequest request,
         IoCallback done, std::shared_ptr<SubmitGate> gate)
      : volume_(std::move(volume)),
        gate_(std::move(gate)),
        left_(std::move(request)),
        done_(std::move(done)) {}

  // A piece may be answered before Submit returns; looping instead of
  // recursing keeps the stack flat. Each piece counts two arrivals, its answer
  // and the return of Submit; whoever comes second goes on.
  void Run() {
    do {
      arrivals_ = 0;
      IoRequest piece = left_;
      piece.length_bytes =
          std::min<uint64_t>(left_.length_bytes, kRequestBytesMax);
      left_.offset_bytes += piece.length_bytes;
      left_.length_bytes -= piece.length_bytes;
      SubmitThrough(gate_.get(), *volume_, std::move(piece),
                    [self = shared_from_this()](IoOutcome outcome) {
                      self->outcome_ = std::move(outcome);
                      if (++self->arrivals_ == 2 && !self->Finished()) {
                        self->Run();
                      }
                    });
    } while (++arrivals_ == 2 && !Finished());
  }

 private:
  // Answers if nothing is left to do.
  bool Finished() {
    if (outcome_.result.ok() && left_.length_bytes > 0) return false;
    IoCallback done = std::move(done_);
    done(std::move(outcome_));
    return true;
  }

  const std::shared_ptr<HostedVolume> volume_;
  const std::shared_ptr<SubmitGate> gate_;
  IoRequest left_;
  IoCallback done_;
  IoOutcome outcome_;
  std::atomic<int> arrivals_{0};
};

}  // namespace

void SubmitAnyLength(const std::shared_ptr<HostedVolume>& volume,
                     IoRequest request, IoCallback done,
                     std::shared_ptr<SubmitGate> gate) {
  const bool splits = request.kind == engine::RequestKind::kWriteZeroes ||
                      request.kind == engine::RequestKind::kDiscard;
  if (!splits || request.length_bytes <= kRequestBytesMax) {
    return SubmitThrough(gate.get(), *volume, std::move(request),
                         std::move(done));
  }
  const bool aligned = request.offset_bytes % kBlockBytes == 0 &&
                       request.length_bytes % kBlockBytes == 0;
  const bool inside =
      request.offset_bytes <= volume->size_bytes() &&
      request.length_bytes <= volume->size_bytes() - request.offset_bytes;
  if (!aligned || !inside) {
    // Let the volume refuse a short request that is wrong in the same way.
    if (!inside) {
      request.offset_bytes = std::max(
          request.offset_bytes / kBlockBytes * kBlockBytes, volume->size_bytes());
    }
    request.length_bytes = aligned ? kBlockBytes : 1;
    return SubmitThrough(gate.get(), *volume, std::move(request),
                         std::move(done));
  }
  std::make_shared<Pieces>(volume, std::move(request), std::move(done),
                           std::move(gate))
      ->Run();
}

}  // namespace weir::host
