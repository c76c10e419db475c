// Owns running our CUDA kernels on a CPU, for the tests: the same text compiled as C, the threads
// of a block as coroutines that meet at __syncthreads. Says where threads of a block don't meet at
// the same number of barriers. Must not know: layers, Rust.

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <ucontext.h>

#include "as_c.h"

static struct {
    unsigned x, y, z;
} blockIdx, gridDim, blockDim, threadIdx;

// A thread starts through `setcontext` and is left and entered again by long jumps, which unlike
// `swapcontext` make no system call.
#define THREADS_MAX 256
#define STACK_BYTES 32768
static ucontext_t entrance;
static jmp_buf scheduler, threads[THREADS_MAX];
static char stacks[THREADS_MAX][STACK_BYTES] __attribute__((aligned(64)));
static unsigned current;
static unsigned barriers[THREADS_MAX];
enum { NEW, WAITING, FINISHED };
static int states[THREADS_MAX];

static void __syncthreads(void)
{
    barriers[current] += 1;
    states[current] = WAITING;
    if (_setjmp(threads[current]) == 0) _longjmp(scheduler, 1);
}

#include "kernels.cu"
#include "families.cu"
#include "../../model/cuda/training.cu"

// Arguments as 64-bit words: addresses, integers, floats by their bits.
#define P(i) (void *)(uintptr_t)a[i]
#define I(i) (int)a[i]
#define F(i) __uint_as_float((unsigned)a[i])
#define W(i) (wide)a[i]
static void call_pixels_to_map(const uint64_t *a)
{
    pixels_to_map(P(0), P(1), P(2), I(3), I(4), I(5));
}
static void call_narrow_all(const uint64_t *a) { narrow_all(P(0), P(1), I(2)); }
static void call_floats_to_map(const uint64_t *a) { floats_to_map(P(0), P(1), I(2), I(3), I(4)); }
static void call_map_to_floats(const uint64_t *a) { map_to_floats(P(0), P(1), I(2), I(3), I(4)); }
static void call_double_map(const uint64_t *a) { double_map(P(0), P(1), I(2), I(3), I(4)); }
static void call_activate(const uint64_t *a) { activate(P(0), P(1), I(2), I(3)); }
static void call_halve_map(const uint64_t *a)
{
    halve_map(P(0), P(1), I(2), I(3), I(4), I(5), I(6));
}
static void call_spread_map(const uint64_t *a)
{
    spread_map(P(0), P(1), I(2), I(3), I(4), I(5), I(6), I(7), I(8));
}
static void call_channel_sums(const uint64_t *a) { channel_sums(P(0), P(1), I(2), I(3), I(4)); }
static void call_group_affine(const uint64_t *a)
{
    group_affine(P(0), P(1), P(2), P(3), P(4), I(5), I(6), I(7), I(8), F(9), I(10));
}
static void call_apply_affine(const uint64_t *a)
{
    apply_affine(P(0), P(1), P(2), I(3), I(4), I(5), I(6));
}
static void call_convolve(const uint64_t *a)
{
    convolve(P(0), P(1), P(2), P(3), P(4), I(5), I(6), I(7), I(8), I(9), I(10), I(11), I(12),
             I(13), I(14));
}
static void call_convolve_to_floats(const uint64_t *a)
{
    convolve_to_floats(P(0), P(1), P(2), P(3), I(4), I(5), I(6), I(7), I(8), I(9), I(10), I(11),
                       I(12), I(13));
}
static void call_softmax_rows(const uint64_t *a) { softmax_rows(P(0), P(1), I(2)); }
static void call_normalise_rows(const uint64_t *a) { normalise_rows(P(0), I(1)); }
static void call_nearest(const uint64_t *a)
{
    nearest(P(0), P(1), P(2), P(3), P(4), P(5), I(6), I(7), F(8), I(9), F(10), F(11), I(12));
}
static void call_largest_logit(const uint64_t *a) { largest_logit(P(0), P(1), P(2), I(3)); }
static void call_pad_map(const uint64_t *a)
{
    pad_map(P(0), P(1), I(2), I(3), I(4), I(5), I(6), I(7));
}
static void call_join_maps(const uint64_t *a)
{
    join_maps(P(0), P(1), P(2), I(3), I(4), I(5), I(6), I(7), I(8));
}
static void call_codes_to_map(const uint64_t *a)
{
    codes_to_map(P(0), P(1), P(2), I(3), I(4), I(5), I(6), I(7));
}
static void call_subtract_codes(const uint64_t *a) { subtract_codes(P(0), P(1), P(2), I(3), I(4)); }
static void call_code_statistics(const uint64_t *a)
{
    code_statistics(P(0), P(1), I(2), I(3), I(4), I(5), F(6));
}
static void call_modulation(const uint64_t *a)
{
    modulation(P(0), P(1), P(2), P(3), P(4), P(5), I(6), I(7), I(8));
}
static void call_apply_by_codes(const uint64_t *a)
{
    apply_by_codes(P(0), P(1), P(2), P(3), I(4), I(5), I(6), I(7), I(8), I(9), I(10));
}
static void call_leaky_relu(const uint64_t *a) { leaky_relu(P(0), P(1), W(2), F(3)); }
static void call_leaky_relu_gradient(const uint64_t *a)
{
    leaky_relu_gradient(P(0), P(1), P(2), W(3), F(4));
}
static void call_scale_all(const uint64_t *a) { scale_all(P(0), W(1), F(2)); }
static void call_blend(const uint64_t *a) { blend(P(0), P(1), W(2), F(3), F(4)); }
static void call_blend_square(const uint64_t *a) { blend_square(P(0), P(1), W(2), F(3), F(4)); }
static void call_descend(const uint64_t *a)
{
    descend(P(0), P(1), P(2), W(3), F(4), F(5), F(6), F(7));
}
static void call_square_parts(const uint64_t *a) { square_parts(P(0), P(1), W(2)); }
static void call_square_difference_parts(const uint64_t *a)
{
    square_difference_parts(P(0), P(1), P(2), W(3));
}
static void call_add_parts(const uint64_t *a) { add_parts(P(0), P(1), I(2)); }
static void call_add_to_channels(const uint64_t *a)
{
    add_to_channels(P(0), P(1), W(2), I(3), I(4));
}
static void call_sums_of_channels(const uint64_t *a)
{
    sums_of_channels(P(0), P(1), I(2), I(3), I(4));
}
static void call_add_rows(const uint64_t *a) { add_rows(P(0), P(1), I(2), W(3)); }
static void call_max_pool_2(const uint64_t *a) { max_pool_2(P(0), P(1), W(2), I(3), I(4)); }
static void call_max_pool_2_gradient(const uint64_t *a)
{
    max_pool_2_gradient(P(0), P(1), P(2), W(3), I(4), I(5));
}
static void call_group_norm(const uint64_t *a)
{
    group_norm(P(0), P(1), P(2), P(3), I(4), I(5), F(6), I(7));
}
static void call_group_norm_gradient(const uint64_t *a)
{
    group_norm_gradient(P(0), P(1), P(2), P(3), P(4), I(5), I(6), F(7), I(8));
}
static void call_conv_forward(const uint64_t *a)
{
    conv_forward(P(0), P(1), P(2), P(3), I(4), I(5), I(6), I(7), I(8), I(9),
        I(10), I(11), I(12), I(13), I(14), I(15));
}
static void call_conv_input_gradient(const uint64_t *a)
{
    conv_input_gradient(P(0), P(1), P(2), P(3), I(4), I(5), I(6), I(7), I(8), I(9),
        I(10), I(11), I(12), I(13), I(14));
}
static void call_conv_weight_gradient_parts(const uint64_t *a)
{
    conv_weight_gradient_parts(P(0), P(1), P(2), I(3), I(4), I(5), I(6), I(7), I(8), I(9),
        I(10), I(11), I(12), I(13), I(14), I(15));
}
static void call_unit_rows(const uint64_t *a) { unit_rows(P(0), P(1), I(2), I(3)); }
static void call_square_rows(const uint64_t *a) { square_rows(P(0), P(1), I(2), I(3)); }
static void call_nearest_codes(const uint64_t *a)
{
    nearest_codes(P(0), P(1), P(2), P(3), I(4), I(5), I(6));
}

