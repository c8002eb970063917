// A simulated line of a parent and its clone, or of a clone and a clone of that, from one seed: volumes, each with replicas,
// frontends with the real takeover and engine, a network and a catalog of its own; clients of all, faults, and an operator who
// makes the clones, flattens them and would delete the snapshots; in one thread and virtual time. What is judged is the last one.
//
// What decides is the host's own: engine::LineRead and Flatten, and the changes to records of host/clone_record.h. What
// carries it out, in the host's order, is in clone_lineage.cc.
//
// Thread-safety: none; different worlds may run on different threads.
#ifndef WEIR_TESTS_SIM_CLONE_WORLD_H_
#define WEIR_TESTS_SIM_CLONE_WORLD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "tests/sim/agenda.h"
#include "tests/sim/catalog_model.h"
#include "tests/sim/clone_judge.h"
#include "tests/sim/dice.h"
#include "tests/sim/frontend.h"
#include "tests/sim/model_store.h"
#include "tests/sim/network.h"
#include "tests/sim/replica_node.h"
#include "volume/engine/parent.h"
#include "volume/engine/pinned.h"
#include "weir/v1/catalog.pb.h"

namespace weir::sim {

struct CloneWorldOptions {
  uint64_t requests = 150;  // of the clone's clients
  uint64_t faults = 10;
  bool trace = false;
};

struct CloneWorldResult {
  std::string violation;  // empty: none
  uint64_t requests_ok = 0;
  uint64_t requests_failed = 0;
  uint64_t fallen_through = 0;  // reads that the parent was asked for
  uint64_t held_for_parents = 0;  // times that one of these could not be asked
  uint64_t copied = 0;          // blocks, by flattening
  uint64_t cut_short = 0;       // calls of an operator that ended in the middle
  uint64_t refused = 0;         // deletions of the snapshot
  uint64_t clones = 0;          // made
  uint64_t flattened = 0;       // clones that have no parent any more
  uint64_t deleted = 0;         // snapshots
  uint64_t snapshots = 0;       // taken, of clones
  uint64_t lines_of_three = 0;  // worlds
  uint64_t steps = 0;
  uint64_t trace_hash = 0;  // of all that the engines did
  void Add(const CloneWorldResult& other);
};

class CloneWorld {
 public:
  CloneWorld(uint64_t seed, CloneWorldOptions options);
  ~CloneWorld();
  CloneWorldResult Run();
  const std::vector<std::string>& trace() const { return trace_; }

 private:
  // Each reads from the one before; there is not always a base.
  enum Which : size_t { kBase, kParent, kClone, kSides };

