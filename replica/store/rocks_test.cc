#include "replica/store/rocks.h"

#include <dlfcn.h>

#include <cstdint>
#include <string>

#include "gtest/gtest.h"
#include "proto/base/call_redirect.h"

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

}  // namespace
}  // namespace weir::store
