/* Owns a stand-in for cuDNN's backend on the stand-in driver: descriptors hold what was set, graphs of
   a bfloat16 convolution and additions, and of a float32 convolution or one of its gradients, run as
   loops. As the library, it names configurations best first and others for few images, some of which
   must not be taken, and its engines sum in different orders.
   FAKE_CUDNN_FASTEST: the engine that takes half the time of the others, 41 where it isn't set.
   FAKE_CUDNN_COMPILED: 1 where no engine that may be taken is precompiled, and for float32 none is there.
   FAKE_CUDNN_FEWEST: images below which no engine can do. */
#include "fake.h"
#include <stdlib.h>
#include <string.h>

enum { SUCCESS = 0, BAD_PARAM = 2000, NOT_FINALIZED = 2004, NOT_SUPPORTED = 3000, FAILED = 5000 };
/* Kinds of descriptors. */
enum { POINTWISE = 0, CONVOLUTION_RULE = 1, ENGINE = 2, CONFIGURATION = 3, HEURISTIC = 4, PLAN = 5,
       KNOB = 7, CONVOLVE = 10, WEIGHT_GRADIENT = 11, INPUT_GRADIENT = 12, ADD = 13, GRAPH = 15, PACK = 16, TENSOR = 17 };
/* Types of attributes. */
enum { HANDLE = 0, DATA_TYPE = 1, BOOLEAN = 2, INT64 = 3, FLOATS = 4, POINTER = 6, MODE = 7,
       HEURISTIC_MODE = 8, KNOB_TYPE = 9, NUMERICAL = 11, POINTWISE_MODE = 14, DESCRIPTOR = 15,
       BEHAVIOR = 19 };
enum { BF16 = 9, F32 = 0 };
#define VALUES 8
#define ATTRIBUTES 16

struct attribute {
    int name, type;
    int64_t count;
    union {
        int64_t i[VALUES];
        float f[VALUES];
        struct descriptor *d[VALUES];
        void *p[VALUES];
    } at;
};
struct descriptor {
    int kind, finalized, references, attributes;
    struct attribute attribute[ATTRIBUTES];
};
typedef struct descriptor *desc;

static size_t width(int type)
{
    switch (type) {
    case BOOLEAN: return 1;
    case INT64: case HANDLE: case POINTER: case DESCRIPTOR: return 8;
    default: return 4;
    }
}
static struct attribute *find(desc d, int name)
{
    for (int i = 0; i < d->attributes; ++i)
        if (d->attribute[i].name == name) return &d->attribute[i];
    return 0;
}
/* A value of an attribute that must be there; a misuse where it isn't. */
static int64_t number(desc d, int name, int index)
{
    struct attribute *a = find(d, name);
    if (a && index < a->count) return a->type == DATA_TYPE || a->type == MODE ||
            a->type == POINTWISE_MODE || a->type == HEURISTIC_MODE || a->type == KNOB_TYPE
        ? (int32_t)a->at.i[index] : a->at.i[index];
    fake_misuse("a descriptor of kind %d has no value %d of attribute %d", d->kind, index, name);
    return 0;
}
static desc linked(desc d, int name, int index)
{
    struct attribute *a = find(d, name);
    if (a && a->type == DESCRIPTOR && index < a->count) return a->at.d[index];
    fake_misuse("a descriptor of kind %d has no link %d", d->kind, name);
    return 0;
}

size_t cudnnGetVersion(void) { return (size_t)fake_setting("FAKE_CUDNN_VERSION", 91900); }
int cudnnCreate(void **handle)
{
    if (!fake_has_context()) fake_misuse("cudnnCreate without a context");
    *handle = calloc(1, 16);
    fake_handle(1);
    return SUCCESS;
}
int cudnnDestroy(void *handle)
{
    free(handle);
    fake_handle(-1);
    return fake_sticky() ? FAILED : SUCCESS;
}
int cudnnSetStream(void *handle, void *stream) { *(void **)handle = stream; return SUCCESS; }
const char *cudnnGetErrorString(int status) { (void)status; return "CUDNN_STATUS"; }

