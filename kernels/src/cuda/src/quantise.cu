// targets: sm_90a compute_80
// From activations to what a linear reads: RMS norm, int8 per token (input.h), and the order of bytes that the kernel behind it wants. One block a token, one read.
//
// Output rows are `padded` bytes: the values (for windows of a pattern (M−2):M the gathered ones, 4·(b·(M/2−1)+w)+i from b·M+2w+i), zeros to `padded`, which is a multiple
// of 64. Order 1 puts column 16i+4c+e of a block of 64 at 16c+4i+e, so that a lane of mma reads 16 bytes at once. `scale` gets 1 / a.
//
// Floor: bytes of the input and output; for one token the latency of a load, a reduction and a store. Launch: grid = tokens, block = up(cols / 8 / CHUNKS, 32)
// threads, shared memory = cols bytes; cols a multiple of 8 and at most 8192 · CHUNKS (4096 · CHUNKS for parts).
#include "input.h"

template <class Source, int CHUNKS> INLINE void quantise(const QuantiseArgs& p) {
    extern __shared__ __align__(16) s8 row[];
    let_next_start();
    Input<Source, CHUNKS> input;
    input.request_weight(p);
    const Source source(p, blockIdx.x);
    wait_for_previous();
    input.load(p, source);
    if (p.plain) {
#pragma unroll
        for (int c = 0; c < CHUNKS; c++) {
            if (input.first(c) >= p.cols) continue;
            float4* out = reinterpret_cast<float4*>(p.plain + u64(blockIdx.x) * p.cols + input.first(c));
            const float(&y)[8] = input.y[c];
            const float r = input.r;
            out[0] = make_float4(y[0] * r, y[1] * r, y[2] * r, y[3] * r);
            out[1] = make_float4(y[4] * r, y[5] * r, y[6] * r, y[7] * r);
        }
        return;
    }
    if (threadIdx.x == 0) p.scale[blockIdx.x] = 1.0f / input.a;
    input.store(p, row);
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
