// Owns our CUDA kernels: plain loops over NHWC maps, float32 sums, no atomics, so that every sum
// has one order. Compiled at load by NVRTC, once per element type; the tests compile the same text
// as C and run it on emulated threads (`emulate.c`). Must not know: layers, images' meaning.
//
// Launch geometry and arguments are made in `emit.rs`; a change of a signature is a change there
// and in `emulate.c`.

#ifndef KERNEL
#define KERNEL extern "C" __global__ void
#define DEVICE static __device__ __forceinline__
#define PACKED __align__(16)
#endif
#ifdef __CUDACC_RTC__
#define UNROLL_4 _Pragma("unroll 4")
#else
#define UNROLL_4
#endif

// Indices of elements: a batch of maps can hold more than 2^31 of them.
typedef long long wide;

// Elements of maps: float, or bfloat16 as its bits.
#ifdef VQTOK_BF16
typedef unsigned short element;
DEVICE float widen(element x) { return __uint_as_float((unsigned)x << 16); }
DEVICE element narrow(float x)
{
    unsigned bits = __float_as_uint(x);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (element)(bits >> 16 | 0x40); // not a number
    return (element)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);               // to even
}
#else
typedef float element;
DEVICE float widen(element x) { return x; }
DEVICE element narrow(float x) { return x; }
#endif

// Eight elements: what a thread moves at a time, in accesses of 16 bytes.
#define PACK 8
typedef struct PACKED {
    element at[PACK];
} pack;
typedef struct PACKED {
    float at[4];
} four;

#ifdef VQTOK_BF16
// Two elements in one instruction where there is one.
DEVICE void narrow_two(pack *to, int at, float low, float high)
{
#ifdef __CUDACC_RTC__
    unsigned both;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(both) : "f"(high), "f"(low));
    *(unsigned *)&to->at[at] = both;
#else
    to->at[at] = narrow(low);
    to->at[at + 1] = narrow(high);
#endif
}
// Within a few units in the last place of float32, of which bfloat16 keeps 8 bits.
DEVICE float sigmoid_times(float x) { return __fdividef(x, 1.0f + __expf(-x)); }
#else
DEVICE void narrow_two(pack *to, int at, float low, float high)
{
    to->at[at] = low;
    to->at[at + 1] = high;
}
DEVICE float sigmoid_times(float x) { return x / (1.0f + expf(-x)); }
#endif

// Bytes [pixels][channels] to floats of the input range, [pixels][padded], zeros behind; `padded`
// is a multiple of 8. One thread a pixel.
KERNEL pixels_to_map(const unsigned char *bytes, const float *table, element *map, int pixels,
                     int channels, int padded)
{
    wide pixel = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (pixel >= pixels) return;
    for (int start = 0; start < padded; start += PACK) {
        pack values;
        for (int j = 0; j < PACK; ++j) {
            int c = start + j;
            values.at[j] = narrow(c < channels ? table[bytes[pixel * channels + c]] : 0.0f);
        }
        *(pack *)(map + pixel * padded + start) = values;
    }
}

// Floats to elements, [count]. One thread each.
KERNEL narrow_all(const float *from, element *to, int count)
{
    wide i = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = narrow(from[i]);
}

// The kernels from here to `spread_map` have one thread for each pack of what they write.
DEVICE wide pack_of_thread(void) { return (wide)blockIdx.x * blockDim.x + threadIdx.x; }

// Floats [pixels][channels] to a map [pixels][padded], zeros behind.
KERNEL floats_to_map(const float *from, element *map, int packs, int channels, int padded)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = padded / PACK, start = (int)(i % each) * PACK;
    const float *row = from + i / each * channels;
    pack values;
    for (int j = 0; j < PACK; ++j)
        values.at[j] = narrow(start + j < channels ? row[start + j] : 0.0f);
    *(pack *)(map + i * PACK) = values;
}

// A map [pixels][padded] to floats [pixels][channels]. One thread a float.
KERNEL map_to_floats(const element *map, float *to, int count, int channels, int padded)
{
    wide i = (wide)blockIdx.x * blockDim.x + threadIdx.x;
    if (i < count) to[i] = widen(map[i / channels * padded + i % channels]);
}

