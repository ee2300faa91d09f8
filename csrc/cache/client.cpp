// Attaching, and the engine over it. What a read does is in fetch.cpp.
#include "cache/client.hpp"

#include <algorithm>
#include <cmath>
#include <string>

#include "cache/fetch.hpp"

namespace ff {
namespace {

constexpr std::uint64_t kPageBytes = 4096;
constexpr std::size_t kPageCounters = 16;  // word of the first
constexpr double kSecondsMax = 86400;      // of any wait: sums with the clock stay in range

void check_seconds(const char* name, double value) {
    if (!(value > 0) || value > kSecondsMax)
        throw Error(Code::config, std::string(name) + "=" + std::to_string(value) + ": must be above 0 and at most " +
                                      std::to_string(static_cast<int>(kSecondsMax)));
}

std::vector<std::uint64_t> first_chunks_of(const std::vector<std::uint64_t>& sizes) {
    std::vector<std::uint64_t> first{0};
    first.reserve(sizes.size() + 1);
    for (const std::uint64_t size : sizes) first.push_back(first.back() + chunks_of(size));  // 2^44 each, at most
    return first;
}

std::shared_ptr<SlabDisk> disk_named(const std::string& slab_io) {
    if (slab_io == "pread") return make_slab_disk();
    const std::string prefix = "fault:";
    if (slab_io.compare(0, prefix.size(), prefix) == 0) return make_fault_slab_disk(slab_io.substr(prefix.size()));
    throw Error(Code::config, "slab_io='" + slab_io + "': must be 'pread', or 'fault:<script>' in tests");
}

class CacheEngine final : public ReadEngine {
  public:
    CacheEngine(std::shared_ptr<CacheClient> client, std::uint32_t set) : client_(std::move(client)), set_(set) {}
    void read(std::span<ReadOp> ops) override { client_->read(set_, ops); }
    bool reread(ReadOp& op) override {
        client_->reread(set_, op);
        return true;
    }
    bool opens_files() const noexcept override { return false; }
    IoReport report() const override { return {"cache", "read through the node's cache"}; }

