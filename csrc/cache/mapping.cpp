// mmap(2) with a check of the file's length first: touching what lies beyond it would be SIGBUS.
#include "cache/mapping.hpp"

#include <cerrno>
#include <string>
#include <sys/mman.h>
#include <sys/stat.h>
#include <utility>

#include "error.hpp"

namespace ff {

Mapping::Mapping(int fd, std::uint64_t bytes, Access access, const char* what) : bytes_(bytes) {
    struct stat status {};
    if (::fstat(fd, &status) != 0) throw Error(Code::os, std::string("cannot stat ") + what, {}, errno);
    if (static_cast<std::uint64_t>(status.st_size) < bytes)
        throw Error(Code::corrupt, std::string(what) + " has " + std::to_string(status.st_size) + " bytes, " +
                                       std::to_string(bytes) + " are needed: it was made for something else");
    if (bytes == 0) return;
    const int protection = access == Access::write ? PROT_READ | PROT_WRITE : PROT_READ;
    void* at = ::mmap(nullptr, bytes, protection, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED)
        throw Error(Code::os, std::string("cannot map ") + std::to_string(bytes) + " bytes of " + what, {}, errno);
    at_ = static_cast<std::byte*>(at);
}

Mapping::~Mapping() {
    if (at_ != nullptr) ::munmap(at_, bytes_);
}

Mapping::Mapping(Mapping&& other) noexcept
    : at_(std::exchange(other.at_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}

Mapping& Mapping::operator=(Mapping&& other) noexcept {
    std::swap(at_, other.at_);
    std::swap(bytes_, other.bytes_);
    return *this;
}

}  // namespace ff
