// Locating rows in index files that are mapped and not trusted.
#include "feed/snapshot.hpp"

#include <algorithm>


namespace ff {
namespace {

constexpr std::size_t kOpenFilesMin = 1;

std::int64_t last_of(std::span<const std::int64_t> ends) { return ends.empty() ? 0 : ends.back(); }

std::int64_t window_count(std::int64_t tokens, const StreamShape& stream) {
    const auto total = static_cast<std::uint64_t>(tokens);
    return total < stream.window ? 0 : static_cast<std::int64_t>((total - stream.window) / stream.stride + 1);
}

void check_stream(const StreamShape& stream, bool has_columns) {
    if (stream.token_bytes == 0) {
        if (stream.window != 0 || stream.stride != 0)
            throw Error(Code::config, "window and stride are for streams of tokens");
        return;
    }
    if (stream.token_bytes != 2 && stream.token_bytes != 4)
        throw Error(Code::config, "token_bytes is " + std::to_string(stream.token_bytes) + ", must be 2 or 4");
    if (has_columns) throw Error(Code::config, "a stream has no column specs");
    if (stream.window > kValueSizeMax / stream.token_bytes)
        throw Error(Code::config, "a window of " + std::to_string(stream.window) + " tokens is larger than 2 GiB");
    if (stream.window != 0 && stream.stride == 0) throw Error(Code::config, "the stride of windows must be at least 1");
}

}  // namespace

Snapshot::Snapshot(ShardTable table, std::vector<Column> columns, StreamShape stream,
                   const std::vector<std::vector<DictionaryEntry>>& dictionary_sets, std::size_t open_files_max,
                   const std::string& io)
    : Snapshot(std::move(table), std::move(columns), stream, dictionary_sets, open_files_max,
               make_file_engine({io, false})) {}

Snapshot::Snapshot(ShardTable table, std::vector<Column> columns, StreamShape stream,
                   const std::vector<std::vector<DictionaryEntry>>& dictionary_sets, std::size_t open_files_max,
                   std::unique_ptr<ReadEngine> engine)
    : table_(std::move(table)), stream_(stream), engine_(std::move(engine)), column_count_(columns.size()) {
    check_stream(stream_, !columns.empty());
    check_table(table_, stream_.token_bytes, dictionary_sets.size());
    if (open_files_max < kOpenFilesMin) throw Error(Code::config, "open_files_max must be at least 1");
    rows_ = stream_.window != 0 ? window_count(last_of(table_.token_ends), stream_) : last_of(table_.row_ends);
    if (!is_stream()) layout_.emplace(std::move(columns));
    files_ = std::make_unique<ShardFiles>(table_, *engine_, is_stream() ? ShardLayout::stream : ShardLayout::rows,
                                          open_files_max);
    dictionary_of_.assign(dictionary_sets.size() * column_count_, nullptr);
    for (std::size_t set = 0; set < dictionary_sets.size(); ++set) {
        for (const DictionaryEntry& entry : dictionary_sets[set]) {
            if (entry.column >= column_count_)
                throw Error(Code::config, "a dictionary is for column " + std::to_string(entry.column) + " of " +
                                              std::to_string(column_count_));
            dictionaries_.emplace_back().bytes = entry.bytes;
            dictionary_of_[set * column_count_ + entry.column] = &dictionaries_.back();
        }
    }
}

void Snapshot::bad_index(std::uint32_t shard, std::uint64_t number, std::int64_t row, const std::string& what) const {
    throw Error(Code::corrupt, "row " + std::to_string(number) + " of the shard (row " + std::to_string(row) +
                                   " of the dataset): the row index is wrong: " + what, table_.path(shard), 0, row);
}

Part Snapshot::locate_frame(std::int64_t row, std::uint32_t at, std::uint32_t shard) const {
    const std::uint64_t first = shard == 0 ? 0 : static_cast<std::uint64_t>(table_.row_ends[shard - 1]);
    const std::uint64_t rows = static_cast<std::uint64_t>(table_.row_ends[shard]) - first;
    const std::uint64_t number = static_cast<std::uint64_t>(row) - first;
    const std::uint64_t payload_end = table_.payload_ends[shard];
    std::uint64_t begin, end;
    if (const std::uint64_t stride = layout_->stride(); stride != 0) {
        begin = kHeaderSize + number * stride;  // number < 2^32 and stride < 2^32
        end = begin + stride;
    } else if (table_.row_index_at[shard] == 0) {
        bad_index(shard, number, row, "there is none, and rows of this schema have different sizes");
    } else {
        const std::byte* entry =
            table_.index_maps[table_.index_file[shard]].data() + table_.row_index_at[shard] + number * 4;
        begin = std::uint64_t{load_le<std::uint32_t>(entry)} * kFrameAlign;
        end = number + 1 == rows ? payload_end : std::uint64_t{load_le<std::uint32_t>(entry + 4)} * kFrameAlign;
    }
    if (begin < kHeaderSize || end <= begin || end > payload_end || end - begin < layout_->head_size() ||
        end - begin > kFrameSizeMax || (number == 0 && begin != kHeaderSize))
        bad_index(shard, number, row,
                  "bytes " + std::to_string(begin) + " to " + std::to_string(end) + " of a payload from " +
                      std::to_string(kHeaderSize) + " to " + std::to_string(payload_end));
    Part part;
    part.offset = begin;
    part.length = end - begin;
    part.number = number;
    part.shard = shard;
    part.at = at;
    return part;
}

Part Snapshot::locate_tokens(std::uint32_t shard, std::uint64_t first, std::uint64_t count, std::uint64_t token_at,
                             std::uint32_t at) const noexcept {
    Part part;
    part.shard = shard;
    part.at = at;
    part.tokens = count;
    part.token_at = token_at;
    if (count == 0) {
        part.offset = kHeaderSize;
        return part;
    }
    const std::uint64_t begin = first * stream_.token_bytes, end = (first + count) * stream_.token_bytes;
    part.number = begin / kPageSize;
    part.skip = begin % kPageSize;
    part.offset = kHeaderSize + part.number * kPageSize;
    part.length = round_up(end, kPageSize) - part.number * kPageSize;
    return part;
}

Part Snapshot::locate_document(std::int64_t row, std::uint32_t at, std::uint32_t shard) const {
    const std::int64_t first = shard == 0 ? 0 : table_.row_ends[shard - 1];
    const auto number = static_cast<std::uint64_t>(row - first);
    const auto rows = static_cast<std::uint64_t>(table_.row_ends[shard] - first);
    const auto tokens =
        static_cast<std::uint64_t>(table_.token_ends[shard] - (shard == 0 ? 0 : table_.token_ends[shard - 1]));
    if (table_.row_index_at[shard] == 0) bad_index(shard, number, row, "there is none");
    const std::byte* entry =
        table_.index_maps[table_.index_file[shard]].data() + table_.row_index_at[shard] + number * 4;
    const std::uint64_t begin = load_le<std::uint32_t>(entry);
    const std::uint64_t end = number + 1 == rows ? tokens : load_le<std::uint32_t>(entry + 4);
    if (end < begin || end > tokens || (number == 0 && begin != 0) ||
        (end - begin) * stream_.token_bytes > kValueSizeMax)
        bad_index(shard, number, row, "tokens " + std::to_string(begin) + " to " + std::to_string(end) + " of " +
                                          std::to_string(tokens));
    return locate_tokens(shard, begin, end - begin, 0, at);
}

void Snapshot::locate(std::int64_t row, std::uint32_t at, std::uint32_t& hint, std::vector<Part>& out) const {
    if (!is_stream()) {
        out.push_back(locate_frame(row, at, shard_of(table_.row_ends, row, hint)));
        return;
    }
    if (stream_.window == 0) {
        out.push_back(locate_document(row, at, shard_of(table_.row_ends, row, hint)));
        return;
    }
    // rows_ bounds row * stride + window by the number of tokens.
    std::uint64_t token = static_cast<std::uint64_t>(row) * stream_.stride;
    std::uint64_t missing = stream_.window;
    for (std::uint32_t shard = shard_of(table_.token_ends, static_cast<std::int64_t>(token), hint); missing != 0;
         ++shard) {
        const std::uint64_t first = shard == 0 ? 0 : static_cast<std::uint64_t>(table_.token_ends[shard - 1]);
        const std::uint64_t here = std::min(missing, static_cast<std::uint64_t>(table_.token_ends[shard]) - token);
        if (here == 0) continue;  // a shard without tokens
        out.push_back(locate_tokens(shard, token - first, here, stream_.window - missing, at));
        token += here;
        missing -= here;
    }
}

void Snapshot::expect(std::int64_t row, std::uint32_t& hint) const noexcept {
    if (stream_.window != 0 || (!is_stream() && layout_->stride() != 0)) return;  // such rows have no entry
    const std::uint32_t shard = shard_of(table_.row_ends, row, hint);
    if (table_.row_index_at[shard] == 0) return;
    const std::int64_t first = shard == 0 ? 0 : table_.row_ends[shard - 1];
    __builtin_prefetch(table_.index_maps[table_.index_file[shard]].data() + table_.row_index_at[shard] +
                       static_cast<std::uint64_t>(row - first) * 4);
}

std::uint32_t Snapshot::page_checksum(std::uint32_t shard, std::uint64_t page) const noexcept {
    return load_le<std::uint32_t>(table_.index_maps[table_.index_file[shard]].data() + table_.page_checksums_at[shard] +
                                  page * 4);
}

const ZstdDictionary* Snapshot::dictionary(std::uint32_t shard, std::uint32_t column) const {
    const std::size_t place = table_.dictionary_set[shard] * column_count_ + column;
    LazyDictionary* found = place < dictionary_of_.size() ? dictionary_of_[place] : nullptr;
    if (found == nullptr) return nullptr;
    std::call_once(found->once, [found] { found->made = std::make_unique<ZstdDictionary>(found->bytes); });
    return found->made.get();
}

Error Snapshot::named(const Error& error, const Part& part, std::int64_t row) const {
    const std::string where =
        is_stream()
            ? "page " + std::to_string(part.number) + " of the shard (row " + std::to_string(row) + " of the dataset): "
            : "row " + std::to_string(part.number) + " of the shard (row " + std::to_string(row) + " of the dataset): ";
    return Error(error.code(), where + error.message(), table_.path(part.shard), error.os_errno(), row);
}

}  // namespace ff