static const struct {
    const char *name;
    void (*call)(const uint64_t *);
    int arguments;
} kernels[] = {
    {"pixels_to_map", call_pixels_to_map, 6},
    {"narrow_all", call_narrow_all, 3},
    {"floats_to_map", call_floats_to_map, 5},
    {"map_to_floats", call_map_to_floats, 5},
    {"double_map", call_double_map, 5},
    {"activate", call_activate, 4},
    {"halve_map", call_halve_map, 7},
    {"spread_map", call_spread_map, 9},
    {"channel_sums", call_channel_sums, 5},
    {"group_affine", call_group_affine, 11},
    {"apply_affine", call_apply_affine, 7},
    {"convolve", call_convolve, 15},
    {"convolve_to_floats", call_convolve_to_floats, 14},
    {"softmax_rows", call_softmax_rows, 3},
    {"normalise_rows", call_normalise_rows, 2},
    {"nearest", call_nearest, 13},
    {"largest_logit", call_largest_logit, 4},
    {"pad_map", call_pad_map, 8},
    {"join_maps", call_join_maps, 9},
    {"codes_to_map", call_codes_to_map, 8},
    {"subtract_codes", call_subtract_codes, 5},
    {"code_statistics", call_code_statistics, 7},
    {"modulation", call_modulation, 9},
    {"apply_by_codes", call_apply_by_codes, 11},
    {"leaky_relu", call_leaky_relu, 4},
    {"leaky_relu_gradient", call_leaky_relu_gradient, 5},
    {"scale_all", call_scale_all, 3},
    {"blend", call_blend, 5},
    {"blend_square", call_blend_square, 5},
    {"descend", call_descend, 8},
    {"square_parts", call_square_parts, 3},
    {"square_difference_parts", call_square_difference_parts, 4},
    {"add_parts", call_add_parts, 3},
    {"add_to_channels", call_add_to_channels, 5},
    {"sums_of_channels", call_sums_of_channels, 5},
    {"add_rows", call_add_rows, 4},
    {"max_pool_2", call_max_pool_2, 5},
    {"max_pool_2_gradient", call_max_pool_2_gradient, 6},
    {"group_norm", call_group_norm, 8},
    {"group_norm_gradient", call_group_norm_gradient, 9},
    {"conv_forward", call_conv_forward, 16},
    {"conv_input_gradient", call_conv_input_gradient, 15},
    {"conv_weight_gradient_parts", call_conv_weight_gradient_parts, 16},
    {"unit_rows", call_unit_rows, 4},
    {"square_rows", call_square_rows, 4},
    {"nearest_codes", call_nearest_codes, 7},
};

