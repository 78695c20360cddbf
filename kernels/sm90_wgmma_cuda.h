// The wgmma instruction for each width in use: one asm statement each, whose operands are the sums' registers.
#pragma once

namespace himap::device {

// Registers of eight columns, in the instruction's order: two rows' worth of two columns, twice.
#define HIMAP_D8(n) "+f"(d[n][0]), "+f"(d[n][1]), "+f"(d[n][2]), "+f"(d[n][3])
#define HIMAP_D16(n) HIMAP_D8(n), HIMAP_D8(n + 1)
#define HIMAP_D32(n) HIMAP_D16(n), HIMAP_D16(n + 2)
#define HIMAP_D64(n) HIMAP_D32(n), HIMAP_D32(n + 4)
#define HIMAP_D128(n) HIMAP_D64(n), HIMAP_D64(n + 8)

// Their places in the text: the first 4, 8, 16 ... of them.
#define HIMAP_P8 "%0, %1, %2, %3"
#define HIMAP_P16 \
  HIMAP_P8 ", " \
  "%4, %5, %6, %7"
#define HIMAP_P32 \
  HIMAP_P16 ", " \
  "%8, %9, %10, %11, %12, %13, %14, %15"
#define HIMAP_P64 \
  HIMAP_P32 ", " \
  "%16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define HIMAP_P96 \
  HIMAP_P64 ", " \
  "%32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define HIMAP_P128 \
  HIMAP_P96 ", " \
  "%48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define HIMAP_P144 \
  HIMAP_P128 ", " \
  "%64, %65, %66, %67, %68, %69, %70, %71"
#define HIMAP_P176 \
  HIMAP_P144 ", " \
  "%72, %73, %74, %75, %76, %77, %78, %79, %80, %81, %82, %83, %84, %85, %86, %87"
#define HIMAP_P208 \
  HIMAP_P176 ", " \
  "%88, %89, %90, %91, %92, %93, %94, %95, %96, %97, %98, %99, %100, %101, %102, %103"
#define HIMAP_P256 \
  HIMAP_P208 ", " \
  "%104, %105, %106, %107, %108, %109, %110, %111, %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, " \
  "%123, %124, %125, %126, %127"

// The sums are added to always: a predicate in its place made ptxas serialise the products (C7514).
#define HIMAP_WGMMA(type, name, columns, places, a_at, b_at, ...)                                                    \
  template <>                                                                                                        \
  HIMAP_DEVICE void wgmma_m64k16<type, columns / 8>(float(&d)[columns / 8][4], uint64_t a, uint64_t b, Place) {      \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #columns "k16.f32." name "." name " {" places "}, " a_at ", "   \
                 b_at ", 1, 1, 1, 0, 0;"                                                                             \
                 : __VA_ARGS__                                                                                       \
                 : "l"(a), "l"(b));                                                                                  \
  }
#define HIMAP_WGMMA_BOTH(columns, places, a_at, b_at, ...)                     \
  HIMAP_WGMMA(Bf16, "bf16", columns, places, a_at, b_at, __VA_ARGS__)          \
  HIMAP_WGMMA(F16, "f16", columns, places, a_at, b_at, __VA_ARGS__)

HIMAP_WGMMA_BOTH(8, HIMAP_P8, "%4", "%5", HIMAP_D8(0))
HIMAP_WGMMA_BOTH(16, HIMAP_P16, "%8", "%9", HIMAP_D16(0))
HIMAP_WGMMA_BOTH(32, HIMAP_P32, "%16", "%17", HIMAP_D32(0))
HIMAP_WGMMA_BOTH(64, HIMAP_P64, "%32", "%33", HIMAP_D64(0))
HIMAP_WGMMA_BOTH(96, HIMAP_P96, "%48", "%49", HIMAP_D64(0), HIMAP_D32(8))
HIMAP_WGMMA_BOTH(128, HIMAP_P128, "%64", "%65", HIMAP_D128(0))
HIMAP_WGMMA_BOTH(144, HIMAP_P144, "%72", "%73", HIMAP_D128(0), HIMAP_D16(16))
HIMAP_WGMMA_BOTH(176, HIMAP_P176, "%88", "%89", HIMAP_D128(0), HIMAP_D32(16), HIMAP_D16(20))
HIMAP_WGMMA_BOTH(208, HIMAP_P208, "%104", "%105", HIMAP_D128(0), HIMAP_D64(16), HIMAP_D16(24))
HIMAP_WGMMA_BOTH(256, HIMAP_P256, "%128", "%129", HIMAP_D128(0), HIMAP_D128(16))

#undef HIMAP_P8
#undef HIMAP_P16
#undef HIMAP_P32
#undef HIMAP_P64
#undef HIMAP_P96
#undef HIMAP_P128
#undef HIMAP_P144
#undef HIMAP_P176
#undef HIMAP_P208
#undef HIMAP_P256
#undef HIMAP_D8
#undef HIMAP_D16
#undef HIMAP_D32
#undef HIMAP_D64
#undef HIMAP_D128
#undef HIMAP_WGMMA
#undef HIMAP_WGMMA_BOTH

}  // namespace himap::device
