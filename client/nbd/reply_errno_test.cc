#include "client/nbd/reply_errno.h"

#include <cerrno>
#include <cstring>
#include <string>

#include "gtest/gtest.h"

namespace weir::nbd {
namespace {

// As nbdkit sends it: magic, error, cookie.
std::string SimpleReply(unsigned char error) {
  std::string reply("\x67\x44\x66\x98\0\0\0\0cookie!!", kSimpleReplyBytes);
  reply[7] = static_cast<char>(error);
  return reply;
}

class CorrectReplyTest : public testing::Test {
 protected:
  ~CorrectReplyTest() override { NoteReplyError(0); }

  bool Correct(const std::string& bytes) {
    return CorrectReply(bytes.data(), bytes.size(), corrected_);
  }

  unsigned char corrected_[kSimpleReplyBytes] = {};
};

TEST_F(CorrectReplyTest, NotSupportedReplacesEinvalInTheReplyThatFollows) {
  NoteReplyError(EOPNOTSUPP);
  ASSERT_TRUE(Correct(SimpleReply(EINVAL)));
  EXPECT_EQ(std::memcmp(corrected_, SimpleReply(95).data(), kSimpleReplyBytes), 0);
}

TEST_F(CorrectReplyTest, IsUsedUpByOneReply) {
  NoteReplyError(EOPNOTSUPP);
  EXPECT_TRUE(Correct(SimpleReply(EINVAL)));
  EXPECT_FALSE(Correct(SimpleReply(EINVAL)));
}

TEST_F(CorrectReplyTest, LeavesOtherErrorsAndTrafficAlone) {
  EXPECT_FALSE(Correct(SimpleReply(EINVAL)));
  NoteReplyError(EIO);
  EXPECT_FALSE(Correct(SimpleReply(EINVAL)));
  NoteReplyError(EOPNOTSUPP);
  EXPECT_FALSE(Correct(std::string(kSimpleReplyBytes, 'x')));
  EXPECT_FALSE(Correct(SimpleReply(EINVAL) + "more"));
  EXPECT_TRUE(Correct(SimpleReply(EINVAL)));
}

TEST_F(CorrectReplyTest, ASuccessThatFollowsANoteClearsIt) {
  NoteReplyError(EOPNOTSUPP);
  EXPECT_FALSE(Correct(SimpleReply(0)));
  EXPECT_FALSE(Correct(SimpleReply(EINVAL)));
}

struct ClientErrorCase {
  int error;
  int at_client;
};

class ErrorForClientTest : public testing::TestWithParam<ClientErrorCase> {};

TEST_P(ErrorForClientTest, IsOneThatNbdKnows) {
  EXPECT_EQ(ErrorForClient(GetParam().error), GetParam().at_client);
}

INSTANTIATE_TEST_SUITE_P(Cases, ErrorForClientTest,
                         testing::Values(ClientErrorCase{EIO, EIO},
                                         ClientErrorCase{EINVAL, EINVAL},
                                         ClientErrorCase{ENOSPC, ENOSPC},
                                         ClientErrorCase{EOPNOTSUPP, EOPNOTSUPP},
                                         ClientErrorCase{ESTALE, ESHUTDOWN},
                                         ClientErrorCase{ETIMEDOUT, EIO},
                                         ClientErrorCase{EBADMSG, EIO},
                                         ClientErrorCase{EAGAIN, EIO}));

}  // namespace
}  // namespace weir::nbd
