/* Records what a process does to the files of one folder, in the order in which it happens: the disk that a power cut
 * leaves behind is made from it. Preloaded into a child of the test `power`; it changes nothing.
 *
 * RECORD_FOLDER  the folder, without links in its path
 * RECORD_LOG     where the records go
 *
 * A record: kind (1 byte), length of the name (1), offset (8), length of the content (8), name, content; numbers are those
 * of this machine. Kinds: w write, t truncate (offset = new size), u
 * unlinked, b a flush begins, e it has ended well (offset = its
 * thread).
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static pthread_mutex_t order = PTHREAD_MUTEX_INITIALIZER;
static int log_file = -2;

/* The name of the file in the folder, or nothing. */
static int watched(int file, char *name)
{
    const char *folder = getenv("RECORD_FOLDER");
    char link[64], path[PATH_MAX];
    size_t length = folder ? strlen(folder) : 0;
    if (!length || file < 0)
        return 0;
    strcpy(link, "/proc/self/fd/");
    char digits[16];
    int places = 0, rest = file;
    do {
        digits[places++] = (char)('0' + rest % 10);
        rest /= 10;
    } while (rest);
    char *end = link + strlen(link);
    while (places)
        *end++ = digits[--places];
    *end = 0;
    ssize_t found = syscall(SYS_readlinkat, AT_FDCWD, link, path, sizeof path - 1);
    if (found <= 0)
        return 0;
    path[found] = 0;
    if (strncmp(path, folder, length) || path[length] != '/' || strlen(path + length + 1) > 200)
        return 0;
    strcpy(name, path + length + 1);
    return 1;
}

static void put(const void *bytes, size_t length)
{
    const char *at = bytes;
    while (length) {
        ssize_t done = syscall(SYS_write, log_file, at, length);
        if (done <= 0)
            abort();
        at += done;
        length -= (size_t)done;
    }
}

static void record(char kind, const char *name, uint64_t offset, const void *content, uint64_t length)
{
    if (log_file == -2) {
        const char *path = getenv("RECORD_LOG");
        log_file = path ? open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600) : -1;
        if (log_file < 0)
            abort();
    }
    unsigned char head[18] = { (unsigned char)kind, (unsigned char)strlen(name) };
    memcpy(head + 2, &offset, 8);
    memcpy(head + 10, &length, 8);
    put(head, sizeof head);
    put(name, strlen(name));
    if (content)
        put(content, length);
}

static ssize_t written(int file, const void *bytes, size_t length, int64_t offset)
{
    char name[256];
    int watch = watched(file, name);
    if (watch)
        pthread_mutex_lock(&order);
    if (watch && offset < 0) {
        int flags = fcntl(file, F_GETFL);
        int64_t at = lseek(file, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
        ssize_t done = syscall(SYS_write, file, bytes, length);
        if (done > 0)
            record('w', name, (uint64_t)at, bytes, (uint64_t)done);
        pthread_mutex_unlock(&order);
        return done;
    }
    ssize_t done = offset < 0 ? syscall(SYS_write, file, bytes, length)
                              : syscall(SYS_pwrite64, file, bytes, length, offset);
    if (watch) {
        if (done > 0)
            record('w', name, (uint64_t)offset, bytes, (uint64_t)done);
        pthread_mutex_unlock(&order);
    }
    return done;
}

ssize_t write(int file, const void *bytes, size_t length)
{
    return written(file, bytes, length, -1);
}

ssize_t pwrite(int file, const void *bytes, size_t length, off_t offset)
{
    return written(file, bytes, length, offset);
}

ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t offset)
{
    return written(file, bytes, length, offset);
}

static int cut(int file, int64_t size)
{
    char name[256];
    int watch = watched(file, name);
    if (watch)
        pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_ftruncate, file, size);
    if (watch) {
        if (!done)
            record('t', name, (uint64_t)size, 0, 0);
        pthread_mutex_unlock(&order);
    }
    return done;
}

int ftruncate(int file, off_t size)
{
    return cut(file, size);
}

int ftruncate64(int file, off64_t size)
{
    return cut(file, size);
}

int unlink(const char *path)
{
    const char *folder = getenv("RECORD_FOLDER");
    size_t length = folder ? strlen(folder) : 0;
    int watch = length && !strncmp(path, folder, length) && path[length] == '/';
    if (!watch)
        return (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&order);
    int done = (int)syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    if (!done)
        record('u', path + length + 1, 0, 0, 0);
    pthread_mutex_unlock(&order);
    return done;
}

static int flushed(int file, long call)
{
    char name[256];
    int watch = watched(file, name);
    if (watch) {
        pthread_mutex_lock(&order);
        record('b', name, (uint64_t)syscall(SYS_gettid), 0, 0);
        pthread_mutex_unlock(&order);
    }
    int done = (int)syscall(call, file);
    if (watch && !done) {
        pthread_mutex_lock(&order);
        record('e', name, (uint64_t)syscall(SYS_gettid), 0, 0);
        pthread_mutex_unlock(&order);
    }
    return done;
}

int fsync(int file)
{
    return flushed(file, SYS_fsync);
}

int fdatasync(int file)
{
    return flushed(file, SYS_fdatasync);
}
