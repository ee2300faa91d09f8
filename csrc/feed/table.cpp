// Checks on a snapshot's table, once, with overflow-safe arithmetic.
#include "feed/table.hpp"

#include <algorithm>

#include "error.hpp"
#include "format/frame.hpp"

namespace ff {
namespace {

// Rows, documents or tokens of a shard (docs/format.md, section 7)
constexpr std::uint64_t kRowsMax = 0xFFFFFFFFu;
constexpr std::uint64_t kPayloadEndMax = std::uint64_t{32} << 30;  // the row index counts 8 bytes in u32

[[noreturn]] void bad(const ShardTable& table, std::size_t shard, const std::string& what) {
    throw Error(Code::corrupt, "the manifest's entry of shard " + std::to_string(shard) + " is wrong: " + what +
                                   ". The manifest must be made again.", table.path(shard));
}

// Whether the `count` u32 values at byte `at` lie inside a map of `map_bytes`.
bool inside(std::uint64_t at, std::uint64_t count, std::uint64_t map_bytes) {
    std::uint64_t end;
    return add_fits(at, count * 4, end) && end <= map_bytes;  // count is at most 2^32
}

void check_columns(const ShardTable& table, std::uint32_t token_bytes) {
    const std::size_t shards = table.shards();
    const bool equal = table.path_offsets.size() == shards + 1 && table.uids.size() == shards * 16 &&
                       table.payload_ends.size() == shards && table.row_ends.size() == shards &&
                       table.token_ends.size() == (token_bytes != 0 ? shards : 0) &&
                       table.index_file.size() == shards && table.row_index_at.size() == shards &&
                       table.page_checksums_at.size() == shards && table.dictionary_set.size() == shards;
    if (shards > kShardsMax || !equal)
        throw Error(Code::config, "the columns of a shard table must have one element a shard (" +
                                      std::to_string(shards) +
                                      "; path_offsets one more, uids 16, token_ends only for streams)");
    std::int32_t before = 0;
    for (const std::int32_t offset : table.path_offsets) {
        if (offset < before || static_cast<std::size_t>(offset) > table.path_data.size())
            throw Error(Code::corrupt, "path offsets of the shard table are not ascending inside its path data");
        before = offset;
    }
}

}  // namespace

std::string ShardTable::path(std::size_t shard) const {
    const auto begin = static_cast<std::size_t>(path_offsets[shard]),
               end = static_cast<std::size_t>(path_offsets[shard + 1]);
    const std::string name(path_data.data() + begin, end - begin);
    return !name.empty() && name[0] == '/' ? name : root + "/" + name;
}

void check_table(const ShardTable& table, std::uint32_t token_bytes, std::size_t dictionary_sets) {
    check_columns(table, token_bytes);
    std::int64_t rows_before = 0, tokens_before = 0;
    for (std::size_t shard = 0; shard < table.shards(); ++shard) {
        const std::int64_t rows = table.row_ends[shard] - rows_before;
        if (rows < 0 || static_cast<std::uint64_t>(rows) > kRowsMax)
            bad(table, shard, "it has " + std::to_string(rows) + " rows");
        rows_before = table.row_ends[shard];
        const std::uint64_t payload_end = table.payload_ends[shard];
        if (payload_end < kHeaderSize || payload_end > kPayloadEndMax || payload_end > table.file_bytes[shard])
            bad(table, shard, "its payload ends at " + std::to_string(payload_end) + " of " +
                                  std::to_string(table.file_bytes[shard]) + " bytes");
        if (table.dictionary_set[shard] >= dictionary_sets && dictionary_sets != 0)
            bad(table, shard, "dictionary set " + std::to_string(table.dictionary_set[shard]) + " does not exist");
        const bool indexed = table.row_index_at[shard] != 0 || token_bytes != 0;
        if (indexed && table.index_file[shard] >= table.index_maps.size())
            bad(table, shard, "index file " + std::to_string(table.index_file[shard]) + " does not exist");
        const std::uint64_t map_bytes = indexed ? table.index_maps[table.index_file[shard]].size() : 0;
        if (table.row_index_at[shard] != 0 &&
            !inside(table.row_index_at[shard], static_cast<std::uint64_t>(rows), map_bytes))
            bad(table, shard, "its row index is not inside the index file");
        if (token_bytes == 0) continue;
        const std::int64_t tokens = table.token_ends[shard] - tokens_before;
        tokens_before = table.token_ends[shard];
        const std::uint64_t pages = (payload_end - kHeaderSize) / kPageSize;
        if (tokens < 0 || static_cast<std::uint64_t>(tokens) > kRowsMax ||
            (payload_end - kHeaderSize) % kPageSize != 0 ||
            pages != round_up(static_cast<std::uint64_t>(tokens) * token_bytes, kPageSize) / kPageSize)
            bad(table, shard,
                std::to_string(tokens) + " tokens do not fill the payload up to " + std::to_string(payload_end));
        if (!inside(table.page_checksums_at[shard], pages, map_bytes))
            bad(table, shard, "its page checksums are not inside the index file");
    }
}

std::uint32_t shard_of(std::span<const std::int64_t> ends, std::int64_t number, std::uint32_t& hint) noexcept {
    if (number < ends[hint] && (hint == 0 || number >= ends[hint - 1])) return hint;
    hint = static_cast<std::uint32_t>(std::upper_bound(ends.begin(), ends.end(), number) - ends.begin());
    return hint;
}

}  // namespace ff
