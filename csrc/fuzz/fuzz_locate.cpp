// Any table and index values: a row is located inside its payload, or refused with Error(corrupt); nothing is read
// outside the map.
//
// Input: u8 stream (mod 3: 0 rows, 1 documents, 2 windows), u8 shards (mod 5), then per shard u8 rows, u16 payload in
// units of 8 (streams: pages), u16 row index offset, u16 tokens; the rest is the index map.
#include <cstdint>
#include <cstdlib>
#include <vector>

#include "error.hpp"
#include "feed/snapshot.hpp"

namespace {

struct Input {
    const std::uint8_t* at;
    std::size_t left;
    std::uint64_t take(std::size_t bytes) {
        std::uint64_t value = 0;
        for (std::size_t i = 0; i < bytes && left != 0; ++i, ++at, --left) value |= std::uint64_t{*at} << (8 * i);
        return value;
    }
};

struct Columns {
    std::vector<std::int32_t> path_offsets{0};
    std::vector<std::byte> uids;
    std::vector<std::uint64_t> file_bytes, payload_ends, row_index_at, pages_at;
    std::vector<std::int64_t> row_ends, token_ends;
    std::vector<std::uint32_t> zeros;
};

void locate_all(const ff::Snapshot& snapshot, const Columns& columns) {
    std::uint32_t hint = 0;
    std::vector<ff::Part> parts;
    for (std::int64_t row = 0; row < snapshot.rows() && row < 2000; ++row) {
        parts.clear();
        try {
            snapshot.locate(row, 0, hint, parts);
        } catch (const ff::Error& error) {
            if (error.code() != ff::Code::corrupt) std::abort();
            continue;
        }
        for (const ff::Part& part : parts) {
            const std::uint64_t end = columns.payload_ends[part.shard];
            if (part.offset < ff::kHeaderSize || part.offset > end || part.length > end - part.offset) std::abort();
            for (std::uint64_t page = 0; snapshot.is_stream() && page < part.length / ff::kPageSize; ++page)
                (void)snapshot.page_checksum(part.shard, part.number + page);
        }
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input{data, size};
    const std::uint64_t mode = input.take(1) % 3, shards = input.take(1) % 5;
    Columns columns;
    columns.uids.resize(shards * 16);
    std::int64_t rows = 0, tokens = 0;
    for (std::uint64_t shard = 0; shard < shards; ++shard) {
        rows += static_cast<std::int64_t>(input.take(1));
        columns.row_ends.push_back(rows);
        const std::uint64_t payload = input.take(2) * (mode == 0 ? ff::kFrameAlign : ff::kPageSize);
        columns.payload_ends.push_back(ff::kHeaderSize + payload);
        columns.file_bytes.push_back(ff::kHeaderSize + payload + 64);
        columns.row_index_at.push_back(input.take(2));
        columns.pages_at.push_back(columns.row_index_at.back());
        tokens += static_cast<std::int64_t>(input.take(2));
        columns.token_ends.push_back(tokens);
        columns.path_offsets.push_back(0);
        columns.zeros.push_back(0);
    }
    ff::ShardTable table;
    table.root = "/nowhere";
    table.path_offsets = columns.path_offsets;
    table.uids = columns.uids;
    table.file_bytes = columns.file_bytes;
    table.payload_ends = columns.payload_ends;
    table.row_ends = columns.row_ends;
    if (mode != 0) table.token_ends = columns.token_ends;
    table.index_file = table.dictionary_set = columns.zeros;
    table.row_index_at = columns.row_index_at;
    table.page_checksums_at = columns.pages_at;
    // A copy of exactly its size, so that a sanitizer sees every read beyond it.
    const std::vector<std::uint8_t> map(input.at, input.at + input.left);
    table.index_maps = {ff::as_bytes(map.data(), map.size())};
    std::vector<ff::Column> specs;
    if (mode == 0) specs.push_back({.name = "data", .kind = ff::Kind::bytes});
    const ff::StreamShape stream{mode == 0 ? 0u : 2u, mode == 2 ? 100u : 0u, mode == 2 ? 33u : 0u};
    try {
        const ff::Snapshot snapshot(table, specs, stream, {}, 1, "pread");
        locate_all(snapshot, columns);
    } catch (const ff::Error& error) {
        if (error.code() != ff::Code::corrupt) std::abort();
    }
    return 0;
}
