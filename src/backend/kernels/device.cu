// Group normalisation, sums after a convolution, and noise, on NVIDIA GPUs.
//
// device.rs has NVRTC compile this file at run time, which finds no header then; tests have the C++ compiler do it, behind a
// header that plays the GPU (tests/device). Images are [images, pixels, channels] in memory, channels side by side.
//
// Products and sums are rounded one by one (--fmad=false), so that noise is the same on every machine; where both are to be
// rounded at once, it says fmaf. Nothing is added atomically: what a number becomes depends on the shape of its own image
// alone, not on what runs beside it.

constexpr int THREADS = 256;    // of a block, as in device.rs
constexpr int FEW = 32;         // where a block has little to do, as in device.rs
constexpr int CHANNELS = 2048;  // at most, as in device.rs
constexpr int AHEAD = 4;        // lanes that a thread has asked for before it needs the first

struct Bf16 {
    unsigned short bits;
};

__device__ inline float number(float x) { return x; }
__device__ inline float number(Bf16 x) { return __uint_as_float((unsigned)x.bits << 16); }

/// The nearest number of the kind, of two equally near ones the even; what is no number stays none.
__device__ inline void put(float &to, float x) { to = x; }
__device__ inline void put(Bf16 &to, float x) {
    const unsigned bits = __float_as_uint(x);
    to.bits = (bits & 0x7fffffff) > 0x7f800000 ? 0x7fc0 : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}

/// x / (1 + exp(−x)); for results of bf16, which has 8 bits, by the GPU's own approximations of 22.
__device__ inline float silu(float x, float) { return x / (1.f + expf(-x)); }
__device__ inline float silu(float x, Bf16) { return __fdividef(x, 1.f + __expf(-x)); }

/// So many channels that lie side by side, read or written at once.
template <class Kind, int MANY> struct alignas(MANY * sizeof(Kind)) Lane {
    Kind at[MANY];
};
template <int MANY, class Kind> __device__ inline Lane<Kind, MANY> load(const Kind *from) {
    return *(const Lane<Kind, MANY> *)from;
}
template <int MANY, class Kind> __device__ inline void store(Kind *to, const Lane<Kind, MANY> &lane) {
    *(Lane<Kind, MANY> *)to = lane;
}

/// What falls to a thread when a block goes over some pixels of an image: one lane of every `rows`-th pixel from `row` on. Are
/// there more lanes than threads, every THREADS-th lane from its own on; is there no room for one more row, nothing.
template <int MANY> struct Share {
    int lanes, rows, row, lane;
    __device__ Share(int channels) : lanes(channels / MANY) {
        rows = lanes < THREADS ? THREADS / lanes : 1;
        row = (int)threadIdx.x / lanes;
        lane = row < rows ? (int)threadIdx.x % lanes : lanes;
    }
};

/// A lane of the one and the same of the other.
template <class Kind, int MANY> struct Pair {
    Lane<Kind, MANY> one, other;
};

/// The pixels of a share, of which AHEAD are read before the first of them is written: memory then does not wait for memory.
template <int MANY> struct Ahead {
    long long start, first, last;
    int rows, channels;
    template <class Read, class Write> __device__ void each(Read read, Write write) const {
        constexpr int DEPTH = MANY > 1 ? AHEAD : 1;
        for (long long pixel = first; pixel < last; pixel += DEPTH * rows) {
            decltype(read(0)) values[DEPTH];
#pragma unroll
            for (int i = 0; i < DEPTH; i++)
                if (pixel + i * rows < last) values[i] = read(start + (pixel + i * rows) * channels);
#pragma unroll
            for (int i = 0; i < DEPTH; i++)
                if (pixel + i * rows < last) write(start + (pixel + i * rows) * channels, values[i]);
        }
    }
};

__device__ inline long long least(long long a, long long b) { return a < b ? a : b; }

