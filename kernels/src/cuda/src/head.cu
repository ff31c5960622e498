// targets: sm_90a compute_80
// The output head: logits of every word for some tokens, and the largest of each token, for which nobody need read the logits again.
//
// Weights are int8 with a multiplier a row, f16 or bf16; sums are f32. Numbers of the activations are split into a 16-bit head and the 16-bit rest, two
// columns of the same product, so their rounding does not show: int8 is exact in f16, and the tensor cores idle anyway. Only many tokens times int8 weights take 16 bits
// in all, as two bytes: then no weight is widened.
//
// Floor: the weights' bytes over the memory's bandwidth (328 MB for 128256 × 2560 in int8: 0.1 ms). Three kernels:
//
// * `head_few`, up to 16 tokens: weights go from memory to registers, the activations are in shared memory. A warp takes 16 rows at a time, a line of 128 bytes of
//   each (half lines cost a third of the speed). The order of a dot product's terms is free: of 64 bytes lane (g, c) takes 16c … 16c+15 of rows g and g+8.
//   Launch: grid at most 2 blocks a multiprocessor, block = 256, shared = NT · 8 · (cols · 2 + pad), pad 16 for int8 and 64 else; cols a multiple of 64.
// * `head_many`: tiles of 128 rows × 64 tokens by 4 warps, four stages of 64 columns, two terms. It reads what `head_split` made.
//   Launch: grid = (ceil(tokens / 64), ceil(rows / 128)), block = 128, shared = 4 stages; cols a multiple of 64.
// * `head_plain`: any weights, cols a multiple of 8; a warp a row. Launch: grid = ceil(rows / 8), block = 256.
#include "decoder.h"

// Types of weights. `Operand` is the 16-bit type that few tokens are multiplied in, `multiply` what many do with 16 bytes of rows g and g + 8 and of column g: bytes keep the
// sums of both terms apart, because together they may not fit.
struct Int8 {
    using Operand = f16;
    using Sum = int;
    static constexpr u32 BYTES = 1, PAD = 16, SUMS = 2;
    static INLINE void multiply(int (&d)[4], const uint4& low, const uint4& high, const uint4& x) {
        multiply_dense(d, {low.x, high.x, low.y, high.y}, x.x, x.y);
        multiply_dense(d, {low.z, high.z, low.w, high.w}, x.z, x.w);
    }
};
template <class T> struct Bits16 {
    using Operand = T;
    using Sum = float;
    static constexpr u32 BYTES = 2, PAD = 64, SUMS = 1;
    static INLINE void multiply(float (&d)[4], const uint4& low, const uint4& high, const uint4& x) {
        ::multiply<T>(d, low.x, high.x, low.y, high.y, x.x, x.y);
        ::multiply<T>(d, low.z, high.z, low.w, high.w, x.z, x.w);
    }
};
using Float16 = Bits16<f16>;
using Bfloat16 = Bits16<bf16>;

INLINE u32 pack(f16, float low, float high) { return pack_f16(low, high); }
INLINE u32 pack(bf16, float low, float high) { return to_bf16x2(low, high); }
INLINE float2 unpack(f16, u32 pair) { return unpack_f16(pair); }
INLINE float2 unpack(bf16, u32 pair) { return unpack_bf16(pair); }

// Four int8 as two pairs of f16: with the sign bit flipped a byte under 0x64 is 1024 + 128 + value.
INLINE void widen(u32 word, u32& first, u32& second) {
    word ^= 0x80808080u;
    first = __byte_perm(word, 0x64646464u, 0x4140), second = __byte_perm(word, 0x64646464u, 0x4342);
    asm("sub.f16x2 %0, %0, %1;" : "+r"(first) : "r"(0x64806480u));
    asm("sub.f16x2 %0, %0, %1;" : "+r"(second) : "r"(0x64806480u));
}