int cudnnBackendCreateDescriptor(int kind, desc *made)
{
    *made = calloc(1, sizeof **made);
    (*made)->kind = kind;
    (*made)->references = 1;
    fake_handle(1);
    return SUCCESS;
}
int cudnnBackendDestroyDescriptor(desc d)
{
    if (--d->references) return SUCCESS;
    for (int i = 0; i < d->attributes; ++i)
        for (int64_t k = 0; d->attribute[i].type == DESCRIPTOR && k < d->attribute[i].count; ++k)
            cudnnBackendDestroyDescriptor(d->attribute[i].at.d[k]);
    free(d);
    fake_handle(-1);
    return SUCCESS;
}
static int put(desc d, int name, int type, int64_t count, const void *values)
{
    if (d->attributes == ATTRIBUTES || count < 0 || count > VALUES) return BAD_PARAM;
    struct attribute *a = &d->attribute[d->attributes++];
    a->name = name, a->type = type, a->count = count;
    size_t bytes = width(type);
    for (int64_t i = 0; i < count; ++i) {
        const char *from = (const char *)values + (size_t)i * bytes;
        if (type == FLOATS) memcpy(&a->at.f[i], from, 4);
        else a->at.i[i] = 0, memcpy(&a->at.i[i], from, bytes);
        if (type != DESCRIPTOR) continue;
        if (!a->at.d[i]->finalized) fake_misuse("attribute %d links what isn't finalized", name);
        a->at.d[i]->references += 1;
    }
    return SUCCESS;
}
int cudnnBackendSetAttribute(desc d, int name, int type, int64_t count, const void *values)
{
    if (d->finalized || find(d, name)) {
        fake_misuse("attribute %d is set too late, or twice", name);
        return BAD_PARAM;
    }
    return put(d, name, type, count, values);
}

/* Engines: their notes, and the value that their one knob (kind 2) may have. */
static const struct engine {
    int64_t number, knob;
    int numerical, behavior, descending;
} engines[] = {
    {7, 1, -1, 0, 1},   /* compiled when it is planned */
    {3, 1, 4, -1, 1},   /* not deterministic */
    {5, 1, 2, -1, 1},   /* sums in less than float32 */
    {41, 8, 0, -1, 0},  /* sound */
    {10, 4, 0, -1, 1},  /* sound, and sums the other way round */
    {30, 1, -1, -1, 0}, /* sound, and takes more workspace than there is */
    {1, 4, -1, -1, 1},  /* sound, and multiplies float32 as it is: the tensor cores of others don't */
};
#define ENGINES (sizeof engines / sizeof *engines)
static const struct engine *engine_of(int64_t number)
{
    for (unsigned i = 0; i < ENGINES; ++i)
        if (engines[i].number == number) return &engines[i];
    return 0;
}
/* TENSOR attributes: 901 type, 902 sizes, 903 strides, 906 id, 907 virtual. */
/* The rule of a convolution or of one of its gradients; weight, x and y are the next three attributes. */
static int names_of(desc convolve)
{
    return convolve->kind == CONVOLVE ? 702 : convolve->kind == INPUT_GRADIENT ? 708 : 714;
}
static desc x_of(desc graph)
{
    desc convolve = linked(graph, 801, 0);
    return linked(convolve, names_of(convolve) + 2, 0);
}
static int64_t images_of(desc graph) { return number(x_of(graph), 902, 0); }
static int is_of_floats(desc graph) { return number(x_of(graph), 901, 0) == F32; }

int cudnnBackendFinalize(desc d)
{
    if (d->kind == ENGINE) {
        const struct engine *e = engine_of(number(d, 1301, 0));
        desc graph = linked(d, 1300, 0);
        if (!e || !graph) return BAD_PARAM;
        if (images_of(graph) < fake_setting("FAKE_CUDNN_FEWEST", 0)) return NOT_SUPPORTED;
    }
    if (d->kind == CONFIGURATION && !find(d, 302)) {
        fake_misuse("a configuration without its knobs");
        return BAD_PARAM;
    }
    if (d->kind == PLAN) {
        desc engine = linked(linked(d, 401, 0), 300, 0), knob = linked(linked(d, 401, 0), 302, 0);
        const struct engine *e = engine_of(number(engine, 1301, 0));
        if (!e || number(knob, 600, 0) != 2 || number(knob, 601, 0) != e->knob) return NOT_SUPPORTED;
        if (!find(d, 400)) fake_misuse("a plan without a handle");
    }
    d->finalized = 1;
    return SUCCESS;
}

