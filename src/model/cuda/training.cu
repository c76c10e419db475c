// Owns the CUDA side of the operations that training differentiates: plain loops over float32
// tensors [images][channels][height][width], no atomics, so that every sum has one order.
// Compiled at its first use by NVRTC; the tests compile the same text as C behind `kernels.cu`
// and run it on emulated threads (`engine/cuda/emulate.c`). Must not know: gradients' graphs,
// names of weights.
//
// Launches are made in `launches.rs`; a change of a signature is a change there and in `emulate.c`.

#ifndef KERNEL
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
typedef long long wide;
#endif

#define BLOCK 256
#define ENDLESS __uint_as_float(0x7f800000u)
DEVICE wide place_of_thread(void) { return (wide)blockIdx.x * blockDim.x + threadIdx.x; }

// The sum over a block of 256 threads, in one order, for all of them.
DEVICE double block_sum(double value, double *shared)
{
    shared[threadIdx.x] = value;
    __syncthreads();
    for (int half = BLOCK / 2; half > 0; half /= 2) {
        if ((int)threadIdx.x < half) shared[threadIdx.x] += shared[threadIdx.x + half];
        __syncthreads();
    }
    double sum = shared[0];
    __syncthreads(); // before somebody writes there again
    return sum;
}

// --- One thread an element. ---

// x where x > 0, else slope x.
KERNEL leaky_relu(const float *x, float *y, wide count, float slope)
{
    wide i = place_of_thread();
    if (i < count) y[i] = x[i] > 0.0f ? x[i] : slope * x[i];
}

KERNEL leaky_relu_gradient(const float *x, const float *dy, float *dx, wide count, float slope)
{
    wide i = place_of_thread();
    if (i < count) dx[i] = x[i] > 0.0f ? dy[i] : slope * dy[i];
}

KERNEL scale_all(float *x, wide count, float scale)
{
    wide i = place_of_thread();
    if (i < count) x[i] *= scale;
}

// x [images][channels][pixels] plus a value for each channel.
KERNEL add_to_channels(float *x, const float *values, wide count, int channels, int pixels)
{
    wide i = place_of_thread();
    if (i < count) x[i] += values[i / pixels % channels];
}

// Products and sums are rounded one by one, as on the CPU, where `__fmul_rn` keeps the compiler
// from fusing them.
KERNEL blend(float *average, const float *value, wide count, float keep, float rest)
{
    wide i = place_of_thread();
    if (i < count)
        average[i] = __fadd_rn(__fmul_rn(keep, average[i]), __fmul_rn(rest, value[i]));
}

KERNEL blend_square(float *average, const float *value, wide count, float keep, float rest)
{
    wide i = place_of_thread();
    if (i >= count) return;
    float square = __fmul_rn(value[i], value[i]);
    average[i] = __fadd_rn(__fmul_rn(keep, average[i]), __fmul_rn(rest, square));
}

KERNEL descend(float *p, const float *m, const float *v, wide count, float keep, float rate,
               float correct, float epsilon)
{
    wide i = place_of_thread();
    if (i >= count) return;
    float by = __fadd_rn(sqrtf(__fmul_rn(v[i], correct)), epsilon);
    p[i] = __fadd_rn(__fmul_rn(p[i], keep), -(__fmul_rn(rate, m[i]) / by));
}

// --- Sums to single numbers: partial sums of up to 1024 blocks, then one block over these. ---

