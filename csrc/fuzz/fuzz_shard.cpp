// The whole way of a batch over a hostile shard whose crcs are right: opened, located, read, verified, decoded, placed.
// A row is delivered, or it is a hole; both ways of reading agree on which.
//
// Input: u8 column count (mod 7), u8 rows (mod 9), u8 choice (bit 0: decode images, bits 1..: their size), per column u8
// kind (low nibble), zstd (bit 4), nullable (bit 5), cast (bit 6) and u8 size, per row u8 length of its frame in units of
// 8 bytes; then the frames, each with its crc field, which is filled in.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "error.hpp"
#include "feed/reader.hpp"

namespace {

constexpr std::size_t kDictionarySet = 1;

struct Input {
    const std::uint8_t* at;
    std::size_t left;
    unsigned take() {
        if (left == 0) return 0;
        --left;
        return *at++;
    }
};

ff::ItemType type_of_size(std::uint32_t bytes) {
    return bytes == 1 ? ff::ItemType::boolean : bytes == 2 ? ff::ItemType::f16
                                            : bytes == 4 ? ff::ItemType::f32 : ff::ItemType::i64;
}

ff::Column column_of(unsigned what, unsigned size) {
    ff::Column column{.name = "c"};
    column.kind = static_cast<ff::Kind>((what & 15) % 7);
    column.codec = static_cast<ff::Codec>((what >> 4) & 1);
    column.nullable = ((what >> 5) & 1) != 0;
    const std::uint32_t item = 1u << (size & 3), count = 1 + (size >> 2) % 5;
    const bool items = column.kind <= ff::Kind::array;
    if (items) column.item_size = item;
    if (column.kind == ff::Kind::scalar) column.fixed_size = item;
    if (column.kind == ff::Kind::tensor) column.fixed_size = item * count;
    if (column.kind == ff::Kind::array) column.step_size = item * count;
    if (!column.variable() || column.kind == ff::Kind::image) column.codec = ff::Codec::raw;
    if (column.kind == ff::Kind::image) column.fixed_size = ff::kImageFixedSize;
    if (column.codec == ff::Codec::zstd) column.fixed_size = 4;
    return column;
}

ff::OutputRequest request_of(std::uint32_t index, const ff::Column& column, bool cast, unsigned choice) {
    ff::OutputRequest request;
    request.column = index;
    if (column.kind == ff::Kind::image && (choice & 1) != 0) {
        request.image.emplace();
        request.image->sizing = (choice & 2) != 0 ? ff::Sizing::resize_exact : ff::Sizing::resize_short;
        request.image->out_height = 1 + (choice >> 3) % 8;
        request.image->out_width = 1 + (choice >> 4) % 8;
        request.image->short_side = 1 + (choice >> 5);
    }
    if (column.kind > ff::Kind::array) return request;
    request.stored = type_of_size(column.item_size);
    if (cast) request.cast = ff::ItemType::f32;
    const auto count = static_cast<std::int64_t>(
        (column.kind == ff::Kind::array ? column.step_size : column.fixed_size) / column.item_size);
    if (column.kind == ff::Kind::tensor) request.shape = {count};
    if (column.kind == ff::Kind::array) request.shape = {ff::kFreeDimension, count};
    return request;
}

// A shard in memory, at a path of its own.
class Shard {
  public:
    Shard(Input& input, std::vector<ff::Column> columns, std::size_t rows) : columns_(std::move(columns)) {
        std::vector<std::size_t> lengths;
        for (std::size_t row = 0; row < rows; ++row) lengths.push_back(ff::kFrameAlign * input.take());
        payload_.assign(ff::kHeaderSize, std::byte{0});
        const ff::FrameSeed seed(uid());
        for (std::size_t row = 0; row < rows; ++row) {
            index_.push_back(static_cast<std::uint32_t>(payload_.size() / ff::kFrameAlign));
            const std::size_t begin = payload_.size();
            payload_.resize(begin + lengths[row]);
            for (std::size_t i = begin; i < payload_.size(); ++i) payload_[i] = static_cast<std::byte>(input.take());
            if (lengths[row] != 0)
                ff::store_le(payload_.data() + begin,
                             ff::crc32c(seed.of(row), ff::Bytes(payload_).subspan(begin + 4)));
        }
        write_header();
        file_ = ::memfd_create("fuzz_shard", MFD_CLOEXEC);
        if (file_ < 0 || ::write(file_, payload_.data(), payload_.size()) != static_cast<ssize_t>(payload_.size()))
            std::abort();
        path_ = "/proc/self/fd/" + std::to_string(file_);
        path_offsets_ = {0, static_cast<std::int32_t>(path_.size())};
        file_bytes_ = payload_.size();
        row_end_ = static_cast<std::int64_t>(rows);
    }
    ~Shard() { ::close(file_); }
    Shard(const Shard&) = delete;

