// A decoder's blocks over one step's rows, phase by phase; see kernels.h.
#include "kernels.h"

#include <cmath>
#include <iterator>

#include "adapters.hpp"
#include "attention.hpp"
#include "pack.hpp"
#include "product.hpp"
#include "rows.hpp"
#include "team.hpp"

namespace sealgate {
namespace {

enum Group { QKV, OUTPUT, GATE_UP, DOWN, GROUPS };

int64_t even(int64_t width) { return (width + 1) / 2 * 2; }

// As many rows of a prompt as fill the lines of one key head.
int rows_per_task(const sg_model &m) { return std::max(1, LINES / (m.heads / m.kv_heads)); }

// Phases of so many blocks: the rotation, the first norm, and at most ten of each block.
int phases_of(int blocks) { return 2 + 10 * blocks; }

// The step's intermediate rows, and what each thread needs to attend.
struct Scratch {
    const float *end;
    float *input, *projected, *gated, *mixed, *wide, *scales, *cosines, *sines, *lines, *shrunk;
    int16_t *whole;
    int32_t *task_first;  // (pieces + 1,) first attention task of each piece, per key head
    int64_t widest, lines_stride, shrunk_stride;

    Scratch(const sg_model &m, const sg_step &step, int threads, float *memory) {
        const int rows = step.rows;
        int longest = 0, most_units = 0;
        for (int row = 0; row < rows; ++row) longest = std::max(longest, step.positions[row] + 1);
        for (int64_t at = 0; step.unit_first && at < int64_t{GROUPS} * rows; ++at)
            most_units = std::max(most_units, step.unit_counts[at]);
        const int64_t fused = int64_t{m.heads + 2 * m.kv_heads} * m.head_dim;
        const int64_t query = int64_t{m.heads} * m.head_dim;
        widest = even(std::max<int64_t>({m.hidden, query, m.intermediate}));
        const int64_t padded = (int64_t{longest} + 2 * LANES - 1) / (2 * LANES) * (2 * LANES);
        // queries, scores, and room for the keys of sixteen positions
        lines_stride = LINES * (m.head_dim + padded) + 2 * LANES * m.head_dim;
        input = take(memory, rows * int64_t{m.hidden});
        projected = take(memory, rows * std::max(fused, int64_t{m.hidden}));
        mixed = take(memory, rows * query);
        wide = take(memory, rows * 2 * int64_t{m.intermediate});
        gated = take(memory, rows * int64_t{m.intermediate});
        scales = take(memory, rows);
        cosines = take(memory, rows * int64_t{m.head_dim} / 2);
        sines = take(memory, rows * int64_t{m.head_dim} / 2);
        lines = take(memory, threads * lines_stride);
        whole = reinterpret_cast<int16_t *>(take(memory, rows * widest / 2));
        shrunk_stride = int64_t{most_units} * MOST_TARGETS * UNIT;
        shrunk = take(memory, rows * shrunk_stride);
        task_first = reinterpret_cast<int32_t *>(take(memory, rows + 1));
        end = memory;
    }

   private:
    // In whole vectors. Offsets from null when only their sum is wanted.
    static float *take(float *&memory, int64_t floats) {
        float *here = memory;
        memory = reinterpret_cast<float *>(reinterpret_cast<uintptr_t>(memory) +
                                           sizeof(float) * ((floats + LANES - 1) / LANES * LANES));
        return here;
    }
};

struct Forward {
    Team::Member &member;
    const sg_model &m;
    const sg_cache &cache;
    const sg_step &step;
    Scratch s;
    float *hidden;
    bool int8;

    Rows rows_of(const float *x, int64_t width) const { return {x, width, int8 ? s.whole : nullptr, s.widest, s.scales}; }

    template <typename Task>
    void each_row(const Task &task) {
        member.each(step.rows, std::max(1, step.rows / (member.threads() * 4)), task);
    }

    void prepare() {
        const int half = m.head_dim / 2;
        each_row([&](int row) {
            rotation(step.positions[row], m.frequencies, half, s.cosines + int64_t{row} * half,
                     s.sines + int64_t{row} * half);
        });
    }

    void normalise(int row, const float *weight) {
        float *x = s.input + int64_t{row} * m.hidden;
        rms_norm(hidden + int64_t{row} * m.hidden, weight, m.rms_eps, m.hidden, x);
        if (int8) quantise(rows_of(s.input, m.hidden), row, m.hidden);
    }

    void run(int first, int last) {
        prepare();
        for (int layer = first; layer < last; ++layer) block(layer, layer == first, layer + 1 < last);
    }

