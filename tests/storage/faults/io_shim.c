/* Stands between a program and the disk: counts its writing calls below one folder, and at the
   n-th of them kills the program, fails, or writes less than it was asked to. It can also write
   down each call, for a model of what a power cut leaves.

   LD_PRELOAD it; the folder is KT_SHIM_ROOT, the trace goes to KT_SHIM_TRACE if that is set. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

#define FDS 4096

enum { OFF, KILL_BEFORE, KILL_AMID, FAIL_ONCE, FAIL_ON, SHORT };

static int mode = OFF, failure, trace_fd = -1;
#define CALLS 65536

static long target, calls;
static char writes[CALLS];
static char tracked[FDS], appending[FDS];
static const char *root;

void shim_arm(int new_mode, long n, int error) {
    mode = new_mode;
    target = n;
    failure = error;
    calls = 0;
}

long shim_count(void) { return calls; }
long shim_is_write(long n) { return n > 0 && n < CALLS && writes[n]; }

#define REAL(type, name, ...)                      \
    static type (*real)(__VA_ARGS__);              \
    if (!real) real = (type (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

__attribute__((constructor)) static void start(void) {
    root = getenv("KT_SHIM_ROOT");
    const char *trace = getenv("KT_SHIM_TRACE");
    if (trace) {
        REAL(int, "open64", const char *, int, ...);
        trace_fd = real(trace, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    }
}

static int below(const char *path) { return root && !strncmp(path, root, strlen(root)); }
static int known(int fd) { return fd >= 0 && fd < FDS && tracked[fd]; }

static void note(const char *text) {
    if (trace_fd >= 0) {
        REAL(ssize_t, "write", int, const void *, size_t);
        if (real(trace_fd, text, strlen(text)) < 0) abort();
    }
}

#define NOTE(...)                                            \
    do {                                                     \
        if (trace_fd >= 0) {                                 \
            char line[9000];                                 \
            snprintf(line, sizeof line, __VA_ARGS__);        \
            note(line);                                      \
        }                                                    \
    } while (0)

static void note_data(int fd, off64_t offset, const void *data, size_t size) {
    if (trace_fd < 0) return;
    char *line = malloc(size * 2 + 80);
    int at = sprintf(line, "write\t%d\t%lld\t", fd, (long long)offset);
    for (size_t i = 0; i < size; i++) at += sprintf(line + at, "%02x", ((unsigned char *)data)[i]);
    strcpy(line + at, "\n");
    note(line);
    free(line);
}

static void die(void) {
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

/* Whether this call is to fail; it does not return where the program is to die. */
static int turn(void) {
    calls++;
    if (calls < CALLS) writes[calls] = 0;
    if (mode == KILL_BEFORE && calls == target) die();
    if ((mode == FAIL_ONCE && calls == target) || (mode == FAIL_ON && calls >= target)) {
        errno = failure;
        return 1;
    }
    return 0;
}

static int opened(int fd, const char *path, int flags) {
    if (fd >= 0 && fd < FDS) {
        tracked[fd] = 1;
        appending[fd] = !!(flags & O_APPEND);
        NOTE("open\t%d\t%d\t%s\n", fd, flags, path);
    }
    return fd;
}

