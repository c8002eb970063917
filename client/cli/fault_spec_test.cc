#include "client/cli/fault_spec.h"

#include <cerrno>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::HasSubstr;

struct Good {
  const char* op;
  const char* error;
  int want_error;
  bool want_drop;
  uint32_t want_delay_ms;
};

TEST(FaultSpecTest, ReadsEveryFaultAndPrintsItBack) {
  const Good kCases[] = {
      {"write", "EIO", EIO, false, 0},
      {"write", "ENOSPC", ENOSPC, false, 0},
      {"flush", "EOPNOTSUPP", EOPNOTSUPP, false, 0},
      {"flush", "REQUEUE", EAGAIN, false, 0},
      {"read", "DROP", 0, true, 0},
      {"read", "DELAY=250", 0, false, 250},
      {"flush", "EIO,DELAY=50", EIO, false, 50},
      {"file-write", "ENOSPC", ENOSPC, false, 0},
      {"file-sync", "EIO", EIO, false, 0},
  };
  for (const Good& c : kCases) {
    auto fault = ParseFault(c.op, c.error, std::nullopt, 3);
    ASSERT_TRUE(fault.ok()) << c.error << ": " << fault.status();
    EXPECT_EQ(fault->error(), c.want_error) << c.error;
    EXPECT_EQ(fault->drop(), c.want_drop) << c.error;
    EXPECT_EQ(fault->delay_ms(), c.want_delay_ms) << c.error;
    EXPECT_EQ(fault->count(), 3u);
    EXPECT_FALSE(fault->has_flush_nr());
    EXPECT_EQ(FaultOpText(*fault), c.op);
    EXPECT_EQ(FaultErrorText(*fault), c.error);
  }
}

TEST(FaultSpecTest, TakesAFlushDomain) {
  for (const char* op : {"flush", "file-write", "file-sync"}) {
    auto fault = ParseFault(op, "EIO", 0, 0);
    ASSERT_TRUE(fault.ok()) << fault.status();
    EXPECT_TRUE(fault->has_flush_nr());
    EXPECT_EQ(fault->flush_nr(), 0u);
  }
}

struct Bad {
  const char* op;
  const char* error;
  std::optional<uint32_t> flush_nr;
  const char* want;
};

TEST(FaultSpecTest, SaysWhatWouldBeRight) {
  const Bad kCases[] = {
      {"trim", "EIO", std::nullopt, "read, write, flush, file-write or file-sync"},
      {"file-sync", "DROP", std::nullopt, "can only fail"},
      {"file-sync", "EIO,DELAY=50", std::nullopt, "can only fail"},
      {"file-write", "REQUEUE", std::nullopt, "use EIO or ENOSPC"},
      {"write", "EPERM", std::nullopt, "use EIO, ENOSPC"},
      {"write", "eio", std::nullopt, "use EIO, ENOSPC"},
      {"write", "", std::nullopt, "use EIO, ENOSPC"},
      {"write", "DELAY=", std::nullopt, "milliseconds"},
      {"write", "DELAY=0", std::nullopt, "milliseconds"},
      {"write", "DELAY=-1", std::nullopt, "milliseconds"},
      {"write", "DELAY=3600001", std::nullopt, "milliseconds"},
      {"write", "DELAY=1,DELAY=2", std::nullopt, "once"},
      {"write", "EIO,ENOSPC", std::nullopt, "two results"},
      {"write", "DROP,EIO", std::nullopt, "two results"},
      {"write", "DROP,DELAY=5", std::nullopt, "leave out DELAY"},
      {"write", "EIO", 1, "--op=flush"},
  };
  for (const Bad& c : kCases) {
    auto fault = ParseFault(c.op, c.error, c.flush_nr, 0);
    ASSERT_FALSE(fault.ok()) << c.error;
    EXPECT_THAT(std::string(fault.status().message()), HasSubstr(c.want)) << c.error;
  }
}

}  // namespace
}  // namespace weir::cli
