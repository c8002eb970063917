#include "client/nbd_device/server.h"

#include <endian.h>
#include <linux/falloc.h>
#include <linux/nbd.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "client/nbd/reply_errno.h"
#include "proto/base/status_macros.h"

namespace weir::nbd_device {
namespace {

// Of the protocol, and newer than Debian's header.
constexpr uint64_t kFlagSendWriteZeroes = 1 << 6;
constexpr uint32_t kCommandWriteZeroes = 6;

// On the wire: big endian, without gaps.
struct __attribute__((packed)) RequestHeader {
  uint32_t magic;
  uint16_t flags;
  uint16_t type;
  uint64_t cookie;
  uint64_t offset;
  uint32_t length;
};
static_assert(sizeof(RequestHeader) == sizeof(nbd_request));

struct __attribute__((packed)) ReplyHeader {
  uint32_t magic;
  uint32_t error;
  uint64_t cookie;
};
static_assert(sizeof(ReplyHeader) == sizeof(nbd_reply));

// The kernel sends 128 KiB at most unless it is told otherwise, and can be told 32 MiB.
constexpr uint64_t kDataBytesMax = 32 << 20;

// True: all of it.
bool SendAll(int socket, std::vector<iovec> pieces) {
  size_t first = 0;
  while (first < pieces.size()) {
    msghdr message = {};
    message.msg_iov = &pieces[first];
    message.msg_iovlen = pieces.size() - first;
    ssize_t sent = ::sendmsg(socket, &message, MSG_NOSIGNAL);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0) return false;
    while (first < pieces.size() && static_cast<size_t>(sent) >= pieces[first].iov_len) {
      sent -= static_cast<ssize_t>(pieces[first++].iov_len);
    }
    if (first == pieces.size()) break;
    pieces[first].iov_base = static_cast<char*>(pieces[first].iov_base) + sent;
    pieces[first].iov_len -= static_cast<size_t>(sent);
  }
  return true;
}

}  // namespace

uint64_t ServerFlags(bool read_only) {
  uint64_t flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA;
  return flags | (read_only ? uint64_t{NBD_FLAG_READ_ONLY} : NBD_FLAG_SEND_TRIM | kFlagSendWriteZeroes);
}

// A request that the volume takes in several pieces. The last to be answered answers it, with the first error.
struct Server::Parts {
  Parts(Server* server, const Request& request, uint64_t length_bytes_max)
      : server(server),
        request(request),
        piece_bytes(length_bytes_max),
        data((request.length + length_bytes_max - 1) / length_bytes_max),
        left(data.size()) {}

  uint64_t Offset(size_t i) const { return request.offset + i * piece_bytes; }
  uint64_t Length(size_t i) const { return std::min(piece_bytes, request.length - i * piece_bytes); }

  void Answered(int why) {
    int none = 0;
    if (why != 0) error.compare_exchange_strong(none, why);
    if (--left > 0) return;
    if (request.type == NBD_CMD_READ) {
      server->Reply(request.cookie, error, data);
    } else {
      server->Done(request, error);
    }
  }

  Server* const server;
  const Request request;
  const uint64_t piece_bytes;
  std::vector<std::string> data;  // of a read
  std::atomic<size_t> left;
  std::atomic<int> error{0};
};

absl::Status Server::Serve() {
  absl::Status status;
  while (status.ok()) {
    const absl::StatusOr<Request> request = ReadRequest();
    if (!request.ok()) {
      status = request.status();
    } else if (request->type == NBD_CMD_DISC) {
      break;
    } else {
      status = Start(*request);
    }
  }
  const auto answered = [this]() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return unanswered_ == 0; };
  absl::MutexLock lock(&mutex_);
  mutex_.Await(absl::Condition(&answered));
  return status;
}

absl::Status Server::ReadAll(char* bytes, size_t size) {
  while (size > 0) {
    const ssize_t got = ::recv(socket_, bytes, size, MSG_WAITALL);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) {
      return absl::UnavailableError(absl::StrCat("the kernel's connection has ended", got < 0 ? ": " : "",
                                                 got < 0 ? std::strerror(errno) : ""));
    }
    bytes += got;
    size -= static_cast<size_t>(got);
  }
  return absl::OkStatus();
}

absl::StatusOr<Server::Request> Server::ReadRequest() {
  RequestHeader header;
  RETURN_IF_ERROR(ReadAll(reinterpret_cast<char*>(&header), sizeof(header)));
  Request request;
  request.flags = be16toh(header.flags);
  request.type = be16toh(header.type);
  request.cookie = header.cookie;
  request.offset = be64toh(header.offset);
  request.length = be32toh(header.length);
  const bool has_data = request.type == NBD_CMD_READ || request.type == NBD_CMD_WRITE;
  if (be32toh(header.magic) != NBD_REQUEST_MAGIC || (has_data && request.length > kDataBytesMax)) {
    return absl::InvalidArgumentError("the kernel sent what is no request");
  }
  return request;
}

