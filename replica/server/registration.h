// Makes a replica known to the frontends of its cluster, again and again (RegistryService).
//
// It asks one frontend after the other until one answers. Whatever becomes of it, the replica serves: what
// it is asked carries its store, and a frontend that does not know it asks nothing.
//
// Thread-safety: safe. Life: says goodbye when it ends, so that another process may have its name at once.
#ifndef WEIR_REPLICA_SERVER_REGISTRATION_H_
#define WEIR_REPLICA_SERVER_REGISTRATION_H_

#include <cstddef>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "proto/base/steady.h"
#include "replica/server/replica.h"
#include "weir/v1/replica.grpc.pb.h"
#include "weir/v1/replica.pb.h"

namespace weir::replica {

class Registration {
 public:
  // Begins at once. `replica` outlives it. `address`: where frontends find it.
  // REQUIRES: options().frontends is not empty.
  Registration(Replica* replica, std::string address);
  ~Registration();
  Registration(const Registration&) = delete;
  Registration& operator=(const Registration&) = delete;

 private:
  void Run();
  // True once stopped.
  bool Wait(absl::Duration duration) ABSL_LOCKS_EXCLUDED(mutex_);
  v1::RegisterRequest Request(absl::Duration lease) const;
  // Asks until one frontend answers, beginning with the one that did so last. `deadline` is for all of them; one
  // that is silent for so long is the last to be asked the next time.
  absl::Status Register(const v1::RegisterRequest& request, absl::Duration deadline);
  void Report(const absl::Status& status);

  Replica* const replica_;
  const std::string address_;
  std::vector<std::unique_ptr<v1::RegistryService::Stub>> frontends_;
  size_t next_ = 0;
  std::string reported_;
  absl::Mutex mutex_;
  SteadyCondVar changed_;
  bool stopped_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

}  // namespace weir::replica

#endif  // WEIR_REPLICA_SERVER_REGISTRATION_H_
