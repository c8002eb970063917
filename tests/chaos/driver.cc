// The clients of a chaos run: threads that read and write one volume through NBD and gRPC, and judge
// all that they are answered by the contract. ops/chaos starts it and causes the faults.
//
// On stdin, a line each: "use NAME", which frontend new connections go to; "verify" reads the whole
// volume once more; "full" and "space": a write may fail with ENOSPC, or may not; "finish" ends the run,
// as does the end of the input. On stdout, a line each:
// "counts KEY=N ..." every half second; "error ...", "violation ...", "verified", "finished".
// Exit code 0: no violation; errors are for the caller to judge.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <iostream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/string_view.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/mutex.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "tests/chaos/block_client.h"
#include "tests/chaos/history.h"
#include "tests/chaos/worker.h"

namespace weir::chaos {
namespace {

constexpr absl::Duration kReportEvery = absl::Milliseconds(500);
constexpr uint64_t kVerifyBlocks = 256;  // a read
constexpr int kVerifiers = 4;            // so that reads spread over the members

struct Flags {
  std::vector<Frontend> frontends;
  uint64_t seed = 1;
  uint64_t blocks = 0;
  int nbd_clients = 4;
  int grpc_clients = 4;
  double requests_per_second = 400;
};

long Milliseconds(History::Clock::duration duration) {
  return std::chrono::duration_cast<std::chrono::milliseconds>(duration).count();
}

class Driver {
 public:
  explicit Driver(const Flags& flags)
      : flags_(flags), directory_(flags.frontends), history_(flags.blocks) {}

  int Run() {
    std::thread reporter([this] { Report(); });
    StartWorkers();
    for (std::string line; std::getline(std::cin, line) && line != "finish";) {
      absl::string_view command = line;
      if (line == "verify") {
        Verify();
      } else if (line == "full" || line == "space") {
        history_.LackOfSpace(line == "full");
      } else if (!absl::ConsumePrefix(&command, "use ") || !directory_.Use(std::string(command))) {
        Say(absl::StrCat("unknown ", line));
      }
    }
    stop_.Notify();
    workers_.clear();
    Verify();
    finished_.Notify();
    reporter.join();
    Say("finished");
    return history_.violated() ? 1 : 0;
  }

 private:
  // Each frontend has workers of its own: those of one that is frozen hang until it goes on.
  void StartWorkers() {
    const int clients = flags_.nbd_clients + flags_.grpc_clients;
    for (const Frontend& frontend : directory_.all()) {
      for (int i = 0; i < clients; ++i) {
        Worker::Options options;
        options.frontend = frontend;
        options.connect = i < flags_.nbd_clients ? ConnectNbd : ConnectGrpc;
        options.seed = flags_.seed * 1000 + workers_.size();
        options.blocks = flags_.blocks;
        options.pause = absl::Seconds(clients / flags_.requests_per_second);
        workers_.push_back(
            std::make_unique<Worker>(std::move(options), directory_, history_, stop_));
      }
    }
  }

  // Every block is read, beside the workers if they still run.
  void Verify() {
    std::vector<std::thread> threads;
    for (int i = 0; i < kVerifiers; ++i) {
      threads.emplace_back([this, i] {
        std::unique_ptr<BlockClient> client;
        for (uint64_t first = i * kVerifyBlocks; first < flags_.blocks;) {
          if (client == nullptr) {
            auto connected = ConnectGrpc(directory_.current());
            if (!connected.ok()) continue;  // it has waited for an answer
            client = *std::move(connected);
            history_.Activated(client->epoch());
          }
          const Request read{
              Kind::kRead, {first, std::min(kVerifyBlocks, flags_.blocks - first)}, false};
          if (DoRecorded(read, *client, history_)) {
            first += kVerifiers * kVerifyBlocks;
          } else {
            client.reset();
          }
        }
      });
    }
    for (std::thread& thread : threads) thread.join();
    Say("verified");
  }

  void Report() {
    bool last = false;
    while (!last) {
      last = finished_.WaitForNotificationWithTimeout(kReportEvery);
      const History::Counts now = history_.TakeCounts();
      Say(absl::StrCat("counts answered=", now.answered, " reads=", now.reads, " writes=",
                       now.writes, " flushes=", now.flushes, " errors=", now.errors,
                       " refused=", now.refused, " no_space=", now.no_space, " unanswered=", now.unanswered,
                       " waiting=", now.waiting, " stale=", now.stale, " epoch=", now.epoch,
                       " first_ms=", Milliseconds(now.first.time_since_epoch()),
                       " longest_ms=", Milliseconds(now.longest),
                       " oldest_ms=", Milliseconds(now.oldest)));
      for (std::string news = history_.NextNews(); !news.empty(); news = history_.NextNews()) {
        Say(news);
      }
    }
  }

  void Say(const std::string& line) {
    absl::MutexLock lock(&say_mutex_);
    std::cout << line << std::endl;
  }

  const Flags flags_;
  Directory directory_;
  History history_;
  absl::Notification stop_;      // the workers
  absl::Notification finished_;  // the reporter
  absl::Mutex say_mutex_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app("Reads and writes one volume through NBD and gRPC, and judges the answers");
  std::vector<std::string> frontends;
  std::string volume;
  app.add_option("--frontend", frontends,
                 "NAME,HOST:PORT,NBD_URI of a frontend; the first is used first")
      ->required();
  app.add_option("--volume", volume, "its name; all of it reads as zeros")->required();
  app.add_option("--blocks", flags.blocks, "its size in blocks of 4096 bytes")->required();
  app.add_option("--seed", flags.seed, "of what is read and written")->capture_default_str();
  app.add_option("--nbd-clients", flags.nbd_clients, "threads")->capture_default_str();
  app.add_option("--grpc-clients", flags.grpc_clients, "threads")->capture_default_str();
  app.add_option("--rate", flags.requests_per_second, "requests a second of all, at most")
      ->capture_default_str();
  TlsFiles tls;
  app.add_option("--tls_cert", tls.cert, "PEM file");
  app.add_option("--tls_key", tls.key, "PEM file");
  app.add_option("--tls_ca", tls.ca, "PEM file; none of the three: no TLS");
  CLI11_PARSE(app, argc, argv);
  for (const std::string& text : frontends) {
    const std::vector<std::string> parts = absl::StrSplit(text, absl::MaxSplits(',', 2));
    if (parts.size() != 3) {
      std::cerr << "--frontend=" << text << " is not NAME,HOST:PORT,NBD_URI" << std::endl;
      return 2;
    }
    flags.frontends.push_back({parts[0], parts[1], parts[2], volume, tls});
  }
  return Driver(flags).Run();
}

}  // namespace
}  // namespace weir::chaos

int main(int argc, char** argv) { return weir::chaos::Main(argc, argv); }
