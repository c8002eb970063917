// What befalls a simulated cluster, by chance or by a script.
#ifndef WEIR_TESTS_SIM_FAULT_H_
#define WEIR_TESTS_SIM_FAULT_H_

#include <string>
#include <vector>

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
  kMisdirected,    // a write lands on another block
  kErrors,         // EIO once or twice: final for the target, until the next attach
  kSyncFails,      // final for the store
  kFull,
  kCatalogOutage,
  kCatalogLoss,
  kCatalogCut,     // from one frontend
  kCrashFrontend,
  kPauseFrontend,
  kAttachElsewhere,
  kSplit,
  kLateAnswers,    // and then a split: the last answers come when the next frontend is there
  kDoubt,          // a leave is committed, and who asked for it does not hear of it
  kSuspend,
  kReclaim,
  kReplaceDisk,
  kOldDisk,        // a copy from before the epoch that serves takes the disk's place
  kLostSynced,     // found at the next start; final for the store
  kLoseCatalog,    // and rebuild it from the replicas' copies
  kFreezeReplica,  // its process stands still, and goes on
  kSyncHangs,      // nothing fails, and nothing is synced
  kCatalogSlow,
  kDetach,
  kForgetSeal,     // by script only: from here on chance draws none
  kLoseCatalogAtDelete,  // of a snapshot: the copies of the record have it still
  kFaultKinds,
};
inline constexpr Fault kChanceKinds = Fault::kForgetSeal;
const char* NameOf(Fault fault);

// A schedule that chance seldom comes to: these faults, one after the other, and they befall whoever serves.
struct Script {
  const char* name;
  std::vector<Fault> faults;
  bool spare = false;  // two members, none of which may leave before a third replica has come in
};
// In a script: by the seed, so that each fault has its turn there, beside each of another such place.
inline constexpr Fault kAnyFault = Fault::kFaultKinds;
const std::vector<Script>& Scripts();
std::vector<std::string> ScriptNames();
const Script* FindScript(const std::string& name);  // null: there is none

}  // namespace weir::sim

#endif  // WEIR_TESTS_SIM_FAULT_H_
