// Result<T>: a value or an Error. Status: success or an Error.
//
// Must be read: discarding one is a compile error, and debug builds abort when a Result is
// destroyed without anybody having asked whether it holds an error. Where an error truly does not
// matter, say so: ignore_error(result, "why").
// Thread rule: like any value; one thread at a time.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "base/check.h"
#include "base/error.h"

namespace reclo {
namespace detail {

// Remembers in debug builds whether a Result was looked at.
class ReadMark {
 public:
#ifdef NDEBUG
  void mark() const {}
#else
  ReadMark() = default;
  ReadMark(const ReadMark& other) : read_(other.read_) { other.read_ = true; }
  ReadMark(ReadMark&& other) noexcept : read_(other.read_) { other.read_ = true; }
  // Assigning over a status ("none so far") is how loops collect one: only destruction verifies.
  ReadMark& operator=(const ReadMark& other) {
    read_ = other.read_;
    other.read_ = true;
    return *this;
  }
  ReadMark& operator=(ReadMark&& other) noexcept {
    read_ = other.read_;
    other.read_ = true;
    return *this;
  }
  ~ReadMark() { verify(); }
  void mark() const { read_ = true; }

 private:
  void verify() const {
    if (!read_) {
      std::fputs("a Result was dropped without being read\n", stderr);
      std::abort();
    }
  }
  mutable bool read_ = false;
#endif
};

}  // namespace detail

template <class T>
class [[nodiscard]] Result {
 public:
  using ValueType = T;
  Result(T value) : state_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(*-explicit-*)
  Result(Error error) : state_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(*-explicit-*)

  bool ok() const {
    mark_.mark();
    return state_.index() == 0;
  }
  explicit operator bool() const { return ok(); }

  T& value() & {
    RECLO_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  const T& value() const& {
    RECLO_CHECK(ok());
    return *std::get_if<0>(&state_);
  }
  T&& value() && {
    RECLO_CHECK(ok());
    return std::move(*std::get_if<0>(&state_));
  }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const& {
    RECLO_CHECK(!ok());
    return *std::get_if<1>(&state_);
  }
  Error&& error() && {
    RECLO_CHECK(!ok());
    return std::move(*std::get_if<1>(&state_));
  }

 private:
  detail::ReadMark mark_;
  std::variant<T, Error> state_;
};

template <>
class [[nodiscard]] Result<void> {
 public:
  using ValueType = void;
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(*-explicit-*)

  bool ok() const {
    mark_.mark();
    return !error_.has_value();
  }
  explicit operator bool() const { return ok(); }
  const Error& error() const& {
    RECLO_CHECK(!ok());
    return *error_;
  }
  Error&& error() && {
    RECLO_CHECK(!ok());
    return std::move(*error_);
  }

 private:
  detail::ReadMark mark_;
  std::optional<Error> error_;
};

using Status = Result<void>;

inline Status ok_status() { return {}; }

/// Drops an error on purpose; `why` is for the reader of the code.
template <class T>
void ignore_error(const Result<T>& result, std::string_view why) {
  static_cast<void>(why);
  static_cast<void>(result.ok());
}

}  // namespace reclo

#define RECLO_CONCAT_INNER_(a, b) a##b
#define RECLO_CONCAT_(a, b) RECLO_CONCAT_INNER_(a, b)

/// Returns the error of `expr` (a Status or Result), if there is one.
#define RECLO_TRY(expr)                                                       \
  do {                                                                        \
    auto reclo_try_result_ = (expr);                                          \
    if (!reclo_try_result_.ok()) return std::move(reclo_try_result_).error(); \
  } while (false)

/// As RECLO_TRY, with a context put before the message.
#define RECLO_TRY_WITH(expr, context)                                                       \
  do {                                                                                      \
    auto reclo_try_result_ = (expr);                                                        \
    if (!reclo_try_result_.ok()) return std::move(reclo_try_result_).error().with(context); \
  } while (false)

/// `RECLO_ASSIGN_OR_RETURN(auto pack, reader.open(id));` binds the value or returns the error.
#define RECLO_ASSIGN_OR_RETURN(declaration, expr) \
  RECLO_ASSIGN_OR_RETURN_IMPL_(RECLO_CONCAT_(reclo_result_, __LINE__), declaration, expr)
#define RECLO_ASSIGN_OR_RETURN_IMPL_(temp, declaration, expr) \
  auto temp = (expr);                                         \
  if (!temp.ok()) return std::move(temp).error();             \
  declaration = std::move(temp).value()

#define RECLO_ASSIGN_OR_RETURN_WITH(declaration, expr, context)                                \
  RECLO_ASSIGN_OR_RETURN_WITH_IMPL_(RECLO_CONCAT_(reclo_result_, __LINE__), declaration, expr, \
                                    context)
#define RECLO_ASSIGN_OR_RETURN_WITH_IMPL_(temp, declaration, expr, context) \
  auto temp = (expr);                                                       \
  if (!temp.ok()) return std::move(temp).error().with(context);             \
  declaration = std::move(temp).value()
