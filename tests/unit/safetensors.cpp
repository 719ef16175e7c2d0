#include "io/safetensors.h"

#include <sys/stat.h>

#include <cstring>

#include "unit/files.h"

using namespace mpt;
using namespace mpt::test;

namespace {

std::string file_bytes(const std::string& header, const std::string& data) {
  const uint64_t length = header.size();
  std::string out(sizeof length, '\0');
  std::memcpy(out.data(), &length, sizeof length);
  return out + header + data;
}

const std::string good_header =
    R"({"__metadata__":{"format":"pt","note":"\u00e9 \"x\""},"b":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]},)"
    R"("a":{"dtype":"U8","shape":[3],"data_offsets":[8,11]},"s":{"dtype":"I8","shape":[],"data_offsets":[11,12]}}  )";
const std::string good_data = "12345678abc!";

SafetensorsHeader parse(const std::string& header, uint64_t data_bytes) {
  return parse_safetensors_header(header, data_bytes, "x.st");
}

// "{"a": {"dtype": ..., "shape": ..., "data_offsets": ...}}"
std::string single(const std::string& type, const std::string& shape, const std::string& offsets) {
  return R"({"a":{"dtype":")" + type + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets + "}}";
}

}  // namespace

TEST_CASE("safetensors: reads names, dtypes, shapes, metadata and data") {
  TemporaryFolder folder;
  const std::string path = folder.file("x.st");
  put(path, file_bytes(good_header, good_data));
  const SafetensorsFile file(path);
  REQUIRE(file.tensors().size() == 3);
  CHECK(file.metadata() == Metadata{{"format", "pt"}, {"note", "\xC3\xA9 \"x\""}});
  const TensorEntry* b = file.find("b");
  REQUIRE(b);
  CHECK(b->type == "F32");
  CHECK(b->sizes == std::vector<int64_t>{2, 1});
  CHECK(b->bytes() == 8);
  CHECK(file.find("s")->sizes.empty());
  CHECK(file.find("c") == nullptr);
  char data[4] = {};
  file.read(*file.find("a"), 1, data, 2);
  CHECK(std::string(data) == "bc");
  file.read(*b, 6, data, 2);
  CHECK(std::string(data) == "78");
}

TEST_CASE("safetensors: dtype names are the format's, both ways") {
  const std::pair<DType, const char*> names[] = {{DType::f32, "F32"}, {DType::f16, "F16"}, {DType::bf16, "BF16"},
                                                 {DType::f64, "F64"}, {DType::i32, "I32"}, {DType::i64, "I64"},
                                                 {DType::u8, "U8"}};
  for (const auto& [dtype, name] : names) {
    CHECK(std::string(safetensors_type(dtype)) == name);
    CHECK(dtype_of(name) == dtype);
  }
  CHECK(!dtype_of("I8"));
  CHECK(!dtype_of("f32"));
}

TEST_CASE("safetensors: all dtypes of the format are accepted with their sizes") {
  CHECK(parse(single("F4", "[2,3]", "[0,3]"), 3).tensors[0].bytes() == 3);
  CHECK(parse(single("F6_E2M3", "[4]", "[0,3]"), 3).tensors[0].bytes() == 3);
  CHECK(parse(single("F8_E4M3", "[4]", "[0,4]"), 4).tensors[0].bytes() == 4);
  CHECK(parse(single("BOOL", "[4]", "[0,4]"), 4).tensors[0].bytes() == 4);
  CHECK(parse(single("C64", "[2]", "[0,16]"), 16).tensors[0].bytes() == 16);
  CHECK(parse(single("F32", "[1,1,1,1,1,1,1,1,1,1,1,1]", "[0,4]"), 4).tensors[0].sizes.size() == 12);
}

TEST_CASE("safetensors: tensors without elements share an offset") {
  const SafetensorsHeader header = parse(
      R"({"x":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"e":{"dtype":"F32","shape":[0,7],"data_offsets":[4,4]},)"
      R"("y":{"dtype":"F32","shape":[1],"data_offsets":[4,8]},"z":{"dtype":"F16","shape":[0],"data_offsets":[0,0]}})",
      8);
  CHECK(header.tensors.size() == 4);
  CHECK(parse("{}", 0).tensors.empty());
}

