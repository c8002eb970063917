#include <fstream>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "CLI/CLI.hpp"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "client/cli/commands.h"
#include "client/cli/output.h"
#include "client/cli/sha256.h"
#include "client/cli/transfer.h"
#include "proto/base/check.h"
#include "proto/base/position.h"
#include "proto/base/size.h"
#include "proto/base/status_macros.h"

namespace weir::cli {
namespace {

constexpr char kExamples[] =
    "  weirctl io write demo --offset=1MiB --length=64KiB --pattern=0x5a --fua\n"
    "  weirctl io write demo --file=disk.img\n"
    "  weirctl io read demo --offset=1MiB --length=64KiB\n"
    "  weirctl io read demo --length=1GiB --output-file=copy.img\n"
    "  weirctl io barrier demo --length=4KiB --pattern=1\n"
    "  weirctl io discard demo --offset=1MiB --length=64KiB";

struct Flags {
  std::string volume;
  uint64_t offset = 0;
  uint64_t length = 0;
  std::string pattern;
  std::string file;
  std::string output_file;
  bool checksum = false;
  bool fua = false;
};

void AddRange(CLI::App* command, Flags& flags, const std::string& length_help) {
  command->add_option("volume", flags.volume, "the volume's name")->required();
  AddSize(command, "--offset", flags.offset, "where to begin; default 0");
  AddSize(command, "--length", flags.length, length_help);
}

void AddSource(CLI::App* command, Flags& flags) {
  CLI::Option* pattern =
      command->add_option("--pattern", flags.pattern, "every byte so: 0x5a, 90 or \"'z'\"");
  command->add_option("--file", flags.file, "data from a file; -, or neither flag: standard input")
      ->excludes(pattern);
  command->footer(std::string("Offset and length are multiples of 4096.\nExamples:\n") + kExamples);
}

absl::StatusOr<std::unique_ptr<Volume>> OpenVolume(Context& context, const std::string& name) {
  ASSIGN_OR_RETURN(auto client, context.ConnectFrontendOf(name));
  return client->OpenVolume(name);
}

void Report(Context& context, const std::string& done, const Flags& flags, uint64_t bytes) {
  if (context.json()) {
    context.out << "{\"volume\": \"" << flags.volume << "\", \"offset_bytes\": " << flags.offset
                << ", \"length_bytes\": " << bytes << "}\n";
  } else {
    context.out << done << " " << FormatSize(bytes) << " at " << flags.offset << "\n";
  }
}

// Where the data to be written comes from, as the flags say; `file` keeps it open.
absl::StatusOr<Source> OpenSource(Context& context, const Flags& flags, std::ifstream& file) {
  if (!flags.pattern.empty()) {
    absl::StatusOr<uint8_t> byte = ParsePattern(flags.pattern);
    if (!byte.ok()) return context.Usage(byte.status());
    if (flags.length == 0) {
      return context.Usage(absl::InvalidArgumentError("--pattern needs --length"));
    }
    return PatternSource(*byte, flags.length);
  }
  if (flags.file.empty() || flags.file == "-") return StreamSource(context.in, flags.length);
  file.open(flags.file, std::ios::binary);
  if (!file) return absl::NotFoundError(absl::StrCat("cannot read ", flags.file, "; check --file"));
  return StreamSource(file, flags.length);
}

void AddWrite(CLI::App* group, Context& context) {
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    std::ifstream file;
    ASSIGN_OR_RETURN(Source source, OpenSource(context, *flags, file));
    ASSIGN_OR_RETURN(auto volume, OpenVolume(context, flags->volume));
    ASSIGN_OR_RETURN(uint64_t bytes,
                     WriteAll(*volume, flags->offset, flags->fua, source, context.err));
    Report(context, "wrote", *flags, bytes);
    return absl::OkStatus();
  };
  CLI::App* command =
      AddCommand(group, context, "write", "write a pattern, a file or standard input", body);
  AddRange(command, *flags, "how much; left out: all there is");
  AddSource(command, *flags);
  command->add_flag("--fua", flags->fua, "on stable storage on every replica before it is done");
}

void AddBarrier(CLI::App* group, Context& context) {
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    std::ifstream file;
    ASSIGN_OR_RETURN(Source source, OpenSource(context, *flags, file));
    ASSIGN_OR_RETURN(auto volume, OpenVolume(context, flags->volume));
    const uint32_t most = volume->length_bytes_max();
    ASSIGN_OR_RETURN(std::string data, source(most));
    ASSIGN_OR_RETURN(std::string more, source(kBlockBytes));
    if (!more.empty()) {
      return absl::InvalidArgumentError(
          absl::StrCat("a barrier takes at most ", FormatSize(most), "; write the rest before it"));
    }
    const uint64_t bytes = data.size();
    RETURN_IF_ERROR(volume->Barrier(flags->offset, std::move(data)));
    Report(context, "barrier written,", *flags, bytes);
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, "barrier",
                                 "drain, flush, write this, flush, go on: one ordered step", body);
  AddRange(command, *flags, "how much; left out: all there is");
  AddSource(command, *flags);
}