  // A record in the catalog, beside the CatalogModel's, which has the part of it that takeovers change. In the real catalog
  // the two are one.
  struct Record {
    std::optional<v1::VolumeRecord> volume;
    uint64_t revision = 0;
  };
  // A snapshot that somebody reads from.
  struct Level {
    Which side{};
    uint64_t pin = 0;
    uint64_t blocks = 0;
  };
  // What a frontend knows of the volume that it serves, as host/local_host.h's Attached does.
  struct Attached {
    Epoch epoch = 0;            // 0: it does not serve
    v1::VolumeRecord seen;      // as of the last change of its own that is known to have come through
    bool putting = false;       // one is under way: others wait
    v1::ParentRecord parent;    // of a clone: whom reads fall through to
    std::vector<Level> line;    // that one, its parent, and so on
    bool reads_parent = false;  // they do
  };
  // A frontend's process with the volume attached, as an operator's call has found it.
  struct Process {
    Which side{};
    uint32_t frontend = 0;
    uint64_t life = 0;
    Epoch epoch = 0;
  };
  // The call of Flatten that is under way.
  struct Flattening {
    Process at;
    engine::Flatten decides;
    engine::Flatten::Step step;
    bool locked = false;
    uint64_t awaited = 0;  // a control or a request of its own
  };
  // The snapshot that is being taken.
  struct Taking {
    Process at;
    uint64_t pin = 0;
    uint64_t control = 0;
    uint64_t op = 0;  // of the clone: it is judged as a read
    Time asked{};
  };
  struct Side {
    std::string name;
    std::vector<std::unique_ptr<ReplicaNode>> replicas;
    std::unique_ptr<Network> network;
    std::unique_ptr<CatalogModel> catalog;
    std::vector<CatalogRecord> copies;
    std::vector<std::unique_ptr<Frontend>> frontends;
    std::vector<uint64_t> lives;  // by frontend: raised by each attach and crash
    std::vector<bool> busy;       // by frontend: an operator's call is under way, others wait
    std::vector<Attached> attached;  // by frontend
    Record record;
    uint64_t blocks = 0;
    uint64_t requests = 0;  // of the clients of a volume that clones are made of
    bool made = false;      // it is a volume
    bool watched = false;   // somebody sees to it that it is attached
    std::optional<Flattening> flattening;
    std::optional<Taking> taking;
  };
  struct Op {
    engine::RequestKind kind{};
    BlockRange range;
    Process at;
    bool falls_through = false;
    Time submitted{};
    bool done = false;
    bool ok = false;
  };
  using Done = std::function<void(absl::Status)>;
  using Change = std::function<absl::Status(v1::VolumeRecord*)>;
  using Blocks = std::vector<engine::ParentBlock>;

  // --- construction ---
  void DrawEngine();
  void MakeSide(Which which);
  void MakeFrontends(Which which);

  Which first() const { return line_.front(); }
  static Which ParentOf(Which clone) { return static_cast<Which>(clone - 1); }
  static Which CloneOf(Which parent) { return static_cast<Which>(parent + 1); }
  // As what the network of `asked` knows a frontend of `asker`, which reads from it.
  static uint32_t AsAsker(Which asker, Which asked, uint32_t frontend);

  // --- frontends ---
  Side& SideOf(const Process& process) { return sides_[process.side]; }
  Frontend& FrontendOf(const Process& process) { return *SideOf(process).frontends[process.frontend]; }
  Attached& AttachedOf(const Process& process) { return SideOf(process).attached[process.frontend]; }
  bool Alive(const Process& process);
  // Who serves, and is not fenced, as far as it knows; none: nobody.
  std::optional<Process> Serving(Which which);
  void AttachSome(Which which);
  void Crash(Which which, uint32_t frontend);
  void Serves(Which which, uint32_t frontend);
  void ControlDone(const Process& process, const engine::CompleteControl& done);

  // --- clients ---
  void WriteToParent(const Process& process);
  void SubmitSome(const Process& process);
  void SubmitOne(const Process& process);
  void Invoke(const engine::Request& request, const Process& process);
  void Completed(const Process& process, engine::CompleteRequest& done);
  void Returned(uint64_t id, const engine::CompleteRequest& done);
  uint64_t Shown(uint64_t stamp, uint64_t block);

  // --- the parent: clone_lineage.cc ---
  // Whom a volume with this parent reads from, the nearest first, as the catalog has it; none: one is gone.
  std::optional<std::vector<Level>> LineOf(const v1::ParentRecord& parent);
  // What the snapshots up the line have of `range`, as host/parent_reader.cc and pinned_reader.cc ask for it.
  void ReadParent(const Process& process, BlockRange range, std::function<void(absl::StatusOr<Blocks>)> done);
  struct ParentRead;
  void AskNext(const std::shared_ptr<ParentRead>& read);
  void AskMembers(const std::shared_ptr<ParentRead>& read, BlockRange range);
  void AskMember(const std::shared_ptr<ParentRead>& read, BlockRange range);
  void FillRead(const Process& process, uint64_t id, engine::CompleteRequest done);
  void FillPart(const Process& process, uint64_t id, BlockRange absent, const std::shared_ptr<engine::CompleteRequest>& filled,
                const std::shared_ptr<size_t>& left);
  void Filled(const Process& process, uint64_t id, const engine::CompleteRequest& filled);

