// Convolution, group normalisation and attention of f32 images on the CPU, channels side by side in memory ("NHWC").
//
// The build compiles this file once for each instruction set, with LANES floats in a vector and the table of functions
// called KERNELS; mod.rs picks one at run time. It knows pointers alone: no tensors, no C++ library. Threads are OpenMP's,
// whose pool libtorch shares.
//
// A convolution is three steps over "rows", one for each tile of outputs:
//   gather   the inputs that a row needs, into `points` matrices of [rows, depth];
//   multiply each of them by its matrix of weights, [depth, outputs];
//   scatter  the products to the outputs of the row, with all that is added to them.
// What a row becomes depends neither on the rows beside it nor on the thread, so neither does any bit of the result.

#include <omp.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

namespace {

typedef float Vector __attribute__((vector_size(4 * LANES)));
typedef float Unaligned __attribute__((vector_size(4 * LANES), aligned(4)));
typedef int32_t Integers __attribute__((vector_size(4 * LANES)));

constexpr long PANEL = 2 * LANES;              // outputs that are multiplied together
constexpr long BLOCK = LANES == 16 ? 14 : 6;   // rows that are: with their sums and two weights, all registers
constexpr size_t PAGE = 2 << 20;
constexpr long PART = 2 * BLOCK;               // rows that one thread takes on, at least
constexpr long LINE = 16;                      // floats in a line of cache
constexpr long AHEAD = 2048;                   // floats of weights that are fetched before they are multiplied
constexpr long MOMENT_PIXELS = 256, SUM_PIXELS = 64;

inline long least(long a, long b) { return a < b ? a : b; }
inline long over(long a, long b) { return (a + b - 1) / b; }
/// So many floats, in an odd number of lines of cache: neighbours in a column then do not compete for one place in it.
inline long odd_lines(long floats) { return (over(floats, LINE) | 1) * LINE; }

inline Vector load(const float *p) { return *(const Unaligned *)p; }
inline void store(float *p, Vector v) { *(Unaligned *)p = v; }
/// The first `count` of them; zeros follow.
inline Vector load(const float *p, long count) {
    if (count >= LANES) return load(p);
    Vector v = {};
    memcpy(&v, p, 4 * count);
    return v;
}
inline void store(float *p, Vector v, long count) {
    if (count >= LANES) store(p, v);
    else memcpy(p, &v, 4 * count);
}

/// exp to 2 units in the last place: 2^n · exp(r) with |r| ≤ ln 2 / 2, and exp(r) by the polynomial of Cephes' expf.
inline Vector exponential(Vector x) {
    x = x > 88.f ? Vector{} + 88.f : x;
    x = x < -87.f ? Vector{} - 87.f : x;
    const float round = 12582912.f;  // 1.5 · 2^23: what is added to it loses its fraction
    Vector n = (x * 1.44269504088896341f + round) - round;
    Vector r = x - n * 0.693359375f + n * 2.12194440e-4f;
    Vector p = 1.9875691500e-4f * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * (r * r) + r + 1.f;
    Integers power = (__builtin_convertvector(n, Integers) + 127) << 23;
    return p * (Vector)power;
}
inline Vector silu(Vector x) { return x / (1.f + exponential(-x)); }

/// Nobody below could go on: a thread of many has nothing to compute with.
[[noreturn]] void no_memory(size_t bytes) {
    fprintf(stderr, "error: not enough memory for %zu bytes of a layer's work: try a smaller --batch\n", bytes);
    _Exit(2);
}

/// Memory that a thread keeps between calls, in pages of 2 MiB where the system has them.
struct Scratch {
    float *p = nullptr;
    size_t size = 0;
    ~Scratch() { free(p); }
    float *floats(size_t count) {
        if (count > size) {
            free(p);
            const size_t bytes = (4 * count + PAGE - 1) / PAGE * PAGE;
            p = (float *)aligned_alloc(PAGE, bytes);
            if (!p) no_memory(bytes);
            madvise(p, bytes, MADV_HUGEPAGE);
            size = count;
        }
        return p;
    }
};
thread_local Scratch rows_scratch, patch_scratch;

struct Convolution {  // as in mod.rs
    const float *x, *weights, *bias, *scale, *shift, *time_bias, *residual;
    float *y;
    float factor;
    int activate, threads;
    long images, height, width, inputs, outputs, out_height, out_width;
    long size, stride, padding, dilation;
};

/// What an input becomes on its way in: silu(scale x + shift), each of the image and the channel; or itself.
inline Vector entered(const Convolution &job, const float *x, long image, long channel) {
    const long left = job.inputs - channel;
    Vector v = load(x, left);
    if (!job.scale) return v;
    const long at = image * job.inputs + channel;
    v = v * load(job.scale + at, left) + load(job.shift + at, left);
    return job.activate ? silu(v) : v;
}

/// `count` pixels of a row of the image, from `column`, to `to`; zeros where there are none.
inline void copy_pixels(const Convolution &job, long image, long row, long column, long count, float *to, long stride) {
    const bool inside = row >= 0 && row < job.height;
    for (long i = 0; i < count; i++, column++, to += stride) {
        if (!inside || column < 0 || column >= job.width) {
            memset(to, 0, 4 * stride);
            continue;
        }
        const float *from = job.x + ((image * job.height + row) * job.width + column) * job.inputs;
        for (long c = 0; c < job.inputs; c += LANES) store(to + c, entered(job, from + c, image, c), job.inputs - c);
    }
}

/// factor · (v + bias + time_bias + residual) to one output.
inline void leave(const Convolution &job, long image, long pixel, long channel, Vector v) {
    const long left = job.outputs - channel, at = pixel * job.outputs + channel;
    if (job.bias) v += load(job.bias + channel, left);
    if (job.time_bias) v += load(job.time_bias + image * job.outputs + channel, left);
    if (job.residual) v += load(job.residual + at, left);
    store(job.y + at, v * job.factor, left);
}

/// F(m×m, 3×3) [Lavin & Gray 2016]: Y = Aᵀ [(G g Gᵀ) ⊙ (Bᵀ d B)] A, for tiles d of (m + 2)² inputs and Y of m² outputs.
template <int M> struct Transform;

/// [Lavin & Gray 2016, §4.3], from interpolation at 0, ±1, ±2 and ∞.
template <> struct Transform<4> {
    static constexpr double G[6][3] = {{1. / 4, 0, 0},           {-1. / 6, -1. / 6, -1. / 6}, {-1. / 6, 1. / 6, -1. / 6},
                                       {1. / 24, 1. / 12, 1. / 6}, {1. / 24, -1. / 12, 1. / 6}, {0, 0, 1}};
    /// Bᵀ d.
    static inline void enter(Vector *d, int s) {
        const Vector d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s], d4 = d[4 * s], d5 = d[5 * s];
        const Vector even = d4 - 4.f * d2, odd = d3 - 4.f * d1, difference = d4 - d2, twice = 2.f * (d3 - d1);
        d[0] = 4.f * d0 - 5.f * d2 + d4;
        d[s] = even + odd;
        d[2 * s] = even - odd;
        d[3 * s] = difference + twice;
        d[4 * s] = difference - twice;
        d[5 * s] = 4.f * d1 - 5.f * d3 + d5;
    }
    /// Aᵀ m.
    static inline void leave(const Vector *m, int s, Vector *y, int t) {
        const Vector sum1 = m[s] + m[2 * s], difference1 = m[s] - m[2 * s];
        const Vector sum2 = m[3 * s] + m[4 * s], difference2 = m[3 * s] - m[4 * s];
        y[0] = m[0] + sum1 + sum2;
        y[t] = difference1 + 2.f * difference2;
        y[2 * t] = sum1 + 4.f * sum2;
        y[3 * t] = difference1 + 8.f * difference2 + m[5 * s];
    }
};
constexpr double Transform<4>::G[6][3];