/// Σ x and Σ x² over a chunk of the pixels of an image, for each of its groups: [images, groups, chunks]. Blocks: chunks, images.
///
/// A thread sums x − x₀ and its square in f32, x₀ being the first that it meets in the channel: rounding then does not grow with
/// the mean. From there on all is f64, whose digits suffice to take x₀ back in.
template <class Kind, int MANY>
__device__ void sums(const Kind *x, double2 *partial, long long pixels, int channels, int groups, int chunk) {
    __shared__ double2 each[CHANNELS];  // of rows and channels: rows · channels ≤ CHANNELS
    const Share<MANY> share(channels);
    const long long first = (long long)blockIdx.x * chunk, last = least(first + chunk, pixels), own = first + share.row;
    const Kind *image = x + blockIdx.y * pixels * channels;
    for (int lane = share.lane; lane < share.lanes; lane += THREADS) {
        float pivot[MANY] = {}, sum[MANY] = {}, square[MANY] = {};
        if (own < last) {
            const Lane<Kind, MANY> origin = load<MANY>(image + own * channels + lane * MANY);
            for (int j = 0; j < MANY; j++) pivot[j] = number(origin.at[j]);
        }
#pragma unroll(MANY > 1 ? AHEAD : 1)
        for (long long pixel = own; pixel < last; pixel += share.rows) {
            const Lane<Kind, MANY> values = load<MANY>(image + pixel * channels + lane * MANY);
            for (int j = 0; j < MANY; j++) {
                const float difference = number(values.at[j]) - pivot[j];
                sum[j] += difference;
                square[j] = fmaf(difference, difference, square[j]);
            }
        }
        const double count = own < last ? (last - own + share.rows - 1) / share.rows : 0;
        for (int j = 0; j < MANY; j++) {
            const double p = pivot[j], s = sum[j];
            each[share.row * channels + lane * MANY + j] = {s + count * p, square[j] + (2 * s + count * p) * p};
        }
    }
    __syncthreads();  // every row is there
    // Of a channel, one thread reads all rows and writes the first: no other touches either.
    for (int channel = threadIdx.x; channel < channels; channel += THREADS) {
        double2 total = each[channel];
        for (int row = 1; row < share.rows; row++) {
            total.x += each[row * channels + channel].x;
            total.y += each[row * channels + channel].y;
        }
        each[channel] = total;
    }
    __syncthreads();  // every channel is there
    const int width = channels / groups;
    for (int group = threadIdx.x; group < groups; group += THREADS) {
        double2 total = {0, 0};
        for (int channel = group * width; channel < (group + 1) * width; channel++) {
            total.x += each[channel].x;
            total.y += each[channel].y;
        }
        partial[((long long)blockIdx.y * groups + group) * gridDim.x + blockIdx.x] = total;
    }
}

/// The scale and the shift of each channel, [images, channels], from the sums of its group over `count` numbers; where `modulation`,
/// [images, 2 · channels], is given, of (1 + its first half) · the normalised + its second. Blocks of FEW: groups, images.
template <class Kind>
__device__ void fold(const double2 *partial, const Kind *weight, const Kind *bias, const Kind *modulation, float2 *folded,
                     double count, double epsilon, int channels, int chunks) {
    __shared__ double2 each[FEW];
    const int me = threadIdx.x, width = channels / (int)gridDim.x;
    const double2 *own = partial + ((long long)blockIdx.y * gridDim.x + blockIdx.x) * chunks;
    double2 total = {0, 0};
    for (int chunk = me; chunk < chunks; chunk += FEW) {
        total.x += own[chunk].x;
        total.y += own[chunk].y;
    }
    each[me] = total;
    for (int half = FEW / 2; half > 0; half /= 2) {
        __syncthreads();  // both addends are there; the half that is written is read by its own threads alone
        if (me < half) {
            each[me].x += each[me + half].x;
            each[me].y += each[me + half].y;
        }
    }
    __syncthreads();  // the total is there
    const double mean = each[0].x / count, variance = each[0].y / count - mean * mean;
    const double deviation = sqrt((variance > 0 ? variance : 0) + epsilon);
    for (int channel = blockIdx.x * width + me; channel < ((int)blockIdx.x + 1) * width; channel += FEW) {
        double scale = number(weight[channel]) / deviation, shift = number(bias[channel]) - mean * scale;
        if (modulation) {
            const Kind *halves = modulation + (long long)blockIdx.y * 2 * channels;
            const double more = 1. + number(halves[channel]);
            scale *= more;
            shift = shift * more + number(halves[channels + channel]);
        }
        folded[(long long)blockIdx.y * channels + channel] = {(float)scale, (float)shift};
    }
}

