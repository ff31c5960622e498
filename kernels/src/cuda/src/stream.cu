// targets: sm_90a
// Linear layers of 1 to 16 tokens on Hopper: a block's weights come to shared memory in one copy, which is asked for while the kernels before still run.
//
// Floor, layouts and outputs: as decode.cu. There weights wait in registers, so that few blocks of the next launch find room while a launch runs; here a thread needs few, and
// the next launch's weights are on their way all the while.
//
// Launch: grid (ceil(rows / (16·RB))), block an even number of warps, at most 640 threads, dynamic shared memory RB · cols · 4 bytes. Launches may overlap.
#include "async.h"

template <int LD, int RB, int NT, bool SPARSE> INLINE void decode(const LinearArgs& p) {
    extern __shared__ __align__(128) u8 weights[];  // [block][tile][lane][16 bytes]
    __shared__ int sums[RB * 16 * NT * 8];          // [block][token][row]
    __shared__ __align__(8) u64 arrived;
    const u32 lane = threadIdx.x & 31, warp = threadIdx.x >> 5, warps = blockDim.x >> 5, g = lane >> 2, c = lane & 3;
    const u32 tiles = p.cols >> 7, first_block = blockIdx.x * RB, barrier = shared_address(&arrived);
    if (threadIdx.x == 0) {
        barrier_init(barrier, 1);
        barriers_visible();
        barrier_expect(barrier, RB * tiles * 512);
        copy_bytes(shared_address(weights), p.weights + (u64)first_block * tiles * 512, RB * tiles * 512, barrier);
    }
    let_next_start();
    for (u32 i = threadIdx.x; i < RB * 16 * NT * 8; i += blockDim.x) sums[i] = 0;
    // The scale and bias of the row that this thread will write, and after the wait the scale of its first token, so that they are there at the end.
    const u32 my_row = first_block * 16 + threadIdx.x % (RB * 16), my_token = threadIdx.x / (RB * 16);
    const float row_scale = my_row < p.rows ? p.row_scales[my_row] : 0.0f;
    const float bias = p.bias && my_row < p.rows ? p.bias[my_row] : 0.0f;
    __syncthreads();
    wait_for_previous();
    const float token_scale = my_token < p.tokens ? p.token_scales[my_token] : 0.0f;

    int acc[RB][NT][4] = {};
    const uint4* w = (const uint4*)weights + lane;
    bool here = false;
    for (u32 tile = warp * LD; tile < tiles; tile += warps * LD) {
        uint4 x[LD][2][NT];
#pragma unroll
        for (int i = 0; i < LD; i++)
#pragma unroll
            for (int h = 0; h < 2; h++)
#pragma unroll
                for (int n = 0; n < NT; n++)
                    x[i][h][n] = load_if(p.x + (u64)(n * 8 + g) * p.stride + (tile + i) * 128 + h * 64 + c * 16, n * 8 + g < p.tokens && tile + i < tiles);
        if (!here) barrier_wait(barrier, 0);
        here = true;
#pragma unroll
        for (int i = 0; i < LD; i++) {
            if (tile + i >= tiles) break;
#pragma unroll
            for (int r = 0; r < RB; r++) {
                const uint4 v = w[(r * tiles + tile + i) * 32];
                const u32 words[4] = {v.x, v.y, v.z, v.w};
#pragma unroll
                for (int s = 0; s < (SPARSE ? 2 : 4); s++) {
                    u32 a[4];
                    expand(words[SPARSE ? 2 * s : s], a);
#pragma unroll
                    for (int n = 0; n < NT; n++) {
                        const uint4 b = x[i][SPARSE ? s : s / 2][n];
                        if (SPARSE) multiply_sparse(acc[r][n], a, b, words[2 * s + 1 & 3]);
                        else multiply_dense(acc[r][n], a, s & 1 ? b.z : b.x, s & 1 ? b.w : b.y);
                    }
                }
            }
        }
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

// LD tiles a warp, RB blocks of rows, NT times 8 tokens.
#define STREAM(LD, RB, NT)                                                                                                                              \
    extern "C" __global__ void __launch_bounds__(640) stream_sparse_##LD##_##RB##_##NT(const __grid_constant__ LinearArgs p) { decode<LD, RB, NT, true>(p); } \
    extern "C" __global__ void __launch_bounds__(640) stream_dense_##LD##_##RB##_##NT(const __grid_constant__ LinearArgs p) { decode<LD, RB, NT, false>(p); }

STREAM(2, 2, 1)
STREAM(4, 2, 1)
STREAM(1, 2, 2)
STREAM(2, 2, 2)
STREAM(2, 4, 2)
