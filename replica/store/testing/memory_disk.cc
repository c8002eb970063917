#include "replica/store/testing/memory_disk.h"

#include <algorithm>

#include "proto/base/check.h"

namespace weir::store::testing {
namespace {

constexpr uint64_t kSectorBytes = 512;

uint64_t Below(Random* random, uint64_t limit) {
  return limit == 0 ? 0 : (*random)() % limit;
}

}  // namespace

void DiskNode::Apply(const PendingWrite& write, std::string* content) {
  if (write.truncate) {
    content->resize(write.offset);
    return;
  }
  if (content->size() < write.offset + write.bytes.size()) {
    content->resize(write.offset + write.bytes.size());
  }
  content->replace(write.offset, write.bytes.size(), write.bytes);
}

void DiskNode::Write(uint64_t offset, const std::string& bytes) {
  // Appends that follow each other are one write; they tear by sectors anyway.
  if (!writes_.empty() && !writes_.back().truncate &&
      writes_.back().offset + writes_.back().bytes.size() == offset) {
    writes_.back().bytes += bytes;
  } else {
    writes_.push_back({offset, bytes});
  }
  Apply({offset, bytes}, &live_);
}

void DiskNode::Truncate(uint64_t size) {
  writes_.push_back({size, "", /*truncate=*/true});
  live_.resize(size);
}

void DiskNode::SyncContent() {
  for (const PendingWrite& write : writes_) Apply(write, &durable_);
  writes_.clear();
}

void DiskNode::Replace(const std::string& content) {
  live_ = durable_ = content;
  writes_.clear();
}

DiskNodePtr DiskNode::Entry(const std::string& name) const {
  auto found = entries_.find(name);
  return found == entries_.end() ? nullptr : found->second;
}

void DiskNode::Apply(const PendingEntry& change,
                     std::map<std::string, DiskNodePtr>* entries) {
  if (!change.from.empty()) entries->erase(change.from);
  if (!change.to.empty()) (*entries)[change.to] = change.node;
}

void DiskNode::Link(const std::string& name, DiskNodePtr node) {
  changes_.push_back({"", name, std::move(node)});
  Apply(changes_.back(), &entries_);
}

void DiskNode::Unlink(const std::string& name) {
  changes_.push_back({name, "", nullptr});
  Apply(changes_.back(), &entries_);
}

void DiskNode::Rename(const std::string& from, const std::string& to) {
  DiskNodePtr node = Entry(from);
  CHECK(node != nullptr);
  changes_.push_back({from, to, std::move(node)});
  Apply(changes_.back(), &entries_);
}

void DiskNode::SyncEntries() {
  durable_entries_ = entries_;
  changes_.clear();
}

DiskNodePtr DiskNode::AfterKill() const {
  auto copy = std::make_shared<DiskNode>(directory_);
  copy->live_ = copy->durable_ = live_;
  for (const auto& [name, node] : entries_) {
    copy->entries_[name] = node->AfterKill();
  }
  copy->durable_entries_ = copy->entries_;
  return copy;
}

DiskNodePtr DiskNode::AfterPowerCut(Random* random) const {
  auto copy = std::make_shared<DiskNode>(directory_);
  copy->live_ = copy->durable_ = TornContent(random);
  std::map<std::string, DiskNodePtr> kept = durable_entries_;
  // Drop all, keep all, or keep each by chance: no order is promised.
  const uint64_t mode = Below(random, 3);
  for (const PendingEntry& change : changes_) {
    const bool keep = mode == 1 || (mode == 2 && Below(random, 2) == 0);
    if (keep) Apply(change, &kept);
  }
  for (const auto& [name, node] : kept) {
    copy->entries_[name] = node->AfterPowerCut(random);
  }
  copy->durable_entries_ = copy->entries_;
  return copy;
}

std::string DiskNode::TornContent(Random* random) const {
  if (writes_.empty()) return durable_;
  switch (Below(random, 4)) {
    case 0:
      return durable_;
    case 1:
      return live_;
    default:
      break;
  }
  // Sector by sector: new, old (zeros past the old end) or garbage. In half of
  // the cases all before some point is new and nothing behind it.
  uint64_t pending_bytes = 0;
  for (const PendingWrite& write : writes_) pending_bytes += write.bytes.size();
  const bool prefix = Below(random, 2) == 0;
  uint64_t left = Below(random, pending_bytes + 1);
  std::string content = durable_;
  for (const PendingWrite& write : writes_) {
    if (write.truncate) {
      if (Below(random, 2) == 0) Apply(write, &content);
      continue;
    }
    uint64_t at = 0;
    while (at < write.bytes.size()) {
      const uint64_t in_sector = (write.offset + at) % kSectorBytes;
      const uint64_t size =
          std::min(kSectorBytes - in_sector, write.bytes.size() - at);
      PendingWrite sector{write.offset + at, write.bytes.substr(at, size)};
      at += size;
      bool keep = Below(random, 2) == 0;
      if (prefix) {
        keep = left >= size;
        left -= std::min(left, size);
        if (!keep && left == 0 && Below(random, 2) == 0) return content;
      }
      if (!keep && Below(random, 2) == 0) continue;  // a hole, if more follows
      if (!keep) {
        for (char& byte : sector.bytes) byte = static_cast<char>((*random)());
      }
      Apply(sector, &content);
    }
  }
  return content;
}

}  // namespace weir::store::testing
