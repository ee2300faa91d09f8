// The one error type of the native core. `_native` turns it into the exceptions of fastfeed.errors, in one place.
#pragma once

#include <cstdint>
#include <exception>
#include <string>
#include <utility>

namespace ff {

// The numbers are shared with fastfeed/_native/errors.pxd.
enum class Code : int {
    internal = 1,        // a bug of ours
    config = 2,          // the caller's argument
    corrupt = 3,         // bytes are not what was written
    os = 4,              // errno() says what
    format_version = 7,  // a feature that this version does not know
    timeout = 8,         // a wait reached its deadline
    closed = 9,          // the object was closed while we waited
    no_memory = 10,
    daemon = 11,      // the node's cache daemon does not answer, or not as it should
    origin = 12,      // the storage behind the cache
    cache_full = 13,  // the cache cannot make room
    origin_changed = 14,  // an object is not the one that was opened
};

// A failure: what, with values, and what to do. `path` and `row` are empty and -1 where they mean nothing.
class Error : public std::exception {
  public:
    Error(Code code, std::string message, std::string path = {}, int os_errno = 0, std::int64_t row = -1)
        : code_(code), message_(std::move(message)), path_(std::move(path)), errno_(os_errno), row_(row) {}

    const char* what() const noexcept override { return message_.c_str(); }
    Code code() const noexcept { return code_; }
    const std::string& message() const noexcept { return message_; }
    const std::string& path() const noexcept { return path_; }
    int os_errno() const noexcept { return errno_; }
    std::int64_t row() const noexcept { return row_; }

  private:
    Code code_;
    std::string message_;
    std::string path_;
    int errno_;
    std::int64_t row_;
};

}  // namespace ff