/* Makes an empty descriptor of the caller's the one that is meant. */
static void link_to(desc d, int name, desc other)
{
    put(d, name, DESCRIPTOR, 1, &other);
}
static void fill_configuration(desc d, desc graph, const struct engine *e)
{
    desc engine, knob;
    int32_t kind = 2;
    cudnnBackendCreateDescriptor(ENGINE, &engine);
    link_to(engine, 1300, graph);
    put(engine, 1301, INT64, 1, &e->number);
    engine->finalized = 1;
    cudnnBackendCreateDescriptor(KNOB, &knob);
    put(knob, 600, KNOB_TYPE, 1, &kind);
    put(knob, 601, INT64, 1, &e->knob);
    knob->finalized = 1;
    link_to(d, 300, engine);
    link_to(d, 302, knob);
    d->finalized = 1;
    cudnnBackendDestroyDescriptor(engine);
    cudnnBackendDestroyDescriptor(knob);
}
static void copy_into(desc to, desc from)
{
    for (int i = 0; i < from->attributes; ++i) {
        struct attribute *a = &from->attribute[i];
        put(to, a->name, a->type, a->count, a->type == FLOATS ? (void *)a->at.f : (void *)a->at.i);
        if (a->type != FLOATS) memcpy(to->attribute[to->attributes - 1].at.i, a->at.i, sizeof a->at);
    }
    to->finalized = 1;
}
static int suggest(desc d, int64_t room, int64_t *count, desc *places)
{
    desc graph = linked(d, 201, 0);
    if (number(d, 200, 0) != 3) return *count = 0, SUCCESS; /* the fallback has none */
    /* For few images the other sound engine is the best. */
    int order[5] = {0, 1, 2, 3, 4}, few = images_of(graph) < 16, floats = is_of_floats(graph);
    if (few) order[3] = 4, order[4] = 3;
    if (floats) order[0] = 5, order[1] = 1, order[2] = 3, order[3] = 6;
    int64_t all = fake_setting("FAKE_CUDNN_COMPILED", 0) ? 3 - floats : 5 - floats;
    for (*count = 0; *count < all && *count < room; ++*count)
        fill_configuration(places[*count], graph, &engines[order[*count]]);
    return SUCCESS;
}
int cudnnBackendGetAttribute(desc d, int name, int type, int64_t room, int64_t *count, void *values)
{
    int64_t unused;
    (void)type;
    if (!count) count = &unused;
    if (!d->finalized) return NOT_FINALIZED;
    if (d->kind == HEURISTIC && name == 202) return suggest(d, room, count, values);
    if (d->kind == PLAN && name == 402) {
        int64_t by = number(linked(linked(d, 401, 0), 300, 0), 1301, 0);
        return *(int64_t *)values = by == 30 ? 1LL << 50 : 1000, *count = 1, SUCCESS;
    }
    if (d->kind == CONFIGURATION && (name == 300 || name == 302)) {
        copy_into(((desc *)values)[0], linked(d, name, 0));
        return *count = 1, SUCCESS;
    }
    if (d->kind == ENGINE && (name == 1303 || name == 1305)) {
        const struct engine *e = engine_of(number(d, 1301, 0));
        int note = name == 1303 ? e->numerical : e->behavior;
        *count = note >= 0 && room > 0;
        if (*count) *(int32_t *)values = note;
        return SUCCESS;
    }
    struct attribute *a = find(d, name);
    if (!a || room < a->count) return BAD_PARAM;
    for (int64_t i = 0; i < a->count; ++i)
        memcpy((char *)values + (size_t)i * width(a->type), &a->at.i[i], width(a->type));
    return *count = a->count, SUCCESS;
}

