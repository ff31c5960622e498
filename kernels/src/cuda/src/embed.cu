// targets: sm_90a compute_80
// The rows of the embedding that a batch of tokens names, as f32: the first values of the residual stream.
//
// Floor: bytes; a row read and written per token. One block a token; cols is a multiple of 8. The ids must be smaller than the vocabulary (the host checks
// those that it sends, and the sampler makes no others). `scale` is null but for int8, where it has one multiplier a row.
#include "decoder.h"

INLINE void load8(const s8* p, float (&v)[8]) {
    const uint2 a = *reinterpret_cast<const uint2*>(p);
    for (int i = 0; i < 8; i++) v[i] = float(s8((i < 4 ? a.x : a.y) >> (8 * (i % 4))));
}

template <class T> INLINE void embed(const EmbedArgs& p) {
    let_next_start();
    wait_for_previous();
    const u64 id = p.ids[blockIdx.x];
    const float scale = p.scale ? p.scale[id] : 1.0f;
    const T* row = static_cast<const T*>(p.table) + id * p.cols;
    float* out = p.out + u64(blockIdx.x) * p.cols;
    for (u32 k = threadIdx.x * 8; k < p.cols; k += blockDim.x * 8) {
        float v[8];
        load8(row + k, v);
        *reinterpret_cast<float4*>(out + k) = make_float4(v[0] * scale, v[1] * scale, v[2] * scale, v[3] * scale);
        *reinterpret_cast<float4*>(out + k + 4) = make_float4(v[4] * scale, v[5] * scale, v[6] * scale, v[7] * scale);
    }
}

extern "C" __global__ void embed_f32(const __grid_constant__ EmbedArgs p) { embed<float>(p); }
extern "C" __global__ void embed_f16(const __grid_constant__ EmbedArgs p) { embed<f16>(p); }
extern "C" __global__ void embed_bf16(const __grid_constant__ EmbedArgs p) { embed<bf16>(p); }
extern "C" __global__ void embed_i8(const __grid_constant__ EmbedArgs p) { embed<s8>(p); }
