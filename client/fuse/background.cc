#include "client/fuse/background.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cstdio>

#include "absl/strings/str_cat.h"

namespace weir {
namespace {

constexpr char kServes = '+';
constexpr char kFails = '-';

int Fail(absl::string_view program, absl::string_view message) {
  std::fprintf(stderr, "%s: %s\n", std::string(program).c_str(), std::string(message).c_str());
  return 1;
}

// One line, without its end; all that came before the other side was closed, if it has none.
std::string ReadLine(int fd) {
  std::string said;
  char c;
  while (::read(fd, &c, 1) == 1 && c != '\n') said += c;
  return said;
}

[[noreturn]] void AwaitWord(absl::string_view program, int fd) {
  const std::string said = ReadLine(fd);
  // No word at all: it died.
  if (said.empty()) ::_exit(Fail(program, "ended before it served"));
  const std::string words = said.substr(1);
  if (said[0] != kServes) ::_exit(Fail(program, words));
  if (!words.empty()) {
    std::printf("%s\n", words.c_str());
    std::fflush(stdout);
  }
  ::_exit(0);
}

}  // namespace

int GoIntoBackground(absl::string_view program, const std::string& log) {
  const int log_fd = ::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
  int ready[2];
  if (log_fd < 0 || ::pipe2(ready, O_CLOEXEC) != 0) {
    ::_exit(Fail(program, absl::StrCat("cannot write the log ", log)));
  }
  const pid_t child = ::fork();
  if (child < 0) ::_exit(Fail(program, "cannot fork"));
  if (child != 0) {
    ::close(ready[1]);
    AwaitWord(program, ready[0]);
  }
  ::close(ready[0]);
  ::setsid();
  ::dup2(::open("/dev/null", O_RDONLY | O_CLOEXEC), 0);
  ::dup2(log_fd, 1);
  ::dup2(log_fd, 2);
  // Until somebody takes it to read files anew: no terminal hangs up here, and a device is not to end by it.
  ::signal(SIGHUP, SIG_IGN);
  if (::chdir("/") != 0) ::_exit(Fail(program, "cannot change to /"));
  return ready[1];
}

bool Tell(int ready, bool serves, absl::string_view words) {
  if (ready < 0) return true;
  std::string line = absl::StrCat(std::string(1, serves ? kServes : kFails), words);
  for (char& c : line) {
    if (c == '\n') c = ' ';
  }
  line += '\n';
  const bool heard = ::write(ready, line.data(), line.size()) == static_cast<ssize_t>(line.size());
  ::close(ready);
  return heard;
}

}  // namespace weir