/// [Lavin & Gray 2016, §4.1], from interpolation at 0, ±1 and ∞.
template <> struct Transform<2> {
    static constexpr double G[4][3] = {{1, 0, 0}, {.5, .5, .5}, {.5, -.5, .5}, {0, 0, 1}};
    static inline void enter(Vector *d, int s) {
        const Vector d0 = d[0], d1 = d[s], d2 = d[2 * s], d3 = d[3 * s];
        d[0] = d0 - d2;
        d[s] = d1 + d2;
        d[2 * s] = d2 - d1;
        d[3 * s] = d1 - d3;
    }
    static inline void leave(const Vector *m, int s, Vector *y, int t) {
        y[0] = m[0] + m[s] + m[2 * s];
        y[t] = m[s] - m[2 * s] - m[3 * s];
    }
};
constexpr double Transform<2>::G[4][3];

/// Rows are tiles of M×M outputs.
template <int M> struct Winograd {
    static constexpr int SIDE = M + 2;
    static constexpr long points = SIDE * SIDE;
    static long depth(const Convolution &job) { return job.inputs; }
    static long rows(const Convolution &job) { return job.images * over(job.height, M) * over(job.width, M); }
    /// Whether the input itself is the matrix.
    static bool bare(const Convolution &) { return false; }

    /// Rows `first` … `last` − 1, which are `base` … of the matrices, `line` floats apart; these are `plane` floats apart.
    static void gather(const Convolution &job, long first, long last, float *to, long line, long plane) {
        const long across = over(job.width, M), down = over(job.height, M), pixel = odd_lines(job.inputs);
        for (long row = first; row < last;) {
            const long column = row % across, y = row / across % down, image = row / across / down;
            const long count = least(last - row, across - column), wide = count * M + 2;
            float *patch = patch_scratch.floats(SIDE * wide * pixel);
            for (int i = 0; i < SIDE; i++)
                copy_pixels(job, image, y * M + i - 1, column * M - 1, wide, patch + i * wide * pixel, pixel);
            for (long t = 0; t < count; t++, row++)
                tile(job, patch + t * M * pixel, wide * pixel, pixel, to + (row - first) * line, plane);
        }
    }
    static void tile(const Convolution &job, const float *patch, long down, long across, float *to, long plane) {
        for (long c = 0; c < job.inputs; c += LANES) {
            Vector d[points];
            for (int j = 0; j < SIDE; j++) {
                for (int i = 0; i < SIDE; i++) d[i * SIDE + j] = load(patch + i * down + j * across + c);
                Transform<M>::enter(d + j, SIDE);
            }
            for (int i = 0; i < SIDE; i++) {
                Transform<M>::enter(d + i * SIDE, 1);
                for (int j = 0; j < SIDE; j++) store(to + (i * SIDE + j) * plane + c, d[i * SIDE + j]);
            }
        }
    }
    static void scatter(const Convolution &job, long first, long last, const float *from, long line, long plane) {
        const long across = over(job.width, M), down = over(job.height, M);
        for (long row = first; row < last; row++, from += line) {
            const long x = row % across * M, y = row / across % down * M, image = row / across / down;
            const long height = least(M, job.height - y), width = least(M, job.width - x);
            for (long k = 0; k < job.outputs; k += LANES) {
                Vector m[points], half[SIDE * M], out[M * M];
                for (int j = 0; j < SIDE; j++) {
                    for (int i = 0; i < SIDE; i++) m[i * SIDE + j] = load(from + (i * SIDE + j) * plane + k);
                    Transform<M>::leave(m + j, SIDE, half + j, SIDE);
                }
                for (int i = 0; i < M; i++) Transform<M>::leave(half + i * SIDE, 1, out + i * M, 1);
                for (long i = 0; i < height; i++)
                    for (long j = 0; j < width; j++)
                        leave(job, image, (image * job.height + y + i) * job.width + x + j, k, out[i * M + j]);
            }
        }
    }
    /// G g Gᵀ of one filter g, 3×3, to its place in every matrix.
    static void pack(const float *g, long, float *to, long plane, long) {
        const auto &G = Transform<M>::G;
        double half[SIDE][3];
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < 3; j++) half[i][j] = G[i][0] * g[j] + G[i][1] * g[3 + j] + G[i][2] * g[6 + j];
        for (int i = 0; i < SIDE; i++)
            for (int j = 0; j < SIDE; j++)
                to[(i * SIDE + j) * plane] = float(half[i][0] * G[j][0] + half[i][1] * G[j][1] + half[i][2] * G[j][2]);
    }
};

