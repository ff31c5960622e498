// targets: compute_80
// Linear layers of many tokens on every GPU since Ampere: what Hopper's kernels are not for.
//
// Floor: 2·rows·cols·tokens over the sparse int8 rate of the GPU (half of it dense).
//
// Layout: a tile is 128 rows × TOKENS; eight warps, four down and two across, take 32 rows × TOKENS / 2 each. Weights are strips of the file's order, activations rows of 128 bytes whose
// 16-byte pieces are swizzled by the token; both are copied 128 columns at a time, three steps ahead.
//
// Launch: grid (ceil(rows / 128), ceil(tokens / TOKENS)), block 256, dynamic shared memory max(STAGES · (TOKENS · 128 + 4096), TOKENS · 132 · 4). Weights are padded to 256 rows.
#include "common.h"

constexpr int STAGES = 4;

// 16 bytes to shared memory, or zeros.
INLINE void copy_piece(u32 to, const void* from, bool there) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(there ? 16 : 0) : "memory");
}
INLINE void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int PENDING> INLINE void copies_wait() { asm volatile("cp.async.wait_group %0;" ::"n"(PENDING) : "memory"); }
// Four 8 × 16-byte matrices; lane 8m + i gives the address of row i of matrix m, and gets bytes 4·(lane % 4) of row lane / 4 of each.
INLINE uint4 load_matrices(u32 address) {
    uint4 v;
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
    return v;
}

template <int TOKENS, bool SPARSE> INLINE void tiles(const LinearArgs& p) {
    extern __shared__ __align__(128) u8 shared[];
    constexpr int NT = TOKENS / 16;  // groups of 8 tokens of a warp
    constexpr u32 X_BYTES = TOKENS * 128, STAGE = X_BYTES + 4096;
    const u32 base = shared_address(shared), thread = threadIdx.x, lane = thread & 31, warp = thread >> 5, g = lane >> 2, c = lane & 3;
    const u32 row0 = blockIdx.x * 128, token0 = blockIdx.y * TOKENS, steps = p.cols >> 7;
    const u32 strip0 = (warp & 3) * 2, my_tokens = (warp >> 2) * (TOKENS / 2);

    auto request = [&](u32 k) {
        const u32 stage = base + k % STAGES * STAGE;
        for (u32 i = thread; i < TOKENS * 8; i += 256) {
            const u32 token = i >> 3, piece = i & 7;
            const bool there = token0 + token < p.tokens;
            copy_piece(stage + token * 128 + ((piece ^ (token & 7)) << 4), p.x + (u64)(there ? token0 + token : 0) * p.stride + k * 128 + piece * 16, there);
        }
        // Eight strips of 512 bytes: one piece for each thread.
        copy_piece(stage + X_BYTES + thread * 16, p.weights + ((u64)(row0 / 16 + (thread >> 5)) * steps + k) * 512 + lane * 16, true);
    };

    int acc[2][NT][4] = {};
    for (u32 k = 0; k < STAGES - 1; k++) {
        if (k < steps) request(k);
        copies_commit();
    }
    for (u32 k = 0; k < steps; k++) {
        copies_wait<STAGES - 2>();
        __syncthreads();  // step k is there for all, and all are done with the stage that is filled next
        if (k + STAGES - 1 < steps) request(k + STAGES - 1);
        copies_commit();
        const uint4* strips = (const uint4*)(shared + k % STAGES * STAGE + X_BYTES);
        const u32 x = base + k % STAGES * STAGE;
        uint4 w[2];
#pragma unroll
        for (int r = 0; r < 2; r++) w[r] = strips[(strip0 + r) * 32 + lane];
#pragma unroll
        for (int h = 0; h < 2; h++) {
            u32 a[2][2][4];  // [rows][32 columns, dense only]
#pragma unroll
            for (int r = 0; r < 2; r++) {
                expand(h ? w[r].z : w[r].x, a[r][0]);
                if (!SPARSE) {
                    if (h == 0) expand(w[r].y, a[r][1]);
                    else expand(w[r].w, a[r][1]);
                }
            }
#pragma unroll
            for (int n = 0; n < NT; n++) {
                const u32 token = my_tokens + n * 8 + (lane & 7), piece = h * 4 + (lane >> 3);
                const uint4 b = load_matrices(x + token * 128 + ((piece ^ (token & 7)) << 4));
#pragma unroll
                for (int r = 0; r < 2; r++) {
                    if (SPARSE) {
                        multiply_sparse(acc[r][n], a[r][0], b, h ? w[r].w : w[r].y);
                    } else {
                        multiply_dense(acc[r][n], a[r][0], b.x, b.y);
                        multiply_dense(acc[r][n], a[r][1], b.z, b.w);
                    }
                }
            }
        }
    }
    copies_wait<0>();
    __syncthreads();

    // Through shared memory, so that neighbours write neighbours. Four words of padding against bank conflicts.
    int* sums = (int*)shared;
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int q = 0; q < 4; q++) sums[(my_tokens + n * 8 + 2 * c + (q & 1)) * 132 + (strip0 + r) * 16 + g + 8 * (q >> 1)] = acc[r][n][q];
    __syncthreads();
    const u32 row = row0 + (thread & 127);
    if (row >= p.rows) return;
    const float row_scale = p.row_scales[row], bias = p.bias ? p.bias[row] : 0.0f;
    for (u32 token = thread >> 7; token < TOKENS && token0 + token < p.tokens; token += 2)
        store_output(p, token0 + token, row, sums[token * 132 + (thread & 127)], row_scale * p.token_scales[token0 + token], bias);
}

#define TILES(TOKENS)                                                                                                                               \
    extern "C" __global__ void __launch_bounds__(256) tiles_sparse_##TOKENS(const __grid_constant__ LinearArgs p) { tiles<TOKENS, true>(p); }       \
    extern "C" __global__ void __launch_bounds__(256) tiles_dense_##TOKENS(const __grid_constant__ LinearArgs p) { tiles<TOKENS, false>(p); }

TILES(32)
TILES(64)
TILES(128)
