#include "io/checkpoint.h"

#include <array>
#include <bit>
#include <cstring>
#include <limits>
#include <map>

#include "io/checksums.h"
#include "unit/files.h"

using namespace mpt;
using namespace mpt::test;

namespace {

// Distinct bytes for `count` elements; floats among them include NaNs and infinities, which must come back as they are.
std::string pattern(std::size_t bytes, unsigned seed = 1) {
  std::string out(bytes, '\0');
  for (std::size_t i = 0; i < bytes; ++i) out[i] = static_cast<char>((i + seed) * 2654435761u >> 13);
  return out;
}

std::string read_raw(const CheckpointReader& file, const std::string& name, DType dtype, const Shape& shape) {
  std::string out(static_cast<std::size_t>(shape.elements()) * size_of(dtype), '\0');
  file.read(name, dtype, shape, out.data());
  return out;
}

constexpr DType all_dtypes[] = {DType::f32, DType::f16, DType::bf16, DType::f64, DType::i32, DType::i64, DType::u8};

// A small file with most of what a header can have.
const std::array<float, 6> weight = {1, -2, 3.5f, 0, 65504, 1e-8f};
const std::array<int64_t, 2> counts = {INT64_MIN, INT64_MAX};

void write_small(const std::string& path) {
  write_checkpoint(path,
                   {{"fc.weight", DType::f32, {2, 3}, weight.data()},
                    {"fc.weight16", DType::f32, {3}, weight.data(), DType::f16},
                    {"mpt.counts", DType::i64, {2}, counts.data()}},
                   {{"scale", "65536"}, {"note", "caf\xC3\xA9"}});
}

// Everything that the small file says, as one text.
std::string read_small(const std::string& path) {
  const CheckpointReader file(path);
  std::string out;
  for (const auto& [key, value] : file.metadata()) out += key + "=" + value + "\n";
  for (const TensorEntry& tensor : file.tensors()) {
    out += tensor.name + tensor.type + std::to_string(tensor.begin);
    for (int64_t size : tensor.sizes) out += "," + std::to_string(size);
  }
  file.verify();
  out += read_raw(file, "fc.weight", DType::f32, {2, 3}) + read_raw(file, "fc.weight16", DType::f16, {3}) +
         read_raw(file, "mpt.counts", DType::i64, {2});
  return out;
}

uint64_t header_bytes_of(const std::string& bytes) {
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), sizeof length);
  return length;
}

}  // namespace

TEST_CASE("checkpoint: every dtype and shape comes back bit for bit") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  // Scalars, empty tensors, odd sizes, full rank, and more than one block of reading.
  const Shape shapes[] = {{}, {0}, {3, 0, 2}, {7}, {2, 3}, {1, 2, 1, 2, 1, 2, 1, 3}, {300, 451}};
  std::vector<std::string> data;
  std::vector<CheckpointTensor> tensors;
  for (DType dtype : all_dtypes)
    for (const Shape& shape : shapes)
      data.push_back(
          pattern(static_cast<std::size_t>(shape.elements()) * size_of(dtype), static_cast<unsigned>(data.size())));
  std::size_t next = 0;
  for (DType dtype : all_dtypes)
    for (const Shape& shape : shapes) {
      const std::string& bytes = data[next++];
      tensors.push_back({name_of(dtype) + shape.text(), dtype, shape, bytes.empty() ? nullptr : bytes.data()});
    }
  write_checkpoint(path, tensors, {});
  CHECK(folder.entries() == 1);

  const CheckpointReader file(path);
  CHECK(file.is_own());
  file.verify();
  CHECK(file.tensors().size() == tensors.size());
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    CAPTURE(tensors[i].name);
    CHECK(read_raw(file, tensors[i].name, tensors[i].dtype, tensors[i].shape) == data[i]);
  }
  // Aligned: the data's start by the header's padding, each tensor by the order.
  CHECK(header_bytes_of(contents(path)) % 8 == 0);
  for (const TensorEntry& tensor : file.tensors()) CHECK(tensor.begin % size_of(*dtype_of(tensor.type)) == 0);
}

