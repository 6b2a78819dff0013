// A row's low-rank changes: y += B (A x), by units of eight ranks, for all linears that share x.
#pragma once
#include "vectors.hpp"

namespace sealgate {

constexpr int UNIT = 8;
constexpr int MOST_TARGETS = 3;
constexpr int CHAINS = 4;

// (targets * 8) sums over x of one unit's A; four chains, added in order.
template <typename Number, int T>
void shrink(const Number *down, const float *x, int width, float *hidden) {
    Vec sums[CHAINS][T];
    for (auto &chain : sums)
        for (auto &part : chain) part = zero();
    int i = 0;
    for (; i + CHAINS <= width; i += CHAINS)
#pragma GCC unroll 4
        for (int c = 0; c < CHAINS; ++c) {
            const Vec value = _mm256_broadcast_ss(x + i + c);
#pragma GCC unroll 3
            for (int t = 0; t < T; ++t)
                sums[c][t] = mul_add(value, load(down + (int64_t{i + c} * T + t) * UNIT), sums[c][t]);
        }
    for (; i < width; ++i)
        for (int t = 0; t < T; ++t)
            sums[0][t] = mul_add(all(x[i]), load(down + (int64_t{i} * T + t) * UNIT), sums[0][t]);
    for (int t = 0; t < T; ++t)
        store(hidden + t * UNIT, _mm256_add_ps(_mm256_add_ps(sums[0][t], sums[1][t]),
                                               _mm256_add_ps(sums[2][t], sums[3][t])));
}

template <typename Number>
void grow(const Number *up, const float *hidden, int width, float *y) {
    int i = 0;
    for (; i + LANES <= width; i += LANES) {
        Vec total = load(y + i);
#pragma GCC unroll 8
        for (int rank = 0; rank < UNIT; ++rank)
            total = mul_add(all(hidden[rank]), load(up + int64_t{rank} * width + i), total);
        store(y + i, total);
    }
    for (; i < width; ++i)
        for (int rank = 0; rank < UNIT; ++rank)
            y[i] = std::fma(hidden[rank], widen(up[int64_t{rank} * width + i]), y[i]);
}

// The units of one row in one group; none if the row has no adapter there.
struct RowUnits {
    const sg_adapter_table *table;
    const int32_t *units;
    int count;
};

inline RowUnits units_of(const sg_step &step, int group, int row) {
    if (!step.unit_first) return {nullptr, nullptr, 0};
    return {step.tables + group, step.units + step.unit_first[row],
            step.unit_counts[int64_t{group} * step.rows + row]};
}

template <typename Work>
void in_format(int format, const Work &work) {
    switch (format) {
        case SG_FLOAT32: return work(float{});
        case SG_BFLOAT16: return work(BFloat16{});
        default: return work(Float16{});
    }
}

// A x of a row: (units, targets * 8).
inline void shrink_row(const RowUnits &row, int layer, const float *x, int width, float *hidden) {
    in_format(row.table->format, [&](auto number) {
        using Number = decltype(number);
        const Number *layer_down = static_cast<const Number *>(row.table->down) + layer * row.table->down_layer;
        for (int index = 0; index < row.count; ++index, hidden += row.table->targets * UNIT) {
            const Number *down = layer_down + row.units[index] * row.table->down_unit;
            switch (row.table->targets) {
                case 1: shrink<Number, 1>(down, x, width, hidden); break;
                case 2: shrink<Number, 2>(down, x, width, hidden); break;
                default: shrink<Number, 3>(down, x, width, hidden); break;
            }
        }
    });
}

// y += B (A x) of a row.
inline void grow_row(const RowUnits &row, int layer, const float *hidden, float *y) {
    in_format(row.table->format, [&](auto number) {
        using Number = decltype(number);
        const sg_adapter_table &table = *row.table;
        const Number *layer_up = static_cast<const Number *>(table.up) + layer * table.up_layer;
        for (int index = 0; index < row.count; ++index, hidden += table.targets * UNIT) {
            const Number *up = layer_up + row.units[index] * table.up_unit;
            for (int chunk = 0; chunk < table.chunks; ++chunk)
                grow(up + int64_t{chunk} * UNIT * table.chunk, hidden + table.chunk_targets[chunk] * UNIT,
                     table.chunk, y + int64_t{chunk} * table.chunk);
        }
    });
}

}  // namespace sealgate
