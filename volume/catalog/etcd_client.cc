#include "volume/catalog/etcd_client.h"

#include <algorithm>
#include <utility>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/match.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "grpcpp/client_context.h"
#include "grpcpp/create_channel.h"
#include "grpcpp/security/credentials.h"
#include "grpcpp/support/channel_arguments.h"
#include "proto/base/log.h"
#include "proto/base/status_macros.h"
#include "proto/base/steady.h"
#include "proto/base/tls_files.h"
#include "proto/wire/identity.h"
#include "volume/catalog/floor.h"
#include "volume/catalog/unique_id.h"

namespace weir::catalog {
namespace {

using etcdserverpb::RequestOp;
using etcdserverpb::ResponseOp;
using etcdserverpb::TxnRequest;
using etcdserverpb::TxnResponse;

// A page of records; etcd's own limit on a value is 1.5 MiB.
constexpr int kMessageBytesMax = 64 << 20;

absl::Status CheckEndpoint(absl::string_view endpoint) {
  const size_t colon = endpoint.rfind(':');
  uint32_t port = 0;
  if (colon != absl::string_view::npos && colon > 0 && !absl::StrContains(endpoint, "/") &&
      absl::SimpleAtoi(endpoint.substr(colon + 1), &port) && port > 0 && port <= 65535) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(absl::StrCat(
      "etcd endpoint '", endpoint, "' is not HOST:PORT, such as 10.0.0.1:2379"));
}

absl::Status SetParameter(absl::string_view parameter, EtcdConfig* config) {
  const std::pair<std::string, std::string> pair =
      absl::StrSplit(parameter, absl::MaxSplits('=', 1));
  if (pair.first == "timeout") {
    if (absl::ParseDuration(pair.second, &config->call_deadline) &&
        config->call_deadline > absl::ZeroDuration() &&
        config->call_deadline <= absl::Minutes(10)) {
      return absl::OkStatus();
    }
    return absl::InvalidArgumentError(
        absl::StrCat("etcd ", parameter, ": give a duration, such as 6s, at most 10m"));
  }
  std::string* field = pair.first == "ca"       ? &config->ca
                       : pair.first == "cert"   ? &config->cert
                       : pair.first == "key"    ? &config->key
                       : pair.first == "prefix" ? &config->prefix
                       : pair.first == "cluster" ? &config->cluster
                                                : nullptr;
  if (field == nullptr || pair.second.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "etcd parameter '", parameter, "': give ca=FILE, cert=FILE, key=FILE, "
        "prefix=TEXT, timeout=DURATION or cluster=ID"));
  }
  *field = pair.second;
  return field == &config->cluster ? CheckClusterId(config->cluster) : absl::OkStatus();
}

absl::StatusOr<std::shared_ptr<grpc::ChannelCredentials>> Credentials(const EtcdConfig& config) {
  if (config.ca.empty()) return grpc::InsecureChannelCredentials();
  auto credentials = wire::ForeignCredentials({config.cert, config.key, config.ca});
  if (credentials.ok()) return credentials;
  return absl::FailedPreconditionError(absl::StrCat("etcd: ", credentials.status().message()));
}

grpc::ChannelArguments ChannelArguments() {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_RETRIES, 0);  // what is repeated is decided here
  // etcd ends connections that ping more often than every 5 s.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5'000);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 1'000);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 1'000);
  arguments.SetMaxReceiveMessageSize(kMessageBytesMax);
  return arguments;
}

// A refusal that no other member and no second try would change.
bool IsFinal(absl::StatusCode code) {
  switch (code) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnauthenticated:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kOutOfRange:
      return true;
    default:
      return false;
  }
}

// A stranger's words, which people and protobuf's strings are to hold.
std::string Readable(absl::string_view text) {
  constexpr size_t kLengthMax = 400;
  const bool as_it_is = std::all_of(text.begin(), text.end(), absl::ascii_isprint);
  std::string readable = as_it_is ? std::string(text) : absl::CHexEscape(text.substr(0, kLengthMax));
  if (readable.size() > kLengthMax) readable = readable.substr(0, kLengthMax) + " ...";
  return readable;
}