absl::Status Server::Start(const Request& request) {
  {
    absl::MutexLock lock(&mutex_);
    ++unanswered_;
  }
  if (file_ == nullptr) return Refuse(request);
  // The kernel keeps to the size that it was told, and it may have been told a new one. Where nobody says which, the request
  // waits for its frontend like any other, which knows.
  const uint64_t end = request.offset + request.length;
  if (request.type != NBD_CMD_FLUSH && end > file_->size_bytes() && !file_->RefreshSize()) file_->AssumeSize(end);
  const auto done = [this, request](int error) { Done(request, error); };
  switch (request.type) {
    case NBD_CMD_READ:
      Read(request);
      return absl::OkStatus();
    case NBD_CMD_WRITE:
      return Write(request);
    case NBD_CMD_FLUSH:
      file_->Flush(done);
      return absl::OkStatus();
    case NBD_CMD_TRIM:
      file_->Allocate(FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, request.offset, request.length, done);
      return absl::OkStatus();
    case kCommandWriteZeroes:
      file_->Allocate(FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, request.offset, request.length, done);
      return absl::OkStatus();
    default:
      Reply(request.cookie, EINVAL, {});
      return absl::OkStatus();
  }
}

absl::Status Server::Refuse(const Request& request) {
  if (request.type == NBD_CMD_WRITE) {
    std::string data(request.length, '\0');
    RETURN_IF_ERROR(ReadAll(data.data(), data.size()));
  }
  Reply(request.cookie, ESHUTDOWN, {});
  return absl::OkStatus();
}

void Server::Read(const Request& request) {
  if (request.length == 0) return Reply(request.cookie, EINVAL, {});
  const auto parts = std::make_shared<Parts>(this, request, file_->length_bytes_max());
  for (size_t i = 0, count = parts->data.size(); i < count; ++i) {
    file_->Read(parts->Offset(i), parts->Length(i), [parts, i](int error, std::string data) {
      // Short: past the end.
      if (error == 0 && data.size() != parts->Length(i)) error = EIO;
      parts->data[i] = std::move(data);
      parts->Answered(error);
    });
  }
}

absl::Status Server::Write(const Request& request) {
  const bool fua = (request.flags & (NBD_CMD_FLAG_FUA >> 16)) != 0;
  Request whole = request;
  whole.flags = 0;  // each piece sees to it
  const auto parts = std::make_shared<Parts>(this, whole, file_->length_bytes_max());
  if (parts->data.empty()) Reply(request.cookie, EINVAL, {});
  for (size_t i = 0, count = parts->data.size(); i < count; ++i) {
    std::string data(parts->Length(i), '\0');
    const absl::Status read = ReadAll(data.data(), data.size());
    if (!read.ok()) {
      // What is missing will never be there; there is nobody to answer either.
      for (; i < count; ++i) parts->Answered(EIO);
      return read;
    }
    file_->Write(parts->Offset(i), std::move(data), fua, [parts](int error) { parts->Answered(error); });
  }
  return absl::OkStatus();
}

void Server::Done(const Request& request, int error) {
  const bool fua = (request.flags & (NBD_CMD_FLAG_FUA >> 16)) != 0;
  if (error != 0 || !fua || request.type == NBD_CMD_FLUSH) return Reply(request.cookie, error, {});
  file_->Flush([this, cookie = request.cookie](int why) { Reply(cookie, why, {}); });
}

void Server::Reply(uint64_t cookie, int error, const std::vector<std::string>& data) {
  ReplyHeader header;
  header.magic = htobe32(NBD_REPLY_MAGIC);
  header.error = htobe32(static_cast<uint32_t>(error == 0 ? 0 : nbd::ErrorForClient(error)));
  header.cookie = cookie;
  std::vector<iovec> pieces = {{&header, sizeof(header)}};
  if (error == 0) {
    for (const std::string& part : data) pieces.push_back({const_cast<char*>(part.data()), part.size()});
  }
  {
    absl::MutexLock lock(&sending_);
    // If that fails reading is to end too, and says so.
    if (!SendAll(socket_, std::move(pieces))) ::shutdown(socket_, SHUT_RDWR);
  }
  absl::MutexLock lock(&mutex_);
  --unanswered_;
}

}  // namespace weir::nbd_device
