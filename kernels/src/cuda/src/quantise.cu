// targets: sm_90a compute_80
// From activations to what a linear reads: RMS norm, int8 per token, and the order of bytes that the kernel behind it wants. One block a token, one read.
//
//   v = source(x)                      rows as they are | activation(gate) × up | partial attention, put together
//   y = (v × weight) × r               r = 1 / sqrt(mean(v²) + eps); without a weight y = v
//   q = clamp(round_half_even(y × a), −128, 127), a = 127 / max(max|y|, 1e-5); with 4 bits a = √7 / max(mean|y|, 1e-5) and clamp(−8, 7)
//
// Rounding is monotone, so max|y| is max|v × weight| × r: one reduction finds both r and a. `scale` gets 1 / a.
//
// Output rows are `padded` bytes: the values (for windows of a pattern (M−2):M the gathered ones, 4·(b·(M/2−1)+w)+i from b·M+2w+i), zeros to `padded`, which is a multiple
// of 64. Order 1 puts column 16i+4c+e of a block of 64 at 16c+4i+e, so that a lane of mma reads 16 bytes at once.
//
// Floor: bytes of the input and output; for one token the latency of a load, a reduction and a store. Launch: grid = tokens, block = up(cols / 8 / CHUNKS, 32)
// threads, shared memory = cols bytes; cols a multiple of 8 and at most 8192 · CHUNKS (4096 · CHUNKS for parts).
#include "decoder.h"

template <class T> struct Rows {
    const T* row;
    __device__ Rows(const QuantiseArgs& p, u32 token) : row(static_cast<const T*>(p.x) + u64(p.rows ? p.rows[token] : token) * p.stride) {}
    __device__ void load(const QuantiseArgs&, u32 k, float (&v)[8]) const { load8(row + k, v); }
};

template <class T> struct Gated {
    const T *gate, *up;
    __device__ Gated(const QuantiseArgs& p, u32 token)
        : gate(static_cast<const T*>(p.x) + u64(token) * p.stride), up(static_cast<const T*>(p.up) + u64(token) * p.up_stride) {}
    __device__ void load(const QuantiseArgs& p, u32 k, float (&v)[8]) const {
        float u[8];
        load8(gate + k, v);
        load8(up + k, u);
#pragma unroll
        for (int i = 0; i < 8; i++) {
            v[i] = activate(p.activation, v[i]) * u[i];
        }
    }
};

// Attention was computed over parts of the keys; a part's values weigh 2^(its largest score − the largest of all).
struct Parts {
    const float* sums;
    const float2* shares;
    u32 parts;
    __device__ Parts(const QuantiseArgs& p, u32 token) {
        sums = static_cast<const float*>(p.x) + u64(token) * p.splits * p.cols;
        shares = p.shares + u64(token) * p.splits * p.heads;
        parts = Splits(p.positions[token], p.window, p.splits).active;
    }
    __device__ void load(const QuantiseArgs& p, u32 k, float (&v)[8]) const {
        constexpr u32 AT_ONCE = 5; // requested together, because each request takes half a microsecond
        const u32 head = k / p.head_dim;
        float most = MINUS_INFINITY, total = 0.0f;
        for (int i = 0; i < 8; i++) v[i] = 0.0f;
        for (u32 first = 0; first < parts; first += AT_ONCE) {
            float part[AT_ONCE][8];
            float2 share[AT_ONCE];
            float largest = most;
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++) {
                const u32 s = min(first + i, parts - 1);
                share[i] = shares[s * p.heads + head];
                load8(sums + u64(s) * p.cols + k, part[i]);
            }
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++) largest = fmaxf(largest, share[i].x);
            const float rescale = exp2f(most - largest);
            most = largest, total *= rescale;
            for (int e = 0; e < 8; e++) v[e] *= rescale;
#pragma unroll
            for (u32 i = 0; i < AT_ONCE; i++) {
                const float factor = first + i < parts ? exp2f(share[i].x - largest) : 0.0f;
                for (int e = 0; e < 8; e++) v[e] += factor * part[i][e];
                total += factor * share[i].y;
            }
        }
        const float inverse = 1.0f / total;
        for (int i = 0; i < 8; i++) v[i] *= inverse;
    }
};

// One word of four quantised values of the output, read from the row in shared memory.
INLINE u32 gathered(const s8* row, u32 word, u32 m, u32 cols) {
    if (m == 0) return 4 * word < cols ? *reinterpret_cast<const u32*>(row + 4 * word) : 0;
    const u32 windows = m / 2 - 1, block = word / windows, k = block * m + 2 * (word - block * windows);
    if (k >= cols) return 0;
    return u32(*reinterpret_cast<const u16*>(row + k)) | u32(*reinterpret_cast<const u16*>(row + k + 2)) << 16;
}