/// y = scale x + shift, or its SiLU. Blocks: tiles of pixels, images.
template <class Kind, int MANY>
__device__ void apply(const Kind *x, const float2 *folded, Kind *y, long long pixels, int channels, int tile, int activate) {
    const Share<MANY> share(channels);
    const long long first = (long long)blockIdx.x * tile, last = least(first + tile, pixels);
    const long long image = blockIdx.y * pixels * channels;
    for (int lane = share.lane; lane < share.lanes; lane += THREADS) {
        float2 own[MANY];
        for (int j = 0; j < MANY; j++) own[j] = folded[(long long)blockIdx.y * channels + lane * MANY + j];
        const Ahead<MANY> ahead = {image + lane * MANY, first + share.row, last, share.rows, channels};
        ahead.each([&](long long at) { return load<MANY>(x + at); }, [&](long long at, Lane<Kind, MANY> values) {
            for (int j = 0; j < MANY; j++) {
                const float value = fmaf(number(values.at[j]), own[j].x, own[j].y);
                put(values.at[j], activate ? silu(value, Kind()) : value);
            }
            store<MANY>(y + at, values);
        });
    }
}

/// y ← factor · (y + bias + time_bias + residual) with bias [channels] and time_bias [images, channels]; what is null is left out. Blocks:
/// tiles of pixels, images.
template <class Kind, int MANY>
__device__ void add(Kind *y, const Kind *bias, const Kind *time_bias, const Kind *residual, float factor, long long pixels,
                    int channels, int tile) {
    const Share<MANY> share(channels);
    const long long first = (long long)blockIdx.x * tile, last = least(first + tile, pixels);
    const long long image = blockIdx.y * pixels * channels;
    for (int lane = share.lane; lane < share.lanes; lane += THREADS) {
        float own[MANY];
        for (int j = 0; j < MANY; j++) {
            const int channel = lane * MANY + j;
            own[j] = bias ? number(bias[channel]) : -0.f;  // which changes no number, nor the sign of 0
            if (time_bias) own[j] += number(time_bias[(long long)blockIdx.y * channels + channel]);
        }
        const Ahead<MANY> ahead = {image + lane * MANY, first + share.row, last, share.rows, channels};
        const auto both = [&](long long at) {
            return Pair<Kind, MANY>{load<MANY>(y + at), residual ? load<MANY>(residual + at) : Lane<Kind, MANY>()};
        };
        ahead.each(both, [&](long long at, Pair<Kind, MANY> values) {
            for (int j = 0; j < MANY; j++) {
                const float value = number(values.one.at[j]) + own[j] + (residual ? number(values.other.at[j]) : -0.f);
                put(values.one.at[j], value * factor);
            }
            store<MANY>(y + at, values.one);
        });
    }
}

/// ln u for normal u ∈ (0, 1], with the bits of FreeBSD's msun (e_log.c), which the crate libm has as well: u = 2ᵏ (1 + f) with
/// 1 + f ∈ [√½, √2), and ln(1 + f) = f − f²/2 + s (f²/2 + R(s²)), s = f / (2 + f).
__device__ inline double logarithm(double u) {
    const unsigned long long bits = __double_as_longlong(u);
    const unsigned from_root = (unsigned)(bits >> 32) + (0x3ff00000 - 0x3fe6a09e);
    const int k = (int)(from_root >> 20) - 0x3ff;
    const unsigned high = (from_root & 0x000fffff) + 0x3fe6a09e;
    const double f = __longlong_as_double((unsigned long long)high << 32 | (bits & 0xffffffff)) - 1.0;
    const double half_square = 0.5 * f * f, s = f / (2.0 + f), z = s * s, w = z * z;
    const double even = w * (3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01));
    const double odd = z * (6.666666666666735130e-01 + w * (2.857142874366239149e-01
                            + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01)));
    const double remainder = odd + even;
    return s * (half_square + remainder) + k * 1.90821492927058770002e-10 - half_square + f + k * 6.93147180369123816490e-01;
}

