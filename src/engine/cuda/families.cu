// Owns the kernels of layers that some families alone have, in the words of `kernels.cu`, behind which
// they are compiled. None has a barrier: each thread computes what it writes by itself.

// A row of zeros above where `top` is 1, a column of them on the left where `left` is; sizes of `from`.
KERNEL pad_map(const element *from, element *to, int packs, int height, int width, int channels,
               int top, int left)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = channels / PACK, start = (int)(i % each) * PACK;
    int rows = height + top, columns = width + left;
    wide pixel = i / each, image = pixel / ((wide)rows * columns);
    int y = (int)(pixel / columns % rows) - top, x = (int)(pixel % columns) - left;
    pack values;
    for (int j = 0; j < PACK; ++j) values.at[j] = narrow(0.0f);
    if (y >= 0 && x >= 0)
        values = *(const pack *)(from + ((image * height + y) * width + x) * channels + start);
    *(pack *)(to + i * PACK) = values;
}

// Two maps side by side: the first channels of each without their padding, zeros behind both.
KERNEL join_maps(const element *a, const element *b, element *to, int packs, int a_channels,
                 int a_padded, int b_channels, int b_padded, int padded)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = padded / PACK, start = (int)(i % each) * PACK;
    wide pixel = i / each;
    pack values;
    for (int j = 0; j < PACK; ++j) {
        int c = start + j;
        if (c < a_channels) values.at[j] = a[pixel * a_padded + c];
        else if (c - a_channels < b_channels) values.at[j] = b[pixel * b_padded + c - a_channels];
        else values.at[j] = narrow(0.0f);
    }
    *(pack *)(to + i * PACK) = values;
}

// The rows of a codebook, [codes][dim], that a grid of codes names, as a map [pixels][padded] with zeros
// behind: `pixels` of each image, whose codes begin `step` apart.
KERNEL codes_to_map(const unsigned *codes, const float *rows, element *map, int packs, int pixels,
                    int step, int dim, int padded)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = padded / PACK, start = (int)(i % each) * PACK;
    wide pixel = i / each;
    const float *row = rows + (wide)codes[pixel / pixels * step + pixel % pixels] * dim;
    pack values;
    for (int j = 0; j < PACK; ++j)
        values.at[j] = narrow(start + j < dim ? row[start + j] : 0.0f);
    *(pack *)(map + i * PACK) = values;
}

// What a level of codes leaves over of latents [count / dim][dim], in place. One thread a number.
KERNEL subtract_codes(float *z, const unsigned *codes, const float *rows, int count, int dim)
{
    wide i = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) z[i] = __fadd_rn(z[i], -rows[(wide)codes[i / dim] * dim + i % dim]);
}

// Of each channel of codes [images][pixels][padded]: sqrt(variance + epsilon), where the variance is
// that of a sample, and mean, [images][channels][2]. One thread a channel; a single pixel has none.
KERNEL code_statistics(const element *map, float *to, int count, int pixels, int channels,
                       int padded, float epsilon)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    const element *at = map + (wide)(i / channels) * pixels * padded + i % channels;
    double sum = 0.0, squares = 0.0;
    for (int p = 0; p < pixels; ++p) sum += widen(at[(wide)p * padded]);
    double mean = sum / pixels;
    for (int p = 0; p < pixels; ++p) {
        double d = widen(at[(wide)p * padded]) - mean;
        squares += d * d;
    }
    float variance = pixels > 1 ? (float)(squares / (pixels - 1)) : __uint_as_float(0x7fc00000u);
    to[2 * (wide)i] = sqrtf(variance + epsilon);
    to[2 * (wide)i + 1] = (float)mean;
}

// The scale and the shift of a norm, [images][2][width], linear in the deviations and means of
// `code_statistics`: gamma and beta are [width][bits], each with a bias. One thread a channel.
KERNEL modulation(const float *statistics, const float *gamma, const float *gamma_bias,
                  const float *beta, const float *beta_bias, float *to, int count, int bits,
                  int width)
{
    int i = (int)(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= count) return;
    int image = i / width, c = i % width;
    const float *of = statistics + (wide)image * bits * 2;
    float scale = 0.0f, shift = 0.0f;
    for (int k = 0; k < bits; ++k) {
        scale += of[2 * k] * gamma[(wide)c * bits + k];
        shift += of[2 * k + 1] * beta[(wide)c * bits + k];
    }
    float *row = to + (wide)image * 2 * width;
    row[c] = scale + gamma_bias[c];
    row[width + c] = shift + beta_bias[c];
}

// (scale * x + shift) * y + b, and x * sigmoid(x) of it where `silu` is 1: scales and shifts as for
// `apply_affine`, y and b [code pixels][2 * channels] of the codes' pixel that this one lies in.
KERNEL apply_by_codes(const element *from, const float *affine, const element *by, element *to,
                      int packs, int height, int width, int channels, int code_height,
                      int code_width, int silu)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = channels / PACK, start = (int)(i % each) * PACK;
    wide pixel = i / each, image = pixel / ((wide)height * width);
    int y = (int)(pixel / width % height) / (height / code_height);
    int x = (int)(pixel % width) / (width / code_width);
    const float *a = affine + (image * channels + start) * 2;
    const element *code =
        by + ((image * code_height + y) * code_width + x) * 2 * channels + start;
    pack values = *(const pack *)(from + i * PACK);
    pack factors = *(const pack *)code, terms = *(const pack *)(code + channels);
    float done[PACK];
    for (int j = 0; j < PACK; j += 2) {
        four two = *(const four *)(a + 2 * j);
        done[j] = widen(values.at[j]) * two.at[0] + two.at[1];
        done[j + 1] = widen(values.at[j + 1]) * two.at[2] + two.at[3];
    }
    for (int j = 0; j < PACK; ++j) {
        done[j] = done[j] * widen(factors.at[j]) + widen(terms.at[j]);
        if (silu) done[j] = sigmoid_times(done[j]);
    }
    for (int j = 0; j < PACK; j += 2) narrow_two(&values, j, done[j], done[j + 1]);
    *(pack *)(to + i * PACK) = values;
}