// Every pixel twice along both sides; `width` is that of `from`. Rows are those of all images.
KERNEL double_map(const element *from, element *to, int packs, int width, int channels)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = channels / PACK, start = (int)(i % each) * PACK;
    wide pixel = i / each, row = pixel / (2 * width);
    int column = (int)(pixel % (2 * width));
    *(pack *)(to + i * PACK) =
        *(const pack *)(from + ((row / 2) * width + column / 2) * channels + start);
}

// x to max(x, 0), or where `silu` to x * sigmoid(x).
KERNEL activate(const element *from, element *to, int packs, int silu)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    pack values = *(const pack *)(from + i * PACK), done;
    for (int j = 0; j < PACK; j += 2) {
        float low = widen(values.at[j]), high = widen(values.at[j + 1]);
        if (silu) {
            low = sigmoid_times(low), high = sigmoid_times(high);
        } else {
            // Not a number stays one.
            low = low < 0.0f ? 0.0f : low, high = high < 0.0f ? 0.0f : high;
        }
        narrow_two(&done, j, low, high);
    }
    *(pack *)(to + i * PACK) = done;
}

// The mean of 2x2 pixels, or where `largest` is 1 the largest of them; `height` and `width` are of
// `from`, and the last row or column of an odd size is left out.
KERNEL halve_map(const element *from, element *to, int packs, int height, int width, int channels,
                 int largest)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = channels / PACK, start = (int)(i % each) * PACK;
    int rows = height / 2, columns = width / 2;
    wide pixel = i / each, image = pixel / (rows * columns);
    int y = (int)(pixel / columns % rows) * 2, x = (int)(pixel % columns) * 2;
    const element *at = from + ((image * height + y) * width + x) * channels + start;
    pack parts[4];
    for (int k = 0; k < 4; ++k)
        parts[k] = *(const pack *)(at + ((wide)(k / 2) * width + k % 2) * channels);
    pack done;
    for (int j = 0; j < PACK; ++j) {
        float sum = 0.0f, most = widen(parts[0].at[j]);
        for (int k = 0; k < 4; ++k) {
            float x = widen(parts[k].at[j]);
            sum += x;
            // Not a number stays one.
            most = x > most || x != x ? x : most;
        }
        done.at[j] = narrow(largest ? most : sum * 0.25f);
    }
    *(pack *)(to + i * PACK) = done;
}

// Channel (columns dy + dx) C + c of a pixel becomes channel c of the pixel (rows y + dy, columns x + dx):
// `width` and `stride` (channels with padding) of `from`, `channels` and `padded` of `to`. Rows are
// those of all images.
KERNEL spread_map(const element *from, element *to, int packs, int width, int stride, int channels,
                  int padded, int rows, int columns)
{
    wide i = pack_of_thread();
    if (i >= packs) return;
    int each = padded / PACK, start = (int)(i % each) * PACK;
    wide pixel = i / each, y = pixel / (width * columns);
    int x = (int)(pixel % (width * columns));
    int part = columns * (int)(y % rows) + x % columns;
    const element *at = from + (y / rows * width + x / columns) * stride + part * channels;
    pack done;
    for (int j = 0; j < PACK; ++j)
        done.at[j] = start + j < channels ? at[start + j] : narrow(0.0f);
    *(pack *)(to + i * PACK) = done;
}

// Both kernels over whole maps have blocks of 256 threads over a chunk of pixels and up to 2048
// channels: 8 channels a thread, the next thread's beside them, as many rows of threads as fit. Which
// block of channels is `blockIdx.z` or `blockIdx.y`; channels are a multiple of 8.
#define LANES_MAX 256
typedef struct {
    int first_channel, lanes, rows, lane, row;
} layout;
DEVICE layout laid_out(int block, int channels)
{
    layout l;
    l.first_channel = block * LANES_MAX * PACK;
    int rest = channels - l.first_channel;
    l.lanes = rest < LANES_MAX * PACK ? rest / PACK : LANES_MAX;
    l.rows = LANES_MAX / l.lanes;
    l.lane = threadIdx.x % l.lanes;
    l.row = threadIdx.x / l.lanes;
    return l;
}

