// Products of rows with packed weights.
//
// A tile is R rows by P panels of 16 outputs, its sums in registers. Every output is one chain of additions over
// the columns in order, so that a tile's shape changes the speed and never a bit. In int8 a chain is exact in
// whole numbers within each group of 64 columns: 127 * 32767 * 64 is below 2^31.
#pragma once
#include <cmath>
#include <type_traits>

#include "team.hpp"
#include "vectors.hpp"

namespace sealgate {

constexpr int PANEL = 16;
constexpr int GROUP = 64;
constexpr int TASK_PANELS = 4;
constexpr int TILE_ROWS = 6;
constexpr float ACTIVATION_STEPS = 32767.f;

inline int panels_of(const sg_linear &w) { return (w.rows + PANEL - 1) / PANEL; }
inline int pairs_of(const sg_linear &w) { return (w.columns + 1) / 2; }
inline int groups_of(const sg_linear &w) { return (w.columns + GROUP - 1) / GROUP; }

// What a product reads: float rows, and for int8 the same rows in whole numbers.
struct Rows {
    const float *x;
    int64_t stride;
    int16_t *whole;  // (R, whole_stride), null unless the model is int8
    int64_t whole_stride;
    float *scales;
};

// One row in 32,767 steps of its own largest value. A row that is not finite gets a scale that is not.
inline void quantise(const Rows &rows, int row, int width) {
    const float *x = rows.x + row * rows.stride;
    int16_t *to = rows.whole + row * rows.whole_stride;
    const Vec magnitude = _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff));
    Vec largest = zero(), odd = zero();
    int i = 0;
    for (; i + LANES <= width; i += LANES) {
        const Vec v = load(x + i);
        largest = _mm256_max_ps(largest, _mm256_and_ps(v, magnitude));
        odd = mul_add(v, zero(), odd);  // NaN once a value is NaN or infinite
    }
    float lanes[LANES], most = 0, poison = sum(odd);
    store(lanes, largest);
    for (float lane : lanes) most = std::max(most, lane);
    for (int j = i; j < width; ++j) {
        most = std::max(most, std::fabs(x[j]));
        poison += x[j] * 0.f;
    }
    rows.scales[row] = most / ACTIVATION_STEPS + poison;
    const float steps = most > 0 && poison == 0 ? ACTIVATION_STEPS / most : 0.f;
    const bool usable = steps < 3e38f;  // the reciprocal of a denormal is infinite
    const Vec scale = all(usable ? steps : 0.f);
    for (i = 0; i + LANES <= width; i += LANES) {
        const __m256i wide = _mm256_cvtps_epi32(_mm256_mul_ps(load(x + i), scale));
        const __m128i packed = _mm_packs_epi32(_mm256_castsi256_si128(wide), _mm256_extracti128_si256(wide, 1));
        _mm_storeu_si128(reinterpret_cast<__m128i *>(to + i), packed);
    }
    for (; i < width; ++i) to[i] = static_cast<int16_t>(std::lrintf(x[i] * (usable ? steps : 0.f)));
    if (width % 2) to[width] = 0;
}

// Store 16 outputs of a row, plus bias; the last panel may have fewer.
inline void put(const sg_linear &w, int panel, Vec low, Vec high, float *y) {
    const int first = panel * PANEL;
    if (first + PANEL <= w.rows) {
        if (w.bias) {
            low = _mm256_add_ps(low, load(w.bias + first));
            high = _mm256_add_ps(high, load(w.bias + first + LANES));
        }
        store(y + first, low);
        store(y + first + LANES, high);
        return;
    }
    float sums[PANEL];
    store(sums, low);
    store(sums + LANES, high);
    for (int i = first; i < w.rows; ++i) y[i] = w.bias ? sums[i - first] + w.bias[i] : sums[i - first];
}

template <typename Weight, int R, int P>
void tile(const sg_linear &w, int panel, const Rows &rows, int row, float *y) {
    const int columns = w.columns;
    const int64_t apart = int64_t{columns} * PANEL;
    const Weight *weight = static_cast<const Weight *>(w.panels) + panel * apart;
    const float *x = rows.x + row * rows.stride;
    Vec sums[R][2 * P];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * P; ++v) sums[r][v] = zero();
    for (int column = 0; column < columns; ++column) {
        Vec weights[2 * P];
#pragma GCC unroll 8
        for (int v = 0; v < 2 * P; ++v) weights[v] = load(weight + (v / 2) * apart + column * PANEL + v % 2 * LANES);
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            const Vec value = _mm256_broadcast_ss(x + r * rows.stride + column);
#pragma GCC unroll 8
            for (int v = 0; v < 2 * P; ++v) sums[r][v] = mul_add(value, weights[v], sums[r][v]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p)
            put(w, panel + p, sums[r][2 * p], sums[r][2 * p + 1], y + int64_t{row + r} * w.rows);
}

struct Int8 {};

// sum += pairs of products. The compiler would gather the products of many rows first and keep the sums in memory;
// what it cannot see through it leaves in its place, and the sums in registers.
inline void add_pairs(__m256i weights, __m256i values, __m256i &sum) {
    __m256i products = _mm256_madd_epi16(weights, values);
    asm("vpaddd %1, %0, %0" : "+x"(sum) : "x"(products));
}