    // The norm before a block is taken in the last phase of the block before, to save a meeting.
    void block(int layer, bool is_first, bool goes_on) {
        const sg_block &b = m.blocks[layer];
        const int64_t query = int64_t{m.heads} * m.head_dim;
        if (is_first) each_row([&](int row) { normalise(row, b.input_norm); });
        project(QKV, layer, b.qkv, s.input, s.projected);
        each_row([&](int row) { turn_and_keep(layer, b, row); });
        attend(layer);
        if (int8) each_row([&](int row) { quantise(rows_of(s.mixed, query), row, static_cast<int>(query)); });
        project(OUTPUT, layer, b.output, s.mixed, s.projected);
        each_row([&](int row) {
            take_change(layer, OUTPUT, row);
            normalise(row, b.mlp_norm);
        });
        project(GATE_UP, layer, b.gate_up, s.input, s.wide);
        each_row([&](int row) { gate(layer, row); });
        project(DOWN, layer, b.down, s.gated, s.projected);
        each_row([&](int row) {
            take_change(layer, DOWN, row);
            if (goes_on) normalise(row, m.blocks[layer + 1].input_norm);
        });
    }

    // A product, and among its tasks what its rows' adapters read of the same input: those wait for memory while
    // the others compute.
    void project(Group group, int layer, const sg_linear &w, const float *x, float *y) {
        const Rows rows = rows_of(x, w.columns);
        if (!step.unit_first) return product(member, w, rows, step.rows, y);
        const int64_t total = product_tasks(w) + step.rows;
        member.each(static_cast<int>(total), 1, [&](int task) {
            const int row = static_cast<int>(task * int64_t{step.rows} / total);  // rows before this task
            if ((task + 1) * int64_t{step.rows} / total == row) return product_task(w, task - row, rows, step.rows, y);
            const RowUnits units = units_of(step, group, row);
            if (units.count) shrink_row(units, layer, x + row * rows.stride, w.columns, s.shrunk + row * s.shrunk_stride);
        });
    }

    void add_adapter(Group group, int layer, int row, float *y) {
        const RowUnits units = units_of(step, group, row);
        if (units.count) grow_row(units, layer, s.shrunk + row * s.shrunk_stride, y);
    }

    // Adapters, head norms and rotation of a row's queries, keys and values; the latter two go to their page.
    void turn_and_keep(int layer, const sg_block &b, int row) {
        const int width = m.head_dim, half = width / 2;
        const int64_t fused = int64_t{m.heads + 2 * m.kv_heads} * width;
        float *heads = s.projected + row * fused;
        add_adapter(QKV, layer, row, heads);
        for (int head = 0; head < m.heads + m.kv_heads; ++head) {
            float *one = heads + int64_t{head} * width;
            const float *norm = head < m.heads ? b.query_norm : b.key_norm;
            if (norm) rms_norm(one, norm, m.rms_eps, width, one);
            rotate(one, s.cosines + int64_t{row} * half, s.sines + int64_t{row} * half, half);
        }
        const int piece = piece_of(row);
        const int position = step.positions[row];
        const int64_t page = step.pages[step.piece_pages[piece] + position / cache.page_size];
        const int64_t at = layer * cache.layer_stride + page * 2 * m.kv_heads * cache.page_size * width;
        const float *pairs = heads + int64_t{m.heads} * width;
        if (cache.format == SG_FLOAT32)
            keep(static_cast<float *>(cache.pool) + at, position % cache.page_size, cache.page_size, width,
                 m.kv_heads, pairs);
        else
            keep(static_cast<Float16 *>(cache.pool) + at, position % cache.page_size, cache.page_size, width,
                 m.kv_heads, pairs);
    }

    int piece_of(int row) const {
        const int32_t *end = step.piece_rows + step.pieces + 1;
        return static_cast<int>(std::upper_bound(step.piece_rows, end, row) - step.piece_rows) - 1;
    }

    // A task is a key head and a few consecutive rows of one piece.
    void attend(int layer) {
        float *room = s.lines + member.thread * s.lines_stride;
        member.each(s.task_first[step.pieces] * m.kv_heads, 1, [&](int task) {
            if (cache.format == SG_FLOAT32)
                attend_task<float>(layer, task / m.kv_heads, task % m.kv_heads, room);
            else
                attend_task<Float16>(layer, task / m.kv_heads, task % m.kv_heads, room);
        });
    }

    template <typename Number>
    void attend_task(int layer, int task, int head, float *room) {
        const int32_t *begin = s.task_first, *end = begin + step.pieces + 1;
        const int piece = static_cast<int>(std::upper_bound(begin, end, task) - begin) - 1;
        const int first = step.piece_rows[piece] + (task - s.task_first[piece]) * rows_per_task(m);
        const int last = std::min(first + rows_per_task(m), step.piece_rows[piece + 1]);
        const int width = m.head_dim, shared = m.heads / m.kv_heads;
        const int64_t fused = int64_t{m.heads + 2 * m.kv_heads} * width;
        const Pages<Number> pages{static_cast<const Number *>(cache.pool) + layer * cache.layer_stride,
                                  step.pages + step.piece_pages[piece], cache.page_size, width, 2 * m.kv_heads, head};
        float *queries = room, *buffer = room + LINES * width, *scores = buffer + 2 * LANES * width;
        const float scale = 1.f / std::sqrt(static_cast<float>(width));
        float *mixed[LINES];
        int counts[LINES], lines = 0;
        const auto go = [&] {
            sealgate::attend(pages, queries, counts, lines, reinterpret_cast<Number *>(buffer), scores, mixed);
            lines = 0;
        };
        for (int row = first; row < last; ++row)
            for (int index = head * shared; index < (head + 1) * shared; ++index) {
                const float *query = s.projected + row * fused + int64_t{index} * width;
                for (int d = 0; d < width; ++d) queries[lines * width + d] = query[d] * scale;
                counts[lines] = step.positions[row] + 1;
                mixed[lines] = s.mixed + (int64_t{row} * m.heads + index) * width;
                if (++lines == LINES) go();
            }
        if (lines) go();
    }