// Sums over a chunk of pixels of x - x0 and its square, where x0 is the channel's first pixel:
// [images][chunks][channels][2]. Blocks (chunk, 2048 channels, image) of 256 threads.
#define SUM_PLACES (2 * PACK + 1) // odd: no two threads of a row in one bank of memory
KERNEL channel_sums(const element *map, float *sums, int pixels, int channels, int chunk)
{
    __shared__ float part[LANES_MAX * SUM_PLACES];
    layout l = laid_out(blockIdx.y, channels);
    int first = blockIdx.x * chunk;
    int last = first + chunk < pixels ? first + chunk : pixels;
    const element *image =
        map + (wide)blockIdx.z * pixels * channels + l.first_channel + l.lane * PACK;
    float t[PACK] = {0.0f}, s[PACK] = {0.0f};
    if (l.row < l.rows) {
        pack start = *(const pack *)image;
        float x0[PACK];
        for (int j = 0; j < PACK; ++j) x0[j] = widen(start.at[j]);
        UNROLL_4
        for (int p = first + l.row; p < last; p += l.rows) {
            pack values = *(const pack *)(image + (wide)p * channels);
            for (int j = 0; j < PACK; ++j) {
                float d = widen(values.at[j]) - x0[j];
                t[j] += d;
                s[j] += d * d;
            }
        }
    }
    for (int j = 0; j < PACK; ++j) {
        part[threadIdx.x * SUM_PLACES + 2 * j] = t[j];
        part[threadIdx.x * SUM_PLACES + 2 * j + 1] = s[j];
    }
    __syncthreads();
    float *to = sums + (((wide)blockIdx.z * gridDim.x + blockIdx.x) * channels + l.first_channel) * 2;
    for (int k = threadIdx.x; k < l.lanes * PACK * 2; k += LANES_MAX) {
        float total = 0.0f;
        for (int r = 0; r < l.rows; ++r)
            total += part[(r * l.lanes + k / (2 * PACK)) * SUM_PLACES + k % (2 * PACK)];
        to[k] = total;
    }
}

// GroupNorm as scale and shift of each channel, [images][channels][2], from `channel_sums`, in
// double precision. Weights and biases of the next image are `step` floats further on: 0 where all
// have the same. Blocks (group, image) of 32 threads.
#define GROUP_THREADS 32
KERNEL group_affine(const float *sums, const element *map, const float *weight, const float *bias,
                    float *affine, int pixels, int channels, int groups, int chunks, float epsilon,
                    int step)
{
    __shared__ double total[GROUP_THREADS];
    __shared__ double square[GROUP_THREADS];
    int width = channels / groups, first = blockIdx.x * width;
    const float *image = sums + (wide)blockIdx.y * chunks * channels * 2;
    const element *start = map + (wide)blockIdx.y * pixels * channels;
    // Of the group's channels: the sums of means, of squared means, of variances.
    double means = 0.0, squares = 0.0, variances = 0.0;
    for (int c = first; c < first + width; ++c) {
        double t = 0.0, s = 0.0;
        for (int k = threadIdx.x; k < chunks; k += GROUP_THREADS) {
            t += image[((wide)k * channels + c) * 2];
            s += image[((wide)k * channels + c) * 2 + 1];
        }
        total[threadIdx.x] = t;
        square[threadIdx.x] = s;
        __syncthreads();
        t = s = 0.0;
        for (int k = 0; k < GROUP_THREADS; ++k) {
            t += total[k];
            s += square[k];
        }
        double offset = t / pixels, mean = offset + widen(start[c]);
        means += mean;
        squares += mean * mean;
        variances += s / pixels - offset * offset;
        __syncthreads(); // before the next channel overwrites what others still read
    }
    double mean = means / width;
    double variance = variances / width + (squares / width - mean * mean);
    double deviation = sqrt((variance > 0.0 ? variance : 0.0) + epsilon);
    for (int c = first + threadIdx.x; c < first + width; c += GROUP_THREADS) {
        double scale = weight[(wide)blockIdx.y * step + c] / deviation;
        float *at = affine + ((wide)blockIdx.y * channels + c) * 2;
        at[0] = (float)scale;
        at[1] = (float)(bias[(wide)blockIdx.y * step + c] - mean * scale);
    }
}

