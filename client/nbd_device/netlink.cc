#include "client/nbd_device/netlink.h"

#include <fcntl.h>
#include <linux/nbd-netlink.h>
#include <linux/nbd.h>
#include <netlink/attr.h>
#include <netlink/errno.h>
#include <netlink/genl/ctrl.h>
#include <netlink/genl/family.h>
#include <netlink/genl/genl.h>
#include <netlink/msg.h>
#include <netlink/netlink.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <memory>
#include <optional>
#include <system_error>
#include <thread>
#include <utility>

#include "absl/strings/numbers.h"
#include "absl/strings/strip.h"
#include "absl/synchronization/notification.h"
#include "absl/time/time.h"
#include "proto/base/position.h"
#include "proto/base/status_macros.h"

namespace weir::nbd_device {
namespace {

constexpr char kBlockDevices[] = "/sys/block";
constexpr absl::Duration kOpenMax = absl::Seconds(2);

struct Freer {
  void operator()(nl_sock* socket) const { nl_socket_free(socket); }
  void operator()(nl_msg* message) const { nlmsg_free(message); }
  void operator()(nl_cache* cache) const { nl_cache_free(cache); }
  void operator()(genl_family* family) const { genl_family_put(family); }
};
using Socket = std::unique_ptr<nl_sock, Freer>;
using Message = std::unique_ptr<nl_msg, Freer>;

absl::Status NoModule(absl::string_view why) {
  return absl::FailedPreconditionError(
      absl::StrCat("the kernel's NBD client cannot be used here: ", why, " (modprobe nbd; on Linux 5.14 or later; in the node's network namespace)"));
}

// A socket, and which family the kernel's is.
struct Connection {
  Socket socket;
  int family = 0;
};

absl::StatusOr<Connection> Connect() {
  Connection connection{Socket(nl_socket_alloc())};
  if (connection.socket == nullptr) return absl::ResourceExhaustedError("no memory for a netlink socket");
  const int error = genl_connect(connection.socket.get());
  if (error != 0) return NoModule(nl_geterror(error));
  nl_cache* families = nullptr;
  const int listed = genl_ctrl_alloc_cache(connection.socket.get(), &families);
  if (listed != 0) return NoModule(nl_geterror(listed));
  const std::unique_ptr<nl_cache, Freer> freed(families);
  const std::unique_ptr<genl_family, Freer> family(genl_ctrl_search_by_name(families, NBD_GENL_FAMILY_NAME));
  if (family == nullptr) return NoModule("there is no netlink family 'nbd'");
  if (genl_family_get_maxattr(family.get()) < NBD_ATTR_BACKEND_IDENTIFIER) return NoModule("it keeps no backend's name");
  connection.family = static_cast<int>(genl_family_get_id(family.get()));
  return connection;
}

// What the kernel answers a command with beside its acknowledgement, if anything.
struct Answer {
  std::optional<uint32_t> index;
};

int ReadAnswer(nl_msg* message, void* argument) {
  nlattr* attributes[NBD_ATTR_MAX + 1];
  if (genlmsg_parse(nlmsg_hdr(message), 0, attributes, NBD_ATTR_MAX, nullptr) == 0 && attributes[NBD_ATTR_INDEX] != nullptr) {
    static_cast<Answer*>(argument)->index = nla_get_u32(attributes[NBD_ATTR_INDEX]);
  }
  return NL_OK;
}

absl::StatusOr<Answer> Command(uint8_t command, const std::function<void(nl_msg*)>& fill) {
  ASSIGN_OR_RETURN(const Connection connection, Connect());
  const Message message(nlmsg_alloc());
  if (message == nullptr ||
      genlmsg_put(message.get(), NL_AUTO_PORT, NL_AUTO_SEQ, connection.family, 0, 0, command, NBD_GENL_VERSION) == nullptr) {
    return absl::ResourceExhaustedError("no memory for a netlink message");
  }
  fill(message.get());
  Answer answer;
  nl_socket_modify_cb(connection.socket.get(), NL_CB_VALID, NL_CB_CUSTOM, ReadAnswer, &answer);
  int error = nl_send_auto(connection.socket.get(), message.get());
  // Until the acknowledgement, which comes after the answer.
  if (error >= 0) error = nl_wait_for_ack(connection.socket.get());
  if (error < 0) {
    return absl::InternalError(absl::StrCat("the kernel's NBD client refuses: ", nl_geterror(error), "; see its log"));
  }
  return answer;
}

void PutSocket(nl_msg* message, int socket) {
  nlattr* const sockets = nla_nest_start(message, NBD_ATTR_SOCKETS);
  nlattr* const item = nla_nest_start(message, NBD_SOCK_ITEM);
  nla_put_u32(message, NBD_SOCK_FD, static_cast<uint32_t>(socket));
  nla_nest_end(message, item);
  nla_nest_end(message, sockets);
}

// Empty: it is not connected, or by somebody who gave no name.
std::string ReadBackend(const std::string& name) {
  std::ifstream file(absl::StrCat(kBlockDevices, "/", name, "/backend"));
  std::string backend;
  std::getline(file, backend);
  return backend;
}

// The kernel may read a device's partitions before it is open, and waits for whoever serves it: so this is done on a thread
// of its own, which stays behind if it takes too long. UNAVAILABLE: it did.
absl::Status OpenAndClose(const std::string& path) {
  struct Opening {
    absl::Notification done;
    int error = 0;
  };
  const auto opening = std::make_shared<Opening>();
  std::thread([opening, path] {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0) opening->error = errno;
    if (fd >= 0) ::close(fd);
    opening->done.Notify();
  }).detach();
  if (!opening->done.WaitForNotificationWithTimeout(kOpenMax)) {
    return absl::UnavailableError(absl::StrCat(path, " cannot be opened: what serves it does not answer"));
  }
  if (opening->error == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat("cannot open ", path, ": ", std::strerror(opening->error)));
}

}  // namespace

