// Attaching over the kernel's NBD client, with a fake of it, and the choice between that and the other way.
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/csi/chosen_attach.h"
#include "client/csi/kernel_nbd.h"
#include "client/csi/names.h"
#include "client/nbd_device/fake_kernel.h"
#include "gtest/gtest.h"

namespace weir::csi {
namespace {

using nbd_device::FakeKernel;

// weir-nbd is a script that says what it is told to.
class KernelNbdTest : public ::testing::Test {
 protected:
  KernelNbdTest() : dir_(MakeFolder()) { Program("echo /dev/nbd0"); }
  ~KernelNbdTest() override {
    if (lock_ >= 0) ::close(lock_);
    std::filesystem::remove_all(dir_);
  }

  static std::string MakeFolder() {
    std::string name = std::filesystem::path(::testing::TempDir()) / "attachXXXXXX";
    return ::mkdtemp(name.data());
  }

  void Program(const std::string& body) {
    std::ofstream(dir_ + "/weir-nbd") << "#!/bin/sh\necho \"$@\" > " << dir_ << "/words\n" << body << "\n";
    ::chmod((dir_ + "/weir-nbd").c_str(), 0700);
  }
  std::string Words() {
    std::ifstream file(dir_ + "/words");
    std::string words;
    std::getline(file, words);
    return words;
  }

  KernelNbd Make(TlsFiles tls = {}) {
    return KernelNbd({dir_ + "/state", dir_ + "/weir-nbd", tls,
                      [](const std::string&, absl::Time) -> absl::StatusOr<uint64_t> { return 8 << 20; },
                      absl::Milliseconds(50), absl::Milliseconds(50)},
                     &kernel_);
  }

  // What begins the notes of this state directory's devices.
  std::string Tag() { return Sha256Hex(dir_ + "/state").substr(0, 8); }

  // As weir-nbd does, run by whomever.
  uint32_t ConnectByHand(const std::string& volume, const std::string& note) {
    const std::string backend = nbd_device::BackendOf(volume, note, absl::StrCat("i", ++instances_));
    return kernel_.Connect({-1, 4 << 20, 0, absl::Seconds(1), backend})->index;
  }
  // As the driver's weir-nbd; `served`: it lives.
  void Connect(const std::string& volume, const std::string& note, bool served) {
    ConnectByHand(volume, Tag() + note);
    const std::string folder = dir_ + "/state/" + volume;
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/nbd.log") << "hello\n";
    if (!served) return;
    lock_ = ::open((folder + "/nbd.log").c_str(), O_RDONLY | O_CLOEXEC);
    ASSERT_EQ(::flock(lock_, LOCK_EX | LOCK_NB), 0);
  }
  nbd_device::NbdDevice Device(uint32_t index) { return {index, kernel_.devices[index].backend}; }
  // It has ended.
  void Unlock() { ::close(std::exchange(lock_, -1)); }

  bool StateIsEmpty() {
    std::filesystem::create_directories(dir_ + "/state");
    return std::filesystem::is_empty(dir_ + "/state");
  }

