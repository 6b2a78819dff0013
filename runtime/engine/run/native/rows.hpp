// What is done to a row by itself: norms, the gate, rotations, sums.
#pragma once
#include <cmath>

#include "vectors.hpp"

namespace sealgate {

// y = x * weight / sqrt(mean(x * x) + eps)
inline void rms_norm(const float *x, const float *weight, float eps, int width, float *y) {
    Vec squares = zero();
    int i = 0;
    for (; i + LANES <= width; i += LANES) {
        const Vec v = load(x + i);
        squares = mul_add(v, v, squares);
    }
    float total = sum(squares);
    for (; i < width; ++i) total = std::fma(x[i], x[i], total);
    const float scale = 1.f / std::sqrt(total / static_cast<float>(width) + eps);
    const Vec scales = all(scale);
    for (i = 0; i + LANES <= width; i += LANES)
        store(y + i, _mm256_mul_ps(_mm256_mul_ps(load(x + i), scales), load(weight + i)));
    for (; i < width; ++i) y[i] = x[i] * scale * weight[i];
}

inline void add(const float *x, int width, float *y) {
    int i = 0;
    for (; i + LANES <= width; i += LANES) store(y + i, _mm256_add_ps(load(y + i), load(x + i)));
    for (; i < width; ++i) y[i] += x[i];
}

// y = gate * sigmoid(gate) * up
inline void gated(const float *gate, const float *up, int width, float *y) {
    const auto eight = [](Vec g, Vec u) {
        const Vec below = _mm256_add_ps(all(1.f), exponential(_mm256_sub_ps(zero(), g)));
        return _mm256_mul_ps(_mm256_div_ps(g, below), u);
    };
    int i = 0;
    for (; i + LANES <= width; i += LANES) store(y + i, eight(load(gate + i), load(up + i)));
    if (i == width) return;
    float g[LANES] = {}, u[LANES] = {}, last[LANES];
    std::memcpy(g, gate + i, (width - i) * sizeof(float));
    std::memcpy(u, up + i, (width - i) * sizeof(float));
    store(last, eight(load(g), load(u)));
    std::memcpy(y + i, last, (width - i) * sizeof(float));
}

// The angles' cosines and sines of one position: (width,) each. The angle is rounded to float32 first, as
// transformers has it, and the functions are float64's, so that they are the same on every machine.
inline void rotation(int position, const float *frequencies, int width, float *cosines, float *sines) {
    for (int i = 0; i < width; ++i) {
        const double angle = static_cast<float>(position) * frequencies[i];
        cosines[i] = static_cast<float>(std::cos(angle));
        sines[i] = static_cast<float>(std::sin(angle));
    }
}

// Turn one head in place: dimension i pairs with i + width, half the head.
inline void rotate(float *head, const float *cosines, const float *sines, int width) {
    int i = 0;
    for (; i + LANES <= width; i += LANES) {
        const Vec a = load(head + i), b = load(head + width + i), c = load(cosines + i), s = load(sines + i);
        store(head + i, _mm256_fmsub_ps(a, c, _mm256_mul_ps(b, s)));
        store(head + width + i, mul_add(b, c, _mm256_mul_ps(a, s)));
    }
    for (; i < width; ++i) {
        const float a = head[i], b = head[width + i];
        head[i] = std::fma(a, cosines[i], -(b * sines[i]));
        head[width + i] = std::fma(b, cosines[i], a * sines[i]);
    }
}

template <typename Number>
void widened(const Number *x, int width, float *y) {
    int i = 0;
    for (; i + LANES <= width; i += LANES) store(y + i, load(x + i));
    for (; i < width; ++i) y[i] = widen(x[i]);
}

}  // namespace sealgate