KERNEL square_parts(const float *x, double *parts, wide count)
{
    __shared__ double shared[BLOCK];
    double sum = 0.0;
    for (wide i = place_of_thread(); i < count; i += (wide)gridDim.x * BLOCK)
        sum += (double)x[i] * (double)x[i];
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

KERNEL square_difference_parts(const float *a, const float *b, double *parts, wide count)
{
    __shared__ double shared[BLOCK];
    double sum = 0.0;
    for (wide i = place_of_thread(); i < count; i += (wide)gridDim.x * BLOCK) {
        double d = (double)a[i] - (double)b[i];
        sum += d * d;
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) parts[blockIdx.x] = sum;
}

KERNEL add_parts(const double *parts, double *sum, int count)
{
    __shared__ double shared[BLOCK];
    double own = 0.0;
    for (int i = threadIdx.x; i < count; i += BLOCK) own += parts[i];
    own = block_sum(own, shared);
    if (threadIdx.x == 0) *sum = own;
}

// Sums over images and pixels of [images][channels][pixels]: a block a channel.
KERNEL sums_of_channels(const float *x, float *sums, int images, int channels, int pixels)
{
    __shared__ double shared[BLOCK];
    double sum = 0.0;
    for (int n = 0; n < images; ++n) {
        const float *plane = x + ((wide)n * channels + blockIdx.x) * pixels;
        for (int p = threadIdx.x; p < pixels; p += BLOCK) sum += plane[p];
    }
    sum = block_sum(sum, shared);
    if (threadIdx.x == 0) sums[blockIdx.x] = (float)sum;
}

// [rows][columns] to the sum over the rows, in their order. One thread a column.
KERNEL add_rows(const float *parts, float *sums, int rows, wide columns)
{
    wide i = place_of_thread();
    if (i >= columns) return;
    double sum = 0.0;
    for (int row = 0; row < rows; ++row) sum += parts[row * columns + i];
    sums[i] = (float)sum;
}

// --- Pooling. ---

// Which of the window's four is the largest: not a number where one is, of equal ones the first.
DEVICE int largest(const float *corner, int width)
{
    int best = 0;
    float most = corner[0];
    for (int k = 1; k < 4; ++k) {
        float x = corner[k / 2 * width + k % 2];
        if (x > most || x != x) best = k, most = x;
    }
    return best;
}

// One thread a maximum of 2x2; the last row or column of an odd size has none.
KERNEL max_pool_2(const float *x, float *y, wide count, int height, int width)
{
    wide i = place_of_thread();
    if (i >= count) return;
    int rows = height / 2, columns = width / 2;
    wide plane = i / ((wide)rows * columns);
    int row = (int)(i / columns % rows) * 2, column = (int)(i % columns) * 2;
    const float *corner = x + (plane * height + row) * width + column;
    int best = largest(corner, width);
    y[i] = corner[best / 2 * width + best % 2];
}

// One thread an element of x.
KERNEL max_pool_2_gradient(const float *x, const float *dy, float *dx, wide count, int height,
                           int width)
{
    wide i = place_of_thread();
    if (i >= count) return;
    int rows = height / 2, columns = width / 2;
    int row = (int)(i / width % height), column = (int)(i % width);
    wide plane = i / ((wide)height * width);
    float gradient = 0.0f;
    if (row / 2 < rows && column / 2 < columns) {
        const float *corner = x + (plane * height + row / 2 * 2) * width + column / 2 * 2;
        if (largest(corner, width) == row % 2 * 2 + column % 2)
            gradient = dy[(plane * rows + row / 2) * columns + column / 2];
    }
    dx[i] = gradient;
}

// --- Group normalisation: a block of 256 threads a group of an image, whose elements lie
// together. ---

// Mean, and one over the deviation; not a number where the deviation overflows.
DEVICE void moments_of(const float *x, wide count, double epsilon, double *mean, double *inverse,
                       double *shared)
{
    double sum = 0.0, squares = 0.0;
    for (wide i = threadIdx.x; i < count; i += BLOCK) sum += x[i];
    *mean = block_sum(sum, shared) / count;
    for (wide i = threadIdx.x; i < count; i += BLOCK) {
        double d = x[i] - *mean;
        squares += d * d;
    }
    float deviation = sqrtf((float)(block_sum(squares, shared) / count + epsilon));
    *inverse = 1.0 / (deviation + deviation * 0.0f);
}

// Blocks (group, image); `channels` of a group.
KERNEL group_norm(const float *x, const float *weight, const float *bias, float *y, int channels,
                  int pixels, float epsilon, int silu)
{
    __shared__ double shared[BLOCK];
    wide each = (wide)channels * pixels, first = ((wide)blockIdx.y * gridDim.x + blockIdx.x) * each;
    double mean, inverse;
    moments_of(x + first, each, epsilon, &mean, &inverse, shared);
    for (int k = 0; k < channels; ++k) {
        float w = weight[blockIdx.x * channels + k], b = bias[blockIdx.x * channels + k];
        wide end = (wide)(k + 1) * pixels;
        for (wide i = (wide)k * pixels + threadIdx.x; i < end; i += BLOCK) {
            float u = (float)((x[first + i] - mean) * inverse) * w + b;
            y[first + i] = silu ? u / (1.0f + expf(-u)) : u;
        }
    }
}

// `affine` is [2][all channels]: weights, then biases. `parts` is [images][2][all channels], each
// image's share of their gradients.
KERNEL group_norm_gradient(const float *x, const float *affine, const float *dy, float *dx,
                           float *parts, int channels, int pixels, float epsilon, int silu)
{
    __shared__ double shared[BLOCK];
    int all = gridDim.x * channels;
    wide each = (wide)channels * pixels, first = ((wide)blockIdx.y * gridDim.x + blockIdx.x) * each;
    double mean, inverse, by_weight = 0.0, by_normal = 0.0;
    moments_of(x + first, each, epsilon, &mean, &inverse, shared);
    for (int k = 0; k < channels; ++k) {
        int c = blockIdx.x * channels + k;
        float w = affine[c], b = affine[all + c];
        double dw = 0.0, db = 0.0;
        wide end = (wide)(k + 1) * pixels;
        for (wide i = (wide)k * pixels + threadIdx.x; i < end; i += BLOCK) {
            float normal = (float)((x[first + i] - mean) * inverse), g = dy[first + i];
            if (silu) {
                float u = normal * w + b, s = 1.0f / (1.0f + expf(-u));
                g *= s * (1.0f + u * (1.0f - s));
            }
            dx[first + i] = g; // for the second pass
            dw += (double)g * normal;
            db += g;
        }
        dw = block_sum(dw, shared);
        db = block_sum(db, shared);
        by_weight += db * w;
        by_normal += dw * w;
        if (threadIdx.x == 0) {
            parts[(wide)blockIdx.y * 2 * all + c] = (float)dw;
            parts[((wide)blockIdx.y * 2 + 1) * all + c] = (float)db;
        }
    }
    by_weight /= each, by_normal /= each;
    // Each thread reads what it wrote itself.
    for (int k = 0; k < channels; ++k) {
        float w = affine[blockIdx.x * channels + k];
        wide end = (wide)(k + 1) * pixels;
        for (wide i = (wide)k * pixels + threadIdx.x; i < end; i += BLOCK) {
            double normal = (x[first + i] - mean) * inverse;
            double centred = (double)dx[first + i] * w - by_weight - normal * by_normal;
            dx[first + i] = (float)(centred * inverse);
        }
    }
}

// --- Convolutions: tiles of 64 by 64, 4 by 4 a thread, over steps of 16. ---
// Sizes are those of the convolution from x [images][channels][height][width] through
// [filters][channels][kernel_h][kernel_w] to y [images][filters][out_h][out_w].

#define CONV_TILE 64
#define CONV_STEP 16
typedef struct {
    int images, channels, height, width, filters, kernel_h, kernel_w, stride, before, out_h, out_w;
} conv_sizes;
#define CONV_PARAMETERS                                                                            \
    int images, int channels, int height, int width, int filters, int kernel_h, int kernel_w,      \
        int stride, int before, int out_h, int out_w
#define CONV_SIZES                                                                                 \
    {images, channels, height, width, filters, kernel_h, kernel_w, stride, before, out_h, out_w}

// A pixel of all images of a map of a size; of none where it lies behind the last.
typedef struct {
    int image, y, x, inside;
} conv_pixel;
DEVICE conv_pixel pixel_of(int index, int images, int height, int width)
{
    conv_pixel p;
    p.x = index % width;
    p.y = index / width % height;
    p.image = index / width / height;
    p.inside = p.image < images;
    return p;
}

// A number of float32, or where `narrow` is 1 of bfloat16.
DEVICE float number_at(const void *x, wide at, int narrow)
{
    if (narrow) return __uint_as_float((unsigned)((const unsigned short *)x)[at] << 16);
    return ((const float *)x)[at];
}

// The element of x at place (channel, ky, kx) of the window of pixel `p` of y.
DEVICE float under_window(const void *x, int narrow, const conv_sizes *g, conv_pixel p, int place)
{
    int taps = g->kernel_h * g->kernel_w, c = place / taps, tap = place % taps;
    int at_y = p.y * g->stride - g->before + tap / g->kernel_w;
    int at_x = p.x * g->stride - g->before + tap % g->kernel_w;
    if (!p.inside || at_y < 0 || at_y >= g->height || at_x < 0 || at_x >= g->width) return 0.0f;
    wide at = (((wide)p.image * g->channels + c) * g->height + at_y) * g->width + at_x;
    return number_at(x, at, narrow);
}

// The element of y whose window has pixel `p` of x at place (filter, ky, kx); 0 where none has.
DEVICE float window_over(const float *y, const conv_sizes *g, conv_pixel p, int place)
{
    int taps = g->kernel_h * g->kernel_w, o = place / taps, tap = place % taps;
    int on_y = p.y + g->before - tap / g->kernel_w, on_x = p.x + g->before - tap % g->kernel_w;
    if (!p.inside || on_y < 0 || on_x < 0 || on_y % g->stride || on_x % g->stride) return 0.0f;
    int at_y = on_y / g->stride, at_x = on_x / g->stride;
    if (at_y >= g->out_h || at_x >= g->out_w) return 0.0f;
    return y[(((wide)p.image * g->filters + o) * g->out_h + at_y) * g->out_w + at_x];
}

typedef float conv_step[CONV_STEP][CONV_TILE + 4];

// sums += a^T b of one step.
DEVICE void conv_products(conv_step a, conv_step b, float sums[4][4])
{
    int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;
    for (int k = 0; k < CONV_STEP; ++k)
        for (int i = 0; i < 4; ++i)
            for (int j = 0; j < 4; ++j) sums[i][j] += a[k][ty + i] * b[k][tx + j];
}

// y = weight * x + bias where not `transposed`; else x = weight^T * y + bias. Blocks (tile of
// pixels, tile of what comes out). A thread gathers for one pixel, its neighbours for the next
// ones.
DEVICE void conv_by_pixels(const void *from, int narrow, const float *weight, const float *bias,
                           float *to, const conv_sizes *g, int transposed, conv_step a,
                           conv_step b)
{
    int taps = g->kernel_h * g->kernel_w;
    int outs = transposed ? g->channels : g->filters, ins = transposed ? g->filters : g->channels;
    int height = transposed ? g->height : g->out_h, width = transposed ? g->width : g->out_w;
    int depth = ins * taps, at = threadIdx.x % CONV_TILE;
    int first_pixel = blockIdx.x * CONV_TILE, first_out = blockIdx.y * CONV_TILE;
    int out = first_out + at;
    conv_pixel own = pixel_of(first_pixel + at, g->images, height, width);
    float sums[4][4] = {{0.0f}};
    for (int start = 0; start < depth; start += CONV_STEP) {
        for (int k = threadIdx.x / CONV_TILE; k < CONV_STEP; k += BLOCK / CONV_TILE) {
            int place = start + k;
            float w = 0.0f, x = 0.0f;
            if (place < depth) {
                wide from_out = (wide)(place / taps) * g->channels + out;
                wide at_weight = transposed ? from_out * taps + place % taps
                                            : (wide)out * depth + place;
                if (out < outs) w = weight[at_weight];
                x = transposed ? window_over((const float *)from, g, own, place)
                               : under_window(from, narrow, g, own, place);
            }
            a[k][at] = w;
            b[k][at] = x;
        }
        __syncthreads();
        conv_products(a, b, sums);
        __syncthreads();
    }
    int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;
    for (int j = 0; j < 4; ++j) {
        conv_pixel p = pixel_of(first_pixel + tx + j, g->images, height, width);
        for (int i = 0; i < 4; ++i) {
            int o = first_out + ty + i;
            if (o >= outs || !p.inside) continue;
            wide at_to = (((wide)p.image * outs + o) * height + p.y) * width + p.x;
            to[at_to] = sums[i][j] + bias[o];
        }
    }
}

// x is bfloat16 where `narrow` is 1, here and in the weight's gradient.
KERNEL conv_forward(const void *x, const float *weight, const float *bias, float *y, int narrow,
                    CONV_PARAMETERS)
{
    __shared__ conv_step a, b;
    conv_sizes g = CONV_SIZES;
    conv_by_pixels(x, narrow, weight, bias, y, &g, 0, a, b);
}

KERNEL conv_input_gradient(const float *dy, const float *weight, const float *bias, float *dx,
                           CONV_PARAMETERS)
{
    __shared__ conv_step a, b;
    conv_sizes g = CONV_SIZES;
    conv_by_pixels(dy, 0, weight, bias, dx, &g, 1, a, b);
}

// The weight's gradient over a chunk of the output pixels of all images:
// [chunks][filters][channels taps]. Blocks (tile of places of the window, tile of filters,
// chunk).
KERNEL conv_weight_gradient_parts(const void *x, const float *dy, float *parts, int chunk,
                                  int narrow, CONV_PARAMETERS)
{
    __shared__ conv_step a, b;
    conv_sizes g = CONV_SIZES;
    int depth = channels * kernel_h * kernel_w, pixels = images * out_h * out_w;
    int first = blockIdx.z * chunk, last = pixels - first < chunk ? pixels : first + chunk;
    int first_place = blockIdx.x * CONV_TILE, first_filter = blockIdx.y * CONV_TILE;
    int k = threadIdx.x % CONV_STEP;
    float sums[4][4] = {{0.0f}};
    for (int start = first; start < last; start += CONV_STEP) {
        // Neighbouring threads take neighbouring pixels.
        conv_pixel p = pixel_of(start + k, images, out_h, out_w);
        p.inside = start + k < last;
        for (int at = threadIdx.x / CONV_STEP; at < CONV_TILE; at += BLOCK / CONV_STEP) {
            int o = first_filter + at, place = first_place + at;
            a[k][at] = p.inside && o < filters
                           ? dy[(((wide)p.image * filters + o) * out_h + p.y) * out_w + p.x]
                           : 0.0f;
            b[k][at] = place < depth ? under_window(x, narrow, &g, p, place) : 0.0f;
        }
        __syncthreads();
        conv_products(a, b, sums);
        __syncthreads();
    }
    int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
            int o = first_filter + ty + i, place = first_place + tx + j;
            if (o < filters && place < depth)
                parts[((wide)blockIdx.z * filters + o) * depth + place] = sums[i][j];
        }
}

