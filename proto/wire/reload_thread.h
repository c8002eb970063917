// SIGHUP in a process whose first thread somebody else has: nbdkit, libfuse.
#ifndef WEIR_PROTO_WIRE_RELOAD_THREAD_H_
#define WEIR_PROTO_WIRE_RELOAD_THREAD_H_

#include <atomic>
#include <string>
#include <thread>

namespace weir::wire {

// Does Reload at each SIGHUP to the process. To be made on its first thread before there are others: the signal is blocked for
// that one and all that come after, and only this thread takes it. The destructor joins it.
class ReloadThread {
 public:
  // `config`: as Reload takes it.
  explicit ReloadThread(std::string config);
  ~ReloadThread();
  ReloadThread(const ReloadThread&) = delete;
  ReloadThread& operator=(const ReloadThread&) = delete;

 private:
  void Run(const std::string& config) const;

  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace weir::wire

#endif  // WEIR_PROTO_WIRE_RELOAD_THREAD_H_
