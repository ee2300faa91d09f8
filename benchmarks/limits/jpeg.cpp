// images, images-center, photos2048: JPEG files in memory to 224 x 224, three planes of bytes, by libjpeg's own calls in
// a loop: jpeg_crop_scanline and jpeg_skip_scanlines for what the crop needs, scale 1/2, 1/4 or 1/8 where the crop is
// that much larger than the result, an end after the last row; then a bilinear resize of two taps an axis, as OpenCV
// has it, mirrored for half of the images. What whoever decodes with libjpeg can reach; `full_per_s` is all pixels of the files and nothing else.
#include <algorithm>
#include <cmath>
#include <filesystem>

#include <malloc.h>
#if defined(__SSSE3__)
#include <immintrin.h>
#endif

#include <jpeglib.h>

#include "timed.hpp"

namespace {

constexpr int kSide = 224, kCenterSide = 256, kRoundImages = 4;

struct File {
    const unsigned char* bytes;
    std::uint64_t size;
};

std::vector<File> files_under(const std::string& folder) {
    std::vector<File> files;
    for (const auto& entry : std::filesystem::recursive_directory_iterator(folder)) {
        if (entry.path().extension() != ".jpg") continue;
        const int file = limits::open_file(entry.path());
        files.push_back({reinterpret_cast<const unsigned char*>(limits::mapped(file)), limits::size_of(file)});
        ::close(file);
    }
    if (files.empty()) limits::Arguments::fail(folder + ": no .jpg in it");
    return files;
}

struct Box {
    int left, top, width, height;
};

double unit(limits::Random& random) { return static_cast<double>(random.below(1u << 30)) / (1u << 30); }

// torchvision's RandomResizedCrop.
Box random_box(int width, int height, limits::Random& random) {
    for (int attempt = 0; attempt < 10; ++attempt) {
        const double area = width * height * (0.08 + 0.92 * unit(random));
        const double ratio = std::exp(std::log(0.75) + (std::log(4.0 / 3) - std::log(0.75)) * unit(random));
        const int w = static_cast<int>(std::lround(std::sqrt(area * ratio)));
        const int h = static_cast<int>(std::lround(std::sqrt(area / ratio)));
        if (w > 0 && h > 0 && w <= width && h <= height)
            return {static_cast<int>(random.below(static_cast<std::uint64_t>(width - w + 1))),
                    static_cast<int>(random.below(static_cast<std::uint64_t>(height - h + 1))), w, h};
    }
    const int side = std::min(width, height);
    return {(width - side) / 2, (height - side) / 2, side, side};
}

// The part of the image that is left of Resize(256) and CenterCrop(224).
Box center_box(int width, int height) {
    const int side = static_cast<int>(std::lround(std::min(width, height) * double{kSide} / kCenterSide));
    return {(width - side) / 2, (height - side) / 2, side, side};
}

// The two pixels of each result of an axis, and the weight of the second, 8 bits after the point.
struct Taps {
    int size, first[kSide], second[kSide], weight[kSide];

    void build(int pixels) {
        size = pixels;
        const double scale = double(size) / kSide;
        for (int i = 0; i < kSide; ++i) {
            const double at = std::max(0.0, (i + 0.5) * scale - 0.5);
            first[i] = std::min(static_cast<int>(at), size - 1);
            second[i] = std::min(first[i] + 1, size - 1);
            weight[i] = static_cast<int>((at - first[i]) * 256);
        }
    }
};

struct Decoder {
    jpeg_decompress_struct jpeg;
    jpeg_error_mgr errors;
    std::vector<unsigned char> pixels, row, pixel_line = std::vector<unsigned char>(4 * kSide);
    std::vector<unsigned char> planes = std::vector<unsigned char>(3 * kSide * kSide);
    Taps across, down;

    Decoder() {
        jpeg.err = jpeg_std_error(&errors);
        errors.error_exit = [](j_common_ptr) { limits::Arguments::fail("a file is damaged"); };
        jpeg_create_decompress(&jpeg);
    }

    void begin(const File& file) {
        jpeg_mem_src(&jpeg, file.bytes, file.size);
        jpeg_read_header(&jpeg, TRUE);
        jpeg.out_color_space = JCS_EXT_RGBX;
    }

    void full(const File& file) {
        begin(file);
        jpeg_start_decompress(&jpeg);
        pixels.resize(std::size_t{4} * jpeg.output_width * jpeg.output_height);
        while (jpeg.output_scanline < jpeg.output_height) {
            JSAMPROW at = pixels.data() + std::size_t{4} * jpeg.output_width * jpeg.output_scanline;
            jpeg_read_scanlines(&jpeg, &at, 1);
        }
        jpeg_finish_decompress(&jpeg);
    }

    void cropped(const File& file, bool center, limits::Random& random) {
        begin(file);
        const int width = static_cast<int>(jpeg.image_width), height = static_cast<int>(jpeg.image_height);
        Box box = center ? center_box(width, height) : random_box(width, height, random);
        int reduction = 8;
        while (reduction > 1 && std::min(box.width, box.height) / reduction < kSide) reduction /= 2;
        box = {box.left / reduction, box.top / reduction, std::max(1, box.width / reduction),
               std::max(1, box.height / reduction)};
        jpeg.scale_num = static_cast<unsigned>(8 / reduction);
        jpeg.scale_denom = 8;
        jpeg_start_decompress(&jpeg);
        JDIMENSION left = static_cast<JDIMENSION>(box.left), columns = static_cast<JDIMENSION>(box.width);
        jpeg_crop_scanline(&jpeg, &left, &columns);
        if (box.top > 0) jpeg_skip_scanlines(&jpeg, static_cast<JDIMENSION>(box.top));
        across.build(box.width);
        down.build(box.height);
        resize(std::size_t{4} * columns, std::size_t{4} * (static_cast<std::size_t>(box.left) - left),
               std::size_t{4} * static_cast<std::size_t>(box.width), random.below(2) == 1);
        jpeg_abort_decompress(&jpeg);
    }