/// x − n π/2 as a sum of two, with msun's bits (e_rem_pio2.c): π/2 comes in parts of 33 bits, as many as are needed for x that
/// nearly is n π/2.
__device__ inline double2 reduced(double x, int n, bool close) {
    const auto exponent = [](double v) { return (int)(__double_as_longlong(v) >> 52 & 0x7ff); };
    double rest = x - n * 1.57079632673412561417e+00, tail = n * 6.07710050650619224932e-11, main = rest - tail;
    if (close && exponent(x) - exponent(main) > 16) {
        double before = rest, part = n * 6.07710050630396597660e-11;
        rest = before - part;
        tail = n * 2.02226624879595063154e-21 - ((before - rest) - part);
        main = rest - tail;
        if (exponent(x) - exponent(main) > 49) {
            before = rest, part = n * 2.02226624871116645580e-21;
            rest = before - part;
            tail = n * 8.47842766036889956997e-32 - ((before - rest) - part);
            main = rest - tail;
        }
    }
    return {main, (rest - main) - tail};
}

/// sin x and cos x for x ∈ [0, 2π], with msun's bits (s_sin.c, k_sin.c, k_cos.c): polynomials of y + t, which is x less the
/// nearest n π/2. Which that is, is read from the upper half of x's bits, as there.
__device__ inline double2 sine_and_cosine(double x) {
    const unsigned high = (unsigned)(__double_as_longlong(x) >> 32);
    if (high < 0x3e46a09e) return {x, 1.0};
    const bool first = high <= 0x3fe921fb;
    const int n = first ? 0 : high <= 0x4002d97c ? 1 : high <= 0x400f6a7a ? 2 : high <= 0x4015fdbc ? 3 : 4;
    const bool close = (high & 0xfffff) == 0x921fb || high == 0x4012d97c;
    double2 parts = {x, 0};
    if (!first) parts = reduced(x, n, close);
    const double y = parts.x, t = parts.y, z = y * y, w = z * z, v = z * y;
    const double r = 8.33333333332248946124e-03 + z * (-1.98412698298579493134e-04 + z * 2.75573137070700676789e-06)
                     + z * w * (-2.50507602534068634195e-08 + z * 1.58969099521155010221e-10);
    const double c = z * (4.16666666666666019037e-02 + z * (-1.38888888888741095749e-03 + z * 2.48015872894767294178e-05))
                     + w * w * (-2.75573143513906633035e-07 + z * (2.08757232129817482790e-09 + z * -1.13596475577881948265e-11));
    const double third = -1.66666666666666324348e-01, half = 0.5 * z, one = 1.0 - half;
    const double sine = first ? y + v * (third + z * r) : y - ((z * (0.5 * t - v * r) - t) - v * third);
    const double cosine = one + (((1.0 - one) - half) + (z * c - y * t));
    switch (n & 3) {
        case 0: return {sine, cosine};
        case 1: return {cosine, -sine};
        case 2: return {-sine, -cosine};
        default: return {-cosine, sine};
    }
}

/// Block `counter` of ChaCha8 [Bernstein 2008]: sixteen words from a key of three numbers and a zero.
__device__ inline void chacha8(const unsigned long long (&key)[3], unsigned long long counter, unsigned (&out)[16]) {
    const unsigned start[16] = {0x61707865, 0x3320646e, 0x79622d32, 0x6b206574,  // "expand 32-byte k"
                                (unsigned)key[0], (unsigned)(key[0] >> 32), (unsigned)key[1], (unsigned)(key[1] >> 32),
                                (unsigned)key[2], (unsigned)(key[2] >> 32), 0, 0,
                                (unsigned)counter, (unsigned)(counter >> 32), 0, 0};
    for (int i = 0; i < 16; i++) out[i] = start[i];
    const auto turn = [](unsigned x, int by) { return x << by | x >> (32 - by); };
    const auto quarter = [&](int a, int b, int c, int d) {
        out[a] += out[b], out[d] = turn(out[d] ^ out[a], 16);
        out[c] += out[d], out[b] = turn(out[b] ^ out[c], 12);
        out[a] += out[b], out[d] = turn(out[d] ^ out[a], 8);
        out[c] += out[d], out[b] = turn(out[b] ^ out[c], 7);
    };
#pragma unroll
    for (int twice = 0; twice < 4; twice++) {
        quarter(0, 4, 8, 12), quarter(1, 5, 9, 13), quarter(2, 6, 10, 14), quarter(3, 7, 11, 15);
        quarter(0, 5, 10, 15), quarter(1, 6, 11, 12), quarter(2, 7, 8, 13), quarter(3, 4, 9, 14);
    }
    for (int i = 0; i < 16; i++) out[i] += start[i];
}

