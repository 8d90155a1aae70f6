/* seam.c - the checking build (make SEAM=1): device memory that host code cannot touch, and copies that take their time.
 *
 * The linker sends every call of ops.h and device.h through a wrapper (wrap.sh).  Device memory is mapped without access
 * and opened while some thread is inside one, so a dereference anywhere else dies here, with a sentence and a backtrace.
 * device_put remembers what the host array held, and device_get fills it with noise; device_wait looks whether the one
 * was left alone, and only then brings the other its numbers. */
#include "common/model/device.h"
#include "common/model/ops.h"

#include <execinfo.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { REGIONS = 4096, NOISE = 0xA5, PAGE = 4096 };

struct region { char *start; size_t size; };
struct copy { const void *host; void *numbers; size_t bytes; uint32_t crc; };     /* numbers NULL: a device_put */

static struct {
    pthread_mutex_t lock;
    struct region region[REGIONS];
    int regions, inside;                    /* calls of ops or device functions that are under way */
    struct copy *copy;
    size_t copies;
} seam = {.lock = PTHREAD_MUTEX_INITIALIZER};

static _Noreturn void stop(const char *sentence)
{
    void *frame[64];
    fflush(stdout);
    (void)!write(STDERR_FILENO, sentence, strlen(sentence));
    backtrace_symbols_fd(frame, backtrace(frame, 64), STDERR_FILENO);
    signal(SIGABRT, SIG_DFL);
    abort();
}

static void touched(int number, siginfo_t *info, void *context)
{
    char *at = info->si_addr, sentence[160];
    (void)context;
    for (int i = 0; i < seam.regions; i++) {
        const struct region *r = &seam.region[i];
        if (at < r->start || at >= r->start + r->size) continue;
        snprintf(sentence, sizeof sentence, "seam: host code touches device memory, byte %zu of %zu:\n",
                 (size_t)(at - r->start), r->size);
        stop(sentence);
    }
    signal(number, SIG_DFL);                /* some other fault: again, without us */
}

__attribute__((constructor)) static void begin(void)
{
    void *frame[1];
    struct sigaction action = {.sa_sigaction = touched, .sa_flags = SA_SIGINFO};
    backtrace(frame, 1);                    /* loads what it needs now, not within the handler */
    sigaction(SIGSEGV, &action, NULL);
}

static void protect(const struct region *r, int access)
{
    if (mprotect(r->start, r->size, access) != 0) stop("seam: mprotect failed\n");
}

static void seam_open(void)
{
    pthread_mutex_lock(&seam.lock);
    if (seam.inside++ == 0)
        for (int i = 0; i < seam.regions; i++) protect(&seam.region[i], PROT_READ | PROT_WRITE);
    pthread_mutex_unlock(&seam.lock);
}

static void seam_close(void)
{
    pthread_mutex_lock(&seam.lock);
    if (--seam.inside == 0)
        for (int i = 0; i < seam.regions; i++) protect(&seam.region[i], PROT_NONE);
    pthread_mutex_unlock(&seam.lock);
}

static void remember(struct copy c)
{
    pthread_mutex_lock(&seam.lock);
    seam.copy = host_grow(seam.copy, seam.copies + 1, sizeof *seam.copy);
    seam.copy[seam.copies++] = c;
    pthread_mutex_unlock(&seam.lock);
}

static void seam_wait(void)
{
    pthread_mutex_lock(&seam.lock);
    for (size_t i = 0; i < seam.copies; i++) {
        const struct copy *c = &seam.copy[i];
        if (crc32_of(0, c->host, c->bytes) != c->crc)
            stop(c->numbers ? "seam: the host array of a device_get was written before device_wait; seen in:\n"
                            : "seam: the host array of a device_put was changed before device_wait; seen in:\n");
        if (c->numbers) memcpy((void *)c->host, c->numbers, c->bytes);
        free(c->numbers);
    }
    seam.copies = 0;
    pthread_mutex_unlock(&seam.lock);
}

#include "wrap.h"                           /* the wrappers of ops.h */

void *__real_device_alloc(size_t bytes);
void *__wrap_device_alloc(size_t bytes);
void *__wrap_device_alloc(size_t bytes)
{
    pthread_mutex_lock(&seam.lock);
    struct region r = {__real_device_alloc(bytes), (bytes + PAGE - 1) / PAGE * PAGE};
    if (seam.regions == REGIONS) stop("seam: too many allocations at once\n");
    seam.region[seam.regions++] = r;
    if (seam.inside == 0) protect(&r, PROT_NONE);
    pthread_mutex_unlock(&seam.lock);
    return r.start;
}

void __real_device_free(void *memory, size_t bytes);
void __wrap_device_free(void *memory, size_t bytes);
void __wrap_device_free(void *memory, size_t bytes)
{
    pthread_mutex_lock(&seam.lock);
    for (int i = 0; i < seam.regions; i++)
        if (memory && seam.region[i].start == memory) {
            protect(&seam.region[i], PROT_READ | PROT_WRITE);
            seam.region[i] = seam.region[--seam.regions];
            break;
        }
    pthread_mutex_unlock(&seam.lock);
    __real_device_free(memory, bytes);
}

void __real_device_put(void *device, const void *host, size_t bytes);
void __wrap_device_put(void *device, const void *host, size_t bytes);
void __wrap_device_put(void *device, const void *host, size_t bytes)
{
    if (bytes == 0) return;
    seam_open();
    __real_device_put(device, host, bytes);
    seam_close();
    remember((struct copy){host, NULL, bytes, crc32_of(0, host, bytes)});
}

void __real_device_get(void *host, const void *device, size_t bytes);
void __wrap_device_get(void *host, const void *device, size_t bytes);
void __wrap_device_get(void *host, const void *device, size_t bytes)
{
    if (bytes == 0) return;
    void *numbers = host_alloc(bytes, 1);
    seam_open();
    __real_device_get(numbers, device, bytes);
    seam_close();
    memset(host, NOISE, bytes);
    remember((struct copy){host, numbers, bytes, crc32_of(0, host, bytes)});
}

void __real_device_copy(void *to, const void *from, size_t bytes);
void __wrap_device_copy(void *to, const void *from, size_t bytes);
void __wrap_device_copy(void *to, const void *from, size_t bytes)
{
    seam_open();
    __real_device_copy(to, from, bytes);
    seam_close();
}

void __real_device_clear(void *device, size_t bytes);
void __wrap_device_clear(void *device, size_t bytes);
void __wrap_device_clear(void *device, size_t bytes)
{
    seam_open();
    __real_device_clear(device, bytes);
    seam_close();
}

void __wrap_device_wait(void);
void __wrap_device_wait(void) { seam_wait(); }
