// targets: sm_90a compute_80
// Dense trits into the order that the tensor cores read, once, when a layer is loaded.
//
// Floor: rows × cols / 2 bytes over the memory's bandwidth; it is not on the path of a token.
//
// Layout: from rows of four trits a byte (SPEC §10.1) to tiles of 16 rows × 128 columns, [tile row][tile column][lane][V0..V3]: Vs as in SPEC §10.4 for the 32
// columns from 32s on, with no columns left out.
//
// Launch: a warp for each tile: grid (ceil(tiles / 8)), block 256. Rows and columns beyond the matrix become zero.
#include "common.h"

extern "C" __global__ void __launch_bounds__(256) repack_t2(const __grid_constant__ RepackArgs p) {
    const u32 lane = threadIdx.x & 31, g = lane >> 2, c = lane & 3;
    const u64 tile = (u64)blockIdx.x * 8 + (threadIdx.x >> 5);
    if (tile >= (u64)p.tile_rows * p.tile_cols) return;
    const u32 row = (u32)(tile / p.tile_cols) * 16 + g, first_byte = (u32)(tile % p.tile_cols) * 32;
    u32 words[4];
#pragma unroll
    for (int s = 0; s < 4; s++) {
        u32 word = 0;
#pragma unroll
        for (int half = 0; half < 2; half++) {
            const u32 at = first_byte + s * 8 + half * 4 + c;
            // Four codes of each row; 0x55 is four zeros.
            const u32 upper = row < p.rows && at < p.row_bytes ? p.trits[(u64)row * p.row_bytes + at] : 0x55;
            const u32 lower = row + 8 < p.rows && at < p.row_bytes ? p.trits[(u64)(row + 8) * p.row_bytes + at] : 0x55;
#pragma unroll
            for (int e = 0; e < 4; e++) {
                const u32 pair = (upper >> 2 * e & 3) * 3 + (lower >> 2 * e & 3);
                word |= (u32)(0x013286457ull >> 4 * pair & 15) << 4 * (4 * half + e);
            }
        }
        words[s] = word;
    }
    ((uint4*)p.tiles)[tile * 32 + lane] = make_uint4(words[0], words[1], words[2], words[3]);
}