static void (*entry)(const uint64_t *);
static const uint64_t *entry_arguments;

static void thread_main(void)
{
    entry(entry_arguments);
    states[current] = FINISHED;
    _longjmp(scheduler, 1);
}

// Thread `current` up to its next barrier or its end.
static __attribute__((noinline)) void go_on(void)
{
    if (_setjmp(scheduler) != 0) return;
    if (states[current] == WAITING) _longjmp(threads[current], 1);
    entrance.uc_stack.ss_sp = stacks[current];
    entrance.uc_stack.ss_size = STACK_BYTES;
    entrance.uc_link = 0;
    makecontext(&entrance, thread_main, 0);
    setcontext(&entrance);
}

// One block: every thread up to its next barrier, in rounds, until all have ended. `reverse` turns
// the order of the threads around: a missing barrier then changes results.
static int run_block(int reverse)
{
    unsigned count = blockDim.x;
    memset(barriers, 0, sizeof barriers);
    memset(states, 0, sizeof states); // NEW
    for (;;) {
        for (unsigned i = 0; i < count; ++i) {
            current = reverse ? count - 1 - i : i;
            if (states[current] == FINISHED) return 3; // others still wait at a barrier
            threadIdx.x = current;
            go_on();
        }
        unsigned ended = 0;
        for (unsigned t = 0; t < count; ++t) {
            ended += states[t] == FINISHED;
            if (barriers[t] != barriers[0]) return 3;
        }
        if (ended == count) return 0;
    }
}

// Runs kernel `name` over a grid. 0, or: 1 no such kernel, 2 wrong number of arguments or too many
// threads, 3 a barrier that not every thread of a block reaches.
int vqtok_emulate(const char *name, const unsigned *grid, unsigned block, const uint64_t *arguments,
                  int count, int reverse)
{
    for (unsigned k = 0; k < sizeof kernels / sizeof *kernels; ++k) {
        if (strcmp(kernels[k].name, name) != 0) continue;
        if (kernels[k].arguments != count || block > THREADS_MAX) return 2;
        entry = kernels[k].call;
        entry_arguments = arguments;
        getcontext(&entrance);
        gridDim.x = grid[0], gridDim.y = grid[1], gridDim.z = grid[2];
        blockDim.x = block, blockDim.y = blockDim.z = 1;
        for (blockIdx.z = 0; blockIdx.z < gridDim.z; ++blockIdx.z)
            for (blockIdx.y = 0; blockIdx.y < gridDim.y; ++blockIdx.y)
                for (blockIdx.x = 0; blockIdx.x < gridDim.x; ++blockIdx.x) {
                    int failed = run_block(reverse);
                    if (failed) return failed;
                }
        return 0;
    }
    return 1;
}
