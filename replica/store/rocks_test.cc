#include "replica/store/rocks.h"

#include <dlfcn.h>
#include <sys/resource.h>

#include <cstdint>
#include <memory>
#include <string>

#include "gtest/gtest.h"
#include "proto/base/call_redirect.h"
#include "rocksdb/file_system.h"

namespace rocksdb::crc32c {
uint32_t Extend(uint32_t crc, const char* data, size_t size);
}  // namespace rocksdb::crc32c

namespace weir::store {
namespace {

constexpr char kExtend[] = "_ZN7rocksdb6crc32c6ExtendEjPKcm";

TEST(RocksTest, RocksDbUsesOurCrc32c) {
  // As its own calls are bound: the first object that has it, in the order of loading.
  void* bound = dlsym(RTLD_DEFAULT, kExtend);
  EXPECT_EQ(bound, reinterpret_cast<void*>(&rocksdb::crc32c::Extend));
  // And its own calls are bound so: to itself they would have no slot that could be set.
  EXPECT_TRUE(RedirectCall("librocksdb.so", kExtend, bound));
}

TEST(RocksTest, ItIsTheSameFunctionAsRocksDbsOwn) {
  void* library = dlopen("librocksdb.so.7.8", RTLD_LAZY | RTLD_NOLOAD);
  ASSERT_NE(library, nullptr) << dlerror();
  const auto own = reinterpret_cast<uint32_t (*)(uint32_t, const char*, size_t)>(dlsym(library, kExtend));
  ASSERT_NE(own, &rocksdb::crc32c::Extend);
  std::string bytes;
  uint32_t crc = 0;
  for (int i = 0; i < 300; ++i) {
    bytes.push_back(static_cast<char>(i * 7));
    const uint32_t expected = own(crc, bytes.data(), bytes.size());
    crc = rocksdb::crc32c::Extend(crc, bytes.data(), bytes.size());
    ASSERT_EQ(crc, expected) << bytes.size();
  }
  dlclose(library);
}

// By what RocksDB itself says of a process without descriptors.
TEST(RocksTest, AnErrorTellsOfAShortageOnlyIfNothingWasOpened) {
  rlimit before;
  ASSERT_EQ(getrlimit(RLIMIT_NOFILE, &before), 0);
  rocksdb::FileSystem* files = rocksdb::FileSystem::Default().get();
  const std::string path = ::testing::TempDir() + "/none";
  std::unique_ptr<rocksdb::FSWritableFile> file;
  std::unique_ptr<rocksdb::FSDirectory> directory;
  const rlimit none{0, before.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &none), 0);
  const rocksdb::Status no_file = files->NewWritableFile(path, {}, &file, nullptr);
  const rocksdb::Status no_directory = files->NewDirectory(::testing::TempDir(), {}, &directory, nullptr);
  ASSERT_EQ(setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_TRUE(TellsOfShortage(FromRocks(no_file, "disk"))) << no_file.ToString();
  EXPECT_TRUE(TellsOfShortage(FromRocks(no_directory, "disk"))) << no_directory.ToString();
  EXPECT_FALSE(TellsOfShortage(FromRocks(files->NewWritableFile(path + "/absent/file", {}, &file, nullptr), "disk")));
  EXPECT_FALSE(TellsOfShortage(FromRocks(rocksdb::Status::IOError("While fsync: f", "Cannot allocate memory"), "disk")));
}

}  // namespace
}  // namespace weir::store