template <class Source, int CHUNKS> INLINE void quantise(const QuantiseArgs& p) {
    extern __shared__ __align__(16) s8 row[];
    __shared__ float warps[3][32];
    let_next_start();
    float y[CHUNKS][8], weight[CHUNKS][8];
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        const u32 k = (c * blockDim.x + threadIdx.x) * 8;
        for (int i = 0; i < 8; i++) weight[c][i] = 1.0f;
        if (p.weight && k < p.cols) load8(p.weight + k, weight[c]);
    }
    const Source source(p, blockIdx.x);
    wait_for_previous();

    float squares = 0.0f, largest = 0.0f, total = 0.0f;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        const u32 k = (c * blockDim.x + threadIdx.x) * 8;
        if (k >= p.cols) continue;
        source.load(p, k, y[c]);
        for (int i = 0; i < 8; i++) {
            squares += y[c][i] * y[c][i];
            y[c][i] *= weight[c][i];
            largest = fmaxf(largest, fabsf(y[c][i]));
            total += fabsf(y[c][i]);
        }
    }
    squares = warp_sum(squares), largest = warp_largest(largest), total = warp_sum(total);
    const u32 lane = threadIdx.x % 32, warp = threadIdx.x / 32;
    if (lane == 0) warps[0][warp] = squares, warps[1][warp] = largest, warps[2][warp] = total;
    __syncthreads();
    const bool there = lane < blockDim.x / 32;
    squares = warp_sum(there ? warps[0][lane] : 0.0f), largest = warp_largest(there ? warps[1][lane] : 0.0f), total = warp_sum(there ? warps[2][lane] : 0.0f);

    const float r = p.weight ? 1.0f / sqrtf(squares / float(p.cols) + p.eps) : 1.0f;
    if (p.plain) {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            const u32 k = (c * blockDim.x + threadIdx.x) * 8;
            if (k >= p.cols) continue;
            float4* out = reinterpret_cast<float4*>(p.plain + u64(blockIdx.x) * p.cols + k);
            out[0] = make_float4(y[c][0] * r, y[c][1] * r, y[c][2] * r, y[c][3] * r);
            out[1] = make_float4(y[c][4] * r, y[c][5] * r, y[c][6] * r, y[c][7] * r);
        }
        return;
    }
    const bool narrow = p.bits == 4;
    const float a = narrow ? 2.6457513f / fmaxf(total * r / float(p.cols), 1e-5f) : 127.0f / fmaxf(largest * r, 1e-5f);
    const int low = narrow ? -8 : -128, high = narrow ? 7 : 127;
    if (threadIdx.x == 0) p.scale[blockIdx.x] = 1.0f / a;
#pragma unroll
    for (int c = 0; c < CHUNKS; c++) {
        const u32 k = (c * blockDim.x + threadIdx.x) * 8;
        if (k >= p.cols) continue;
        u32 words[2] = {0, 0};
        for (int i = 0; i < 8; i++) {
            const int q = min(max(__float2int_rn(y[c][i] * r * a), low), high);
            words[i / 4] |= (u32(q) & 0xFF) << (8 * (i % 4));
        }
        *reinterpret_cast<uint2*>(row + k) = make_uint2(words[0], words[1]);
    }
    __syncthreads();

    uint4* out = reinterpret_cast<uint4*>(p.out + u64(blockIdx.x) * p.padded);
    for (u32 chunk = threadIdx.x; chunk < p.padded / 16; chunk += blockDim.x) {
        const u32 first = p.order ? chunk / 4 * 16 + chunk % 4 : chunk * 4, step = p.order ? 4 : 1;
        u32 words[4];
        for (u32 i = 0; i < 4; i++) words[i] = gathered(row, first + i * step, p.windows_of, p.cols);
        out[chunk] = make_uint4(words[0], words[1], words[2], words[3]);
    }
}

// One chunk a thread fits two blocks of up to 1024 threads on a multiprocessor if it keeps to 32 registers.
#define KERNELS(NAME, SOURCE, THREADS, BLOCKS)                                                                               \
    extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS) NAME##_1(const __grid_constant__ QuantiseArgs p) { quantise<SOURCE, 1>(p); } \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME##_2(const __grid_constant__ QuantiseArgs p) { quantise<SOURCE, 2>(p); } \
    extern "C" __global__ void __launch_bounds__(THREADS) NAME##_4(const __grid_constant__ QuantiseArgs p) { quantise<SOURCE, 4>(p); }

KERNELS(quantise_f32, Rows<float>, 1024, 2)
KERNELS(quantise_f16, Rows<f16>, 1024, 2)
KERNELS(quantise_bf16, Rows<bf16>, 1024, 2)
KERNELS(quantise_gated_f32, Gated<float>, 1024, 1)
KERNELS(quantise_gated_bf16, Gated<bf16>, 1024, 2)
KERNELS(quantise_parts, Parts, 512, 1)
