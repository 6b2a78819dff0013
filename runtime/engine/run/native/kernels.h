// The C interface of Sealgate's CPU kernels: plain data in the caller's memory, nothing allocated, nothing kept.
//
// Every count and index is checked by the caller (runtime/engine/run/native/*.py), which made them; shapes are
// in elements. A row's results are the same bits whatever rows surround it: no sum's order depends on them.
#pragma once
#include <cstdint>

extern "C" {
#pragma GCC visibility push(default)

enum sg_format : int32_t { SG_FLOAT32 = 0, SG_BFLOAT16 = 1, SG_FLOAT16 = 2, SG_INT8 = 3 };

// y = x W^T + bias. W's rows lie in panels of 16: (panels, columns, 16); int8 (panels, columns / 2, 16, 2)
// with one scale for each 64 columns of a row: (panels, groups, 16). Missing rows and columns are zeros.
struct sg_linear {
    int32_t rows, columns, format, reserved;
    const void *panels;
    const float *scales, *bias;  // bias: (rows,) or null
};

struct sg_block {
    sg_linear qkv, output, gate_up, down;
    const float *input_norm, *mlp_norm, *query_norm, *key_norm;  // the last two null where heads have no norm
};

// Adapters of one group of linears over all layers: down (layers, units, columns, targets * 8),
// up (layers, units, chunks, 8, chunk); chunk c belongs to target chunk_targets[c].
struct sg_adapter_table {
    int32_t targets, chunks, chunk, format;
    const int32_t *chunk_targets;
    const void *down, *up;
    int64_t down_layer, down_unit, up_layer, up_unit;  // strides in elements
};

struct sg_model {
    int32_t layers, hidden, intermediate, heads, kv_heads, head_dim, vocabulary, embedding_format;
    float rms_eps;
    int32_t reserved;
    const void *embedding;     // (vocabulary, hidden) float32, bfloat16 or float16
    const float *frequencies;  // (head_dim / 2,)
    const float *last_norm;
    const sg_block *blocks;
};

// Keys and values: (layers, pages, 2 * kv_heads, page_size * head_dim) float32 or float16; a page's key heads
// are (head_dim, page_size), its value heads (page_size, head_dim).
struct sg_cache {
    void *pool;
    int64_t layer_stride;
    int32_t page_size, format;
};

// R rows of S pieces. Rows of a piece are consecutive positions of one sequence.
struct sg_step {
    int32_t rows, pieces;
    const int64_t *tokens;       // (R,)
    const int32_t *positions;    // (R,)
    const int32_t *piece_rows;   // (S + 1,) first row of each piece
    const int32_t *piece_pages;  // (S + 1,) first entry of each piece in pages
    const int32_t *pages;        // block tables, one after the other
    const int32_t *unit_first;   // (R,) in units; null if no row has an adapter
    const int32_t *unit_counts;  // (4, R) how many of them each group uses
    const int32_t *units;
    const sg_adapter_table *tables;  // (4,) qkv, o, gate_up, down
};

// Scratch of a step, from sg_scratch_floats; taken apart in kernels.cpp.
struct sg_scratch {
    float *memory;
    int64_t floats;
};

// Of the structs above, in order: a build of another version is to be noticed before it reads them.
int64_t sg_size_of(int32_t which);

void *sg_team_new(int32_t threads);
void sg_team_free(void *team);

int64_t sg_scratch_floats(const sg_model *model, const sg_step *step, int32_t threads);
void sg_embed(const sg_model *model, const int64_t *tokens, int32_t rows, float *hidden);
// Blocks first to last, exclusive, over (R, hidden), changed in place.
void sg_blocks(void *team, const sg_model *model, const sg_cache *cache, const sg_step *step, sg_scratch scratch,
               int32_t first, int32_t last, float *hidden);
void sg_norm(const float *x, const float *weight, float eps, int32_t rows, int32_t width, float *y);
// scratch: as many floats as x has, and one per row; used by int8 alone.
void sg_product(void *team, const sg_linear *linear, const float *x, int32_t rows, float *scratch, float *y);

void sg_pack(const sg_linear *linear, const void *weight, void *panels, float *scales);

#pragma GCC visibility pop
}
