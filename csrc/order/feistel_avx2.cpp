// The Feistel network over runs of values, compiled for AVX2.
#include "order/feistel.hpp"

namespace ff {

void feistel_forward_avx2(FeistelShape shape, const std::uint64_t* keys, std::uint64_t* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) values[i] = feistel::forward(shape, keys[i], values[i]);
}

void feistel_inverse_avx2(FeistelShape shape, const std::uint64_t* keys, std::uint64_t* values, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) values[i] = feistel::inverse(shape, keys[i], values[i]);
}

}  // namespace ff
