// Division by a number that is known long before: one multiplication and one correction, a fifth of a `div`.
#pragma once

#include <cstdint>

namespace ff {

class Divider {
  public:
    // `divisor` > 0; dividends are below 2^63.
    explicit Divider(std::uint64_t divisor) noexcept : divisor_(divisor), reciprocal_(~std::uint64_t{0} / divisor) {}

    std::uint64_t divisor() const noexcept { return divisor_; }

    // quotient and remainder of value / divisor.
    std::uint64_t split(std::uint64_t value, std::uint64_t& remainder) const noexcept {
        // The reciprocal is less than 2 too small, so for values below 2^63 the quotient is at most 1 too small.
        auto quotient = static_cast<std::uint64_t>((static_cast<unsigned __int128>(value) * reciprocal_) >> 64);
        remainder = value - quotient * divisor_;
        const bool short_by_one = remainder >= divisor_;
        remainder -= short_by_one ? divisor_ : 0;
        return quotient + (short_by_one ? 1 : 0);
    }

    std::uint64_t quotient(std::uint64_t value) const noexcept {
        std::uint64_t remainder;
        return split(value, remainder);
    }

  private:
    std::uint64_t divisor_, reciprocal_;
};

}  // namespace ff
