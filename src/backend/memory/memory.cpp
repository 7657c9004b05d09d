// Large blocks of memory for libtorch's tensors on the CPU, from one stretch of memory that stays.
//
// An evaluation asks for the same sizes as the one before. The system's allocator gives large blocks back when they are freed,
// and pages of the system have to be cleared before they are used again; where it keeps them, small ones cut them up. Here a
// block takes the smallest stretch that is free and large enough, and joins its neighbours when it is freed: of networks
// measured, all blocks together then need hardly more than the most that are in use at once. Pages are of 2 MiB where the
// system has them.

#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdint>
#include <iterator>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include <c10/core/CPUAllocator.h>

namespace {

constexpr size_t LARGE = 1 << 20, SMALL_PAGE = 4096, PAGE = 2 << 20;

inline size_t whole(size_t bytes, size_t page) { return (bytes + page - 1) / page * page; }

class Kept final : public c10::Allocator {
  public:
    explicit Kept(c10::Allocator *small) : small(small) {}

    c10::DataPtr allocate(size_t bytes) override {
        if (bytes < LARGE) return small->allocate(bytes);
        char *data = take(whole(bytes, SMALL_PAGE));
        return {data, data, &give, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &give; }
    void copy_data(void *to, const void *from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  private:
    /// Where a free stretch begins, and its bytes. No two are neighbours.
    using Idle = std::map<char *, size_t>;

    char *take(size_t size) {
        std::lock_guard<std::mutex> lock(mutex);
        auto best = idle.end();
        for (auto range = idle.begin(); range != idle.end(); ++range)
            if (range->second >= size && (best == idle.end() || range->second < best->second)) best = range;
        if (best == idle.end()) best = grow(size);
        // From its end: what is left lies below, where more can be joined to it.
        best->second -= size;
        char *data = best->first + best->second;
        if (best->second == 0) idle.erase(best);
        used.emplace(data, size);
        return data;
    }
    static void give(void *data);

    /// Adds these bytes to the free stretch before and to the one after.
    Idle::iterator join(char *start, size_t size) {
        auto next = idle.lower_bound(start);
        if (next != idle.end() && next->first == start + size) {
            size += next->second;
            next = idle.erase(next);
        }
        if (next != idle.begin()) {
            auto before = std::prev(next);
            if (before->first + before->second == start) {
                before->second += size;
                return before;
            }
        }
        return idle.emplace_hint(next, start, size);
    }
    /// A free stretch of at least this size: the lowest, with what it lacks below it; or a new one.
    Idle::iterator grow(size_t size) {
        const auto lowest = idle.find(low);
        size_t more = whole(size - (lowest == idle.end() ? 0 : lowest->second), PAGE);
        char *start = below(more);
        if (!start) start = map(more = whole(size, PAGE), PROT_READ | PROT_WRITE);
        if (!start) {
            for (const auto &range : idle) munmap(range.first, range.second);
            idle.clear();
            start = map(more, PROT_READ | PROT_WRITE);
        }
        // In words that generation.rs knows: it then goes on with smaller batches.
        if (!start) throw std::runtime_error("not enough memory for a tensor of " + std::to_string(size) + " bytes");
        // A system without large pages says so; small ones do then.
        madvise(start, more, MADV_HUGEPAGE);
        return join(start, more);
    }
    /// The next bytes below the lowest, of as many addresses as there are bytes of memory: what comes from the system later
    /// then joins what came before. Where addresses themselves are limited (ulimit -v), there are none.
    char *below(size_t size) {
        rlimit limit;
        if (!low && getrlimit(RLIMIT_AS, &limit) == 0 && limit.rlim_cur == RLIM_INFINITY) {
            const size_t memory = whole(size_t(sysconf(_SC_PHYS_PAGES)) * size_t(sysconf(_SC_PAGESIZE)), PAGE);
            end = map(memory, PROT_NONE);
            low = end ? end + memory : nullptr;
        }
        if (size_t(low - end) < size || mprotect(low - size, size, PROT_READ | PROT_WRITE) != 0) return nullptr;
        return low -= size;
    }
    /// So many new bytes from a multiple of PAGE on.
    static char *map(size_t size, int protection) {
        const int flags = MAP_PRIVATE | MAP_ANONYMOUS | (protection == PROT_NONE ? MAP_NORESERVE : 0);
        void *map = mmap(nullptr, size + PAGE, protection, flags, -1, 0);
        if (map == MAP_FAILED) return nullptr;
        char *start = static_cast<char *>(map);
        const size_t before = (PAGE - reinterpret_cast<uintptr_t>(map) % PAGE) % PAGE;
        if (before) munmap(start, before);
        munmap(start + before + size, PAGE - before);
        return start + before;
    }

    c10::Allocator *small;
    std::mutex mutex;
    std::unordered_map<void *, size_t> used;
    Idle idle;
    char *low = nullptr, *end = nullptr;  // addresses that wait lie between end and low
};

Kept *kept = nullptr;

void Kept::give(void *data) {
    std::lock_guard<std::mutex> lock(kept->mutex);
    const auto found = kept->used.find(data);
    if (found == kept->used.end()) return kept->small->raw_deallocate(data);
    const size_t size = found->second;
    kept->used.erase(found);
    kept->join(static_cast<char *>(data), size);
}

}  // namespace

/// From now on, for as long as the process lasts.
extern "C" void tweedie_keep_blocks() {
    if (kept) return;
    kept = new Kept(c10::GetDefaultCPUAllocator());
    c10::SetCPUAllocator(kept);
}
