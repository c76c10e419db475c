/* A file system that has less: preloaded, it refuses calls with the error numbers that the
   environment names. NOLOCK, NODIRSYNC, NOSYNC, NOLINK, NONOREPLACE, NOMAP. Prints to FSLOG, where
   that is set, each call that it refused. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int refuses(const char *name) {
    const char *number = getenv(name), *log = getenv("FSLOG");
    if (!number) return 0;
    if (log) {
        int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0644);
        if (fd >= 0) {
            if (write(fd, name, strlen(name)) < 0 || write(fd, "\n", 1) < 0) abort();
            close(fd);
        }
    }
    errno = atoi(number);
    return 1;
}

int flock(int fd, int operation) {
    static int (*real)(int, int);
    if (refuses("NOLOCK")) return -1;
    if (!real) real = dlsym(RTLD_NEXT, "flock");
    return real(fd, operation);
}

static int is_folder(int fd) {
    struct stat s;
    return fstat(fd, &s) == 0 && S_ISDIR(s.st_mode);
}

int fsync(int fd) {
    static int (*real)(int);
    if (refuses(is_folder(fd) ? "NODIRSYNC" : "NOSYNC")) return -1;
    if (!real) real = dlsym(RTLD_NEXT, "fsync");
    return real(fd);
}

int link(const char *from, const char *to) {
    static int (*real)(const char *, const char *);
    if (refuses("NOLINK")) return -1;
    if (!real) real = dlsym(RTLD_NEXT, "link");
    return real(from, to);
}

int linkat(int a, const char *from, int b, const char *to, int flags) {
    static int (*real)(int, const char *, int, const char *, int);
    if (refuses("NOLINK")) return -1;
    if (!real) real = dlsym(RTLD_NEXT, "linkat");
    return real(a, from, b, to, flags);
}

static void *map(const char *which, void *at, size_t bytes, int access, int flags, int fd, off_t from) {
    static void *(*real)(void *, size_t, int, int, int, off_t);
    if (fd >= 0 && (flags & MAP_SHARED) && refuses("NOMAP")) return MAP_FAILED;
    if (fd >= 0 && (flags & MAP_PRIVATE) && !(access & PROT_EXEC) && refuses("NOPRIVATEMAP")) return MAP_FAILED;
    if (!real) real = dlsym(RTLD_NEXT, which);
    return real(at, bytes, access, flags, fd, from);
}

void *mmap(void *at, size_t bytes, int access, int flags, int fd, off_t from) {
    return map("mmap", at, bytes, access, flags, fd, from);
}

void *mmap64(void *at, size_t bytes, int access, int flags, int fd, off_t from) {
    return map("mmap64", at, bytes, access, flags, fd, from);
}

long syscall(long number, ...) {
    static long (*real)(long, ...);
    va_list list;
    long a[6];
    if (number == SYS_renameat2 && refuses("NONOREPLACE")) return -1;
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (!real) real = dlsym(RTLD_NEXT, "syscall");
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