// scale * x + shift, and x / (1 + exp(-x)) of it where `silu` is 1. Blocks (chunk, image, 2048
// channels) of 256 threads, each of which keeps its channels' scales and shifts.
KERNEL apply_affine(const element *from, const float *affine, element *to, int pixels, int channels,
                    int chunk, int silu)
{
    layout l = laid_out(blockIdx.z, channels);
    if (l.row >= l.rows) return;
    int channel = l.first_channel + l.lane * PACK;
    const float *a = affine + ((wide)blockIdx.y * channels + channel) * 2;
    float scale[PACK], shift[PACK];
    for (int j = 0; j < PACK; j += 2) {
        four two = *(const four *)(a + 2 * j);
        scale[j] = two.at[0], shift[j] = two.at[1];
        scale[j + 1] = two.at[2], shift[j + 1] = two.at[3];
    }
    int first = blockIdx.x * chunk;
    int last = first + chunk < pixels ? first + chunk : pixels;
    wide base = ((wide)blockIdx.y * pixels + first + l.row) * channels + channel;
    UNROLL_4
    for (int p = first + l.row; p < last; p += l.rows, base += (wide)l.rows * channels) {
        pack values = *(const pack *)(from + base);
        for (int j = 0; j < PACK; j += 2) {
            float low = widen(values.at[j]) * scale[j] + shift[j];
            float high = widen(values.at[j + 1]) * scale[j + 1] + shift[j + 1];
            if (silu) {
                low = sigmoid_times(low);
                high = sigmoid_times(high);
            }
            narrow_two(&values, j, low, high);
        }
        *(pack *)(to + base) = values;
    }
}

// Convolution as defined: 64 output pixels by 64 outputs a block of 256 threads, 4 x 4 a thread.
// Weights are [outputs][kernel][kernel][inputs]; `before` is the padding above and on the left,
// what lies outside is zero on every side.
#define TILE 64
#define STEP 16
DEVICE void convolve_tile(const element *map, const element *weights, int pixels, int height,
                          int width, int inputs, int out_height, int out_width, int outputs,
                          int kernel, int stride, int before, float sums[4][4])
{
    __shared__ float a[STEP][TILE + 4];
    __shared__ float b[STEP][TILE + 4];
    int row = threadIdx.x / 4, column = threadIdx.x % 4 * 4;
    int pixel = blockIdx.x * TILE + row, output = blockIdx.y * TILE + row;
    int image = pixel / (out_height * out_width), rest = pixel % (out_height * out_width);
    int top = rest / out_width * stride - before, left = rest % out_width * stride - before;
    int ty = threadIdx.x / 16 * 4, tx = threadIdx.x % 16 * 4;
    for (int ky = 0; ky < kernel; ++ky)
        for (int kx = 0; kx < kernel; ++kx) {
            int y = top + ky, x = left + kx;
            int inside = pixel < pixels && y >= 0 && y < height && x >= 0 && x < width;
            wide from = inside ? (((wide)image * height + y) * width + x) * inputs : 0;
            wide with = (((wide)output * kernel + ky) * kernel + kx) * inputs;
            for (int start = 0; start < inputs; start += STEP) {
                for (int j = 0; j < 4; ++j) {
                    int c = start + column + j;
                    int fits = c < inputs;
                    a[column + j][row] = inside && fits ? widen(map[from + c]) : 0.0f;
                    b[column + j][row] =
                        output < outputs && fits ? widen(weights[with + c]) : 0.0f;
                }
                __syncthreads();
                for (int k = 0; k < STEP; ++k)
                    for (int i = 0; i < 4; ++i)
                        for (int j = 0; j < 4; ++j) sums[i][j] += a[k][ty + i] * b[k][tx + j];
                __syncthreads();
            }
        }
}