  private:
    const std::shared_ptr<CacheClient> client_;
    const std::uint32_t set_;
};

}  // namespace

CacheClient::CacheClient(CacheOptions options)
    : options_(std::move(options)), disk_(disk_named(options_.slab_io)), view_(std::make_shared<const CacheView>()) {
    check_seconds("deadline_s", options_.deadline_s);
    check_seconds("slab_read_s", options_.slab_read_s);
}

std::shared_ptr<const CacheView> CacheClient::view() const {
    const std::shared_lock lock(view_mutex_);
    return view_;
}

void CacheClient::attach(const CacheEndpoint& endpoint) {
    auto fresh = std::make_shared<CacheView>();
    fresh->words = std::make_shared<const SlotWords>(endpoint.words_fd, endpoint.slots, Access::read);
    for (const CacheEndpoint::SlabFile& slab : endpoint.slabs)
        fresh->slabs.push_back({slab.first_slot, slab.slots,
                                std::make_shared<SlabReads>(
                                    Slab(Descriptor::copy_of(slab.fd), slab.first_slot, slab.slots), disk_)});
    Mapping ring(endpoint.ring_fd, endpoint.ring_bytes, Access::read, "the ring");
    Mapping page(endpoint.page_fd, kPageBytes, Access::write, "the counters' page");
    connection_.attach(Descriptor::copy_of(endpoint.data_fd), std::move(ring));
    {
        const std::lock_guard lock(page_mutex_);
        page_ = std::move(page);
    }
    std::shared_ptr<const CacheView> before;  // its slabs may have threads to wait for: not under the lock
    const std::unique_lock lock(view_mutex_);
    fresh->sets = view_->sets;  // old maps are hints as good as before: the words are the truth
    before = std::exchange(view_, std::move(fresh));
}

void CacheClient::set_attached(std::uint32_t number, std::uint32_t remote, int map_fd,
                               std::vector<std::uint64_t> sizes) {
    for (const std::uint64_t size : sizes)
        if (size > std::uint64_t{1} << 62)
            throw Error(Code::config, "an object of " + std::to_string(size) + " bytes");
    std::vector<std::uint64_t> first = first_chunks_of(sizes);
    ChunkMap map(map_fd, first.back(), sizes.size(), Access::read);
    auto set = std::make_shared<const CacheSet>(std::move(map), std::move(sizes), std::move(first));
    {
        const std::unique_lock lock(view_mutex_);
        auto fresh = std::make_shared<CacheView>(*view_);
        std::shared_ptr<const CacheSet>& its = fresh->sets[number];
        if (its && its->sizes != set->sizes)
            throw Error(Code::config, "set " + std::to_string(number) + " had objects of other sizes: a snapshot that "
                                                                        "is read must stay what it was");
        its = std::move(set);
        view_ = std::move(fresh);
    }
    connection_.name_set(number, remote);
}

void CacheClient::set_detached(std::uint32_t number) {
    const std::unique_lock lock(view_mutex_);
    auto fresh = std::make_shared<CacheView>(*view_);
    fresh->sets.erase(number);
    view_ = std::move(fresh);
}

void CacheClient::close() {
    connection_.close();
    auto empty = std::make_shared<const CacheView>();
    {
        const std::unique_lock lock(view_mutex_);
        std::swap(view_, empty);  // what it had ends outside the lock, or with its last reader
    }
    const std::lock_guard lock(page_mutex_);
    page_ = Mapping();
}

std::shared_ptr<const CacheSet> CacheClient::set_of(std::uint32_t number) const {
    const std::shared_ptr<const CacheView> now = view();
    const auto found = now->sets.find(number);
    if (found == now->sets.end())
        throw Error(Code::config, "the cache client has no set " + std::to_string(number) +
                                      ": it was closed, or never attached");
    return found->second;
}

void CacheClient::read(std::uint32_t set, std::span<ReadOp> ops) {
    if (!ops.empty()) Fetch(*this, set, options_.deadline_s, nullptr, ops.front().cancelled).read(ops);
}

void CacheClient::reread(std::uint32_t set, ReadOp& op) {
    Fetch(*this, set, options_.deadline_s, nullptr, op.cancelled).reread(op);
}

void CacheClient::read_checked(std::uint32_t set, std::uint32_t object, std::uint64_t offset, MutableBytes into,
                               double deadline_s, Interrupted interrupted) {
    check_seconds("deadline_s", deadline_s);
    const std::shared_ptr<const CacheSet> its = set_of(set);
    if (object >= its->sizes.size())
        throw Error(Code::config, "object " + std::to_string(object) + " of a set of " +
                                      std::to_string(its->sizes.size()));
    if (offset > its->sizes[object] || into.size() > its->sizes[object] - offset)
        throw Error(Code::config, std::to_string(into.size()) + " bytes at " + std::to_string(offset) +
                                      " of an object of " + std::to_string(its->sizes[object]));
    ReadOp op{nullptr, offset, into, object};
    Fetch(*this, set, deadline_s, interrupted).read_checked(op);
    if (op.error) throw *op.error;
}

CacheCounts CacheClient::counts() const noexcept {
    const std::lock_guard lock(page_mutex_);
    return counts_;
}

void CacheClient::add(const CacheCounts& more) noexcept {
    const std::lock_guard lock(page_mutex_);
    // In the order of the page's words.
    const std::uint64_t values[] = {more.slab_reads, more.slab_bytes,   more.ring_reads,          more.ring_bytes,
                                    more.races_lost, more.crc_failures, more.slab_reads_given_up, more.miss_wait_us};
    std::uint64_t* const totals[] = {&counts_.slab_reads,          &counts_.slab_bytes, &counts_.ring_reads,
                                     &counts_.ring_bytes,          &counts_.races_lost, &counts_.crc_failures,
                                     &counts_.slab_reads_given_up, &counts_.miss_wait_us};
    for (std::size_t i = 0; i < std::size(values); ++i) {
        if (values[i] == 0) continue;
        *totals[i] += values[i];
        if (page_.data() == nullptr) continue;
        auto* word = reinterpret_cast<std::uint64_t*>(page_.data()) + kPageCounters + i;
        std::atomic_ref<std::uint64_t>(*word).fetch_add(values[i], std::memory_order_relaxed);
    }
}

std::unique_ptr<ReadEngine> make_cache_engine(std::shared_ptr<CacheClient> client, std::uint32_t set,
                                              std::span<const std::uint64_t> file_bytes) {
    const std::vector<std::uint64_t>& sizes = client->set_of(set)->sizes;
    if (!std::equal(sizes.begin(), sizes.end(), file_bytes.begin(), file_bytes.end()))
        throw Error(Code::config, "set " + std::to_string(set) + " of the cache client has " +
                                      std::to_string(sizes.size()) + " objects that are not the " +
                                      std::to_string(file_bytes.size()) + " shards of this snapshot");
    return std::make_unique<CacheEngine>(std::move(client), set);
}

}  // namespace ff
