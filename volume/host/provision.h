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
  // `other`. FAILED_PRECONDITION: it is a member already, or has no other store. NOT_FOUND.
  absl::StatusOr<v1::Member> ChooseReplacement(const v1::VolumeRecord& record, const std::string& replica,
                                               const std::string& with, bool other);
  // Makes the volume there, which may have it.
  absl::Status MakeCopy(const v1::VolumeRecord& record, v1::Member* member);

  // What a replica has of a volume that is to be deleted there.
  struct CopyThere {
    engine::Deletion::Left left = engine::Deletion::Left::kUnknown;
    absl::Status unknown;  // why
    std::string address;   // of the replica by now
    uint64_t incarnation = 0;
    std::optional<uint64_t> volume_changes;  // see GetReplicaResponse
  };
  // Of what `store_id` has of the volume, which was on `replica`, at `address`. An error: the catalog, or the replica, said so.
  absl::StatusOr<CopyThere> FindCopy(const std::string& replica, const std::string& address, const std::string& store_id);
  // Deletes it, if nothing was made there since it was found. REQUIRES: it has one; `record`, read since, does not name the store as a member.
  absl::Status DeleteLeftover(const v1::VolumeRecord& record, const v1::FormerMember& former, const CopyThere& copy);

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
  // `asked`, if it is given: nothing where the replica has done other things with volumes since. Notes the store that it has.
  absl::Status CreateOnMember(const v1::VolumeRecord& record, const v1::GetReplicaResponse* asked, v1::Member* member);
  static void SortAsReplacements(const v1::VolumeRecord& record, const v1::Member& member,
                                 std::vector<Found>* found);
  // Of those found, the one to take the member's place.
  absl::StatusOr<Found> ChooseAmong(std::vector<Found> found, const v1::VolumeRecord& record, const v1::Member& member,
                                    const std::string& with, bool other);
  // UNAVAILABLE: another one, or nobody, answers there.
  absl::StatusOr<v1::GetReplicaResponse> AskByName(const std::string& replica, const std::string& address);
  // What `store_id` has of the volume. OK also if there is nothing, or the replica has another store by now, or is forgotten and
  // does not answer.
  absl::Status DeleteCopy(const v1::VolumeRecord& record, const std::string& replica, const std::string& address,
                          const std::string& store_id);
  // `only_as_found`: not if anything was made there since.
  absl::Status DeleteCopyThere(const v1::VolumeRecord& record, const std::string& replica, const std::string& store_id,
                               const CopyThere& copy, bool only_as_found);
  absl::Status DeleteFromMember(const v1::VolumeRecord& record, const v1::Member& member);
  // What cannot be deleted stays, and is logged.
  void DeleteLeftovers(const v1::VolumeRecord& record);
  absl::Status DeleteHeld(VolumeRecordHolder& holder);

  catalog::Catalog* const catalog_;
};

}  // namespace weir::host

#endif  // WEIR_VOLUME_HOST_PROVISION_H_
