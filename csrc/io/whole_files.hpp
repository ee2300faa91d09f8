// Whole files, one after the other, into one buffer: for conversions of many small files.
#pragma once

#include <cstdint>
#include <span>
#include <string>

#include "bytes.hpp"

namespace ff {

// A file that has not the length that it was expected to have. `index` is files.size() where all have.
struct OddFile {
    std::size_t index = 0;
    std::uint64_t size = 0;  // what was found; one more than expected for every file that is longer
};

// Reads file i into into[offsets[i], offsets[i + 1]); stops at the first whose length differs. `offsets` ascend, one more
// than files, and `into` has one byte more than offsets.back(), which is scratch. Throws Error(os) with the path.
OddFile read_whole_files(std::span<const std::string> files, std::span<const std::int64_t> offsets, MutableBytes into);

}  // namespace ff