// --- Codes. ---

// Rows of length one, divided by max(length, 1e-12). One thread a row.
KERNEL unit_rows(const float *from, float *to, int rows, int dim)
{
    wide row = place_of_thread();
    if (row >= rows) return;
    double square = 0.0;
    for (int d = 0; d < dim; ++d) square += (double)from[row * dim + d] * from[row * dim + d];
    float length = (float)sqrt(square);
    if (length < 1e-12f) length = 1e-12f;
    length += length * 0.0f; // not a number where it overflowed
    for (int d = 0; d < dim; ++d) to[row * dim + d] = from[row * dim + d] / length;
}

// Squares of rows' lengths. One thread a row.
KERNEL square_rows(const float *from, float *to, int rows, int dim)
{
    wide row = place_of_thread();
    if (row >= rows) return;
    float square = 0.0f;
    for (int d = 0; d < dim; ++d) square += from[row * dim + d] * from[row * dim + d];
    to[row] = square;
}

// For each row the index of its nearest code, of equal distances the lowest; 0 for a row that isn't
// finite. `squares` are the codes' squared lengths. A block for 64 rows.
KERNEL nearest_codes(const float *rows, const float *codes, const float *squares, unsigned *indices,
                     int count, int codes_count, int dim)
{
    __shared__ conv_step a, b;
    __shared__ float distances[CONV_TILE][16];
    __shared__ int candidates[CONV_TILE][16];
    int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;
    int first_row = blockIdx.x * CONV_TILE;
    float best[4], own[4] = {0.0f};
    int at_best[4] = {0};
    for (int i = 0; i < 4; ++i) best[i] = ENDLESS;
    for (int first_code = 0; first_code < codes_count; first_code += CONV_TILE) {
        float sums[4][4] = {{0.0f}};
        for (int start = 0; start < dim; start += CONV_STEP) {
            for (int l = threadIdx.x; l < CONV_STEP * CONV_TILE; l += BLOCK) {
                int k = l % CONV_STEP, at = l / CONV_STEP, d = start + k;
                int row = first_row + at, code = first_code + at;
                a[k][at] = d < dim && row < count ? rows[(wide)row * dim + d] : 0.0f;
                b[k][at] = d < dim && code < codes_count ? codes[(wide)code * dim + d] : 0.0f;
            }
            __syncthreads();
            conv_products(a, b, sums);
            if (first_code == 0)
                for (int k = 0; k < CONV_STEP; ++k)
                    for (int i = 0; i < 4; ++i) own[i] += a[k][ty + i] * a[k][ty + i];
            __syncthreads();
        }
        for (int j = 0; j < 4; ++j) {
            int code = first_code + tx + j;
            if (code >= codes_count) continue;
            for (int i = 0; i < 4; ++i) {
                float d = own[i] + squares[code] - 2.0f * sums[i][j];
                if (d < best[i]) best[i] = d, at_best[i] = code;
            }
        }
    }
    for (int i = 0; i < 4; ++i) {
        distances[ty + i][tx / 4] = best[i];
        candidates[ty + i][tx / 4] = at_best[i];
    }
    __syncthreads();
    if (threadIdx.x >= CONV_TILE || first_row + (int)threadIdx.x >= count) return;
    float least = ENDLESS;
    int found = 0;
    for (int k = 0; k < 16; ++k) {
        float d = distances[threadIdx.x][k];
        int code = candidates[threadIdx.x][k];
        if (d < least || (d == least && d < ENDLESS && code < found)) least = d, found = code;
    }
    indices[first_row + threadIdx.x] = (unsigned)found;
}