absl::Status Refused(absl::string_view what) {
  return absl::DataLossError(absl::StrCat("its answer is refused: ", what));
}

absl::Status CheckRange(const etcdserverpb::RangeRequest& request,
                        const etcdserverpb::RangeResponse& response, int64_t revision) {
  const std::string* before = nullptr;
  for (const etcdserverpb::KeyValue& kv : response.kvs()) {
    const bool asked = request.range_end().empty()
                           ? kv.key() == request.key()
                           : kv.key() >= request.key() && kv.key() < request.range_end();
    if (!asked) return Refused("it has a key that was not asked for");
    if (before != nullptr && kv.key() <= *before) return Refused("its keys are out of order");
    if (kv.mod_revision() <= 0 || kv.mod_revision() > revision) {
      return Refused("a key's revision is none that there can be");
    }
    before = &kv.key();
  }
  if (response.more() && response.kvs().empty()) return Refused("it says more, and gives nothing");
  return absl::OkStatus();
}

absl::Status CheckOperations(const TxnRequest& request, const TxnResponse& response) {
  const auto& asked = response.succeeded() ? request.success() : request.failure();
  if (response.responses_size() != asked.size()) {
    return Refused("it does not answer every operation");
  }
  for (int i = 0; i < asked.size(); ++i) {
    // The cases of the two have the same numbers.
    if (static_cast<int>(asked[i].request_case()) !=
        static_cast<int>(response.responses(i).response_case())) {
      return Refused("it answers another operation than was asked");
    }
    if (asked[i].request_case() == RequestOp::kRequestRange) {
      RETURN_IF_ERROR(CheckRange(asked[i].request_range(),
                                 response.responses(i).response_range(),
                                 response.header().revision()));
    }
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<EtcdConfig> EtcdConfig::Parse(absl::string_view text) {
  EtcdConfig config;
  const std::pair<absl::string_view, absl::string_view> parts =
      absl::StrSplit(text, absl::MaxSplits('?', 1));
  for (absl::string_view endpoint : absl::StrSplit(parts.first, ',')) {
    RETURN_IF_ERROR(CheckEndpoint(endpoint));
    config.endpoints.emplace_back(endpoint);
  }
  for (absl::string_view parameter : absl::StrSplit(parts.second, '&', absl::SkipEmpty())) {
    RETURN_IF_ERROR(SetParameter(parameter, &config));
  }
  if (config.cert.empty() != config.key.empty()) {
    return absl::InvalidArgumentError("etcd: give cert and key, or neither");
  }
  if (!config.cert.empty() && config.ca.empty()) {
    return absl::InvalidArgumentError("etcd: a client certificate needs ca=FILE, to check etcd's");
  }
  return config;
}

absl::StatusOr<std::unique_ptr<EtcdClient>> EtcdClient::Make(EtcdConfig config) {
  ASSIGN_OR_RETURN(const std::shared_ptr<grpc::ChannelCredentials> credentials,
                   Credentials(config));
  std::unique_ptr<EtcdClient> client(new EtcdClient(std::move(config)));
  for (const std::string& address : client->config_.endpoints) {
    client->endpoints_.push_back(
        {address, etcdserverpb::KV::NewStub(grpc::CreateCustomChannel(
                      address, credentials, ChannelArguments()))});
  }
  return client;
}

std::string EtcdClient::Name() const {
  return absl::StrCat("etcd at ", absl::StrJoin(config_.endpoints, ","));
}

absl::StatusOr<EtcdClient::Answer> EtcdClient::Txn(const TxnRequest& request) {
  const absl::Duration deadline = SteadyNow() + config_.call_deadline;
  size_t first = 0;
  {
    absl::MutexLock lock(&mu_);
    first = preferred_;
  }
  Attempts attempts;
  while (true) {
    attempts.finals = 0;
    for (size_t i = 0; i < endpoints_.size() && SteadyNow() < deadline; ++i) {
      const size_t index = (first + i) % endpoints_.size();
      Answer answer;
      const absl::Status status =
          Attempt(endpoints_[index], request, deadline, &answer.response);
      if (status.ok()) {
        absl::MutexLock lock(&mu_);
        preferred_ = index;
        if (silent_since_ < absl::InfiniteDuration()) {
          LOG(INFO) << Name() << " answers again, after " << absl::FormatDuration(SteadyNow() - silent_since_);
        }
        silent_since_ = absl::InfiniteDuration();
        answer.doubtful = attempts.doubtful;
        return answer;
      }
      Note(endpoints_[index], status, &attempts);
    }
    const absl::Duration again = SteadyNow() + config_.round_delay;
    if (attempts.finals == endpoints_.size() || again >= deadline) return Failed(attempts);
    absl::SleepFor(config_.round_delay);
  }
}

absl::Status EtcdClient::Attempt(Endpoint& endpoint, const TxnRequest& request,
                                 absl::Duration deadline, TxnResponse* response) {
  int64_t floor = 0;
  {
    absl::MutexLock lock(&mu_);
    floor = revision_;
  }
  grpc::ClientContext context;
  context.set_deadline(
      absl::ToChronoTime(absl::Now() + std::min(deadline - SteadyNow(), config_.attempt_deadline)));
  context.AddMetadata("hasleader", "true");  // a member that has none says so at once
  const grpc::Status called = endpoint.stub->Txn(&context, request, response);
  if (!called.ok()) {
    return absl::Status(static_cast<absl::StatusCode>(called.error_code()),
                        Readable(called.error_message()));
  }
  return Accept(request, *response, floor);
}

absl::Status EtcdClient::Accept(const TxnRequest& request, const TxnResponse& response,
                                int64_t floor) {
  const etcdserverpb::ResponseHeader& header = response.header();
  if (header.cluster_id() == 0 || header.revision() <= 0) return Refused("it is not etcd's");
  if (header.revision() < floor) {
    return Refused(absl::StrCat("its revision ", header.revision(), " lies before ", floor,
                                ", which was seen: it has lost data, or was restored from a "
                                "backup"));
  }
  RETURN_IF_ERROR(CheckOperations(request, response));
  absl::MutexLock lock(&mu_);
  if (etcd_id_ != 0 && header.cluster_id() != etcd_id_) {
    return Refused(absl::StrCat("it is a member of etcd ", absl::Hex(header.cluster_id()),
                                ", not of ", absl::Hex(etcd_id_)));
  }
  etcd_id_ = header.cluster_id();
  revision_ = std::max(revision_, header.revision());
  return absl::OkStatus();
}

void EtcdClient::Note(const Endpoint& endpoint, const absl::Status& status, Attempts* attempts) {
  attempts->last = absl::StrCat(endpoint.address, ": ", status.message());
  if (absl::IsDataLoss(status)) attempts->refused = attempts->last;
  if (IsFinal(status.code())) {
    ++attempts->finals;
  } else {
    attempts->doubtful = true;  // also if its answer was refused
  }
}

absl::Status EtcdClient::Failed(const Attempts& attempts) {
  const absl::Status failure = Failure(attempts);
  absl::MutexLock lock(&mu_);
  if (silent_since_ == absl::InfiniteDuration()) {
    LOG(WARNING) << "the catalog has no answer, until further notice no replica can leave or come back and nothing be attached: "
                 << failure.message();
    silent_since_ = SteadyNow();
  }
  return failure;
}

absl::Status EtcdClient::Failure(const Attempts& attempts) const {
  const std::string what =
      absl::StrCat(Name(), ": ", attempts.refused.empty() ? attempts.last : attempts.refused);
  if (!attempts.refused.empty()) {
    return absl::DataLossError(absl::StrCat(
        what, "; nothing is changed by it. Give the right endpoints, or mend that etcd"));
  }
  if (attempts.finals == endpoints_.size()) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, "; see that these are etcd's client addresses, that it has space and "
                           "that this frontend may use it"));
  }
  return absl::UnavailableError(absl::StrCat(
      what, "; attached volumes go on, what needs the catalog waits until a majority of etcd's "
            "members answers"));
}

}  // namespace weir::catalog
