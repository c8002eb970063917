#include "volume/host/clone_codec.h"

#include <cerrno>

#include "gtest/gtest.h"
#include "proto/base/crc32c.h"
#include "proto/base/position.h"

namespace weir::host {
namespace {

using engine::RequestKind;

v1::IoReply ReadReply(const std::string& data) {
  v1::IoReply reply;
  reply.set_payload_blocks(static_cast<uint32_t>(data.size() / kBlockBytes));
  for (uint32_t crc : BlockChecksums(data)) reply.add_crc32c(crc);
  return reply;
}

TEST(CodecTest, DigestsAreRefusedUnlessTheyCoverAPartOfWhatWasAskedInOrder) {
  const BlockRange asked{8, 8};
  v1::GetDigestsResponse good;
  good.set_next_block(12);
  for (uint64_t block : {8, 10}) {
    v1::BlockDigest* digest = good.add_blocks();
    digest->set_block(block);
    digest->set_kind(v1::BlockDigest::DATA);
    digest->set_position(Position(3, block).bits());
    digest->set_crc32c(7);
  }
  const auto decoded = DecodeDigests(good, asked);
  ASSERT_TRUE(decoded.ok()) << decoded.status();
  EXPECT_EQ(decoded->next_block, 12u);
  ASSERT_EQ(decoded->blocks.size(), 2u);
  EXPECT_EQ(decoded->blocks[1],
            (BlockDigest{10, BlockDigest::Kind::kData, Position(3, 10), 7}));
  for (auto spoil : {+[](v1::GetDigestsResponse& r) { r.set_next_block(8); },
                     +[](v1::GetDigestsResponse& r) { r.set_next_block(17); },
                     +[](v1::GetDigestsResponse& r) { r.set_next_block(10); },
                     +[](v1::GetDigestsResponse& r) { r.mutable_blocks(0)->set_block(7); },
                     +[](v1::GetDigestsResponse& r) { r.mutable_blocks(1)->set_block(8); },
                     +[](v1::GetDigestsResponse& r) { r.mutable_blocks(1)->clear_kind(); }}) {
    v1::GetDigestsResponse bad = good;
    spoil(bad);
    EXPECT_TRUE(absl::IsInvalidArgument(DecodeDigests(bad, asked).status()));
  }
}

TEST(CloneCodecTest, AReadIsAcceptedOnlyWithMatchingChecksums) {
  const std::string data(2 * kBlockBytes, 'd');
  v1::IoReply reply = ReadReply(data);
  auto good = DecodeReply(reply, RequestKind::kRead, 2, Payload::CopyOf(data));
  ASSERT_TRUE(good.ok());
  EXPECT_TRUE(good->result.ok());
  EXPECT_EQ(good->data.size(), data.size());
  reply.set_crc32c(1, reply.crc32c(1) ^ 1);
  auto bad = DecodeReply(reply, RequestKind::kRead, 2, Payload::CopyOf(data));
  ASSERT_TRUE(bad.ok());
  EXPECT_EQ(bad->result.error(), EBADMSG);
  EXPECT_TRUE(bad->data.empty());
}

TEST(CloneCodecTest, RepliesThatDoNotFitTheirCloneAreRefused) {
  const std::string data(kBlockBytes, 'd');
  const v1::IoReply one = ReadReply(data);
  EXPECT_FALSE(
      DecodeReply(one, RequestKind::kRead, 2, Payload::CopyOf(data)).ok());
  v1::IoReply no_crc = one;
  no_crc.clear_crc32c();
  EXPECT_FALSE(
      DecodeReply(no_crc, RequestKind::kRead, 1, Payload::CopyOf(data)).ok());
  v1::IoReply zeroes = one;
  zeroes.set_zeroes(true);
  EXPECT_FALSE(
      DecodeReply(zeroes, RequestKind::kRead, 1, Payload::CopyOf(data)).ok());
  v1::IoReply negative;
  negative.set_error(-5);
  EXPECT_FALSE(DecodeReply(negative, RequestKind::kWrite, 1, {}).ok());
  v1::IoReply extents;
  extents.add_extents()->set_block_count(3);
  EXPECT_FALSE(DecodeReply(extents, RequestKind::kExtents, 2, {}).ok());
  EXPECT_FALSE(DecodeReply(extents, RequestKind::kExtents, 4, {}).ok());
  EXPECT_TRUE(DecodeReply(extents, RequestKind::kExtents, 3, {}).ok());
  extents.add_extents()->set_block_count(~uint64_t{0});
  EXPECT_FALSE(DecodeReply(extents, RequestKind::kExtents, 3, {}).ok());
}

TEST(CloneCodecTest, RepliesShareTheFramesPayloadAndUnknownOnesOnlyTakeTheirPart) {
  const std::string data = std::string(kBlockBytes, 'a') + std::string(kBlockBytes, 'b');
  v1::IoReplyFrame frame;
  *frame.add_replies() = ReadReply(data.substr(0, kBlockBytes));
  *frame.add_replies() = ReadReply(data.substr(kBlockBytes));
  frame.mutable_replies(1)->set_id(1);
  const auto only_second = [](const v1::IoReply& reply) -> std::optional<AskedFor> {
    if (reply.id() != 1) return std::nullopt;
    return AskedFor{RequestKind::kRead, 1};
  };
  const auto replies = DecodeReplies(frame, Payload::CopyOf(data), only_second);
  ASSERT_TRUE(replies.ok());
  ASSERT_EQ(replies->size(), 1u);
  EXPECT_EQ((*replies)[0].second.data.bytes(), data.substr(kBlockBytes));
  EXPECT_FALSE(DecodeReplies(frame, Payload::CopyOf(data.substr(kBlockBytes)), only_second).ok());
  frame.mutable_replies(0)->set_payload_blocks(~0u);
  EXPECT_FALSE(DecodeReplies(frame, Payload::CopyOf(data), only_second).ok());
}

TEST(CloneCodecTest, RunsOutsideOfTheVolumeAreRefused) {
  v1::GetChangesResponse changes;
  v1::BlockRun* run = changes.add_changes();
  const auto decoded = [&](uint64_t first, uint64_t count) {
    run->set_first_block(first);
    run->set_block_count(count);
    return DecodeRuns(changes.changes(), 64);
  };
  EXPECT_EQ(*decoded(60, 4), (std::vector<BlockRange>{{60, 4}}));
  EXPECT_FALSE(decoded(60, 5).ok());
  EXPECT_FALSE(decoded(64, 0).ok());
  EXPECT_FALSE(decoded(1, ~uint64_t{0}).ok()) << "its end is before its beginning";
}

TEST(CloneCodecTest, AHelloMustHaveEveryLaneInADomainThatExists) {
  v1::HelloReply hello;
  hello.set_num_flush_requests(2);
  for (uint32_t i = 0; i < 4; ++i) {
    v1::LaneState* lane = hello.add_lanes();
    lane->set_lane(i);
    lane->set_domain(i % 2);
    lane->set_position(Position(3, i).bits());
  }
  auto decoded = DecodeHello(hello, 4);
  ASSERT_TRUE(decoded.ok());
  EXPECT_EQ(decoded->lanes[2].position, Position(3, 2));
  EXPECT_FALSE(decoded->space_exhausted);
  hello.set_space_exhausted(true);
  EXPECT_TRUE(DecodeHello(hello, 4)->space_exhausted);
  EXPECT_FALSE(DecodeHello(hello, 5).ok());
  hello.mutable_lanes(1)->set_domain(2);
  EXPECT_FALSE(DecodeHello(hello, 4).ok());
  hello.mutable_lanes(1)->set_domain(1);
  hello.mutable_lanes(1)->set_lane(0);
  EXPECT_FALSE(DecodeHello(hello, 4).ok());
  hello.mutable_lanes(1)->set_lane(1);
  hello.set_num_flush_requests(0);
  EXPECT_FALSE(DecodeHello(hello, 4).ok());
}

}  // namespace
}  // namespace weir::host
