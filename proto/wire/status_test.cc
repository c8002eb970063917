#include "proto/wire/status.h"

#include <cerrno>
#include <string>

#include "absl/status/status.h"
#include "grpcpp/support/status.h"
#include "gtest/gtest.h"
#include "proto/base/errno.h"

namespace weir::wire {
namespace {

TEST(StatusTest, EveryErrnoSurvivesTheRoundTripWithItsCode) {
  for (int error = 1; error < 134; ++error) {
    const absl::Status sent = ErrnoToStatus(error, "what happened");
    const absl::Status received = FromGrpc(ToGrpc(sent));
    EXPECT_EQ(StatusToErrno(received), error);
    EXPECT_EQ(received.code(), sent.code()) << error;
    EXPECT_EQ(received.message(), "what happened");
  }
}

TEST(StatusTest, EveryCodeSurvivesTheRoundTripWithItsErrno) {
  for (int code = 1; code <= 16; ++code) {
    const absl::Status sent(static_cast<absl::StatusCode>(code), "m");
    const absl::Status received = FromGrpc(ToGrpc(sent));
    EXPECT_EQ(received.code(), sent.code());
    EXPECT_EQ(StatusToErrno(received), StatusToErrno(sent)) << code;
  }
  EXPECT_TRUE(FromGrpc(ToGrpc(absl::OkStatus())).ok());
}

TEST(StatusTest, ForeignOrDamagedDetailsAreIgnored) {
  for (const std::string& details : {std::string("\xff\xff"), std::string("\x1a\x05hello"),
                                     std::string(1000, '\x1a')}) {
    const absl::Status status = FromGrpc(grpc::Status(grpc::StatusCode::DATA_LOSS, "m", details));
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss);
    EXPECT_EQ(StatusToErrno(status), EIO);
  }
}

TEST(StatusTest, LongMessagesAreCutToFitAHeader) {
  const grpc::Status status = ToGrpc(absl::InternalError(std::string(100000, 'x')));
  EXPECT_LE(status.error_message().size(), 2048u);
}

}  // namespace
}  // namespace weir::wire
