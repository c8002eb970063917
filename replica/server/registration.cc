#include "replica/server/registration.h"

#include <algorithm>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "proto/base/log.h"
#include "proto/base/protocol.h"
#include "proto/wire/identity.h"
#include "proto/wire/status.h"
#include "replica/server/metrics.h"

namespace weir::replica {
namespace {

constexpr absl::Duration kRetryAfter = absl::Seconds(1);
constexpr absl::Duration kCallDeadline = absl::Seconds(2);
constexpr absl::Duration kGoodbyeDeadline = absl::Milliseconds(500);

}  // namespace

Registration::Registration(Replica* replica, std::string address)
    : replica_(replica), address_(std::move(address)) {
  for (const std::string& frontend : replica_->options().frontends) {
    frontends_.push_back(v1::RegistryService::NewStub(
        grpc::CreateChannel(frontend, wire::ChannelCredentials(frontend))));
  }
  replica_->set_registration("no frontend has answered yet");
  thread_ = std::thread([this] { Run(); });
}

Registration::~Registration() {
  {
    absl::MutexLock lock(&mutex_);
    stopped_ = true;
    changed_.SignalAll();
  }
  thread_.join();
  // It may not come through: then the lease runs out.
  (void)Register(Request(absl::ZeroDuration()), kGoodbyeDeadline);
}

void Registration::Run() {
  const absl::Duration lease = replica_->options().registration_lease;
  for (;;) {
    const absl::Status status = Register(Request(lease), kCallDeadline);
    Report(status);
    if (Wait(status.ok() ? lease / 3 : std::min(kRetryAfter, lease / 3))) return;
  }
}

bool Registration::Wait(absl::Duration duration) {
  absl::MutexLock lock(&mutex_);
  return changed_.AwaitFor(&mutex_, duration, &stopped_);
}

v1::RegisterRequest Registration::Request(absl::Duration lease) const {
  const ServerOptions& options = replica_->options();
  const store::Identity identity = replica_->store().identity();
  v1::RegisterRequest request;
  request.set_protocol(kProtocol);
  request.set_name(options.name);
  request.set_address(address_);
  request.set_cluster_id(identity.cluster_id);
  request.set_store_id(identity.store_id);
  request.set_generation(identity.generation);
  request.set_incarnation(identity.incarnation);
  request.mutable_labels()->insert(options.labels.begin(), options.labels.end());
  uint64_t capacity = 0, available = 0;
  for (const std::string& directory : options.store.data_dirs) {
    const DirectorySpace space = SpaceOf(directory);
    capacity += space.capacity_bytes;
    available += space.available_bytes;
  }
  request.set_capacity_bytes(capacity);
  request.set_available_bytes(available);
  request.set_lease_ms(static_cast<uint32_t>(absl::ToInt64Milliseconds(lease)));
  return request;
}

absl::Status Registration::Register(const v1::RegisterRequest& request, absl::Duration deadline) {
  const absl::Duration until = SteadyNow() + deadline;
  absl::Status last;
  for (size_t i = 0; i < frontends_.size() && (i == 0 || SteadyNow() < until); ++i) {
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(absl::Now() + (until - SteadyNow())));
    v1::RegisterResponse response;
    last = wire::FromGrpc(frontends_[next_]->Register(&context, request, &response));
    // A refusal is the catalog's, so every other frontend would say the same.
    if (last.ok() || absl::IsFailedPrecondition(last) || absl::IsInvalidArgument(last)) return last;
    next_ = (next_ + 1) % frontends_.size();
  }
  return last;
}

// Once for each change.
void Registration::Report(const absl::Status& status) {
  const bool refused = absl::IsFailedPrecondition(status) || absl::IsInvalidArgument(status);
  const std::string said = status.ok() ? "registered"
                           : refused   ? absl::StrCat("refused: ", status.message())
                                       : absl::StrCat("no frontend answers: ", status.message());
  replica_->metrics().registered.Set(status.ok() ? 1 : 0);
  replica_->set_registration(said);
  // Frontends come and go, and a refusal tells how long the other one's lease still is.
  const std::string kind = said.substr(0, said.find(':'));
  if (std::exchange(reported_, kind) == kind) return;
  if (status.ok()) {
    LOG(INFO) << "replica=" << replica_->options().name << " has registered itself at a frontend as "
              << address_;
  } else if (refused) {
    LOG(ERROR) << "replica=" << replica_->options().name << " " << status.message();
  } else {
    LOG(WARNING) << "replica=" << replica_->options().name
                 << " could not register itself, it is tried again: " << status.message();
  }
}

}  // namespace weir::replica
