/* Owns a stand-in for NVIDIA's driver: memory is the host's, kernels run on emulated threads. Strict
   where a driver is, and more: every call that touches the device needs a current context on its
   thread; memory holds NaN until it is written, guards behind each allocation are looked at after
   every launch; launches are held to the limits of a card.
   Work is done when somebody waits for it: see streams.c.
   FAKE_CUDA_DEVICES: cards, 1 where it isn't set. FAKE_CUDA_MEMORY: bytes of each. FAKE_CUDA_FAULT: the number of the piece of work (launch,
   product, convolution, copy) that fails; every call after it gives the same error, as on a card.
   FAKE_CUDA_REPORT: a file for the counts at the end.
   Not called libcuda.so.1: NVRTC opens that one itself and takes it for a whole driver. */
#define _GNU_SOURCE
#include "emulate.c"
#include "fake.h"
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include "streams.c"

typedef int status;
enum {
    SUCCESS = 0, INVALID_VALUE = 1, OUT_OF_MEMORY = 2, NOT_INITIALIZED = 3, INVALID_DEVICE = 101,
    INVALID_IMAGE = 200, INVALID_CONTEXT = 201, INVALID_HANDLE = 400, NOT_FOUND = 500,
    ILLEGAL_ADDRESS = 700
};
#define GUARD_BYTES 256
#define ALLOCATIONS 4096
#define DEVICES_MAX 8

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER, one_launch = PTHREAD_MUTEX_INITIALIZER;
static int initialized, sticky, misuses, retained, objects, handles;
static int done[KINDS], work;
static struct { uint64_t at; size_t bytes; int device; } live[ALLOCATIONS];
/* Page-locked memory of the host. */
static struct { const char *at; size_t bytes; } pinned[ALLOCATIONS];
static int lives, taken, pins;
/* Uploads that were begun while earlier work wasn't done, and launches by device. */
static int overlapped, timed, launched[DEVICES_MAX];
static size_t used[DEVICES_MAX], peak;
static char primary[DEVICES_MAX];
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

static int current_device(void) { return (int)((char *)current_context - primary); }