absl::Status ReadToFile(Context& context, const Flags& flags, Volume& volume, uint64_t length) {
  std::ofstream file;
  if (flags.output_file != "-") {
    file.open(flags.output_file, std::ios::binary | std::ios::trunc);
    if (!file) {
      return absl::PermissionDeniedError(
          absl::StrCat("cannot write ", flags.output_file, "; check --output-file"));
    }
  }
  std::ostream& to = flags.output_file == "-" ? context.out : file;
  RETURN_IF_ERROR(ReadAll(volume, flags.offset, length, context.err, [&](const std::string& data) {
    return to.write(data.data(), data.size()).good()
               ? absl::OkStatus()
               : absl::ResourceExhaustedError(absl::StrCat("cannot write ", flags.output_file));
  }));
  if (!to.flush())
    return absl::ResourceExhaustedError(absl::StrCat("cannot write ", flags.output_file));
  if (flags.output_file != "-") Report(context, "read", flags, length);
  return absl::OkStatus();
}

absl::Status ReadChecksum(Context& context, const Flags& flags, Volume& volume, uint64_t length) {
  Sha256 sum;
  RETURN_IF_ERROR(ReadAll(volume, flags.offset, length, context.err, [&](const std::string& data) {
    sum.Add(data);
    return absl::OkStatus();
  }));
  if (context.json()) {
    context.out << "{\"volume\": \"" << flags.volume << "\", \"offset_bytes\": " << flags.offset
                << ", \"length_bytes\": " << length << ", \"sha256\": \"" << sum.Hex() << "\"}\n";
  } else {
    context.out << sum.Hex() << "  " << flags.volume << "\n";  // as sha256sum prints it
  }
  return absl::OkStatus();
}

// In one object, so all of it is held: for little.
absl::Status ReadJson(Context& context, const Flags& flags, Volume& volume, uint64_t length) {
  std::string all;
  RETURN_IF_ERROR(ReadAll(volume, flags.offset, length, context.err, [&](const std::string& data) {
    all += data;
    return absl::OkStatus();
  }));
  context.out << "{\"volume\": \"" << flags.volume << "\", \"offset_bytes\": " << flags.offset
              << ", \"length_bytes\": " << length << ", \"data\": \"" << absl::Base64Escape(all)
              << "\"}\n";
  return absl::OkStatus();
}

void AddRead(CLI::App* group, Context& context) {
  auto flags = std::make_shared<Flags>();
  auto body = [&context, flags]() -> absl::Status {
    ASSIGN_OR_RETURN(auto volume, OpenVolume(context, flags->volume));
    const uint64_t length = flags->length != 0 ? flags->length : kBlockBytes;
    if (!flags->output_file.empty()) return ReadToFile(context, *flags, *volume, length);
    if (flags->checksum) return ReadChecksum(context, *flags, *volume, length);
    if (context.json()) return ReadJson(context, *flags, *volume, length);
    uint64_t at = flags->offset;
    RETURN_IF_ERROR(
        ReadAll(*volume, flags->offset, length, context.err, [&](const std::string& data) {
          context.out << HexDump(data, at);
          at += data.size();
          return absl::OkStatus();
        }));
    return absl::OkStatus();
  };
  CLI::App* command =
      AddCommand(group, context, "read", "print a hex dump, a checksum, or into a file", body);
  AddRange(command, *flags, "how much; default 4KiB");
  CLI::Option* file = command->add_option("--output-file", flags->output_file,
                                          "the bytes themselves; -: standard output");
  command->add_flag("--checksum", flags->checksum, "only their SHA-256, as sha256sum prints it")
      ->excludes(file);
  command->footer(std::string("Offset and length are multiples of 4096. With --output=json the bytes are in base64.\n"
                              "Examples:\n") + kExamples);
}

// Discard and zero: a range and nothing else.
CLI::App* AddRanged(CLI::App* group, Context& context, std::shared_ptr<Flags> flags,
                    const std::string& name, const std::string& description,
                    const std::string& done,
                    std::function<absl::Status(Volume&, uint64_t, uint64_t)> call) {
  auto body = [&context, flags, done, call]() -> absl::Status {
    ASSIGN_OR_RETURN(auto volume, OpenVolume(context, flags->volume));
    RETURN_IF_ERROR(call(*volume, flags->offset, flags->length));
    Report(context, done, *flags, flags->length);
    return absl::OkStatus();
  };
  CLI::App* command = AddCommand(group, context, name, description, body);
  AddRange(command, *flags, "how much");
  command->get_option("--length")->required();
  return command;
}

}  // namespace

void AddIoCommands(CLI::App& app, Context& context) {
  CLI::App* group = AddGroup(app, "io", "read and write volumes", kExamples);
  AddRead(group, context);
  AddWrite(group, context);
  AddBarrier(group, context);
  AddRanged(group, context, std::make_shared<Flags>(), "discard",
            "give back space; the range reads as zeros", "discarded",
            [](Volume& volume, uint64_t offset, uint64_t length) {
              return volume.Discard(offset, length);
            });
  auto zero = std::make_shared<Flags>();
  AddRanged(group, context, zero, "zero", "make a range read as zeros", "zeroed",
            [zero](Volume& volume, uint64_t offset, uint64_t length) {
              return volume.WriteZeroes(offset, length, zero->fua);
            })
      ->add_flag("--fua", zero->fua, "on stable storage before it is done");
}

}  // namespace weir::cli
