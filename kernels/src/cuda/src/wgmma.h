// Matrix instructions of Hopper's warpgroups: 64 rows of int8 weights in registers, times N tokens in shared memory, added to sums in registers.
//
// Layouts, per warp w of the group, g = lane / 4, c = lane % 4: A and metadata as those of mma.sp.m16n8k64 for rows 16w to 16w+15; sum 4j + q belongs to row g + 8·(q / 2) and
// token 8j + 2c + q % 2.
//
// The assembler keeps the A registers of an instruction in flight from being overwritten, and does NOT keep the metadata register: see `next_metadata`.
#pragma once
#include "common.h"

template <int N> struct Group;

#define R16_0 "%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15"
#define R16_1 "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31"
#define R16_2 "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47"
#define R16_3 "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63"
#define R16_4 "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79"
#define R16_5 "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95"
#define R16_6 "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111"
#define R16_7 "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127"
#define OUT4(i) "+r"(d[i]) COMMA "+r"(d[i + 1]) COMMA "+r"(d[i + 2]) COMMA "+r"(d[i + 3])
#define OUT16(i) OUT4(i) COMMA OUT4(i + 4) COMMA OUT4(i + 8) COMMA OUT4(i + 12)

// SUMS: the sums' operands; A0..: the numbers of the operands after them.
#define GROUP(N, SUMS, OUTPUTS, A0, A1, A2, A3, DESC, META)                                                                              \
    template <> struct Group<N> {                                                                                                             \
        static INLINE void sparse(int (&d)[N / 2], const u32 (&a)[4], u64 b, u32 metadata) {                                                  \
            asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\nwgmma.mma_async.sp.sync.aligned.m64n" #N "k64.s32.s8.s8 {" SUMS             \
                         "}, {%" #A0 ",%" #A1 ",%" #A2 ",%" #A3 "}, %" #DESC ", %" #META ", 0, p;\n}"                                        \
                         : OUTPUTS : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "r"(metadata));                                     \
        }                                                                                                                                     \
        static INLINE void dense(int (&d)[N / 2], const u32 (&a)[4], u64 b) {                                                                 \
            asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k32.s32.s8.s8 {" SUMS                \
                         "}, {%" #A0 ",%" #A1 ",%" #A2 ",%" #A3 "}, %" #DESC ", p;\n}"                                                       \
                         : OUTPUTS : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                    \
        }                                                                                                                                     \
    };
#define COMMA ,
GROUP(32, R16_0, OUT16(0), 16, 17, 18, 19, 20, 21)
GROUP(64, R16_0 "," R16_1, OUT16(0) COMMA OUT16(16), 32, 33, 34, 35, 36, 37)
GROUP(128, R16_0 "," R16_1 "," R16_2 "," R16_3, OUT16(0) COMMA OUT16(16) COMMA OUT16(32) COMMA OUT16(48), 64, 65, 66, 67, 68, 69)
GROUP(192, R16_0 "," R16_1 "," R16_2 "," R16_3 "," R16_4 "," R16_5, OUT16(0) COMMA OUT16(16) COMMA OUT16(32) COMMA OUT16(48) COMMA OUT16(64) COMMA OUT16(80), 96, 97, 98, 99, 100, 101)
GROUP(256, R16_0 "," R16_1 "," R16_2 "," R16_3 "," R16_4 "," R16_5 "," R16_6 "," R16_7, OUT16(0) COMMA OUT16(16) COMMA OUT16(32) COMMA OUT16(48) COMMA OUT16(64) COMMA OUT16(80) COMMA OUT16(96) COMMA OUT16(112), 128, 129, 130, 131, 132, 133)

// Products of f16 with sums in f32: 16 columns of 64 rows times N tokens, or N elements of 16 values. `b` describes rows of tokens, columns before each other, or rows of values,
// elements before each other.
template <int N> struct Halves;

#define FLOATS4(i) "+f"(d[i]) COMMA "+f"(d[i + 1]) COMMA "+f"(d[i + 2]) COMMA "+f"(d[i + 3])
#define FLOATS16(i) FLOATS4(i) COMMA FLOATS4(i + 4) COMMA FLOATS4(i + 8) COMMA FLOATS4(i + 12)
#define HALVES(N, SUMS, OUTPUTS, A0, A1, A2, A3, DESC)                                                                                      \
    template <> struct Halves<N> {                                                                                                             \
        static INLINE void from_shared(float (&d)[N / 2], u64 a, u64 b, bool add) {                                                            \
            asm volatile("{\n.reg .pred p;\nsetp.ne.b32 p, %" #A2 ", 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" SUMS        \
                         "}, %" #A0 ", %" #A1 ", p, 1, 1, 0, 0;\n}"                                                                            \
                         : OUTPUTS : "l"(a), "l"(b), "r"(u32(add)));                                                                           \
        }                                                                                                                                     \
        static INLINE void from_registers(float (&d)[N / 2], const u32 (&a)[4], u64 b) {                                                      \
            asm volatile("{\n.reg .pred p;\nsetp.eq.b32 p, 0, 0;\nwgmma.mma_async.sync.aligned.m64n" #N "k16.f32.f16.f16 {" SUMS               \
                         "}, {%" #A0 ",%" #A1 ",%" #A2 ",%" #A3 "}, %" #DESC ", p, 1, 1, 1;\n}"                                               \
                         : OUTPUTS : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));                                                      \
        }                                                                                                                                     \
    };
HALVES(64, R16_0 "," R16_1, FLOATS16(0) COMMA FLOATS16(16), 32, 33, 34, 35, 36)
HALVES(128, R16_0 "," R16_1 "," R16_2 "," R16_3, FLOATS16(0) COMMA FLOATS16(16) COMMA FLOATS16(32) COMMA FLOATS16(48), 64, 65, 66, 67, 68)

INLINE void groups_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
INLINE void groups_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most PENDING committed groups of instructions are in flight.
template <int PENDING> INLINE void groups_wait() { asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(PENDING) : "memory"); }

// The metadata for the next instruction, in the register of one that is no longer in flight. The assembler may otherwise write the new value before the wait that
// ends the old use, because it does not know that the old value is still read: seen, with wrong results and no warning. So the new value is made to
// depend on an A register that is written after the wait, and the old value to live until then; `zero` is 0, which the compiler cannot know.
INLINE void next_metadata(u32& metadata, u32 word, u32 a3, u32 zero) {
    asm volatile("{\n.reg .b32 t;\nlop3.b32 t, %2, %0, %3, 0x28;\nor.b32 %0, %1, t;\n}" : "+r"(metadata) : "r"(word), "r"(a3), "r"(zero));
}

// The descriptor of rows of 64 f16 in shared memory, with the 128-byte swizzle, one for each value to sum over; the next 64 elements of all rows lie `apart` bytes
// on. A step of 16 rows adds 128.
INLINE u64 value_rows(u32 address, u32 apart) { return (u64)((address & 0x3FFFF) >> 4) | (u64)(apart >> 4) << 16 | (u64)64 << 32 | (u64)1 << 62; }
// The descriptor of rows of 128 bytes, one for each token; nothing lies apart, which 16 stands for. A step along the columns adds its bytes / 16.
INLINE u64 token_rows(u32 address) { return value_rows(address, 16); }