/* A tensor at the address that the pack has for it. */
struct tensor {
    int64_t size[4], stride[4];
    const uint16_t *at;
    int floats;
};
static int tensor_of(struct tensor *t, desc d, desc pack)
{
    int64_t last = 0;
    t->at = 0;
    for (int i = 0; i < 4; ++i) {
        t->size[i] = number(d, 902, i), t->stride[i] = number(d, 903, i);
        last += (t->size[i] - 1) * t->stride[i];
    }
    if (number(d, 907, 0)) return number(d, 901, 0) == F32;
    struct attribute *ids = find(pack, 1000), *pointers = find(pack, 1001);
    for (int64_t i = 0; ids && pointers && i < ids->count; ++i)
        if (ids->at.i[i] == number(d, 906, 0)) t->at = pointers->at.p[i];
    t->floats = number(d, 901, 0) == F32;
    return (t->floats || number(d, 901, 0) == BF16) && t->at && (uintptr_t)t->at % 16 == 0 &&
           fake_is_live((uintptr_t)t->at, (size_t)(last + 1) * (t->floats ? 4 : 2));
}
struct work {
    struct tensor x, w, y, added[2];
    int64_t stride, before;
    int kind, additions, descending, timed, tensor_cores;
    double ms;
};
/* What a graph computes, with every size checked. */
static int understand(struct work *k, desc graph, desc pack)
{
    struct attribute *operations = find(graph, 801);
    desc convolve = linked(graph, 801, 0);
    int names = names_of(convolve), right;
    desc rule = linked(convolve, names, 0), value = linked(convolve, names + 3, 0);
    k->kind = convolve->kind;
    right = tensor_of(&k->x, linked(convolve, names + 2, 0), pack) &&
            tensor_of(&k->w, linked(convolve, names + 1, 0), pack);
    k->stride = number(rule, 103, 0), k->before = number(rule, 105, 0);
    k->additions = (int)operations->count - 1;
    /* What is fused is the engine's, in bfloat16; training's is float32 alone. */
    right = right && k->x.at && k->w.at && k->x.floats == k->w.floats &&
            (k->x.floats ? !k->additions
                         : k->kind == CONVOLVE && k->additions >= 1 && k->additions <= 2);
    right = right && number(rule, 100, 0) == F32 &&
            number(rule, 101, 0) == 1 && number(rule, 106, 0) == 2;
    for (int i = 0; right && i < k->additions; ++i) {
        desc add = linked(graph, 801, i + 1), mode = linked(add, 750, 0);
        right = number(mode, 0, 0) == 0 && number(mode, 1, 0) == F32 &&
                number(linked(add, 751, 0), 906, 0) == number(value, 906, 0) &&
                tensor_of(&k->added[i], linked(add, 752, 0), pack);
        value = linked(add, 753, 0);
    }
    right = right && tensor_of(&k->y, value, pack) && k->y.at && k->y.floats == k->x.floats &&
            k->x.size[1] == k->w.size[1] &&
            k->y.size[0] == k->x.size[0] && k->y.size[1] == k->w.size[0];
    for (int i = 0; right && i < 2; ++i) {
        int64_t padded = k->x.size[2 + i] + number(rule, 105, i) + number(rule, 104, i);
        right = number(rule, 103, i) == k->stride && number(rule, 105, i) == k->before &&
                number(rule, 102, i) == 1 &&
                k->y.size[2 + i] == (padded - k->w.size[2 + i]) / k->stride + 1;
    }
    return right;
}
static float element(const struct tensor *t, int64_t n, int64_t c, int64_t y, int64_t x)
{
    int64_t index[4] = {n, c, y, x}, at = 0;
    for (int i = 0; i < 4; ++i) at += t->size[i] == 1 ? 0 : index[i] * t->stride[i];
    return fake_widen(t->at[at]);
}
static float sum_of(const struct work *k, int64_t n, int64_t o, int64_t y, int64_t x)
{
    float sum = 0.0f;
    int64_t window = k->w.size[2] * k->w.size[3], channels = k->w.size[1];
    for (int64_t i = 0; i < window; ++i) {
        int64_t at = k->descending ? window - 1 - i : i;
        int64_t ky = at / k->w.size[3], kx = at % k->w.size[3];
        int64_t fy = y * k->stride + ky - k->before, fx = x * k->stride + kx - k->before;
        if (fy < 0 || fx < 0 || fy >= k->x.size[2] || fx >= k->x.size[3]) continue;
        const uint16_t *from =
            k->x.at + n * k->x.stride[0] + fy * k->x.stride[2] + fx * k->x.stride[3];
        const uint16_t *with =
            k->w.at + o * k->w.stride[0] + ky * k->w.stride[2] + kx * k->w.stride[3];
        for (int64_t c = 0; c < channels; ++c)
            sum += fake_widen(from[c * k->x.stride[1]]) * fake_widen(with[c * k->w.stride[1]]);
    }
    return sum;
}
static float *float_at(const struct tensor *t, int64_t n, int64_t c, int64_t y, int64_t x)
{
    return (float *)(uintptr_t)t->at + n * t->stride[0] + c * t->stride[1] + y * t->stride[2] +
           x * t->stride[3];
}
/* A factor as tensor cores take it: 10 bits behind the point. */
static float factor(const struct work *k, const float *at)
{
    union { float value; uint32_t bits; } u = {*at};
    if (k->tensor_cores) u.bits = (u.bits + 0xfffu + (u.bits >> 13 & 1u)) & ~0x1fffu;
    return u.value;
}
/* Adds every product of a float32 convolution to where it belongs, in one order or the other. */
static void compute_floats(const struct work *k)
{
    const struct tensor *made =
        k->kind == CONVOLVE ? &k->y : k->kind == INPUT_GRADIENT ? &k->x : &k->w;
    int64_t window = k->w.size[2] * k->w.size[3], images = k->y.size[0];
    for (int64_t i = 0; i < made->size[0] * made->stride[0]; ++i)
        ((float *)(uintptr_t)made->at)[i] = 0.0f;
    for (int64_t i = 0; i < images * window; ++i) {
        int64_t at = k->descending ? images * window - 1 - i : i;
        int64_t n = at / window, ky = at % window / k->w.size[3], kx = at % k->w.size[3];
        for (int64_t o = 0; o < k->y.size[1]; ++o)
            for (int64_t c = 0; c < k->x.size[1]; ++c)
                for (int64_t y = 0; y < k->y.size[2]; ++y)
                    for (int64_t x = 0; x < k->y.size[3]; ++x) {
                        int64_t fy = y * k->stride + ky - k->before;
                        int64_t fx = x * k->stride + kx - k->before;
                        if (fy < 0 || fx < 0 || fy >= k->x.size[2] || fx >= k->x.size[3]) continue;
                        float *map = float_at(&k->x, n, c, fy, fx);
                        float *weight = float_at(&k->w, o, c, ky, kx);
                        float *out = float_at(&k->y, n, o, y, x);
                        if (made == &k->y) *out += factor(k, map) * factor(k, weight);
                        else if (made == &k->x) *map += factor(k, out) * factor(k, weight);
                        else *weight += factor(k, map) * factor(k, out);
                    }
    }
}
static void compute(void *data)
{
    const struct work *k = data;
    fake_tick(k->ms);
    if (k->timed || fake_work(CONVOLUTION)) return;
    if (k->x.floats) {
        compute_floats(k);
        return;
    }
    for (int64_t n = 0; n < k->y.size[0]; ++n)
        for (int64_t y = 0; y < k->y.size[2]; ++y)
            for (int64_t x = 0; x < k->y.size[3]; ++x)
                for (int64_t o = 0; o < k->y.size[1]; ++o) {
                    float value = sum_of(k, n, o, y, x);
                    for (int i = 0; i < k->additions; ++i)
                        value += element(&k->added[i], n, o, y, x);
                    ((uint16_t *)(uintptr_t)k->y.at)[n * k->y.stride[0] + o * k->y.stride[1] +
                                                     y * k->y.stride[2] + x * k->y.stride[3]] =
                        fake_narrow(value);
                }
}
int cudnnBackendExecute(void *handle, desc plan, desc pack)
{
    struct work k;
    if (fake_sticky()) return FAILED;
    if (!fake_has_context()) fake_misuse("a convolution without a context");
    if (!*(void **)handle) fake_misuse("a convolution on no stream");
    if (!plan->finalized || !pack->finalized) return NOT_FINALIZED;
    desc engine = linked(linked(plan, 401, 0), 300, 0);
    struct attribute *workspace = find(pack, 1003);
    if (!workspace || !fake_is_live((uintptr_t)workspace->at.p[0], 1000))
        fake_misuse("a convolution without its workspace");
    if (!understand(&k, linked(engine, 1300, 0), pack)) {
        fake_misuse("a convolution that doesn't fit together");
        return BAD_PARAM;
    }
    int64_t by = number(engine, 1301, 0);
    k.descending = engine_of(by)->descending;
    k.tensor_cores = engine_of(by)->numerical == 0;
    k.ms = by == fake_setting("FAKE_CUDNN_FASTEST", 41) ? 0.01 : 0.02;
    /* Maps and weights in one piece are there to be timed: nobody reads what comes of it. */
    k.timed = fake_is_one((uintptr_t)k.x.at, (uintptr_t)k.w.at);
    if (k.timed) fake_timed();
    fake_queue(*(void **)handle, compute, &k, sizeof k);
    return SUCCESS;
}
