// Which stream of a client counts: see VolumeOpen.client in volume.proto.
//
// A client that lost its stream sends unanswered requests again on a new one.
// The copies on the old stream must not be submitted after that, or an old
// write could overwrite a newer one. So a new session cuts the older off
// before it is opened; what the older had submitted is ordered before it.
//
// Thread-safety: safe.
#ifndef WEIR_VOLUME_HOST_CLIENT_SESSIONS_H_
#define WEIR_VOLUME_HOST_CLIENT_SESSIONS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <utility>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"

namespace weir::host {

class ClientSessions {
 public:
  // `remembered_max`: clients without a stream whose last session is still
  // known, so that an older one that comes late is refused.
  explicit ClientSessions(size_t remembered_max = 4096)
      : remembered_max_(remembered_max) {}

  // Ends a stream with this status; nothing that it brings is submitted or answered any more.
  using CutOff = std::function<void(const absl::Status&)>;

  // Makes `session` the client's, after the older one's `cut_off` has
  // returned; waits for that. `cut_off` is called at most once, without a lock. ABORTED: a newer
  // session, or this one, has been open.
  absl::Status Open(const std::string& volume, const std::string& client,
                    uint64_t session, CutOff cut_off);
  // The stream of this session is gone.
  void Closed(const std::string& volume, const std::string& client,
              uint64_t session);
  // Cuts all off with this status, and lets none in any more.
  void End(const absl::Status& status);

 private:
  using Key = std::pair<std::string, std::string>;  // volume, client
  struct Entry {
    uint64_t session = 0;
    CutOff cut_off;                 // null: no stream
    bool cutting = false;           // an Open waits for a cut_off to return
    uint64_t closed_at = 0;         // order of Closed, for forgetting
  };
  void ForgetLocked() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const size_t remembered_max_;
  absl::Mutex mu_;
  absl::Status ended_ ABSL_GUARDED_BY(mu_);  // not OK: with what
  std::map<Key, Entry> entries_ ABSL_GUARDED_BY(mu_);
  std::map<uint64_t, Key> closed_ ABSL_GUARDED_BY(mu_);  // by closed_at
  uint64_t closes_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_CLIENT_SESSIONS_H_
