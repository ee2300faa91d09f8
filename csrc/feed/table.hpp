// The shards of one snapshot, as columns: where each lies, how many rows it holds, where its index is.
#pragma once

#include <string>
#include <vector>

#include "bytes.hpp"

namespace ff {

inline constexpr std::size_t kShardsMax = std::size_t{1} << 31;  // of a reader's snapshots together: numbers are u32

// Borrowed columns, one element a shard: the owner keeps them (and the mapped index files) alive and unchanged. Nothing
// is copied, so that 100,000 shards cost no private memory.
struct ShardTable {
    std::string root;  // folder that relative paths are relative to
    std::span<const std::int32_t> path_offsets;  // shards + 1, into path_data
    std::span<const char> path_data;
    Bytes uids;  // 16 bytes a shard
    std::span<const std::uint64_t> file_bytes, payload_ends;
    std::span<const std::int64_t> row_ends;    // cumulative rows; streams: documents
    std::span<const std::int64_t> token_ends;  // cumulative tokens; streams only
    std::span<const std::uint32_t> index_file;
    std::span<const std::uint64_t> row_index_at, page_checksums_at;
    std::span<const std::uint32_t> dictionary_set;
    std::vector<Bytes> index_maps;

    std::size_t shards() const noexcept { return file_bytes.size(); }
    Bytes uid(std::size_t shard) const noexcept { return uids.subspan(shard * 16, 16); }
    std::string path(std::size_t shard) const;
};

// Throws Error(corrupt) where columns contradict each other or a limit of the format, so that using one needs no more
// checks than those on the values inside the index maps. O(shards). `token_bytes` is 0 for rows.
void check_table(const ShardTable& table, std::uint32_t token_bytes, std::size_t dictionary_sets);

// The shard whose element of `ends` (cumulative counts, ascending) is the first above `number`; `number` is below the
// last. `hint` is the shard of the last call: neighbours are found in O(1), others in O(log shards).
std::uint32_t shard_of(std::span<const std::int64_t> ends, std::int64_t number, std::uint32_t& hint) noexcept;

}  // namespace ff
