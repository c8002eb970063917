// How an attach comes along, member by member: for people, while it lasts and after it has failed.
//
// Thread-safety: safe.
#ifndef WEIR_VOLUME_HOST_ATTACH_PROGRESS_H_
#define WEIR_VOLUME_HOST_ATTACH_PROGRESS_H_

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "volume/engine/types.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

class AttachProgress {
 public:
  // A takeover of `record`'s volume begins; what was noted before is forgotten.
  void Begin(const v1::VolumeRecord& record);
  // The catalog has taken it. Later epochs are of later attaches.
  void TookEpoch(uint32_t epoch);
  // `member`, by its place in the record, is to do `what`.
  void Asked(uint32_t member, std::string what, engine::Time now);
  void Answered(uint32_t member, const absl::Status& status);
  void GivenUp(uint32_t member, std::string why);
  // The end of it. An attach that succeeds needs none, since the volume then speaks for itself.
  void Failed(const absl::Status& status, engine::Time now);

  // Who is waited for or has refused, and what can be done. Returns false and adds nothing if it says nothing of `record`: it has
  // failed, and the volume has been attached since or is another one by now.
  bool Explain(const v1::VolumeRecord& record, engine::Time now, v1::ExplainResponse* out) const;

 private:
  struct Member {
    std::string replica, address;
    std::string awaited;         // what it is to do; empty: nothing
    engine::Time since;          // first asked for that
    int unanswered = 0;          // calls
    absl::Status last_error;     // its last answer, unless it was a good one
    std::string given_up;        // why; empty: it is not
  };

  mutable absl::Mutex mu_;
  uint64_t volume_id_ ABSL_GUARDED_BY(mu_) = 0;
  uint32_t epoch_ ABSL_GUARDED_BY(mu_) = 0;
  std::vector<Member> members_ ABSL_GUARDED_BY(mu_);
  absl::Status failure_ ABSL_GUARDED_BY(mu_);
  engine::Time failed_at_ ABSL_GUARDED_BY(mu_);
};

// What keeps a volume that is not attached from being so, or from being deleted, as far as its members' own words show: whoever of
// those in sync, or of all, does not answer (`errors`, by replica; those that have answered are not in it).
void ExplainAbsent(const v1::VolumeRecord& record, const std::map<std::string, absl::Status>& errors, v1::ExplainResponse* out);

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_ATTACH_PROGRESS_H_
