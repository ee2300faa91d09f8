/* A disk that fails on command, for LD_PRELOAD: reads and writes of files whose path contains $FF_SHIM_MATCH.
 *
 * $FF_SHIM_CONTROL is a file of 4 KiB that the test maps too: int 0 is the mode, int 1 milliseconds, ints 2 and 3 count
 * reads and writes that were hit. Mode 0: nothing. 1: EIO on reads. 2: EIO on writes. 3: both. 4: both hang until the
 * mode changes. 5: large writes are torn: the first half, then a pause of so many milliseconds, then the rest.
 * It does not see io_uring, nor system calls that bypass libc.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

enum { TORN_FROM = 1 << 20 }; /* bytes; a slot is larger, the rest of one is not: it is torn once */
enum { NOTHING, EIO_READS, EIO_WRITES, EIO_BOTH, HANG, TEAR };

static _Atomic int *control;
static const char *match;

__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("FF_SHIM_CONTROL");
    match = getenv("FF_SHIM_MATCH");
    int fd = path && match ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *at = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (at != MAP_FAILED) control = at;
}

static int is_hit(int fd) {
    if (!control || atomic_load(control) == NOTHING) return 0;
    char link[64], path[4096];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0) return 0;
    path[length] = 0;
    return strstr(path, match) != NULL;
}

/* 0: go on. -1: fail with errno. */
static int before(int fd, int is_write, int no_wait) {
    if (!is_hit(fd)) return 0;
    int mode = atomic_load(control);
    if (mode == EIO_BOTH || mode == (is_write ? EIO_WRITES : EIO_READS)) {
        atomic_fetch_add(control + 2 + is_write, 1);
        errno = EIO;
        return -1;
    }
    if (mode == HANG) {
        atomic_fetch_add(control + 2 + is_write, 1);
        if (no_wait) {
            errno = EAGAIN;
            return -1;
        }
        while (atomic_load(control) == HANG) usleep(10000);
    }
    return 0;
}

static int torn(int fd, size_t size) { return size >= TORN_FROM && is_hit(fd) && atomic_load(control) == TEAR; }

static void pause_in_write(void) {
    atomic_fetch_add(control + 3, 1);
    usleep(1000 * atomic_load(control + 1));
}

#define NEXT(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

ssize_t pread64(int fd, void *into, size_t size, off64_t at) {
    return before(fd, 0, 0) ? -1 : NEXT(pread64)(fd, into, size, at);
}
ssize_t pread(int fd, void *into, size_t size, off_t at) { return pread64(fd, into, size, at); }

ssize_t preadv2(int fd, const struct iovec *parts, int count, off_t at, int flags) {
    return before(fd, 0, (flags & RWF_NOWAIT) != 0) ? -1 : NEXT(preadv2)(fd, parts, count, at, flags);
}
ssize_t preadv64v2(int fd, const struct iovec *parts, int count, off64_t at, int flags) {
    return preadv2(fd, parts, count, at, flags);
}
ssize_t preadv64(int fd, const struct iovec *parts, int count, off64_t at) { return preadv2(fd, parts, count, at, 0); }
ssize_t preadv(int fd, const struct iovec *parts, int count, off_t at) { return preadv2(fd, parts, count, at, 0); }

ssize_t pwrite64(int fd, const void *from, size_t size, off64_t at) {
    if (before(fd, 1, 0)) return -1;
    if (torn(fd, size)) {
        ssize_t half = NEXT(pwrite64)(fd, from, size / 2, at);
        pause_in_write();
        return half; /* a short write: the caller goes on with the rest */
    }
    return NEXT(pwrite64)(fd, from, size, at);
}
ssize_t pwrite(int fd, const void *from, size_t size, off_t at) { return pwrite64(fd, from, size, at); }

ssize_t pwritev64(int fd, const struct iovec *parts, int count, off64_t at) {
    return before(fd, 1, 0) ? -1 : NEXT(pwritev64)(fd, parts, count, at);
}
ssize_t pwritev(int fd, const struct iovec *parts, int count, off_t at) { return pwritev64(fd, parts, count, at); }

int fdatasync(int fd) { return before(fd, 1, 0) ? -1 : NEXT(fdatasync)(fd); }
int fsync(int fd) { return before(fd, 1, 0) ? -1 : NEXT(fsync)(fd); }
