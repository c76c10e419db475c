/* Owns a stand-in for NVIDIA's driver: memory is the host's, kernels run on emulated threads. Strict
   where a driver is, and more: every call that touches the device needs a current context on its
   thread; memory holds NaN until it is written, guards behind each allocation are looked at after
   every launch; launches are held to the limits of a card.
   FAKE_CUDA_MEMORY: bytes of the card. FAKE_CUDA_FAULT: the number of the piece of work (launch,
   product, convolution, copy) that fails; every call after it gives the same error, as on a card.
   FAKE_CUDA_REPORT: a file for the counts at the end.
   Not called libcuda.so.1: NVRTC opens that one itself and takes it for a whole driver. */
#define _GNU_SOURCE
#include "emulate.c"
#include "fake.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <time.h>

typedef int status;
enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700
};
#define GUARD_BYTES 256
#define ALLOCATIONS 4096

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, one_launch = PTHREAD_MUTEX_INITIALIZER;
static int initialized, sticky, misuses, retained, objects, handles;
static int done[KINDS], work;
static struct { uint64_t at; size_t bytes; } live[ALLOCATIONS];
static int lives, taken;
static size_t used, peak;
static char primary;
static __thread void *current_context;

long long fake_setting(const char *name, long long otherwise)
{
    const char *value = getenv(name);
    return value ? atoll(value) : otherwise;
}

void fake_misuse(const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    fputs("fake CUDA: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    __atomic_add_fetch(&misuses, 1, __ATOMIC_SEQ_CST);
}

int fake_sticky(void) { return __atomic_load_n(&sticky, __ATOMIC_SEQ_CST); }
int fake_has_context(void) { return current_context != 0; }
void fake_handle(int change) { __atomic_add_fetch(&handles, change, __ATOMIC_SEQ_CST); }

int fake_is_live(uint64_t at, size_t bytes)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < lives && !found; ++i)
        found = at >= live[i].at && at + bytes <= live[i].at + live[i].bytes;
    pthread_mutex_unlock(&lock);
    return found;
}

int fake_work(int kind)
{
    pthread_mutex_lock(&lock);
    done[kind] += 1;
    int fails = ++work == fake_setting("FAKE_CUDA_FAULT", 0);
    if (fails) sticky = ILLEGAL_ADDRESS;
    pthread_mutex_unlock(&lock);
    return fails;
}

static __attribute__((destructor)) void report(void)
{
    const char *path = getenv("FAKE_CUDA_REPORT");
    FILE *file = path ? fopen(path, "w") : 0;
    if (!file) return;
    fprintf(file,
            "{\"taken\": %d, \"allocations\": %d, \"bytes\": %zu, \"peak\": %zu, \"contexts\": %d, "
            "\"objects\": %d, \"handles\": %d, \"misuses\": %d, \"launches\": %d, "
            "\"products\": %d, \"convolutions\": %d, \"copies\": %d}\n",
            taken, lives, used, peak, retained, objects, handles, misuses, done[LAUNCH], done[PRODUCT],
            done[CONVOLUTION], done[COPY]);
    fclose(file);
}

static status misused(status error, const char *call)
{
    fake_misuse("%s gives %d", call, error);
    return error;
}
/* Not a misuse: after a failure every call is answered with it. */
#define ENTER do { \
        if (!initialized) return misused(NOT_INITIALIZED, __func__); \
        if (fake_sticky()) return fake_sticky(); \
    } while (0)
#define ENTER_CONTEXT do { \
        ENTER; \
        if (!current_context) return misused(INVALID_CONTEXT, __func__); \
    } while (0)