/// Rows are single outputs, whose inputs lie side by side: any size, stride, padding and dilation.
struct Direct {
    static constexpr long points = 1;
    static long depth(const Convolution &job) { return job.size * job.size * job.inputs; }
    static long rows(const Convolution &job) { return job.images * job.out_height * job.out_width; }
    static bool bare(const Convolution &job) {
        return job.size == 1 && job.stride == 1 && job.padding == 0 && !job.scale;
    }
    static void gather(const Convolution &job, long first, long last, float *to, long line, long) {
        for (long row = first; row < last; row++, to += line) {
            const long x = row % job.out_width, y = row / job.out_width % job.out_height;
            const long image = row / job.out_width / job.out_height;
            for (long tap = 0; tap < job.size * job.size; tap++) {
                const long down = y * job.stride - job.padding + tap / job.size * job.dilation;
                const long across = x * job.stride - job.padding + tap % job.size * job.dilation;
                copy_pixels(job, image, down, across, 1, to + tap * job.inputs, job.inputs);
            }
        }
    }
    static void scatter(const Convolution &job, long first, long last, const float *from, long line, long) {
        const long pixels = job.out_height * job.out_width;
        for (long row = first; row < last; row++, from += line)
            for (long k = 0; k < job.outputs; k += LANES) leave(job, row / pixels, row, k, load(from + k));
    }
    static void pack(const float *g, long size, float *to, long, long tap) {
        for (long i = 0; i < size * size; i++) to[i * tap] = g[i];
    }
};

