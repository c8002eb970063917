#include "proto/wire/frame.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/wire_format_lite.h"
#include "grpcpp/support/proto_buffer_reader.h"
#include "grpcpp/support/slice.h"

namespace weir::wire {
namespace {

using google::protobuf::io::CodedInputStream;
using google::protobuf::io::CodedOutputStream;
using google::protobuf::internal::WireFormatLite;

// Below this a copy costs less than a reference-counted slice.
constexpr size_t kSharedBytesMin = 512;
constexpr uint32_t kPayloadTag = kPayloadField << 3 | 2;  // length-delimited

grpc::Slice SliceOf(const Payload& payload) {
  const absl::string_view bytes = payload.bytes();
  if (bytes.size() < kSharedBytesMin) {
    return grpc::Slice(bytes.data(), bytes.size());
  }
  // gRPC only reads what it sends; its interface has no const.
  return grpc::Slice(
      const_cast<char*>(bytes.data()), bytes.size(),
      [](void* owner) { delete static_cast<Payload*>(owner); },
      new Payload(payload));
}

struct ByteRun {
  size_t offset = 0;
  size_t size = 0;
};

// Where in a frame the head's bytes are and where the payload's.
struct Layout {
  size_t fields = 0;  // of the head; the walk ends at the first beyond kFieldsMax
  std::vector<ByteRun> head;
  ByteRun payload;
};

void AppendRun(size_t begin, size_t end, std::vector<ByteRun>* runs) {
  if (!runs->empty() && runs->back().offset + runs->back().size == begin) {
    runs->back().size += end - begin;
  } else {
    runs->push_back({begin, end - begin});
  }
}

// Walks the top-level fields without looking into them. False: malformed.
bool FindPayload(const grpc::ByteBuffer& buffer, Layout* layout) {
  grpc::ByteBuffer reference(buffer);  // the reader wants a mutable one
  grpc::ProtoBufferReader reader(&reference);
  if (!reader.status().ok()) return false;
  CodedInputStream in(&reader);
  const size_t total = buffer.Length();
  while (true) {
    const size_t begin = static_cast<size_t>(in.CurrentPosition());
    const uint32_t tag = in.ReadTag();
    if (tag == 0) return in.ConsumedEntireMessage() && begin == total;
    if (tag != kPayloadTag) {
      if (!WireFormatLite::SkipField(&in, tag)) return false;
      if (++layout->fields > kFieldsMax) return true;
      AppendRun(begin, static_cast<size_t>(in.CurrentPosition()), &layout->head);
      continue;
    }
    uint32_t size = 0;
    if (!in.ReadVarint32(&size)) return false;
    const size_t offset = static_cast<size_t>(in.CurrentPosition());
    if (size > total - offset || !in.Skip(static_cast<int>(size))) return false;
    layout->payload = {offset, size};
  }
}

// Copies `run` of the slices' concatenation. REQUIRES: it lies within.
void CopyRun(const std::vector<grpc::Slice>& slices, ByteRun run, char* to) {
  for (const grpc::Slice& slice : slices) {
    if (run.size == 0) return;
    if (run.offset >= slice.size()) {
      run.offset -= slice.size();
      continue;
    }
    const size_t size = std::min(run.size, slice.size() - run.offset);
    std::memcpy(to, slice.begin() + run.offset, size);
    to += size;
    run.size -= size;
    run.offset = 0;
  }
}

// `slices` are those of `buffer`.
Payload TakePayload(const grpc::ByteBuffer& buffer, const std::vector<grpc::Slice>& slices,
                    ByteRun run) {
  if (run.size == 0) return Payload();
  size_t begin = 0;
  for (const grpc::Slice& slice : slices) {
    const bool within = run.offset >= begin && run.offset + run.size <= begin + slice.size();
    // The whole frame is kept for it, so a small part of one is not.
    if (within && run.size >= kSharedBytesMin && run.size >= buffer.Length() / 2) {
      const char* data = reinterpret_cast<const char*>(slice.begin());
      // Not the slice itself. Whoever releases it last may give memory back to the server's quota,
      // which wakes what waits for memory, and that crashes on a thread that gRPC (1.51) has not
      // prepared: ~Slice does not prepare it, ~ByteBuffer does.
      return Payload(std::make_shared<const grpc::ByteBuffer>(buffer),
                     absl::string_view(data + (run.offset - begin), run.size));
    }
    begin += slice.size();
  }
  // Not make_shared<char[]>: that would zero the buffer first.
  std::shared_ptr<char[]> joined(new char[run.size]);
  CopyRun(slices, run, joined.get());
  const absl::string_view bytes(joined.get(), run.size);
  return Payload(std::move(joined), bytes);
}

}  // namespace

grpc::ByteBuffer EncodeFrame(const google::protobuf::MessageLite& head,
                             absl::Span<const Payload> payload) {
  return EncodeFrame(absl::string_view(head.SerializeAsString()), payload);
}

grpc::ByteBuffer EncodeFrame(absl::string_view serialized_head,
                             absl::Span<const Payload> payload) {
  size_t payload_bytes = 0;
  for (const Payload& part : payload) payload_bytes += part.size();

  // The head, and the tag and length of the payload, as one slice.
  grpc::Slice front(serialized_head.size() +
                    (payload_bytes == 0
                         ? 0
                         : CodedOutputStream::VarintSize32(kPayloadTag) +
                               CodedOutputStream::VarintSize64(payload_bytes)));
  auto* to = const_cast<uint8_t*>(front.begin());
  if (!serialized_head.empty()) {
    std::memcpy(to, serialized_head.data(), serialized_head.size());
  }
  if (payload_bytes > 0) {
    to = CodedOutputStream::WriteVarint32ToArray(kPayloadTag,
                                                 to + serialized_head.size());
    CodedOutputStream::WriteVarint64ToArray(payload_bytes, to);
  }

  std::vector<grpc::Slice> slices;
  slices.reserve(payload.size() + 1);
  slices.push_back(std::move(front));
  for (const Payload& part : payload) {
    if (!part.empty()) slices.push_back(SliceOf(part));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

absl::Status DecodeFrame(const grpc::ByteBuffer& buffer, size_t bytes_max,
                         google::protobuf::MessageLite* head, Payload* payload) {
  head->Clear();
  *payload = Payload();
  if (!buffer.Valid() || buffer.Length() == 0) return absl::OkStatus();
  // A position in protobuf's reader is an int.
  if (buffer.Length() > bytes_max || buffer.Length() > INT32_MAX) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of ", buffer.Length(), " bytes is longer than the ",
                     bytes_max, " allowed; send smaller batches"));
  }
  Layout layout;
  std::vector<grpc::Slice> slices;
  if (!buffer.Dump(&slices).ok() || !FindPayload(buffer, &layout)) {
    return absl::InvalidArgumentError("malformed frame: not a protobuf message");
  }
  if (layout.fields > kFieldsMax) {
    return absl::InvalidArgumentError(
        absl::StrCat("a frame of more than ", kFieldsMax, " fields; send smaller batches"));
  }
  size_t head_bytes = 0;
  for (const ByteRun& run : layout.head) head_bytes += run.size;
  std::string head_text(head_bytes, '\0');
  size_t at = 0;
  for (const ByteRun& run : layout.head) {
    CopyRun(slices, run, head_text.data() + at);
    at += run.size;
  }
  if (!head->ParseFromString(head_text)) {
    return absl::InvalidArgumentError(
        absl::StrCat("malformed frame: not a ", head->GetTypeName()));
  }
  *payload = TakePayload(buffer, slices, layout.payload);
  return absl::OkStatus();
}

}  // namespace weir::wire
