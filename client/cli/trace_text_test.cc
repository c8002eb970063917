#include "client/cli/trace_text.h"

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "weir/v1/volume.pb.h"

namespace weir::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

TEST(TimeTextTest, ChoosesAUnitThatCanBeRead) {
  EXPECT_EQ(TimeText(0), "0us");
  EXPECT_EQ(TimeText(999), "999us");
  EXPECT_EQ(TimeText(1250), "1.25ms");
  EXPECT_EQ(TimeText(3'410'000), "3.41s");
}

TEST(TraceTextTest, ATraceOfNothingSaysSo) {
  v1::TraceResponse trace;
  trace.set_traced_ms(10'000);
  EXPECT_EQ(TraceText("demo", trace), "demo: traced for 10.00s: no request was answered\n");
  trace.set_unanswered(2);
  EXPECT_THAT(TraceText("demo", trace), HasSubstr("2 sampled requests without an answer yet"));
}

TEST(TraceTextTest, SaysWhereTheTimeWentByKindByReplicaAndOneByOne) {
  v1::TraceResponse trace;
  trace.set_traced_ms(2000);
  v1::TracedKind* kind = trace.add_kinds();
  kind->set_kind("write");
  kind->set_requests(500);
  kind->set_sampled(400);
  kind->mutable_total()->set_median_us(210);
  kind->mutable_total()->set_p99_us(1500);
  v1::TracedReplica* replica = kind->add_by_replica();
  replica->set_replica("replica2");
  replica->set_clones(400);
  replica->mutable_store()->set_p99_us(1200);
  v1::TracedRequest* slow = trace.add_slowest();
  slow->set_kind("write");
  slow->set_offset_bytes(8192);
  slow->set_length_bytes(4096);
  slow->set_total_us(1'200'000);
  v1::TracedClone* clone = slow->add_clones();
  clone->set_replica("replica2");
  clone->set_answered(true);
  clone->set_store_us(1200);
  slow->add_clones()->set_replica("replica3");
  const std::string text = TraceText("demo", trace);
  EXPECT_THAT(text, HasSubstr("write  500       400      210us/1.50ms"));
  EXPECT_THAT(text, HasSubstr("write  replica2  400     0us/0us  0us/1.20ms  0us/0us"));
  EXPECT_THAT(text, HasSubstr("write  8192    4KiB    -      0us    1.20s"));
  EXPECT_THAT(text, HasSubstr("replica2 send 0us, store 1.20ms, wire 0us; replica3 not answered"));
  EXPECT_THAT(text, Not(HasSubstr("without an answer")));
}

}  // namespace
}  // namespace weir::cli
