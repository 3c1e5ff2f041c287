// The one product that all arithmetic of a step goes through: a matrix, laid out as a panel, times a few vectors.
//
// A panel keeps a matrix in blocks of as many rows as a vector register of the processor has lanes (16 with AVX-512, 8
// with AVX2, else 4), so that their sums grow side by side and none has to be taken across lanes:
//
//     float32   (rows / lanes, columns, lanes)
//     8 bits    (rows / lanes, columns / 4, lanes, 4): numbers from -127 to 127 with 128 added, for the instruction
//               that multiplies four bytes without a sign by four with one, and adds them up
//
// Rows and columns are multiples of 16. In 8 bits a vector is quantised as it comes, with a scale of its own; a row of
// a panel may have one too. What comes of a vector doesn't depend on the others it is multiplied with.

#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <type_traits>
#include <vector>
#if defined(__SSE2__)
#include <immintrin.h>
#endif

#if defined(__AVX512BW__)
#define VECTOR 64  // bytes
#define X86(name) _mm512_##name
#elif defined(__AVX2__)
#define VECTOR 32
#define X86(name) _mm256_##name
#else
#define VECTOR 16
#define X86(name) _mm_##name
#endif

#define UNROLL _Pragma("GCC unroll 8")  // so that a tile's sums never leave the registers

namespace {

constexpr long LANES = VECTOR / 4;
constexpr int SUMS = VECTOR == 64 ? 24 : 12;  // most of a tile: with what they are made of they fill the registers
constexpr float ROUND = 12582912.0f;  // 1.5 * 2^23: adding it to a small number leaves no fraction
constexpr int32_t ROUND_BITS = 0x4B400000;
constexpr float POWER[] = {
    1.53375760e-4f, 1.33998599e-3f, 9.61851981e-3f, 5.55032901e-2f, 2.40226462e-1f, 6.93147182e-1f, 1.0f};

typedef float Floats __attribute__((vector_size(VECTOR)));
typedef int32_t Ints __attribute__((vector_size(VECTOR)));
typedef int16_t Shorts __attribute__((vector_size(VECTOR)));
typedef uint16_t Unsigned __attribute__((vector_size(VECTOR)));
typedef int8_t Bytes __attribute__((vector_size(LANES)));

template <class V, class T> inline V load(const T* from) {
    V v;
    std::memcpy(&v, from, sizeof v);
    return v;
}

template <class T, class V> inline void store(T* to, V v) { std::memcpy(to, &v, sizeof v); }
inline Floats larger(Floats a, Floats b) { return a > b ? a : b; }

// All lanes into one, half onto half.
template <int lanes = LANES, class V, class Join> inline float joined(V v, Join join) {
    if constexpr (lanes == 4)
        return join(join(v[0], v[2]), join(v[1], v[3]));
    else {
        typedef float Half __attribute__((vector_size(2 * lanes)));
        Half halves[2];
        std::memcpy(halves, &v, sizeof v);
        return joined<lanes / 2>(join(halves[0], halves[1]), join);
    }
}

inline float sum(Floats v) { return joined(v, [](auto a, auto b) { return a + b; }); }
inline float largest(Floats v) { return joined(v, [](auto a, auto b) { return a > b ? a : b; }); }

// Lane i: a[2 i] * b[2 i] + a[2 i + 1] * b[2 i + 1].
inline Ints pairs(Shorts a, Shorts b) {
#if defined(__SSE2__)
    typedef decltype(X86(set1_epi32)(0)) Register;
    return (Ints)X86(madd_epi16)((Register)a, (Register)b);
#else
    return ((Ints)a << 16 >> 16) * ((Ints)b << 16 >> 16) + ((Ints)a >> 16) * ((Ints)b >> 16);
#endif
}

// sums[i] += w[4 i] * a[0] + ... + w[4 i + 3] * a[3], w without and a with a sign.
inline Ints dot4(Ints sums, const uint8_t* w, const int8_t* a) {
    const Ints four = Ints{} + load<int32_t>(a);
#if defined(__AVX512VNNI__) && VECTOR == 64
    return (Ints)_mm512_dpbusd_epi32((__m512i)sums, load<__m512i>(w), (__m512i)four);
#elif defined(__AVXVNNI__) && VECTOR == 32
    return (Ints)_mm256_dpbusd_avx_epi32((__m256i)sums, load<__m256i>(w), (__m256i)four);
#else  // bytes 0 and 2, then 1 and 3
    const Shorts v = load<Shorts>(w);
    return sums + (pairs(v & 255, (Shorts)four << 8 >> 8) + pairs((Shorts)((Unsigned)v >> 8), (Shorts)four >> 8));
#endif
}

// Numbers from -127 to 127.
inline Bytes narrow(Ints v) {
#if VECTOR == 64
    return (Bytes)_mm512_cvtepi32_epi8((__m512i)v);
#elif defined(__SSE2__)
    __m128i parts[VECTOR / 16];
    std::memcpy(parts, &v, sizeof v);
    const __m128i shorts = _mm_packs_epi32(parts[0], parts[VECTOR / 16 - 1]);
    const __m128i bytes = _mm_packs_epi16(shorts, shorts);
    return load<Bytes>(&bytes);
#else
    return __builtin_convertvector(v, Bytes);
#endif
}

// 2^x for x <= 0: a polynomial for what is left of x when rounded, and the whole number added to the exponent.
inline Floats two_to(Floats x) {
    x = larger(x, Floats{} - 126.0f);
    const Floats whole = x + ROUND;
    const Floats f = x - (whole - ROUND);
    Floats p = f * POWER[0] + POWER[1];
    for (int i = 2; i < 7; i++) p = p * f + POWER[i];
    const Ints bits = load<Ints>(&p) + (load<Ints>(&whole) << 23);
    return load<Floats>(&bits);
}

// ---- Vectors, ready to be multiplied with panels of W: float, or uint8_t for 8 bits ----

struct alignas(64) Line { float number[16]; };

// Memory that only grows.
struct Room {
    std::vector<Line> lines;
    float* floats(long count) {
        if ((long)lines.size() * 16 < count) lines.resize(count / 16 + 1);
        return lines.data()->number;
    }
};

struct Vectors {
    const float* floats;  // (count, columns)
    int8_t* bytes;        // (count, columns), 8 bits alone
    float* scales;        // (count)
    int32_t* sums;        // (count): 128 times the sum of a vector's bytes
    long columns;

