/* Owns streams and events of the stand-in driver: work is done when somebody waits for it and not
   before, in the order of its stream, as late as a card may do it. What reads results too early, lets
   two streams meet without an event, or writes page-locked memory that a copy still reads, gives other
   tokens; the last is a misuse, too.
   FAKE_CUDA_ORDER=early: what a stream is given is done at once unless it waits for another stream's:
   a stream that should have waited is early instead of late. */
#include "fake.h"
#include <stdlib.h>
#include <string.h>

struct operation {
    void (*run)(void *data);
    void *data;
};
struct stream {
    struct operation *operations;
    /* Given and done so far, and room. */
    size_t given, done, room;
    int device, running;
};
struct event {
    struct stream *stream;
    size_t at;
    double ms;
};
#define STREAMS 256
static struct stream *streams[STREAMS];
static int stream_count;
static pthread_mutex_t streams_lock;
static pthread_once_t streams_once = PTHREAD_ONCE_INIT;
static __thread int executing;
/* Milliseconds that all work so far would have taken. */
static double clock_ms;

static void make_streams_lock(void)
{
    pthread_mutexattr_t kind;
    pthread_mutexattr_init(&kind);
    pthread_mutexattr_settype(&kind, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&streams_lock, &kind);
}
static void lock_streams(void)
{
    pthread_once(&streams_once, make_streams_lock);
    pthread_mutex_lock(&streams_lock);
}
static void unlock_streams(void) { pthread_mutex_unlock(&streams_lock); }

void fake_tick(double ms) { clock_ms += ms; }

static struct stream *new_stream(int device)
{
    struct stream *stream = calloc(1, sizeof *stream);
    stream->device = device;
    lock_streams();
    if (stream_count == STREAMS) abort();
    streams[stream_count++] = stream;
    unlock_streams();
    return stream;
}
/* Nobody destroys the default stream. */
static struct stream *stream_of(void *stream)
{
    static struct stream *usual;
    if (stream) return stream;
    lock_streams();
    if (!usual) usual = new_stream(0);
    unlock_streams();
    return usual;
}

/* Does a stream's work up to a point; after a failure nothing is done any more. */
static void run_until(struct stream *stream, size_t until)
{
    lock_streams();
    if (stream->running) fake_misuse("a stream waits for itself");
    stream->running = 1;
    while (stream->done < until) {
        struct operation one = stream->operations[stream->done++];
        executing += 1;
        if (!fake_sticky()) one.run(one.data);
        executing -= 1;
        free(one.data);
    }
    stream->running = 0;
    unlock_streams();
}
static void run_all(struct stream *stream) { run_until(stream, stream->given); }
static void run_everything(void)
{
    lock_streams();
    for (int i = 0; i < stream_count; ++i) run_all(streams[i]);
    unlock_streams();
}

static void add(struct stream *stream, void (*run)(void *), const void *data, size_t bytes)
{
    lock_streams();
    if (stream->given == stream->room) {
        stream->room = 2 * stream->room + 64;
        stream->operations =
            realloc(stream->operations, stream->room * sizeof *stream->operations);
    }
    struct operation *one = &stream->operations[stream->given++];
    one->run = run, one->data = malloc(bytes ? bytes : 1);
    if (bytes) memcpy(one->data, data, bytes);
    unlock_streams();
}

/* A wait for another stream's work. */
static void wait_for(void *data)
{
    const struct event *event = data;
    if (event->stream) run_until(event->stream, event->at);
}
void fake_queue(void *stream, void (*run)(void *), const void *data, size_t bytes)
{
    struct stream *to = stream_of(stream);
    lock_streams();
    add(to, run, data, bytes);
    const char *order = getenv("FAKE_CUDA_ORDER");
    int waits = 0;
    for (size_t i = to->done; i < to->given; ++i) waits |= to->operations[i].run == wait_for;
    if (order && !strcmp(order, "early") && !waits) run_all(to);
    unlock_streams();
}

static void stamp(void *data) { (*(struct event **)data)->ms = clock_ms; }
static void record(struct event *event, struct stream *stream)
{
    lock_streams();
    add(stream, stamp, &event, sizeof event);
    event->stream = stream, event->at = stream->given;
    unlock_streams();
}
static int unfinished(void)
{
    int count = 0;
    lock_streams();
    for (int i = 0; i < stream_count; ++i) count += streams[i]->done < streams[i]->given;
    unlock_streams();
    return count;
}
