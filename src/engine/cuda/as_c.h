// Owns the words of CUDA that our kernels use, as C, for `emulate.c` and for the search for races
// (`tests/interop/races`). Must not know: how threads run, which is theirs.

#include <math.h>
#include <string.h>

#define KERNEL void
#define DEVICE static inline
#define PACKED __attribute__((aligned(16)))
#define __shared__ static

static inline float __uint_as_float(unsigned bits)
{
    float x;
    memcpy(&x, &bits, 4);
    return x;
}
static inline unsigned __float_as_uint(float x)
{
    unsigned bits;
    memcpy(&bits, &x, 4);
    return bits;
}
// Compiled with -ffp-contract=off: plain operations round once.
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
// Exact here, near it on a card.
#define __expf expf
static inline float __fdividef(float a, float b) { return a / b; }
