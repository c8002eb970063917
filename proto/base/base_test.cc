#include <cerrno>
#include <filesystem>
#include <string>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "proto/base/crc32c.h"
#include "proto/base/errno.h"
#include "proto/base/payload.h"
#include "proto/base/position.h"
#include "proto/base/protocol.h"
#include "proto/base/size.h"
#include "proto/base/tls_files.h"

namespace weir {
namespace {

TEST(ErrnoTest, EveryErrnoSurvivesTheRoundTrip) {
  for (int error = 1; error < 133; ++error) {
    EXPECT_EQ(StatusToErrno(ErrnoToStatus(error, "x")), error);
    EXPECT_FALSE(ErrnoToStatus(error, "x").ok()) << error;
  }
  EXPECT_TRUE(ErrnoToStatus(0, "x").ok());
}

TEST(ErrnoTest, TheCodesThatTheProtocolNamesAreThose) {
  EXPECT_TRUE(absl::IsUnimplemented(ErrnoToStatus(EOPNOTSUPP, "")));
  EXPECT_TRUE(absl::IsUnavailable(ErrnoToStatus(EAGAIN, "")));
  EXPECT_TRUE(absl::IsDataLoss(ErrnoToStatus(EIO, "")));
  EXPECT_TRUE(absl::IsDataLoss(ErrnoToStatus(EUCLEAN, "")));
  EXPECT_TRUE(absl::IsFailedPrecondition(ErrnoToStatus(ESTALE, "")));
  EXPECT_EQ(StatusToErrno(absl::UnknownError("")), EIO);
  EXPECT_NE(StatusToErrno(absl::FailedPreconditionError("")), ESTALE);
  EXPECT_EQ(StatusToErrno(absl::UnimplementedError("")), EOPNOTSUPP);
}

TEST(ProtocolTest, OneVersionApartTalksAndTwoDoNot) {
  for (uint32_t theirs : {3u, 4u, 5u}) EXPECT_TRUE(CheckProtocol(4, theirs, "the replica").ok()) << theirs;
  const absl::Status older = CheckProtocol(4, 2, "the replica");
  EXPECT_EQ(older.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(older.message(), "the replica speaks version 2 of the protocol, this process version 4; they may be one apart: "
                             "upgrade the replica, one version at a time");
  const absl::Status newer = CheckProtocol(4, 6, "the replica");
  EXPECT_EQ(newer.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_TRUE(absl::EndsWith(newer.message(), "upgrade this one, one version at a time")) << newer;
  EXPECT_FALSE(CheckProtocol(1, UINT32_MAX, "the replica").ok());
}

TEST(ProtocolTest, WhoDoesNotTellIsOfTheFirstVersion) {
  EXPECT_TRUE(CheckProtocol(1, 0, "the frontend").ok());
  EXPECT_TRUE(CheckProtocol(2, 0, "the frontend").ok());
  EXPECT_FALSE(CheckProtocol(3, 0, "the frontend").ok());
  EXPECT_TRUE(CheckProtocol(0, "the frontend").ok());
  EXPECT_TRUE(CheckProtocol(kProtocol + 1, "the frontend").ok());
  EXPECT_FALSE(CheckProtocol(kProtocol + 2, "the frontend").ok());
}

TEST(Crc32cTest, GivesTheStandardCheckValue) {
  EXPECT_EQ(Crc32c("123456789"), 0xe3069283u);
  EXPECT_EQ(Crc32c(""), 0u);
}

TEST(Crc32cTest, FindsTheFirstBadBlock) {
  std::string data(3 * kBlockBytes, 'a');
  std::vector<uint32_t> crcs = BlockChecksums(data);
  EXPECT_EQ(FirstBadBlock(data, crcs), -1);
  data[kBlockBytes + 7] ^= 1;
  EXPECT_EQ(FirstBadBlock(data, crcs), 1);
}

TEST(PositionTest, ComparesWithinAndAcrossEpochsAsNumbers) {
  EXPECT_LT(Position(1, 5), Position(1, 6));
  EXPECT_LT(Position(1, Position::kNMax), Position(2, 0));
  EXPECT_EQ(Position(3, 4).Next(), Position(3, 5));
  EXPECT_EQ(Position(3, 4).epoch(), 3u);
  EXPECT_EQ(Position(3, 4).n(), 4u);
  EXPECT_EQ(Position(3, 4).ToString(), "3.4");
}

TEST(LaneGeometryTest, AStripeLiesWholeInOneLane) {
  LaneGeometry geometry{.lanes = 4, .stripe_blocks = 64};
  EXPECT_EQ(geometry.LaneOf(0), geometry.LaneOf(63));
  EXPECT_EQ(Index(geometry.LaneOf(64)), 1u);
  EXPECT_EQ(Index(geometry.LaneOf(256)), 0u);
}

TEST(PayloadTest, SlicesKeepTheBufferAlive) {
  Payload slice;
  {
    Payload whole = Payload::CopyOf("hello world");
    slice = whole.Slice(6, 5);
  }
  EXPECT_EQ(slice.bytes(), "world");
}

TEST(ParseSecondsTest, TakesWholeSecondsOnly) {
  EXPECT_EQ(*ParseSeconds("0"), 0u);
  EXPECT_EQ(*ParseSeconds("90s"), 90u);
  EXPECT_EQ(*ParseSeconds("1h30m"), 5400u);
  for (const char* bad : {"", "5", "1.5s", "10ms", "-1s", "inf", "2000000h", "soon"}) {
    EXPECT_FALSE(ParseSeconds(bad).ok()) << bad;
  }
}

TEST(SizeTest, ReadsAndWritesWhatPeopleWrite) {
  EXPECT_EQ(*ParseSize("4096"), 4096u);
  EXPECT_EQ(*ParseSize("1GiB"), 1u << 30);
  EXPECT_EQ(*ParseSize("64M"), 64u << 20);
  EXPECT_EQ(FormatSize(1u << 30), "1GiB");
  EXPECT_EQ(FormatSize((1u << 30) + (1u << 29)), "1.5GiB");
  for (const char* bad : {"", "x", "-1", "1GB", "GiB", "99999999TiB"}) {
    EXPECT_FALSE(ParseSize(bad).ok()) << bad;
  }
}

TEST(TlsFilesTest, AreFoundFromAnotherFolderToo) {
  const std::string here = std::filesystem::current_path().string();
  EXPECT_EQ(Absolute({"own.pem", "tls/own.key", "/etc/weir/ca.pem"}),
            (TlsFiles{here + "/own.pem", here + "/tls/own.key", "/etc/weir/ca.pem"}));
}

TEST(TlsFilesTest, ThatAreNotGivenStaySo) { EXPECT_FALSE(Absolute({}).given()); }

}  // namespace
}  // namespace weir
