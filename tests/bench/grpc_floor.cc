// What gRPC alone costs on this machine: three servers, each a process of its own, that answer
// every 4 KiB message with a few bytes and store nothing, and one client that sends each
// message to all three and waits for all three answers. A replicated write over gRPC cannot be
// faster. With --store each server puts the message into a RocksDB of its own first, without a
// sync and without anything of ours: gRPC and RocksDB alone. Prints one line of JSON; see ops/bench.
#include <signal.h>
#include <spawn.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/base/thread_annotations.h"
#include "absl/strings/str_cat.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "grpcpp/channel.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/generic/async_generic_service.h"
#include "grpcpp/generic/generic_stub.h"
#include "grpcpp/server.h"
#include "grpcpp/server_builder.h"
#include "grpcpp/support/byte_buffer.h"
#include "proto/base/check.h"
#include "proto/wire/transport.h"
#include "rocksdb/db.h"

namespace weir {
namespace {

constexpr int kServers = 3;
constexpr size_t kMessageBytes = 4096;
constexpr size_t kAnswerBytes = 16;

grpc::ByteBuffer BufferOf(size_t bytes) {
  const grpc::Slice slice(std::string(bytes, 'w'));
  return grpc::ByteBuffer(&slice, 1);
}

// One write at a time, as gRPC wants it; the others are counted.
class Turns {
 public:
  // True: write now.
  bool Take() {
    absl::MutexLock lock(&mutex_);
    if (writing_) ++waiting_;
    return !std::exchange(writing_, true);
  }
  // A write is done. True: write the next one now.
  bool Done() {
    absl::MutexLock lock(&mutex_);
    writing_ = waiting_ > 0;
    if (writing_) --waiting_;
    return writing_;
  }

 private:
  absl::Mutex mutex_;
  bool writing_ ABSL_GUARDED_BY(mutex_) = false;
  uint64_t waiting_ ABSL_GUARDED_BY(mutex_) = 0;
};

// --- a server ---

// As a replica's: data in blobs, a key for each version of a block.
class Database {
 public:
  explicit Database(const std::string& folder) {
    rocksdb::Options options;
    options.create_if_missing = true;
    options.enable_blob_files = true;
    options.min_blob_size = 1024;
    options.compression = rocksdb::kNoCompression;
    options.write_buffer_size = 16 << 20;
    rocksdb::DB* db = nullptr;
    CHECK(rocksdb::DB::Open(options, folder, &db).ok());
    db_.reset(db);
  }
  void Put(const grpc::ByteBuffer& message) {
    grpc::Slice slice;
    CHECK(message.DumpToSingleSlice(&slice).ok());
    const uint64_t number = next_++;
    const uint64_t key[] = {__builtin_bswap64(number * 7919 % kBlocks), __builtin_bswap64(number)};
    CHECK(db_->Put(rocksdb::WriteOptions(), {reinterpret_cast<const char*>(key), sizeof(key)},
                   {reinterpret_cast<const char*>(slice.begin()), slice.size()}).ok());
  }

 private:
  static constexpr uint64_t kBlocks = 1 << 16;
  std::unique_ptr<rocksdb::DB> db_;
  std::atomic<uint64_t> next_{0};
};

class Answering final : public grpc::ServerGenericBidiReactor {
 public:
  explicit Answering(Database* database) : database_(database) { StartRead(&received_); }
  void OnReadDone(bool ok) override {
    if (!ok) return Finish(grpc::Status::OK);
    if (database_ != nullptr) database_->Put(received_);
    if (turns_.Take()) StartWrite(&answer_);
    StartRead(&received_);
  }
  void OnWriteDone(bool ok) override {
    if (ok && turns_.Done()) StartWrite(&answer_);
  }
  void OnDone() override { delete this; }

 private:
  Database* const database_;  // null: nothing is stored
  const grpc::ByteBuffer answer_ = BufferOf(kAnswerBytes);
  grpc::ByteBuffer received_;
  Turns turns_;
};

class Service final : public grpc::CallbackGenericService {
 public:
  explicit Service(Database* database) : database_(database) {}
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext*) override {
    return new Answering(database_);
  }

 private:
  Database* const database_;
};

// Says its port on standard output, and ends with its parent. `store`: empty: none.
int Serve(const std::string& store) {
  CHECK_EQ(prctl(PR_SET_PDEATHSIG, SIGKILL), 0);
  const auto database = store.empty() ? nullptr : std::make_unique<Database>(store);
  Service service(database.get());
  grpc::ServerBuilder builder;
  wire::SetStreamTransport(&builder);
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterCallbackGenericService(&service);
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  CHECK(server != nullptr && port > 0);
  std::printf("%d\n", port);
  std::fflush(stdout);
  server->Wait();
  return 0;
}

// --- the client ---

class Stream final : public grpc::ClientBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  Stream(const std::string& address, std::function<void()> answered)
      : answered_(std::move(answered)) {
    grpc::ChannelArguments arguments;
    wire::SetStreamTransport(&arguments);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments));
    stub_->PrepareBidiStreamingCall(&context_, "/weir.bench.Floor/Io", grpc::StubOptions(), this);
    AddHold();  // for writes outside of reactions
    StartRead(&received_);
    StartCall();
  }
  void Send() {
    if (turns_.Take()) StartWrite(&message_);
  }
  void End() {
    context_.TryCancel();
    RemoveHold();
    absl::MutexLock lock(&mutex_);
    mutex_.Await(absl::Condition(&done_));
  }
  void OnWriteDone(bool ok) override {
    if (ok && turns_.Done()) StartWrite(&message_);
  }
  void OnReadDone(bool ok) override {
    if (!ok) return;
    answered_();
    StartRead(&received_);
  }
  void OnDone(const grpc::Status&) override {
    absl::MutexLock lock(&mutex_);
    done_ = true;
  }

 private:
  const std::function<void()> answered_;
  const grpc::ByteBuffer message_ = BufferOf(kMessageBytes);
  grpc::ByteBuffer received_;
  std::unique_ptr<grpc::GenericStub> stub_;
  grpc::ClientContext context_;
  Turns turns_;
  absl::Mutex mutex_;
  bool done_ ABSL_GUARDED_BY(mutex_) = false;
};

