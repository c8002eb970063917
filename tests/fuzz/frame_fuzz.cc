// proto/wire: a frame, in any number of slices, is read as protobuf reads the whole of it; and the
// details of a status.
#include <algorithm>
#include <string>
#include <vector>

#include "grpcpp/support/byte_buffer.h"
#include "grpcpp/support/slice.h"
#include "proto/base/check.h"
#include "proto/base/errno.h"
#include "proto/wire/frame.h"
#include "proto/wire/status.h"
#include "tests/fuzz/input.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::fuzz {
namespace {

grpc::ByteBuffer InSlices(absl::string_view bytes, size_t slice_bytes) {
  std::vector<grpc::Slice> slices;
  while (!bytes.empty()) {
    const size_t size = std::min(slice_bytes, bytes.size());
    slices.emplace_back(bytes.data(), size);
    bytes.remove_prefix(size);
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

template <typename Frame>
void ReadFrame(absl::string_view bytes, size_t slice_bytes) {
  Frame head;
  Payload payload;
  if (!wire::DecodeFrame(InSlices(bytes, slice_bytes), 1 << 20, &head, &payload).ok()) return;
  Frame whole;
  CHECK(Parse(bytes, &whole));
  CHECK(whole.payload() == payload.bytes());
  whole.clear_payload();
  CHECK(whole.SerializeAsString() == head.SerializeAsString());

  Frame again;
  Payload payload_again;
  CHECK_OK(wire::DecodeFrame(wire::EncodeFrame(head, {payload}), 2 << 20, &again, &payload_again));
  CHECK(again.SerializeAsString() == head.SerializeAsString());
  CHECK(payload_again.bytes() == payload.bytes());
}

void ReadStatus(int code, absl::string_view details) {
  const grpc::Status received(static_cast<grpc::StatusCode>(code), "message",
                              std::string(details));
  const absl::Status status = wire::FromGrpc(received);
  CHECK_EQ(status.ok(), received.ok());
  // Whatever the sender meant, an error stays one, as a code and as an errno.
  CHECK_EQ(StatusToErrno(status) == 0, status.ok());
  CHECK_EQ(wire::ToGrpc(status).ok(), status.ok());
}

}  // namespace
}  // namespace weir::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  weir::fuzz::Input input(data, size);
  const uint8_t kind = input.Byte();
  const size_t slice_bytes = size_t{input.Byte()} * 16 + 1;
  const absl::string_view bytes = input.Rest();
  switch (kind % 5) {
    case 0: weir::fuzz::ReadFrame<weir::v1::IoFrame>(bytes, slice_bytes); break;
    case 1: weir::fuzz::ReadFrame<weir::v1::IoReplyFrame>(bytes, slice_bytes); break;
    case 2: weir::fuzz::ReadFrame<weir::v1::VolumeIoFrame>(bytes, slice_bytes); break;
    case 3: weir::fuzz::ReadFrame<weir::v1::VolumeIoReplyFrame>(bytes, slice_bytes); break;
    case 4: weir::fuzz::ReadStatus(static_cast<int>(slice_bytes / 16 % 17), bytes); break;
  }
  return 0;
}