// 64 bytes of 16 rows' weights times 8 columns of activations. `low` are the weights of row g, `high` those of row g + 8, x the words of column g, all in this lane's
// order: for int8 of 16 columns, else of 8.
template <class W> INLINE void multiply_bytes(float (&d)[4], uint4 low, uint4 high, const uint4 (&x)[2 / W::BYTES]) {
    if constexpr (W::BYTES == 1) {
        const u32 l[4] = {low.x, low.y, low.z, low.w}, h[4] = {high.x, high.y, high.z, high.w};
        const u32 xs[8] = {x[0].x, x[0].y, x[0].z, x[0].w, x[1].x, x[1].y, x[1].z, x[1].w};
#pragma unroll
        for (int s = 0; s < 4; s++) {
            u32 a[4];
            widen(l[s], a[0], a[2]);
            widen(h[s], a[1], a[3]);
            multiply<f16>(d, a[0], a[1], a[2], a[3], xs[2 * s], xs[2 * s + 1]);
        }
    } else {
        W::multiply(d, low, high, x[0]);
    }
}

INLINE void keep_best(float& best, u32& row, float other, u32 other_row) {
    if (other > best || (other == best && other_row < row)) best = other, row = other_row;
}

template <class W, int NT> INLINE void few(const HeadArgs& p) {
    extern __shared__ __align__(16) u8 shared[];
    __shared__ float best_of[8][NT * 4];
    __shared__ u32 best_row_of[8][NT * 4];
    constexpr u32 AHEAD = NT == 1 ? 4 : 2;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
    const u32 halves = p.cols * W::BYTES / 64, lines = (halves + 1) / 2, rounds = (lines + AHEAD - 1) / AHEAD;
    const u32 row_blocks = (p.rows + 15) / 16, warps = gridDim.x * 8, column_bytes = p.cols * 2 + W::PAD;
    let_next_start();

    uint4 low[AHEAD][2], high[AHEAD][2];
    const u8* weights = static_cast<const u8*>(p.weights);
    const u64 row_bytes = u64(p.cols) * W::BYTES;
    auto request = [&](u32 row_block, u32 line, u32 u) {
        if (row_block >= row_blocks) return;
        const u8 *at = weights + min(row_block * 16 + g, p.rows - 1) * row_bytes, *other = weights + min(row_block * 16 + g + 8, p.rows - 1) * row_bytes;
#pragma unroll
        for (u32 j = 0; j < 2; j++)
            if (2 * line + j < halves) low[u][j] = load_once(at + line * 128 + j * 64 + c * 16), high[u][j] = load_once(other + line * 128 + j * 64 + c * 16);
    };
    u32 row_block = blockIdx.x * 8 + warp;
#pragma unroll
    for (u32 u = 0; u < AHEAD; u++) request(row_block, u, u);
    wait_for_previous();

    using Operand = typename W::Operand;
    for (u32 i = threadIdx.x; i < NT * 4 * p.cols / 2; i += blockDim.x) {
        const u32 token = i / (p.cols / 2), k = i % (p.cols / 2) * 2;
        const float2 v = token < p.tokens ? *reinterpret_cast<const float2*>(p.x + u64(token) * p.cols + k) : make_float2(0.0f, 0.0f);
        const u32 pair = pack(Operand{}, v.x, v.y);
        const float2 kept = unpack(Operand{}, pair);
        *reinterpret_cast<u32*>(shared + 2 * token * column_bytes + k * 2) = pair;
        *reinterpret_cast<u32*>(shared + (2 * token + 1) * column_bytes + k * 2) = pack(Operand{}, v.x - kept.x, v.y - kept.y);
    }
    __syncthreads();

    const u32 columns = shared_address(shared) + g * column_bytes;
    float best[NT];
    u32 best_row[NT];
#pragma unroll
    for (int n = 0; n < NT; n++) best[n] = MINUS_INFINITY, best_row[n] = 0;
    for (; row_block < row_blocks; row_block += warps) {
        float sums[NT][4] = {};
        for (u32 round = 0; round < rounds; round++) {
            const bool same = round + 1 < rounds;
#pragma unroll
            for (u32 u = 0; u < AHEAD; u++) {
                const u32 line = round * AHEAD + u;
#pragma unroll
                for (u32 j = 0; j < 2; j++) {
                    if (2 * line + j >= halves) continue;
#pragma unroll
                    for (int n = 0; n < NT; n++) {
                        uint4 x[2 / W::BYTES];
#pragma unroll
                        for (u32 i = 0; i < 2 / W::BYTES; i++) x[i] = load_shared(columns + n * 8 * column_bytes + ((2 * line + j) * 64 + 16 * c) / W::BYTES * 2 + i * 16);
                        multiply_bytes<W>(sums[n], low[u][j], high[u][j], x);
                    }
                }
                request(same ? row_block : row_block + warps, same ? line + AHEAD : u, u);
            }
        }
#pragma unroll
        for (int n = 0; n < NT; n++)
#pragma unroll
            for (int half = 0; half < 2; half++) {
                const u32 row = row_block * 16 + g + 8 * half, token = n * 4 + c;
                if (row >= p.rows || token >= p.tokens) continue;
                float logit = sums[n][2 * half] + sums[n][2 * half + 1];
                if (W::BYTES == 1) logit *= p.scale[row];
                p.logits[u64(token) * p.rows + row] = logit;
                keep_best(best[n], best_row[n], logit, row);
            }
    }

#pragma unroll
    for (int n = 0; n < NT; n++) {
#pragma unroll
        for (int step = 4; step < 32; step *= 2) {
            const float other = __shfl_xor_sync(~0u, best[n], step);
            const u32 other_row = __shfl_xor_sync(~0u, best_row[n], step);
            keep_best(best[n], best_row[n], other, other_row);
        }
        if (g == 0) best_of[warp][n * 4 + c] = best[n], best_row_of[warp][n * 4 + c] = best_row[n];
    }
    __syncthreads();
    if (threadIdx.x < NT * 4 && threadIdx.x < p.tokens) {
        float all = best_of[0][threadIdx.x];
        u32 row = best_row_of[0][threadIdx.x];
        for (u32 w = 1; w < 8; w++) keep_best(all, row, best_of[w][threadIdx.x], best_row_of[w][threadIdx.x]);
        p.best[threadIdx.x * gridDim.x + blockIdx.x] = all, p.best_row[threadIdx.x * gridDim.x + blockIdx.x] = row;
    }
}