#define OPEN(name)                                                        \
    int name(const char *path, int flags, ...) {                          \
        REAL(int, #name, const char *, int, ...);                         \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t bits = va_arg(rest, mode_t);                               \
        va_end(rest);                                                     \
        if (!below(path)) return real(path, flags, bits);                 \
        if ((flags & (O_CREAT | O_TRUNC)) && turn()) return -1;           \
        return opened(real(path, flags, bits), path, flags);              \
    }
OPEN(open)
OPEN(open64)

#define OPENAT(name)                                                      \
    int name(int folder, const char *path, int flags, ...) {              \
        REAL(int, #name, int, const char *, int, ...);                    \
        va_list rest;                                                     \
        va_start(rest, flags);                                            \
        mode_t bits = va_arg(rest, mode_t);                               \
        va_end(rest);                                                     \
        if (!below(path)) return real(folder, path, flags, bits);         \
        if ((flags & (O_CREAT | O_TRUNC)) && turn()) return -1;           \
        return opened(real(folder, path, flags, bits), path, flags);      \
    }
OPENAT(openat)
OPENAT(openat64)

int close(int fd) {
    REAL(int, "close", int);
    if (known(fd)) {
        NOTE("close\t%d\n", fd);
        tracked[fd] = 0;
    }
    return real(fd);
}

/* How much of a write to do: less, where it is to be cut short. */
static size_t amount(size_t size) {
    if (calls < CALLS) writes[calls] = 1;
    int cut = calls == target && (mode == KILL_AMID || mode == SHORT);
    return cut && size > 1 ? size / 2 : size;
}

ssize_t write(int fd, const void *data, size_t size) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (!known(fd)) return real(fd, data, size);
    if (turn()) return -1;
    off64_t offset = lseek64(fd, 0, appending[fd] ? SEEK_END : SEEK_CUR);
    ssize_t done = real(fd, data, amount(size));
    if (mode == KILL_AMID && calls == target) die();
    if (done > 0) note_data(fd, offset, data, done);
    return done;
}

#define PWRITE(name, offset_type)                                              \
    ssize_t name(int fd, const void *data, size_t size, offset_type offset) {  \
        REAL(ssize_t, #name, int, const void *, size_t, offset_type);          \
        if (!known(fd)) return real(fd, data, size, offset);                   \
        if (turn()) return -1;                                                 \
        ssize_t done = real(fd, data, amount(size), offset);                   \
        if (mode == KILL_AMID && calls == target) die();                       \
        if (done > 0) note_data(fd, offset, data, done);                       \
        return done;                                                           \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define SENDFILE(name, offset_type)                                            \
    ssize_t name(int to, int from, offset_type *offset, size_t size) {         \
        REAL(ssize_t, #name, int, int, offset_type *, size_t);                 \
        if (!known(to)) return real(to, from, offset, size);                   \
        if (turn()) return -1;                                                 \
        off64_t at = lseek64(to, 0, SEEK_CUR);                                 \
        off64_t source = offset ? *offset : lseek64(from, 0, SEEK_CUR);        \
        ssize_t done = real(to, from, offset, amount(size));                   \
        if (mode == KILL_AMID && calls == target) die();                       \
        if (done > 0 && trace_fd >= 0) {                                       \
            char *data = malloc(done);                                         \
            if (pread64(from, data, done, source) == done)                     \
                note_data(to, at, data, done);                                 \
            free(data);                                                        \
        }                                                                      \
        return done;                                                           \
    }
SENDFILE(sendfile, off_t)
SENDFILE(sendfile64, off64_t)

#define SYNC(name)                                                         \
    int name(int fd) {                                                     \
        REAL(int, #name, int);                                             \
        if (!known(fd)) return real(fd);                                   \
        if (turn()) {                                                      \
            NOTE("fsync failed\t%d\n", fd);                                \
            return -1;                                                     \
        }                                                                  \
        int done = real(fd);                                               \
        if (!done) NOTE("fsync\t%d\t%ld\n", fd, calls);                     \
        return done;                                                       \
    }
SYNC(fsync)
SYNC(fdatasync)

#define TRUNCATE(name, offset_type)                                        \
    int name(int fd, offset_type length) {                                 \
        REAL(int, #name, int, offset_type);                                \
        if (!known(fd)) return real(fd, length);                           \
        if (turn()) return -1;                                             \
        int done = real(fd, length);                                       \
        if (!done) NOTE("ftruncate\t%d\t%lld\n", fd, (long long)length);   \
        return done;                                                       \
    }
TRUNCATE(ftruncate, off_t)
TRUNCATE(ftruncate64, off64_t)

#define ON_TWO(name)                                                       \
    int name(const char *old, const char *new) {                           \
        REAL(int, #name, const char *, const char *);                      \
        if (!below(old) && !below(new)) return real(old, new);             \
        if (turn()) return -1;                                             \
        int done = real(old, new);                                         \
        if (!done) NOTE(#name "\t%s\t%s\n", old, new);                     \
        return done;                                                       \
    }
ON_TWO(rename)
ON_TWO(link)

int linkat(int a, const char *old, int b, const char *new, int flags) {
    REAL(int, "linkat", int, const char *, int, const char *, int);
    if (!below(old) && !below(new)) return real(a, old, b, new, flags);
    if (turn()) return -1;
    int done = real(a, old, b, new, flags);
    if (!done) NOTE("link\t%s\t%s\n", old, new);
    return done;
}

int unlink(const char *path) {
    REAL(int, "unlink", const char *);
    if (!below(path)) return real(path);
    if (turn()) return -1;
    int done = real(path);
    if (!done) NOTE("unlink\t%s\n", path);
    return done;
}

int mkdir(const char *path, mode_t bits) {
    REAL(int, "mkdir", const char *, mode_t);
    if (!below(path)) return real(path, bits);
    if (turn()) return -1;
    int done = real(path, bits);
    if (!done) NOTE("mkdir\t%s\n", path);
    return done;
}
