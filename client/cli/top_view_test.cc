#include "client/cli/top_view.h"

#include "absl/strings/str_cat.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace weir::cli {
namespace {

using ::testing::ElementsAre;
using ::testing::Field;
using ::testing::IsEmpty;
using ::testing::SizeIs;

Scrape At(int seconds, std::string process, absl::string_view text) {
  absl::StatusOr<Metrics> metrics = ParseMetrics(text);
  EXPECT_TRUE(metrics.ok()) << metrics.status();
  return {std::move(process), absl::OkStatus(), *std::move(metrics), absl::Seconds(seconds)};
}

Scrape Silent(std::string process) { return {std::move(process), absl::UnavailableError("gone"), {}, {}}; }

// A frontend with one attached volume that has completed so many requests of each kind.
std::string FrontendText(const std::string& volume, int epoch, int count) {
  const std::string of = absl::StrCat("volume=\"", volume, "\"");
  std::string text = absl::StrCat("process_start_time_seconds 1\nweir_volume_epoch{", of, "} ", epoch, "\n",
                                  "weir_volume_state{state=\"active\",", of, "} 1\nweir_volume_state{state=\"fenced\",", of,
                                  "} 0\n");
  for (const char* kind : {"read", "write", "write_zeroes", "discard", "flush", "barrier"}) {
    const std::string labels = absl::StrCat("{kind=\"", kind, "\",", of);
    absl::StrAppend(&text, "weir_volume_requests_total", labels, "} ", count, "\n");
    absl::StrAppend(&text, "weir_volume_request_bytes_total", labels, "} ", count * 4096, "\n");
    absl::StrAppend(&text, "weir_volume_request_duration_seconds_bucket", labels, ",le=\"0.001\"} ", count / 2, "\n");
    absl::StrAppend(&text, "weir_volume_request_duration_seconds_bucket", labels, ",le=\"0.002\"} ", count, "\n");
    absl::StrAppend(&text, "weir_volume_request_duration_seconds_bucket", labels, ",le=\"+Inf\"} ", count, "\n");
  }
  return text;
}

std::string TargetText(const std::string& replica, bool in_sync, bool up, int left, int copied) {
  const std::string of = absl::StrCat("{replica=\"", replica, "\",volume=\"demo\"} ");
  return absl::StrCat("weir_volume_target_up", of, up ? 1 : 0, "\nweir_volume_target_in_sync", of, in_sync ? 1 : 0,
                      "\nweir_volume_target_inflight_clones", of, "3\nweir_volume_sessions_total", of,
                      "4\nweir_volume_join_left_bytes", of, left, "\nweir_volume_join_copied_bytes", of, copied,
                      "\nweir_volume_join_left_seconds", of, "0\n");
}

TEST(TopViewTest, FiguresOfAVolumeAreOfTheIntervalAndOfNow) {
  Look before, now;
  before.scrapes = {At(10, "volume", FrontendText("demo", 3, 1000))};
  now.scrapes = {At(12, "volume",
                    FrontendText("demo", 3, 1200) +
                        "weir_volume_inflight_requests{volume=\"demo\"} 32\n"
                        "weir_volume_queued_requests{volume=\"demo\"} 5\n"
                        "weir_volume_durable_point_age_seconds{volume=\"demo\"} 0.25\n"
                        "weir_volume_not_durable_bytes{volume=\"demo\"} 8192\n"
                        "weir_volume_held_requests{reason=\"barrier\",volume=\"demo\"} 0\n"
                        "weir_volume_held_requests{reason=\"catalog\",volume=\"demo\"} 1\n"
                        "weir_volume_held_requests{reason=\"too_few_members\",volume=\"demo\"} 12\n"
                        "weir_volume_request_errors_total{errno=\"EIO\",kind=\"write\",volume=\"demo\"} 4\n")};
  const TopView view = MakeTopView(&before, now, "");
  EXPECT_EQ(view.interval, absl::Seconds(2));
  ASSERT_THAT(view.volumes, SizeIs(1));
  const VolumeRow& row = view.volumes[0];
  EXPECT_EQ(row.name, "demo");
  EXPECT_EQ(row.frontend, "volume");
  EXPECT_EQ(row.state, "ACTIVE");
  EXPECT_EQ(row.epoch, 3);
  EXPECT_EQ(row.reads, 100);
  EXPECT_EQ(row.read_bytes, 100 * 4096);
  EXPECT_EQ(row.writes, 400);                  // write, write_zeroes, discard, barrier
  EXPECT_EQ(row.write_bytes, 2 * 100 * 4096);  // write and barrier
  EXPECT_NEAR(*row.write_p50, 0.001, 1e-9);
  EXPECT_NEAR(*row.write_p99, 0.00198, 1e-9);
  EXPECT_EQ(row.flushes, 100);
  EXPECT_NEAR(*row.flush_p99, 0.00198, 1e-9);
  EXPECT_EQ(row.errors, 2);
  EXPECT_EQ(row.inflight, 32);
  EXPECT_EQ(row.queued, 5);
  EXPECT_EQ(row.held, "catalog:1,too_few_members:12");
  EXPECT_EQ(row.durable_age, 0.25);
  EXPECT_EQ(row.not_durable, 8192);
}

TEST(TopViewTest, TheFirstLookHasNoRatesButWhatIsSoNow) {
  Look now;
  now.scrapes = {At(12, "volume", FrontendText("demo", 3, 1200))};
  const TopView view = MakeTopView(nullptr, now, "");
  ASSERT_THAT(view.volumes, SizeIs(1));
  EXPECT_EQ(view.interval, absl::ZeroDuration());
  EXPECT_EQ(view.volumes[0].epoch, 3);
  EXPECT_EQ(view.volumes[0].writes, std::nullopt);
  EXPECT_EQ(view.volumes[0].write_p99, std::nullopt);
  EXPECT_EQ(view.volumes[0].errors, std::nullopt);
}

TEST(TopViewTest, VolumesAreSortedByLoadAndNarrowedByName) {
  Look before, now;
  before.scrapes = {At(0, "f1", FrontendText("idle", 1, 5)), At(0, "f2", FrontendText("busy", 1, 5))};
  now.scrapes = {At(1, "f1", FrontendText("idle", 1, 6)), At(1, "f2", FrontendText("busy", 1, 500))};
  EXPECT_THAT(MakeTopView(&before, now, "").volumes,
              ElementsAre(Field(&VolumeRow::name, "busy"), Field(&VolumeRow::name, "idle")));
  const TopView one = MakeTopView(&before, now, "idle");
  EXPECT_THAT(one.volumes, ElementsAre(Field(&VolumeRow::name, "idle")));
  EXPECT_THAT(one.flushes, ElementsAre(Field(&FlushRow::volume, "idle")));
  EXPECT_THAT(MakeTopView(&before, now, "other").volumes, IsEmpty());
}

TEST(TopViewTest, AProcessThatDoesNotAnswerIsNamedAndTheOthersAreShown) {
  Look before, now;
  before.scrapes = {At(0, "replica1", "weir_replica_streams 1\n"), At(0, "volume", FrontendText("demo", 1, 0))};
  now.scrapes = {Silent("replica1"), At(1, "volume", FrontendText("demo", 1, 10))};
  now.frontends = {{"volume2 (gRPC)", "nobody listens"}};
  const TopView view = MakeTopView(&before, now, "");
  EXPECT_THAT(view.silent,
              ElementsAre(Field(&Look::Silent::process, "replica1"), Field(&Look::Silent::process, "volume2 (gRPC)")));
  EXPECT_EQ(view.silent[0].why, "gone");
  EXPECT_EQ(view.volumes[0].reads, 10);
  // It answers again: nothing is known of it in between.
  Look later;
  later.scrapes = {At(2, "replica1", "weir_replica_streams 1\nweir_replica_requests_total{op=\"write\"} 7\n"),
                   At(2, "volume", FrontendText("demo", 1, 20))};
  const TopView again = MakeTopView(&now, later, "");
  ASSERT_THAT(again.replicas, SizeIs(1));
  EXPECT_EQ(again.replicas[0].requests, std::nullopt);
  EXPECT_EQ(again.volumes[0].reads, 10);
}

TEST(TopViewTest, OfTwoFrontendsTheLaterOneHasAVolume) {
  Look now;
  now.scrapes = {At(0, "new", FrontendText("demo", 8, 0)), At(0, "old", FrontendText("demo", 7, 0))};
  EXPECT_THAT(MakeTopView(nullptr, now, "").volumes, ElementsAre(Field(&VolumeRow::frontend, "new")));
}

TEST(TopViewTest, AVolumeThatNobodyHasAttachedIsListed) {
  Look now;
  now.scrapes = {At(0, "volume", FrontendText("demo", 1, 0))};
  for (const char* state : {"ELSEWHERE", "DETACHED"}) {
    v1::Volume volume;
    volume.set_name(state == std::string("DETACHED") ? "spare" : "demo");
    volume.set_state(state);
    volume.set_epoch(2);
    now.volumes.push_back(volume);
  }
  const TopView view = MakeTopView(nullptr, now, "");
  ASSERT_THAT(view.volumes, SizeIs(2));
  EXPECT_EQ(view.volumes[0].state, "ACTIVE");  // as its frontend says
  EXPECT_EQ(view.volumes[1].name, "spare");
  EXPECT_EQ(view.volumes[1].state, "DETACHED");
  EXPECT_EQ(view.volumes[1].inflight, std::nullopt);
  EXPECT_THAT(view.flushes, SizeIs(1));
}

TEST(TopViewTest, TargetsAndResyncsComeFromMetricsAndTheListingSaysMore) {
  Look before, now;
  before.scrapes = {At(0, "volume", FrontendText("demo", 1, 0) + TargetText("r1", true, true, 0, 0) +
                                        TargetText("r2", false, true, 9000, 1000))};
  now.scrapes = {At(2, "volume",
                    FrontendText("demo", 1, 0) + TargetText("r1", true, true, 0, 0) +
                        TargetText("r2", false, true, 4000, 5000) +
                        "weir_volume_clone_duration_seconds_bucket{kind=\"write\",le=\"0.5\",replica=\"r1\",volume=\"demo\"} 10\n"
                        "weir_volume_clone_duration_seconds_bucket{kind=\"write\",le=\"+Inf\",replica=\"r1\",volume=\"demo\"} 10\n"
                        "weir_volume_target_errors_total{errno=\"EIO\",replica=\"r1\",volume=\"demo\"} 6\n")};
  TopView view = MakeTopView(&before, now, "");
  ASSERT_THAT(view.targets, SizeIs(2));
  EXPECT_EQ(view.targets[0].replica, "r1");
  EXPECT_EQ(view.targets[0].state, "in_sync");
  EXPECT_EQ(view.targets[0].health, "connected");
  EXPECT_EQ(view.targets[0].answers, 5);
  EXPECT_NEAR(*view.targets[0].p99, 0.495, 1e-9);
  EXPECT_EQ(view.targets[0].inflight, 3);
  EXPECT_EQ(view.targets[0].reconnects, 3);
  EXPECT_EQ(view.targets[0].errors, 3);
  EXPECT_EQ(view.targets[1].state, "not_in_sync");
  ASSERT_THAT(view.resyncs, SizeIs(1));
  EXPECT_EQ(view.resyncs[0].replica, "r2");
  EXPECT_EQ(view.resyncs[0].left, 4000);
  EXPECT_EQ(view.resyncs[0].rate, 2000);
  EXPECT_EQ(view.resyncs[0].seconds_left, 2);

  v1::Volume volume;
  volume.set_name("demo");
  volume.mutable_activity();
  v1::Target* target = volume.mutable_table()->add_targets();
  target->set_replica("r2");
  target->set_state("joining");
  target->set_health("reconnecting");
  now.volumes = {volume};
  view = MakeTopView(&before, now, "");
  EXPECT_EQ(view.targets[0].state, "in_sync");
  EXPECT_EQ(view.targets[1].state, "joining");
  EXPECT_EQ(view.targets[1].health, "reconnecting");
}

TEST(TopViewTest, FlushRunsAreCountedByHowTheyEnded) {
  const std::string text = FrontendText("demo", 1, 0);
  Look before, now;
  before.scrapes = {At(0, "volume", text)};
  now.scrapes = {At(1, "volume",
                    text + "weir_volume_flush_runs_total{purpose=\"client\",result=\"ok\",volume=\"demo\"} 10\n"
                           "weir_volume_flush_runs_total{purpose=\"barrier\",result=\"requeue\",volume=\"demo\"} 2\n"
                           "weir_volume_flush_runs_total{purpose=\"client\",result=\"error\",volume=\"demo\"} 3\n"
                           "weir_volume_flush_fan_out_clones_sum{volume=\"demo\"} 90\n"
                           "weir_volume_flush_fan_out_clones_count{volume=\"demo\"} 15\n"
                           "weir_volume_flushes_merged_total{volume=\"demo\"} 8\n"
                           "weir_volume_target_hidden_errors_total{replica=\"r1\",volume=\"demo\"} 1\n"
                           "weir_volume_target_hidden_errors_total{replica=\"r2\",volume=\"demo\"} 1\n")};
  const TopView view = MakeTopView(&before, now, "");
  ASSERT_THAT(view.flushes, SizeIs(1));
  EXPECT_EQ(view.flushes[0].runs, 15);
  EXPECT_EQ(view.flushes[0].failed, 3);
  EXPECT_EQ(view.flushes[0].clones, 6);
  EXPECT_EQ(view.flushes[0].merged, 8);
  EXPECT_EQ(view.flushes[0].hidden_errors, 2);
}

TEST(TopViewTest, AReplicaIsOneProcessWithAllItsDomains) {
  Look before, now;
  before.scrapes = {At(0, "replica1", "weir_replica_streams 1\n")};
  now.scrapes = {At(2, "replica1",
                    "weir_replica_streams 1\nweir_replica_store_failed 0\nweir_replica_space_exhausted 1\n"
                    "weir_replica_requests_total{op=\"write\"} 10\nweir_replica_requests_total{op=\"read\"} 2\n"
                    "weir_replica_sync_seconds_bucket{domain=\"0\",le=\"1\"} 4\n"
                    "weir_replica_sync_seconds_bucket{domain=\"0\",le=\"+Inf\"} 4\n"
                    "weir_replica_sync_seconds_count{domain=\"0\"} 4\n"
                    "weir_replica_rocksdb_slowdowns_total{domain=\"0\"} 1\n"
                    "weir_replica_rocksdb_stops_total{domain=\"1\"} 1\n"
                    "weir_replica_data_dir_available_bytes{dir=\"/a\"} 100\n"
                    "weir_replica_data_dir_available_bytes{dir=\"/b\"} 50\n"
                    "weir_replica_data_dir_capacity_bytes{dir=\"/a\"} 1000\n")};
  const TopView view = MakeTopView(&before, now, "");
  ASSERT_THAT(view.replicas, SizeIs(1));
  EXPECT_EQ(view.replicas[0].state, "full");
  EXPECT_EQ(view.replicas[0].requests, 6);
  EXPECT_EQ(view.replicas[0].syncs, 2);
  EXPECT_NEAR(*view.replicas[0].sync_p99, 0.99, 1e-9);
  EXPECT_EQ(view.replicas[0].stalls, 1);
  EXPECT_EQ(view.replicas[0].available, 150);
  EXPECT_EQ(view.replicas[0].capacity, 1000);
}

}  // namespace
}  // namespace weir::cli
