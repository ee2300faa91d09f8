// The weights of one axis: Pillow's and torchvision's definition of antialiased bilinear resizing, in fixed point.
#include <algorithm>
#include <cmath>

#include "codec/resample.hpp"

namespace ff {
namespace {

constexpr double kOne = 1 << kWeightBits;

// The window of one output pixel: its centre in the source and the pixels within the filter's support.
struct Window {
    double center;
    std::uint32_t begin, end;
};

Window window_of(std::uint32_t output, double box_begin, double scale, double support, std::uint32_t low,
                 std::uint32_t high) noexcept {
    const double center = box_begin + (output + 0.5) * scale;
    // Pixels whose centre is within the support, as Pillow rounds it; never outside the box: the crop comes before the
    // resize.
    const double begin = std::floor(center - support + 0.5), end = std::floor(center + support + 0.5);
    Window window;
    window.center = center;
    window.begin = begin <= low ? low : std::min(static_cast<std::uint32_t>(begin), high - 1);
    window.end = end >= high ? high : std::max(static_cast<std::uint32_t>(std::max(end, 0.0)), window.begin + 1);
    return window;
}

// Rounds the running sum instead of each weight: the total is exactly 1.0 however many weights there are, so a flat
// area stays flat.
void write_weights(const Window& window, double inverse_support, std::vector<double>& raw, std::int16_t* out) {
    const std::uint32_t count = window.end - window.begin;
    raw.resize(count);
    double total = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        const double distance = std::abs((window.begin + i + 0.5 - window.center) * inverse_support);
        raw[i] = distance < 1.0 ? 1.0 - distance : 0.0;
        total += raw[i];
    }
    if (total <= 0) {  // a single pixel exactly at the rim of its support
        raw[0] = total = 1;
    }
    const double factor = kOne / total;
    double sum = 0;
    int before = 0;
    for (std::uint32_t i = 0; i < count; ++i) {
        sum += raw[i] * factor;
        const int now = i + 1 == count ? static_cast<int>(kOne) : static_cast<int>(sum + 0.5);
        out[i] = static_cast<std::int16_t>(now - before);
        before = now;
    }
}

}  // namespace

void AxisTable::build(const AxisPlan& axis, std::uint32_t reduction, bool reverse) {
    reverse = reverse && axis.reversed;
    outputs = axis.window_size;
    identity = reduction == 1 && !axis.resizes() && !reverse;
    if (identity) {
        first = axis.box_begin + axis.window_begin;
        count = outputs;
        taps = 0;
        starts.clear();
        used.clear();
        weights.clear();
        return;
    }
    const double box_begin = static_cast<double>(axis.box_begin) / reduction;
    const double box_end = static_cast<double>(axis.box_begin + axis.box_size) / reduction;
    const auto low = static_cast<std::uint32_t>(box_begin);
    // At most the reduced size, which is rounded up too
    const auto high = static_cast<std::uint32_t>(std::ceil(box_end));
    const double scale = (box_end - box_begin) / axis.full_size;
    const double support = std::max(scale, 1.0);

    const auto window_at = [&](std::uint32_t i) {
        return window_of(axis.window_begin + i, box_begin, scale, support, low, high);
    };
    const Window first_window = window_at(0), last_window = window_at(outputs - 1);
    first = first_window.begin;
    count = last_window.end - first;
    std::uint32_t widest = 1;
    starts.resize(outputs);
    used.resize(outputs);
    for (std::uint32_t i = 0; i < outputs; ++i) {
        const Window window = window_at(i);
        widest = std::max(widest, window.end - window.begin);
    }
    taps = (widest + 3) / 4 * 4;
    weights.assign(std::size_t{outputs} * taps, 0);
    std::vector<double> raw;
    for (std::uint32_t i = 0; i < outputs; ++i) {
        const Window window = window_at(i);
        const std::uint32_t at = reverse ? outputs - 1 - i : i;
        starts[at] = window.begin - first;
        used[at] = window.end - window.begin;
        write_weights(window, 1.0 / support, raw, weights.data() + std::size_t{at} * taps);
    }
}

}  // namespace ff