/// `ROWS` rows of a, `line_a` apart, times a panel of weights, [depth, PANEL]. The weights that follow are fetched
/// meanwhile: all convolutions of an image of ddpm-cifar10 take 15 % less time so.
template <int ROWS>
inline __attribute__((always_inline)) void block(const float *a, long line_a, const float *b, float *c, long line_c,
                                                 long depth) {
    Vector sums[ROWS][2] = {};
    for (long k = 0; k < depth; k++) {
        for (long i = 0; i < PANEL; i += LINE) __builtin_prefetch(b + k * PANEL + i + AHEAD);
        const Vector b0 = load(b + k * PANEL), b1 = load(b + k * PANEL + LANES);
#pragma GCC unroll 14
        for (int r = 0; r < ROWS; r++) {
            sums[r][0] += a[r * line_a + k] * b0;
            sums[r][1] += a[r * line_a + k] * b1;
        }
    }
#pragma GCC unroll 14
    for (int r = 0; r < ROWS; r++) {
        store(c + r * line_c, sums[r][0]);
        store(c + r * line_c + LANES, sums[r][1]);
    }
}

template <int ROWS> void some(long rows, const float *a, long line_a, const float *b, float *c, long line_c, long depth) {
    if constexpr (ROWS > 0) {
        if (rows == ROWS) block<ROWS>(a, line_a, b, c, line_c, depth);
        else some<ROWS - 1>(rows, a, line_a, b, c, line_c, depth);
    }
}

/// Rows times one panel, in blocks of nearly the same size.
void multiply(const float *a, long line_a, const float *b, float *c, long line_c, long rows, long depth) {
    const long blocks = over(rows, BLOCK);
    for (long i = 0; i < blocks; i++) {
        const long first = rows * i / blocks, count = rows * (i + 1) / blocks - first;
        some<BLOCK>(count, a + first * line_a, line_a, b, c + first * line_c, line_c, depth);
    }
}

/// One thread's share of one part of the rows.
template <class Method> struct Part {
    const Convolution &job;
    long first, last, depth, panels, line_a, line_c, plane_a, plane_c;
    const float *a;
    float *gathered, *products;

    static size_t floats(const Convolution &job, long rows) {
        const Part part(job, 0, rows, nullptr);
        return Method::points * (part.plane_a + part.plane_c) + LANES;
    }
    Part(const Convolution &job, long first, long last, float *memory) : job(job), first(first), last(last) {
        depth = Method::depth(job);
        panels = over(job.outputs, PANEL);
        line_a = odd_lines(depth);
        line_c = odd_lines(panels * PANEL);
        // One more line, so that points do not compete for one place in the cache either.
        plane_a = odd_lines((last - first) * line_a);
        plane_c = odd_lines((last - first) * line_c);
        gathered = memory;
        products = memory + Method::points * plane_a;
        a = gathered;
        if (Method::bare(job)) a = job.x + first * depth, line_a = depth;
    }
    void gather(long from, long to) const {
        if (!Method::bare(job))
            Method::gather(job, first + from, first + to, gathered + from * line_a, line_a, plane_a);
    }
    void multiply_panels(long from, long to) const {
        for (long i = from; i < to; i++) {
            const long point = i / panels, panel = i % panels;
            multiply(a + point * plane_a, line_a, job.weights + i * depth * PANEL,
                     products + point * plane_c + panel * PANEL, line_c, last - first, depth);
        }
    }
    void scatter(long from, long to) const {
        Method::scatter(job, first + from, first + to, products + from * line_c, line_c, plane_c);
    }
};

