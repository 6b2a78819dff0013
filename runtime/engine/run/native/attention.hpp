// Attention of a few query heads at a time over the pages of their sequence.
//
// A line is one query head of one row. Lines that share a key head read its pages together; each keeps its own
// order of additions, positions first to last, so that neither its neighbours nor how a prompt was cut changes a
// bit. Scores are kept for the whole length: no running maximum, whose steps would depend on the cut.
#pragma once
#include <algorithm>
#include <cmath>
#include <limits>

#include "vectors.hpp"

namespace sealgate {

constexpr int LINES = 6;

// The pages of one sequence, one layer, one key head.
template <typename Number>
struct Pages {
    const Number *layer;
    const int32_t *table;
    int page_size, head_dim, heads, head;  // heads: of keys and values together

    const Number *of(int position, int which) const {
        const int64_t page = table[position / page_size];
        return layer + (page * heads + which) * page_size * head_dim;
    }
    const Number *keys(int position) const { return of(position, head); }
    const Number *values(int position) const { return of(position, heads / 2 + head); }
};

// Where the keys of eight positions are, by dimension; in a buffer if pages are too small to hold eight.
template <typename Number>
struct EightKeys {
    const Number *at;
    int stride;
};

template <typename Number>
EightKeys<Number> eight_keys(const Pages<Number> &pages, int first, int count, Number *buffer) {
    if (pages.page_size % LANES == 0) return {pages.keys(first) + first % pages.page_size, pages.page_size};
    std::memset(buffer, 0, sizeof(Number) * LANES * pages.head_dim);
    for (int lane = 0; lane < LANES && first + lane < count; ++lane) {
        const Number *key = pages.keys(first + lane) + (first + lane) % pages.page_size;
        for (int d = 0; d < pages.head_dim; ++d) buffer[d * LANES + lane] = key[d * pages.page_size];
    }
    return {buffer, LANES};
}

template <typename Number, int L>
void score_lines(const Pages<Number> &pages, const float *queries, int count, Number *buffer, float *scores,
                 int64_t stride) {
    const int width = pages.head_dim;
    for (int first = 0; first < count; first += 2 * LANES) {
        const auto low = eight_keys(pages, first, count, buffer);
        const auto high = first + LANES < count
                              ? eight_keys(pages, first + LANES, count, buffer + LANES * width)
                              : low;
        Vec sums[L][2];
#pragma GCC unroll 6
        for (int l = 0; l < L; ++l) sums[l][0] = sums[l][1] = zero();
        for (int d = 0; d < width; ++d) {
            const Vec a = load(low.at + int64_t{d} * low.stride), b = load(high.at + int64_t{d} * high.stride);
#pragma GCC unroll 6
            for (int l = 0; l < L; ++l) {
                const Vec q = _mm256_broadcast_ss(queries + l * width + d);
                sums[l][0] = mul_add(q, a, sums[l][0]);
                sums[l][1] = mul_add(q, b, sums[l][1]);
            }
        }
#pragma GCC unroll 6
        for (int l = 0; l < L; ++l) {
            store(scores + l * stride + first, sums[l][0]);
            store(scores + l * stride + first + LANES, sums[l][1]);
        }
    }
}

// Weights of the first ``count`` scores, zeros from there to ``padded``; returns one over their sum.
inline float softmax(float *scores, int count, int padded) {
    Vec largest = all(-std::numeric_limits<float>::infinity());
    for (int j = count; j < padded; ++j) scores[j] = -std::numeric_limits<float>::infinity();
    for (int j = 0; j < padded; j += LANES) largest = _mm256_max_ps(largest, load(scores + j));
    float lanes[LANES];
    store(lanes, largest);
    float most = lanes[0];
    for (float lane : lanes) most = lane > most ? lane : most;
    Vec total = zero();
    for (int j = 0; j < padded; j += LANES) {
        const Vec weight = exponential(_mm256_sub_ps(load(scores + j), all(most)));
        store(scores + j, weight);
        total = _mm256_add_ps(total, weight);
    }
    return 1.f / sum(total);
}

// Sums of values under weights, for V vectors of the head from dimension ``from``.
template <typename Number, int L, int V>
void mix_part(const Pages<Number> &pages, const float *weights, int64_t stride, int count, int from,
              const float *shares, float *const *mixed) {
    Vec sums[L][V];
#pragma GCC unroll 6
    for (int l = 0; l < L; ++l)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) sums[l][v] = zero();
    for (int first = 0; first < count; first += pages.page_size) {
        const Number *values = pages.values(first) + from;
        const int here = std::min(pages.page_size, count - first);
        for (int t = 0; t < here; ++t, values += pages.head_dim) {
            Vec value[V];
#pragma GCC unroll 2
            for (int v = 0; v < V; ++v) value[v] = load(values + v * LANES);
#pragma GCC unroll 6
            for (int l = 0; l < L; ++l) {
                const Vec weight = _mm256_broadcast_ss(weights + l * stride + first + t);
#pragma GCC unroll 2
                for (int v = 0; v < V; ++v) sums[l][v] = mul_add(weight, value[v], sums[l][v]);
            }
        }
    }
#pragma GCC unroll 6
    for (int l = 0; l < L; ++l)
#pragma GCC unroll 2
        for (int v = 0; v < V; ++v) store(mixed[l] + from + v * LANES, _mm256_mul_ps(sums[l][v], all(shares[l])));
}

// L lines: queries (L, head_dim) already scaled, each over its first counts[l] positions, to mixed[l].
template <typename Number, int L>
void attend_lines(const Pages<Number> &pages, const float *queries, const int *counts, Number *buffer,
                  float *scores, float *const *mixed) {
    const int count = *std::max_element(counts, counts + L);
    const int padded = (count + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
    score_lines<Number, L>(pages, queries, count, buffer, scores, padded);
    float shares[L];
    for (int l = 0; l < L; ++l) shares[l] = softmax(scores + int64_t{l} * padded, counts[l], padded);
    int from = 0;
    for (; from + 2 * LANES <= pages.head_dim; from += 2 * LANES)
        mix_part<Number, L, 2>(pages, scores, padded, count, from, shares, mixed);
    if (from < pages.head_dim) mix_part<Number, L, 1>(pages, scores, padded, count, from, shares, mixed);
}

template <typename Number>
void attend(const Pages<Number> &pages, const float *queries, const int *counts, int lines, Number *buffer,
            float *scores, float *const *mixed) {
    switch (lines) {
        case 1: return attend_lines<Number, 1>(pages, queries, counts, buffer, scores, mixed);
        case 2: return attend_lines<Number, 2>(pages, queries, counts, buffer, scores, mixed);
        case 3: return attend_lines<Number, 3>(pages, queries, counts, buffer, scores, mixed);
        case 4: return attend_lines<Number, 4>(pages, queries, counts, buffer, scores, mixed);
        case 5: return attend_lines<Number, 5>(pages, queries, counts, buffer, scores, mixed);
        default: return attend_lines<Number, 6>(pages, queries, counts, buffer, scores, mixed);
    }
}

// Keep a row's keys and values: (2 * kv_heads, head_dim) at its place in a page.
template <typename Number>
void keep(Number *page, int place, int page_size, int head_dim, int kv_heads, const float *pairs) {
    for (int head = 0; head < 2 * kv_heads; ++head, pairs += head_dim, page += page_size * head_dim)
        for (int d = 0; d < head_dim; ++d)
            narrow(pairs[d], head < kv_heads ? page + d * page_size + place : page + place * head_dim + d);
}

}  // namespace sealgate
