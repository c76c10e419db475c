/* Owns running our CUDA kernels with a POSIX thread for each thread of a block, so that
   ThreadSanitizer sees accesses that no barrier orders. `run.py` compiles it. Shapes are small and
   odd: more than one block, rows and channels that don't fill the last one. */
#include <math.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define KERNEL void
#define DEVICE static inline
#define PACKED __attribute__((aligned(16)))
#define __shared__ static
static struct {
    unsigned x, y, z;
} blockIdx, gridDim, blockDim;
static __thread struct {
    unsigned x;
} threadIdx;
static pthread_barrier_t barrier;
static void __syncthreads(void) { pthread_barrier_wait(&barrier); }
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
static inline float __fadd_rn(float a, float b) { return a + b; }
static inline float __fmul_rn(float a, float b) { return a * b; }
#define __expf expf
static inline float __fdividef(float a, float b) { return a / b; }
#include KERNELS

static void (*body)(void);
static void *one_thread(void *number)
{
    threadIdx.x = (unsigned)(uintptr_t)number;
    body();
    return 0;
}
static void launch(unsigned gx, unsigned gy, unsigned gz, unsigned block, void (*kernel)(void))
{
    static pthread_t threads[1024];
    body = kernel;
    gridDim.x = gx, gridDim.y = gy, gridDim.z = gz, blockDim.x = block;
    pthread_barrier_init(&barrier, 0, block);
    for (blockIdx.z = 0; blockIdx.z < gz; ++blockIdx.z)
        for (blockIdx.y = 0; blockIdx.y < gy; ++blockIdx.y)
            for (blockIdx.x = 0; blockIdx.x < gx; ++blockIdx.x) {
                for (unsigned i = 0; i < block; ++i)
                    pthread_create(&threads[i], 0, one_thread, (void *)(uintptr_t)i);
                for (unsigned i = 0; i < block; ++i) pthread_join(threads[i], 0);
            }
    pthread_barrier_destroy(&barrier);
}

/* An array of its own of so many drawn values. */
static float drawn(void) { return (float)(rand() % 2001 - 1000) / 500.0f; }
static float *floats(int count)
{
    float *made = malloc((size_t)count * sizeof *made);
    for (int i = 0; i < count; ++i) made[i] = drawn();
    return made;
}
static element *elements(int count)
{
    element *made = aligned_alloc(16, ((size_t)count * sizeof *made + 15) / 16 * 16);
    for (int i = 0; i < count; ++i) made[i] = narrow(drawn());
    return made;
}

static unsigned char *bytes;
static float *a, *b, *c, *d, *distances;
static element *x, *y, *z, *w;
static unsigned *codes;
static void k_pixels(void) { pixels_to_map(bytes, a, x, 300, 3, 8); }
static void k_narrow(void) { narrow_all(a, x, 700); }
static void k_sums(void) { channel_sums(x, a, 300, 72, 128); }
static void k_group(void) { group_affine(a, x, b, c, d, 300, 72, 8, 3, 1e-6f); }
static void k_affine(void) { apply_affine(x, a, y, 300, 72, 112, 1); }
static void k_conv(void) { convolve(x, y, a, z, w, 70, 10, 14, 24, 5, 7, 72, 3, 2, 0); }
static void k_floats(void)
{
    convolve_to_floats(x, y, a, b, 140, 10, 7, 24, 10, 7, 72, 1, 1, 0);
}
static void k_softmax(void) { softmax_rows(a, x, 100); }
static void k_normalise(void) { normalise_rows(a, 70); }
static void k_nearest(void)
{
    nearest(a, b, c, d, codes, distances, 300, 70, -2.0f, 1, 0.05f, 0.001f, 1);
}

int main(void)
{
    bytes = malloc(900);
    for (int i = 0; i < 900; ++i) bytes[i] = (unsigned char)rand();
    a = floats(256), x = elements(300 * 8);
    launch(2, 1, 1, 256, k_pixels);
    a = floats(700), x = elements(700);
    launch(3, 1, 1, 256, k_narrow);
    x = elements(2 * 300 * 72), a = floats(2 * 3 * 72 * 2);
    launch(3, 1, 2, 256, k_sums);
    b = floats(72), c = floats(72), d = floats(2 * 72 * 2);
    launch(8, 2, 1, 32, k_group);
    a = floats(2 * 72 * 2), y = elements(2 * 300 * 72);
    launch(3, 2, 1, 256, k_affine);
    x = elements(2 * 140 * 24), y = elements(72 * 9 * 24), a = floats(72);
    z = elements(70 * 72), w = elements(70 * 72);
    launch(2, 2, 1, 256, k_conv);
    b = floats(140 * 72);
    launch(3, 2, 1, 256, k_floats);
    a = floats(300), x = elements(300);
    launch(3, 1, 1, 64, k_softmax);
    a = floats(3 * 70);
    launch(3, 1, 1, 32, k_normalise);
    a = floats(3 * 300), b = floats(3 * 70), c = floats(300 * 70), d = floats(300);
    codes = malloc(12), distances = floats(3);
    launch(3, 1, 1, 128, k_nearest);
    puts("all ran");
    return 0;
}