status cuInit(unsigned flags) { (void)flags; initialized = 1; return SUCCESS; }
status cuDriverGetVersion(int *version) { *version = 13000; return SUCCESS; }
status cuGetErrorName(status error, const char **name)
{
    *name = error == ILLEGAL_ADDRESS ? "CUDA_ERROR_ILLEGAL_ADDRESS" : "CUDA_ERROR";
    return SUCCESS;
}
status cuGetErrorString(status error, const char **text)
{
    *text = error == ILLEGAL_ADDRESS ? "an illegal memory access was encountered" : "an error";
    return SUCCESS;
}
status cuDeviceGetCount(int *count) { ENTER; *count = 1; return SUCCESS; }
status cuDeviceGet(int *device, int ordinal)
{
    ENTER;
    if (ordinal) return misused(INVALID_DEVICE, __func__);
    *device = 0;
    return SUCCESS;
}
status cuDeviceGetName(char *name, int length, int device)
{
    (void)device;
    ENTER;
    snprintf(name, (size_t)length, "an emulated card");
    return SUCCESS;
}
status cuDeviceGetAttribute(int *value, int attribute, int device)
{
    (void)device;
    ENTER;
    /* Compute capability 9.0, and memory pools. */
    *value = attribute == 75 ? 9 : attribute == 76 ? 0 : attribute == 115 ? 1 : 0;
    return SUCCESS;
}
status cuDevicePrimaryCtxRetain(void **context, int device)
{
    (void)device;
    ENTER;
    __atomic_add_fetch(&retained, 1, __ATOMIC_SEQ_CST);
    *context = &primary;
    return SUCCESS;
}
/* What gives something back does so after a failure, too: the report is to show what never was. */
status cuDevicePrimaryCtxRelease_v2(int device)
{
    (void)device;
    if (__atomic_sub_fetch(&retained, 1, __ATOMIC_SEQ_CST) < 0) fake_misuse("released twice");
    return fake_sticky();
}
status cuCtxGetCurrent(void **context) { ENTER; *context = current_context; return SUCCESS; }
status cuCtxSetCurrent(void *context) { ENTER; current_context = context; return SUCCESS; }
status cuCtxSynchronize(void) { ENTER_CONTEXT; return SUCCESS; }

static status take(uint64_t *at, size_t bytes)
{
    status result = SUCCESS;
    void *memory = 0;
    if (!bytes) return misused(INVALID_VALUE, "an allocation of nothing");
    pthread_mutex_lock(&lock);
    if (used + bytes > (size_t)fake_setting("FAKE_CUDA_MEMORY", 1ll << 32) || lives == ALLOCATIONS ||
        posix_memalign(&memory, 512, bytes + GUARD_BYTES)) {
        result = OUT_OF_MEMORY;
    } else {
        memset(memory, 0xff, bytes);
        memset((char *)memory + bytes, 0xa5, GUARD_BYTES);
        *at = live[lives].at = (uint64_t)(uintptr_t)memory;
        live[lives++].bytes = bytes;
        used += bytes, taken += 1;
        if (used > peak) peak = used;
    }
    pthread_mutex_unlock(&lock);
    return result;
}
static status give_back(uint64_t at)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < lives && !found; ++i) {
        if (live[i].at != at) continue;
        used -= live[i].bytes;
        free((void *)(uintptr_t)at);
        live[i] = live[--lives];
        found = 1;
    }
    pthread_mutex_unlock(&lock);
    if (!found) return misused(INVALID_VALUE, "freeing what isn't allocated");
    return fake_sticky();
}
static void look_at_guards(const char *after)
{
    pthread_mutex_lock(&lock);
    for (int i = 0; i < lives; ++i) {
        const unsigned char *guard = (unsigned char *)(uintptr_t)live[i].at + live[i].bytes;
        for (int k = 0; k < GUARD_BYTES; ++k)
            if (guard[k] != 0xa5) {
                fake_misuse("%s writes past an allocation of %zu bytes", after, live[i].bytes);
                break;
            }
    }
    pthread_mutex_unlock(&lock);
}
status cuMemAllocAsync(uint64_t *at, size_t bytes, void *stream)
{
    (void)stream;
    ENTER_CONTEXT;
    return take(at, bytes);
}
status cuMemFreeAsync(uint64_t at, void *stream)
{
    (void)stream;
    if (!current_context) return misused(INVALID_CONTEXT, __func__);
    return give_back(at);
}
status cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, void *stream)
{
    (void)stream;
    ENTER_CONTEXT;
    if (!fake_is_live(at, bytes)) return misused(INVALID_VALUE, __func__);
    memset((void *)(uintptr_t)at, value, bytes);
    return SUCCESS;
}
status cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream)
{
    (void)stream;
    ENTER_CONTEXT;
    if (!fake_is_live(to, bytes)) return misused(INVALID_VALUE, __func__);
    if (!fake_work(COPY)) memcpy((void *)(uintptr_t)to, from, bytes);
    return SUCCESS;
}
status cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream)
{
    (void)stream;
    ENTER_CONTEXT;
    if (!fake_is_live(from, bytes)) return misused(INVALID_VALUE, __func__);
    if (!fake_work(COPY)) memcpy(to, (void *)(uintptr_t)from, bytes);
    return SUCCESS;
}

