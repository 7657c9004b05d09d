// device.cu on the CPU: this plays the GPU for it, one block after another, each thread of a block a thread of the system.
//
// `launch` takes what the driver's cuLaunchKernel takes: a kernel by its name, blocks, threads, and the addresses of arguments.

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <map>
#include <pthread.h>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#define __device__
#define __global__
#define __launch_bounds__(threads)
// Blocks run one after another, so they may have one memory.
#define __shared__ static

struct Place {
    unsigned x, y;
};
struct float2 {
    float x, y;
};
struct alignas(16) double2 {
    double x, y;
};

static thread_local Place threadIdx, blockIdx;
static Place gridDim;
static pthread_barrier_t *together;

static void __syncthreads() {
    if (!together) abort();  // a kernel that was said to need no others
    pthread_barrier_wait(together);
}
template <class To, class From> static To same_bits(From from) {
    static_assert(sizeof(To) == sizeof(From));
    To to;
    memcpy(&to, &from, sizeof to);
    return to;
}
static float __uint_as_float(unsigned x) { return same_bits<float>(x); }
static unsigned __float_as_uint(float x) { return same_bits<unsigned>(x); }
static double __longlong_as_double(unsigned long long x) { return same_bits<double>(x); }
static unsigned long long __double_as_longlong(double x) { return same_bits<unsigned long long>(x); }
#define __expf expf
static float __fdividef(float x, float y) { return x / y; }

#include "device.cu"

using Arguments = void *const *;
using Kernel = void (*)(Arguments);

template <auto kernel> struct Call;
template <class... Each, void (*kernel)(Each...)> struct Call<kernel> {
    template <size_t... i> static void each(Arguments all, std::index_sequence<i...>) { kernel(*(Each *)all[i]...); }
    static void with(Arguments all) { each(all, std::index_sequence_for<Each...>()); }
};

/// Threads that wait for one another: all of them at once, which go from block to block together.
static void side_by_side(Kernel kernel, unsigned threads, Arguments arguments) {
    pthread_barrier_t barrier;
    pthread_barrier_init(&barrier, nullptr, threads);
    together = &barrier;
    const auto one = [&](unsigned thread) {
        threadIdx = {thread, 0};
        for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
            for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++) {
                kernel(arguments);
                pthread_barrier_wait(&barrier);  // nobody begins the next block earlier
            }
    };
    std::vector<std::thread> all;
    for (unsigned thread = 0; thread < threads; thread++) all.emplace_back(one, thread);
    for (std::thread &thread : all) thread.join();
    together = nullptr;
    pthread_barrier_destroy(&barrier);
}

/// Threads that do not: one after another.
static void in_turn(Kernel kernel, unsigned threads, Arguments arguments) {
    for (blockIdx.y = 0; blockIdx.y < gridDim.y; blockIdx.y++)
        for (blockIdx.x = 0; blockIdx.x < gridDim.x; blockIdx.x++)
            for (threadIdx.x = 0; threadIdx.x < threads; threadIdx.x++) kernel(arguments);
}

#define IMAGES(kind)                                                                                                     \
    {"sums_" #kind, {Call<sums_##kind>::with, true}}, {"apply_" #kind, {Call<apply_##kind>::with, false}},               \
        {"add_" #kind, {Call<add_##kind>::with, false}}

/// Whether the threads of its blocks wait for one another.
static const std::map<std::string, std::pair<Kernel, bool>> KERNELS = {
    IMAGES(bf16), IMAGES(bf16_by_8), IMAGES(f32), IMAGES(f32_by_4),
    {"fold_bf16", {Call<fold_bf16>::with, true}}, {"fold_f32", {Call<fold_f32>::with, true}},
    {"normal_f32", {Call<normal_f32>::with, false}}, {"normal_f64", {Call<normal_f64>::with, false}}};

extern "C" {
/// 0, or 1 if there is no such kernel. Not to be called by two threads at once.
int launch(const char *name, unsigned across, unsigned down, unsigned threads, void *const *arguments) {
    const auto found = KERNELS.find(name);
    if (found == KERNELS.end()) return 1;
    gridDim = {across, down};
    (found->second.second ? side_by_side : in_turn)(found->second.first, threads, arguments);
    return 0;
}
double device_log(double x) { return logarithm(x); }
void device_sincos(double x, double *sine, double *cosine) {
    const double2 both = sine_and_cosine(x);
    *sine = both.x, *cosine = both.y;
}
}
