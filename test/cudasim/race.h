/* race.h - what the simulator tells ThreadSanitizer, which then finds races between the threads of a kernel, those of
 * different blocks too: which fiber runs, and what is ordered by barriers and by the begin and end of a kernel.
 * The simulator's own files are compiled without ThreadSanitizer; what they do for a kernel through calls that it sees
 * all the same (memcpy, malloc) is done in a Quiet.  Empty in other builds. */
#ifndef CUDASIM_RACE_H
#define CUDASIM_RACE_H

#ifdef CUDASIM_TSAN
extern "C" {
void *__tsan_get_current_fiber(void);
void *__tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void *fiber, unsigned flags);
void __tsan_acquire(void *order);
void __tsan_release(void *order);
void AnnotateIgnoreReadsBegin(const char *file, int line);
void AnnotateIgnoreReadsEnd(const char *file, int line);
void AnnotateIgnoreWritesBegin(const char *file, int line);
void AnnotateIgnoreWritesEnd(const char *file, int line);
}

namespace race {

enum { SETS = 3, UNORDERED = 1 };       /* blocks in turn have fibers of their own: the same ones would be ordered */
inline void *this_fiber() { return __tsan_get_current_fiber(); }
inline void *new_fiber() { return __tsan_create_fiber(0); }
inline void enter(void *fiber) { __tsan_switch_to_fiber(fiber, UNORDERED); }
inline void before(char *order) { __tsan_release(order); }
inline void after(char *order) { __tsan_acquire(order); }

struct Quiet {
    Quiet() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); AnnotateIgnoreWritesBegin(__FILE__, __LINE__); }
    ~Quiet() { AnnotateIgnoreWritesEnd(__FILE__, __LINE__); AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

} // namespace race
#else
namespace race {

enum { SETS = 1 };
inline void *this_fiber() { return nullptr; }
inline void *new_fiber() { return nullptr; }
inline void enter(void *) {}
inline void before(char *) {}
inline void after(char *) {}
struct Quiet { Quiet() {} ~Quiet() {} };

} // namespace race
#endif
#endif
