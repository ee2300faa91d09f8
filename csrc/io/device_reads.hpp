// Reads that the page cache could not answer: what is left of some ops is brought from the device.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "io/engine.hpp"

namespace ff {

// Reads what is left of `op` by pread(2), as often as it takes: to its end, the file's end, or an error.
void pread_rest(ReadOp& op) noexcept;

// Asks the kernel to bring what is missing of ops[i], for every i of `which`, into the page cache, and does not wait.
// Each file is brought in whole steps of `step` bytes, a power of two: 1 for what is asked for and no more.
void begin_reads(std::span<const ReadOp> ops, std::span<const std::uint32_t> which, std::uint64_t step) noexcept;

// Brings what is missing of ops. Thread-safe.
class DeviceReads {
  public:
    virtual ~DeviceReads() = default;
    // Completes ops[i] for every i of `which`; each has some bytes already, or none. May throw std::bad_alloc, before
    // anything began.
    virtual void read(std::span<ReadOp> ops, std::span<const std::uint32_t> which) = 0;
    virtual const char* name() const noexcept = 0;
};

// Reads one after the other in the calling thread: begin_reads() before gives the device all of them to work on.
std::unique_ptr<DeviceReads> make_pread_device();

// io_uring; past the page cache with `direct`, where file and op allow it. Throws Error(config), which says why, where
// uring_refusal() is not empty.
std::unique_ptr<DeviceReads> make_uring_device(bool direct);

// Why this process cannot use io_uring; empty where it can. Sets one up and reads a file with it: versions and sysctls
// do not tell (containers forbid some of the calls).
std::string uring_refusal();

}  // namespace ff