  const std::string dir_;
  FakeKernel kernel_;
  int lock_ = -1;
  int instances_ = 0;
};

TEST_F(KernelNbdTest, AttachesByWeirNbd) {
  KernelNbd attach = Make({"/c.pem", "/c.key", "/ca.pem"});
  const auto device = attach.Attach({"pvc-1", "10.0.0.1:7700", "m0123", true}, absl::Now() + absl::Seconds(60));
  ASSERT_TRUE(device.ok()) << device.status();
  EXPECT_EQ(device->path, "/dev/nbd0");
  EXPECT_EQ(device->note, "m0123");
  EXPECT_EQ(Words(), absl::StrCat("--frontend=10.0.0.1:7700 --volume=pvc-1 --note=", Tag(), "m0123 --hold=5m --log=", dir_,
                                  "/state/pvc-1/nbd.log --read_only --tls_cert=/c.pem --tls_key=/c.key --tls_ca=/ca.pem"));
}

TEST_F(KernelNbdTest, AFailedAttachLeavesNothing) {
  Program("echo no such volume >&2; exit 1");
  KernelNbd attach = Make();
  const absl::Status status = attach.Attach({"pvc-1", "10.0.0.1:7700", "m0", false}, absl::Now() + absl::Seconds(60)).status();
  EXPECT_NE(std::string(status.message()).find("no such volume"), std::string::npos) << status;
  EXPECT_TRUE(StateIsEmpty());
  // Also where the device came to be, and whoever was to hear of it did not.
  Connect("pvc-1", "m0", /*served=*/false);
  EXPECT_FALSE(attach.Attach({"pvc-1", "10.0.0.1:7700", "m0", false}, absl::Now() + absl::Seconds(60)).ok());
  EXPECT_TRUE(kernel_.devices.empty());
  EXPECT_TRUE(StateIsEmpty());
}

TEST_F(KernelNbdTest, FindsByTheBackendsNameWhatItWasAttachedFor) {
  Connect("pvc-10", "b77", /*served=*/false);
  Connect("pvc-1", "m0123", /*served=*/true);
  KernelNbd attach = Make();
  const auto found = attach.Find("pvc-1");
  ASSERT_TRUE(found.ok() && found->has_value());
  EXPECT_EQ((*found)->path, "/dev/nbd1");
  EXPECT_EQ((*found)->note, "m0123");
  EXPECT_TRUE((*found)->serves);
  EXPECT_FALSE((*attach.Find("pvc-10"))->serves) << "nobody holds the lock";
  EXPECT_FALSE(attach.Find("pvc")->has_value());
}

TEST_F(KernelNbdTest, ADeviceThatItHasNotMadeIsNeitherFoundNorChanged) {
  // By hand, and by a driver with another state directory.
  const uint32_t devices[] = {ConnectByHand("pvc-1", ""), ConnectByHand("pvc-1", Sha256Hex("/elsewhere").substr(0, 8) + "m0")};
  KernelNbd attach = Make();
  EXPECT_FALSE(attach.Find("pvc-1")->has_value());
  EXPECT_TRUE(attach.Fail("pvc-1").ok());
  EXPECT_TRUE(attach.Refuse("pvc-1", absl::InfiniteFuture()).ok());
  EXPECT_TRUE(attach.Resize("pvc-1", absl::InfiniteFuture()).ok());
  EXPECT_TRUE(attach.Detach("pvc-1", absl::InfiniteFuture()).ok());
  for (const uint32_t index : devices) {
    ASSERT_EQ(kernel_.devices.count(index), 1u);
    EXPECT_EQ(kernel_.devices[index].size_bytes, 4u << 20);
  }
  const absl::Status refused = attach.Attach({"pvc-1", "10.0.0.1:7700", "m0", false}, absl::Now() + absl::Seconds(60)).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
  EXPECT_NE(refused.message().find("/dev/nbd0"), std::string::npos) << refused;
  EXPECT_EQ(Words(), "") << "no weir-nbd was started";
  EXPECT_TRUE(attach.Attach({"pvc", "10.0.0.1:7700", "m0", false}, absl::Now() + absl::Seconds(60)).ok()) << "another volume";
}

TEST_F(KernelNbdTest, ItsDevicesAreItsOwnHoweverTheFolderIsSpelt) {
  Connect("pvc-1", "m0", /*served=*/false);
  KernelNbd attach({dir_ + "//state/", dir_ + "/weir-nbd", {}, nullptr, absl::Milliseconds(50)}, &kernel_);
  EXPECT_TRUE(attach.Find("pvc-1")->has_value());
}

TEST_F(KernelNbdTest, DetachEndsADeviceThatNobodyUses) {
  Connect("pvc-1", "m0", /*served=*/true);
  EXPECT_TRUE(absl::IsUnavailable(Make().Detach("pvc-1", absl::InfiniteFuture()))) << "its weir-nbd is still there";
  EXPECT_TRUE(kernel_.devices.empty());
  EXPECT_FALSE(StateIsEmpty()) << "the lock keeps the next one away";
  Unlock();
  EXPECT_TRUE(Make().Detach("pvc-1", absl::InfiniteFuture()).ok());
  EXPECT_TRUE(StateIsEmpty());
  EXPECT_TRUE(Make().Detach("pvc-1", absl::InfiniteFuture()).ok()) << "there is nothing any more";
}

TEST_F(KernelNbdTest, ADeviceInUseStaysAndDoesNotEndLaterEither) {
  Connect("pvc-1", "m0", /*served=*/true);
  kernel_.devices[0].open = true;
  EXPECT_EQ(Make().Detach("pvc-1", absl::InfiniteFuture()).code(), absl::StatusCode::kFailedPrecondition);
  kernel_.Close(0);
  EXPECT_EQ(kernel_.devices.size(), 1u);
}

TEST_F(KernelNbdTest, KeepTakesBackWhatADetachThatWasCutOffHasLeft) {
  Connect("pvc-1", "m0", /*served=*/true);
  kernel_.devices[0].open = true;
  kernel_.devices[0].ends_once_unused = true;
  EXPECT_TRUE(Make().Keep("pvc-1").ok());
  kernel_.Close(0);
  ASSERT_EQ(kernel_.devices.size(), 1u);
  kernel_.devices[0].open = true;
  EXPECT_TRUE(kernel_.Disconnect(Device(0)).ok());
  EXPECT_FALSE(Make().Keep("pvc-1").ok()) << "it is too late";
}

TEST_F(KernelNbdTest, RemainsThatNobodyServesEndAtOnce) {
  Connect("pvc-1", "m0", /*served=*/false);
  EXPECT_TRUE(Make().Detach("pvc-1", absl::InfiniteFuture()).ok());
  EXPECT_TRUE(kernel_.devices.empty());
}

TEST_F(KernelNbdTest, RemainsInUseEndOnceTheyAreClosedAndTheirRequestsAtOnce) {
  Connect("pvc-1", "m0", /*served=*/false);
  kernel_.devices[0].open = true;  // by somebody whose requests would wait
  for (int i = 0; i < 2; ++i) {
    const absl::Status refused = Make().Detach("pvc-1", absl::InfiniteFuture());
    EXPECT_TRUE(absl::IsFailedPrecondition(refused)) << refused;
    EXPECT_TRUE(kernel_.devices[0].dead);
  }
  kernel_.Close(0);
  EXPECT_TRUE(Make().Detach("pvc-1", absl::InfiniteFuture()).ok());
  EXPECT_TRUE(StateIsEmpty());
}

TEST_F(KernelNbdTest, FailEndsTheRequestsOfADeviceThatNobodyServes) {
  Connect("pvc-1", "m0", /*served=*/true);
  kernel_.devices[0].open = true;
  EXPECT_TRUE(Make().Fail("pvc-1").ok());
  EXPECT_FALSE(kernel_.devices[0].dead) << "it is served";
  Unlock();
  for (int i = 0; i < 2; ++i) {
    EXPECT_TRUE(Make().Fail("pvc-1").ok());
    EXPECT_TRUE(kernel_.devices[0].dead);
  }
  EXPECT_FALSE((*Make().Find("pvc-1"))->serves) << "it is found until it is closed";
}

TEST_F(KernelNbdTest, RefuseHasOneWeirNbdAnswerForADeviceThatNobodyServesAndLeavesIt) {
  Connect("pvc-1", "b0", /*served=*/true);
  kernel_.devices[0].open = true;
  EXPECT_TRUE(Make().Refuse("pvc-1", absl::Now() + absl::Seconds(60)).ok());
  EXPECT_EQ(Words(), "") << "it is served";
  // Both processes have been killed.
  ASSERT_EQ(::flock(lock_, LOCK_UN), 0);
  Program("echo no memory >&2; exit 1");
  EXPECT_FALSE(Make().Refuse("pvc-1", absl::Now() + absl::Seconds(60)).ok());
  Program("");
  EXPECT_TRUE(Make().Refuse("pvc-1", absl::Now() + absl::Seconds(60)).ok());
  EXPECT_EQ(Words(), absl::StrCat("--refuse=weir:pvc-1:", Tag(), "b0:i1 --volume=pvc-1 --log=", dir_, "/state/pvc-1/nbd.log"));
  EXPECT_FALSE(kernel_.devices[0].dead) << "its number stays its own";
  // As that weir-nbd does.
  ASSERT_EQ(::flock(lock_, LOCK_SH | LOCK_NB), 0);
  std::filesystem::remove(dir_ + "/words");
  EXPECT_TRUE(Make().Refuse("pvc-1", absl::Now() + absl::Seconds(60)).ok());
  EXPECT_EQ(Words(), "") << "one is enough";
  EXPECT_FALSE((*Make().Find("pvc-1"))->serves);
  EXPECT_TRUE(absl::IsFailedPrecondition(Make().Detach("pvc-1", absl::InfiniteFuture()))) << "somebody has it open";
  kernel_.Close(0);
  EXPECT_TRUE(Make().Detach("pvc-1", absl::InfiniteFuture()).ok());
  EXPECT_TRUE(StateIsEmpty());
}

TEST_F(KernelNbdTest, ResizeTellsTheKernelTheVolumesSize) {
  Connect("pvc-1", "m0", /*served=*/true);
  Connect("pvc-2", "m0", /*served=*/false);
  EXPECT_TRUE(Make().Resize("pvc-1", absl::InfiniteFuture()).ok());
  EXPECT_EQ(kernel_.devices[0].size_bytes, 8u << 20);
  EXPECT_EQ(kernel_.devices[1].size_bytes, 4u << 20) << "another volume's";
}

// A way that remembers.
class FakeAttach final : public BlockAttach {
 public:
  explicit FakeAttach(std::string path) : path_(std::move(path)) {}