    // Vector b in eight bits, from numbers of which the largest is `peak`.
    void round(long b, const float* x, float peak) const {
        peak = std::max(peak, 1e-30f);
        Ints total = {};
        for (long c = 0; c < columns; c += LANES) {
            const Floats whole = load<Floats>(x + c) * (127 / peak) + ROUND;  // its lowest bits are the whole number
            const Ints numbers = load<Ints>(&whole) - ROUND_BITS;
            store(bytes + b * columns + c, narrow(numbers));
            total += numbers;
        }
        scales[b] = peak / 127;
        sums[b] = 128 * (int32_t)sum(__builtin_convertvector(total, Floats));
    }
};

struct Tray {  // where they lie
    Room floats, bytes, scales, sums;

    // Vectors that are x (count, columns), or for 8 bits have yet to be rounded.
    template <class W> Vectors vectors(const float* x, long count, long columns) {
        if (std::is_same<W, float>::value) return {x, nullptr, nullptr, nullptr, columns};
        return {x, (int8_t*)bytes.floats(count * columns / 4), scales.floats(count), (int32_t*)sums.floats(count),
                columns};
    }
};

// `count` vectors of x (count, columns), at length 1 if `unit`.
template <class W> Vectors ready(Tray& tray, const float* x, long count, long columns, bool unit = false) {
    constexpr bool plain = std::is_same<W, float>::value;
    Vectors made = tray.vectors<W>(x, count, columns);
    if (plain && !unit) return made;
    float* floats = plain ? tray.floats.floats(count * columns) : nullptr;
    for (long b = 0; b < count; b++, x += columns) {
        Floats squares = {}, top = {};
        for (long c = 0; c < columns; c += LANES) {
            const Floats v = load<Floats>(x + c);
            if (unit) squares += v * v;
            if (!plain) top = larger(top, larger(v, -v));
        }
        const float factor = unit ? 1 / std::max(std::sqrt(sum(squares)), 1e-12f) : 1;
        if (!plain) {
            made.round(b, x, largest(top));
            made.scales[b] *= factor;
        } else
            for (long c = 0; c < columns; c += LANES) store(floats + b * columns + c, load<Floats>(x + c) * factor);
    }
    if (plain) made.floats = floats;
    return made;
}

// ---- The product ----

// A panel, or some columns of it: `stride` is the number of columns that it has in all.
template <class W> struct Panel {
    const W* numbers;
    const float* scales;  // (rows), or null
    long stride;
};

// R blocks of rows times B vectors, from number b on.
template <int R, int B> inline void tile(const float* w, long stride, const Vectors& in, long b, Floats out[R][B]) {
    for (int r = 0; r < R; r++) for (int k = 0; k < B; k++) out[r][k] = Floats{};
    const float* x = in.floats + b * in.columns;
    for (long c = 0; c < in.columns; c++)
        for (int r = 0; r < R; r++) {
            const Floats v = load<Floats>(w + (r * stride + c) * LANES);
            for (int k = 0; k < B; k++) out[r][k] += v * x[k * in.columns + c];
        }
}

template <int R, int B> inline void tile(const uint8_t* w, long stride, const Vectors& in, long b, Floats out[R][B]) {
    Ints sums[R][B];
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int k = 0; k < B; k++) sums[r][k] = Ints{};
    const int8_t* x = in.bytes + b * in.columns;
    for (long c = 0; c < in.columns; c += 4)
        UNROLL for (int r = 0; r < R; r++)
            UNROLL for (int k = 0; k < B; k++)
                sums[r][k] = dot4(sums[r][k], w + (r * stride + c) * LANES, x + k * in.columns + c);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int k = 0; k < B; k++)
            out[r][k] = __builtin_convertvector(sums[r][k] - in.sums[b + k], Floats) * in.scales[b + k];
}

