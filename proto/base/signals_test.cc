#include "proto/base/signals.h"

#include <unistd.h>

#include "gtest/gtest.h"

namespace weir {
namespace {

TEST(SignalsTest, HangUpReloadsAndTermEnds) {
  const Signals signals;
  for (const int last : {SIGTERM, SIGINT}) {
    int reloads = 0;
    ::kill(::getpid(), SIGHUP);  // waits, since it is blocked
    const int got = signals.AwaitStop([&] {
      // The next one comes when this one has been taken.
      ::kill(::getpid(), ++reloads < 3 ? SIGHUP : last);
    });
    EXPECT_EQ(got, last);
    EXPECT_EQ(reloads, 3);
  }
}

}  // namespace
}  // namespace weir
