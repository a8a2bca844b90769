// Signatures against the examples that AWS publishes (S3 "Signature Calculations for the
// Authorization Header", IAM "Create a signed request"), with their example keys.
#include "net/sigv4.h"

#include <gtest/gtest.h>

#include "base/encoding.h"
#include "net/digest.h"
#include "net/url.h"

namespace reclo::net {
namespace {

AwsCredentials example_key() {
  AwsCredentials credentials;
  credentials.access_key_id = "AKIAIOSFODNN7EXAMPLE";
  credentials.secret_access_key = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
  return credentials;
}

SigningScope s3_example() {
  return {"us-east-1", "s3", parse_time("2013-05-24T00:00:00.000Z").value()};
}

std::string signature_of(const HttpRequest& request) {
  const std::string text(request.header("authorization"));
  return text.substr(text.rfind('=') + 1);
}

TEST(SigV4Test, ListObjectsExample) {
  HttpRequest request;
  request.url = "https://examplebucket.s3.amazonaws.com/?prefix=J&max-keys=2";
  ASSERT_TRUE(sign_aws_v4(request, example_key(), s3_example()).ok());
  EXPECT_EQ(signature_of(request),
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7");
}

TEST(SigV4Test, GetBucketLifecycleExample) {
  HttpRequest request;
  request.url = "https://examplebucket.s3.amazonaws.com/?lifecycle";
  ASSERT_TRUE(sign_aws_v4(request, example_key(), s3_example()).ok());
  EXPECT_EQ(signature_of(request),
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543");
}

TEST(SigV4Test, SignsWhatMustBeSigned) {
  HttpRequest request;
  request.method = "PUT";
  request.url = "http://127.0.0.1:9000/b/k";
  request.headers = {{"X-Amz-Meta-A", "  two   spaces "},
                     {"If-None-Match", "*"},
                     {"User-Agent", "not signed"},
                     {"x-amz-content-sha256", "UNSIGNED-PAYLOAD"}};
  AwsCredentials credentials = example_key();
  credentials.session_token = "token";
  ASSERT_TRUE(sign_aws_v4(request, credentials, s3_example()).ok());
  EXPECT_EQ(request.header("x-amz-security-token"), "token");
  EXPECT_EQ(request.header("x-amz-content-sha256"), "UNSIGNED-PAYLOAD");
  EXPECT_NE(request.header("authorization")
                .find("SignedHeaders=host;if-none-match;x-amz-content-sha256;x-amz-date;"
                      "x-amz-meta-a;x-amz-security-token,"),
            std::string_view::npos)
      << request.header("authorization");
  EXPECT_EQ(request.header("authorization").find("EXAMPLEKEY"), std::string_view::npos);
}

TEST(SigV4Test, PairsAreSortedByNameNotByTheJoinedText) {
  // "a-b=1" sorts before "a=2" as text, but "a" comes before "a-b" as a name.
  const auto sign = [](const std::string& query) {
    HttpRequest request;
    request.url = "https://examplebucket.s3.amazonaws.com/?" + query;
    EXPECT_TRUE(sign_aws_v4(request, example_key(), s3_example()).ok());
    return signature_of(request);
  };
  EXPECT_EQ(sign("a-b=1&a=2"), sign("a=2&a-b=1"));
  EXPECT_NE(sign("a=1&a-b=2"), sign("a=2&a-b=1"));
}

TEST(DigestTest, KnownAnswers) {
  EXPECT_EQ(to_hex(sha256(as_bytes("abc"))),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(md5(as_bytes("abc"))), "900150983cd24fb0d6963f7d28e17f72");
  EXPECT_EQ(to_hex(hmac_sha256(as_bytes("Jefe"), as_bytes("what do ya want for nothing?"))),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843");
}

TEST(UrlTest, TakesApartAndEncodes) {
  const Url url = parse_url("https://host:443/a%20b?x=1").value();
  EXPECT_EQ(url.authority, "host");
  EXPECT_EQ(url.path, "/a%20b");
  EXPECT_EQ(url.query, "x=1");
  EXPECT_EQ(parse_url("http://[::1]:80")->authority, "[::1]");
  EXPECT_EQ(parse_url("http://h:8080")->text(), "http://h:8080/");
  for (const char* bad : {"host", "ftp://h", "http://", "http://u:p@h/", "http://h/#f", "://", ""})
    EXPECT_EQ(parse_url(bad).error().code(), Code::kInvalidArgument) << bad;
  EXPECT_EQ(percent_encode("a b/ü~"), "a%20b%2F%C3%BC~");
  EXPECT_EQ(percent_encode_path("a b/c"), "a%20b/c");
  EXPECT_EQ(percent_decode("a%20b%2f").value(), "a b/");
  for (const char* bad : {"%", "%2", "%zz"})
    EXPECT_EQ(percent_decode(bad).error().code(), Code::kInvalidArgument);
  EXPECT_EQ(encode_query({{"a", "1 2"}, {"uploads", ""}}), "a=1%202&uploads=");
}

}  // namespace
}  // namespace reclo::net