/// Standard normal numbers, [seeds, each], as `noise::stream::normal` has them, bit for bit: eight of every block of ChaCha8, of
/// which a thread computes one. Blocks: 8 · THREADS numbers, seeds.
template <class Real>
__device__ void normal(const long long *seeds, unsigned long long step, unsigned long long draw, Real *to, long long each) {
    const long long block = (long long)blockIdx.x * THREADS + threadIdx.x;
    if (8 * block >= each) return;
    const unsigned long long key[3] = {(unsigned long long)seeds[blockIdx.y], step, draw};
    unsigned words[16];
    chacha8(key, block, words);
    const auto uniform = [&](int i) {  // on (0, 1]
        const unsigned long long bits = (unsigned long long)words[2 * i + 1] << 32 | words[2 * i];
        return (double)((bits >> 11) + 1) / 9007199254740992.0;
    };
    Real *own = to + blockIdx.y * each + 8 * block;
#pragma unroll
    for (int i = 0; i < 8; i += 2) {
        const double radius = sqrt(-2.0 * logarithm(uniform(i)));
        const double2 turned = sine_and_cosine(6.283185307179586 * uniform(i + 1));
        if (8 * block + i < each) own[i] = (Real)(radius * turned.y);
        if (8 * block + i + 1 < each) own[i + 1] = (Real)(radius * turned.x);
    }
}

#define GLOBAL extern "C" __global__ void
#define IMAGES(name, Kind, MANY)                                                                                              \
    GLOBAL __launch_bounds__(THREADS) sums_##name(const Kind *x, double2 *partial, long long pixels, int channels,            \
                                                  int groups, int chunk) {                                                    \
        sums<Kind, MANY>(x, partial, pixels, channels, groups, chunk);                                                        \
    }                                                                                                                         \
    GLOBAL __launch_bounds__(THREADS) apply_##name(const Kind *x, const float2 *folded, Kind *y, long long pixels,            \
                                                   int channels, int tile, int activate) {                                    \
        apply<Kind, MANY>(x, folded, y, pixels, channels, tile, activate);                                                    \
    }                                                                                                                         \
    GLOBAL __launch_bounds__(THREADS) add_##name(Kind *y, const Kind *bias, const Kind *time_bias, const Kind *residual,           \
                                                 float factor, long long pixels, int channels, int tile) {                    \
        add<Kind, MANY>(y, bias, time_bias, residual, factor, pixels, channels, tile);                                             \
    }
IMAGES(bf16, Bf16, 1)
IMAGES(bf16_by_8, Bf16, 8)
IMAGES(f32, float, 1)
IMAGES(f32_by_4, float, 4)
#undef IMAGES

#define FOLD(name, Kind)                                                                                                      \
    GLOBAL __launch_bounds__(FEW) fold_##name(const double2 *partial, const Kind *weight, const Kind *bias, const Kind *modulation, \
                                              float2 *folded, double count, double epsilon, int channels, int chunks) {       \
        fold<Kind>(partial, weight, bias, modulation, folded, count, epsilon, channels, chunks);                                    \
    }
FOLD(bf16, Bf16)
FOLD(f32, float)

#define NORMAL(name, Real)                                                                                                    \
    GLOBAL __launch_bounds__(THREADS) normal_##name(const long long *seeds, unsigned long long step,                          \
                                                    unsigned long long draw, Real *to, long long each) {                      \
        normal<Real>(seeds, step, draw, to, each);                                                                            \
    }
NORMAL(f32, float)
NORMAL(f64, double)
