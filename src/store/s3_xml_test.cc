// S3's XML, well and badly formed.
#include "store/s3_xml.h"

#include <gtest/gtest.h>

namespace reclo::store {
namespace {

TEST(S3XmlTest, ReadsAPageWithItsNamespaceAndEncoding) {
  const S3ListPage page = parse_s3_list(as_bytes(R"(<?xml version="1.0" encoding="UTF-8"?>
<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Name>b</Name><Prefix/>
<EncodingType>url</EncodingType><IsTruncated>true</IsTruncated>
<NextContinuationToken>1/a+b==</NextContinuationToken>
<Contents><Key>p/a%20b</Key><LastModified>2026-11-23T07:05:09.000Z</LastModified>
<ETag>&quot;x&quot;</ETag><Size>18446744073709551615</Size></Contents>
<CommonPrefixes><Prefix>p/q/</Prefix></CommonPrefixes></ListBucketResult>)"))
                              .value();
  ASSERT_EQ(page.objects.size(), 1u);
  EXPECT_EQ(page.objects[0].key, "p/a b");
  EXPECT_EQ(page.objects[0].size_bytes, UINT64_MAX);
  EXPECT_EQ(format_time(page.objects[0].modified), "2026-11-23T07:05:09.000Z");
  EXPECT_EQ(page.common_prefixes, std::vector<std::string>{"p/q/"});
  EXPECT_EQ(page.next_token, "1/a+b==");
}

TEST(S3XmlTest, RefusesWhatIsNoList) {
  const std::string time = "<LastModified>2026-11-23T07:05:09.000Z</LastModified>";
  const std::string open = "<ListBucketResult>";
  const std::string close = "</ListBucketResult>";
  for (const std::string& bad :
       {std::string(), std::string("<html>sign in</html>"), std::string("{}"), open,
        open + "<Contents><Key>k</Key>" + time + "</Contents>" + close,
        open + "<Contents><Key>k</Key><Size>-1</Size>" + time + "</Contents>" + close,
        open + "<Contents><Key>k</Key><Size>1x</Size>" + time + "</Contents>" + close,
        open + "<Contents><Key>k</Key><Size>1</Size></Contents>" + close,
        open + "<Contents><Size>1</Size>" + time + "</Contents>" + close,
        open + "<EncodingType>url</EncodingType><Contents><Key>%zz</Key><Size>1</Size>" + time +
            "</Contents>" + close,
        open + "<IsTruncated>true</IsTruncated>" + close})
    EXPECT_FALSE(parse_s3_list(as_bytes(bad)).ok()) << bad;
  EXPECT_TRUE(parse_s3_list(as_bytes(open + close)).ok());
}

TEST(S3XmlTest, ReadsErrors) {
  const S3ErrorBody error = parse_s3_error(
      as_bytes("<Error><Code>AuthorizationHeaderMalformed</Code><Message>wrong region"
               "</Message><Region>eu-west-1</Region></Error>"));
  EXPECT_EQ(error.code, "AuthorizationHeaderMalformed");
  EXPECT_EQ(error.message, "wrong region");
  EXPECT_EQ(error.region, "eu-west-1");
  for (const char* none : {"", "<Err", "<html><Code>x</Code></html>"})
    EXPECT_EQ(parse_s3_error(as_bytes(none)).code, "") << none;
  const std::string loud = "<Error><Message>" + std::string(100'000, 'x') + "</Message></Error>";
  EXPECT_LE(parse_s3_error(as_bytes(loud)).message.size(), 2048u);
}

TEST(S3XmlTest, ReadsAnUploadsId) {
  EXPECT_EQ(parse_s3_upload_id(as_bytes("<InitiateMultipartUploadResult><Bucket>b</Bucket>"
                                        "<UploadId>u-1</UploadId></InitiateMultipartUploadResult>"))
                .value(),
            "u-1");
  for (const char* bad : {"", "<a>", "<a/>", "<a><UploadId/></a>"})
    EXPECT_EQ(parse_s3_upload_id(as_bytes(bad)).error().code(), Code::kUnavailable) << bad;
}

}  // namespace
}  // namespace reclo::store