TEST_CASE("checkpoint: names and metadata with quotes, control characters and any script") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  const std::string names[] = {"a\"b\\c",
                               "line\nbreak\ttab\x01",
                               "\xE9\x87\x8D\xE3\x81\xBF \xF0\x9F\x8F\x8B",
                               "",
                               " ",
                               "{}:[],",
                               std::string(10'000, 'n'),
                               "blocks.0/attn.weight"};
  std::vector<CheckpointTensor> tensors;
  Metadata metadata;
  for (const std::string& name : names) {
    tensors.push_back({name, DType::f32, {6}, weight.data()});
    metadata["k" + name] = name;
  }
  write_checkpoint(path, tensors, metadata);
  const CheckpointReader file(path);
  file.verify();
  for (const std::string& name : names) {
    CHECK(file.contains(name));
    CHECK(file.text("k" + name) == name);
  }
}

TEST_CASE("checkpoint: numbers in the metadata come back exactly") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  write_checkpoint(path, {},
                   {{"seed", metadata_text(UINT64_MAX)},
                    {"step", metadata_text(INT64_MIN)},
                    {"scale", metadata_text(0x1p24f)},
                    {"rate", metadata_text(0.1)}});
  const CheckpointReader file(path);
  CHECK(file.uint64("seed") == UINT64_MAX);
  CHECK(file.int64("step") == INT64_MIN);
  CHECK(file.float32("scale") == 0x1p24f);
  CHECK(file.float64("rate") == 0.1);
  const Failure failure = failure_of([&] { file.uint64("absent"); });
  CHECK(failure.status == MPT_ERROR_CORRUPT);
  CHECK(failure.says(path));
}

TEST_CASE("checkpoint: the same content gives the same bytes") {
  TemporaryFolder folder;
  write_small(folder.file("a"));
  write_small(folder.file("b"));
  CHECK(contents(folder.file("a")) == contents(folder.file("b")));
}

TEST_CASE("checkpoint: weights convert between the float types on the way in and out") {
  TemporaryFolder folder;
  const std::string path = folder.file("w.safetensors");
  // Exact in FP16 and BF16; then a tie to even, a value beyond FP16, infinity.
  constexpr float infinity = std::numeric_limits<float>::infinity();
  const std::vector<float> values = {1.0f, -2.5f, 0.0f, -0.0f, 0x1.002p0f, 65520.0f, -infinity};
  const std::vector<float> as_f16 = {1.0f, -2.5f, 0.0f, -0.0f, 1.0f, infinity, -infinity};
  const std::vector<float> as_bf16 = {1.0f, -2.5f, 0.0f, -0.0f, 1.0f, 65536.0f, -infinity};
  const Shape shape = {7};
  write_checkpoint(path,
                   {{"f32", DType::f32, shape, values.data()},
                    {"f16", DType::f32, shape, values.data(), DType::f16},
                    {"bf16", DType::f32, shape, values.data(), DType::bf16}},
                   {});
  const CheckpointReader file(path);
  CHECK(file.tensors()[0].bytes() == 28);
  CHECK(file.tensors()[1].bytes() == 14);
  const std::pair<const char*, const std::vector<float>*> expected[] = {
      {"f32", &values}, {"f16", &as_f16}, {"bf16", &as_bf16}};
  for (const auto& entry : expected) {
    const auto& [name, floats] = entry;
    const std::string raw = read_raw(file, name, DType::f32, shape);
    CHECK_MESSAGE(raw == std::string(reinterpret_cast<const char*>(floats->data()), raw.size()), entry.first);
  }
  // FP32 in the file to 16 bits in memory gives the bits that 16 bits in the file have.
  CHECK(read_raw(file, "f32", DType::f16, shape) == read_raw(file, "f16", DType::f16, shape));
  CHECK(read_raw(file, "f32", DType::bf16, shape) == read_raw(file, "bf16", DType::bf16, shape));
}