    void take_change(int layer, Group group, int row) {
        float *y = s.projected + int64_t{row} * m.hidden;
        add_adapter(group, layer, row, y);
        add(y, m.hidden, hidden + int64_t{row} * m.hidden);
    }

    void gate(int layer, int row) {
        float *both = s.wide + int64_t{row} * 2 * m.intermediate;
        add_adapter(GATE_UP, layer, row, both);
        gated(both, both + m.intermediate, m.intermediate, s.gated + int64_t{row} * m.intermediate);
        if (int8) quantise(rows_of(s.gated, m.intermediate), row, m.intermediate);
    }
};

}  // namespace
}  // namespace sealgate

using sealgate::Forward;
using sealgate::Rows;
using sealgate::Scratch;
using sealgate::Team;

int64_t sg_size_of(int32_t which) {
    constexpr int64_t SIZES[] = {sizeof(sg_linear), sizeof(sg_block), sizeof(sg_adapter_table), sizeof(sg_model),
                                 sizeof(sg_cache),  sizeof(sg_step),  sizeof(sg_scratch)};
    return which >= 0 && which < static_cast<int32_t>(std::size(SIZES)) ? SIZES[which] : 0;
}

void *sg_team_new(int32_t threads) { return new Team(threads); }
void sg_team_free(void *team) { delete static_cast<Team *>(team); }

int64_t sg_scratch_floats(const sg_model *model, const sg_step *step, int32_t threads) {
    const Scratch scratch(*model, *step, threads, nullptr);
    return static_cast<int64_t>(reinterpret_cast<uintptr_t>(scratch.end) / sizeof(float));
}

void sg_embed(const sg_model *model, const int64_t *tokens, int32_t rows, float *hidden) {
    const int width = model->hidden;
    for (int row = 0; row < rows; ++row, hidden += width) {
        const int64_t at = tokens[row] * width;
        switch (model->embedding_format) {
            case SG_FLOAT32: sealgate::widened(static_cast<const float *>(model->embedding) + at, width, hidden); break;
            case SG_BFLOAT16:
                sealgate::widened(static_cast<const sealgate::BFloat16 *>(model->embedding) + at, width, hidden);
                break;
            default: sealgate::widened(static_cast<const sealgate::Float16 *>(model->embedding) + at, width, hidden);
        }
    }
}

void sg_blocks(void *team, const sg_model *model, const sg_cache *cache, const sg_step *step, sg_scratch scratch,
               int32_t first, int32_t last, float *hidden) {
    Team &threads = *static_cast<Team *>(team);
    const Scratch room(*model, *step, threads.threads(), scratch.memory);
    if (room.end > scratch.memory + scratch.floats) std::abort();  // the caller's arithmetic is wrong: no step
    const int per_task = sealgate::rows_per_task(*model);
    room.task_first[0] = 0;
    for (int piece = 0; piece < step->pieces; ++piece) {
        const int rows = step->piece_rows[piece + 1] - step->piece_rows[piece];
        room.task_first[piece + 1] = room.task_first[piece] + (rows + per_task - 1) / per_task;
    }
    const bool int8 = model->blocks[first].qkv.format == SG_INT8;
    threads.run(sealgate::phases_of(last - first), [&](Team::Member &member) {
        Forward{member, *model, *cache, *step, room, hidden, int8}.run(first, last);
    });
}

void sg_norm(const float *x, const float *weight, float eps, int32_t rows, int32_t width, float *y) {
    for (int64_t row = 0; row < rows; ++row) sealgate::rms_norm(x + row * width, weight, eps, width, y + row * width);
}

void sg_product(void *team, const sg_linear *linear, const float *x, int32_t rows, float *scratch, float *y) {
    Team &threads = *static_cast<Team *>(team);
    const int64_t width = linear->columns;
    const Rows given{x, width, reinterpret_cast<int16_t *>(scratch + rows), sealgate::even(width), scratch};
    threads.run(2, [&](Team::Member &member) {
        if (linear->format == SG_INT8)
            member.each(rows, 1, [&](int row) { sealgate::quantise(given, row, linear->columns); });
        sealgate::product(member, *linear, given, rows, y);
    });
}

void sg_pack(const sg_linear *linear, const void *weight, void *panels, float *scales) {
    sealgate::pack(*linear, weight, panels, scales);
}