template <class W> INLINE void many(const HeadArgs& p) {
    extern __shared__ __align__(16) u8 shared[];
    constexpr bool BYTE = W::BYTES == 1;
    constexpr u32 STAGES = 4, THREADS = 128, WEIGHT_BYTES = 128 * 64 * W::BYTES, X_ROW = 64 * W::BYTES, X_BYTES = 64 * X_ROW, STAGE = WEIGHT_BYTES + 2 * X_BYTES;
    // 16-byte pieces of a row; where a row is 128 bytes every other one has its halves swapped, so that 8 lanes read from all banks.
    constexpr u32 PIECES = 4 * W::BYTES;
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32, g = lane / 4, c = lane % 4;
    const u32 first_token = blockIdx.x * 64, first_row = blockIdx.y * 128, blocks = p.cols / 64;
    const u32 base = shared_address(shared);
    auto place = [](u32 row, u32 piece) { return BYTE ? piece : piece ^ (row % 2 * 4); };
    let_next_start();
    wait_for_previous();

    const u8 *weights = static_cast<const u8*>(p.weights), *halves = static_cast<const u8*>(p.halves);
    auto request = [&](u32 block) {
        if (block < blocks) {
            const u32 stage = base + block % STAGES * STAGE;
#pragma unroll
            for (u32 i = threadIdx.x; i < 128 * PIECES; i += THREADS) {
                const u32 row = i / PIECES, piece = i % PIECES;
                const u64 from = (u64(min(first_row + row, p.rows - 1)) * p.cols + block * 64) * W::BYTES + piece * 16;
                copy16(stage + row * X_ROW + place(row, piece) * 16, weights + from, first_row + row < p.rows);
            }
#pragma unroll
            for (u32 i = threadIdx.x; i < 2 * 64 * PIECES; i += THREADS) {
                const u32 term = i / (64 * PIECES), column = i / PIECES % 64, piece = i % PIECES, token = first_token + column;
                const u64 from = ((u64(term) * p.tokens + min(token, p.tokens - 1)) * p.cols + block * 64) * W::BYTES + piece * 16;
                copy16(stage + WEIGHT_BYTES + term * X_BYTES + column * X_ROW + place(column, piece) * 16, halves + from, token < p.tokens);
            }
        }
        copies_commit();
    };
    for (u32 block = 0; block < STAGES - 1; block++) request(block);
    const u32 row = warp * 32;
    typename W::Sum sums[W::SUMS][2][8][4] = {};
    for (u32 block = 0; block < blocks; block++) {
        copies_wait<STAGES - 2>();
        __syncthreads();
        request(block + STAGES - 1);
        const u32 stage = base + block % STAGES * STAGE;
        uint4 low[2][W::BYTES], high[2][W::BYTES];
#pragma unroll
        for (u32 m = 0; m < 2; m++)
#pragma unroll
            for (u32 j = 0; j < W::BYTES; j++) {
                const u32 at = row + 16 * m + g;
                low[m][j] = load_shared(stage + at * X_ROW + place(at, 4 * j + c) * 16);
                high[m][j] = load_shared(stage + (at + 8) * X_ROW + place(at + 8, 4 * j + c) * 16);
            }
#pragma unroll
        for (u32 term = 0; term < 2; term++)
#pragma unroll
            for (u32 n = 0; n < 8; n++) {
                const u32 at = 8 * n + g;
                const u32 from = stage + WEIGHT_BYTES + term * X_BYTES + at * X_ROW;
#pragma unroll
                for (u32 j = 0; j < W::BYTES; j++) {
                    const uint4 x = load_shared(from + place(at, 4 * j + c) * 16);
#pragma unroll
                    for (u32 m = 0; m < 2; m++) W::multiply(sums[term % W::SUMS][m][n], low[m][j], high[m][j], x);
                }
            }
    }
    // Of each byte-wise token: what its bytes were multiplied by.
    const float* factors = reinterpret_cast<const float*>(halves + 2 * u64(p.tokens) * p.cols);
#pragma unroll
    for (u32 m = 0; m < 2; m++)
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            const u32 at = first_row + row + 16 * m + 8 * half + g;
            if (at >= p.rows) continue;
            const float scale = BYTE ? p.scale[at] : 1.0f;
#pragma unroll
            for (u32 n = 0; n < 8; n++)
#pragma unroll
                for (u32 i = 0; i < 2; i++) {
                    const u32 token = first_token + 8 * n + 2 * c + i;
                    if (token >= p.tokens) continue;
                    float sum = float(sums[0][m][n][2 * half + i]);
                    if (BYTE) sum = (256.0f * sum + float(sums[W::SUMS - 1][m][n][2 * half + i])) * factors[token];
                    p.logits[u64(token) * p.rows + at] = sum * scale;
                }
        }
}

