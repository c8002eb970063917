#include "volume/host/attach_progress.h"

#include <thread>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "gmock/gmock.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;

v1::VolumeRecord Record(uint32_t epoch) {
  v1::VolumeRecord record;
  record.set_name("demo");
  record.set_id(7);
  record.set_epoch(epoch);
  for (const char* name : {"r1", "r2", "r3"}) {
    v1::Member* member = record.add_members();
    member->set_replica(name);
    member->set_address(absl::StrCat(name, ":1"));
    member->set_in_sync(true);
  }
  return record;
}

TEST(AttachProgressTest, NamesWhomItWaitsForWhatItAnsweredAndWhatToDo) {
  AttachProgress progress;
  progress.Begin(Record(4));
  for (uint32_t member = 0; member < 3; ++member) progress.Asked(member, "promise epoch 5", absl::Seconds(10));
  progress.Answered(0, absl::OkStatus());
  progress.Answered(1, absl::UnavailableError("replica r2 at r2:1: connection refused"));
  progress.Asked(1, "promise epoch 5", absl::Seconds(12));
  v1::ExplainResponse out;
  ASSERT_TRUE(progress.Explain(Record(5), absl::Seconds(13), &out));
  EXPECT_THAT(out.facts(),
              ElementsAre("replica r2 at r2:1 is waited for to promise epoch 5, since 3s; its last answer: connection refused",
                          "replica r3 at r3:1 is waited for to promise epoch 5, since 3s"));
  EXPECT_THAT(out.actions(), ElementsAre("start replica r2, or mend the network to r2:1",
                                         "start replica r3, or mend the network to r3:1"));
}

TEST(AttachProgressTest, OneOfWhomMoreIsAskedIsWaitedForUntilAllIsAnswered) {
  AttachProgress progress;
  progress.Begin(Record(4));
  for (int lane = 0; lane < 2; ++lane) progress.Asked(1, "take what it lacks from r1", absl::Seconds(10 + lane));
  for (const int facts : {1, 0}) {
    progress.Answered(1, absl::OkStatus());
    v1::ExplainResponse out;
    ASSERT_TRUE(progress.Explain(Record(4), absl::Seconds(15), &out));
    EXPECT_EQ(out.facts_size(), facts);
  }
}

TEST(AttachProgressTest, AFailedOneSaysWhyAndWhoRefusedUntilALaterAttach) {
  AttachProgress progress;
  progress.Begin(Record(4));
  progress.TookEpoch(5);
  progress.Asked(0, "promise epoch 5", absl::Seconds(10));
  progress.Answered(0, absl::OkStatus());
  progress.GivenUp(0, "lane 0: ends below the floor");
  progress.Failed(absl::DataLossError("replica r1 lane 0: ends below the floor"), absl::Seconds(20));
  v1::ExplainResponse out;
  ASSERT_TRUE(progress.Explain(Record(5), absl::Seconds(24), &out));
  EXPECT_THAT(out.facts(), ElementsAre("the last attach here failed 4s ago: replica r1 lane 0: ends below the floor",
                                       "replica r1 at r1:1 was given up: lane 0: ends below the floor"));
  EXPECT_THAT(out.actions(), ElementsAre(StartsWith("replica r1 at r1:1 runs and refuses")));
  // Another frontend has attached it since, or it is a new volume of the same name.
  v1::VolumeRecord other = Record(5);
  other.set_id(8);
  v1::ExplainResponse none;
  EXPECT_FALSE(progress.Explain(Record(6), absl::Seconds(24), &none));
  EXPECT_FALSE(progress.Explain(other, absl::Seconds(24), &none));
  EXPECT_TRUE(none.facts().empty());
}

TEST(ExplainAbsentTest, NamesMembersInSyncThatDoNotAnswerAndNoOthers) {
  v1::VolumeRecord record = Record(4);
  record.mutable_members(2)->set_in_sync(false);
  std::map<std::string, absl::Status> errors = {{"r2", absl::FailedPreconditionError("it is FAILED: a sync failed")},
                                                {"r3", absl::UnavailableError("connection refused")}};
  v1::ExplainResponse out;
  ExplainAbsent(record, errors, &out);
  EXPECT_THAT(out.facts(), ElementsAre("replica r2 at r2:1 is in sync, and refuses: it is FAILED: a sync failed"));
  EXPECT_THAT(out.next(), ElementsAre(HasSubstr("goes on without them if it may")));
  errors["r1"] = absl::UnavailableError("connection refused");
  out.Clear();
  ExplainAbsent(record, errors, &out);
  EXPECT_THAT(out.facts(), Contains("replica r1 at r1:1 is in sync, and does not answer: connection refused"));
  EXPECT_THAT(out.next(), ElementsAre(HasSubstr("an attach fails")));
  record.set_state(v1::VolumeRecord::DELETING);
  out.Clear();
  ExplainAbsent(record, errors, &out);
  EXPECT_THAT(out.facts(), Contains("replica r3 at r3:1 has a copy, and does not answer: connection refused"));
  EXPECT_THAT(out.next(), ElementsAre(HasSubstr("can be deleted once")));
}

class AttachExplainedTest : public HostFixture {
 protected:
  std::string Explained() {
    const absl::StatusOr<v1::ExplainResponse> explained = host_->Explain("demo");
    return explained.ok() ? explained->ShortDebugString() : explained.status().ToString();
  }
};

TEST_F(AttachExplainedTest, BeforeWhileAndAfterItFails) {
  HostOptions options = Options();
  options.attach_deadline = absl::Seconds(2);
  StartHost(options);
  ASSERT_TRUE(host_->CreateVolume(CreateRequest()).ok());
  for (auto& replica : replicas_) replica->Stop();
  EXPECT_THAT(Explained(), AllOf(HasSubstr("replica r1 at"), HasSubstr("replica r3 at"), HasSubstr("does not answer"),
                                 HasSubstr("an attach fails until one of these")));
  absl::Status status;
  std::thread attach([&] { status = host_->Attach("demo").status(); });
  std::string during;
  while (during.find("r2 at") == std::string::npos || during.find("promise epoch 1") == std::string::npos) during = Explained();
  attach.join();
  EXPECT_THAT(during, AllOf(HasSubstr("is being attached"), HasSubstr("start replica r2")));
  EXPECT_FALSE(status.ok());
  EXPECT_THAT(Explained(), AllOf(HasSubstr("the last attach here failed"), HasSubstr("start replica r1"),
                                 HasSubstr("start replica r3"), HasSubstr("its last answer: sealing it: ")));
  for (auto& replica : replicas_) replica->Start();
  Attach();
  EXPECT_THAT(Explained(), testing::Not(HasSubstr("the last attach")));
}

}  // namespace
}  // namespace weir::host
