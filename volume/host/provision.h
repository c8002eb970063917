// Making and deleting volumes: the catalog's record first, then the replicas,
// then the record again, so that whatever is interrupted can be done again.
//
//   create: CREATING -> every replica has it -> DETACHED
//   delete: DELETING -> no replica has it    -> no record    (engine/deletion.h)
//
// Thread-safety: safe; all block. Two calls about one volume meet at the
// catalog's compare-and-swap.
#ifndef WEIR_VOLUME_HOST_PROVISION_H_
#define WEIR_VOLUME_HOST_PROVISION_H_

#include <functional>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "volume/catalog/catalog.h"
#include "volume/engine/deletion.h"
#include "volume/host/volume_record.h"
#include "weir/v1/catalog.pb.h"
#include "weir/v1/replica.pb.h"
#include "weir/v1/volume.pb.h"

namespace weir::host {

// The request with its defaults filled in. INVALID_ARGUMENT says what is wrong.
absl::StatusOr<v1::CreateVolumeRequest> CheckCreateRequest(
    v1::CreateVolumeRequest request, size_t replicas_known);

// [a-z0-9][a-z0-9._-]{0,62}. `what` it is the name of, for people.
absl::Status CheckName(const char* what, const std::string& name);

// INVALID_ARGUMENT unless a volume can have it.
absl::Status CheckSize(uint64_t size_bytes);

class Provision {
 public:
  // `catalog` outlives this.
  explicit Provision(catalog::Catalog* catalog) : catalog_(catalog) {}

  // Makes the replicas known, or changes their addresses. Other frontends may do so at once.
  absl::Status RegisterReplicas(
      const std::vector<std::pair<std::string, std::string>>& replicas);

  // A replica makes itself known; see registration.h.
  absl::Status Register(const v1::RegisterRequest& request);

  // A volume that is a clone, of an id that its parent knows. `still_wanted` is asked once all else is done: if
  // it is not OK nothing is left.
  struct CloneOf {
    uint64_t id = 0;
    v1::ParentRecord parent;
    std::function<absl::Status()> still_wanted;
  };
  absl::StatusOr<v1::VolumeRecord> Create(const v1::CreateVolumeRequest& request) {
    return Create(request, CloneOf());
  }
  absl::StatusOr<v1::VolumeRecord> Create(const v1::CreateVolumeRequest& request,
                                          const CloneOf& clone);
  // REQUIRES: `volume`, as just read, is not attached. ABORTED: another frontend has changed it since.
  absl::Status Delete(catalog::VersionedVolume volume);

  // Takes a replica that is gone for ever off the catalog. NOT_FOUND. FAILED_PRECONDITION: it lives, or is a member of a volume
  // that is not being deleted.
  absl::Status Forget(const std::string& name);

  // Who takes the place of member `replica`: `with`, or as ReplaceMemberRequest says; another one than itself, if
  // `other`, and none that is `unusable`. FAILED_PRECONDITION: it is a member already, or has no other store. NOT_FOUND.
  absl::StatusOr<v1::Member> ChooseReplacement(const v1::VolumeRecord& record, const std::string& replica,
                                               const std::string& with, bool other, const std::set<std::string>& unusable);

  // What a replica said of a volume that it is to make or to delete: it does so only if it still is so.
  struct Asked {
    engine::Deletion::Left left = engine::Deletion::Left::kUnknown;  // of a copy that is to be deleted
    absl::Status unknown;  // why
    std::string address;   // of the replica by now
    uint64_t incarnation = 0;
    std::optional<uint64_t> volume_changes;  // see GetReplicaResponse
  };
  absl::StatusOr<Asked> Ask(const v1::VolumeRecord& record, const v1::Member& member);
  // Makes the volume there, which may have it. ABORTED: ask again.
  absl::Status MakeCopy(const v1::VolumeRecord& record, const Asked& asked, v1::Member* member);

  // Of what a store has that is no member. An error: the catalog, or the replica, said so.
  absl::StatusOr<Asked> FindLeftover(const v1::VolumeRecord& record, const v1::FormerMember& former);
  // Deletes it. REQUIRES: it has one, and the record does not name the store as a member. ABORTED: ask again.
  absl::Status DeleteLeftover(const v1::VolumeRecord& record, const v1::FormerMember& former, const Asked& asked);

  // What each known replica says of itself, asked in parallel.
  struct Found {
    v1::ReplicaRecord record;
    absl::StatusOr<v1::GetReplicaResponse> answer;
  };
  absl::StatusOr<std::vector<Found>> AskReplicas(absl::Duration deadline);

 private:
  // ABORTED: another frontend has just changed it.
  absl::Status RegisterReplica(const std::string& name, const std::string& address);
  absl::StatusOr<v1::VolumeRecord> NewRecord(
      const v1::CreateVolumeRequest& request);
  absl::StatusOr<std::vector<Found>> Choose(
      const v1::CreateVolumeRequest& request);
  // Creates the volume on every member and fills in their store ids.
  absl::Status CreateOnMembers(v1::VolumeRecord* record);
  // `asked`: null: whatever it has done since. Notes the store that it has.
  absl::Status CreateOnMember(const v1::VolumeRecord& record, const Asked* asked, v1::Member* member);
  static void SortAsReplacements(const v1::VolumeRecord& record, const v1::Member& member,
                                 std::vector<Found>* found);
  // Of those found, the one to take the member's place.
  absl::StatusOr<Found> ChooseAmong(std::vector<Found> found, const v1::VolumeRecord& record, const v1::Member& member,
                                    const std::string& with, bool other, const std::set<std::string>& unusable);
  // UNAVAILABLE: another one, or nobody, answers there.
  absl::StatusOr<v1::GetReplicaResponse> AskByName(const std::string& replica, const std::string& address, uint64_t volume_id = 0);
  absl::StatusOr<Asked> FindCopy(const v1::VolumeRecord& record, const std::string& replica, const std::string& address,
                                 const std::string& store_id);
  // What `store_id` has of the volume. OK also if there is nothing, or the replica has another store by now, or is forgotten and
  // does not answer.
  absl::Status DeleteCopy(const v1::VolumeRecord& record, const std::string& replica, const std::string& address,
                          const std::string& store_id);
  absl::Status DeleteCopyThere(const v1::VolumeRecord& record, const std::string& replica, const std::string& store_id, const Asked& asked);
  absl::Status DeleteFromMember(const v1::VolumeRecord& record, const v1::Member& member);
  // What cannot be deleted stays, and is logged.
  void DeleteLeftovers(const v1::VolumeRecord& record);
  absl::Status DeleteHeld(VolumeRecordHolder& holder);

  catalog::Catalog* const catalog_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_PROVISION_H_