// Rows as two bytes a number, 256 · high + low, 16 bits of the row's largest; their factors follow. Launch: grid = tokens, block = 256.
INLINE void split_bytes(const HeadArgs& p) {
    __shared__ float warps[8];
    let_next_start();
    wait_for_previous();
    const float* x = p.x + u64(blockIdx.x) * p.cols;
    float largest = 0.0f;
    for (u32 k = threadIdx.x * 4; k < p.cols; k += blockDim.x * 4) {
        const float4 v = *reinterpret_cast<const float4*>(x + k);
        largest = fmaxf(fmaxf(fmaxf(fabsf(v.x), fabsf(v.y)), fmaxf(fabsf(v.z), fabsf(v.w))), largest);
    }
    largest = warp_largest(largest);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = largest;
    __syncthreads();
    for (u32 w = 0; w < 8; w++) largest = fmaxf(largest, warps[w]);
    // The largest that two bytes of -128 to 127 hold on both sides.
    constexpr float MOST = 32639.0f;
    const float scale = MOST / fmaxf(largest, 1e-30f);
    u8* out = static_cast<u8*>(p.halves);
    const u64 row = u64(blockIdx.x) * p.cols, rest = u64(p.tokens) * p.cols;
    for (u32 k = threadIdx.x * 4; k < p.cols; k += blockDim.x * 4) {
        const float4 v = *reinterpret_cast<const float4*>(x + k);
        const float values[4] = {v.x, v.y, v.z, v.w};
        u32 high = 0, low = 0;
#pragma unroll
        for (u32 i = 0; i < 4; i++) {
            const int q = min(max(__float2int_rn(values[i] * scale), -32639), 32639), h = (q + 128) >> 8;
            high |= u32(h & 0xFF) << (8 * i), low |= u32((q - 256 * h) & 0xFF) << (8 * i);
        }
        *reinterpret_cast<u32*>(out + row + k) = high, *reinterpret_cast<u32*>(out + rest + row + k) = low;
    }
    if (threadIdx.x == 0) reinterpret_cast<float*>(out + 2 * rest)[blockIdx.x] = fmaxf(largest, 1e-30f) / MOST;
}