/* Streams, events and modules: something to give back. */
static status make(void **object, size_t bytes)
{
    *object = calloc(1, bytes);
    __atomic_add_fetch(&objects, 1, __ATOMIC_SEQ_CST);
    return SUCCESS;
}
static status destroy(void *object)
{
    free(object);
    __atomic_sub_fetch(&objects, 1, __ATOMIC_SEQ_CST);
    return fake_sticky();
}
status cuStreamCreate(void **stream, unsigned flags) { (void)flags; ENTER_CONTEXT; return make(stream, 1); }
status cuStreamDestroy_v2(void *stream) { return destroy(stream); }
status cuStreamSynchronize(void *stream) { (void)stream; ENTER_CONTEXT; return SUCCESS; }
status cuStreamWaitEvent(void *stream, void *event, unsigned flags)
{
    (void)stream, (void)event, (void)flags;
    ENTER_CONTEXT;
    return SUCCESS;
}
status cuEventCreate(void **event, unsigned flags)
{
    (void)flags;
    ENTER_CONTEXT;
    return make(event, sizeof(struct timespec));
}
status cuEventDestroy_v2(void *event) { return destroy(event); }
status cuEventRecord(void *event, void *stream)
{
    (void)stream;
    ENTER_CONTEXT;
    clock_gettime(CLOCK_MONOTONIC, event);
    return SUCCESS;
}
status cuEventSynchronize(void *event) { (void)event; ENTER_CONTEXT; return SUCCESS; }
status cuEventElapsedTime_v2(float *ms, void *from, void *to)
{
    ENTER_CONTEXT;
    const struct timespec *a = from, *b = to;
    *ms = (float)((double)(b->tv_sec - a->tv_sec) * 1e3 + (double)(b->tv_nsec - a->tv_nsec) * 1e-6);
    return SUCCESS;
}
status cuEventElapsedTime(float *ms, void *from, void *to)
{
    return cuEventElapsedTime_v2(ms, from, to);
}
status cuModuleLoadData(void **module, const void *image)
{
    ENTER_CONTEXT;
    if (memcmp(image, "\177ELF", 4)) return misused(INVALID_IMAGE, __func__);
    return make(module, 1);
}
status cuModuleUnload(void *module) { return destroy(module); }

/* P an address, N an address or null, i and f numbers of four bytes. */
static const struct {
    const char *name, *types;
} signatures[] = {
    {"pixels_to_map", "PPPiii"},
    {"narrow_all", "PPi"},
    {"channel_sums", "PPiii"},
    {"group_affine", "PPPPPiiiif"},
    {"apply_affine", "PPPiiii"},
    {"convolve", "PPPNPiiiiiiiiii"},
    {"convolve_to_floats", "PPPPiiiiiiiiii"},
    {"softmax_rows", "PPi"},
    {"normalise_rows", "Pi"},
    {"nearest", "PPPPPPiififfi"},
};
#define SIGNATURES (sizeof signatures / sizeof *signatures)
status cuModuleGetFunction(void **function, void *module, const char *name)
{
    (void)module;
    ENTER_CONTEXT;
    for (unsigned i = 0; i < SIGNATURES; ++i)
        if (!strcmp(signatures[i].name, name)) {
            *function = (void *)&signatures[i];
            return SUCCESS;
        }
    return misused(NOT_FOUND, name);
}
status cuLaunchKernel(void *function, unsigned gx, unsigned gy, unsigned gz, unsigned bx,
                      unsigned by, unsigned bz, unsigned shared, void *stream, void **parameters,
                      void **extra)
{
    (void)stream, (void)extra;
    ENTER_CONTEXT;
    const char *name = ((const char **)function)[0], *types = ((const char **)function)[1];
    if (!gx || !gy || !gz || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || !bx || bx > 1024 ||
        by != 1 || bz != 1 || shared)
        return misused(INVALID_VALUE, name);
    uint64_t words[32];
    int count = 0;
    for (; types[count]; ++count) {
        int is_address = types[count] == 'P' || types[count] == 'N';
        words[count] = is_address ? *(uint64_t *)parameters[count] : *(uint32_t *)parameters[count];
        if (is_address && !(types[count] == 'N' && !words[count]) &&
            !fake_is_live(words[count], 1))
            return misused(INVALID_VALUE, name);
    }
    if (fake_work(LAUNCH)) return SUCCESS; /* heard of later, as on a card */
    unsigned grid[3] = {gx, gy, gz};
    pthread_mutex_lock(&one_launch); /* the emulator is one */
    int wrong = vqtok_emulate(name, grid, bx, words, count, done[LAUNCH] & 1);
    pthread_mutex_unlock(&one_launch);
    if (wrong) return misused(INVALID_VALUE, name);
    look_at_guards(name);
    return SUCCESS;
}
