#include "proto/wire/frame.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "grpcpp/support/slice.h"
#include "gtest/gtest.h"
#include "proto/base/payload.h"
#include "weir/v1/replica.pb.h"

namespace weir::wire {
namespace {

constexpr size_t kBytesMax = 8 << 20;

std::string Flatten(const grpc::ByteBuffer& buffer) {
  std::vector<grpc::Slice> slices;
  EXPECT_TRUE(buffer.Dump(&slices).ok());
  std::string text;
  for (const grpc::Slice& slice : slices) {
    text.append(reinterpret_cast<const char*>(slice.begin()), slice.size());
  }
  return text;
}

// As received in slices of `slice_bytes`.
grpc::ByteBuffer Sliced(const std::string& text, size_t slice_bytes) {
  std::vector<grpc::Slice> slices;
  for (size_t at = 0; at < text.size(); at += slice_bytes) {
    slices.emplace_back(text.data() + at, std::min(slice_bytes, text.size() - at));
  }
  return grpc::ByteBuffer(slices.data(), slices.size());
}

std::string Str(absl::string_view text) { return std::string(text); }

v1::IoFrame SomeHead() {
  v1::IoFrame head;
  for (int i = 0; i < 3; ++i) {
    v1::Io* io = head.add_ios();
    io->set_id(i + 1);
    io->set_kind(v1::IO_KIND_WRITE);
    io->set_first_block(uint64_t{7} << i);
    io->set_block_count(1);
    io->set_position(uint64_t{1} << 40 | i);
    io->add_crc32c(0xdeadbeef);
  }
  head.add_durable_points()->set_lane(3);
  return head;
}

TEST(FrameTest, IsTheOrdinaryMessageToAnyOtherClient) {
  const Payload first = Payload::CopyOf(std::string(4096, 'a'));
  const Payload small = Payload::CopyOf(std::string(100, 'b'));
  v1::IoFrame plain;
  ASSERT_TRUE(plain.ParseFromString(Flatten(EncodeFrame(SomeHead(), {first, small}))));
  EXPECT_EQ(plain.payload(), std::string(4096, 'a') + std::string(100, 'b'));
  EXPECT_EQ(plain.ios_size(), 3);
}

TEST(FrameTest, SharesPayloadSlicesInsteadOfCopying) {
  const Payload data = Payload::CopyOf(std::string(4096, 'x'));
  const grpc::ByteBuffer buffer = EncodeFrame(SomeHead(), {data});
  std::vector<grpc::Slice> slices;
  ASSERT_TRUE(buffer.Dump(&slices).ok());
  ASSERT_EQ(slices.size(), 2u);
  EXPECT_EQ(reinterpret_cast<const char*>(slices[1].begin()), data.bytes().data());
}

TEST(FrameTest, KeepsThePayloadAliveAfterTheBufferIsGone) {
  v1::IoFrame head;
  Payload payload;
  {
    const grpc::ByteBuffer buffer =
        Sliced(Flatten(EncodeFrame(SomeHead(), {Payload::CopyOf(std::string(8192, 'k'))})), 1 << 20);
    ASSERT_TRUE(DecodeFrame(buffer, kBytesMax, &head, &payload).ok());
  }
  EXPECT_EQ(Str(payload.bytes()), std::string(8192, 'k'));
}

TEST(FrameTest, RoundTripsInSlicesOfAnySize) {
  const std::string data(10000, 'q');
  const std::string text = Flatten(EncodeFrame(SomeHead(), {Payload::CopyOf(data)}));
  for (size_t slice_bytes : {1, 2, 7, 100, 4096, 1 << 20}) {
    v1::IoFrame head;
    Payload payload;
    ASSERT_TRUE(DecodeFrame(Sliced(text, slice_bytes), kBytesMax, &head, &payload).ok());
    EXPECT_EQ(head.SerializeAsString(), SomeHead().SerializeAsString());
    EXPECT_EQ(Str(payload.bytes()), data) << slice_bytes;
  }
}

TEST(FrameTest, TakesThePayloadWhereverItStandsAndTheLastOfSeveral) {
  v1::IoFrame first, last;
  first.set_payload("first");
  last.set_payload("last");
  const std::string text = first.SerializeAsString() + SomeHead().SerializeAsString() +
                           last.SerializeAsString() + SomeHead().SerializeAsString();
  v1::IoFrame head;
  Payload payload;
  ASSERT_TRUE(DecodeFrame(Sliced(text, 11), kBytesMax, &head, &payload).ok());
  EXPECT_EQ(head.ios_size(), 6);
  EXPECT_TRUE(head.payload().empty());
  EXPECT_EQ(Str(payload.bytes()), "last");
}

TEST(FrameTest, AnEmptyMessageIsAnEmptyFrame) {
  v1::IoFrame head = SomeHead();
  Payload payload = Payload::CopyOf("old");
  ASSERT_TRUE(DecodeFrame(EncodeFrame(v1::IoFrame(), {}), kBytesMax, &head, &payload).ok());
  EXPECT_EQ(head.ios_size(), 0);
  EXPECT_TRUE(payload.empty());
  EXPECT_TRUE(DecodeFrame(grpc::ByteBuffer(), kBytesMax, &head, &payload).ok());
}

TEST(FrameTest, RefusesWhatIsTooLongAndSaysBothSizes) {
  const grpc::ByteBuffer buffer = EncodeFrame(SomeHead(), {Payload::CopyOf(std::string(5000, 'x'))});
  v1::IoFrame head;
  Payload payload;
  const absl::Status status = DecodeFrame(buffer, 4096, &head, &payload);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_NE(Str(status.message()).find("4096"), std::string::npos);
}

TEST(FrameTest, RefusesMoreFieldsThanAnybodySends) {
  v1::IoFrame full;
  for (size_t i = 0; i < kFieldsMax; ++i) full.add_ios();
  v1::IoFrame parsed;
  Payload payload;
  EXPECT_TRUE(DecodeFrame(Sliced(full.SerializeAsString(), 4096), kBytesMax, &parsed, &payload).ok());
  full.add_ios();
  EXPECT_TRUE(absl::IsInvalidArgument(
      DecodeFrame(Sliced(full.SerializeAsString(), 4096), kBytesMax, &parsed, &payload)));
}

TEST(FrameTest, RefusesLengthsThatReachPastTheEnd) {
  // Field 15, length-delimited, with ever larger lengths and no data.
  for (const std::string& length : {std::string("\x01"), std::string("\xff\x7f"),
                                    std::string("\xff\xff\xff\xff\x07"),
                                    std::string("\xff\xff\xff\xff\x0f"),
                                    std::string("\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01")}) {
    v1::IoFrame head;
    Payload payload;
    EXPECT_EQ(DecodeFrame(Sliced("\x7a" + length, 100), kBytesMax, &head, &payload).code(),
              absl::StatusCode::kInvalidArgument);
  }
}

// The plain parser is the judge: both take it or both refuse it, and agree.
void ExpectAgreesWithProtobuf(const std::string& text, size_t slice_bytes) {
  v1::IoFrame plain, head;
  Payload payload;
  const bool plain_ok = plain.ParseFromString(text);
  const absl::Status status = DecodeFrame(Sliced(text, slice_bytes), kBytesMax, &head, &payload);
  ASSERT_EQ(plain_ok, status.ok()) << status;
  if (!plain_ok) return;
  EXPECT_EQ(plain.payload(), Str(payload.bytes()));
  plain.clear_payload();
  EXPECT_EQ(plain.SerializeAsString(), head.SerializeAsString());
}

TEST(FrameTest, AgreesWithProtobufOnRandomlyDamagedFrames) {
  std::mt19937 random(20260102);
  v1::IoFrame in_front;
  in_front.set_payload(std::string(60, 'f'));
  const std::string base = in_front.SerializeAsString() +
                           Flatten(EncodeFrame(SomeHead(), {Payload::CopyOf(std::string(700, 'z'))}));
  for (int round = 0; round < 30000; ++round) {
    std::string text = base;
    const int edits = 1 + random() % 4;
    for (int edit = 0; edit < edits && !text.empty(); ++edit) {
      const size_t at = random() % text.size();
      switch (random() % 4) {
        case 0: text[at] = static_cast<char>(random()); break;
        case 1: text[at] ^= static_cast<char>(1 << random() % 8); break;
        case 2: text.resize(at); break;
        case 3: text.insert(at, 1 + random() % 5, static_cast<char>(random())); break;
      }
    }
    ExpectAgreesWithProtobuf(text, 1 + random() % 300);
    if (HasFatalFailure()) FAIL() << "round " << round;
  }
}

}  // namespace
}  // namespace weir::wire
