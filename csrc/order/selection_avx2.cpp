// The loops of selection_run.hpp with pdep and popcnt.
#include "order/selection_run.hpp"

namespace ff {

void selection_select_avx2(const SelectionArrays& arrays, std::int64_t* values, std::size_t count) {
    selection::select_run(arrays, values, count);
}

void selection_rank_avx2(const SelectionArrays& arrays, std::int64_t* values, std::size_t count) {
    selection::rank_run(arrays, values, count);
}

}  // namespace ff