/// Where there are rows enough, each thread takes parts of them through all three steps; else all threads share each step,
/// so that every weight is read by one of them only.
template <class Method> void run(const Convolution &job) {
    const long rows = Method::rows(job), panels = over(job.outputs, PANEL) * Method::points;
    const long threads = job.threads;
    if (rows >= threads * PART) {
        const long parts = over(over(rows, 2 * PART), threads) * threads;
        const size_t floats = Part<Method>::floats(job, over(rows, parts));
#pragma omp parallel for schedule(dynamic) num_threads(threads)
        for (long i = 0; i < parts; i++) {
            const Part<Method> part(job, rows * i / parts, rows * (i + 1) / parts, rows_scratch.floats(floats));
            part.gather(0, part.last - part.first);
            part.multiply_panels(0, panels);
            part.scatter(0, part.last - part.first);
        }
        return;
    }
    const Part<Method> part(job, 0, rows, rows_scratch.floats(Part<Method>::floats(job, rows)));
#pragma omp parallel num_threads(threads)
    {
        const long me = omp_get_thread_num(), team = omp_get_num_threads();
        part.gather(rows * me / team, rows * (me + 1) / team);
#pragma omp barrier
        // In small pieces: a thread that others keep from its core then holds up nobody for long.
#pragma omp for schedule(dynamic, 4)
        for (long i = 0; i < panels; i++) part.multiply_panels(i, i + 1);
        part.scatter(rows * me / team, rows * (me + 1) / team);
    }
}

/// Weights [outputs, inputs, size, size] to [points, panels, depth, PANEL], which is zeros before, and stays so after the last
/// output.
template <class Method> void pack(const Convolution &job, const float *weights, float *to) {
    const long taps = job.size * job.size, panels = over(job.outputs, PANEL), depth = Method::depth(job);
    const long plane = panels * depth * PANEL;
#pragma omp parallel for num_threads(job.threads)
    for (long k = 0; k < job.outputs; k++)
        for (long c = 0; c < job.inputs; c++)
            Method::pack(weights + (k * job.inputs + c) * taps, job.size,
                         to + (k / PANEL * depth + c) * PANEL + k % PANEL, plane, job.inputs * PANEL);
}

template <class Method> long packed(const Convolution &job) {
    return Method::points * over(job.outputs, PANEL) * PANEL * Method::depth(job);
}

/// 4 and 2 are Winograd's M, 1 is direct.
void convolve(int method, const Convolution *job) {
    if (method == 4) run<Winograd<4>>(*job);
    else if (method == 2) run<Winograd<2>>(*job);
    else run<Direct>(*job);
}
void pack_weights(int method, const Convolution *job, const float *weights, float *to) {
    if (method == 4) pack<Winograd<4>>(*job, weights, to);
    else if (method == 2) pack<Winograd<2>>(*job, weights, to);
    else pack<Direct>(*job, weights, to);
}
long packed_floats(int method, const Convolution *job) {
    if (method == 4) return packed<Winograd<4>>(*job);
    return method == 2 ? packed<Winograd<2>>(*job) : packed<Direct>(*job);
}

struct Normalisation {  // as in mod.rs
    const float *x, *weight, *bias, *modulation;
    float *scale, *shift, *mean, *rate;
    double epsilon;
    int threads;
    long images, pixels, channels, groups;
};

/// Sums of x − x₀ and of its square over some pixels of an image, x₀ being the channel's first pixel: rounding then does
/// not grow with the mean.
void sum_pixels(const float *x, const float *pivot, long pixels, long channels, double *sums, double *squares) {
    for (long c = 0; c < channels; c += LANES) {
        const long left = channels - c;
        const Vector p = load(pivot + c, left);
        for (long first = 0; first < pixels; first += SUM_PIXELS) {
            Vector sum = {}, square = {};
            for (long i = first; i < least(first + SUM_PIXELS, pixels); i++) {
                const Vector v = load(x + i * channels + c, left) - p;
                sum += v;
                square += v * v;
            }
            for (long i = 0; i < least(LANES, left); i++) sums[c + i] += sum[i], squares[c + i] += square[i];
        }
    }
}

/// The sums of all parts of an image, each of `size` numbers, in the place of the first.
double *add_parts(double *sums, long parts, long size) {
    for (long part = 1; part < parts; part++)
        for (long i = 0; i < size; i++) sums[i] += sums[part * size + i];
    return sums;
}

