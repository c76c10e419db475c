/* Owns running CUDA kernels with a POSIX thread for each thread of a block, so that ThreadSanitizer sees
   accesses that no barrier orders. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../../src/engine/cuda/as_c.h"

static struct {
    unsigned x, y, z;
} blockIdx, gridDim, blockDim;
static __thread struct {
    unsigned x;
} threadIdx;
static pthread_barrier_t barrier;
static void __syncthreads(void) { pthread_barrier_wait(&barrier); }
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
