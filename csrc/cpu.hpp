// What the processor has of what files for one instruction set are compiled for.
#pragma once

namespace ff {

#if defined(__x86_64__)
// All that setup.py's flags for `_avx2` allow the compiler to use, not AVX2 alone: hypervisors mask them one by one.
inline bool has_avx2() noexcept {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("bmi2");
}
#endif

}  // namespace ff
