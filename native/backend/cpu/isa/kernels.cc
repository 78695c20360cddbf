// The table of one instruction set; CMake compiles this file once for each, with the set's flags and macro.
#include "native/backend/cpu/isa/attention_decode.h"
#include "native/backend/cpu/isa/attention_prefill.h"
#include "native/backend/cpu/isa/gemm.h"
#include "native/backend/cpu/isa/gemv.h"
#include "native/backend/cpu/isa/rows.h"

namespace himap {

#if defined(HIMAP_ISA_AVX512)
#define HIMAP_TABLE kKernelsAvx512
#define HIMAP_TABLE_NAME "avx512"
#elif defined(HIMAP_ISA_AVX2)
#define HIMAP_TABLE kKernelsAvx2
#define HIMAP_TABLE_NAME "avx2"
#else
#define HIMAP_TABLE kKernelsPortable
#define HIMAP_TABLE_NAME "portable"
#endif

const CpuKernels HIMAP_TABLE = {
    .name = HIMAP_TABLE_NAME,
    .tile_rows = kTileRows,
    .tail_rows = kTailRows,
    .panel = kPanel,
    .pack_panel = pack_panel,
    .gemm_block = gemm_block,
    .finish = finish,
    .dot_rows = dot_rows,
    .load_row = load_row,
    .store_row = store_row,
    .rms_norm = rms_norm,
    .layer_norm = layer_norm,
    .rotate = rotate,
    .attention_task = attention_task,
    .decode_split = decode_split,
    .merge_split = merge_split,
    .divide_row = divide_row,
    .exp_sum = exp_sum,
};

}  // namespace himap
