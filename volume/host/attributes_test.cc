#include "volume/host/attributes.h"

#include "gtest/gtest.h"
#include "volume/host/testing/fixture.h"

namespace weir::host {
namespace {

Attributes Some() {
  Attributes attributes;
  attributes["csi.node"] = "n1";
  return attributes;
}

TEST(AttributesTest, NamesSayWhoseTheyAreAndThereIsALimit) {
  EXPECT_TRUE(CheckAttributes(Some()).ok());
  for (const char* name : {"", "node", ".node", "csi.Node", "csi.no de", "csi.n\n"}) {
    Attributes attributes;
    attributes[name] = "x";
    EXPECT_TRUE(absl::IsInvalidArgument(CheckAttributes(attributes))) << name;
  }
  Attributes large;
  large["csi.x"] = std::string(kAttributeBytesMax - 5, 'x');
  EXPECT_TRUE(CheckAttributes(large).ok());
  large["csi.y"] = "y";
  EXPECT_TRUE(absl::IsInvalidArgument(CheckAttributes(large)));
}

TEST(AttributesTest, AChangeIsMadeWhollyOrNotAtAll) {
  Attributes attributes = Some();
  v1::SetAttributesRequest request;
  (*request.mutable_expected())["csi.node"] = "n1";
  (*request.mutable_expected())["csi.absent"] = "";
  (*request.mutable_set())["csi.other"] = "2";
  request.add_remove("csi.node");
  request.add_remove("csi.never");
  ASSERT_TRUE(ChangeAttributes(request, &attributes).ok());
  EXPECT_EQ(attributes.size(), 1u);
  EXPECT_EQ(attributes["csi.other"], "2");

  const absl::Status again = ChangeAttributes(request, &attributes);
  EXPECT_TRUE(absl::IsAborted(again)) << again;
  EXPECT_EQ(attributes.size(), 1u);

  v1::SetAttributesRequest wrong;
  (*wrong.mutable_set())["wrong"] = "x";
  wrong.add_remove("csi.other");
  EXPECT_TRUE(absl::IsInvalidArgument(ChangeAttributes(wrong, &attributes)));
  EXPECT_EQ(attributes["csi.other"], "2");
}

class AttributesHostTest : public HostFixture {
 protected:
  absl::Status Set(const std::string& name, const std::string& value) {
    v1::SetAttributesRequest request;
    request.set_name("demo");
    (*request.mutable_set())[name] = value;
    return host_->SetAttributes(request).status();
  }
  std::string Get(const std::string& name) {
    const auto volume = host_->GetVolume("demo");
    EXPECT_TRUE(volume.ok()) << volume.status();
    const auto found = volume->attributes().find(name);
    return found == volume->attributes().end() ? "" : found->second;
  }
};

TEST_F(AttributesHostTest, WhatTheVolumeWasMadeWithIsKept) {
  StartHost();
  v1::CreateVolumeRequest request = CreateRequest();
  *request.mutable_attributes() = Some();
  ASSERT_TRUE(host_->CreateVolume(request).ok());
  EXPECT_EQ(Get("csi.node"), "n1");
  (*request.mutable_attributes())["wrong"] = "x";
  request.set_name("other");
  EXPECT_TRUE(absl::IsInvalidArgument(host_->CreateVolume(request).status()));
  EXPECT_TRUE(absl::IsNotFound(host_->GetVolume("other").status()));
}

// The frontend that has the volume holds its record at the revision before.
TEST_F(AttributesHostTest, AnAttachedVolumeIsNotDisturbedAndItsNextChangesKeepThem) {
  StartAttached();
  ASSERT_TRUE(Set("csi.node", "n1").ok());
  EXPECT_EQ(Write(0, 'a'), 0);
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_EQ(Get("csi.node"), "n1");
  EXPECT_EQ(host_->GetVolume("demo")->state(), "DETACHED");
  Attach();
  ASSERT_TRUE(Set("csi.node", "n2").ok());
  EXPECT_EQ(Read(0), std::string(4096, 'a'));
  ASSERT_TRUE(host_->Detach("demo", false).ok());
  EXPECT_EQ(Get("csi.node"), "n2");
}

TEST_F(AttributesHostTest, OfAVolumeThatIsNotThereThereAreNone) {
  StartHost();
  EXPECT_TRUE(absl::IsNotFound(Set("csi.node", "n1")));
}

TEST_F(AttributesHostTest, AFrontendIsKnownWithItsLabels) {
  HostOptions options = Options();
  options.name = "fe";
  options.labels = {{"zone", "a"}};
  StartHost(options);
  const auto frontends = host_->ListFrontends();
  ASSERT_TRUE(frontends.ok()) << frontends.status();
  ASSERT_EQ(frontends->size(), 1u);
  EXPECT_EQ((*frontends)[0].name(), "fe");
  EXPECT_NE((*frontends)[0].address(), "");
  EXPECT_EQ((*frontends)[0].labels().at("zone"), "a");
}

}  // namespace
}  // namespace weir::host
