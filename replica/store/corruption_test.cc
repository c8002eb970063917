// Damages every file of a closed store in turn: flips bits, truncates, swaps
// for an older copy, deletes, loses a sector's write or finds it elsewhere; and has a single read answered from elsewhere, or as of
// before. The store must refuse to open, or fail reads, or be right; never quietly have less than was synced.
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "replica/store/store.h"
#include "replica/store/testing/extras.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/workload.h"

namespace weir::store {
namespace {

using testing::Extras;
using testing::FaultFs;
using testing::Leniency;
using testing::Machine;
using testing::Workload;

constexpr VolumeId kVolume{7};
constexpr VolumeGeometry kGeometry{.size_blocks = 64,
                                   .lanes = {.lanes = 2, .stripe_blocks = 8}};
constexpr int kDirectories = 2;

// Damages `path`; false if there is nothing to do.
using Damage = std::function<bool(FaultFs* fs, const std::string& path)>;

class CorruptionTest : public ::testing::Test {
 protected:
  // A store with a live WAL, tables, blobs and unsynced writes on top, pins,
  // marks and a record's copy, and images of its disk from some time before.
  void SetUp() override {
    Machine machine(std::make_shared<FaultFs>());
    ASSERT_TRUE(machine.Open(kDirectories).ok());
    ASSERT_TRUE(workload_.Attach(machine.store.get()).ok());
    Write(&machine, 12);
    FlushAll(&machine);
    absl::Status status = extras_.Make(machine.store.get(), workload_.model());
    ASSERT_TRUE(status.ok()) << status;
    older_["of a life before"] = machine.fs->AfterKill();
    machine.store.reset();
    ASSERT_TRUE(machine.Open(kDirectories).ok());
    older_["of this life"] = machine.fs->AfterKill();
    Write(&machine, 30);
    ASSERT_TRUE(workload_.NotePoints(machine.store.get()).ok());
    Write(&machine, 30);
    FlushAll(&machine);
    // So little that the WALs do not change.
    older_["of this WAL"] = machine.fs->AfterKill();
    status = extras_.Script(machine.store.get(), workload_.model());
    ASSERT_TRUE(status.ok()) << status;
    ASSERT_TRUE(workload_.Write(machine.store.get(), 2, 2).ok());
    FlushAll(&machine);
    ASSERT_TRUE(workload_.Write(machine.store.get(), 2, 2).ok());
    image_ = machine.fs->AfterKill();
  }
  void Write(Machine* machine, int calls) {
    for (int i = 0; i < calls; ++i) {
      ASSERT_TRUE(workload_.Write(machine->store.get(), 4, 8).ok());
      if (i % 5 == 0) FlushAll(machine);
    }
  }
  void FlushAll(Machine* machine) {
    for (int i = 0; i < kDirectories; ++i) {
      ASSERT_TRUE(workload_.Flush(machine->store.get(), i).ok());
    }
  }

  // OK if what opened is right. By `leniency` reads may fail.
  absl::Status Check(Store* store, Leniency leniency = {}) {
    const absl::Status status = workload_.model().Check(store, workload_.model().answered(), leniency);
    if (!status.ok()) return status;
    return extras_.Check(store, workload_.model(), extras_.answered(), leniency);
  }

  // Applies `damage` to each file, and judges what opens.
  void Loop(const char* name, const Damage& damage) {
    std::map<std::string, int> outcomes;
    for (const std::string& path : image_->Files()) {
      Machine after(image_->AfterKill());
      if (!damage(after.fs.get(), path)) continue;
      after.OpenFaster();
      absl::Status status = after.Open(kDirectories);
      if (!status.ok()) {
        ++outcomes["refused"];
        EXPECT_TRUE(absl::IsDataLoss(status) ||
                    absl::IsFailedPrecondition(status))
            << status;
        continue;
      }
      status = Check(after.store.get(), {.read_errors = true});
      ++outcomes[status.ok() ? "right or read errors" : "WRONG"];
      EXPECT_TRUE(status.ok()) << name << " " << path << ": " << status;
    }
    for (const auto& [outcome, count] : outcomes) {
      std::cout << name << ": " << count << " " << outcome << "\n";
    }
  }