  absl::StatusOr<AttachedDevice> Attach(const Request& request, absl::Time) override {
    device = AttachedDevice{path_, request.note};
    return *device;
  }
  absl::StatusOr<std::optional<AttachedDevice>> Find(const std::string&) override { return device; }
  absl::Status Keep(const std::string&) override { return absl::OkStatus(); }
  absl::Status Fail(const std::string&) override {
    ++fails;
    return absl::OkStatus();
  }
  absl::Status Refuse(const std::string&, absl::Time) override {
    ++refuses;
    return absl::OkStatus();
  }
  absl::Status Detach(const std::string&, absl::Time) override {
    device.reset();
    return absl::OkStatus();
  }
  absl::Status Resize(const std::string&, absl::Time) override {
    ++resizes;
    return absl::OkStatus();
  }

  std::optional<AttachedDevice> device;
  int resizes = 0;
  int fails = 0;
  int refuses = 0;

 private:
  const std::string path_;
};

class ChosenAttachTest : public ::testing::Test {
 protected:
  std::string PathWith(const char* choice) {
    ChosenAttach chosen = Make(choice);
    const auto device = chosen.Attach({"v", "a:1", "m0"}, absl::InfiniteFuture());
    return device.ok() ? device->path : std::string(device.status().message());
  }
  ChosenAttach Make(const char* choice) {
    return ChosenAttach(*ParseChoice(choice), &nbd_, &loop_, [this] { return available_; });
  }

