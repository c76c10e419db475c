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
    puts("all ran");
    return 0;
}
