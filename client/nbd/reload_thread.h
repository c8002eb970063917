// SIGHUP in nbdkit, which would end by it.
#ifndef WEIR_CLIENT_NBD_RELOAD_THREAD_H_
#define WEIR_CLIENT_NBD_RELOAD_THREAD_H_

#include <atomic>
#include <string>
#include <thread>

namespace weir::nbd {

// Does wire::Reload at each SIGHUP to the process. To be made on nbdkit's first thread before there are others: the
// signal is blocked for that one and all that come after, and only this thread takes it. The destructor joins it.
class ReloadThread {
 public:
  // `config`: as wire::Reload takes it.
  explicit ReloadThread(std::string config);
  ~ReloadThread();
  ReloadThread(const ReloadThread&) = delete;
  ReloadThread& operator=(const ReloadThread&) = delete;

 private:
  void Run(const std::string& config) const;

  std::atomic<bool> ending_{false};
  std::thread thread_;
};

}  // namespace weir::nbd

#endif  // WEIR_CLIENT_NBD_RELOAD_THREAD_H_
