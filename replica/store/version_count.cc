#include "replica/store/version_count.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "replica/store/keys.h"
#include "replica/store/rocks.h"

namespace weir::store {
namespace {

// A property's name holds a volume's id, its value the count.
std::string PropertyName(VolumeId volume) {
  return absl::StrCat("weir.versions.", static_cast<uint64_t>(volume));
}

class VersionCount : public rocksdb::TablePropertiesCollector {
 public:
  rocksdb::Status AddUserKey(const rocksdb::Slice& key, const rocksdb::Slice&,
                             rocksdb::EntryType type, rocksdb::SequenceNumber,
                             uint64_t) override {
    VersionKeyParts parts;
    if (type == rocksdb::kEntryBlobIndex && ParseVersionKey(View(key), &parts)) {
      ++counts_[parts.address.volume];
    }
    return rocksdb::Status::OK();
  }

  rocksdb::Status Finish(rocksdb::UserCollectedProperties* properties) override {
    *properties = GetReadableProperties();
    return rocksdb::Status::OK();
  }

  rocksdb::UserCollectedProperties GetReadableProperties() const override {
    rocksdb::UserCollectedProperties properties;
    for (const auto& [volume, count] : counts_) {
      properties[PropertyName(volume)] = EncodeNumber(count);
    }
    return properties;
  }

  const char* Name() const override { return "weir.VersionCount"; }

 private:
  std::map<VolumeId, uint64_t> counts_;
};

class VersionCountFactory : public rocksdb::TablePropertiesCollectorFactory {
 public:
  rocksdb::TablePropertiesCollector* CreateTablePropertiesCollector(
      rocksdb::TablePropertiesCollectorFactory::Context) override {
    return new VersionCount();
  }
  const char* Name() const override { return "weir.VersionCountFactory"; }
};

}  // namespace

std::shared_ptr<rocksdb::TablePropertiesCollectorFactory>
NewVersionCountFactory() {
  return std::make_shared<VersionCountFactory>();
}

uint64_t CountVersions(const rocksdb::TablePropertiesCollection& tables,
                       VolumeId volume) {
  uint64_t sum = 0;
  for (const auto& [file, properties] : tables) {
    auto found = properties->user_collected_properties.find(PropertyName(volume));
    uint64_t count = 0;
    if (found != properties->user_collected_properties.end() &&
        ParseNumber(found->second, &count)) {
      sum += count;
    }
  }
  return sum;
}

}  // namespace weir::store