  // --- an operator's calls: clone_lineage.cc ---
  void PutRecord(const Process& process, Which which, Change change, Done done);
  struct Put;
  void Apply(const Put& put, absl::StatusOr<v1::VolumeRecord>* result);
  void WriteAsKnown(Which which, Epoch epoch);
  static v1::VolumeRecord Known(const Attached& attached);
  void CutShort(const Process& process, const absl::Status& why, const char* what);
  void CloneSome(Which of);
  void MakeClone(const Process& process);
  void WriteClone(const Process& process, uint64_t id, const v1::SnapshotRecord& snapshot);
  void FinishClone(const Process& process, uint64_t id, const v1::SnapshotRecord& snapshot);
  bool SeeSnapshot(Which which, const v1::SnapshotRecord& snapshot);
  void DeleteSome(Which of);
  void DeleteIfUnread(const Process& process, const std::string& snapshot);
  void DropSnapshot(const Process& process, const std::string& snapshot);
  void FlattenSome(Which which);
  void FlattenNext(Which which);
  void FlattenDid(Which which, const absl::Status& status);
  void FlattenWrote(Which which, const engine::CompleteRequest& done);
  void DropParent(Which which);
  void ForgetClone(Which which, const v1::ParentRecord& parent);
  // As the one who serves the parent knows it; null: none.
  const v1::SnapshotRecord* SnapshotKnownTo(const Process& process);

  // --- snapshots: clone_snapshots.cc ---
  void SnapshotCloneSome();
  // Whether it has begun to.
  bool DropDoubtfulPins(const Process& process);
  void TakeSnapshot(const Process& process);
  bool SnapshotDone(const Process& process, const engine::CompleteControl& done);
  void NameSnapshot(Which which, uint64_t pin);
  void DropCloneSnapshot(const Process& process, const v1::SnapshotRecord& snapshot);
  std::optional<Blocks> PinnedBlocks(const Level& level, BlockRange range, std::optional<uint32_t> member);
  // `parent`: whom it reads from what it has nothing of itself. `member`: that one alone is asked for its own.
  std::optional<std::vector<uint64_t>> ContentAt(Which which, uint64_t pin, const v1::ParentRecord& parent,
                                                 std::optional<uint32_t> member = std::nullopt);
  void CheckSnapshots(bool readable);

  // --- faults and the end ---
  void FaultSome();
  void Inject(Which which);
  void Down(Which which, uint32_t replica, bool power_cut);
  void Heal();
  bool Finished();
  void ReadBack(const Process& process);
  void CheckRecords();
  void Violated(std::string what);
  void Trace(const std::string& line);

  const uint64_t seed_;
  const CloneWorldOptions options_;
  Dice dice_;
  Agenda agenda_;
  std::vector<std::string> trace_;
  CloneWorldResult result_;
  engine::Options engine_options_;
  LaneGeometry lanes_;
  bool flattens_ = false;
  std::vector<Which> line_;
  Side sides_[kSides];

  uint64_t next_pin_ = 1;
  uint64_t next_id_ = 100;  // of volumes
  uint64_t next_control_ = 1;

  std::unique_ptr<CloneJudge> judge_;  // once there is a clone
  Epoch active_epoch_ = 0;             // the clone's
  absl::flat_hash_map<uint64_t, Op> ops_;
  uint64_t next_op_ = 0;
  uint64_t submitted_ = 0;

  absl::flat_hash_map<uint64_t, std::vector<uint64_t>> taken_;  // snapshots, by pin: as they were then

  uint64_t faults_left_ = 0;
  Time heal_at_{};
  bool healed_ = false;
  std::optional<uint64_t> read_back_;  // operation
  const char* awaited_ = "";
};

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_CLONE_WORLD_H_
