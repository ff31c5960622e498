// targets: sm_90a compute_80
// A linear layer of one token with all that comes before it: every block normalises and quantises the whole row for itself (input.h), which takes less than the launch
// of a kernel that does it once, and multiplies its rows as decode.cu does. With `kind` 4 a block has 16 gates and the 16 rows that they gate, and writes activation(gate) × up.
//
// Floor: as decode.cu; what is done by every block costs the latency of a load and of a reduction, about 0.7 µs.
//
// Layout of weights: as decode.cu. Launch: grid = ceil(rows / 16), or half of it for gates; block any number of whole warps up to 20, CHUNKS · 8 · threads at least the row's
// values; shared memory = q.cols bytes. Weight rows are padded to a multiple of 64. Launches may overlap: weights are requested before the wait.
#include "input.h"

constexpr u32 WARPS = 20;

template <class Source, int CHUNKS, int LD, int RB, bool SPARSE> INLINE void single(const LinearArgs& p, const QuantiseArgs& q) {
    extern __shared__ __align__(16) s8 row[];
    __shared__ int sums[WARPS][RB * 16];
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, c = lane & 3;
    const u32 tiles = p.cols >> 7;
    // From the strip of gates to that of what they gate.
    const u32 apart = RB == 2 ? p.rows >> 5 : 0;
    const uint4* weights = (const uint4*)p.weights + (u64)blockIdx.x * tiles * 32 + lane;
    let_next_start();

    uint4 w[RB][LD];
    auto request_weights = [&](u32 tile) {
#pragma unroll
        for (int i = 0; i < LD; i++)
#pragma unroll
            for (int r = 0; r < RB; r++)
                if (tile + i < tiles) w[r][i] = load_weights(weights + ((u64)r * apart * tiles + tile + i) * 32);
    };
    u32 tile = warp * LD;
    request_weights(tile);
    // Of the row that this thread will write.
    const u32 my_row = (blockIdx.x + (threadIdx.x >> 4) * apart) * 16 + (threadIdx.x & 15);
    const bool writes = threadIdx.x < RB * 16 && my_row < p.rows;
    const float row_scale = writes ? p.row_scales[my_row] : 0.0f, bias = writes && p.bias ? p.bias[my_row] : 0.0f;
    Input<Source, CHUNKS> input;
    input.request_weight(q);
    const Source source(q, 0);
    wait_for_previous();
    input.load(q, source);
    input.store(q, row);
    __syncthreads();

    int acc[RB][4] = {};
    for (; tile < tiles; tile += warps * LD) {
#pragma unroll
        for (int i = 0; i < LD; i++) {
            if (tile + i >= tiles) break;
            // The token is column 0 of the second operand; the other seven are zero.
            uint4 x[2] = {};
            if (g == 0) {
#pragma unroll
                for (u32 h = 0; h < 2; h++) {
                    const u32 word = (tile + i) * 32 + h * 16 + c;
                    x[h].x = gathered(row, word, q.windows_of, q.cols), x[h].y = gathered(row, word + 4, q.windows_of, q.cols);
                    x[h].z = gathered(row, word + 8, q.windows_of, q.cols), x[h].w = gathered(row, word + 12, q.windows_of, q.cols);
                }
            }
#pragma unroll
            for (int r = 0; r < RB; r++) {
                u32 a[4];
                const uint4 v = w[r][i];
                if (SPARSE) {
                    expand(v.x, a);
                    multiply_sparse(acc[r], a, x[0], v.y);
                    expand(v.z, a);
                    multiply_sparse(acc[r], a, x[1], v.w);
                } else {
                    expand(v.x, a);
                    multiply_dense(acc[r], a, x[0].x, x[0].y);
                    expand(v.y, a);
                    multiply_dense(acc[r], a, x[0].z, x[0].w);
                    expand(v.z, a);
                    multiply_dense(acc[r], a, x[1].x, x[1].y);
                    expand(v.w, a);
                    multiply_dense(acc[r], a, x[1].z, x[1].w);
                }
            }
        }
        if (tile + warps * LD < tiles) request_weights(tile + warps * LD);
    }
#pragma unroll
    for (int r = 0; r < RB; r++)
        if (c == 0) sums[warp][r * 16 + g] = acc[r][0], sums[warp][r * 16 + g + 8] = acc[r][2];
    __syncthreads();
    if (threadIdx.x >= RB * 16) return;
    int sum = 0;
    for (u32 i = 0; i < warps; i++) sum += sums[i][threadIdx.x];
    const float scale = row_scale * (1.0f / input.a);
    if (RB == 1) {
        if (writes) store_output(p, 0, my_row, sum, scale, bias);
        return;
    }
    const float y = fmaf((float)sum, scale, bias), up = __shfl_down_sync(~0u, y, 16);
    if (threadIdx.x < 16) ((float*)p.out)[my_row] = activate(p.activation, y) * up;
}

#define KERNEL(NAME, SOURCE, CHUNKS, LD, RB, KIND, SPARSE, BLOCKS)                                                                  \
    extern "C" __global__ void __launch_bounds__(32 * WARPS, BLOCKS)                                                                 \
        single_##NAME##_##KIND##_##LD##_##CHUNKS(const __grid_constant__ LinearArgs p, const __grid_constant__ QuantiseArgs q) {     \
        single<SOURCE, CHUNKS, LD, RB, SPARSE>(p, q);                                                                                \
    }
#define KERNELS(CHUNKS, LD, BLOCKS)                                  \
    KERNEL(f32, Rows<float>, CHUNKS, LD, 1, sparse, true, BLOCKS)    \
    KERNEL(f32, Rows<float>, CHUNKS, LD, 1, dense, false, BLOCKS)    \
    KERNEL(gated, Rows<float>, CHUNKS, LD, 2, sparse, true, BLOCKS)  \
    KERNEL(gated, Rows<float>, CHUNKS, LD, 2, dense, false, BLOCKS)  \
    KERNEL(parts, Parts, CHUNKS, LD, 1, sparse, true, 1)             \
    KERNEL(parts, Parts, CHUNKS, LD, 1, dense, false, 1)

KERNELS(1, 2, 2)
KERNELS(2, 3, 1)
KERNELS(4, 3, 1)