class Client {
 public:
  explicit Client(const std::vector<std::string>& addresses) : answers_(addresses.size()) {
    for (size_t i = 0; i < addresses.size(); ++i) {
      streams_.push_back(std::make_unique<Stream>(addresses[i], [this, i] { Answered(i); }));
    }
  }
  ~Client() {
    for (const auto& stream : streams_) stream->End();
  }

  // Keeps `depth` messages under way for so long.
  void Run(uint64_t depth, absl::Duration duration) {
    const absl::Time end = absl::Now() + duration;
    while (absl::Now() < end) {
      {
        absl::MutexLock lock(&mutex_);
        const auto room = [&]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return sent_.size() < depth; };
        mutex_.Await(absl::Condition(&room));
        sent_.push_back(absl::Now());
      }
      for (const auto& stream : streams_) stream->Send();
    }
  }

  std::string Report(absl::Duration duration) {
    absl::MutexLock lock(&mutex_);
    CHECK(!took_.empty());
    std::sort(took_.begin(), took_.end());
    return absl::StrCat("{\"per_second\": ", took_.size() / absl::ToDoubleSeconds(duration),
                        ", \"median_us\": ",
                        absl::ToDoubleMicroseconds(took_[took_.size() / 2]), "}");
  }

  void Forget() {
    absl::MutexLock lock(&mutex_);
    took_.clear();
  }

 private:
  void Answered(size_t server) {
    absl::MutexLock lock(&mutex_);
    ++answers_[server];
    // Each server answers in order, so the oldest message is the next one that all have answered.
    if (*std::min_element(answers_.begin(), answers_.end()) == done_) return;
    ++done_;
    took_.push_back(absl::Now() - sent_.front());
    sent_.pop_front();
  }

  std::vector<std::unique_ptr<Stream>> streams_;
  absl::Mutex mutex_;
  std::vector<uint64_t> answers_ ABSL_GUARDED_BY(mutex_);  // by server
  uint64_t done_ ABSL_GUARDED_BY(mutex_) = 0;
  std::deque<absl::Time> sent_ ABSL_GUARDED_BY(mutex_);  // not answered by all
  std::vector<absl::Duration> took_ ABSL_GUARDED_BY(mutex_);
};

struct Child {
  pid_t pid = 0;
  int port = 0;
};

Child StartServer(const char* program, const std::string& store) {
  int ends[2];
  CHECK_EQ(pipe(ends), 0);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  posix_spawn_file_actions_addclose(&actions, ends[0]);
  std::string serve = "--serve";
  std::string where = absl::StrCat("--store=", store);
  char* const arguments[] = {const_cast<char*>(program), serve.data(), store.empty() ? nullptr : where.data(), nullptr};
  Child child;
  CHECK_EQ(posix_spawn(&child.pid, program, &actions, nullptr, arguments, environ), 0);
  posix_spawn_file_actions_destroy(&actions);
  close(ends[1]);
  FILE* out = fdopen(ends[0], "r");
  CHECK_EQ(std::fscanf(out, "%d", &child.port), 1);
  std::fclose(out);
  return child;
}

int Main(int argc, char** argv) {
  bool serve = false;
  uint64_t depth = 1;
  double seconds = 5;
  std::string store;
  CLI::App app("Measures 4 KiB messages to three gRPC servers at once, on this machine");
  app.add_flag("--serve", serve, "be one of the servers");
  app.add_option("--depth", depth, "messages under way")->capture_default_str();
  app.add_option("--seconds", seconds, "how long")->capture_default_str();
  app.add_option("--store", store, "an empty folder: each server puts what it gets into a RocksDB below it; else nothing is stored");
  CLI11_PARSE(app, argc, argv);
  if (serve) return Serve(store);
  std::vector<Child> children;
  std::vector<std::string> addresses;
  for (int i = 0; i < kServers; ++i) {
    children.push_back(StartServer("/proc/self/exe", store.empty() ? "" : absl::StrCat(store, "/", i)));
    addresses.push_back(absl::StrCat("127.0.0.1:", children.back().port));
  }
  const absl::Duration duration = absl::Seconds(seconds);
  {
    Client client(addresses);
    client.Run(depth, absl::Seconds(1));  // connects, and warms up
    client.Forget();
    client.Run(depth, duration);
    std::printf("%s\n", client.Report(duration).c_str());
  }
  for (const Child& child : children) {
    kill(child.pid, SIGTERM);
    waitpid(child.pid, nullptr, 0);
  }
  return 0;
}

}  // namespace
}  // namespace weir

int main(int argc, char** argv) { return weir::Main(argc, argv); }
