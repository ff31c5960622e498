// What every kernel uses: short names of types, and the instructions that C++ has no words for.
//
// Sources include nothing but the headers beside this one, so that they compile anywhere.
#pragma once

typedef unsigned char u8;
typedef signed char s8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#include "abi.h"

#define INLINE __device__ __forceinline__

// Overlapping launches (programmatic dependent launch). `let_next_start` allows the next kernel's blocks to start; `wait_for_previous` waits until all that the
// kernels before wrote can be read. Before it, a kernel touches only what no kernel writes: weights and their scales.
INLINE void let_next_start() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
#endif
}
INLINE void wait_for_previous() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

INLINE u32 shared_address(const void* p) { return (u32)__cvta_generic_to_shared(p); }
INLINE uint4 load_shared(u32 address) {
    uint4 v;
    asm volatile("ld.shared.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "r"(address) : "memory");
    return v;
}

// bf16 from and to f32. Two at once: `low` goes to the low half.
INLINE float from_bf16(u16 v) { return __int_as_float((int)((u32)v << 16)); }
INLINE u32 to_bf16x2(float low, float high) {
    u32 both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    return both;
}
INLINE u16 to_bf16(float v) { return (u16)to_bf16x2(v, 0.0f); }

// Byte i of the result is the byte of (high:low) that nibble i of `selector` picks; a nibble from 8 on repeats the sign of byte (nibble − 8).
INLINE u32 pick_bytes(u32 low, u32 high, u32 selector) {
    u32 bytes;
    asm("prmt.b32 %0, %1, %2, %3;" : "=r"(bytes) : "r"(low), "r"(high), "r"(selector));
    return bytes;
}

// A value word of 8 pair codes (SPEC §10.4) as the four A registers of an int8 matrix instruction: a[0], a[2] hold row g, a[1], a[3] row g + 8. The tables hold the
// first and the second value of each pair code; code 8 picks the sign of entry 0, which is positive: zero.
INLINE void expand(u32 word, u32 (&a)[4]) {
    const u32 high = word >> 16;
    a[0] = pick_bytes(0x01000101u, 0xFF00FFFFu, word);
    a[1] = pick_bytes(0xFF010001u, 0xFFFF0001u, word);
    a[2] = pick_bytes(0x01000101u, 0xFF00FFFFu, high);
    a[3] = pick_bytes(0xFF010001u, 0xFFFF0001u, high);
}

// A tile of 16 rows × 64 columns times 8 tokens, 2:4 sparse, or 16 × 32 dense.
INLINE void multiply_sparse(int (&d)[4], const u32 (&a)[4], const uint4 b, u32 metadata) {
    asm volatile("mma.sp.sync.aligned.m16n8k64.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9,%10,%11}, {%0,%1,%2,%3}, %12, 0x0;"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b.x), "r"(b.y), "r"(b.z), "r"(b.w), "r"(metadata));
}
INLINE void multiply_dense(int (&d)[4], const u32 (&a)[4], u32 b0, u32 b1) {
    asm volatile("mma.sync.aligned.m16n8k32.row.col.s32.s8.s8.s32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
                 : "+r"(d[0]), "+r"(d[1]), "+r"(d[2]), "+r"(d[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// 16 bytes of weights, read once. In its place in the program, so that it is requested before what follows.
INLINE uint4 load_weights(const uint4* p) {
    uint4 v;
    asm volatile("ld.global.L1::no_allocate.v4.u32 {%0,%1,%2,%3}, [%4];" : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w) : "l"(p) : "memory");
    return v;
}
// 16 bytes, or zeros where `there` is false.
INLINE uint4 load_if(const void* p, bool there) {
    uint4 v;
    asm volatile("{\n.reg .pred p;\nsetp.ne.u32 p, %5, 0;\nmov.u32 %0, 0;\nmov.u32 %1, 0;\nmov.u32 %2, 0;\nmov.u32 %3, 0;\n"
                 "@p ld.global.v4.u32 {%0,%1,%2,%3}, [%4];\n}"
                 : "=&r"(v.x), "=&r"(v.y), "=&r"(v.z), "=&r"(v.w) : "l"(p), "r"((u32)there) : "memory");
    return v;
}

// One output: sum × scale + bias + residual; or the sum itself. Adding to the output needs no answer from memory, and every output is added to once, so it is
// exact in any order.
INLINE void store_output(const LinearArgs& p, u32 token, u32 row, int sum, float scale, float bias) {
    const u64 at = (u64)token * p.rows + row;
    if (p.kind == 2) {
        ((int*)p.out)[at] = sum;
        return;
    }
    float y = fmaf((float)sum, scale, bias);
    if (p.residual) y += from_bf16(p.residual[at]);
    if (p.kind == 1) ((float*)p.out)[at] = y;
    else if (p.kind == 3) asm volatile("red.global.add.f32 [%0], %1;" ::"l"((float*)p.out + at), "f"(y) : "memory");
    else ((u16*)p.out)[at] = to_bf16(y);
}

// The function of gates: 0 silu, 1 squared relu, 2 gelu.
INLINE float activate(u32 activation, float g) {
    if (activation == 0) return g / (1.0f + expf(-g));
    if (activation == 2) return 0.5f * g * erfcf(-0.7071067812f * g);
    const float a = fmaxf(g, 0.0f);
    return a * a;
}
