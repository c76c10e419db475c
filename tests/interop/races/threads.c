/* Owns the shapes that the engine's kernels run with under ThreadSanitizer; `run.py` compiles it. They are
   small and odd: more than one block, rows and channels that don't fill the last one. */
#include "device.h"

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
static void k_group(void) { group_affine(a, x, b, c, d, 300, 72, 8, 3, 1e-6f, 0); }
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
static void k_logits(void) { largest_logit(a, codes, distances, 300); }
// Maps of 2 images of 6 x 8 pixels and 24 channels; `b` is larger than any kernel here needs.
static void k_from_floats(void) { floats_to_map(a, y, 2 * 48 * 3, 21, 24); }
static void k_to_floats(void) { map_to_floats(x, b, 2 * 48 * 21, 21, 24); }
static void k_double(void) { double_map(x, y, 2 * 4 * 48 * 3, 8, 24); }
static void k_activate(void) { activate(x, y, 2 * 48 * 3, 1); }
static void k_halve(void) { halve_map(x, y, 2 * 12 * 3, 6, 8, 24, 0); }
static void k_spread(void) { spread_map(x, y, 2 * 4 * 48, 8, 24, 5, 8, 2, 2); }
static void k_pad(void) { pad_map(x, y, 2 * 7 * 9 * 3, 6, 8, 24, 1, 1); }
static void k_join(void) { join_maps(x, z, y, 2 * 48 * 5, 21, 24, 13, 16, 40); }
static void k_of_codes(void) { codes_to_map(codes, a, y, 2 * 48 * 3, 48, 48, 21, 24); }
static void k_subtract(void) { subtract_codes(b, codes, a, 96 * 21, 21); }
static void k_statistics(void) { code_statistics(x, b, 2 * 21, 48, 21, 24, 1e-6f); }
static void k_modulation(void) { modulation(a, c, d, c, d, b, 2 * 24, 5, 24); }
static void k_by_codes(void) { apply_by_codes(x, a, z, y, 2 * 48 * 3, 6, 8, 24, 3, 4, 1); }
static void without_barriers(void)
{
    a = floats(2 * 48 * 24), b = floats(2 * 48 * 24), c = floats(24 * 5), d = floats(24);
    x = elements(2 * 48 * 24), y = elements(2 * 4 * 48 * 24), z = elements(2 * 12 * 48 + 2 * 48 * 16);
    codes = calloc(96, sizeof *codes);
    for (int i = 0; i < 96; ++i) codes[i] = (unsigned)(i % 7);
    void (*kernels[])(void) = {k_from_floats, k_double, k_activate, k_halve, k_spread,
                               k_pad, k_join, k_of_codes, k_by_codes};
    for (unsigned i = 0; i < sizeof kernels / sizeof *kernels; ++i)
        launch(6, 1, 1, 256, kernels[i]);
    launch(8, 1, 1, 256, k_to_floats);
    launch(8, 1, 1, 256, k_subtract);
    launch(1, 1, 1, 256, k_statistics);
    launch(1, 1, 1, 256, k_modulation);
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
    launch(3, 1, 1, 128, k_logits);
    without_barriers();
    puts("all ran");
    return 0;
}
