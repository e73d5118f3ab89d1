/* What a process does to files below one folder, written down as it does it; and one write that fails as on a full disk.
 *
 * Loaded by LD_PRELOAD. Lines of the trace, each behind a number of the file's path as it was when it was opened:
 *   create PATH | write PATH OFFSET LENGTH (the bytes follow) | truncate PATH LENGTH | sync PATH | rename FROM TO | unlink PATH | mkdir PATH
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILES 1024
static char paths[FILES][512];
static char root[512];
static int trace = -1;
static long writes, fail_at;
static int fail_code, fail_on;

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

/* Called from the test: what is below `folder` is traced into `file`; from the n-th event that needs room on (0: never) `code` is the answer. */
void disk_begin(const char *folder, const char *file, long at, int code, int lasting) {
    snprintf(root, sizeof root, "%s/", folder);
    trace = file[0] ? REAL(open)(file, O_WRONLY | O_CREAT | O_APPEND, 0644) : -1;
    writes = 0, fail_at = at, fail_code = code, fail_on = lasting;
}

void disk_say(const char *what) { if (trace >= 0) { REAL(write)(trace, "say ", 4); REAL(write)(trace, what, strlen(what)); REAL(write)(trace, "\n", 1); } }
long disk_writes(void) { return writes; }

static int below(const char *path) { return root[0] && path && !strncmp(path, root, strlen(root)); }
static const char *known(int fd) { return fd >= 0 && fd < FILES && paths[fd][0] ? paths[fd] : NULL; }

static void tell(const char *line, const void *data, size_t length) {
    if (trace < 0) return;
    REAL(write)(trace, line, strlen(line));
    if (data) { REAL(write)(trace, data, length); REAL(write)(trace, "\n", 1); }
}

static int full(void) {
    writes++;
    return fail_at && (fail_on ? writes >= fail_at : writes == fail_at);
}

static int opened(int fd, const char *path, int flags, int is_new) {
    char line[1200];
    if (fd < 0 || fd >= FILES) return fd;
    paths[fd][0] = 0;
    if (!below(path)) return fd;
    snprintf(paths[fd], sizeof paths[fd], "%s", path);
    if (is_new) { snprintf(line, sizeof line, "create %s\n", path); tell(line, NULL, 0); }
    else if (flags & O_TRUNC) { snprintf(line, sizeof line, "truncate %s 0\n", path); tell(line, NULL, 0); }
    return fd;
}

static int do_open(int (*real)(const char *, int, ...), const char *path, int flags, mode_t mode) {
    int is_new = below(path) && (flags & O_CREAT) && access(path, F_OK) != 0;
    if (is_new && full()) { errno = fail_code; return -1; }
    return opened(real(path, flags, mode), path, flags, is_new);
}

int open(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return do_open(REAL(open), path, flags, mode);
}
int open64(const char *path, int flags, ...) {
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, mode_t); va_end(more);
    return do_open(REAL(open64), path, flags, mode);
}

int close(int fd) {
    if (fd >= 0 && fd < FILES) paths[fd][0] = 0;
    return REAL(close)(fd);
}

static ssize_t written(int fd, const void *data, off_t at, ssize_t done) {
    char line[1200];
    if (done > 0 && known(fd)) {
        snprintf(line, sizeof line, "write %s %lld %zd\n", known(fd), (long long)at, done);
        tell(line, data, done);
    }
    return done;
}

ssize_t write(int fd, const void *data, size_t length) {
    if (!known(fd)) return REAL(write)(fd, data, length);
    if (full()) { errno = fail_code; return -1; }
    off_t at = lseek(fd, 0, SEEK_CUR);
    return written(fd, data, at, REAL(write)(fd, data, length));
}
static ssize_t do_pwrite(ssize_t (*real)(int, const void *, size_t, off64_t), int fd, const void *data, size_t length, off64_t at) {
    if (known(fd) && full()) { errno = fail_code; return -1; }
    return written(fd, data, at, real(fd, data, length, at));
}
ssize_t pwrite64(int fd, const void *data, size_t length, off64_t at) { return do_pwrite(REAL(pwrite64), fd, data, length, at); }
ssize_t pwrite(int fd, const void *data, size_t length, off_t at) { return do_pwrite(REAL(pwrite64), fd, data, length, at); }

static int synced(int fd, int done) {
    char line[1200];
    if (!done && known(fd)) { snprintf(line, sizeof line, "sync %s\n", known(fd)); tell(line, NULL, 0); }
    return done;
}
int fsync(int fd) {
    if (known(fd) && full()) { errno = fail_code; return -1; }
    return synced(fd, REAL(fsync)(fd));
}
int fdatasync(int fd) {
    if (known(fd) && full()) { errno = fail_code; return -1; }
    return synced(fd, REAL(fdatasync)(fd));
}

static int cut(int fd, off64_t length, int done) {
    char line[1200];
    if (!done && known(fd)) { snprintf(line, sizeof line, "truncate %s %lld\n", known(fd), (long long)length); tell(line, NULL, 0); }
    return done;
}
int ftruncate(int fd, off_t length) { return cut(fd, length, REAL(ftruncate)(fd, length)); }
int ftruncate64(int fd, off64_t length) { return cut(fd, length, REAL(ftruncate64)(fd, length)); }

int rename(const char *from, const char *to) {
    char line[1200];
    if (below(to) && full()) { errno = fail_code; return -1; }
    int done = REAL(rename)(from, to);
    if (!done && below(to)) { snprintf(line, sizeof line, "rename %s %s\n", from, to); tell(line, NULL, 0); }
    return done;
}
int renameat(int old, const char *from, int new, const char *to) { return old == AT_FDCWD && new == AT_FDCWD ? rename(from, to) : REAL(renameat)(old, from, new, to); }
int unlink(const char *path) {
    char line[1200];
    int done = REAL(unlink)(path);
    if (!done && below(path)) { snprintf(line, sizeof line, "unlink %s\n", path); tell(line, NULL, 0); }
    return done;
}
int unlinkat(int at, const char *path, int flags) { return at == AT_FDCWD && !flags ? unlink(path) : REAL(unlinkat)(at, path, flags); }
int mkdir(const char *path, mode_t mode) {
    char line[1200];
    if (below(path) && full()) { errno = fail_code; return -1; }
    int done = REAL(mkdir)(path, mode);
    if (!done && below(path)) { snprintf(line, sizeof line, "mkdir %s\n", path); tell(line, NULL, 0); }
    return done;
}
int mkdirat(int at, const char *path, mode_t mode) { return at == AT_FDCWD ? mkdir(path, mode) : REAL(mkdirat)(at, path, mode); }
