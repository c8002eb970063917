// A disk in memory that knows what was synced, and what a power cut may leave.
//
// Every file has what programs see (live) and what is on stable media
// (durable); between them lie the writes since the last sync, in order. So has
// every directory with its entries: creations, renames and deletions last only
// once the directory is synced. A cut drops, keeps or tears what lies between.
//
// Thread-safety: none; FaultFs serialises.
#ifndef WEIR_REPLICA_STORE_TESTING_MEMORY_DISK_H_
#define WEIR_REPLICA_STORE_TESTING_MEMORY_DISK_H_

#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

namespace weir::store::testing {

using Random = std::mt19937_64;

class DiskNode;
using DiskNodePtr = std::shared_ptr<DiskNode>;

// A file or a directory. Open handles keep a deleted one alive.
class DiskNode {
 public:
  explicit DiskNode(bool directory) : directory_(directory) {}
  bool directory() const { return directory_; }

  // --- files ---
  const std::string& content() const { return live_; }
  void Write(uint64_t offset, const std::string& bytes);
  void Truncate(uint64_t size);
  void SyncContent();
  // What a failed sync does: the writes stay visible, but are never written to
  // the media and no later sync will try again.
  void ForgetUnsynced() { writes_.clear(); }
  // Damage: changes live and durable content alike.
  void Replace(const std::string& content);

  // --- directories ---
  const std::map<std::string, DiskNodePtr>& entries() const { return entries_; }
  DiskNodePtr Entry(const std::string& name) const;
  void Link(const std::string& name, DiskNodePtr node);
  void Unlink(const std::string& name);
  void Rename(const std::string& from, const std::string& to);
  void SyncEntries();

  // Deep copies in which everything is durable.
  DiskNodePtr AfterKill() const;
  DiskNodePtr AfterPowerCut(Random* random) const;

 private:
  struct PendingWrite {
    uint64_t offset = 0;
    std::string bytes;
    bool truncate = false;  // to `offset`
  };
  struct PendingEntry {
    std::string from;  // removed, if not empty
    std::string to;    // made, if not empty
    DiskNodePtr node;
  };
  static void Apply(const PendingWrite& write, std::string* content);
  static void Apply(const PendingEntry& change,
                    std::map<std::string, DiskNodePtr>* entries);
  std::string TornContent(Random* random) const;

  const bool directory_;
  std::string live_;
  std::string durable_;
  std::vector<PendingWrite> writes_;
  std::map<std::string, DiskNodePtr> entries_;
  std::map<std::string, DiskNodePtr> durable_entries_;
  std::vector<PendingEntry> changes_;
};

}  // namespace weir::store::testing

#endif  // WEIR_REPLICA_STORE_TESTING_MEMORY_DISK_H_