struct Out { float* y; long stride; bool add; };  // y (count, stride) is set, or added to

template <int R, int B, class W>
void rows(const Panel<W>& panel, long block, const Vectors& in, long b, const Out& out) {
    Floats result[R][B];
    tile<R, B>(panel.numbers + block * panel.stride * LANES, panel.stride, in, b, result);
    UNROLL for (int r = 0; r < R; r++)
        UNROLL for (int k = 0; k < B; k++) {
            float* y = out.y + (b + k) * out.stride + (block + r) * LANES;
            Floats v = result[r][k];
            if (panel.scales) v *= load<Floats>(panel.scales + (block + r) * LANES);
            store(y, out.add ? load<Floats>(y) + v : v);
        }
}

template <int R, class W>
void rows(const Panel<W>& panel, long block, const Vectors& in, long count, const Out& out) {
    long b = 0;
    constexpr int most = std::min(6, SUMS / R);
    for (; b + most <= count; b += most) rows<R, most>(panel, block, in, b, out);
    if constexpr (most > 4) for (; b + 4 <= count; b += 4) rows<R, 4>(panel, block, in, b, out);
    if constexpr (most > 2) for (; b + 2 <= count; b += 2) rows<R, 2>(panel, block, in, b, out);
    for (; b < count; b++) rows<R, 1>(panel, block, in, b, out);
}

// Blocks `begin` to `end` of a panel times `count` vectors.
template <class W>
void product(const Panel<W>& panel, long begin, long end, const Vectors& in, long count, const Out& out) {
    for (; begin + 4 <= end; begin += 4) rows<4>(panel, begin, in, count, out);
    for (; begin + 2 <= end; begin += 2) rows<2>(panel, begin, in, count, out);
    for (; begin < end; begin++) rows<1>(panel, begin, in, count, out);
}

// Where a panel has the number at (row, column).
template <class W> long at(long row, long column, long columns) {
    constexpr long side = std::is_same<W, float>::value ? 1 : 4;
    return (row / LANES * columns + column / side * side) * LANES + row % LANES * side + column % side;
}

}  // namespace
