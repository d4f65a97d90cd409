// Stands between a program and the C library (LD_PRELOAD), counts the program's calls on files of some folders, and at
// one of them does what a disk, a signal or a power cut may do. scripts/check-faults builds and drives it.
//
//   FAULT_ROOTS  folders whose files count, with colons between
//   FAULT_KINDS  the calls that count: any of create, write, sync, name, remove, size, read, map; commas between
//   FAULT_AT     the number of the call at which it happens, from 1; 0: none
//   FAULT_MODE   kill-before, kill-after, stop (SIGSTOP before it), short, or the name of an error: ENOSPC, EIO, EINTR, EDQUOT, ENOMEM
//   FAULT_EVER   1: it happens at all later calls, too; an error stays until the process ends
//   FAULT_COUNT  a file that gets the number of calls when the process ends
//   FAULT_LOG    a file that gets what was done to files, byte for byte, for a model of power cuts
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum kind { CREATE = 1, WRITE = 2, SYNC = 4, NAME = 8, SIZE = 16, READ = 32, MAP = 64, REMOVE = 128 };
enum { NONE, KILL_BEFORE, KILL_AFTER, STOP, SHORT, ERROR };

static char roots[8][PATH_MAX];
static int root_count, kinds, mode, mode_error, is_ever, log_file = -1;
static long fault_at;
static atomic_long call_count;
static const char *count_path;
static atomic_flag log_lock = ATOMIC_FLAG_INIT;

static const struct {
  const char *name;
  int value;
} kind_names[] = {{"create", CREATE}, {"write", WRITE}, {"sync", SYNC}, {"name", NAME},
                  {"size", SIZE},     {"read", READ},   {"map", MAP},   {"remove", REMOVE}},
  error_names[] = {{"ENOSPC", ENOSPC}, {"EIO", EIO},       {"EINTR", EINTR},
                   {"EDQUOT", EDQUOT}, {"ENOMEM", ENOMEM}};

__attribute__((constructor)) static void ot_fault_begin(void) {
  const char *text = getenv("FAULT_ROOTS");
  if (text == NULL) return;
  while (*text && root_count < 8) {
    const char *end = strchrnul(text, ':');
    snprintf(roots[root_count++], PATH_MAX, "%.*s", (int)(end - text), text);
    text = *end ? end + 1 : end;
  }
  const char *names = getenv("FAULT_KINDS");
  for (size_t i = 0; i < sizeof kind_names / sizeof *kind_names; i++)
    if (names == NULL || strstr(names, kind_names[i].name)) kinds |= kind_names[i].value;
  const char *name = getenv("FAULT_MODE");
  if (name) {
    mode = !strcmp(name, "kill-before") ? KILL_BEFORE : !strcmp(name, "kill-after") ? KILL_AFTER
           : !strcmp(name, "stop")      ? STOP
           : !strcmp(name, "short")     ? SHORT                                     : ERROR;
    for (size_t i = 0; i < sizeof error_names / sizeof *error_names; i++)
      if (!strcmp(name, error_names[i].name)) mode_error = error_names[i].value;
  }
  const char *at = getenv("FAULT_AT"), *ever = getenv("FAULT_EVER"), *log = getenv("FAULT_LOG");
  fault_at = at ? atol(at) : 0;
  is_ever = ever && *ever == '1';
  count_path = getenv("FAULT_COUNT");
  if (log) log_file = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
}

static void write_whole(int file, const void *bytes, size_t count) {
  const char *next = bytes;
  while (count > 0) {
    long done = syscall(SYS_write, file, next, count);
    if (done <= 0) return;
    next += done, count -= (size_t)done;
  }
}

// Also before the end by _exit, which a destructor does not see.
static void write_count(void) {
  if (count_path == NULL) return;
  char text[32];
  int length = snprintf(text, sizeof text, "%ld\n", atomic_load(&call_count));
  int file = (int)syscall(SYS_openat, AT_FDCWD, count_path, O_WRONLY | O_CREAT | O_TRUNC, 0666);
  if (file >= 0) write_whole(file, text, (size_t)length), syscall(SYS_close, file);
}

__attribute__((destructor)) static void ot_fault_end(void) { write_count(); }

static int is_under_roots(const char *path) {
  for (int i = 0; i < root_count; i++) {
    size_t length = strlen(roots[i]);
    if (!strncmp(path, roots[i], length) && (path[length] == '/' || path[length] == 0)) return 1;
  }
  return 0;
}

// The path of an open file; empty where it has none.
static void path_of_file(int file, char path[PATH_MAX]) {
  char link[64];
  snprintf(link, sizeof link, "/proc/self/fd/%d", file);
  long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
  path[length > 0 ? length : 0] = 0;
}

