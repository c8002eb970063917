#include "volume/host/options.h"

#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "proto/base/check.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"
#include "proto/monitor/monitor_server.h"
#include "proto/wire/certificates.h"
#include "proto/wire/identity.h"
#include "volume/catalog/catalog.h"

namespace weir::host {
namespace {

absl::Status SetDuration(absl::string_view key, absl::string_view value,
                         absl::Duration* out) {
  absl::Duration parsed;
  if (!absl::ParseDuration(value, &parsed) || parsed <= absl::ZeroDuration() ||
      parsed == absl::InfiniteDuration()) {
    return absl::InvalidArgumentError(absl::StrCat(
        key, "=", value, ": give a duration above zero, such as 30s or 500ms"));
  }
  *out = parsed;
  return absl::OkStatus();
}

absl::Status SetDurationOrEver(absl::string_view key, absl::string_view value,
                               absl::Duration* out) {
  if (value != "0") return SetDuration(key, value, out);
  *out = absl::InfiniteDuration();
  return absl::OkStatus();
}

absl::Status SetSize(absl::string_view key, absl::string_view value,
                     uint64_t* out) {
  absl::StatusOr<uint64_t> parsed = ParseSize(value);
  if (!parsed.ok()) {
    return absl::InvalidArgumentError(
        absl::StrCat(key, "=", value, ": ", parsed.status().message()));
  }
  *out = *parsed;
  return absl::OkStatus();
}

absl::Status SetBool(absl::string_view key, absl::string_view value, bool* out) {
  if (!absl::SimpleAtob(value, out)) {
    return absl::InvalidArgumentError(absl::StrCat(key, "=", value, ": give true or false"));
  }
  return absl::OkStatus();
}

// "name=addr,name=addr". An address may hold '=' (unix:PATH), a name may not.
absl::Status SetReplicas(
    absl::string_view value,
    std::vector<std::pair<std::string, std::string>>* out) {
  std::vector<std::pair<std::string, std::string>> replicas;
  for (absl::string_view item :
       absl::StrSplit(value, ',', absl::SkipWhitespace())) {
    std::pair<std::string, std::string> pair =
        absl::StrSplit(item, absl::MaxSplits('=', 1));
    if (pair.first.empty() || pair.second.empty()) {
      return absl::InvalidArgumentError(absl::StrCat(
          "replicas=", value, ": '", item,
          "' is not NAME=ADDRESS, such as replica1=127.0.0.1:7001"));
    }
    replicas.push_back(std::move(pair));
  }
  *out = std::move(replicas);
  return absl::OkStatus();
}

absl::Status SetLabels(absl::string_view value, std::map<std::string, std::string>* out) {
  std::map<std::string, std::string> labels;
  for (absl::string_view item : absl::StrSplit(value, ',', absl::SkipWhitespace())) {
    const std::pair<std::string, std::string> pair = absl::StrSplit(item, absl::MaxSplits('=', 1));
    if (pair.first.empty() || pair.second.empty() || !labels.insert(pair).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "labels=", value, ": '", item, "' is not NAME=VALUE, or named twice; such as zone=a,rack=7"));
    }
  }
  *out = std::move(labels);
  return absl::OkStatus();
}

absl::Status CheckNbdCertificate(absl::string_view flag, const std::string& path) {
  const absl::StatusOr<absl::Time> end = wire::CertificateEnd(path);
  if (!end.ok()) return absl::InvalidArgumentError(absl::StrCat(flag, ": ", end.status().message()));
  if (*end > absl::Now()) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(flag, "=", path, ": the certificate has expired"));
}