/// The scale and the shift of each channel of an image, from its sums.
void fold(const Normalisation &job, long image, const double *sums, const double *squares) {
    const long width = job.channels / job.groups;
    const float *pivot = job.x + image * job.pixels * job.channels;
    const double count = double(job.pixels) * width;
    for (long first = 0; first < job.channels; first += width) {
        double mean = 0, square = 0;
        for (long c = first; c < first + width; c++) {
            const double p = double(pivot[c]) - pivot[first];
            mean += sums[c] + job.pixels * p;
            square += squares[c] + 2 * p * sums[c] + job.pixels * p * p;
        }
        mean /= count;
        const double variance = square / count - mean * mean;
        const double deviation = __builtin_sqrt((variance > 0 ? variance : 0) + job.epsilon);
        const long group = image * job.groups + first / width;
        job.mean[group] = float(mean + pivot[first]), job.rate[group] = float(1 / deviation);
        for (long c = first; c < first + width; c++) {
            double scale = job.weight[c] / deviation, shift = job.bias[c] - (mean + pivot[first]) * scale;
            if (job.modulation) {
                const float *modulation = job.modulation + image * 2 * job.channels;
                scale *= 1. + modulation[c];
                shift = shift * (1. + modulation[c]) + modulation[job.channels + c];
            }
            job.scale[image * job.channels + c] = float(scale);
            job.shift[image * job.channels + c] = float(shift);
        }
    }
}

/// Group normalisation as scale x + shift; where `modulation` is given, (1 + modulation) · that + the other half of modulation.
void moments(const Normalisation *given) {
    const Normalisation &job = *given;
    const long parts = over(job.pixels, MOMENT_PIXELS), size = 2 * job.channels;
    double *sums = (double *)calloc(job.images * parts * size, sizeof(double));
    if (!sums) no_memory(job.images * parts * size * sizeof(double));
#pragma omp parallel num_threads(job.threads)
    {
#pragma omp for
        for (long i = 0; i < job.images * parts; i++) {
            const long image = i / parts, first = i % parts * MOMENT_PIXELS;
            const float *x = job.x + image * job.pixels * job.channels;
            sum_pixels(x + first * job.channels, x, least(MOMENT_PIXELS, job.pixels - first), job.channels,
                       sums + i * size, sums + i * size + job.channels);
        }
#pragma omp for
        for (long image = 0; image < job.images; image++) {
            double *total = add_parts(sums + image * parts * size, parts, size);
            fold(job, image, total, total + job.channels);
        }
    }
    free(sums);
}

/// y = scale x + shift of each image and channel, or its SiLU.
void apply(const Normalisation *job, int activate, float *y) {
    Convolution each = {};
    each.x = job->x, each.scale = job->scale, each.shift = job->shift, each.activate = activate;
    each.inputs = job->channels;
#pragma omp parallel for num_threads(job->threads)
    for (long i = 0; i < job->images * job->pixels; i++)
        for (long c = 0; c < job->channels; c += LANES) {
            const long at = i * job->channels + c;
            store(y + at, entered(each, job->x + at, i / job->pixels, c), job->channels - c);
        }
}

/// d silu(u)/du = s (1 + u (1 − s)), s = 1/(1 + exp(−u)).
inline Vector silu_slope(Vector u) {
    const Vector s = 1.f / (1.f + exponential(-u));
    return s * (1.f + u * (1.f - s));
}

/// Of some pixels of an image: the gradient of u = scale x + shift from that of silu(u) or u, to `to`, and the sums of it and
/// of its product with x − x₀, as in `sum_pixels`.
void slope_pixels(const Normalisation &job, int activate, long image, long first, long last, const float *gradient,
                  float *to, double *sums, double *products) {
    const long channels = job.channels;
    const float *pivot = job.x + image * job.pixels * channels;
    for (; first < last; first += SUM_PIXELS)
        for (long c = 0; c < channels; c += LANES) {
            const long left = channels - c;
            const Vector a = load(job.scale + image * channels + c, left), b = load(job.shift + image * channels + c, left);
            const Vector p = load(pivot + c, left);
            Vector sum = {}, product = {};
            for (long i = first; i < least(first + SUM_PIXELS, last); i++) {
                const long at = (image * job.pixels + i) * channels + c;
                const Vector x = load(job.x + at, left);
                Vector slope = load(gradient + at, left);
                if (activate) slope *= silu_slope(a * x + b);
                store(to + at, slope, left);
                sum += slope;
                product += slope * (x - p);
            }
            for (long i = 0; i < least(LANES, left); i++) sums[c + i] += sum[i], products[c + i] += product[i];
        }
}

