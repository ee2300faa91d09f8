// The three middle stages for one group: read it, verify it, decode and place it.
#pragma once

#include <memory>
#include <vector>

#include "feed/batch.hpp"
#include "feed/buffer.hpp"
#include "feed/times.hpp"
#include "io/engine.hpp"
#include "io/io_buffer.hpp"

namespace ff {

// Throws the op's error, or Error(os | corrupt), where `op` did not bring all of [offset, offset + length) of its file.
void check_done(const ReadOp& op, std::uint64_t offset, std::uint64_t length);

// Checks the bytes of a part: a frame by its crc, tokens by the crcs of their pages. Throws Error(corrupt).
void verify_part(const Snapshot& snapshot, const OpenShard& shard, const Part& part, Bytes bytes);

// The bytes of one group between reading and placing. Reused; nothing of it reaches the batch before it is verified.
class GroupBuffer {
  public:
    // Reads the parts of group `group`. Failures are recorded in the batch; the group goes on without those parts.
    void read(Batch& batch, std::size_t group);
    // Checks every part that was read: frames by their crc, tokens by the crcs of their pages.
    void verify(Batch& batch, std::size_t group);
    // Decodes and places every part that passed.
    void place(Batch& batch, std::size_t group, DecodeState& state);

  private:
    // Where a part's bytes are.
    struct View {
        std::uint64_t at = 0;      // in bytes_
        std::uint32_t op = 0;      // in ops_
        std::uint32_t opened = 0;  // in opened_
        bool good = false;
    };
    // One read: adjacent parts of one shard.
    struct Run {
        std::uint64_t offset = 0, end = 0, at = 0;
        std::uint32_t opened = 0, parts = 0;
    };
    void plan_runs(Batch& batch, std::span<const std::uint32_t> numbers);
    void read_runs();
    void check_read(const Part& part, View& view);
    ReadOp read_alone(const Part& part, View& view);
    void verify_view(const Snapshot& snapshot, const Part& part, View& view);
    Bytes bytes_of(const Part& part, const View& view) const noexcept { return {bytes_.data() + view.at, part.length}; }

    IoBuffer bytes_;
    std::vector<View> views_;  // as the group's parts
    std::vector<Run> runs_;
    std::vector<ReadOp> ops_;  // as runs_
    // A shard that parts of this group are in, and what reads it.
    struct Opened {
        std::shared_ptr<const OpenShard> shard;
        ReadEngine* engine = nullptr;
        std::uint32_t number = 0;  // of the shard in its snapshot
    };
    std::vector<Opened> opened_;
    const std::atomic<bool>* cancelled_ = nullptr;  // of the batch that is read
};

}  // namespace ff
