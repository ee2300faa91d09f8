// What a test program of the core needs: CHECK macros, and main() as a list of named cases.
//
//     TEST(a_name_that_reads_as_a_sentence) { CHECK_EQ(1 + 1, 2); }
//
// A failed check prints where and what and ends the program with 1: under the sanitizers a clean state matters more
// than a second failure.
#pragma once

#include <cstdio>
#include <cstdlib>
#include <sstream>
#include <string>
#include <vector>

#include "error.hpp"

namespace ff::test {

struct Case {
    const char* name;
    void (*run)();
};

inline std::vector<Case>& cases() {
    static std::vector<Case> all;
    return all;
}

struct Registration {
    Registration(const char* name, void (*run)()) { cases().push_back({name, run}); }
};

[[noreturn]] inline void fail(const char* file, int line, const std::string& what) {
    std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
    std::exit(1);
}

template <class A, class B>
void check_equal(const A& a, const B& b, const char* text, const char* file, int line) {
    if (a == b) return;
    std::ostringstream what;
    what << text << ": " << +a << " is not " << +b;
    fail(file, line, what.str());
}

// Runs `work`, which must throw Error(code) with `part` in its message.
template <class Work>
void check_throws(Code code, const std::string& part, Work work, const char* file, int line) {
    try {
        work();
    } catch (const Error& error) {
        if (error.code() != code || error.message().find(part) == std::string::npos)
            fail(file, line, "threw code " + std::to_string(static_cast<int>(error.code())) + ", \"" + error.message() +
                                 "\", instead of one with \"" + part + "\"");
        return;
    }
    fail(file, line, "threw nothing instead of an error with \"" + part + "\"");
}

}  // namespace ff::test

#define TEST(name)                                                         \
    static void name();                                                    \
    static const ff::test::Registration name##_registration(#name, &name); \
    static void name()
#define CHECK(condition) \
    do { \
        if (!(condition)) ff::test::fail(__FILE__, __LINE__, #condition); \
    } while (false)
#define CHECK_EQ(a, b) ff::test::check_equal((a), (b), #a " == " #b, __FILE__, __LINE__)
#define CHECK_THROWS(code, part, ...) ff::test::check_throws((code), (part), [&] { __VA_ARGS__; }, __FILE__, __LINE__)

#define TEST_MAIN                                                                  \
    int main() {                                                                   \
        for (const auto& test : ff::test::cases()) {                               \
            std::printf("%s\n", test.name);                                        \
            std::fflush(stdout);                                                   \
            test.run();                                                            \
        }                                                                          \
        return 0;                                                                  \
    }
