#include "volume/host/registration.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "google/protobuf/util/message_differencer.h"
#include "proto/base/protocol.h"
#include "proto/base/status_macros.h"

namespace weir::host {
namespace {

constexpr absl::Duration kLeaseMax = absl::Minutes(10);

absl::Status Refuse(const v1::RegisterRequest& request, const std::string& why) {
  return absl::FailedPreconditionError(
      absl::StrCat("replica ", request.name(), " at ", request.address(), " is refused: ", why));
}

absl::Status CheckShape(const v1::RegisterRequest& request) {
  RETURN_IF_ERROR(CheckProtocol(request.protocol(), "the replica"));
  const bool good = !request.name().empty() && request.name().size() <= 63 &&
                    !request.address().empty() && request.address().size() <= 255 &&
                    !request.store_id().empty() && request.store_id().size() <= 64 &&
                    request.labels_size() <= 16 &&
                    absl::Milliseconds(request.lease_ms()) <= kLeaseMax;
  if (good) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(
      "replica '", request.name().substr(0, 63), "' cannot be registered so: it needs a name, an address, a "
      "store and a lease of at most ", absl::FormatDuration(kLeaseMax)));
}

// Of two that have the name, the first one keeps it as long as it lives.
absl::Status CheckName(const v1::RegisterRequest& request, const v1::ReplicaRecord& known,
                       absl::Time now) {
  const bool same_process = known.incarnation() == request.incarnation();
  if (known.store_id() == request.store_id()) {
    const bool older = request.generation() < known.generation() ||
                       (request.generation() == known.generation() && !same_process);
    if (known.incarnation() == 0 || !older) return absl::OkStatus();
    return Refuse(request, absl::StrCat(
        "its directories are an older copy of store ", request.store_id(), ": they say that it was started ",
        request.generation(), " times, and it has been here as started ", known.generation(),
        " times. Put the newest ones back, or give it empty directories"));
  }
  if (!IsAlive(known, now) || same_process) return absl::OkStatus();
  return Refuse(request, absl::StrCat(
      "the name is that of another process, at ", known.address(), " with store ", known.store_id(),
      ", which is alive. Choose another --name; or stop that one, and try again in ",
      absl::FormatDuration(absl::Ceil(
          absl::FromUnixMillis(static_cast<int64_t>(known.alive_until_ms())) - now, absl::Seconds(1)))));
}

}  // namespace

absl::StatusOr<v1::ReplicaRecord> Registered(const v1::RegisterRequest& request,
                                             const std::vector<v1::ReplicaRecord>& known,
                                             const std::string& cluster_id, absl::Time now) {
  if (const absl::Status shape = CheckShape(request); !shape.ok()) return shape;
  if (!request.cluster_id().empty() && request.cluster_id() != cluster_id) {
    return Refuse(request, absl::StrCat(
        "its directories belong to cluster ", request.cluster_id(), ", this one is ", cluster_id,
        ". Give it the frontends of its own cluster, or empty directories"));
  }
  v1::ReplicaRecord record;
  for (const v1::ReplicaRecord& one : known) {
    if (one.name() == request.name()) {
      if (const absl::Status named = CheckName(request, one, now); !named.ok()) return named;
      record = one;
    } else if (one.store_id() == request.store_id()) {
      return Refuse(request, absl::StrCat("its store ", request.store_id(), " is that of replica ",
                                          one.name(), ". Start it with --name=", one.name(),
                                          ", or give it empty directories"));
    }
  }
  record.set_name(request.name());
  record.set_address(request.address());
  record.set_store_id(request.store_id());
  *record.mutable_labels() = request.labels();
  record.set_capacity_bytes(request.capacity_bytes());
  record.set_available_bytes(request.available_bytes());
  record.set_generation(request.generation());
  record.set_incarnation(request.incarnation());
  record.set_alive_until_ms(static_cast<uint64_t>(
      std::max<int64_t>(1, absl::ToUnixMillis(now + absl::Milliseconds(request.lease_ms())))));
  return record;
}

bool IsWorthNoWrite(const v1::ReplicaRecord& before, const v1::ReplicaRecord& after,
                    absl::Time now) {
  v1::ReplicaRecord same = after;
  same.set_available_bytes(before.available_bytes());
  same.set_alive_until_ms(before.alive_until_ms());
  const int64_t left = static_cast<int64_t>(before.alive_until_ms()) - absl::ToUnixMillis(now);
  const int64_t lease = static_cast<int64_t>(after.alive_until_ms()) - absl::ToUnixMillis(now);
  // Not longer than asked for either: that is a replica that goes.
  return left * 2 > lease && left <= lease &&
         google::protobuf::util::MessageDifferencer::Equals(before, same);
}

bool IsAlive(const v1::ReplicaRecord& record, absl::Time now) {
  return now < absl::FromUnixMillis(static_cast<int64_t>(record.alive_until_ms()));
}

bool IsGone(const v1::ReplicaRecord& record, absl::Time now) {
  return record.alive_until_ms() != 0 && !IsAlive(record, now);
}

}  // namespace weir::host
