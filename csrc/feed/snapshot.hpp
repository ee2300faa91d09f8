// One snapshot of a dataset: from a row's number to the bytes that hold it.
#pragma once

#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "codec/zstd.hpp"
#include "error.hpp"
#include "feed/shard_files.hpp"
#include "feed/table.hpp"
#include "format/frame.hpp"
#include "io/engine.hpp"

namespace ff {

// How rows are cut out of a stream of tokens.
struct StreamShape {
    std::uint32_t token_bytes = 0;  // 2 or 4; 0: no stream, rows layout
    std::uint64_t window = 0;       // tokens of a window; 0: a row is a document
    std::uint64_t stride = 0;       // tokens from one window to the next
};

// One contiguous read, in one shard, for one row of a batch. Rows layout: a frame. Streams: whole pages, of which the
// tokens are a part; a window that crosses into other shards has a part in each.
struct Part {
    std::uint64_t offset = 0;  // in the file
    std::uint64_t length = 0;  // bytes to read
    std::uint64_t number = 0;  // rows layout: row in the shard; streams: first page
    std::uint64_t skip = 0;    // streams: bytes of the first page before the first token
    std::uint64_t tokens = 0;  // streams: how many are taken
    std::uint64_t token_at = 0;  // streams: where in the row they belong
    std::uint32_t shard = 0;
    std::uint32_t at = 0;      // row of the batch
};

// A zstd dictionary of one set: for `column`, borrowed bytes.
struct DictionaryEntry {
    std::uint32_t column;
    Bytes bytes;
};

// Immutable but for its open files; thread-safe. What the table and the dictionaries borrow must outlive it.
class Snapshot {
  public:
    // `columns` is empty for a stream. `io` as in IoOptions. Throws Error(config | corrupt). O(shards),
    // a few milliseconds for 100,000, and no private memory per shard.
    Snapshot(ShardTable table, std::vector<Column> columns, StreamShape stream,
             const std::vector<std::vector<DictionaryEntry>>& dictionary_sets, std::size_t open_files_max,
             const std::string& io);
    // The same, through `engine`: object i of an engine that opens no files is shard i.
    Snapshot(ShardTable table, std::vector<Column> columns, StreamShape stream,
             const std::vector<std::vector<DictionaryEntry>>& dictionary_sets, std::size_t open_files_max,
             std::unique_ptr<ReadEngine> engine);

    std::int64_t rows() const noexcept { return rows_; }
    bool is_stream() const noexcept { return stream_.token_bytes != 0; }
    const StreamShape& stream() const noexcept { return stream_; }
    const FrameLayout& layout() const noexcept { return *layout_; }  // rows layout only
    const ShardTable& table() const noexcept { return table_; }
    ShardFiles& files() const noexcept { return *files_; }
    ReadEngine& engine() const noexcept { return *engine_; }

    // Appends the parts of `row` (0 <= row < rows()) to `out`, with `at` in each. `hint` as in shard_of(). Reads the
    // mapped index and trusts nothing in it: throws Error(corrupt) naming file, row in the shard and row of the
    // dataset.
    void locate(std::int64_t row, std::uint32_t at, std::uint32_t& hint, std::vector<Part>& out) const;

    // Row `row` (as in locate()) will be located soon: its entry in the row index is brought into the cache.
    void expect(std::int64_t row, std::uint32_t& hint) const noexcept;

    // crc32c of page `page` of shard `shard` as the index has it. `page` is inside the payload.
    std::uint32_t page_checksum(std::uint32_t shard, std::uint64_t page) const noexcept;
    // The dictionary of a column in a shard, or null. Digested at first use.
    const ZstdDictionary* dictionary(std::uint32_t shard, std::uint32_t column) const;

    // `error` again, saying where: the shard's file, row or page in it, and row of the dataset.
    Error named(const Error& error, const Part& part, std::int64_t row) const;

  private:
    struct LazyDictionary {
        Bytes bytes;
        std::once_flag once;
        std::unique_ptr<ZstdDictionary> made;
    };
    Part locate_frame(std::int64_t row, std::uint32_t at, std::uint32_t shard) const;
    Part locate_document(std::int64_t row, std::uint32_t at, std::uint32_t shard) const;
    Part locate_tokens(std::uint32_t shard, std::uint64_t first, std::uint64_t count, std::uint64_t token_at,
                       std::uint32_t at) const noexcept;
    [[noreturn]] void bad_index(std::uint32_t shard, std::uint64_t number, std::int64_t row,
                                const std::string& what) const;

    ShardTable table_;
    StreamShape stream_;
    std::optional<FrameLayout> layout_;
    std::int64_t rows_ = 0;
    std::unique_ptr<ReadEngine> engine_;
    std::unique_ptr<ShardFiles> files_;
    std::size_t column_count_ = 0;
    mutable std::deque<LazyDictionary> dictionaries_;
    std::vector<LazyDictionary*> dictionary_of_;  // [set * columns + column]
};

}  // namespace ff