  Workload workload_{1, kVolume, kGeometry};
  Extras extras_{kVolume};
  std::map<std::string, std::shared_ptr<FaultFs>> older_;  // by what it is
  std::shared_ptr<FaultFs> image_;
};

TEST_F(CorruptionTest, CoversEveryKindOfFile) {
  std::set<std::string> kinds;
  for (const std::string& path : image_->Files()) {
    for (const char* kind : {".log", ".sst", ".blob", "MANIFEST-", "CURRENT",
                             "OPTIONS-", "IDENTITY", "FLOOR", "STORE"}) {
      if (absl::StrContains(path, kind)) kinds.insert(kind);
    }
  }
  EXPECT_EQ(kinds.size(), 9u);
  // Undamaged, it opens and is right.
  Machine after(image_->AfterKill());
  ASSERT_TRUE(after.Open(kDirectories).ok());
  const absl::Status status = Check(after.store.get());
  EXPECT_TRUE(status.ok()) << status;
}

TEST_F(CorruptionTest, AFlippedBitIsFound) {
  // At ten places of each file, its first and last byte among them.
  for (int place = 0; place < 10; ++place) {
    Loop("flip", [&](FaultFs* fs, const std::string& path) {
      std::string content = fs->Content(path);
      if (content.empty()) return false;
      content[(content.size() - 1) * place / 9] ^= 1 << (place % 8);
      fs->SetContent(path, content);
      return true;
    });
  }
}

TEST_F(CorruptionTest, ATruncationIsFound) {
  for (int part : {0, 1, 50, 90, 99}) {
    Loop("truncate", [&](FaultFs* fs, const std::string& path) {
      std::string content = fs->Content(path);
      if (content.empty()) return false;
      content.resize(content.size() * part / 100);
      fs->SetContent(path, content);
      return true;
    });
  }
  Loop("truncate by one", [&](FaultFs* fs, const std::string& path) {
    std::string content = fs->Content(path);
    if (content.empty()) return false;
    content.pop_back();
    fs->SetContent(path, content);
    return true;
  });
}

// What a disk writes at once. The last one of a file may be shorter.
constexpr size_t kSectorBytes = 4096;
// Of each file so many sectors are tried, or all if it has fewer.
constexpr size_t kPlaces = 8;

size_t Sectors(const std::string& content) { return (content.size() + kSectorBytes - 1) / kSectorBytes; }

std::optional<size_t> SectorAt(size_t place, const std::string& content) {
  const size_t sectors = Sectors(content);
  if (place >= sectors) return std::nullopt;
  return sectors < kPlaces ? place : (sectors - 1) * place / (kPlaces - 1);
}

// What of `bytes` fits into the sector.
void PutSector(size_t sector, const std::string& bytes, std::string* content) {
  const size_t size = std::min({bytes.size(), kSectorBytes, content->size() - sector * kSectorBytes});
  content->replace(sector * kSectorBytes, size, bytes.substr(0, size));
}

TEST_F(CorruptionTest, ALostWriteIsFound) {
  for (size_t place = 0; place < kPlaces; ++place) {
    Loop("lost write", [&](FaultFs* fs, const std::string& path) {
      std::string content = fs->Content(path);
      const std::optional<size_t> sector = SectorAt(place, content);
      if (!sector) return false;
      PutSector(*sector, std::string(kSectorBytes, '\0'), &content);
      fs->SetContent(path, content);
      return true;
    });
  }
}

// Where it belongs nothing is; it has gone to another place of the file, or to the next file.
TEST_F(CorruptionTest, AMisdirectedWriteIsFound) {
  for (const bool to_next_file : {false, true}) {
    for (size_t place = 0; place < kPlaces; ++place) {
      Loop("misdirected write", [&](FaultFs* fs, const std::string& path) {
        std::string content = fs->Content(path);
        const std::optional<size_t> from = SectorAt(place, content);
        const size_t sectors = Sectors(content);
        if (!from || (!to_next_file && sectors < 2)) return false;
        const std::string sector = content.substr(*from * kSectorBytes, kSectorBytes);
        PutSector(*from, std::string(kSectorBytes, '\0'), &content);
        if (to_next_file) {
          const std::vector<std::string> files = fs->Files();
          const size_t file = std::find(files.begin(), files.end(), path) - files.begin();
          const std::string& other = files[(file + 1) % files.size()];
          std::string overwritten = fs->Content(other);
          if (!overwritten.empty()) PutSector(0, sector, &overwritten);
          fs->SetContent(other, overwritten);
        } else {
          PutSector((*from + 1 + place % (sectors - 1)) % sectors, sector, &content);
        }
        fs->SetContent(path, content);
        return true;
      });
    }
  }
}

// The kind of a file that changes while its name stays.
std::string KindOf(const std::string& path) {
  for (const char* kind : {".log", "MANIFEST-", "CURRENT", "FLOOR"}) {
    if (absl::StrContains(path, kind)) return kind;
  }
  return path;
}

TEST_F(CorruptionTest, AFileSwappedForAnOlderCopyIsFound) {
  std::map<std::string, int> swapped;  // by kind
  for (const auto& image : older_) {
    const std::string& which = image.first;
    const std::shared_ptr<FaultFs>& older = image.second;
    const std::vector<std::string> files = older->Files();
    Loop("older copy", [&](FaultFs* fs, const std::string& path) {
      if (std::find(files.begin(), files.end(), path) == files.end()) return false;
      if (older->Content(path) == fs->Content(path)) return false;
      fs->SetContent(path, older->Content(path));
      ++swapped[KindOf(path) + " " + which];
      return true;
    });
  }
  for (const auto& [kind, count] : swapped) std::cout << count << " older copies of " << kind << "\n";
  // Of other kinds no file changes while its name stays, once it is written.
  for (const char* what : {".log of this WAL", "MANIFEST- of this life", "CURRENT of a life before",
                           "FLOOR of a life before", "FLOOR of this life", "FLOOR of this WAL"}) {
    EXPECT_GE(swapped[what], 1) << what;
  }
}

// What fits together is found all the same: by the floor, or, if that is older too, by the other directories.
TEST_F(CorruptionTest, OlderFilesThatFitTogetherAreFound) {
  for (const auto& [which, older] : older_) {
    for (int i = 0; i < kDirectories; ++i) {
      for (const bool floor_too : {false, true}) {
        // Nothing tells a whole directory from what it was in this life.
        if (floor_too && which != "of a life before") continue;
        Machine after(image_->AfterKill());
        const std::string directory = Machine::Directory(i) + "/";
        for (const std::string& path : image_->Files()) {
          const bool stays = absl::EndsWith(path, "/FLOOR");
          if (absl::StartsWith(path, directory) && !stays) after.fs->Remove(path);
        }
        for (const std::string& path : older->Files()) {
          const bool stays = absl::EndsWith(path, "/FLOOR") && !floor_too;
          if (absl::StartsWith(path, directory) && !stays) {
            after.fs->SetContent(path, older->Content(path));
          }
        }
        after.OpenFaster();
        const absl::Status status = after.Open(kDirectories);
        EXPECT_TRUE(absl::IsDataLoss(status)) << which << " " << directory << (floor_too ? " with its floor " : " ")
                                              << status;
      }
    }
  }
}

// The disk is whole, and answers one read wrong: while the store opens, or when it is read.
TEST_F(CorruptionTest, AReadFromElsewhereOrOfBeforeIsFound) {
  std::map<std::string, FaultFs::Misread> misreads;
  misreads["the next sector's"] = [](const std::string&, const std::string& content, uint64_t offset, size_t n) {
    if (offset >= content.size()) return std::string();
    const size_t size = std::min<size_t>(n, content.size() - offset);
    const size_t from = (offset + kSectorBytes) % content.size();
    std::string read = content.substr(from, size);
    read += content.substr(0, size - read.size());
    return read;
  };
  for (const auto& image : older_) {
    std::map<std::string, std::string> older;
    for (const std::string& path : image.second->Files()) older[path] = image.second->Content(path);
    misreads[image.first] = [older](const std::string& path, const std::string& content, uint64_t offset, size_t n) {
      const auto found = older.find(path);
      const std::string& before = found == older.end() ? content : found->second;
      return before.substr(std::min<size_t>(offset, before.size()), n);
    };
  }
  for (const auto& [what, misread] : misreads) {
    std::map<std::string, int> outcomes;
    // Each of the first 50, then fewer: what is read while a store opens comes first.
    for (uint64_t nth = 1;; nth += 1 + nth / 50) {
      Machine after(image_->AfterKill());
      after.OpenFaster();
      after.fs->MisreadAt(nth, misread);
      absl::Status status = after.Open(kDirectories);
      if (!status.ok()) {
        ++outcomes["refused"];
        EXPECT_TRUE(absl::IsDataLoss(status) || absl::IsFailedPrecondition(status)) << status;
      } else {
        status = Check(after.store.get(), {.read_errors = true});
        // A compaction that meets it first, which is a matter of threads, ends the store: nothing is answered any more.
        const bool ended = absl::IsDataLoss(status) && !after.store->health().ok();
        ++outcomes[status.ok() ? "right or read errors" : ended ? "ended" : "WRONG"];
        EXPECT_TRUE(status.ok() || ended) << "read " << nth << " is " << what << ": " << status;
      }
      if (!after.fs->has_misread()) break;
    }
    for (const auto& [outcome, count] : outcomes) std::cout << what << ": " << count << " " << outcome << "\n";
    EXPECT_GT(outcomes["refused"], 0) << what;
    EXPECT_GT(outcomes["right or read errors"], 0) << what;
  }
}

TEST_F(CorruptionTest, AMissingFileIsFound) {
  Loop("delete", [&](FaultFs* fs, const std::string& path) {
    fs->Remove(path);
    return true;
  });
}

// Every truncation of what is appended to: a WAL, and the MANIFEST, may end at
// a record's boundary, where nothing looks damaged.
TEST_F(CorruptionTest, AWalOrManifestThatEndsEarlyAnywhereIsFound) {
  for (const std::string& path : image_->Files()) {
    const bool manifest = absl::StrContains(path, "MANIFEST-");
    if (!manifest && !absl::EndsWith(path, ".log")) continue;
    const std::string content = image_->Content(path);
    // The batches are some 30 KiB, so this meets every gap between them.
    const size_t step = manifest ? 23 : 4099;
    for (size_t size = content.size() % step; size < content.size();
         size += step) {
      Machine after(image_->AfterKill());
      after.fs->SetContent(path, content.substr(0, size));
      after.OpenFaster();
      if (!after.Open(kDirectories).ok()) continue;
      const absl::Status status = Check(after.store.get());
      EXPECT_TRUE(status.ok()) << path << " cut at " << size << " of "
                               << content.size() << ": " << status;
    }
  }
}

TEST_F(CorruptionTest, EachPairOfDatabaseFilesSwappedIsFound) {
  const std::vector<std::string> files = image_->Files();
  for (size_t i = 0; i + 1 < files.size(); ++i) {
    Machine after(image_->AfterKill());
    const std::string first = after.fs->Content(files[i]);
    after.fs->SetContent(files[i], after.fs->Content(files[i + 1]));
    after.fs->SetContent(files[i + 1], first);
    after.OpenFaster();
    if (!after.Open(kDirectories).ok()) continue;
    const absl::Status status = Check(after.store.get(), {.read_errors = true});
    EXPECT_TRUE(status.ok())
        << files[i] << " and " << files[i + 1] << ": " << status;
  }
}

}  // namespace
}  // namespace weir::store
