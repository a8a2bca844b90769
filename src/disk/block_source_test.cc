#include "disk/block_source.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <thread>

#include "base/units.h"
#include "disk/test_images.h"

namespace reclo::disk {
namespace {

using namespace testing;

TEST(RawSource, ReadsAndKnowsHoles) {
  const ImageFolder folder;
  make_sparse_file(folder.path("d"), 8 * kMiB);
  const Bytes data = noise(64 * kKiB, 1);
  patch_file(folder.path("d"), 2 * kMiB, data);
  auto source = must_open(folder.path("d"));
  EXPECT_EQ(source->format(), "raw");
  EXPECT_EQ(source->size_bytes(), 8 * kMiB);
  EXPECT_EQ(must_read(*source, 2 * kMiB, data.size()), data);
  auto ranges = source->data_ranges({0, 8 * kMiB});
  ASSERT_TRUE(ranges.ok());
  EXPECT_EQ(*ranges, (std::vector<Range>{{2 * kMiB, 64 * kKiB}}));
  ranges = source->data_ranges({2 * kMiB + 4096, 8192});
  ASSERT_TRUE(ranges.ok());
  EXPECT_EQ(*ranges, (std::vector<Range>{{2 * kMiB + 4096, 8192}}));
  ranges = source->data_ranges({4 * kMiB, 4 * kMiB});
  ASSERT_TRUE(ranges.ok());
  EXPECT_TRUE(ranges->empty());
}

TEST(RawSource, RefusesWhatIsNoDisk) {
  const ImageFolder folder;
  const auto code_of = [](const std::string& path) {
    auto source = open_source(path, test_limit());
    return source.ok() ? Code::kInternal : source.error().code();
  };
  EXPECT_EQ(code_of(folder.path("missing")), Code::kNotFound);
  EXPECT_EQ(code_of(folder.folder()), Code::kInvalidArgument);
  EXPECT_EQ(code_of("/dev/null"), Code::kInvalidArgument);
  make_sparse_file(folder.path("empty"), 0);
  EXPECT_EQ(code_of(folder.path("empty")), Code::kInvalidArgument);
  ASSERT_EQ(::mkfifo(folder.path("pipe").c_str(), 0600), 0);
  EXPECT_EQ(code_of(folder.path("pipe")), Code::kInvalidArgument);
}

TEST(RawSource, SaysThatTheDiskChangedItsSize) {
  const ImageFolder folder;
  make_sparse_file(folder.path("d"), kMiB);
  auto source = must_open(folder.path("d"));
  make_sparse_file(folder.path("d"), kMiB / 2);
  Bytes buffer(4096);
  Status status = source->read_at(kMiB - 4096, buffer);
  ASSERT_FALSE(status.ok());
  EXPECT_EQ(status.error().code(), Code::kIo);
  EXPECT_NE(status.error().message().find("shrank"), std::string::npos);
  EXPECT_FALSE(source->data_ranges({0, kMiB}).ok());
  make_sparse_file(folder.path("d"), 2 * kMiB);
  status = source->read_at(0, buffer);
  ASSERT_FALSE(status.ok());
  EXPECT_NE(status.error().message().find("grew"), std::string::npos);
}

TEST(RawSource, ReadsABlockDeviceAndNeverGuessesItsFormat) {
  const ImageFolder folder;
  run({"qemu-img", "create", "-q", "-f", "qcow2", folder.path("d"), "1M"});
  run({"truncate", "-s", "1M", folder.path("d")});
  const LoopDevice loop(folder.path("d"));
  auto source = must_open(loop.path());
  EXPECT_EQ(source->format(), "block");
  EXPECT_EQ(source->size_bytes(), kMiB);
  EXPECT_EQ(as_text(must_read(*source, 0, 3)), "QFI");
  auto ranges = source->data_ranges({0, kMiB});
  ASSERT_TRUE(ranges.ok());
  EXPECT_EQ(*ranges, (std::vector<Range>{{0, kMiB}}));
}

TEST(RawSource, OddFirstBytesAreStillARawDisk) {
  const ImageFolder folder;
  for (const std::string magic :
       {"QFI\xfb", "vhdxfile", "conectix", "KDMV", "# Disk DescriptorFile"}) {
    Bytes disk = noise(2 * kMiB, 7);
    std::copy(magic.begin(), magic.end(), disk.begin());
    if (magic == "conectix") std::copy(magic.begin(), magic.end(), disk.end() - 512);
    write_file(folder.path("d"), disk);
    auto source = must_open(folder.path("d"));
    EXPECT_EQ(source->format(), "raw") << magic;
    EXPECT_EQ(must_read(*source, 0, disk.size()), disk);
  }
}

struct FormatCase {
  std::string format;
  std::string options;
};
class ImageFormats : public ::testing::TestWithParam<FormatCase> {};

TEST_P(ImageFormats, ReadTheSameBytesAndKnowHoles) {
  const ImageFolder folder;
  constexpr uint64_t kSize = 16 * kMiB;
  make_sparse_file(folder.path("raw"), kSize);
  const Bytes first = noise(100 * kKiB, 3);
  const Bytes second = noise(kMiB, 4);
  patch_file(folder.path("raw"), 0, first);
  patch_file(folder.path("raw"), 9 * kMiB + 512, second);
  std::vector<std::string> argv = {"qemu-img", "convert", "-f", "raw", "-O", GetParam().format};
  if (!GetParam().options.empty()) argv.insert(argv.end(), {"-o", GetParam().options});
  argv.insert(argv.end(), {folder.path("raw"), folder.path("image")});
  run(argv);
  auto source = must_open(folder.path("image"));
  EXPECT_EQ(source->format(), GetParam().format);
  ASSERT_GE(source->size_bytes(), kSize);
  EXPECT_LE(source->size_bytes(), kSize + kMiB);
  EXPECT_EQ(must_read(*source, 0, first.size()), first);
  EXPECT_EQ(must_read(*source, 9 * kMiB + 512, second.size()), second);
  const Bytes whole = must_read(*source, 0, kSize);
  auto ranges = source->data_ranges({0, source->size_bytes()});
  ASSERT_TRUE(ranges.ok());
  uint64_t at = 0;
  for (const Range& range : *ranges) {
    ASSERT_GE(range.offset_bytes, at);
    if (at < kSize && range.offset_bytes > at) {
      EXPECT_TRUE(is_all_zero(ByteSpan(whole).subspan(at, range.offset_bytes - at)));
    }
    at = range.end_bytes();
  }
}

INSTANTIATE_TEST_SUITE_P(All, ImageFormats,
                         ::testing::Values(FormatCase{"qcow2", ""},
                                           FormatCase{"qcow2", "compat=0.10"},
                                           FormatCase{"vpc", ""},
                                           FormatCase{"vpc", "subformat=fixed"},
                                           FormatCase{"vhdx", ""}, FormatCase{"vmdk", ""},
                                           FormatCase{"vmdk", "subformat=monolithicFlat"},
                                           FormatCase{"vmdk", "subformat=streamOptimized"}));

TEST(NbdSource, ServesManyThreadsAndEndsItsServer) {
  const ImageFolder folder;
  const Bytes data = noise(8 * kMiB, 11);
  write_file(folder.path("raw"), data);
  run({"qemu-img", "convert", "-O", "qcow2", folder.path("raw"), folder.path("i.qcow2")});
  auto source = must_open(folder.path("i.qcow2"));
  {
    std::vector<std::jthread> threads;
    for (size_t t = 0; t < 12; ++t)
      threads.emplace_back([&, t] {
        for (size_t i = 0; i < 40; ++i) {
          const size_t at = (t * 7919 + i * 104729) % (data.size() - 4096);
          const Bytes got = must_read(*source, at, 4096);
          EXPECT_TRUE(
              std::equal(got.begin(), got.end(), data.begin() + static_cast<ptrdiff_t>(at)));
        }
      });
  }
  const std::string count_servers =
      "ps -C qemu-nbd -o args= | grep -c " + folder.path("i.qcow2") + " || true";
  EXPECT_EQ(shell(count_servers), "1\n");
  source.reset();
  EXPECT_EQ(shell(count_servers), "0\n");
}

TEST(NbdSource, SurvivesTheThreadThatOpenedIt) {
  const ImageFolder folder;
  run({"qemu-img", "create", "-q", "-f", "qcow2", folder.path("i.qcow2"), "4M"});
  std::unique_ptr<BlockSource> source;
  std::jthread([&] { source = must_open(folder.path("i.qcow2")); }).join();
  EXPECT_TRUE(is_all_zero(must_read(*source, kMiB, 4096)));
}

TEST(ImageReferences, ABackingFileInTheSameFolderIsRead) {
  const ImageFolder folder;
  const Bytes data = noise(kMiB, 5);
  write_file(folder.path("base.raw"), data);
  run({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "base.raw",
       folder.path("top.qcow2")});
  auto source = must_open(folder.path("top.qcow2"));
  EXPECT_EQ(must_read(*source, 0, data.size()), data);
}

TEST(ImageReferences, FilesOutsideTheFolderAreRefused) {
  const ImageFolder folder;
  const ImageFolder elsewhere;
  write_file(elsewhere.path("secret"), noise(kMiB, 6));
  const auto refused = [&](const std::string& path) {
    auto source = open_source(path, test_limit());
    EXPECT_FALSE(source.ok());
    return source.ok() ? Code::kInternal : source.error().code();
  };
  run({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", elsewhere.path("secret"),
       folder.path("backing.qcow2")});
  EXPECT_EQ(refused(folder.path("backing.qcow2")), Code::kPermissionDenied);

  ASSERT_EQ(::symlink(elsewhere.path("secret").c_str(), folder.path("link").c_str()), 0);
  run({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", "link",
       folder.path("linked.qcow2")});
  EXPECT_EQ(refused(folder.path("linked.qcow2")), Code::kPermissionDenied);

  run({"qemu-img", "create", "-q", "-f", "qcow2", "-u", "-F", "raw", "-b",
       "json:{\"driver\":\"file\",\"filename\":\"" + elsewhere.path("secret") + "\"}",
       folder.path("json.qcow2"), "1M"});
  EXPECT_EQ(refused(folder.path("json.qcow2")), Code::kPermissionDenied);

  run({"qemu-img", "create", "-q", "-f", "qcow2", "-o",
       "data_file=" + elsewhere.path("data") + ",data_file_raw=on", folder.path("data.qcow2"),
       "1M"});
  EXPECT_EQ(refused(folder.path("data.qcow2")), Code::kPermissionDenied);

  // Two levels: the first is innocent.
  run({"qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", "backing.qcow2",
       folder.path("two.qcow2")});
  EXPECT_EQ(refused(folder.path("two.qcow2")), Code::kPermissionDenied);

  write_file(folder.path("flat.vmdk"),
             as_bytes("# Disk DescriptorFile\nversion=1\nCID=15b0aba5\nparentCID=ffffffff\n"
                      "createType=\"monolithicFlat\"\n\nRW 2048 FLAT \"" +
                      elsewhere.path("secret") + "\" 0\n"));
  EXPECT_EQ(refused(folder.path("flat.vmdk")), Code::kPermissionDenied);
}

TEST(ImageReferences, ALoopOfBackingFilesEnds) {
  const ImageFolder folder;
  for (const std::string name : {"a", "b"})
    run({"qemu-img", "create", "-q", "-f", "qcow2", folder.path(name), "1M"});
  run({"qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "b", folder.path("a")});
  run({"qemu-img", "rebase", "-u", "-f", "qcow2", "-F", "qcow2", "-b", "a", folder.path("b")});
  auto source = open_source(folder.path("a"), test_limit());
  ASSERT_FALSE(source.ok());
  EXPECT_EQ(source.error().code(), Code::kUnsupported);
}

TEST(OpenSource, TakesTheFormatThatIsSaid) {
  const ImageFolder folder;
  run({"qemu-img", "create", "-q", "-f", "qcow2", folder.path("i"), "1M"});
  auto source = open_source(folder.path("i"), test_limit(), "raw");
  ASSERT_TRUE(source.ok());
  EXPECT_EQ((*source)->format(), "raw");
  auto bad = open_source(folder.path("i"), test_limit(), "qcow3");
  ASSERT_FALSE(bad.ok());
  EXPECT_EQ(bad.error().code(), Code::kInvalidArgument);
  auto wrong = open_source(folder.path("i"), test_limit(), "vhdx");
  ASSERT_FALSE(wrong.ok());
  EXPECT_EQ(wrong.error().code(), Code::kUnsupported);
}

}  // namespace
}  // namespace reclo::disk
