// Large blocks of memory for libtorch's tensors on the CPU, kept for the next tensor of the same size.
//
// An evaluation asks for the same sizes as the one before. The system's allocator cuts a block that comes back into smaller
// ones, so that the next of that size is taken from the system anew: a network at 256×256 pixels held three times what its
// tensors needed. Here a block comes back whole. Pages are of 2 MiB where the system has them.

#include <sys/mman.h>

#include <cstdint>
#include <map>
#include <mutex>
#include <stdexcept>
#include <string>
#include <unordered_map>

#include <c10/core/CPUAllocator.h>

namespace {

constexpr size_t LARGE = 1 << 20, SMALL_PAGE = 4096, PAGE = 2 << 20;
/// Idle blocks may have this part of what is in use.
constexpr size_t IDLE = 4;

struct Block {
    char *map;  // as the system gave it
    size_t mapped;
    char *data;
    size_t size;
};

class Kept final : public c10::Allocator {
  public:
    explicit Kept(c10::Allocator *small) : small(small) {}

    c10::DataPtr allocate(size_t bytes) override {
        if (bytes < LARGE) return small->allocate(bytes);
        char *data = take((bytes + SMALL_PAGE - 1) / SMALL_PAGE * SMALL_PAGE);
        return {data, data, &give, c10::Device(c10::DeviceType::CPU)};
    }
    c10::DeleterFnPtr raw_deleter() const override { return &give; }
    void copy_data(void *to, const void *from, size_t bytes) const override { default_copy_data(to, from, bytes); }

  private:
    char *take(size_t size) {
        std::lock_guard<std::mutex> lock(mutex);
        auto found = idle.find(size);
        Block block;
        if (found != idle.end()) {
            block = found->second;
            idle.erase(found);
            resting -= size;
        } else {
            release((busy + size) / IDLE);
            block = map(size);
        }
        busy += size;
        used.emplace(block.data, block);
        return block.data;
    }
    /// Until idle blocks have no more than this; the largest go first.
    void release(size_t limit) {
        while (resting > limit) {
            auto last = std::prev(idle.end());
            resting -= last->first;
            munmap(last->second.map, last->second.mapped);
            idle.erase(last);
        }
    }
    Block map(size_t size) {
        Block block{nullptr, size + (size < PAGE ? 0 : PAGE), nullptr, size};
        const auto ask = [&] { return mmap(nullptr, block.mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0); };
        void *map = ask();
        if (map == MAP_FAILED) {
            release(0);
            map = ask();
        }
        // In words that generation.rs knows: it then goes on with smaller batches.
        if (map == MAP_FAILED) throw std::runtime_error("not enough memory for a tensor of " + std::to_string(size) + " bytes");
        block.map = block.data = static_cast<char *>(map);
        if (size >= PAGE) {
            block.data += (PAGE - reinterpret_cast<uintptr_t>(map) % PAGE) % PAGE;
            madvise(block.data, size / PAGE * PAGE, MADV_HUGEPAGE);
        }
        return block;
    }
    static void give(void *data);

    c10::Allocator *small;
    std::mutex mutex;
    std::unordered_map<void *, Block> used;
    std::multimap<size_t, Block> idle;
    size_t busy = 0, resting = 0;
};

Kept *kept = nullptr;

void Kept::give(void *data) {
    std::lock_guard<std::mutex> lock(kept->mutex);
    auto found = kept->used.find(data);
    if (found == kept->used.end()) return kept->small->raw_deallocate(data);
    const Block block = found->second;
    kept->used.erase(found);
    kept->busy -= block.size;
    kept->resting += block.size;
    kept->idle.emplace(block.size, block);
}

}  // namespace

/// From now on, for as long as the process lasts.
extern "C" void tweedie_keep_blocks() {
    if (kept) return;
    kept = new Kept(c10::GetDefaultCPUAllocator());
    c10::SetCPUAllocator(kept);
}