TEST_CASE("checkpoint: conversion of more than one block") {
  TemporaryFolder folder;
  const std::string path = folder.file("w.safetensors");
  std::vector<float> values(100'003);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(i % 2039);  // exact in FP16, and no block is like another
  const Shape shape = {static_cast<int64_t>(values.size())};
  write_checkpoint(path, {{"w", DType::f32, shape, values.data(), DType::f16}}, {});
  const CheckpointReader file(path);
  std::vector<float> back(values.size());
  file.read("w", DType::f32, shape, back.data());
  CHECK(back == values);
}

TEST_CASE("checkpoint: a changed byte of the data names its tensor") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  write_small(path);
  const std::string bytes = contents(path);
  const std::size_t data_start = 8 + header_bytes_of(bytes);
  const auto tensor_at = [](std::size_t offset) -> std::string {  // widest elements first: counts, weight, weight16
    return offset < 16 ? "mpt.counts" : offset < 40 ? "fc.weight" : "fc.weight16";
  };
  for (std::size_t position = data_start; position < bytes.size(); ++position)
    for (unsigned change : {0x01u, 0x80u, 0xFFu}) {
      std::string changed = bytes;
      changed[position] = static_cast<char>(static_cast<unsigned char>(changed[position]) ^ change);
      put(path, changed);
      const CheckpointReader file(path);
      const std::string name = tensor_at(position - data_start);
      for (const Failure& failure : {failure_of([&] { file.verify(); }), failure_of([&] { read_small(path); })}) {
        CHECK(failure.status == MPT_ERROR_CORRUPT);
        CHECK(failure.says("tensor '" + name + "': found checksum crc32c:"));
        CHECK(failure.says(path));
      }
    }
}

TEST_CASE("checkpoint: a changed byte of the header never changes what is read") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  write_small(path);
  const std::string bytes = contents(path), before = read_small(path);
  const std::size_t header_end = 8 + header_bytes_of(bytes);
  for (std::size_t position = 0; position < header_end; ++position)
    for (unsigned change : {0x01u, 0x02u, 0x04u, 0x08u, 0x10u, 0x20u, 0x40u, 0x80u, 0xFFu}) {
      std::string changed = bytes;
      changed[position] = static_cast<char>(static_cast<unsigned char>(changed[position]) ^ change);
      put(path, changed);
      CAPTURE(position);
      CAPTURE(change);
      std::string after;
      const Failure failure = failure_of([&] { after = read_small(path); });
      if (failure.status == MPT_OK)
        CHECK(after == before);                          // another white-space character in the padding
      else if (failure.status != MPT_ERROR_UNSUPPORTED)  // another digit in the format version
        CHECK(failure.status == MPT_ERROR_CORRUPT);
    }
}

TEST_CASE("checkpoint: a header that was rewritten to say something else is corrupt") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  write_small(path);
  const std::string bytes = contents(path);
  // Each is a valid header by itself: same sizes in bytes, other meaning.
  const std::pair<std::string, std::string> edits[] = {
      {"[2,3]", "[3,2]"}, {"\"I64\"", "\"F64\""}, {"\"F16\"", "\"I16\""}, {"65536", "32768"}};
  for (const auto& [from, to] : edits) {
    std::string changed = bytes;
    const std::size_t at = changed.find(from);
    REQUIRE(at != std::string::npos);
    changed.replace(at, from.size(), to);
    put(path, changed);
    const Failure failure = failure_of([&] { CheckpointReader file(path); });
    CHECK(failure.status == MPT_ERROR_CORRUPT);
    CHECK(failure.says("found header checksum"));
  }
}

TEST_CASE("checkpoint: a truncated file is corrupt at every length") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  write_small(path);
  const std::string bytes = contents(path);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    put(path, bytes.substr(0, length));
    CHECK(failure_of([&] { read_small(path); }).status == MPT_ERROR_CORRUPT);
  }
  put(path, bytes + "x");
  CHECK(failure_of([&] { read_small(path); }).status == MPT_ERROR_CORRUPT);
}

