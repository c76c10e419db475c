/* What the stand-ins for CUDA's libraries share: the driver's part is in driver.c. */
#ifndef FAKE_H
#define FAKE_H
#include <stddef.h>
#include <stdint.h>

/* A number from the environment. */
long long fake_setting(const char *name, long long otherwise);
/* Counts a misuse and says it on stderr; the report at the end has their number. */
void fake_misuse(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* 0, or the error that every call gives since a piece of work failed. */
int fake_sticky(void);
/* Whether this thread has a current context. */
int fake_has_context(void);
/* Whether [at, at + bytes) lies inside one allocation. */
int fake_is_live(uint64_t at, size_t bytes);
/* Queues work on a stream: `run` is called with a copy of `data` once somebody waits for it. */
void fake_queue(void *stream, void (*run)(void *data), const void *data, size_t bytes);
/* The work that is being done takes so long. */
void fake_tick(double ms);
/* Whether two addresses lie in one allocation. */
int fake_is_one(uint64_t a, uint64_t b);
/* Counts a convolution that is only timed. */
void fake_timed(void);
/* A piece of work of this kind is done: 0, or 1 where it is the one that fails. */
enum { LAUNCH, PRODUCT, CONVOLUTION, COPY, KINDS };
int fake_work(int kind);
/* One handle or descriptor more (1) or less (-1). */
void fake_handle(int change);

static inline float fake_widen(uint16_t x)
{
    union { uint32_t bits; float value; } u = {(uint32_t)x << 16};
    return u.value;
}
static inline uint16_t fake_narrow(float x)
{
    union { float value; uint32_t bits; } u = {x};
    if ((u.bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(u.bits >> 16 | 0x40);
    return (uint16_t)((u.bits + 0x7fffu + (u.bits >> 16 & 1u)) >> 16);
}
#endif
