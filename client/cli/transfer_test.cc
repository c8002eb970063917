#include "client/cli/transfer.h"

#include <sstream>

#include "client/cli/progress.h"
#include "client/cli/sha256.h"
#include "client/weir/fake_frontend.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::HasSubstr;

class TransferTest : public ::testing::Test {
 protected:
  TransferTest() {
    auto client = Client::Connect(frontend_.address());
    volume_ = *(*client)->OpenVolume("demo");
  }

  FakeFrontend frontend_;
  std::unique_ptr<Volume> volume_;
  std::ostringstream err_;
};

TEST_F(TransferTest, WritesAStreamAndReadsItBackInOrder) {
  std::string bytes;
  for (int i = 0; i < 60; ++i) bytes += std::string(4096, static_cast<char>(i));
  std::istringstream in(bytes);
  auto written = WriteAll(*volume_, 4096, false, StreamSource(in, 0), err_);
  ASSERT_TRUE(written.ok()) << written.status();
  EXPECT_EQ(*written, bytes.size());
  std::string back;
  ASSERT_TRUE(ReadAll(*volume_, 4096, bytes.size(), err_, [&](const std::string& data) {
                back += data;
                return absl::OkStatus();
              }).ok());
  EXPECT_TRUE(back == bytes);
}

TEST_F(TransferTest, TakesOnlyAsMuchOfAStreamAsAsked) {
  std::istringstream in(std::string(16384, 'x'));
  EXPECT_EQ(*WriteAll(*volume_, 0, true, StreamSource(in, 8192), err_), 8192u);
  EXPECT_TRUE(frontend_.requests()[0].fua());
}

TEST_F(TransferTest, RefusesInputThatDoesNotFillItsBlocks) {
  std::istringstream short_in(std::string(5000, 'x'));
  EXPECT_THAT(
      std::string(WriteAll(*volume_, 0, false, StreamSource(short_in, 0), err_).status().message()),
      HasSubstr("truncate -s %4096"));
  std::istringstream empty;
  EXPECT_EQ(WriteAll(*volume_, 0, false, StreamSource(empty, 0), err_).status().code(),
            absl::StatusCode::kInvalidArgument);
  std::istringstream in(std::string(4096, 'x'));
  EXPECT_THAT(
      std::string(WriteAll(*volume_, 0, false, StreamSource(in, 8192), err_).status().message()),
      HasSubstr("ends after 4096 bytes"));
}

TEST_F(TransferTest, TheFirstErrorEndsIt) {
  frontend_.Script({FakeFrontend::Act::kFail});
  EXPECT_EQ(WriteAll(*volume_, 0, false, PatternSource('x', 65536), err_).status().message(),
            "replica1 failed");
  frontend_.Script({FakeFrontend::Act::kFail});
  EXPECT_FALSE(
      ReadAll(*volume_, 0, 65536, err_, [](const std::string&) { return absl::OkStatus(); }).ok());
  EXPECT_EQ(ReadAll(*volume_, 0, 65536, err_,
                    [](const std::string&) { return absl::ResourceExhaustedError("disk full"); })
                .message(),
            "disk full");
}

TEST(ProgressTest, SaysHowMuchAndHowFast) {
  EXPECT_EQ(ProgressLine("read", 64 << 20, 1 << 30, absl::Seconds(2)),
            "read: 64MiB of 1GiB (6%), 32MiB/s");
  EXPECT_EQ(ProgressLine("write", 64 << 20, 0, absl::ZeroDuration()), "write: 64MiB");
  std::ostringstream err;
  Progress quiet(err, "read", 10);
  quiet.Add(5);
  EXPECT_EQ(err.str(), "");
  Progress loud(err, "read", 10, absl::ZeroDuration());
  loud.Add(5);
  EXPECT_THAT(err.str(), HasSubstr("read: 5B of 10B (50%)"));
}

TEST(Sha256Test, IsWhatSha256sumSays) {
  Sha256 sum;
  sum.Add("a");
  sum.Add("bc");
  EXPECT_EQ(sum.Hex(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace weir::cli