TEST_CASE("checkpoint: files of other programs have no checksums and are read all the same") {
  TemporaryFolder folder;
  const std::string path = folder.file("plain.safetensors");
  SafetensorsHeader header;
  header.metadata = {{"format", "pt"}};
  header.tensors = {{"w", "F32", {2}, 0, 8}, {"mask", "BOOL", {1, 1, 1, 1, 1, 1, 1, 1, 2}, 8, 10}};
  const std::string text = format_safetensors_header(header);
  const uint64_t length = text.size();
  std::string bytes(8, '\0');
  std::memcpy(bytes.data(), &length, 8);
  const std::string data = std::string(reinterpret_cast<const char*>(weight.data()), 8) + "\1\1";
  put(path, bytes + text + data);

  const CheckpointReader file(path);
  CHECK(!file.is_own());
  file.verify();
  CHECK(read_raw(file, "w", DType::f32, {2}) == data.substr(0, 8));
  // A dtype and a rank that this library does not have are no obstacle until that tensor is asked for.
  const Failure failure = failure_of([&] { read_raw(file, "mask", DType::u8, {2}); });
  CHECK(failure.status == MPT_ERROR_INVALID_ARGUMENT);
  CHECK(failure.says("found shape [1, 1, 1, 1, 1, 1, 1, 1, 2], expected [2]"));
}

TEST_CASE("checkpoint: another format version and incomplete checksums are refused") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  const auto status_with = [&](const Metadata& metadata) {
    SafetensorsHeader header;
    header.metadata = metadata;
    header.tensors = {{"w", "U8", {1}, 0, 1}};
    if (metadata.count(header_checksum_key)) header.metadata[header_checksum_key] = header_checksum(header);
    const std::string text = format_safetensors_header(header);
    const uint64_t length = text.size();
    std::string bytes(8, '\0');
    std::memcpy(bytes.data(), &length, 8);
    put(path, bytes + text + "x");
    return failure_of([&] { CheckpointReader file(path); });
  };
  const std::string version = format_version_key, sums = checksums_key, own = header_checksum_key;
  CHECK(status_with({}).status == MPT_OK);
  CHECK(status_with({{version, "1"}, {sums, R"({"w":"crc32c:00000000"})"}, {own, ""}}).status == MPT_OK);
  const Failure newer = status_with({{version, "2"}, {sums, "{}"}, {own, ""}});
  CHECK(newer.status == MPT_ERROR_UNSUPPORTED);
  CHECK(newer.says("found checkpoint format version 2, expected 1"));
  CHECK(status_with({{version, "one"}, {sums, "{}"}, {own, ""}}).status == MPT_ERROR_CORRUPT);
  CHECK(status_with({{version, "1"}}).says("found no metadata 'mpt.header_checksum'"));
  CHECK(status_with({{sums, "{}"}}).says("found no metadata 'mpt.format_version'"));
  CHECK(status_with({{version, "1"}, {own, ""}}).says("found no metadata 'mpt.checksums'"));
  CHECK(status_with({{version, "1"}, {sums, "{}"}, {own, ""}}).says("tensor 'w': found no checksum"));
  CHECK(status_with({{version, "1"}, {sums, R"({"w":"crc32c:0","v":""})"}, {own, ""}}).says("checksum of tensor 'v'"));
  for (const char* bad : {"", "[]", "7", "\"x\"", "{\"w\":1}", "{\"w\":{}}", "{\"w\":\"\",\"w\":\"\"}", "{"}) {
    CAPTURE(bad);
    const Failure failure = status_with({{version, "1"}, {sums, bad}, {own, ""}});
    CHECK(failure.status == MPT_ERROR_CORRUPT);
    CHECK(failure.says("metadata 'mpt.checksums'"));
  }
}