static void path_at(int folder, const char *name, char path[PATH_MAX]) {
  if (name == NULL) {
    path[0] = 0;
  } else if (name[0] == '/') {
    snprintf(path, PATH_MAX, "%s", name);
  } else {
    if (folder == AT_FDCWD) {
      if (syscall(SYS_getcwd, path, PATH_MAX) < 0) path[0] = 0;
    } else {
      path_of_file(folder, path);
    }
    size_t length = strlen(path);
    if (!strcmp(name, ".")) return;
    snprintf(path + length, PATH_MAX - length, "/%s", name);
  }
}

// What is to happen at this call: NONE where it does not count.
static int at_call(enum kind kind, const char *path) {
  if (root_count == 0 || !(kinds & kind) || !is_under_roots(path)) return NONE;
  long number = atomic_fetch_add(&call_count, 1) + 1;
  if (fault_at == 0 || (is_ever ? number < fault_at : number != fault_at)) return NONE;
  if (mode == KILL_BEFORE) syscall(SYS_kill, getpid(), SIGKILL);
  if (mode == STOP) syscall(SYS_kill, getpid(), SIGSTOP);
  return mode;
}

static void after_call(int what) {
  if (what == KILL_AFTER) syscall(SYS_kill, getpid(), SIGKILL);
}

#define REAL(name) \
  static __typeof__(&name) real; \
  if (real == NULL) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)

#define FAIL(what, failure) \
  if ((what) == ERROR) { \
    errno = mode_error; \
    return failure; \
  }

// A line, then as many bytes as it says.
static void log_operation(const char *name, const char *path, const char *other, long offset, const void *bytes,
                          size_t count) {
  if (log_file < 0 || !is_under_roots(path)) return;
  int code = errno;
  char line[2 * PATH_MAX + 64];
  int length = snprintf(line, sizeof line, "%s\t%s\t%s\t%ld\t%zu\n", name, path, other ? other : "", offset, count);
  while (atomic_flag_test_and_set(&log_lock)) {}
  write_whole(log_file, line, (size_t)length);
  write_whole(log_file, bytes, count);
  atomic_flag_clear(&log_lock);
  errno = code;
}

static int opened(int folder, const char *name, int flags, mode_t access, const char *path) {
  int is_new = (flags & O_CREAT) && faccessat(folder, name, F_OK, 0) != 0;
  int what = at_call(flags & (O_CREAT | O_TRUNC) ? CREATE : READ, path);
  FAIL(what, -1)
  int file = (int)syscall(SYS_openat, folder, name, flags, access);
  if (file >= 0 && is_new) log_operation("create", path, NULL, 0, NULL, 0);
  if (file >= 0 && (flags & O_TRUNC)) log_operation("size", path, NULL, 0, NULL, 0);
  after_call(what);
  return file;
}

#define OPEN(function, parameters, folder) \
  int function parameters { \
    mode_t access = 0; \
    if (flags & (O_CREAT | O_TMPFILE)) { \
      va_list rest; \
      va_start(rest, flags); \
      access = va_arg(rest, mode_t); \
      va_end(rest); \
    } \
    char path[PATH_MAX]; \
    path_at(folder, name, path); \
    return opened(folder, name, flags, access, path); \
  }

OPEN(open, (const char *name, int flags, ...), AT_FDCWD)
OPEN(open64, (const char *name, int flags, ...), AT_FDCWD)
OPEN(openat, (int folder, const char *name, int flags, ...), folder)
OPEN(openat64, (int folder, const char *name, int flags, ...), folder)

int mkstemp(char *template) {
  REAL(mkstemp);
  char path[PATH_MAX];
  path_at(AT_FDCWD, template, path);
  int what = at_call(CREATE, path);
  FAIL(what, -1)
  int file = real(template);
  after_call(what);
  return file;
}

static size_t shortened(int what, size_t count) { return what == SHORT && count > 1 ? count / 2 : count; }

ssize_t write(int file, const void *bytes, size_t count) {
  char path[PATH_MAX];
  path_of_file(file, path);
  int what = at_call(WRITE, path);
  FAIL(what, -1)
  off_t offset = log_file >= 0 ? lseek(file, 0, SEEK_CUR) : 0;
  ssize_t done = syscall(SYS_write, file, bytes, shortened(what, count));
  if (done > 0) log_operation("write", path, NULL, offset, bytes, (size_t)done);
  after_call(what);
  return done;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t offset) {
  char path[PATH_MAX];
  path_of_file(file, path);
  int what = at_call(WRITE, path);
  FAIL(what, -1)
  ssize_t done = syscall(SYS_pwrite64, file, bytes, shortened(what, count), offset);
  if (done > 0) log_operation("write", path, NULL, offset, bytes, (size_t)done);
  after_call(what);
  return done;
}

ssize_t pwrite64(int file, const void *bytes, size_t count, off64_t offset) {
  return pwrite(file, bytes, count, offset);
}