// `convolve_tile` plus bias, plus `residual` (the output's shape) where it isn't null.
KERNEL convolve(const element *map, const element *weights, const float *bias,
                const element *residual, element *to, int pixels, int height, int width,
                int inputs, int out_height, int out_width, int outputs, int kernel, int stride,
                int before)
{
    float sums[4][4] = {{0.0f}};
    convolve_tile(map, weights, pixels, height, width, inputs, out_height, out_width, outputs,
                  kernel, stride, before, sums);
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
            int pixel = blockIdx.x * TILE + threadIdx.x / 16 * 4 + i;
            int output = blockIdx.y * TILE + threadIdx.x % 16 * 4 + j;
            if (pixel >= pixels || output >= outputs) continue;
            wide at = (wide)pixel * outputs + output;
            float value = sums[i][j] + bias[output];
            if (residual) value += widen(residual[at]);
            to[at] = narrow(value);
        }
}

// The same to float32 whatever the elements are: the latents in front of the quantizer.
KERNEL convolve_to_floats(const element *map, const element *weights, const float *bias, float *to,
                          int pixels, int height, int width, int inputs, int out_height,
                          int out_width, int outputs, int kernel, int stride, int before)
{
    float sums[4][4] = {{0.0f}};
    convolve_tile(map, weights, pixels, height, width, inputs, out_height, out_width, outputs,
                  kernel, stride, before, sums);
    for (int i = 0; i < 4; ++i)
        for (int j = 0; j < 4; ++j) {
            int pixel = blockIdx.x * TILE + threadIdx.x / 16 * 4 + i;
            int output = blockIdx.y * TILE + threadIdx.x % 16 * 4 + j;
            if (pixel < pixels && output < outputs)
                to[(wide)pixel * outputs + output] = sums[i][j] + bias[output];
        }
}

// Softmax of each row of float scores [rows][columns] to elements. One block of 64 threads a row;
// every thread folds the partial results itself, in one order.
#define SOFTMAX_THREADS 64
KERNEL softmax_rows(const float *scores, element *weights, int columns)
{
    __shared__ float largest[SOFTMAX_THREADS];
    __shared__ float total[SOFTMAX_THREADS];
    const float *row = scores + (wide)blockIdx.x * columns;
    element *to = weights + (wide)blockIdx.x * columns;
    float high = row[0];
    for (int k = threadIdx.x; k < columns; k += SOFTMAX_THREADS) high = fmaxf(high, row[k]);
    largest[threadIdx.x] = high;
    __syncthreads();
    for (int k = 0; k < SOFTMAX_THREADS; ++k) high = fmaxf(high, largest[k]);
    float sum = 0.0f;
    for (int k = threadIdx.x; k < columns; k += SOFTMAX_THREADS) sum += expf(row[k] - high);
    total[threadIdx.x] = sum;
    __syncthreads();
    sum = 0.0f;
    for (int k = 0; k < SOFTMAX_THREADS; ++k) sum += total[k];
    for (int k = threadIdx.x; k < columns; k += SOFTMAX_THREADS)
        to[k] = narrow(expf(row[k] - high) / sum);
}

// Each row of z [rows][dim] divided by its length (at least 1e-12), in place. One block of 32
// threads a row.
#define NORMALISE_THREADS 32
KERNEL normalise_rows(float *z, int dim)
{
    __shared__ double square[NORMALISE_THREADS];
    float *row = z + (wide)blockIdx.x * dim;
    double s = 0.0;
    for (int d = threadIdx.x; d < dim; d += NORMALISE_THREADS) s += (double)row[d] * row[d];
    square[threadIdx.x] = s;
    __syncthreads();
    s = 0.0;
    for (int k = 0; k < NORMALISE_THREADS; ++k) s += square[k];
    float length = (float)sqrt(s);
    if (length < 1e-12f) length = 1e-12f;
    for (int d = threadIdx.x; d < dim; d += NORMALISE_THREADS) row[d] = row[d] / length;
}

// z.e in the reference's order (`model::quantizer`): chunks of 64, no fused operations.
DEVICE float reference_dot(const float *z, const float *e, int dim)
{
    float total = 0.0f;
    for (int start = 0; start < dim; start += 64) {
        int end = start + 64 < dim ? start + 64 : dim;
        float sum = 0.0f;
        for (int d = start; d < end; ++d) sum = __fadd_rn(sum, __fmul_rn(z[d], e[d]));
        total = __fadd_rn(total, sum);
    }
    return total;
}