TEST_CASE("checkpoint: names that cannot be saved are refused, and nothing is written") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  put(path, "old");
  const CheckpointTensor w{"w", DType::f32, {6}, weight.data()};
  CheckpointTensor reserved = w, bad_text = w;
  reserved.name = "__metadata__";
  bad_text.name = "\xFF";
  const std::pair<Failure, const char*> cases[] = {
      {failure_of([&] {
         write_checkpoint(path, {w, w}, {});
       }),
       "two tensors to save are named 'w'"},
      {failure_of([&] { write_checkpoint(path, {reserved}, {}); }), "'__metadata__'"},
      {failure_of([&] { write_checkpoint(path, {bad_text}, {}); }), "UTF-8"},
      {failure_of([&] {
         write_checkpoint(path, {w}, {{checksums_key, ""}});
       }),
       "the key 'mpt.checksums'"},
      {failure_of([&] {
         write_checkpoint(path, {w}, {{"k", "\xC3"}});
       }),
       "UTF-8"}};
  for (const auto& [failure, message] : cases) {
    CHECK(failure.status == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(failure.says(message));
  }
  CHECK(contents(path) == "old");
  CHECK(folder.entries() == 1);
}

TEST_CASE("checkpoint: reading with another name, shape or dtype says what was found and expected") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  write_small(path);
  const CheckpointReader file(path);
  const std::pair<Failure, const char*> cases[] = {
      {failure_of([&] { read_raw(file, "fc.bias", DType::f32, {3}); }), "'fc.bias': found no such tensor"},
      {failure_of([&] {
         read_raw(file, "fc.weight", DType::f32, {3, 2});
       }),
       "found shape [2, 3], expected [3, 2]"},
      {failure_of([&] { read_raw(file, "fc.weight", DType::f32, {6}); }), "found shape [2, 3], expected [6]"},
      {failure_of([&] { read_raw(file, "mpt.counts", DType::f32, {2}); }), "found dtype I64, expected F32 or another"},
      {failure_of([&] {
         read_raw(file, "fc.weight", DType::i32, {2, 3});
       }),
       "found dtype F32, expected I32"},
      {failure_of([&] {
         read_raw(file, "fc.weight", DType::f64, {2, 3});
       }),
       "found dtype F32, expected F64"}};
  for (const auto& [failure, message] : cases) {
    CHECK(failure.status == MPT_ERROR_INVALID_ARGUMENT);
    CHECK(failure.says(message));
  }
}

TEST_CASE("checkpoint: differences are listed by name") {
  TemporaryFolder folder;
  const std::string path = folder.file("c.safetensors");
  write_small(path);
  const CheckpointReader file(path);
  const std::vector<TensorExpectation> fits = {{"fc.weight", DType::f32, {2, 3}},
                                               {"fc.weight16", DType::f32, {3}},  // converts
                                               {"mpt.counts", DType::i64, {2}}};
  CHECK(file.compare(fits).empty());
  CHECK(file.compare(fits).text().empty());
  CHECK(file.compare({fits[0], fits[1]}, checkpoint_state_prefix).empty());
  CHECK(file.compare({fits[0], fits[1]}).text() == "1 unexpected: 'mpt.counts'");

  const TensorDifferences all = file.compare({{"fc.weight", DType::f32, {3, 2}},
                                              {"mpt.counts", DType::f32, {2}},
                                              {"fc.bias", DType::f32, {2}},
                                              {"norm.weight", DType::f32, {2}}});
  CHECK(!all.empty());
  CHECK(all.missing == std::vector<std::string>{"fc.bias", "norm.weight"});
  CHECK(all.text() ==
        "2 missing: 'fc.bias', 'norm.weight'; 1 unexpected: 'fc.weight16'; "
        "1 misshapen: 'fc.weight' is [2, 3], expected [3, 2]; "
        "1 of another dtype: 'mpt.counts' is I64, expected F32");

  std::vector<TensorExpectation> many;
  for (int i = 0; i < 11; ++i) many.push_back({"layer" + std::to_string(i), DType::f32, {1}});
  CHECK(file.compare(many, "").text().find("11 missing: 'layer0', 'layer1', 'layer2', 'layer3', 'layer4', 'layer5', "
                                           "'layer6', 'layer7' and 3 more; 3 unexpected: ") == 0);
}