ssize_t read(int file, void *bytes, size_t count) {
  char path[PATH_MAX];
  path_of_file(file, path);
  int what = at_call(READ, path);
  FAIL(what, -1)
  ssize_t done = syscall(SYS_read, file, bytes, shortened(what, count));
  after_call(what);
  return done;
}

ssize_t pread(int file, void *bytes, size_t count, off_t offset) {
  char path[PATH_MAX];
  path_of_file(file, path);
  int what = at_call(READ, path);
  FAIL(what, -1)
  ssize_t done = syscall(SYS_pread64, file, bytes, shortened(what, count), offset);
  after_call(what);
  return done;
}

ssize_t pread64(int file, void *bytes, size_t count, off64_t offset) { return pread(file, bytes, count, offset); }

static int synchronized(int file, long call) {
  char path[PATH_MAX];
  path_of_file(file, path);
  int what = at_call(SYNC, path);
  FAIL(what, -1)
  int code = (int)syscall(call, file);
  if (code == 0) log_operation("sync", path, NULL, 0, NULL, 0);
  after_call(what);
  return code;
}

int fsync(int file) { return synchronized(file, SYS_fsync); }
int fdatasync(int file) { return synchronized(file, SYS_fdatasync); }

int ftruncate(int file, off_t size) {
  char path[PATH_MAX];
  path_of_file(file, path);
  int what = at_call(SIZE, path);
  FAIL(what, -1)
  int code = (int)syscall(SYS_ftruncate, file, size);
  if (code == 0) log_operation("size", path, NULL, size, NULL, 0);
  after_call(what);
  return code;
}

int ftruncate64(int file, off64_t size) { return ftruncate(file, size); }

// Before the error of close the file is closed, as Linux does.
int close(int file) {
  char path[PATH_MAX] = "";
  int what = NONE;
  if (root_count > 0 && (fcntl(file, F_GETFL) & O_ACCMODE) != O_RDONLY) {
    path_of_file(file, path);
    what = at_call(SYNC, path);
  }
  int code = (int)syscall(SYS_close, file);
  FAIL(what, -1)
  after_call(what);
  return code;
}

static int named(enum kind kind, const char *name, int from_folder, const char *from, int to_folder, const char *to, long call,
                 long flags) {
  char path[PATH_MAX], other[PATH_MAX] = "";
  path_at(from_folder, from, path);
  if (to) path_at(to_folder, to, other);
  int what = at_call(kind, path);
  FAIL(what, -1)
  int code = to ? (int)syscall(call, from_folder, from, to_folder, to, flags)
                : (int)syscall(call, from_folder, from, flags);
  if (code == 0) log_operation(name, path, to ? other : NULL, 0, NULL, 0);
  after_call(what);
  return code;
}

int rename(const char *from, const char *to) {
  return named(NAME, "rename", AT_FDCWD, from, AT_FDCWD, to, SYS_renameat2, 0);
}
int renameat(int from_folder, const char *from, int to_folder, const char *to) {
  return named(NAME, "rename", from_folder, from, to_folder, to, SYS_renameat2, 0);
}
int renameat2(int from_folder, const char *from, int to_folder, const char *to, unsigned flags) {
  return named(NAME, flags == RENAME_EXCHANGE ? "exchange" : "rename", from_folder, from, to_folder, to, SYS_renameat2,
               flags);
}
int linkat(int from_folder, const char *from, int to_folder, const char *to, int flags) {
  return named(NAME, "link", from_folder, from, to_folder, to, SYS_linkat, flags);
}
int unlink(const char *name) { return named(REMOVE, "unlink", AT_FDCWD, name, 0, NULL, SYS_unlinkat, 0); }
int unlinkat(int folder, const char *name, int flags) {
  return named(REMOVE, "unlink", folder, name, 0, NULL, SYS_unlinkat, flags);
}
int rmdir(const char *name) { return named(REMOVE, "unlink", AT_FDCWD, name, 0, NULL, SYS_unlinkat, AT_REMOVEDIR); }
int mkdir(const char *name, mode_t access) {
  return named(NAME, "mkdir", AT_FDCWD, name, 0, NULL, SYS_mkdirat, access);
}

void *mmap(void *address, size_t count, int protection, int flags, int file, off_t offset) {
  if (file >= 0 && root_count > 0) {
    char path[PATH_MAX];
    path_of_file(file, path);
    int what = at_call(MAP, path);
    FAIL(what, MAP_FAILED)
    after_call(what);
  }
  return (void *)syscall(SYS_mmap, address, count, protection, flags, file, offset);
}

void *mmap64(void *address, size_t count, int protection, int flags, int file, off64_t offset) {
  return mmap(address, count, protection, flags, file, offset);
}

void _exit(int status) {
  write_count();
  syscall(SYS_exit_group, status);
  __builtin_unreachable();
}
