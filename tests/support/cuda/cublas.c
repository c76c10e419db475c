/* Owns a stand-in for cuBLAS on the stand-in driver: products as loops. As the library may, it sums
   in another order where a call is small. FAKE_CUBLAS_VERSION: what it says it is. */
#include "fake.h"
#include <stdlib.h>

enum { SUCCESS = 0, NOT_INITIALIZED = 1, INVALID_VALUE = 7, EXECUTION_FAILED = 13, INTERNAL_ERROR = 14 };
enum { FLOAT = 0, BFLOAT16 = 14, COMPUTE_32F = 68 };
enum { PEDANTIC = 2, NO_REDUCED_REDUCTION = 16 };
struct handle {
    int mode;
    void *stream;
};

int cublasCreate_v2(void **handle)
{
    if (!fake_has_context()) return NOT_INITIALIZED;
    *handle = calloc(1, sizeof(struct handle));
    fake_handle(1);
    return SUCCESS;
}
int cublasDestroy_v2(void *handle)
{
    free(handle);
    fake_handle(-1);
    return fake_sticky() ? INTERNAL_ERROR : SUCCESS;
}
int cublasSetStream_v2(void *handle, void *stream)
{
    ((struct handle *)handle)->stream = stream;
    return SUCCESS;
}
int cublasSetMathMode(void *handle, int mode)
{
    ((struct handle *)handle)->mode = mode;
    return SUCCESS;
}
int cublasGetVersion_v2(void *handle, int *version)
{
    (void)handle;
    *version = (int)fake_setting("FAKE_CUBLAS_VERSION", 130100);
    return SUCCESS;
}

static float get(const void *from, long long at, int type)
{
    return type == FLOAT ? ((const float *)from)[at] : fake_widen(((const uint16_t *)from)[at]);
}
static int outside(const void *matrix, int type, long long elements)
{
    if (fake_is_live((uintptr_t)matrix, (size_t)elements * (type == FLOAT ? 4 : 2))) return 0;
    fake_misuse("a product's matrix of %lld elements leaves its allocation", elements);
    return 1;
}
/* c[i] for all rows i of one column: sums in ascending order of k, or in descending. */
static void column(float *c, const float *rows, const float *b, int m, int k, int descending)
{
    for (int i = 0; i < m; ++i) c[i] = 0.0f;
    for (int l = 0; l < k; ++l) {
        int at = descending ? k - 1 - l : l;
        const float *row = rows + (size_t)at * (size_t)m;
        for (int i = 0; i < m; ++i) c[i] += row[i] * b[at];
    }
}

/* A product that was checked. */
struct product {
    int ta, m, n, k, at, lda, bt, ldb, ct, ldc, batch;
    long long sa, sb, sc;
    float alpha;
    const void *a, *b;
    void *c;
};
static void multiply(void *data)
{
    const struct product *p = data;
    int m = p->m, n = p->n, k = p->k;
    fake_tick(0.001);
    if (fake_work(PRODUCT)) return;
    float *rows = malloc((size_t)m * (size_t)k * 4), *one = malloc((size_t)k * 4),
          *sums = malloc((size_t)m * 4);
    int descending = (long long)p->batch * n < 512;
    for (long long q = 0; q < p->batch; ++q) {
        for (int l = 0; l < k; ++l)
            for (int i = 0; i < m; ++i)
                rows[(size_t)l * (size_t)m + (size_t)i] = get(
                    p->a, q * p->sa + (p->ta ? (long long)i * p->lda + l : (long long)l * p->lda + i),
                    p->at);
        for (int j = 0; j < n; ++j) {
            for (int l = 0; l < k; ++l)
                one[l] = get(p->b, q * p->sb + (long long)j * p->ldb + l, p->bt);
            column(sums, rows, one, m, k, descending);
            for (int i = 0; i < m; ++i) {
                long long to = q * p->sc + (long long)j * p->ldc + i;
                float value = p->alpha * sums[i];
                if (p->ct == FLOAT)
                    ((float *)p->c)[to] = value;
                else
                    ((uint16_t *)p->c)[to] = fake_narrow(value);
            }
        }
    }
    free(rows), free(one), free(sums);
}

int cublasGemmStridedBatchedEx(void *handle, int ta, int tb, int m, int n, int k,
                               const float *alpha, const void *a, int at, int lda, long long sa,
                               const void *b, int bt, int ldb, long long sb, const float *beta,
                               void *c, int ct, int ldc, long long sc, int batch, int compute,
                               int algorithm)
{
    (void)algorithm;
    const struct handle *h = handle;
    if (fake_sticky()) return EXECUTION_FAILED;
    if (!fake_has_context()) {
        fake_misuse("a product without a context");
        return NOT_INITIALIZED;
    }
    int known = (at == FLOAT || at == BFLOAT16) && at == bt && (ct == FLOAT || ct == at);
    if (!known || m < 1 || n < 1 || k < 1 || batch < 1 || tb || compute != COMPUTE_32F ||
        lda < (ta ? k : m) || ldb < k || ldc < m || *beta != 0.0f || !h->stream) {
        fake_misuse("a product's arguments");
        return INVALID_VALUE;
    }
    if (h->mode != (at == FLOAT ? PEDANTIC : NO_REDUCED_REDUCTION))
        fake_misuse("a product in less than its precision: mode %d", h->mode);
    long long last = batch - 1;
    if (outside(a, at, last * sa + (long long)((ta ? m : k) - 1) * lda + (ta ? k : m)) ||
        outside(b, bt, last * sb + (long long)(n - 1) * ldb + k) ||
        outside(c, ct, last * sc + (long long)(n - 1) * ldc + m))
        return INVALID_VALUE;
    struct product product = {.ta = ta, .m = m, .n = n, .k = k, .at = at, .lda = lda, .bt = bt,
                              .ldb = ldb, .ct = ct, .ldc = ldc, .batch = batch, .sa = sa, .sb = sb,
                              .sc = sc, .alpha = *alpha, .a = a, .b = b, .c = c};
    fake_queue(h->stream, multiply, &product, sizeof product);
    return SUCCESS;
}