// Launch: grid = tokens, block = 256.
template <class T> INLINE void split(const HeadArgs& p) {
    let_next_start();
    wait_for_previous();
    u32* out = static_cast<u32*>(p.halves);
    const u64 row = u64(blockIdx.x) * p.cols, rest = u64(p.tokens) * p.cols;
    for (u32 k = threadIdx.x * 2; k < p.cols; k += blockDim.x * 2) {
        const float2 v = *reinterpret_cast<const float2*>(p.x + row + k);
        const u32 pair = pack(T{}, v.x, v.y);
        const float2 kept = unpack(T{}, pair);
        out[(row + k) / 2] = pair;
        out[(rest + row + k) / 2] = pack(T{}, v.x - kept.x, v.y - kept.y);
    }
}

INLINE void load8(const s8* p, float (&v)[8]) {
    const uint2 a = *reinterpret_cast<const uint2*>(p);
    for (int i = 0; i < 8; i++) v[i] = float(s8((i < 4 ? a.x : a.y) >> (8 * (i % 4))));
}

template <class T> INLINE void plain(const HeadArgs& p) {
    let_next_start();
    wait_for_previous();
    const u32 row = blockIdx.x * 8 + threadIdx.x / 32, lane = threadIdx.x % 32;
    if (row >= p.rows) return;
    const T* weights = static_cast<const T*>(p.weights) + u64(row) * p.cols;
    for (u32 token = 0; token < p.tokens; token++) {
        float sum = 0.0f;
        for (u32 k = lane * 8; k < p.cols; k += 256) {
            float w[8], x[8];
            load8(weights + k, w);
            load8(p.x + u64(token) * p.cols + k, x);
            for (int i = 0; i < 8; i++) sum += w[i] * x[i];
        }
        sum = warp_sum(sum);
        if (lane == 0) p.logits[u64(token) * p.rows + row] = p.scale ? sum * p.scale[row] : sum;
    }
}

#define FEW(NAME, W)                                                                                     \
    extern "C" __global__ void __launch_bounds__(256, 2) head_few_##NAME##_1(const __grid_constant__ HeadArgs p) { few<W, 1>(p); } \
    extern "C" __global__ void __launch_bounds__(256, 2) head_few_##NAME##_2(const __grid_constant__ HeadArgs p) { few<W, 2>(p); } \
    extern "C" __global__ void __launch_bounds__(256, 1) head_few_##NAME##_4(const __grid_constant__ HeadArgs p) { few<W, 4>(p); }
FEW(i8, Int8)
FEW(f16, Float16)
FEW(bf16, Bfloat16)
extern "C" __global__ void __launch_bounds__(128, 2) head_many_i8(const __grid_constant__ HeadArgs p) { many<Int8>(p); }
extern "C" __global__ void __launch_bounds__(128, 2) head_many_f16(const __grid_constant__ HeadArgs p) { many<Float16>(p); }
extern "C" __global__ void __launch_bounds__(128, 2) head_many_bf16(const __grid_constant__ HeadArgs p) { many<Bfloat16>(p); }
extern "C" __global__ void head_split_i8(const __grid_constant__ HeadArgs p) { split_bytes(p); }
extern "C" __global__ void head_split_f16(const __grid_constant__ HeadArgs p) { split<f16>(p); }
extern "C" __global__ void head_split_bf16(const __grid_constant__ HeadArgs p) { split<bf16>(p); }
extern "C" __global__ void head_plain_i8(const __grid_constant__ HeadArgs p) { plain<s8>(p); }
extern "C" __global__ void head_plain_f32(const __grid_constant__ HeadArgs p) { plain<float>(p); }
extern "C" __global__ void head_plain_f16(const __grid_constant__ HeadArgs p) { plain<f16>(p); }
extern "C" __global__ void head_plain_bf16(const __grid_constant__ HeadArgs p) { plain<bf16>(p); }