    // As rows come, of which two are kept: rows first, then columns; a mirrored image is written from its end. `skip`
    // bytes of each row come before the crop's.
    void resize(std::size_t row_bytes, std::size_t skip, std::size_t bytes, bool mirrored) {
        // libjpeg writes rows that are aligned past the caches, which costs a fifth of its time: these are not.
        const std::size_t stride = row_bytes + 128;
        pixels.resize(std::max(pixels.size(), 2 * stride));
        row.resize(std::max(row.size(), bytes + 8));
        const auto memory_of = [&](int y) { return pixels.data() + 4 + static_cast<std::size_t>(y % 2) * stride; };
        int have = 0;
        for (int y = 0; y < kSide; ++y) {
            for (; have <= down.second[y]; ++have) {
                JSAMPROW at = memory_of(have);
                jpeg_read_scanlines(&jpeg, &at, 1);
            }
            blend(memory_of(down.first[y]) + skip, memory_of(down.second[y]) + skip, down.weight[y], bytes, row.data());
            place(row.data(), planes.data() + y * kSide, mirrored);
        }
        limits::used(planes.data());
    }

    static void blend(const unsigned char* __restrict a, const unsigned char* __restrict b, int weight,
                      std::size_t bytes, unsigned char* __restrict to) {
        const auto of_a = static_cast<std::uint16_t>(256 - weight), of_b = static_cast<std::uint16_t>(weight);
        for (std::size_t i = 0; i < bytes; ++i)
            to[i] = static_cast<unsigned char>(static_cast<std::uint16_t>(a[i] * of_a + b[i] * of_b) >> 8);
    }

    void place(unsigned char* __restrict from, unsigned char* __restrict to, bool mirrored) {
        unsigned char* __restrict line = pixel_line.data();
        std::memcpy(from + 4 * across.size, from + 4 * (across.size - 1), 4);  // the last pixel has a neighbour
        for (int x = 0; x < kSide; ++x) {
            const unsigned color = mixed(from + 4 * across.first[x], across.weight[x]);
            std::memcpy(line + 4 * (mirrored ? kSide - 1 - x : x), &color, sizeof color);
        }
        for (int c = 0; c < 3; ++c)
            for (int x = 0; x < kSide; ++x) to[c * kSide * kSide + x] = line[4 * x + c];
    }

    // Of two pixels side by side, the second weighing `weight` of 256.
    static unsigned mixed(const unsigned char* two, int weight) {
#if defined(__SSSE3__)
        const __m128i both = _mm_loadl_epi64(reinterpret_cast<const __m128i*>(two));
        const __m128i wide = _mm_cvtepu8_epi16(both);
        const __m128i first = _mm_mullo_epi16(wide, _mm_set1_epi16(static_cast<short>(256 - weight)));
        const __m128i second = _mm_mullo_epi16(_mm_srli_si128(wide, 8), _mm_set1_epi16(static_cast<short>(weight)));
        const __m128i color = _mm_srli_epi16(_mm_add_epi16(first, second), 8);
        return static_cast<unsigned>(_mm_cvtsi128_si32(_mm_packus_epi16(color, color)));
#else
        unsigned color = 0;
        for (int c = 0; c < 4; ++c)
            color |= static_cast<unsigned>((two[c] * (256 - weight) + two[4 + c] * weight) >> 8) << 8 * c;
        return color;
#endif
    }
};

}  // namespace

int main(int count, char** values) {
    // libjpeg takes its memory anew for each image: it must not go back to the kernel in between.
    ::mallopt(M_MMAP_THRESHOLD, 1 << 30);
    ::mallopt(M_TRIM_THRESHOLD, 1 << 30);
    ::mallopt(M_ARENA_MAX, 1);
    const limits::Arguments arguments(count, values);
    const bool center = arguments.work == "images-center", large = arguments.work == "photos2048";
    if (!center && !large && arguments.work != "images")
        limits::Arguments::fail("jpeg is a limit of images, images-center and photos2048");
    const std::vector<File> files = files_under(arguments.raw + (large ? "/photos2048" : "/images"));
    std::vector<Decoder> decoders(arguments.threads);
    std::vector<limits::Random> randoms;
    for (unsigned thread = 0; thread < arguments.threads; ++thread) randoms.emplace_back(thread);
    const auto rate_of = [&](bool full) {
        return limits::rate(arguments, [&](unsigned thread) {
            for (int i = 0; i < kRoundImages; ++i) {
                const File& file = files[randoms[thread].below(files.size())];
                if (full)
                    decoders[thread].full(file);
                else
                    decoders[thread].cropped(file, center, randoms[thread]);
            }
            return kRoundImages;
        });
    };
    const double per_s = rate_of(false);
    std::printf("{\"per_s\": %.1f, \"full_per_s\": %.1f}\n", per_s, rate_of(true));
}
