// One simulated cluster from one seed: replicas, frontends, a catalog, clients, faults and their
// judge, in one thread and virtual time.
//
// Thread-safety: none; different clusters may run on different threads.
#ifndef WEIR_TESTS_SIM_CLUSTER_H_
#define WEIR_TESTS_SIM_CLUSTER_H_

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "tests/sim/agenda.h"
#include "tests/sim/catalog_model.h"
#include "tests/sim/contract_judge.h"
#include "tests/sim/dice.h"
#include "tests/sim/frontend.h"
#include "tests/sim/network.h"
#include "tests/sim/replica_node.h"

namespace weir::sim {

enum class Fault {
  kKillReplica,
  kPowerCut,       // of one replica's host
  kPowerCutAll,
  kCutToReplica,   // one direction of one link
  kCutToFrontend,
  kCutBoth,
  kSlowReplica,
  kRequeues,
  kDrops,
  kBadBlocks,
  kErrors,         // EIO once or twice: final for the target, until the next attach
  kSyncFails,      // final for the store
  kFull,
  kCatalogOutage,
  kCatalogLoss,
  kCrashFrontend,
  kPauseFrontend,
  kAttachElsewhere,
  kSplit,
  kSuspend,
  kReclaim,
  kReplaceDisk,
  kFaultKinds,
};
const char* NameOf(Fault fault);

struct ClusterOptions {
  uint64_t requests = 200;
  uint64_t faults = 10;
  // No fault that takes data from the last good copy: everything must be well again in the end.
  bool survivable = true;
  bool trace = false;
};

struct ClusterResult {
  std::string violation;  // empty: none
  uint64_t requests_ok = 0;
  uint64_t requests_failed = 0;
  uint64_t attaches = 0;
  std::array<uint64_t, static_cast<size_t>(Fault::kFaultKinds)> faults{};
  uint64_t trace_hash = 0;  // of all that the engines did
};

class Cluster {
 public:
  Cluster(uint64_t seed, ClusterOptions options);
  ~Cluster();
  ClusterResult Run();
  const std::vector<std::string>& trace() const { return trace_; }

 private:
  struct Op {
    engine::RequestKind kind{};
    BlockRange range;
    uint32_t frontend = 0;
    Epoch epoch = 0;
    Time invoked{};
    bool done = false;
    // What every member must have synced for a flush to be OK, by lane.
    std::vector<Position> covers;
  };

  // --- construction ---
  void DrawShape();
  void MakeReplicas();
  void MakeFrontends();

  // --- clients ---
  void SubmitSome(uint32_t frontend);
  void SubmitOne(uint32_t frontend);
  engine::Request RandomRequest(uint64_t id);
  void Invoke(const engine::Request& request, uint32_t frontend);
  void Completed(uint32_t frontend, engine::CompleteRequest& done);
  void CheckAcked(uint32_t frontend, const Op& op, uint64_t id);
  void CheckFlushed(uint32_t frontend, const Op& op);
  void ControlDone(uint32_t frontend, const engine::CompleteControl& done);

  // --- frontends ---
  void AttachSome();
  void AttachAt(uint32_t frontend);
  void Refused(uint32_t frontend);
  void Serving(uint32_t frontend);
  void Stepped(const engine::Effects& effects);
  bool AnybodyServes() const;

  // --- faults ---
  void DamageSome(uint32_t r);
  void FaultSome();
  void Inject(Fault fault);
  void Misbehave(Fault fault, ReplicaFaults& faults, Time until);
  void Down(uint32_t replica, bool power_cut);
  void FailSync(uint32_t replica);
  void SetFull(uint32_t replica, bool full);
  void SuspendSome(uint32_t frontend);
  void ReplaceDisk(uint32_t replica);
  // Whether the catalog has another store for the replica than it has itself.
  bool HasOtherStore(uint32_t replica) const;
  // An operator tells whoever serves of disks that were replaced, until it has understood.
  void TellOfDisks();
  // Nothing if it has them all.
  std::optional<engine::Table> TableWithNewStores(const engine::EngineView& view) const;
  // The frontend keeps one replica and is deaf to the others; another one attaches without that.
  void Split(uint32_t frontend, uint32_t replica, Time until);
  void Heal();
  uint32_t AnyReplica() { return static_cast<uint32_t>(dice_.Below(replicas_.size())); }
  uint32_t AnyFrontend() { return static_cast<uint32_t>(dice_.Below(frontends_.size())); }

  // --- the end ---
  bool Finished();
  bool CanBeWell() const;
  void ReadBack(uint32_t frontend);
  void CompareReplicas();
  void Violated(std::string what);
  void Trace(const std::string& line);

  const ClusterOptions options_;
  Dice dice_;
  Agenda agenda_;
  std::vector<std::string> trace_;
  ClusterResult result_;

  store::VolumeGeometry geometry_;
  engine::Options engine_options_;
  std::vector<std::unique_ptr<ReplicaNode>> replicas_;
  std::unique_ptr<Network> network_;
  std::unique_ptr<CatalogModel> catalog_;
  std::unique_ptr<ContractJudge> judge_;
  std::vector<std::unique_ptr<Frontend>> frontends_;

  std::vector<Op> ops_;  // by request id; 0 is none
  uint64_t submitted_ = 0;
  absl::flat_hash_map<uint64_t, Position> placed_;  // by value: where it was seen
  std::vector<std::vector<Position>> acked_;        // by frontend, by lane
  std::vector<uint64_t> pumping_;                   // by frontend: the epoch that has a client
  Epoch active_epoch_ = 0;
  uint64_t next_control_ = 1;
  uint64_t faults_left_ = 0;
  bool healed_ = false;
  bool store_failed_ = false;
  bool read_back_ = false;
  Time heal_at_{};
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CLUSTER_H_