constexpr HostOptionKey kKeys[] = {
    {"catalog",
     "Where volumes and replicas are recorded. embedded:DIR: one frontend at a time may use a "
     "DIR. etcd:HOST:PORT,HOST:PORT...[?ca=FILE&cert=FILE&key=FILE&prefix=TEXT&timeout=6s]: any "
     "number of frontends; ca turns TLS on, keys begin with prefix (weir/), a call gives up after timeout. "
     "cluster=ID, after a ? in either: a catalog that is made is for that cluster, which has lost its own. "
     "Required."},
    {"replicas",
     "The cluster's replicas, NAME=ADDRESS,NAME=ADDRESS... (address: HOST:PORT "
     "or unix:PATH). Those registered before need not be repeated; an address "
     "given here replaces the one on record."},
    {"name",
     "This frontend's name, the same over restarts; no two frontends of a catalog may share one. Empty: the "
     "host's name and --listen."},
    {"labels",
     "Where this frontend is, NAME=VALUE,NAME=VALUE..., such as zone=a,rack=7: what the CSI driver tells of its "
     "node. Empty: nothing."},
    {"listen",
     "Address of the gRPC VolumeService, HOST:PORT or unix:PATH; port 0 takes "
     "a free one. Empty: none."},
    {"metrics_listen",
     "Serve HTTP at HOST:PORT: Prometheus metrics at /metrics, /healthz, and /readyz, which says whether the catalog "
     "answers; port 0 takes a free one. Empty: none."},
    {"tls_cert",
     "This process's certificate (PEM), for the VolumeService and towards replicas: mutual TLS, unless a socket is "
     "Unix. A replica wants the URI weir://frontend among its names. Read anew when it changes. Empty: plain text."},
    {"tls_key", "Its key (PEM)."},
    {"tls_ca", "The certificates (PEM) that signed those of the peers."},
    {"nbd_tls_cert",
     "The certificate (PEM) of the nbdkit that serves NBD over TLS before --nbd_socket, such as /etc/weir/nbd/server.pem: the metrics say "
     "when it expires, and an alert in time. Nothing else is done with it. Empty: they do not."},
    {"nbd_tls_ca", "The same of those that signed its clients' certificates, such as /etc/weir/nbd/ca.pem."},
    {"insecure",
     "true: plain text for other machines, where the network is trusted: --listen and replicas without TLS, an etcd without "
     "ca, and --metrics_listen. Else each of these is for this machine only."},
    {"insecure_metrics",
     "true: --metrics_listen, which is never encrypted, may be for other machines, whatever else is not."},
    {"log_level",
     "Log what is at least this grave: info, warning or error (info). Taken anew from --config at SIGHUP."},
    {"log_format",
     "text, or json: an object a line (text). Taken anew from --config at SIGHUP."},
    {"attach",
     "Volumes to attach at start, NAME,NAME..., unless another frontend has them. Others are "
     "attached when they are first used."},
    {"attach_deadline",
     "How long attaching a volume waits for its replicas, such as 30s; then one is enough."},
    {"give_up_after",
     "How long attaching a volume waits for a replica that it can do without: min_in_sync "
     "others are there."},
    {"leave_after",
     "How long a replica may be away before the volume goes on without it, if min_in_sync "
     "others remain; it is brought back by itself."},
    {"slow_after",
     "How long a replica may answer writes and flushes much later than all others (their 99th "
     "percentiles, 8 times and 100 ms) before the volume goes on without it, if min_in_sync others "
     "remain; it is brought back after a minute, and later each time; 0: for ever."},
    {"replace_after",
     "How long a replica may be out of a volume before another one, with most free space, takes "
     "its place; 0: never."},
    {"join_bytes_per_second",
     "How much is copied a second, while there are clients, to a replica that is brought back, such "
     "as 64MiB; 0: no limit. It rests as long as it works in any case."},
    {"scrub_every",
     "How often all replicas of an attached volume are compared, block by block, and repaired from each "
     "other, counted from the end of the last time; the first time is an hour after an attach, or so; 0: only when "
     "asked for by weirctl scrub."},
    {"scrub_bytes_per_second",
     "How much of each replica a scrub reads a second, such as 32MiB; 0: no limit. While there are "
     "clients it rests as long as it works in any case."},
    {"hold_deadline",
     "How long requests are held, for want of replicas or of the catalog, before they fail "
     "with EIO; 0: for ever."},
    {"slow_request_log",
     "Log each request that takes longer than this, such as 1s, with what it was and where its time went as far as is "
     "known: a few a second of each volume, and how many were left out; 0: none."},
    {"lease",
     "Reads are served only while every replica has said within this time that it serves "
     "this frontend."},
    {"requeue_deadline",
     "How long one replica may go on answering 'requeue' before it has failed."},
    {"clone_deadline",
     "How long a connected replica may leave a request unanswered."},
    {"flush_interval",
     "The frontend flushes by itself this often, so that a crash of everything "
     "loses little."},
    {"flush_bytes", "... and after this much has been written, such as 16MiB."},
    {"replay_bytes_max",
     "Written data kept per volume to refill a replica that comes back; at the "
     "limit new writes wait."},
    {"unanswered_bytes_max",
     "Data of unanswered requests held per volume, such as 32MiB; beyond it "
     "gRPC streams are not read."},
};

}  // namespace

absl::Span<const HostOptionKey> HostOptionKeys() { return kKeys; }

const char* HostOptionHelp(absl::string_view key) {
  for (const HostOptionKey& known : kKeys) {
    if (known.key == key) return known.help;
  }
  CHECK(false);
}