absl::Status NetlinkKernel::Available() { return nbd_device::Connect().status(); }

absl::StatusOr<NbdDevice> NetlinkKernel::Connect(const ConnectRequest& request) {
  ASSIGN_OR_RETURN(const Answer answer, Command(NBD_CMD_CONNECT, [&](nl_msg* message) {
    nla_put_u64(message, NBD_ATTR_SIZE_BYTES, request.size_bytes);
    nla_put_u64(message, NBD_ATTR_BLOCK_SIZE_BYTES, kBlockBytes);
    // None: the server is a process of this machine, and its end is the socket's. Its requests wait for as long as it lets them.
    nla_put_u64(message, NBD_ATTR_TIMEOUT, 0);
    nla_put_u64(message, NBD_ATTR_DEAD_CONN_TIMEOUT, static_cast<uint64_t>(absl::ToInt64Seconds(request.dead_connection)));
    nla_put_u64(message, NBD_ATTR_SERVER_FLAGS, request.server_flags);
    nla_put_u64(message, NBD_ATTR_CLIENT_FLAGS, 0);
    nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, request.backend.c_str());
    PutSocket(message, request.socket);
  }));
  if (!answer.index.has_value()) return absl::InternalError("the kernel's NBD client does not say which device it made");
  return NbdDevice{*answer.index, request.backend};
}

std::vector<NbdDevice> NetlinkKernel::Devices() {
  std::vector<NbdDevice> devices;
  std::error_code error;
  std::filesystem::directory_iterator end, at(kBlockDevices, error);
  for (; !error && at != end; at.increment(error)) {
    const std::string name = at->path().filename().string();
    absl::string_view number = name;
    NbdDevice device;
    if (!absl::ConsumePrefix(&number, "nbd") || !absl::SimpleAtoi(number, &device.index)) continue;
    device.backend = ReadBackend(name);
    if (!device.backend.empty()) devices.push_back(std::move(device));
  }
  return devices;
}

absl::Status NetlinkKernel::Reconfigure(const NbdDevice& device, const std::function<void(nl_msg*)>& add) {
  return Command(NBD_CMD_RECONFIGURE, [&](nl_msg* message) {
           nla_put_u32(message, NBD_ATTR_INDEX, device.index);
           nla_put_string(message, NBD_ATTR_BACKEND_IDENTIFIER, device.backend.c_str());
           add(message);
         }).status();
}

absl::Status NetlinkKernel::Reconnect(const NbdDevice& device, int socket) {
  return Reconfigure(device, [&](nl_msg* message) { PutSocket(message, socket); });
}

absl::Status NetlinkKernel::Resize(const NbdDevice& device, uint64_t size_bytes) {
  return Reconfigure(device, [&](nl_msg* message) { nla_put_u64(message, NBD_ATTR_SIZE_BYTES, size_bytes); });
}

absl::Status NetlinkKernel::EndOnceUnused(const NbdDevice& device) {
  RETURN_IF_ERROR(Reconfigure(device, [](nl_msg* message) {
    nla_put_u64(message, NBD_ATTR_CLIENT_FLAGS, NBD_CFLAG_DISCONNECT_ON_CLOSE);
  }));
  // It looks at that when somebody closes the device; if nobody else has it open, that is us.
  return OpenAndClose(device.path());
}

absl::Status NetlinkKernel::Keep(const NbdDevice& device) {
  return Reconfigure(device, [](nl_msg* message) { nla_put_u64(message, NBD_ATTR_CLIENT_FLAGS, 0); });
}

absl::Status NetlinkKernel::Disconnect(const NbdDevice& device) {
  // This command looks at the number alone, which may be another volume's by now.
  const absl::Status checked = Reconfigure(device, [](nl_msg*) {});
  // One that was disconnected refuses everything, and has its name until it is closed.
  if (absl::IsInternal(checked) && ReadBackend(absl::StrCat("nbd", device.index)) == device.backend) return absl::OkStatus();
  RETURN_IF_ERROR(checked);
  return Command(NBD_CMD_DISCONNECT, [&](nl_msg* message) { nla_put_u32(message, NBD_ATTR_INDEX, device.index); }).status();
}

}  // namespace weir::nbd_device