  FakeAttach nbd_{"/dev/nbd0"}, loop_{"/dev/loop0"};
  absl::Status available_;
};

TEST_F(ChosenAttachTest, AutoTakesNbdWhereTheNodeHasIt) {
  EXPECT_EQ(PathWith("auto"), "/dev/nbd0");
  EXPECT_EQ(PathWith("nbd"), "/dev/nbd0");
  EXPECT_EQ(PathWith("fuse-loop"), "/dev/loop0");
  available_ = absl::FailedPreconditionError("no module");
  EXPECT_EQ(PathWith("auto"), "/dev/loop0");
  EXPECT_EQ(PathWith("nbd"), "no module") << "and not something else in silence";
  EXPECT_EQ(PathWith("fuse-loop"), "/dev/loop0");
}

TEST_F(ChosenAttachTest, WhatIsAttachedTheOtherWayIsFoundGrownAndDetached) {
  loop_.device = AttachedDevice{"/dev/loop0", "m0"};  // by a driver of before
  ChosenAttach chosen = Make("nbd");
  EXPECT_EQ((*chosen.Find("v"))->path, "/dev/loop0");
  EXPECT_TRUE(chosen.Resize("v", absl::InfiniteFuture()).ok());
  EXPECT_EQ(loop_.resizes, 1);
  EXPECT_EQ(nbd_.resizes, 0);
  EXPECT_TRUE(chosen.Fail("v").ok());
  EXPECT_EQ(loop_.fails, 1);
  EXPECT_TRUE(chosen.Refuse("v", absl::InfiniteFuture()).ok());
  EXPECT_EQ(loop_.refuses, 1);
  EXPECT_TRUE(chosen.Detach("v", absl::InfiniteFuture()).ok());
  EXPECT_FALSE(loop_.device.has_value());
}

}  // namespace
}  // namespace weir::csi
