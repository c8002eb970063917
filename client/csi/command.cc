#include "client/csi/command.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "proto/base/status_macros.h"

extern char** environ;

namespace weir::csi {
namespace {

constexpr size_t kOutputBytesMax = 64 << 10;
constexpr size_t kSaidBytesMax = 400;

// Both ends of a pipe, closed with it.
struct Pipe {
  int ends[2] = {-1, -1};
  ~Pipe() {
    Close(0);
    Close(1);
  }
  void Close(int end) {
    if (ends[end] >= 0) ::close(std::exchange(ends[end], -1));
  }
};

// Reads both outputs until the program has closed them. False: the time is over.
bool ReadAll(Pipe& out, Pipe& err, absl::Time deadline, CommandResult* result) {
  Pipe* const pipes[] = {&out, &err};
  std::string* const texts[] = {&result->out, &result->err};
  while (out.ends[0] >= 0 || err.ends[0] >= 0) {
    const int64_t left_ms = absl::ToInt64Milliseconds(deadline - absl::Now());
    if (left_ms <= 0) return false;
    pollfd polled[] = {{out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}};
    if (::poll(polled, 2, static_cast<int>(std::min<int64_t>(left_ms, 60'000))) <= 0) continue;
    for (int i = 0; i < 2; ++i) {
      if (polled[i].revents == 0) continue;
      char buffer[4096];
      const ssize_t got = ::read(pipes[i]->ends[0], buffer, sizeof(buffer));
      if (got > 0 && texts[i]->size() < kOutputBytesMax) texts[i]->append(buffer, static_cast<size_t>(got));
      if (got == 0 || (got < 0 && errno != EINTR)) pipes[i]->Close(0);
    }
  }
  return true;
}

absl::StatusOr<pid_t> Spawn(const std::vector<std::string>& argv, int out, int err) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
  posix_spawn_file_actions_adddup2(&actions, out, 1);
  posix_spawn_file_actions_adddup2(&actions, err, 2);
  // The driver blocks the signals that end it; its children are not to.
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::vector<char*> words;
  for (const std::string& word : argv) words.push_back(const_cast<char*>(word.c_str()));
  words.push_back(nullptr);
  pid_t pid = -1;
  const int error = ::posix_spawnp(&pid, words[0], &actions, &attributes, words.data(), environ);
  posix_spawnattr_destroy(&attributes);
  posix_spawn_file_actions_destroy(&actions);
  if (error == 0) return pid;
  return absl::InternalError(absl::StrCat("cannot run ", argv[0], ": ", std::strerror(error),
                                          "; is its package installed on this node?"));
}

}  // namespace

absl::StatusOr<CommandResult> RunCommand(const std::vector<std::string>& argv, absl::Time deadline) {
  Pipe out, err;
  if (::pipe2(out.ends, O_CLOEXEC) != 0 || ::pipe2(err.ends, O_CLOEXEC) != 0) {
    return absl::InternalError(absl::StrCat("no pipe for ", argv[0], ": ", std::strerror(errno)));
  }
  ASSIGN_OR_RETURN(const pid_t pid, Spawn(argv, out.ends[1], err.ends[1]));
  out.Close(1);
  err.Close(1);
  CommandResult result;
  const bool in_time = ReadAll(out, err, deadline, &result);
  if (!in_time) ::kill(pid, SIGKILL);
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
  }
  if (!in_time) return absl::DeadlineExceededError(absl::StrCat(argv[0], " took too long and was killed"));
  if (!WIFEXITED(status)) return absl::InternalError(absl::StrCat(argv[0], " was ended by a signal"));
  result.exit_code = WEXITSTATUS(status);
  return result;
}

absl::Status CommandError(const std::vector<std::string>& argv, const CommandResult& result) {
  std::string said(absl::StripAsciiWhitespace(result.err.empty() ? result.out : result.err));
  absl::StrReplaceAll({{"\n", " | "}}, &said);
  return absl::InternalError(absl::StrCat(argv[0], " failed (exit ", result.exit_code, "): ", said.substr(0, kSaidBytesMax)));
}

absl::StatusOr<std::string> RunOrFail(const std::vector<std::string>& argv, absl::Time deadline) {
  ASSIGN_OR_RETURN(CommandResult result, RunCommand(argv, deadline));
  if (result.exit_code != 0) return CommandError(argv, result);
  return std::move(result.out);
}

}  // namespace weir::csi