// Whole-number sums of R rows by P panels over one group of columns. A function of its own, so that the compiler
// has all registers for these sums; the tile's own are only touched between groups.
template <int R, int P>
[[gnu::noinline]] void group_sums(const int8_t *weight, int64_t apart, const int16_t *x, int64_t stride, int pairs,
                                  __m256i *out) {
    __m256i sums[R][2 * P];
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * P; ++v) sums[r][v] = _mm256_setzero_si256();
    for (int pair = 0; pair < pairs; ++pair) {
        __m256i weights[2 * P];
#pragma GCC unroll 8
        for (int v = 0; v < 2 * P; ++v)
            weights[v] = _mm256_cvtepi8_epi16(_mm_loadu_si128(reinterpret_cast<const __m128i *>(
                weight + (v / 2) * apart + int64_t{pair} * 2 * PANEL + v % 2 * PANEL)));
#pragma GCC unroll 12
        for (int r = 0; r < R; ++r) {
            int32_t two;
            std::memcpy(&two, x + r * stride + 2 * pair, sizeof two);
            const __m256i values = _mm256_set1_epi32(two);
#pragma GCC unroll 8
            for (int v = 0; v < 2 * P; ++v) add_pairs(weights[v], values, sums[r][v]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < 2 * P; ++v) out[r * 2 * P + v] = sums[r][v];
}

template <int R, int P>
void tile_int8(const sg_linear &w, int panel, const Rows &rows, int row, float *y) {
    const int pairs = pairs_of(w), groups = groups_of(w);
    const int64_t apart = int64_t{pairs} * 2 * PANEL;
    const int8_t *weight = static_cast<const int8_t *>(w.panels) + panel * apart;
    const float *scale = w.scales + int64_t{panel} * groups * PANEL;
    const int16_t *x = rows.whole + row * rows.whole_stride;
    Vec sums[R][2 * P];
    for (auto &of_row : sums)
        for (auto &part : of_row) part = zero();
    for (int group = 0; group < groups; ++group) {
        constexpr int PAIRS = GROUP / 2;
        __m256i whole[R * 2 * P];
        group_sums<R, P>(weight + int64_t{group} * PAIRS * 2 * PANEL, apart, x + group * GROUP, rows.whole_stride,
                         std::min(PAIRS, pairs - group * PAIRS), whole);
#pragma GCC unroll 8
        for (int v = 0; v < 2 * P; ++v) {
            const Vec step = load(scale + (int64_t{v / 2} * groups + group) * PANEL + v % 2 * LANES);
#pragma GCC unroll 12
            for (int r = 0; r < R; ++r)
                sums[r][v] = mul_add(_mm256_cvtepi32_ps(whole[r * 2 * P + v]), step, sums[r][v]);
        }
    }
#pragma GCC unroll 12
    for (int r = 0; r < R; ++r) {
        const Vec own = all(rows.scales[row + r]);
#pragma GCC unroll 8
        for (int p = 0; p < P; ++p)
            put(w, panel + p, _mm256_mul_ps(own, sums[r][2 * p]), _mm256_mul_ps(own, sums[r][2 * p + 1]),
                y + int64_t{row + r} * w.rows);
    }
}

template <typename Weight, int R, int P>
void any_tile(const sg_linear &w, int panel, const Rows &rows, int row, float *y) {
    if constexpr (std::is_same_v<Weight, Int8>)
        tile_int8<R, P>(w, panel, rows, row, y);
    else
        tile<Weight, R, P>(w, panel, rows, row, y);
}

// R rows by panels first to last; few rows take several panels at once, for enough chains to fill the pipeline.
template <typename Weight, int R>
void strip(const sg_linear &w, int first, int last, const Rows &rows, int row, float *y) {
    constexpr int P = R == 1 ? 4 : R == 2 ? 2 : 1;
    for (; first + P <= last; first += P) any_tile<Weight, R, P>(w, first, rows, row, y);
    for (; first < last; ++first) any_tile<Weight, R, 1>(w, first, rows, row, y);
}

template <typename Weight>
void strips(const sg_linear &w, int first, int last, const Rows &rows, int count, float *y) {
    const int parts = (count + TILE_ROWS - 1) / TILE_ROWS;
    for (int part = 0, row = 0; part < parts; ++part) {
        const int size = (count - row + parts - part - 1) / (parts - part);
        switch (size) {
            case 1: strip<Weight, 1>(w, first, last, rows, row, y); break;
            case 2: strip<Weight, 2>(w, first, last, rows, row, y); break;
            case 3: strip<Weight, 3>(w, first, last, rows, row, y); break;
            case 4: strip<Weight, 4>(w, first, last, rows, row, y); break;
            case 5: strip<Weight, 5>(w, first, last, rows, row, y); break;
            default: strip<Weight, 6>(w, first, last, rows, row, y); break;
        }
        row += size;
    }
}

inline int product_tasks(const sg_linear &w) { return (panels_of(w) + TASK_PANELS - 1) / TASK_PANELS; }

// A part of the product of (count, columns) rows: some outputs of all of them.
inline void product_task(const sg_linear &w, int task, const Rows &rows, int count, float *y) {
    const int first = task * TASK_PANELS, last = std::min(first + TASK_PANELS, panels_of(w));
    switch (w.format) {
        case SG_FLOAT32: strips<float>(w, first, last, rows, count, y); break;
        case SG_BFLOAT16: strips<BFloat16>(w, first, last, rows, count, y); break;
        case SG_FLOAT16: strips<Float16>(w, first, last, rows, count, y); break;
        default: strips<Int8>(w, first, last, rows, count, y); break;
    }
}

// A phase: (count, columns) rows to (count, rows of w).
inline void product(Team::Member &member, const sg_linear &w, const Rows &rows, int count, float *y) {
    const int tasks = product_tasks(w);
    member.each(tasks, std::max(1, tasks / (member.threads() * 8)),
                [&](int task) { product_task(w, task, rows, count, y); });
}

}  // namespace sealgate
