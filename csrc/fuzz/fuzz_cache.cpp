// What a cache daemon may send, any bytes: packets are parsed or refused with Error(daemon), a live client that has asked
// three things takes them without harm, and a slot's trailer is none or is whole.
//
// Input: u8 flags (bit 0: packets also go to a live client, bit 1: a trailer with a right crc is tried, else the packets
// only), then packets: u8 length, that many bytes. Bit 2: headers get the right length of body.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>
#include <vector>

#include "cache/connection.hpp"
#include "cache/trailer.hpp"
#include "format/crc32c.hpp"

namespace {

constexpr std::uint64_t kRingBytes = 2 * ff::kChunkBytes;
constexpr std::size_t kLengths[] = {1, 100, 4096};

void expect(bool holds) {
    if (!holds) std::abort();
}

std::vector<std::vector<std::byte>> packets_of(ff::Bytes input, bool right_lengths) {
    std::vector<std::vector<std::byte>> packets;
    while (!input.empty()) {
        const std::size_t length = std::min<std::size_t>(std::to_integer<std::size_t>(input[0]), input.size() - 1);
        packets.emplace_back(input.begin() + 1, input.begin() + 1 + static_cast<std::ptrdiff_t>(length));
        if (right_lengths && length >= ff::kMessageHeaderBytes)
            ff::store_le(packets.back().data() + 4, static_cast<std::uint32_t>(length - ff::kMessageHeaderBytes));
        input = input.subspan(1 + length);
    }
    return packets;
}

void parse(ff::Bytes packet) {
    try {
        const ff::Answer answer = ff::parse_answer(packet);
        expect(answer.text.size() < packet.size());
        if (answer.kind == ff::Answer::Kind::error) expect(!ff::error_of(answer).message().empty());
        for (const std::uint64_t wanted : {std::uint64_t{0}, std::uint64_t{100}, kRingBytes, ~std::uint64_t{0}})
            if (ff::ring_range_holds(answer, wanted, kRingBytes))
                expect(answer.at <= kRingBytes && answer.at + wanted <= kRingBytes && answer.length == wanted);
    } catch (const ff::Error& error) {
        expect(error.code() == ff::Code::daemon);
    }
}

// The client has asked for kLengths, so request ids 1 to 3 are open.
void answer_live(const std::vector<std::vector<std::byte>>& packets) {
    static const ff::Descriptor ring(::memfd_create("ring", MFD_CLOEXEC));
    expect(::ftruncate(ring.get(), kRingBytes) == 0);
    int ends[2];
    expect(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) == 0);
    const ff::Descriptor daemon(ends[0]);
    ff::Connection connection;
    connection.attach(ff::Descriptor(ends[1]), ff::Mapping(ring.get(), kRingBytes, ff::Access::read, "ring"));
    connection.name_set(0, 0);
    std::vector<std::vector<std::byte>> buffers;
    std::vector<ff::Miss> misses(std::size(kLengths));
    std::vector<ff::Miss*> asked;
    for (std::size_t i = 0; i < misses.size(); ++i) {
        buffers.emplace_back(kLengths[i]);
        misses[i].into = buffers[i];
        misses[i].flags = i == 1 ? ff::kByRing : 0;
        misses[i].number = static_cast<std::uint32_t>(i);
        misses[i].mailbox = std::make_shared<ff::Mailbox>();
        misses[i].mailbox->expect(1);
        misses[i].deadline = ff::Clock::now() + std::chrono::seconds(10);
        asked.push_back(&misses[i]);
    }
    connection.ask(asked);
    for (const auto& packet : packets)
        ::send(daemon.get(), packet.data(), packet.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    ::shutdown(daemon.get(), SHUT_RDWR);
    expect(connection.wait_detached(60));
    for (ff::Miss& miss : misses) connection.forget(miss);
    for (const ff::Miss& miss : misses) {
        expect((miss.flags & ff::kByRing) == 0 || miss.answer_entry == ff::kNoEntry);
        std::vector<std::uint32_t> completed;
        miss.mailbox->take(ff::Clock::now(), completed);
        expect(completed.size() <= 1);
    }
}

void try_trailer(ff::Bytes given) {
    std::vector<std::byte> bytes(given.begin(), given.end());
    bytes.resize(ff::kTrailerBytes);
    ff::store_le(bytes.data() + ff::kTrailerBytes - 4, ff::crc32c(0, {bytes.data(), ff::kTrailerBytes - 4}));
    const auto trailer = ff::parse_trailer(std::span<const std::byte, ff::kTrailerBytes>(bytes));
    if (!trailer) return;
    expect(trailer->length >= 1 && trailer->length <= ff::kChunkBytes && trailer->check_count() <= ff::kChecks);
    expect(ff::is_published(trailer->generation) && trailer->slot < ff::kSlotsMax);
    std::byte again[ff::kTrailerBytes];
    ff::store_trailer(*trailer, again);
    expect(ff::parse_trailer(again)->names(trailer->key, trailer->chunk));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1) return 0;
    const ff::Bytes input = ff::as_bytes(data + 1, size - 1);
    const auto packets = packets_of(input, (data[0] & 4) != 0);
    for (const auto& packet : packets) parse(packet);
    if ((data[0] & 1) != 0) answer_live(packets);
    if ((data[0] & 2) != 0) try_trailer(input);
    return 0;
}