/* On this thread's device, unless work is being done, whoever waits for it. */
int fake_is_live(uint64_t at, size_t bytes)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < lives && !found; ++i)
        found = at >= live[i].at && at + bytes <= live[i].at + live[i].bytes &&
                (executing || live[i].device == current_device());
    pthread_mutex_unlock(&lock);
    return found;
}
int fake_is_one(uint64_t a, uint64_t b)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < lives && !found; ++i)
        found = a >= live[i].at && a < live[i].at + live[i].bytes && b >= live[i].at &&
                b < live[i].at + live[i].bytes;
    pthread_mutex_unlock(&lock);
    return found;
}
void fake_timed(void) { __atomic_add_fetch(&timed, 1, __ATOMIC_SEQ_CST); }
static int is_pinned(const void *at, size_t bytes)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (int i = 0; i < pins && !found; ++i)
        found = (const char *)at >= pinned[i].at &&
                (const char *)at + bytes <= pinned[i].at + pinned[i].bytes;
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
    size_t all = 0;
    for (int i = 0; i < DEVICES_MAX; ++i) all += used[i];
    fprintf(file,
            "{\"taken\": %d, \"allocations\": %d, \"bytes\": %zu, \"peak\": %zu, \"contexts\": %d, "
            "\"objects\": %d, \"handles\": %d, \"misuses\": %d, \"launches\": %d, "
            "\"products\": %d, \"convolutions\": %d, \"copies\": %d, \"pinned\": %d, "
            "\"overlapped\": %d, \"timed\": %d, \"unfinished\": %d, \"launches0\": %d, \"launches1\": %d}\n",
            taken, lives, all, peak, retained, objects, handles, misuses, done[LAUNCH], done[PRODUCT],
            done[CONVOLUTION], done[COPY], pins, overlapped, timed, unfinished(), launched[0], launched[1]);
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
static int devices(void)
{
    long long count = fake_setting("FAKE_CUDA_DEVICES", 1);
    return count > DEVICES_MAX ? DEVICES_MAX : (int)count;
}
status cuDeviceGetCount(int *count) { ENTER; *count = devices(); return SUCCESS; }
status cuDeviceGet(int *device, int ordinal)
{
    ENTER;
    if (ordinal < 0 || ordinal >= devices()) return misused(INVALID_DEVICE, __func__);
    *device = ordinal;
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
    ENTER;
    __atomic_add_fetch(&retained, 1, __ATOMIC_SEQ_CST);
    *context = &primary[device];
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
status cuCtxSynchronize(void) { ENTER_CONTEXT; run_everything(); return fake_sticky(); }

static status take(uint64_t *at, size_t bytes)
{
    status result = SUCCESS;
    void *memory = 0;
    if (!bytes) return misused(INVALID_VALUE, "an allocation of nothing");
    pthread_mutex_lock(&lock);
    size_t *of_device = &used[current_device()];
    if (*of_device + bytes > (size_t)fake_setting("FAKE_CUDA_MEMORY", 1ll << 32) || lives == ALLOCATIONS ||
        posix_memalign(&memory, 512, bytes + GUARD_BYTES)) {
        result = OUT_OF_MEMORY;
    } else {
        memset(memory, 0xff, bytes);
        memset((char *)memory + bytes, 0xa5, GUARD_BYTES);
        *at = live[lives].at = (uint64_t)(uintptr_t)memory;
        live[lives].device = current_device();
        live[lives++].bytes = bytes;
        *of_device += bytes, taken += 1;
        if (*of_device > peak) peak = *of_device;
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
        used[live[i].device] -= live[i].bytes;
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
    if (!current_context) return misused(INVALID_CONTEXT, __func__);
    run_all(stream_of(stream));
    return give_back(at);
}
status cuMemHostAlloc(void **at, size_t bytes, unsigned flags)
{
    ENTER_CONTEXT;
    if (!bytes || flags) return misused(INVALID_VALUE, __func__);
    pthread_mutex_lock(&lock);
    *at = calloc(1, bytes);
    memset(*at, 0xff, bytes);
    pinned[pins].at = *at, pinned[pins++].bytes = bytes;
    pthread_mutex_unlock(&lock);
    return SUCCESS;
}
status cuMemFreeHost(void *at)
{
    int found = 0;
    if (!current_context) return misused(INVALID_CONTEXT, __func__);
    run_everything();
    pthread_mutex_lock(&lock);
    for (int i = 0; i < pins && !found; ++i)
        if (pinned[i].at == at) pinned[i] = pinned[--pins], found = 1;
    pthread_mutex_unlock(&lock);
    if (!found) return misused(INVALID_VALUE, __func__);
    free(at);
    return fake_sticky();
}

/* What is copied or set, and from page-locked memory a digest of it. */
struct copy {
    uint64_t to, from;
    size_t bytes;
    uint64_t digest;
    int value, to_host, from_host;
};
static uint64_t digest(const void *at, size_t bytes)
{
    uint64_t sum = 14695981039346656037u;
    for (size_t i = 0; i < bytes; ++i) sum = (sum ^ ((const unsigned char *)at)[i]) * 1099511628211u;
    return sum;
}
static void do_set(void *data)
{
    const struct copy *c = data;
    if (fake_is_live(c->to, c->bytes)) memset((void *)(uintptr_t)c->to, c->value, c->bytes);
    else fake_misuse("memory that was given back is set");
}
static void do_copy(void *data)
{
    const struct copy *c = data;
    const void *from = (const void *)(uintptr_t)c->from;
    if ((!c->to_host && !fake_is_live(c->to, c->bytes)) ||
        (!c->from_host && !fake_is_live(c->from, c->bytes)))
        return fake_misuse("memory that was given back is copied");
    if (c->digest && digest(from, c->bytes) != c->digest)
        fake_misuse("page-locked memory was written while a copy of it was outstanding");
    fake_tick(0.001);
    if (!fake_work(COPY)) memmove((void *)(uintptr_t)c->to, from, c->bytes);
    if (c->from_host && !c->digest) free((void *)(uintptr_t)c->from);
}
status cuMemsetD8Async(uint64_t at, unsigned char value, size_t bytes, void *stream)
{
    struct copy set = {.to = at, .bytes = bytes, .value = value};
    ENTER_CONTEXT;
    if (!fake_is_live(at, bytes)) return misused(INVALID_VALUE, __func__);
    fake_queue(stream, do_set, &set, sizeof set);
    return SUCCESS;
}
status cuMemcpyHtoDAsync_v2(uint64_t to, const void *from, size_t bytes, void *stream)
{
    struct copy copy = {.to = to, .from = (uintptr_t)from, .bytes = bytes, .from_host = 1};
    ENTER_CONTEXT;
    if (!fake_is_live(to, bytes)) return misused(INVALID_VALUE, __func__);
    if (is_pinned(from, bytes)) {
        copy.digest = digest(from, bytes);
        overlapped += unfinished() > 0;
    } else {
        /* The driver has read it when this returns. */
        void *kept = malloc(bytes ? bytes : 1);
        memcpy(kept, from, bytes);
        copy.from = (uintptr_t)kept;
    }
    fake_queue(stream, do_copy, &copy, sizeof copy);
    return SUCCESS;
}
status cuMemcpyDtoHAsync_v2(void *to, uint64_t from, size_t bytes, void *stream)
{
    struct copy copy = {.to = (uintptr_t)to, .from = from, .bytes = bytes, .to_host = 1};
    ENTER_CONTEXT;
    if (!fake_is_live(from, bytes)) return misused(INVALID_VALUE, __func__);
    fake_queue(stream, do_copy, &copy, sizeof copy);
    if (!is_pinned(to, bytes)) run_all(stream_of(stream));
    return SUCCESS;
}
status cuMemcpyDtoDAsync_v2(uint64_t to, uint64_t from, size_t bytes, void *stream)
{
    struct copy copy = {.to = to, .from = from, .bytes = bytes};
    ENTER_CONTEXT;
    if (!fake_is_live(from, bytes) || !fake_is_live(to, bytes))
        return misused(INVALID_VALUE, __func__);
    fake_queue(stream, do_copy, &copy, sizeof copy);
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
/* Never freed: an event may outlive its stream, and work an event. */
status cuStreamCreate(void **stream, unsigned flags)
{
    (void)flags;
    ENTER_CONTEXT;
    *stream = new_stream(current_device());
    __atomic_add_fetch(&objects, 1, __ATOMIC_SEQ_CST);
    return SUCCESS;
}
status cuStreamDestroy_v2(void *stream)
{
    run_all(stream);
    return destroy(0);
}
status cuStreamSynchronize(void *stream)
{
    ENTER_CONTEXT;
    run_all(stream_of(stream));
    return fake_sticky();
}
status cuStreamWaitEvent(void *stream, void *event, unsigned flags)
{
    (void)flags;
    ENTER_CONTEXT;
    fake_queue(stream, wait_for, event, sizeof(struct event));
    return SUCCESS;
}
status cuEventCreate(void **event, unsigned flags)
{
    (void)flags;
    ENTER_CONTEXT;
    return make(event, sizeof(struct event));
}
status cuEventDestroy_v2(void *event)
{
    (void)event;
    return destroy(0);
}
status cuEventRecord(void *event, void *stream)
{
    ENTER_CONTEXT;
    record(event, stream_of(stream));
    return SUCCESS;
}
status cuEventSynchronize(void *event)
{
    const struct event *e = event;
    ENTER_CONTEXT;
    if (e->stream) run_until(e->stream, e->at);
    return fake_sticky();
}
status cuEventElapsedTime_v2(float *ms, void *from, void *to)
{
    ENTER_CONTEXT;
    *ms = (float)(((struct event *)to)->ms - ((struct event *)from)->ms);
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
    {"floats_to_map", "PPiii"},
    {"map_to_floats", "PPiii"},
    {"double_map", "PPiii"},
    {"activate", "PPii"},
    {"halve_map", "PPiiiii"},
    {"spread_map", "PPiiiiiii"},
    {"channel_sums", "PPiii"},
    {"group_affine", "PPPPPiiiifi"},
    {"apply_affine", "PPPiiii"},
    {"convolve", "PPPNPiiiiiiiiii"},
    {"convolve_to_floats", "PPPPiiiiiiiiii"},
    {"softmax_rows", "PPi"},
    {"normalise_rows", "Pi"},
    {"nearest", "PPPPPPiififfi"},
    {"largest_logit", "PPPi"},
    {"pad_map", "PPiiiiii"},
    {"join_maps", "PPPiiiiii"},
    {"codes_to_map", "PPPiiiii"},
    {"subtract_codes", "PPPii"},
    {"code_statistics", "PPiiiif"},
    {"modulation", "PPPPPPiii"},
    {"apply_by_codes", "PPPPiiiiiii"},
};
struct launch {
    const char *name, *types;
    unsigned grid[3], block;
    int count, device;
    uint64_t words[32];
};
static void do_launch(void *data)
{
    const struct launch *l = data;
    for (int i = 0; i < l->count; ++i)
        if ((l->types[i] == 'P' || l->words[i]) && strchr("PN", l->types[i]) &&
            !fake_is_live(l->words[i], 1))
            return fake_misuse("%s of memory that was given back", l->name);
    fake_tick(0.001);
    launched[l->device] += 1;
    if (fake_work(LAUNCH)) return;
    pthread_mutex_lock(&one_launch); /* the emulator is one */
    int wrong = vqtok_emulate(l->name, l->grid, l->block, l->words, l->count, done[LAUNCH] & 1);
    pthread_mutex_unlock(&one_launch);
    if (wrong) fake_misuse("%s can't be emulated", l->name);
    look_at_guards(l->name);
}
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
    (void)extra;
    ENTER_CONTEXT;
    struct launch l = {((const char **)function)[0], ((const char **)function)[1], {gx, gy, gz}, bx, 0,
                       current_device(), {0}};
    if (!gx || !gy || !gz || gx > 0x7fffffffu || gy > 65535 || gz > 65535 || !bx || bx > 1024 ||
        by != 1 || bz != 1 || shared)
        return misused(INVALID_VALUE, l.name);
    for (; l.types[l.count]; ++l.count) {
        int is_address = l.types[l.count] == 'P' || l.types[l.count] == 'N';
        void *at = parameters[l.count];
        uint64_t word = l.words[l.count] = is_address ? *(uint64_t *)at : *(uint32_t *)at;
        if (is_address && !(l.types[l.count] == 'N' && !word) && !fake_is_live(word, 1))
            return misused(INVALID_VALUE, l.name);
    }
    fake_queue(stream, do_launch, &l, sizeof l);
    return SUCCESS;
}
