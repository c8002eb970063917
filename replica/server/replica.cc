#include "replica/server/replica.h"

#include <cerrno>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "proto/base/errno.h"
#include "proto/base/log.h"

namespace weir::replica {
namespace {

// Two, so that a long call (a tail) does not hold up a hello.
constexpr int kControlThreads = 2;
constexpr size_t kControlQueuedMax = 1024;
// All streams together; each is bounded by `unanswered_ios_max` itself.
constexpr size_t kSyncWaitingMax = 1 << 16;

std::string ReadBootId() {
  std::ifstream file("/proc/sys/kernel/random/boot_id");
  std::string boot_id;
  file >> boot_id;
  return boot_id;
}

}  // namespace

Replica::Replica(ServerOptions options, std::unique_ptr<store::Store> store,
                 std::shared_ptr<FaultTable> faults, std::shared_ptr<Metrics> metrics,
                 std::function<void()> on_failed)
    : options_(std::move(options)),
      boot_id_(ReadBootId()),
      store_(std::move(store)),
      on_failed_(std::move(on_failed)),
      gate_(store_.get(), &sessions_, [this] { return Serving(); }),
      faults_(std::move(faults)),
      metrics_(std::move(metrics)),
      control_("control", kControlThreads, kControlQueuedMax),
      disks_(options_.name, options_.store.data_dirs) {
  for (uint32_t domain = 0; domain < store_->num_domains(); ++domain) {
    auto sync = [this, domain](VolumeId volume) {
      const absl::Time start = absl::Now();
      SyncWorker::Synced synced = store_->Flush(volume, domain);
      metrics_->Synced(domain, absl::Now() - start);
      return synced;
    };
    sync_workers_.push_back(std::make_unique<SyncWorker>(
        domain, sync, [this] { CheckHealth(); }, kSyncWaitingMax));
  }
  WatchSpace();
}

Replica::~Replica() { Stop(); }

void Replica::WatchSpace() {
  const bool exhausted = !store_->HasSpaceFor(options_.space_margin_bytes);
  if (space_exhausted_.exchange(exhausted, std::memory_order_acq_rel) != exhausted) {
    metrics_->space_exhausted.Set(exhausted ? 1 : 0);
    if (exhausted) {
      LOG(ERROR) << "replica=" << options_.name
                 << " has no space left for new writes; free space in its data directories, "
                    "delete volumes or discard blocks";
    } else {
      LOG(INFO) << "replica=" << options_.name << " has space for new writes again";
    }
    sessions_.TellSpaceChanged();
  }
  delays_.After(options_.space_check_interval, [this] { WatchSpace(); });
}

void Replica::CheckHealth() {
  const absl::Status health = store_->health();
  if (health.ok() || failed_.exchange(true)) return;
  LOG(ERROR) << "replica=" << options_.name << " store=" << store_->identity().store_id
             << " FAILED and serves no more: " << health.message()
             << ". If it was short of descriptors or memory, start it again with more. Else replace its disk and "
                "rebuild it as a new store: it opens again only if it could not even note this failure (a "
                "file system that has turned read-only).";
  metrics_->store_failed.Set(1);
  sessions_.EndAll(Serving());
  on_failed_();
}

absl::Status Replica::Serving() const {
  const absl::Status health = store_->health();
  if (health.ok()) return absl::OkStatus();
  return ErrnoToStatus(EIO, absl::StrCat("replica ", options_.name,
                                         ": its store has failed and serves no more: ",
                                         std::string(health.message())));
}

void Replica::Stop() {
  if (stopped_.exchange(true)) return;
  sessions_.EndAll(absl::UnavailableError(
      absl::StrCat("replica ", options_.name, " is shutting down")));
  delays_.Stop();
  disks_.Stop();
  for (auto& worker : sync_workers_) worker->Stop();
  control_.Stop();
}

}  // namespace weir::replica
