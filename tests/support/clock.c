/* Gives the process that it is preloaded into a time of day of its own: that which the three numbers in the file say that
   CLOCK_OF_TEST names, the machine's nanosecond at which it began, by how many it is set forward (at once when that
   changes), and how many times slower than the machine's it goes by itself. What measures durations (CLOCK_MONOTONIC) stays
   as it is. tests/support/clock.rs reckons the same. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define SECOND 1000000000L

static const volatile long *hands;
static int (*wait_until)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);

__attribute__((constructor)) static void look(void) {
  const char *path = getenv("CLOCK_OF_TEST");
  int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
  if (file < 0) return;
  void *page = mmap(NULL, 3 * sizeof(long), PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (page != MAP_FAILED) hands = page;
}

static long machine(void) {
  struct timespec now;
  syscall(SYS_clock_gettime, CLOCK_REALTIME, &now);
  return now.tv_sec * SECOND + now.tv_nsec;
}

static long of_test(long machine) { return hands[0] + (machine - hands[0]) / hands[2] + hands[1]; }

static struct timespec spec(long time) {
  return (struct timespec){.tv_sec = time / SECOND, .tv_nsec = time % SECOND};
}

int clock_gettime(clockid_t clock, struct timespec *now) {
  if (!hands || (clock != CLOCK_REALTIME && clock != CLOCK_REALTIME_COARSE)) return syscall(SYS_clock_gettime, clock, now);
  *now = spec(of_test(machine()));
  return 0;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
  (void)zone;
  struct timespec there;
  int result = clock_gettime(CLOCK_REALTIME, &there);
  now->tv_sec = there.tv_sec;
  now->tv_usec = there.tv_nsec / 1000;
  return result;
}

time_t time(time_t *into) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (into) *into = now.tv_sec;
  return now.tv_sec;
}

/* The kernel waits by the machine's own clock, and for as long as the caller means. A small number is a time of the other
   clock. */
int pthread_cond_timedwait(pthread_cond_t *restrict cond, pthread_mutex_t *restrict mutex,
                           const struct timespec *restrict until) {
  if (!wait_until) {
#ifdef __x86_64__
    wait_until = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
#endif
    if (!wait_until) wait_until = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  }
  struct timespec there = *until;
  /* Some mean for ever, with a year that no nanoseconds count up to. */
  if (hands && there.tv_sec > 1000000000 && there.tv_sec < 8000000000) {
    long now = machine(), left = there.tv_sec * SECOND + there.tv_nsec - of_test(now);
    there = spec(now + (left > 0 ? left : 0));
  }
  return wait_until(cond, mutex, &there);
}
