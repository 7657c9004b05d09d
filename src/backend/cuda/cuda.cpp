// Streams, events, graphs and memory of a CUDA device, for mod.rs.
//
// Compiled against the half of libtorch that knows no CUDA, which is there in every build: a device is asked through c10's
// virtual functions. at::cuda::CUDAGraph alone has none, so that its functions come as pointers, found by name in
// libtorch_cuda, and its object lives in a buffer that is larger than itself. No exception leaves a function: each answers
// null, or why it failed, in memory that the caller frees.

#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>

namespace {

constexpr auto CUDA = c10::DeviceType::CUDA;

/// at::cuda::CUDAGraph, which has 104 bytes in libtorch 2.11.
struct Graph {
    alignas(64) unsigned char bytes[2048];
};

/// Which memory a graph takes: none in particular.
typedef std::pair<unsigned long long, unsigned long long> Pool;

/// cudaStreamCaptureModeThreadLocal: what other threads do meanwhile is their own affair.
constexpr unsigned THREAD_LOCAL = 1;

/// As in mod.rs: members of at::cuda::CUDAGraph, whose `this` is their first argument.
struct Functions {
    void (*construct)(void *, bool);
    void (*destruct)(void *);
    void (*capture_begin)(void *, Pool, unsigned);
    void (*capture_end)(void *);
    void (*replay)(void *);
};

template <class Work>
char *attempt(Work work) noexcept {
    try {
        work();
        return nullptr;
    } catch (const c10::Error &error) {
        return strdup(error.what_without_backtrace());
    } catch (const std::exception &error) {
        return strdup(error.what());
    } catch (...) {
        return strdup("unknown cause");
    }
}

c10::impl::VirtualGuardImpl cuda() {
    return c10::impl::VirtualGuardImpl(CUDA);
}

c10::Device device(int index) {
    return c10::Device(CUDA, static_cast<c10::DeviceIndex>(index));
}

c10::Stream stream(int index, int64_t id) {
    return c10::Stream(c10::Stream::UNSAFE, device(index), id);
}

}  // namespace

extern "C" {

/// The stream to which this thread gives its work.
char *tweedie_stream_current(int index, int64_t *id) {
    return attempt([&] { *id = cuda().getStream(device(index)).id(); });
}

/// One of libtorch's own streams besides the default.
char *tweedie_stream_another(int index, int64_t *id) {
    return attempt([&] { *id = cuda().getStreamFromGlobalPool(device(index)).id(); });
}

/// From now on this thread works on this device and stream; `was` is those until now.
char *tweedie_stream_enter(int index, int64_t id, int *was_index, int64_t *was_id) {
    return attempt([&] {
        *was_index = cuda().exchangeDevice(device(index)).index();
        *was_id = cuda().exchangeStream(stream(index, id)).id();
    });
}

/// Undoes it.
char *tweedie_stream_leave(int index, int64_t was_id, int was_index) {
    return attempt([&] {
        cuda().exchangeStream(stream(index, was_id));
        cuda().setDevice(device(was_index));
    });
}

char *tweedie_stream_wait(int index, int64_t id) {
    return attempt([&] { cuda().synchronizeStream(stream(index, id)); });
}

/// The moment at which the stream has done all that it was given so far.
char *tweedie_event_new(int index, int64_t id, void **event) {
    return attempt([&] {
        c10::Event made(CUDA);
        made.record(stream(index, id));
        *event = new c10::Event(std::move(made));
    });
}

/// The stream goes on after that moment only.
char *tweedie_event_block(const void *event, int index, int64_t id) {
    return attempt([&] { static_cast<const c10::Event *>(event)->block(stream(index, id)); });
}

/// This thread does.
char *tweedie_event_wait(const void *event) {
    return attempt([&] { static_cast<const c10::Event *>(event)->synchronize(); });
}

void tweedie_event_free(void *event) {
    delete static_cast<c10::Event *>(event);
}

char *tweedie_graph_new(const Functions *functions, void **graph) {
    return attempt([&] {
        Graph *made = new Graph();
        try {
            functions->construct(made, false);
        } catch (...) {
            delete made;
            throw;
        }
        *graph = made;
    });
}

char *tweedie_graph_begin(const Functions *functions, void *graph) {
    return attempt([&] { functions->capture_begin(graph, Pool(0, 0), THREAD_LOCAL); });
}

char *tweedie_graph_end(const Functions *functions, void *graph) {
    return attempt([&] { functions->capture_end(graph); });
}

char *tweedie_graph_replay(const Functions *functions, void *graph) {
    return attempt([&] { functions->replay(graph); });
}

/// After the device has done with it.
char *tweedie_graph_free(const Functions *functions, void *graph, int index) {
    char *failed = attempt([&] { cuda().synchronizeDevice(static_cast<c10::DeviceIndex>(index)); });
    functions->destruct(graph);
    delete static_cast<Graph *>(graph);
    return failed;
}

/// Gives memory that waits to be used again back to the device.
char *tweedie_memory_release() {
    return attempt([&] { c10::getDeviceAllocator(CUDA)->emptyCache(); });
}

/// The most bytes that tensors had on the device since the last call.
char *tweedie_memory_peak(int index, int64_t *bytes) {
    return attempt([&] {
        c10::DeviceAllocator *allocator = c10::getDeviceAllocator(CUDA);
        *bytes = allocator->getDeviceStats(static_cast<c10::DeviceIndex>(index)).allocated_bytes[0].peak;
        allocator->resetPeakStats(static_cast<c10::DeviceIndex>(index));
    });
}

}  // extern "C"
