// Weights into the layout that the products read.
#pragma once
#include <cmath>

#include "product.hpp"

namespace sealgate {

// (rows, columns) to (panels, columns, 16).
template <typename Number>
void pack_plain(const sg_linear &w, const Number *weight, Number *panels) {
    for (int panel = 0; panel < panels_of(w); ++panel)
        for (int lane = 0; lane < PANEL; ++lane) {
            const int row = panel * PANEL + lane;
            Number *to = panels + int64_t{panel} * w.columns * PANEL + lane;
            const Number *from = weight + int64_t{row} * w.columns;
            for (int column = 0; column < w.columns; ++column) to[column * PANEL] = row < w.rows ? from[column] : Number{};
        }
}

// (rows, columns) float32 to int8 in groups of 64 columns, each in 127 steps of its own largest weight.
inline void pack_int8(const sg_linear &w, const float *weight, int8_t *panels, float *scales) {
    const int groups = groups_of(w), pairs = pairs_of(w);
    for (int row = 0; row < panels_of(w) * PANEL; ++row) {
        const int panel = row / PANEL, lane = row % PANEL;
        int8_t *to = panels + int64_t{panel} * pairs * 2 * PANEL + lane * 2;
        for (int group = 0; group < groups; ++group) {
            const int first = group * GROUP, last = std::min(first + GROUP, w.columns);
            const float *from = weight + int64_t{row} * w.columns;
            float largest = 0, poison = 0;  // a weight that is not finite makes its group NaN, as it would a product
            for (int column = first; column < last && row < w.rows; ++column) {
                largest = std::max(largest, std::fabs(from[column]));
                poison += from[column] * 0.f;
            }
            scales[(int64_t{panel} * groups + group) * PANEL + lane] = largest / 127.f + poison;
            for (int column = first; column < last + last % 2; ++column) {
                const bool real = row < w.rows && column < w.columns && largest > 0 && poison == 0;
                to[column / 2 * 2 * PANEL + column % 2] =
                    real ? static_cast<int8_t>(std::lrintf(from[column] / largest * 127.f)) : int8_t{0};
            }
        }
    }
}

inline void pack(const sg_linear &w, const void *weight, void *panels, float *scales) {
    switch (w.format) {
        case SG_FLOAT32: pack_plain(w, static_cast<const float *>(weight), static_cast<float *>(panels)); break;
        case SG_INT8: pack_int8(w, static_cast<const float *>(weight), static_cast<int8_t *>(panels), scales); break;
        default: pack_plain(w, static_cast<const uint16_t *>(weight), static_cast<uint16_t *>(panels));
    }
}

}  // namespace sealgate