TEST_CASE("safetensors: a bad header is corrupt, and the message names the tensor, what was found and expected") {
  struct Case {
    std::string header;
    uint64_t data_bytes;
    std::string message;
  };
  const std::string two = R"("shape":[1],"data_offsets":)";
  const Case cases[] = {
      {"", 0, "starts with nothing"},
      {"[]", 0, "starts with '['"},
      {"\xEF\xBB\xBF{}", 0, "not a safetensors file"},
      {"{", 0, "invalid JSON at byte"},
      {"{}}", 0, "invalid JSON"},
      {"{} x", 0, "invalid JSON"},
      {"{\"a\xFF\":{}}", 0, "invalid JSON"},
      {R"({"a":1})", 0, "entry 'a': found 1, expected an object"},
      {R"({"a":null})", 0, "entry 'a': found null, expected an object"},
      {R"({"a":[]})", 0, "entry 'a': found an array, expected an object"},
      {R"({"__metadata__":{"k":1}})", 0, "metadata 'k': found 1, expected a string"},
      {R"({"__metadata__":{"k":{}}})", 0, "metadata 'k': found an object, expected a string"},
      {R"({"__metadata__":{"k":"1","k":"2"}})", 0, "metadata 'k': found 'k' twice"},
      {R"({"__metadata__":{},"__metadata__":{}})", 0, "found '__metadata__' twice"},
      {R"({"__metadata__":"x"})", 0, "found a string, expected an object"},
      {R"({"a":{"dtype":"U8",)" + two + R"([0,1]},"a":{"dtype":"U8",)" + two + "[1,2]}}", 2, "found 'a' twice"},
      {R"({"a":{"dtype":"U8","dtype":"U8",)" + two + "[0,1]}}", 1, "found 'dtype' twice"},
      {R"({"a":{"dtype":"U8","shape":[1],"shape":[1],"data_offsets":[0,1]}})", 1, "found 'shape' twice"},
      {R"({"a":{}})", 0, "tensor 'a', field 'dtype': found no such field"},
      {R"({"a":{"dtype":"U8","shape":[1]}})", 1, "field 'data_offsets': found no such field"},
      {R"({"a":{"strides":[1]}})", 1, "found the field 'strides', expected dtype, shape and data_offsets alone"},
      {R"({"a":{"dtype":{}}})", 0, "field 'dtype': found an object, expected a string"},
      {R"({"a":{"dtype":7}})", 0, "field 'dtype': found 7, expected a string"},
      {R"({"a":{"shape":3}})", 0, "field 'shape': found 3, expected an array of sizes"},
      {R"({"a":{"shape":[[1]]}})", 0, "field 'shape': found an array, expected sizes"},
      {single("U8", "[-1]", "[0,1]"), 1, "found a negative number"},
      {single("U8", "[1.0]", "[0,1]"), 1, "found a number that is not an integer"},
      {single("U8", "[9223372036854775808]", "[0,1]"), 1, "found 9223372036854775808, expected sizes"},
      {single("U8", "[1]", "[0]"), 1, "expected two offsets"},
      {single("U8", "[1]", "[0,1,2]"), 1, "found 2, expected two offsets"},
      {single("F31", "[1]", "[0,4]"), 4, "tensor 'a': found dtype 'F31', expected one of"},
      {single("F32", "[2,3]", "[0,20]"), 20, "found 20 bytes of data, expected 24 for F32 [2, 3]"},
      {single("F4", "[3]", "[0,1]"), 1, "found 12 bits for F4 [3], expected whole bytes"},
      {single("U8", "[4294967296,4294967296]", "[0,0]"), 0, "expected a product of the sizes below 2^64 bits"},
      {single("U8", "[2305843009213693952]", "[0,0]"), 0, "expected a product of the sizes below 2^64 bits"},
      {single("U8", "[1]", "[2,1]"), 2, "found data offsets 2 to 1"},
      {single("U8", "[9]", "[0,9]"), 5, "found 5 bytes of data in the file, expected at least 9: it is truncated"},
      {single("U8", "[1]", "[1,2]"), 2, "found its data at byte 1, expected 0"},
      {single("U8", "[1]", "[0,1]"), 2, "found 2 bytes of data, expected 1 for its tensors"},
      {"{}", 1, "found 1 bytes of data, expected 0"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
       3, "tensor 'b': found its data at byte 1, expected 2"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
       5, "tensor 'b': found its data at byte 3, expected 2"},
      {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"e":{"dtype":"U8","shape":[0],"data_offsets":[1,1]}})",
       2, "tensor 'e': found its data at byte 1, expected 2"},
  };
  for (const Case& c : cases) {
    CAPTURE(c.header);
    const Failure failure = failure_of([&] { parse(c.header, c.data_bytes); });
    CAPTURE(failure.message);
    CHECK(failure.status == MPT_ERROR_CORRUPT);
    CHECK(failure.says("file 'x.st'"));
    CHECK(failure.says(c.message));
  }
}

