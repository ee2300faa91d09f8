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

// Brings what is missing of ops. Thread-safe.
class DeviceReads {
  public:
    virtual ~DeviceReads() = default;
    // Completes ops[i] for every i of `which`; each has some bytes already, or none. May throw std::bad_alloc, before
    // anything began.
    virtual void read(std::span<ReadOp> ops, std::span<const std::uint32_t> which) = 0;
    virtual const char* name() const noexcept = 0;
};

// Asks the kernel to begin all of the reads, then reads one after the other: the device has all of them to work on, with
// no thread but the caller's.
std::unique_ptr<DeviceReads> make_pread_device();

// io_uring; past the page cache with `direct`, where file and op allow it. Throws Error(config), which says why, where
// uring_refusal() is not empty.
std::unique_ptr<DeviceReads> make_uring_device(bool direct);

// Why this process cannot use io_uring; empty where it can. Sets one up and reads a file with it: versions and sysctls
// do not tell (containers forbid some of the calls).
std::string uring_refusal();

}  // namespace ff