absl::Status SetHostOption(absl::string_view key, absl::string_view value,
                           HostOptions* options) {
  if (key == "catalog") {
    options->catalog = std::string(value);
  } else if (key == "replicas") {
    return SetReplicas(value, &options->replicas);
  } else if (key == "name") {
    options->name = std::string(value);
  } else if (key == "labels") {
    return SetLabels(value, &options->labels);
  } else if (key == "listen") {
    options->listen = std::string(value);
  } else if (key == "metrics_listen") {
    options->metrics_listen = std::string(value);
  } else if (key == "tls_cert") {
    options->tls.cert = std::string(value);
  } else if (key == "tls_key") {
    options->tls.key = std::string(value);
  } else if (key == "tls_ca") {
    options->tls.ca = std::string(value);
  } else if (key == "nbd_tls_cert") {
    options->nbd_tls.cert = std::string(value);
  } else if (key == "nbd_tls_ca") {
    options->nbd_tls.ca = std::string(value);
  } else if (key == "insecure") {
    return SetBool(key, value, &options->tls.insecure);
  } else if (key == "insecure_metrics") {
    return SetBool(key, value, &options->insecure_metrics);
  } else if (key == "log_level") {
    ASSIGN_OR_RETURN(options->log_level, ParseLogLevel(value));
  } else if (key == "log_format") {
    ASSIGN_OR_RETURN(options->log_format, ParseLogFormat(value));
  } else if (key == "attach") {
    options->attach = absl::StrSplit(value, ',', absl::SkipWhitespace());
  } else if (key == "attach_deadline") {
    return SetDuration(key, value, &options->attach_deadline);
  } else if (key == "give_up_after") {
    return SetDuration(key, value, &options->give_up_after);
  } else if (key == "leave_after") {
    return SetDuration(key, value, &options->leave_after);
  } else if (key == "slow_after") {
    return SetDurationOrEver(key, value, &options->slow_after);
  } else if (key == "replace_after") {
    return SetDurationOrEver(key, value, &options->replace_after);
  } else if (key == "join_bytes_per_second") {
    return SetSize(key, value, &options->join_bytes_per_second);
  } else if (key == "scrub_every") {
    return SetDurationOrEver(key, value, &options->scrub_every);
  } else if (key == "scrub_bytes_per_second") {
    return SetSize(key, value, &options->scrub_bytes_per_second);
  } else if (key == "hold_deadline") {
    return SetDurationOrEver(key, value, &options->hold_deadline);
  } else if (key == "slow_request_log") {
    return SetDurationOrEver(key, value, &options->slow_request_log);
  } else if (key == "lease") {
    return SetDuration(key, value, &options->lease);
  } else if (key == "requeue_deadline") {
    return SetDuration(key, value, &options->requeue_deadline);
  } else if (key == "clone_deadline") {
    return SetDuration(key, value, &options->clone_deadline);
  } else if (key == "flush_interval") {
    return SetDuration(key, value, &options->flush_interval);
  } else if (key == "flush_bytes") {
    return SetSize(key, value, &options->flush_bytes);
  } else if (key == "replay_bytes_max") {
    return SetSize(key, value, &options->replay_bytes_max);
  } else if (key == "unanswered_bytes_max") {
    return SetSize(key, value, &options->unanswered_bytes_max);
  } else {
    return absl::NotFoundError(absl::StrCat("unknown option '", key, "'"));
  }
  return absl::OkStatus();
}

absl::Status HostOptions::Validate() const {
  if (catalog.empty()) {
    return absl::InvalidArgumentError(
        "catalog is missing; give catalog=embedded:DIR or catalog=etcd:HOST:PORT,...");
  }
  std::set<std::string> names, addresses;
  for (const auto& [name, address] : replicas) {
    if (!names.insert(name).second) {
      return absl::InvalidArgumentError(
          absl::StrCat("replicas: the name '", name, "' is given twice"));
    }
    if (!addresses.insert(address).second) {
      return absl::InvalidArgumentError(absl::StrCat(
          "replicas: the address '", address, "' is given to two names"));
    }
  }
  if (flush_bytes == 0 || replay_bytes_max < flush_bytes ||
      replay_bytes_max < kRequestBytesMax) {
    return absl::InvalidArgumentError(absl::StrCat(
        "replay_bytes_max=", FormatSize(replay_bytes_max),
        " must be at least flush_bytes=", FormatSize(flush_bytes),
        " and the largest request, ", FormatSize(kRequestBytesMax),
        "; flush_bytes must be above 0"));
  }
  if (unanswered_bytes_max == 0) {
    return absl::InvalidArgumentError("unanswered_bytes_max must be above 0");
  }
  return absl::OkStatus();
}

void CheckHostOptions(const HostOptions& options, ConfigCheck* check) {
  check->Note(options.Validate());
  const std::string folder = catalog::Catalog::EmbeddedDirectory(options.catalog);
  if (!folder.empty()) check->Folder("catalog", folder);
  if (!options.catalog.empty()) check->Note(catalog::Catalog::Check(options.catalog));
  for (const auto& [name, address] : options.replicas) {
    check->Peer("replicas", address);
    check->Note(wire::CheckDial("replicas", address, options.tls));
  }
  check->Listen("listen", options.listen);
  check->Listen("metrics_listen", options.metrics_listen);
  check->Note(wire::UseTls(options.tls));
  check->Note(wire::CheckOwnRole(options.tls, wire::kFrontend));
  for (const auto& [flag, path] : {std::pair("nbd_tls_cert", options.nbd_tls.cert), std::pair("nbd_tls_ca", options.nbd_tls.ca)}) {
    if (!path.empty()) check->Note(CheckNbdCertificate(flag, path));
  }
  if (!options.listen.empty()) check->Note(wire::CheckOwnHost(options.tls, "listen", options.listen));
  if (!options.tls.given()) check->Note(wire::CheckListen(options.listen, options.tls.insecure));
  check->Note(monitor::CheckMetricsListen(options.metrics_listen, options.tls.insecure || options.insecure_metrics));
  if (!options.tls.insecure) check->Note(catalog::Catalog::CheckPlainText(options.catalog));
}

}  // namespace weir::host