// The code with the smallest base + offset[k] + factor * z.e[k], the lower index where equal, for
// each row of z [rows][dim]; base is |z|^2 where `squared_base` is 1. `dots` [rows][count] are
// z.e with an error: whatever could be the smallest within it (`slack_product` * |z| +
// `slack_rest` + 2^-20 |z|^2) is computed again in the reference's order, so that codes are the
// reference's for these z. Distances |z - e|^2 where `measured` is 1, else not-a-number.
// One block of 128 threads a row.
#define NEAREST_THREADS 128
KERNEL nearest(const float *dots, const float *z, const float *codebook, const float *offset,
               unsigned *codes, float *distances, int count, int dim, float factor,
               int squared_base, float slack_product, float slack_rest, int measured)
{
    __shared__ float lowest[NEAREST_THREADS];
    __shared__ unsigned index[NEAREST_THREADS];
    __shared__ double square[NEAREST_THREADS];
    const float *row = z + (wide)blockIdx.x * dim;
    const float *dot = dots + (wide)blockIdx.x * count;
    float infinity = __uint_as_float(0x7f800000u);

    float low = infinity;
    for (int k = threadIdx.x; k < count; k += NEAREST_THREADS)
        low = fminf(low, offset[k] + factor * dot[k]);
    lowest[threadIdx.x] = low;
    __syncthreads();
    for (int k = 0; k < NEAREST_THREADS; ++k) low = fminf(low, lowest[k]);
    __syncthreads(); // `lowest` is written again below

    float length = reference_dot(row, row, dim);
    float limit =
        low + (slack_product * sqrtf(length) + slack_rest + length * (1.0f / 1048576.0f));
    float base = squared_base ? length : 0.0f;
    float best = infinity;
    unsigned at = 0;
    for (int k = threadIdx.x; k < count; k += NEAREST_THREADS)
        if (offset[k] + factor * dot[k] <= limit) {
            float exact = reference_dot(row, codebook + (wide)k * dim, dim);
            float score = __fadd_rn(__fadd_rn(base, offset[k]), __fmul_rn(factor, exact));
            if (score < best) {
                best = score;
                at = k;
            }
        }
    lowest[threadIdx.x] = best;
    index[threadIdx.x] = at;
    __syncthreads();
    best = infinity;
    at = 0;
    for (int k = 0; k < NEAREST_THREADS; ++k)
        if (lowest[k] < best || (lowest[k] == best && index[k] < at)) {
            best = lowest[k];
            at = index[k];
        }

    double s = 0.0;
    for (int d = threadIdx.x; d < dim; d += NEAREST_THREADS) {
        double difference = row[d] - codebook[(wide)at * dim + d];
        s += difference * difference;
    }
    square[threadIdx.x] = s;
    __syncthreads();
    if (threadIdx.x == 0) {
        s = 0.0;
        for (int k = 0; k < NEAREST_THREADS; ++k) s += square[k];
        codes[blockIdx.x] = at;
        distances[blockIdx.x] = measured ? (float)s : __uint_as_float(0x7fc00000u);
    }
}

// The place of the largest of each row of logits [rows][count], the lowest where several are. `told`
// is not-a-number, or infinite where something in the row isn't finite. One block of 128 threads a
// row.
KERNEL largest_logit(const float *logits, unsigned *codes, float *told, int count)
{
    __shared__ float highest[NEAREST_THREADS];
    __shared__ unsigned index[NEAREST_THREADS];
    __shared__ int finite[NEAREST_THREADS];
    const float *row = logits + (wide)blockIdx.x * count;
    float infinity = __uint_as_float(0x7f800000u), best = -infinity;
    unsigned at = 0;
    int all = 1;
    for (int k = threadIdx.x; k < count; k += NEAREST_THREADS) {
        float x = row[k];
        all &= x - x == 0.0f;
        if (x > best) {
            best = x;
            at = k;
        }
    }
    highest[threadIdx.x] = best;
    index[threadIdx.x] = at;
    finite[threadIdx.x] = all;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int k = 0; k < NEAREST_THREADS; ++k) {
            all &= finite[k];
            if (highest[k] > best || (highest[k] == best && index[k] < at)) {
                best = highest[k];
                at = index[k];
            }
        }
        codes[blockIdx.x] = at;
        told[blockIdx.x] = all ? __uint_as_float(0x7fc00000u) : infinity;
    }
}