/// What the sums of an image make of the gradient du of u = γ r (x − μ) + β, for a group of N numbers, where
/// γ = weight (1 + modulation): dx = scale du − r/N Σ γ du − r² (x − μ)/N Σ γ r (x − μ) du = scale du + slope x + offset. Those of
/// the two halves of modulation are Σ (u − told₂)/(1 + told₁) du and Σ du.
void fold_slopes(const Normalisation &job, long image, const double *sums, double *products, float *slope, float *offset,
                 float *d_told) {
    const long channels = job.channels, width = channels / job.groups;
    const float *pivot = job.x + image * job.pixels * channels;
    const double count = double(job.pixels) * width;
    for (long first = 0; first < channels; first += width) {
        const double mean = job.mean[image * job.groups + first / width], rate = job.rate[image * job.groups + first / width];
        double plain = 0, along = 0;
        for (long c = first; c < first + width; c++) {
            products[c] = rate * (products[c] + (pivot[c] - mean) * sums[c]);
            const double gain = job.weight[c] * (job.modulation ? 1. + job.modulation[image * 2 * channels + c] : 1.);
            plain += gain * sums[c], along += gain * products[c];
        }
        const double by_x = -rate * rate * along / count, constant = -rate * plain / count - by_x * mean;
        for (long c = first; c < first + width; c++) slope[c] = float(by_x), offset[c] = float(constant);
    }
    if (!d_told) return;
    for (long c = 0; c < channels; c++) {
        d_told[c] = float(job.weight[c] * products[c] + job.bias[c] * sums[c]);
        d_told[channels + c] = float(sums[c]);
    }
}

/// The gradient of x from that of silu(scale x + shift), or without silu, where `moments` gave both; and that of `modulation`, if
/// `d_told` is there. `d_x` may be where `gradient` is.
void slopes(const Normalisation *given, int activate, const float *gradient, float *d_x, float *d_told) {
    const Normalisation &job = *given;
    const long parts = over(job.pixels, MOMENT_PIXELS), size = 2 * job.channels;
    double *sums = (double *)calloc(job.images * parts * size, sizeof(double));
    float *folded = (float *)malloc(job.images * size * sizeof(float));
    if (!sums || !folded) no_memory(job.images * size * (parts * sizeof(double) + sizeof(float)));
#pragma omp parallel num_threads(job.threads)
    {
#pragma omp for
        for (long i = 0; i < job.images * parts; i++) {
            const long first = i % parts * MOMENT_PIXELS;
            slope_pixels(job, activate, i / parts, first, least(first + MOMENT_PIXELS, job.pixels), gradient, d_x,
                         sums + i * size, sums + i * size + job.channels);
        }
#pragma omp for
        for (long image = 0; image < job.images; image++) {
            double *total = add_parts(sums + image * parts * size, parts, size);
            fold_slopes(job, image, total, total + job.channels, folded + image * size, folded + image * size + job.channels,
                        d_told ? d_told + image * size : nullptr);
        }
#pragma omp for
        for (long i = 0; i < job.images * job.pixels; i++) {
            const long image = i / job.pixels;
            const float *slope = folded + image * size, *scale = job.scale + image * job.channels;
            for (long c = 0; c < job.channels; c += LANES) {
                const long left = job.channels - c, at = i * job.channels + c;
                const Vector straight = load(scale + c, left) * load(d_x + at, left);
                const Vector bent = load(slope + c, left) * load(job.x + at, left) + load(slope + job.channels + c, left);
                store(d_x + at, straight + bent, left);
            }
        }
    }
    free(folded);
    free(sums);
}

struct Attention {  // as in mod.rs
    const float *query, *key, *value;
    float *y;
    double scale;
    int threads;
    long images, heads, queries, keys, width;
    long query_steps[3], key_steps[3], value_steps[3];  // floats from one image, row and head to the next
};

inline const float *row_of(const float *p, const long steps[3], long image, long row, long head) {
    return p + image * steps[0] + row * steps[1] + head * steps[2];
}