    std::shared_ptr<const ff::Snapshot> snapshot() const {
        ff::ShardTable table;
        table.path_offsets = path_offsets_;
        table.path_data = {path_.data(), path_.size()};
        table.uids = uid();
        table.file_bytes = table.payload_ends = {&file_bytes_, 1};
        table.row_ends = {&row_end_, 1};
        table.index_file = table.dictionary_set = {&zero_, 1};
        table.row_index_at = {&index_at_, 1};
        table.page_checksums_at = {&zero_wide_, 1};
        table.index_maps = {ff::as_bytes(index_.data(), index_.size() * 4)};
        return std::make_shared<const ff::Snapshot>(std::move(table), columns_, ff::StreamShape{},
                                                    std::vector<std::vector<ff::DictionaryEntry>>(kDictionarySet), 4,
                                                    "pread");
    }

  private:
    ff::Bytes uid() const { return {uid_, 16}; }

    void write_header() {
        std::memcpy(payload_.data(), "FFSHARD1", 8);
        ff::store_le(payload_.data() + 8, std::uint16_t{1});
        ff::store_le(payload_.data() + 12, static_cast<std::uint32_t>(ff::kHeaderSize));
        std::memcpy(payload_.data() + 40, uid_, 16);
        ff::store_le(payload_.data() + ff::kHeaderSize - 4,
                     ff::crc32c(0, {payload_.data(), ff::kHeaderSize - 4}));
    }

    std::vector<ff::Column> columns_;
    std::vector<std::byte> payload_;
    std::vector<std::uint32_t> index_{0, 0};  // so that no index begins at 0, which means none
    std::string path_;
    std::vector<std::int32_t> path_offsets_;
    std::byte uid_[16] = {std::byte{7}};
    int file_ = -1;
    std::uint64_t file_bytes_ = 0, index_at_ = 8, zero_wide_ = 0;
    std::uint32_t zero_ = 0;
    std::int64_t row_end_ = 0;
};

// Reads every byte that a user could.
void touch(ff::Bytes bytes) {
    unsigned sum = 0;
    for (const std::byte b : bytes) sum += std::to_integer<unsigned>(b);
    volatile unsigned keep = sum;
    static_cast<void>(keep);
}

// Larger pictures only take longer, and memory that the format allows them (fuzz_image has the same limit).
constexpr std::uint64_t kPixelsMax = std::uint64_t{1} << 18;

bool is_small(ff::Bytes image) {
    try {
        const ff::ImageInfo info = ff::probe_image(image);
        return std::uint64_t{info.width} * info.height <= kPixelsMax;
    } catch (const ff::Error&) {
        return true;
    }
}

enum class Sampled { good, refused, too_large };

Sampled sample(ff::Reader& reader, std::int64_t row) {
    Sampled result = Sampled::good;
    try {
        std::unique_ptr<ff::Sample> sample = reader.sample(row);
        for (std::size_t i = 0; i < sample->items.size(); ++i) {
            touch(sample->items[i].bytes);
            if (reader.plan().outputs[i].decodes_image && !is_small(sample->items[i].bytes)) result = Sampled::too_large;
        }
        reader.give_back(std::move(sample));
        return result;
    } catch (const ff::Error& error) {
        if (error.code() != ff::Code::corrupt) std::abort();
        return Sampled::refused;
    }
}

void read_all(ff::Reader& reader, std::int64_t rows, bool decodes_images) {
    ff::BatchRequest request;
    std::vector<Sampled> samples;
    for (std::int64_t row = 0; row < rows; ++row) {
        samples.push_back(sample(reader, row));
        if (samples.back() != Sampled::too_large) request.rows.push_back(row);
    }
    request.positions = request.rows;
    const std::unique_ptr<ff::Lease> lease = reader.take(std::move(request));
    const ff::Slot& slot = lease->slot();
    for (const ff::OutputBuffers& output : slot.outputs) touch({output.values.data(), output.values.size()});
    for (std::int64_t at = 0; at < slot.rows_count; ++at) {
        const auto row = static_cast<std::size_t>(slot.rows.as<std::int64_t>()[at]);
        const bool valid = slot.valid.data()[at] != std::byte{0};
        // An image that does not decode is a hole, though its bytes can be had; nothing else may differ.
        if (valid != (samples[row] == Sampled::good) && !(decodes_images && !valid)) std::abort();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    Input input{data, size};
    const std::size_t count = input.take() % 7, rows = input.take() % 9;
    const unsigned choice = input.take();
    std::vector<ff::Column> columns;
    std::vector<ff::OutputRequest> requests;
    for (std::uint32_t i = 0; i < count; ++i) {
        const unsigned what = input.take(), extent = input.take();
        columns.push_back(column_of(what, extent));
        requests.push_back(request_of(i, columns.back(), (what & 64) != 0, choice));
    }
    const bool decodes_images = std::any_of(requests.begin(), requests.end(),
                                            [](const ff::OutputRequest& each) { return each.image.has_value(); });
    try {
        const Shard shard(input, std::move(columns), rows);
        ff::Reader reader({{shard.snapshot(), requests}}, {.on_error = ff::OnError::skip});
        read_all(reader, static_cast<std::int64_t>(rows), decodes_images);
    } catch (const ff::Error& error) {  // the layout, or the table as a whole, is refused
        if (error.code() != ff::Code::config && error.code() != ff::Code::corrupt) std::abort();
    }
    return 0;
}
