/* Owns the shapes that training's kernels run with under ThreadSanitizer, as `threads.c` for the engine's. */
typedef long long wide;
#include "device.h"

static float *a, *b, *c, *d, *e;
static double *parts, *sum;
static unsigned *codes;
static void k_squares(void) { square_parts(a, parts, 700); }
static void k_differences(void) { square_difference_parts(a, b, parts, 700); }
static void k_parts(void) { add_parts(parts, sum, 3); }
static void k_channels(void) { sums_of_channels(a, b, 2, 5, 70); }
static void k_norm(void) { group_norm(a, b, c, d, 2, 150, 1e-6f, 1); }
static void k_norm_gradient(void) { group_norm_gradient(a, b, c, d, e, 2, 150, 1e-6f, 1); }
#define SIZES 2, 5, 7, 9, 70, 3, 3, 1, 1, 7, 9
static void k_forward(void) { conv_forward(a, b, c, d, 0, SIZES); }
static void k_input(void) { conv_input_gradient(a, b, c, d, SIZES); }
static void k_weight(void) { conv_weight_gradient_parts(a, b, c, 64, 0, SIZES); }
static void k_nearest(void) { nearest_codes(a, b, c, codes, 70, 130, 20); }
static void k_relu(void) { leaky_relu(a, b, 700, 0.2f); }
static void k_relu_gradient(void) { leaky_relu_gradient(a, b, c, 700, 0.2f); }
static void k_scale(void) { scale_all(a, 700, 0.5f); }
static void k_add_to_channels(void) { add_to_channels(a, b, 700, 10, 7); }
static void k_blend(void) { blend(a, b, 700, 0.9f, 0.1f); }
static void k_blend_square(void) { blend_square(a, b, 700, 0.9f, 0.1f); }
static void k_descend(void) { descend(a, b, c, 700, 0.9f, 0.1f, 1.0f, 1e-8f); }
static void k_rows(void) { add_rows(a, b, 7, 100); }
static void k_pool(void) { max_pool_2(a, b, 10 * 12, 7, 9); }
static void k_pool_gradient(void) { max_pool_2_gradient(a, b, c, 10 * 63, 7, 9); }
static void k_unit(void) { unit_rows(a, b, 70, 10); }
static void k_square_rows(void) { square_rows(a, b, 70, 10); }
static void without_barriers(void)
{
    a = floats(700), b = floats(700), c = floats(700);
    for (int i = 0; i < 700; ++i) c[i] *= c[i]; // means of squares
    void (*kernels[])(void) = {k_relu, k_relu_gradient, k_scale, k_add_to_channels, k_blend,
                               k_blend_square, k_descend, k_rows, k_pool,
                               k_pool_gradient, k_unit, k_square_rows};
    for (unsigned i = 0; i < sizeof kernels / sizeof *kernels; ++i)
        launch(3, 1, 1, 256, kernels[i]);
}

int main(void)
{
    parts = malloc(4 * sizeof *parts), sum = malloc(sizeof *sum);
    a = floats(700), b = floats(700);
    launch(3, 1, 1, 256, k_squares);
    launch(3, 1, 1, 256, k_differences);
    launch(1, 1, 1, 256, k_parts);
    launch(5, 1, 1, 256, k_channels);
    int map = 2 * 6 * 150;
    a = floats(map), b = floats(12), c = floats(6), d = floats(map);
    launch(3, 2, 1, 256, k_norm);
    c = floats(map), e = floats(2 * 2 * 6);
    launch(3, 2, 1, 256, k_norm_gradient);
    a = floats(2 * 5 * 63), b = floats(70 * 45), c = floats(70), d = floats(2 * 70 * 63);
    launch(2, 2, 1, 256, k_forward);
    a = floats(2 * 70 * 63), c = floats(5), d = floats(2 * 5 * 63);
    launch(2, 1, 1, 256, k_input);
    a = floats(2 * 5 * 63), b = floats(2 * 70 * 63), c = floats(2 * 70 * 45);
    launch(1, 2, 2, 256, k_weight);
    a = floats(70 * 20), b = floats(130 * 20), c = floats(130), codes = malloc(70 * sizeof *codes);
    launch(2, 1, 1, 256, k_nearest);
    without_barriers();
    puts("all ran");
    return 0;
}
