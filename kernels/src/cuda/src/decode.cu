// targets: sm_90a compute_80
// Linear layers of 1 to 16 tokens: weights stream past the tensor cores once.
//
// Floor: the weights' bytes (rows × cols / 4) over the memory's bandwidth; below about 10 MB the time of a launch, a dependency and one trip to memory, about 1.5 µs.
//
// Layout: weights as in the file, [16 rows][128 columns][lane][16 bytes] (SPEC §10.4), a lane's bytes being V0 M0 V1 M1; or dense, V0 V1 V2 V3 for 32 columns each. Inputs are
// permuted within each 64 columns, position 16c + 4i + e holding column 16i + 4c + e, so that the four registers of a lane's B fragment are 16 bytes in a row.
//
// Launch: grid (ceil(rows / (16·RB))), block any number of whole warps up to MAX_THREADS; warp w takes the LD tiles from w·LD on, and then every (warps·LD)-th set. Weight rows
// are padded to a multiple of 64 with zero tiles. Launches may overlap: weights are requested before the wait.
#include "common.h"

template <int LD, int RB, int NT, bool SPARSE> INLINE void decode(const LinearArgs& p) {
    __shared__ int sums[RB * 16 * NT * 8];  // [block][token][row]
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, c = lane & 3;
    const u32 tiles = p.cols >> 7, first_block = blockIdx.x * RB;
    const uint4* weights = (const uint4*)p.weights + (u64)first_block * tiles * 32 + lane;
    let_next_start();

    uint4 w[RB][LD];
    auto request_weights = [&](u32 tile) {
#pragma unroll
        for (int i = 0; i < LD; i++)
#pragma unroll
            for (int r = 0; r < RB; r++)
                if (tile + i < tiles) w[r][i] = load_weights(weights + (u64)(r * tiles + tile + i) * 32);
    };
    u32 tile = warp * LD;
    request_weights(tile);
    for (u32 i = threadIdx.x; i < RB * 16 * NT * 8; i += blockDim.x) sums[i] = 0;
    // The rows that this thread will write, in the order of the loop at the end.
    const u32 my_row = first_block * 16 + threadIdx.x % (RB * 16);
    const float row_scale = my_row < p.rows ? p.row_scales[my_row] : 0.0f;
    const float bias = p.bias && my_row < p.rows ? p.bias[my_row] : 0.0f;
    __syncthreads();  // the sums are zero
    wait_for_previous();
    // The multiplier of this thread's first output, now, so that it is there at the end.
    const u32 my_token = threadIdx.x / (RB * 16);
    const float token_scale = my_token < p.tokens ? p.token_scales[my_token] : 0.0f;

    int acc[RB][NT][4] = {};
    for (; tile < tiles; tile += warps * LD) {
        uint4 x[LD][2][NT];
#pragma unroll
        for (int i = 0; i < LD; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int n = 0; n < NT; n++)
                    x[i][h][n] = load_if(p.x + (u64)(n * 8 + g) * p.stride + (tile + i) * 128 + h * 64 + c * 16, n * 8 + g < p.tokens && tile + i < tiles);
#pragma unroll
        for (int i = 0; i < LD; i++) {
            if (tile + i >= tiles) break;
#pragma unroll
            for (int r = 0; r < RB; r++) {
                u32 a[4];
                const uint4 v = w[r][i];
                if (SPARSE) {
                    expand(v.x, a);
#pragma unroll
                    for (int n = 0; n < NT; n++) multiply_sparse(acc[r][n], a, x[i][0][n], v.y);
                    expand(v.z, a);
#pragma unroll
                    for (int n = 0; n < NT; n++) multiply_sparse(acc[r][n], a, x[i][1][n], v.w);
                } else {
                    expand(v.x, a);
#pragma unroll
                    for (int n = 0; n < NT; n++) multiply_dense(acc[r][n], a, x[i][0][n].x, x[i][0][n].y);
                    expand(v.y, a);
#pragma unroll
                    for (int n = 0; n < NT; n++) multiply_dense(acc[r][n], a, x[i][0][n].z, x[i][0][n].w);
                    expand(v.z, a);
#pragma unroll
                    for (int n = 0; n < NT; n++) multiply_dense(acc[r][n], a, x[i][1][n].x, x[i][1][n].y);
                    expand(v.w, a);
#pragma unroll
                    for (int n = 0; n < NT; n++) multiply_dense(acc[r][n], a, x[i][1][n].z, x[i][1][n].w);
                }
            }
        }
        if (tile + warps * LD < tiles) request_weights(tile + warps * LD);
    }

#pragma unroll
    for (int r = 0; r < RB; r++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int q = 0; q < 4; q++) {
                const u32 token = n * 8 + 2 * c + (q & 1), row = g + 8 * (q >> 1);
                if (token < p.tokens) atomicAdd(&sums[(r * NT * 8 + token) * 16 + row], acc[r][n][q]);
            }
    __syncthreads();
    for (u32 i = threadIdx.x; i < RB * 16 * p.tokens; i += blockDim.x) {
        const u32 token = i / (RB * 16), row = i % (RB * 16);
        const int sum = sums[((row >> 4) * NT * 8 + token) * 16 + (row & 15)];
        const float scale = row_scale * (i == threadIdx.x ? token_scale : p.token_scales[token]);
        if (first_block * 16 + row < p.rows) store_output(p, token, first_block * 16 + row, sum, scale, bias);
    }
}

// LD tiles a warp, RB blocks of rows, NT times 8 tokens; at most THREADS threads, at least BLOCKS blocks at once on a multiprocessor.
#define DECODE(LD, RB, NT, THREADS, BLOCKS)                                                                                                                              \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) decode_sparse_##LD##_##RB##_##NT(const __grid_constant__ LinearArgs p) { decode<LD, RB, NT, true>(p); } \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) decode_dense_##LD##_##RB##_##NT(const __grid_constant__ LinearArgs p) { decode<LD, RB, NT, false>(p); }

DECODE(1, 1, 1, 640, 2)
DECODE(2, 1, 1, 640, 2)
DECODE(3, 1, 1, 640, 2)
DECODE(4, 1, 1, 640, 1)
DECODE(2, 2, 1, 640, 2)
DECODE(2, 1, 2, 640, 1)
DECODE(3, 1, 2, 640, 1)
DECODE(4, 1, 2, 640, 1)
DECODE(2, 2, 2, 640, 1)
