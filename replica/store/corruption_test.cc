// Damages every file of a closed store in turn: flips bits, truncates, swaps
// for an older copy, deletes, loses a sector's write or finds it elsewhere. The store must refuse to open, or fail reads, or
// be right; never quietly have less than was synced.
#include <algorithm>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>

#include "absl/strings/match.h"
#include "gtest/gtest.h"
#include "replica/store/store.h"
#include "replica/store/testing/machine.h"
#include "replica/store/testing/workload.h"

namespace weir::store {
namespace {

using testing::FaultFs;
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
  // A store with a live WAL, tables, blobs and unsynced writes on top, and an
  // image of its disk from some time before.
  void SetUp() override {
    Machine machine(std::make_shared<FaultFs>());
    ASSERT_TRUE(machine.Open(kDirectories).ok());
    ASSERT_TRUE(workload_.Attach(machine.store.get()).ok());
    Write(&machine, 12);
    older_ = machine.fs->AfterKill();
    Write(&machine, 30);
    ASSERT_TRUE(workload_.NotePoints(machine.store.get()).ok());
    Write(&machine, 30);
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
      status = workload_.model().Check(after.store.get(),
                                       workload_.model().answered(),
                                       {.read_errors = true});
      ++outcomes[status.ok() ? "right or read errors" : "WRONG"];
      EXPECT_TRUE(status.ok()) << name << " " << path << ": " << status;
    }
    for (const auto& [outcome, count] : outcomes) {
      std::cout << name << ": " << count << " " << outcome << "\n";
    }
  }

  Workload workload_{1, kVolume, kGeometry};
  std::shared_ptr<FaultFs> older_;
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
  absl::Status status =
      workload_.model().Check(after.store.get(), workload_.model().answered());
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

// What a disk writes at once.
constexpr size_t kSectorBytes = 4096;

// Of the eight places, or fewer in a small file, that are tried.
constexpr size_t kPlaces = 8;

std::optional<size_t> SectorAt(size_t place, const std::string& content) {
  const size_t sectors = content.size() / kSectorBytes;
  if (place >= sectors) return std::nullopt;
  return sectors < kPlaces ? place : (sectors - 1) * place / (kPlaces - 1);
}

TEST_F(CorruptionTest, ALostWriteIsFound) {
  for (size_t place = 0; place < kPlaces; ++place) {
    Loop("lost write", [&](FaultFs* fs, const std::string& path) {
      std::string content = fs->Content(path);
      const std::optional<size_t> sector = SectorAt(place, content);
      if (!sector) return false;
      content.replace(*sector * kSectorBytes, kSectorBytes, kSectorBytes, '\0');
      fs->SetContent(path, content);
      return true;
    });
  }
}

// It has gone to another place of the file or, for the last, of the next file; where it belongs nothing is.
TEST_F(CorruptionTest, AMisdirectedWriteIsFound) {
  for (size_t place = 0; place < kPlaces; ++place) {
    Loop("misdirected write", [&](FaultFs* fs, const std::string& path) {
      const std::vector<std::string> files = fs->Files();
      const size_t file = std::find(files.begin(), files.end(), path) - files.begin();
      std::string content = fs->Content(path);
      const std::optional<size_t> from = SectorAt(place, content);
      if (!from) return false;
      const std::string sector = content.substr(*from * kSectorBytes, kSectorBytes);
      content.replace(*from * kSectorBytes, kSectorBytes, kSectorBytes, '\0');
      if (place == kPlaces - 1) {
        const std::string& other = files[(file + 1) % files.size()];
        std::string overwritten = fs->Content(other);
        overwritten.replace(0, std::min(overwritten.size(), kSectorBytes), sector);
        fs->SetContent(other, overwritten);
      } else {
        const size_t to = (*from + 1 + place) % (content.size() / kSectorBytes);
        content.replace(to * kSectorBytes, kSectorBytes, sector);
      }
      fs->SetContent(path, content);
      return true;
    });
  }
}

TEST_F(CorruptionTest, AFileSwappedForAnOlderCopyIsFound) {
  const std::vector<std::string> files = older_->Files();
  Loop("older copy", [&](FaultFs* fs, const std::string& path) {
    if (std::find(files.begin(), files.end(), path) == files.end()) return false;
    if (older_->Content(path) == fs->Content(path)) return false;
    fs->SetContent(path, older_->Content(path));
    return true;
  });
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
      absl::Status status = workload_.model().Check(
          after.store.get(), workload_.model().answered());
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
    absl::Status status = workload_.model().Check(
        after.store.get(), workload_.model().answered(), {.read_errors = true});
    EXPECT_TRUE(status.ok())
        << files[i] << " and " << files[i + 1] << ": " << status;
  }
}

}  // namespace
}  // namespace weir::store
