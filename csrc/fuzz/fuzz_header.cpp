// A shard's header, any bytes: accepted, or refused with Error(corrupt) or Error(format_version); nothing else.
//
// Input: u8 flags (bit 0: give it a right crc, bit 1: the right uid, bit 2: a stream is wanted), then the header from its
// first byte; what is missing is zero. A header that is longer than it should be stays so.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "error.hpp"
#include "feed/shard_files.hpp"

namespace {

constexpr std::size_t kUidAt = 40, kUidSize = 16, kLayoutAt = 72;

// What every accepted header must say, whatever order it was checked in.
void expect_accepted(ff::Bytes header, ff::Bytes uid, ff::ShardLayout layout) {
    if (header.size() != ff::kHeaderSize || std::memcmp(header.data(), "FFSHARD1", 8) != 0 ||
        ff::load_le<std::uint16_t>(header.data() + 8) != 1 || ff::load_le<std::uint64_t>(header.data() + 16) != 0 ||
        std::memcmp(header.data() + kUidAt, uid.data(), kUidSize) != 0 ||
        ff::load_le<std::uint32_t>(header.data() + kLayoutAt) != static_cast<std::uint32_t>(layout))
        std::abort();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const unsigned flags = data[0];
    const ff::Bytes given = ff::as_bytes(data + 1, size - 1);
    std::vector<std::byte> header(given.begin(), given.end());
    if (header.size() < ff::kHeaderSize) header.resize(ff::kHeaderSize);
    std::vector<std::byte> uid(kUidSize, std::byte{7});
    if ((flags & 2) != 0) std::copy(uid.begin(), uid.end(), header.begin() + kUidAt);
    if ((flags & 1) != 0)
        ff::store_le(header.data() + ff::kHeaderSize - 4, ff::crc32c(0, {header.data(), ff::kHeaderSize - 4}));
    const auto layout = (flags & 4) != 0 ? ff::ShardLayout::stream : ff::ShardLayout::rows;
    try {
        ff::check_header(header, uid, layout);
        expect_accepted(header, uid, layout);
    } catch (const ff::Error& error) {
        if (error.code() != ff::Code::corrupt && error.code() != ff::Code::format_version) std::abort();
    }
    return 0;
}