TEST_CASE("safetensors: deep nesting and long names cost nothing") {
  CHECK(failure_of([] { parse("{\"a\":" + std::string(1'000'000, '['), 0); }).status == MPT_ERROR_CORRUPT);
  const std::string name(1'000'000, 'n');
  const Failure failure = failure_of([&] { parse("{\"" + name + "\":3}", 0); });
  CHECK(failure.status == MPT_ERROR_CORRUPT);
  CHECK(failure.says("nnn...': found 3, expected an object"));
}

TEST_CASE("safetensors: control characters of a file never reach a message") {
  const Failure failure = failure_of([] { parse(R"({"a\u001b[2J\n'":3})", 0); });
  CHECK(failure.says(R"('a\x1b[2J\n\'')"));
}

TEST_CASE("safetensors: a truncated file is corrupt at every length") {
  TemporaryFolder folder;
  const std::string path = folder.file("x.st"), bytes = file_bytes(good_header, good_data);
  for (std::size_t length = 0; length < bytes.size(); ++length) {
    CAPTURE(length);
    put(path, bytes.substr(0, length));
    const Failure failure = failure_of([&] { SafetensorsFile file(path); });
    CHECK(failure.status == MPT_ERROR_CORRUPT);
    CHECK(failure.says(path));
  }
}

TEST_CASE("safetensors: a changed header byte gives a status or a file that can be read, never a crash") {
  TemporaryFolder folder;
  const std::string path = folder.file("x.st"), bytes = file_bytes(good_header, good_data);
  std::size_t refused = 0, accepted = 0;
  for (std::size_t position = 0; position < 8 + good_header.size(); ++position)
    for (unsigned change : {0x01u, 0x02u, 0x10u, 0x20u, 0x80u, 0xFFu}) {
      std::string changed = bytes;
      changed[position] = static_cast<char>(static_cast<unsigned char>(changed[position]) ^ change);
      put(path, changed);
      const Failure failure = failure_of([&] {
        const SafetensorsFile file(path);
        for (const TensorEntry& tensor : file.tensors()) {
          std::string data(tensor.bytes(), '\0');
          file.read(tensor, 0, data.data(), data.size());
        }
      });
      if (failure.status == MPT_OK) {
        ++accepted;
      } else {
        CHECK(failure.status == MPT_ERROR_CORRUPT);
        ++refused;
      }
    }
  CHECK(refused > accepted);  // names and metadata texts may change; structure, numbers and dtypes may not
}

TEST_CASE("safetensors: foreign files and absurd header lengths") {
  TemporaryFolder folder;
  const std::string path = folder.file("x.st");
  for (const std::string& bytes :
       {std::string("PK\x03\x04 a zip file of another program"), std::string("\x80\x02}q\x00.", 6) + "pickle pickle",
        std::string(64, '\0'), std::string(64, '\xFF'), std::string("{\"json\": \"but not safetensors\"}")}) {
    put(path, bytes);
    const Failure failure = failure_of([&] { SafetensorsFile file(path); });
    CHECK(failure.status == MPT_ERROR_CORRUPT);
    CHECK(failure.says("is not a safetensors file"));
  }
  std::string bytes = file_bytes("{}", "");
  bytes[0] = 3;
  put(path, bytes);
  const Failure one_more = failure_of([&] { SafetensorsFile file(path); });
  CHECK(one_more.status == MPT_ERROR_CORRUPT);
  CHECK(one_more.says("found 2 bytes after the header length, expected a header of 3"));
  const uint64_t too_long = safetensors_max_header_bytes + 1;
  std::memcpy(bytes.data(), &too_long, sizeof too_long);
  put(path, bytes);
  std::filesystem::resize_file(path, too_long + 100);  // sparse: the file is long enough for it
  CHECK(failure_of([&] { SafetensorsFile file(path); }).says("found a header length of 100000001"));
}

TEST_CASE("safetensors: what cannot be opened as a file is an IO error with the reason") {
  TemporaryFolder folder;
  const std::string absent = folder.file("absent.st"), pipe = folder.file("pipe");
  REQUIRE(::mkfifo(pipe.c_str(), 0644) == 0);
  const std::pair<std::string, const char*> cases[] = {{absent, "No such file or directory"},
                                                       {"", "No such file or directory"},
                                                       {folder.path(), "Is a directory"},
                                                       {pipe, "expected a regular file"},
                                                       {"/dev/zero", "expected a regular file"}};
  for (const auto& [path, reason] : cases) {
    const std::string& p = path;  // clang 14 captures no structured binding
    CAPTURE(p);
    const Failure failure = failure_of([&] { SafetensorsFile file(p); });
    CHECK(failure.status == MPT_ERROR_IO);
    CHECK(failure.says("'" + path + "'"));
    CHECK(failure.says(reason));
  }
}

TEST_CASE("safetensors: a file that shrinks while it is read is corrupt, not a signal") {
  TemporaryFolder folder;
  const std::string path = folder.file("x.st");
  put(path, file_bytes(good_header, good_data));
  const SafetensorsFile file(path);
  std::filesystem::resize_file(path, 8 + good_header.size() + 10);
  char data[8];
  file.read(*file.find("b"), 0, data, 8);
  const Failure failure = failure_of([&] { file.read(*file.find("a"), 0, data, 3); });
  CHECK(failure.status == MPT_ERROR_CORRUPT);
  CHECK(failure.says("truncated while it was read"));
}

TEST_CASE("safetensors: what is formatted is parsed back, aligned") {
  SafetensorsHeader header;
  header.metadata = {{"quote\" \\ \n", "\xE2\x82\xAC"}, {"empty", ""}};
  header.tensors = {
      {"a\"b\\c\n\t\x01", "F64", {1}, 0, 8}, {"\xE9\x87\x8D\xE3\x81\xBF", "F32", {0, 3}, 8, 8}, {"", "U8", {}, 8, 9}};
  const std::string text = format_safetensors_header(header);
  CHECK(text.size() % 8 == 0);
  const SafetensorsHeader back = parse(text, 9);
  CHECK(back.metadata == header.metadata);
  REQUIRE(back.tensors.size() == 3);
  for (std::size_t i = 0; i < 3; ++i) {
    CHECK(back.tensors[i].name == header.tensors[i].name);
    CHECK(back.tensors[i].type == header.tensors[i].type);
    CHECK(back.tensors[i].sizes == header.tensors[i].sizes);
    CHECK(back.tensors[i].begin == header.tensors[i].begin);
    CHECK(back.tensors[i].end == header.tensors[i].end);
  }
  CHECK(format_safetensors_header({}) == "{}      ");
  header.tensors[0].name = "not \xFF UTF-8";
  CHECK(failure_of([&] { format_safetensors_header(header); }).status == MPT_ERROR_INVALID_ARGUMENT);
}

TEST_CASE("safetensors: a header beyond the format's limit is refused before it is written") {
  SafetensorsHeader header;
  header.metadata["long"] = std::string(safetensors_max_header_bytes, 'x');
  const Failure failure = failure_of([&] { format_safetensors_header(header); });
  CHECK(failure.status == MPT_ERROR_INVALID_ARGUMENT);
  CHECK(failure.says("expected at most 100000000"));
}