/// exp(scale (x − max x)) of `count` numbers in place, and 1 by their sum. There is room for whole vectors.
inline float exponentials(float *x, long count, float scale) {
    for (long i = count; i % LANES; i++) x[i] = -__builtin_inff();
    Vector most = load(x), sums = {};
    for (long i = LANES; i < count; i += LANES) {
        const Vector v = load(x + i);
        most = v > most ? v : most;
    }
    float top = most[0], sum = 0;
    for (long i = 1; i < LANES; i++) top = most[i] > top ? most[i] : top;
    for (long i = 0; i < count; i += LANES) {
        const Vector v = exponential(scale * (load(x + i) - top));
        store(x + i, v);
        sums += v;
    }
    for (long i = 0; i < LANES; i++) sum += sums[i];
    return 1 / sum;
}

/// softmax(scale Q Kᵀ) V of each image and head, some of them at a time. Their keys and values are laid in panels first, as
/// weights are; then a thread takes some queries with all keys, so that a row of the softmax is whole.
void attend(const Attention *given) {
    const Attention &job = *given;
    const long key_panels = over(job.keys, PANEL), value_panels = over(job.width, PANEL);
    const long line = odd_lines(key_panels * PANEL), line_y = value_panels * PANEL;
    const long keys_size = key_panels * PANEL * job.width, size = keys_size + value_panels * PANEL * job.keys;
    const long pairs = job.images * job.heads, parts = over(job.queries, PART);
    const long group = least(pairs, 8 * job.threads);
    float *packed = rows_scratch.floats(group * size);
#pragma omp parallel num_threads(job.threads)
    for (long start = 0; start < pairs; start += group) {
        const long stop = least(start + group, pairs);
#pragma omp for schedule(dynamic)
        for (long pair = start; pair < stop; pair++) {
            const long image = pair / job.heads, head = pair % job.heads;
            float *to_keys = packed + (pair - start) * size, *to_values = to_keys + keys_size;
            memset(to_keys, 0, 4 * size);
            for (long row = 0; row < job.keys; row++) {
                const float *key = row_of(job.key, job.key_steps, image, row, head);
                const float *value = row_of(job.value, job.value_steps, image, row, head);
                float *column = to_keys + row / PANEL * PANEL * job.width + row % PANEL;
                for (long c = 0; c < job.width; c++) column[c * PANEL] = key[c];
                for (long c = 0; c < job.width; c += PANEL)
                    memcpy(to_values + (c * job.keys + row * PANEL), value + c, 4 * least(PANEL, job.width - c));
            }
        }
#pragma omp for schedule(dynamic)
        for (long i = start * parts; i < stop * parts; i++) {
            const long pair = i / parts, image = pair / job.heads, head = pair % job.heads;
            const long first = job.queries * (i % parts) / parts, rows = job.queries * (i % parts + 1) / parts - first;
            const float *keys = packed + (pair - start) * size, *values = keys + keys_size;
            const float *query = row_of(job.query, job.query_steps, image, first, head);
            float *scores = patch_scratch.floats(rows * (line + line_y)), *mixed = scores + rows * line;
            float rates[PART];
            for (long panel = 0; panel < key_panels; panel++)
                multiply(query, job.query_steps[1], keys + panel * PANEL * job.width, scores + panel * PANEL, line, rows,
                         job.width);
            for (long row = 0; row < rows; row++)
                rates[row] = exponentials(scores + row * line, job.keys, float(job.scale));
            for (long panel = 0; panel < value_panels; panel++)
                multiply(scores, line, values + panel * PANEL * job.keys, mixed + panel * PANEL, line_y, rows, job.keys);
            for (long row = 0; row < rows; row++) {
                float *y = job.y + ((image * job.queries + first + row) * job.heads + head) * job.width;
                for (long c = 0; c < job.width; c += LANES)
                    store(y + c, load(mixed + row * line_y + c) * rates[row], job.width - c);
            }
        }
    }
}

}  // namespace

extern "C" {
struct Kernels {  // as in mod.rs
    void (*convolve)(int, const Convolution *);
    void (*pack)(int, const Convolution *, const float *, float *);
    long (*packed)(int, const Convolution *);
    void (*moments)(const Normalisation *);
    void (*apply)(const Normalisation *, int, float *);
    void (*slopes)(const Normalisation *, int, const float *, float *, float *);
    void (*attend)(const Attention *);
};
extern const Kernels KERNELS;
const Kernels KERNELS = {convolve, pack_weights, packed_floats, moments, apply, slopes, attend};
}
