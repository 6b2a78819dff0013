// Eight numbers at a time (AVX2, FMA, F16C), and the loads that widen to them.
#pragma once
#include <immintrin.h>

#include <cstdint>
#include <cstring>

#include "kernels.h"

namespace sealgate {

using Vec = __m256;
constexpr int LANES = 8;

inline Vec load(const float *p) { return _mm256_loadu_ps(p); }
inline void store(float *p, Vec v) { _mm256_storeu_ps(p, v); }
inline Vec zero() { return _mm256_setzero_ps(); }
inline Vec all(float x) { return _mm256_set1_ps(x); }
inline Vec mul_add(Vec a, Vec b, Vec c) { return _mm256_fmadd_ps(a, b, c); }

struct BFloat16 {
    uint16_t bits;
};
struct Float16 {
    uint16_t bits;
};

inline Vec load(const BFloat16 *p) {
    const __m128i narrow = _mm_loadu_si128(reinterpret_cast<const __m128i *>(p));
    return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(narrow), 16));
}
inline Vec load(const Float16 *p) {
    return _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i *>(p)));
}
inline float widen(float x) { return x; }
inline float widen(BFloat16 x) {
    const uint32_t bits = uint32_t{x.bits} << 16;
    float wide;
    std::memcpy(&wide, &bits, sizeof wide);
    return wide;
}
inline float widen(Float16 x) { return _cvtsh_ss(x.bits); }

inline void narrow(float x, float *to) { *to = x; }
// A key beyond what float16 holds becomes the largest it does: infinity would make a row of NaN of it. NaN stays.
inline void narrow(float x, Float16 *to) {
    constexpr float LARGEST = 65504.f;
    const float held = x > LARGEST ? LARGEST : x < -LARGEST ? -LARGEST : x;
    to->bits = static_cast<uint16_t>(_cvtss_sh(held, _MM_FROUND_TO_NEAREST_INT));
}

// The sum of eight, always in this order.
inline float sum(Vec v) {
    __m128 half = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
    half = _mm_add_ps(half, _mm_movehl_ps(half, half));
    return _mm_cvtss_f32(_mm_add_ss(half, _mm_movehdup_ps(half)));
}

// e to the x, within two units in the last place; 0 below -87.3, as softmax and silu want it. NaN stays NaN.
// Cephes' expf: x = n ln 2 + r, a polynomial of degree 5 in r.
inline Vec exponential(Vec x) {
    const Vec low = all(-87.33654f), high = all(88.72283f);
    const Vec under = _mm256_cmp_ps(x, low, _CMP_LT_OQ);
    const Vec bounded = _mm256_min_ps(high, _mm256_max_ps(low, x));  // of NaN and a number: the second, x
    const Vec n = _mm256_round_ps(_mm256_mul_ps(bounded, all(1.44269504088896341f)),
                                  _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    Vec r = _mm256_fnmadd_ps(n, all(0.693359375f), bounded);
    r = _mm256_fnmadd_ps(n, all(-2.12194440e-4f), r);
    Vec p = all(1.9875691500e-4f);
    p = mul_add(p, r, all(1.3981999507e-3f));
    p = mul_add(p, r, all(8.3334519073e-3f));
    p = mul_add(p, r, all(4.1665795894e-2f));
    p = mul_add(p, r, all(1.6666665459e-1f));
    p = mul_add(p, r, all(5.0000001201e-1f));
    p = mul_add(p, _mm256_mul_ps(r, r), _mm256_add_ps(r, all(1.f)));
    const __m256i power = _mm256_slli_epi32(_mm256_add_epi32(_mm256_cvtps_epi32(n), _mm256_set1_epi32(126)), 23);
    const Vec scaled = _mm256_mul_ps(_mm256_mul_ps(p, _mm256_castsi256_ps(power)), all(2.f));
    return _mm256_andnot_ps(under, scaled);
}

}  // namespace sealgate
