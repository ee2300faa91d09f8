// One small shard in a folder of its own, made by hand: what tests of the pipeline read.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "feed/snapshot.hpp"
#include "format/frame.hpp"

namespace ff::test {

// Rows of one `bytes` column; row i is i % 50 bytes of value i + salt.
class FeedShard {
  public:
    explicit FeedShard(std::size_t rows, std::size_t salt = 0) : rows_(rows), salt_(salt) {
        std::string pattern = std::filesystem::temp_directory_path() / "ff-feed-XXXXXX";  // $TMPDIR
        folder_ = ::mkdtemp(pattern.data());
        write();
    }
    ~FeedShard() { std::filesystem::remove_all(folder_); }

    static std::vector<std::byte> value(std::size_t row, std::size_t salt = 0) {
        return std::vector<std::byte>(row % 50, static_cast<std::byte>(row + salt));
    }

    std::shared_ptr<const Snapshot> snapshot(const std::string& io) const {
        ShardTable table;
        table.root = folder_;
        table.path_offsets = path_offsets_;
        table.path_data = {name_.data(), name_.size()};
        table.uids = {uid_, 16};
        table.file_bytes = {&file_bytes_, 1};
        table.payload_ends = {&payload_end_, 1};
        table.row_ends = {&row_end_, 1};
        table.index_file = {&zero_, 1};
        table.dictionary_set = {&zero_, 1};
        table.row_index_at = {&index_at_, 1};
        table.page_checksums_at = {&no_pages_, 1};
        table.index_maps = {as_bytes(index_.data(), index_.size() * 4)};
        return std::make_shared<const Snapshot>(std::move(table), columns(), StreamShape{},
                                                std::vector<std::vector<DictionaryEntry>>(1), 4, io);
    }

  private:
    static std::vector<Column> columns() { return {Column{.name = "data", .kind = Kind::bytes}}; }

    void write() {
        std::vector<std::byte> values;
        std::vector<std::int64_t> offsets{0};
        for (std::size_t row = 0; row < rows_; ++row) {
            const auto bytes = value(row, salt_);
            values.insert(values.end(), bytes.begin(), bytes.end());
            offsets.push_back(static_cast<std::int64_t>(values.size()));
        }
        const FrameLayout layout(columns());
        const ColumnData data{.values = values.data(), .value_offsets = offsets.data()};
        std::vector<std::uint64_t> sizes(rows_);
        std::vector<std::uint32_t> crcs(rows_);
        std::vector<std::byte> frames(measure_frames(layout, rows_, {&data, 1}, sizes));
        write_frames(layout, rows_, {&data, 1}, sizes, frames, crcs);
        const FrameSeed seed({uid_, 16});
        index_ = {0, 0};  // so that no index begins at 0, which means none
        std::uint64_t at = 0;
        for (std::size_t row = 0; row < rows_; ++row) {
            index_.push_back(static_cast<std::uint32_t>((kHeaderSize + at) / kFrameAlign));
            store_le(frames.data() + at, seal_crc(seed, row, crcs[row], sizes[row]));
            at += sizes[row];
        }
        std::vector<std::byte> header(kHeaderSize);
        std::memcpy(header.data(), "FFSHARD1", 8);
        store_le(header.data() + 8, std::uint16_t{1});
        store_le(header.data() + 12, static_cast<std::uint32_t>(kHeaderSize));
        std::memcpy(header.data() + 40, uid_, 16);
        store_le(header.data() + kHeaderSize - 4, crc32c(0, {header.data(), kHeaderSize - 4}));
        std::ofstream file(folder_ + "/" + name_, std::ios::binary);
        file.write(reinterpret_cast<const char*>(header.data()), static_cast<std::streamsize>(header.size()));
        file.write(reinterpret_cast<const char*>(frames.data()), static_cast<std::streamsize>(frames.size()));
        payload_end_ = file_bytes_ = kHeaderSize + frames.size();
        row_end_ = static_cast<std::int64_t>(rows_);
    }

    std::size_t rows_, salt_;
    std::string folder_;
    const std::string name_ = "one.ffs";
    std::byte uid_[16] = {std::byte{7}};
    std::vector<std::int32_t> path_offsets_{0, 7};
    std::vector<std::uint32_t> index_;
    std::uint64_t file_bytes_ = 0, payload_end_ = 0, index_at_ = 8, no_pages_ = 0;
    std::uint32_t zero_ = 0;
    std::int64_t row_end_ = 0;
};

}  // namespace ff::test
