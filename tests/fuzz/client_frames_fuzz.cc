// volume/host: frames of a client's I/O stream, up to the volume that would run their requests.
#include <cstring>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "proto/base/check.h"
#include "proto/base/position.h"
#include "proto/wire/frame.h"
#include "tests/fuzz/input.h"
#include "volume/host/long_request.h"
#include "volume/host/request_codec.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {
namespace {

constexpr uint64_t kVolumeBytes = 64 << 20;

// Has the host's rules for what reaches an engine, and checks what the engine relies on.
class CheckingVolume final : public HostedVolume {
 public:
  const std::string& name() const override { return name_; }
  uint64_t size_bytes() const override { return kVolumeBytes; }
  uint32_t epoch() const override { return 1; }
  uint32_t intact_since() const override { return 1; }
  bool flush_supported() const override { return true; }
  void Submit(IoRequest request, IoCallback done) override {
    IoOutcome outcome;
    const int wrong = CheckShape(request, size_bytes());
    if (wrong != 0) {
      outcome.result = engine::Result(wrong);
      outcome.message = "wrong shape";
      outcome.targets.push_back({"replica1", 0, outcome.result, "told so"});
      CHECK(!OutcomeStatus(outcome).ok());
      return done(std::move(outcome));
    }
    const engine::Request submitted = RequestInBlocks(request);
    if (submitted.kind != engine::RequestKind::kFlush) {
      CHECK_GT(submitted.range.count, 0u);
      CHECK_LE(submitted.range.first, kVolumeBytes / kBlockBytes);
      CHECK_LE(submitted.range.count, kVolumeBytes / kBlockBytes - submitted.range.first);
    }
    const uint64_t data_blocks = HasData(submitted.kind) ? submitted.range.count : 0;
    CHECK_EQ(submitted.data.size(), data_blocks * kBlockBytes);
    CHECK_EQ(submitted.crcs.size(), data_blocks);
    if (submitted.kind == engine::RequestKind::kRead) {
      size_t bytes = 0;
      for (const Payload& part : ReadPayload({{submitted.range.count, Payload()}})) {
        bytes += part.size();
      }
      CHECK_EQ(bytes, request.length_bytes);
    }
    done(std::move(outcome));
  }

 private:
  const std::string name_ = "fuzzed";
};

void TakeFrame(const std::shared_ptr<HostedVolume>& volume, absl::string_view bytes) {
  const grpc::Slice slice(bytes.data(), bytes.size());
  v1::VolumeIoFrame frame;
  Payload payload;
  if (!wire::DecodeFrame(grpc::ByteBuffer(&slice, 1), 8 << 20, &frame, &payload).ok()) return;
  if (!CheckFrame(frame, payload.size()).ok()) return;
  size_t offset = 0;
  int answers = 0;
  for (const v1::VolumeIo& io : frame.ios()) {
    Payload data;
    if (HasData(*KindFromWire(io.kind()))) {
      data = payload.Slice(offset, io.length_bytes());
      offset += io.length_bytes();
    }
    SubmitAnyLength(volume, RequestFromWire(io, std::move(data)),
                    [&answers](IoOutcome) { ++answers; }, nullptr);
  }
  CHECK_EQ(answers, frame.ios_size());
}

}  // namespace
}  // namespace weir::host

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const volume = new std::shared_ptr<weir::host::HostedVolume>(
      std::make_shared<weir::host::CheckingVolume>());
  weir::fuzz::Input input(data, size);
  weir::host::TakeFrame(*volume, input.Rest());
  return 0;
}
