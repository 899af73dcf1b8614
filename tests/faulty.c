/* Makes the system calls of the saving path fail at random, in one directory and nowhere else.

   cc -shared -fPIC -O2 -o faulty.so faulty.c -ldl
   LD_PRELOAD=./faulty.so FAULTY_DIRECTORY=/…/out FAULTY_LOG=/…/log FAULTY_ODDS=40 FAULTY_SEED=1 …

   One call in FAULTY_ODDS fails with EIO, ENOSPC or EINTR; reads and writes may be short as well.
   Every fault is a line in the log. A call that fails has done nothing, but for `close`. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static unsigned long long state;

static unsigned long long number(void) { /* splitmix64; threads may share it */
    if (!state) {
        const char *seed = getenv("FAULTY_SEED");
        __sync_fetch_and_add(&state, seed ? strtoull(seed, NULL, 10) * 2654435761u + 1 : 1);
    }
    unsigned long long z = __sync_add_and_fetch(&state, 0x9E3779B97F4A7C15ull);
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return z ^ (z >> 31);
}

static int inside(const char *path) {
    const char *directory = getenv("FAULTY_DIRECTORY");
    return directory && path && !strncmp(path, directory, strlen(directory));
}

static int inside_fd(int fd) {
    char link[40], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return inside(path);
}

static void note(const char *call, const char *fault) {
    char line[80];
    const char *log = getenv("FAULTY_LOG");
    if (!log) return;
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666);
    int length = snprintf(line, sizeof line, "%s %s\n", call, fault);
    if (syscall(SYS_write, fd, line, length) < 0) abort();
    syscall(SYS_close, fd);
}

/* The error that this call is to fail with; -1 for a short one, 0 for none. */
static int fault(const char *call, int there, int may_be_short) {
    static const struct { int error; const char *name; } faults[] = {
        {EIO, "EIO"}, {ENOSPC, "ENOSPC"}, {EINTR, "EINTR"}, {EINTR, "EINTR"}, /* a run goes on */
        {-1, "short"}, {-1, "short"}};
    const char *odds = getenv("FAULTY_ODDS");
    if (!there || !odds || number() % strtoull(odds, NULL, 10)) return 0;
    int which = number() % (may_be_short ? 6 : 4);
    note(call, faults[which].name);
    return faults[which].error;
}

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define FAIL_OR(call, there, real)                                                                 \
    do {                                                                                           \
        int error = fault(call, there, 0);                                                         \
        if (!error) return real;                                                                   \
        errno = error;                                                                             \
        return -1;                                                                                 \
    } while (0)

#define TRANSFER(name, count, arguments, part)                                                     \
    do {                                                                                           \
        int saved = errno, error = fault(#name, inside_fd(fd), count > 1);                         \
        if (!error) { errno = saved; return REAL(name) arguments; }                                \
        if (error < 0) return REAL(name) part;                                                     \
        errno = error;                                                                             \
        return -1;                                                                                 \
    } while (0)

ssize_t write(int fd, const void *data, size_t count) {
    TRANSFER(write, count, (fd, data, count), (fd, data, 1 + number() % (count - 1)));
}
ssize_t read(int fd, void *data, size_t count) {
    TRANSFER(read, count, (fd, data, count), (fd, data, 1 + number() % (count - 1)));
}
ssize_t pread64(int fd, void *data, size_t count, off_t at) {
    TRANSFER(pread64, count, (fd, data, count, at), (fd, data, 1 + number() % (count - 1), at));
}
int fsync(int fd) { FAIL_OR("fsync", inside_fd(fd), REAL(fsync)(fd)); }
int ftruncate64(int fd, off_t size) { FAIL_OR("ftruncate", inside_fd(fd), REAL(ftruncate64)(fd, size)); }
int rename(const char *from, const char *to) { FAIL_OR("rename", inside(to), REAL(rename)(from, to)); }
int unlink(const char *path) { FAIL_OR("unlink", inside(path), REAL(unlink)(path)); }
int close(int fd) { /* the descriptor is gone all the same */
    int error = fault("close", inside_fd(fd), 0), result = REAL(close)(fd);
    if (!error) return result;
    errno = error;
    return -1;
}
int open64(const char *path, int flags, ...) {
    va_list rest;
    va_start(rest, flags);
    mode_t mode = va_arg(rest, mode_t);
    va_end(rest);
    FAIL_OR("open", inside(path), REAL(open64)(path, flags, mode));
}
