/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The memory that the processes share, and the lock that survives its owner.
 *
 * The segment is mapped once, before the forks, with all its pages present,
 * and never unmapped or resized: it holds indices and offsets, never
 * pointers, and a zeroed region is an empty one.
 *
 * A lock is a robust process-shared mutex with a dirty mark.  Its holder sets
 * the mark before its first write and clears it after its last.  When the
 * owner dies, the kernel hands the mutex to the next who asks.  If the mark is
 * clear then, the data are whole.  If it is set, the next holder makes them
 * anew; it, too, may die in that, so the mutex is called consistent last of
 * all.  A process that is killed has made its writes in program order, so the
 * compiler alone must be kept from moving them across the mark.
 *
 * No one waits longer than 5 ms at a time: a holder that is stopped still
 * holds, and a waiter that dies when it has been woken wakes no other.  No
 * lock is held across a system call, and never two at once.
 */

#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "segment.h"

#define LOCK_TRIES	50		/* of 10 ms, for a file */
#define WAIT_NS		5000000		/* a holder needs microseconds */

static int	backing(size_t);
static int	lock_file(int);
static void	*map(int, size_t);
static int	take_within(pthread_mutex_t *);
static enum segment_result taken(struct segment_lock *, int);

void *
segment_map(size_t size, int *fd)
{
	void *base;

	*fd = backing(size);
	if (*fd == -1 && errno != ENOSYS)
		return (NULL);
	base = map(*fd, size);
	if (base == NULL && *fd != -1)
		close(*fd);
	return (base);
}

int
segment_open(const char *path, size_t size, int old, const char **error)
{
	struct stat st, st_old;
	int fd;

	if (old != -1 && fstat(old, &st_old) == 0 && lstat(path, &st) == 0 &&
	    st.st_dev == st_old.st_dev && st.st_ino == st_old.st_ino)
		unlink(path);
	fd = open(path, O_RDWR | O_CREAT | O_NOFOLLOW | O_NONBLOCK |
	    O_CLOEXEC, 0600);
	if (fd == -1) {
		*error = errno == ELOOP ? "it is a symbolic link" :
		    strerror(errno);
		return (-1);
	}
	*error = NULL;
	if (fstat(fd, &st) == -1)
		*error = strerror(errno);
	else if (!S_ISREG(st.st_mode) || st.st_nlink != 1)
		*error = "it is not a plain file with one name";
	else if (st.st_uid != geteuid() || st.st_mode & 077)
		*error = "it is not ours alone (owner, mode)";
	else if (lock_file(fd) == -1)
		*error = "another dnsd uses it";
	else if ((size_t)st.st_size != size && (ftruncate(fd, 0) == -1 ||
	    (errno = posix_fallocate(fd, 0, size)) != 0)) {
		*error = strerror(errno);
		if (ftruncate(fd, 0) == -1)
			*error = "it can't be written";
	}
	if (*error == NULL)
		return (fd);
	close(fd);
	return (-1);
}

/*
 * The children of a daemon that died hold the lock as long as they live,
 * which isn't long.
 */
static int
lock_file(int fd)
{
	static const struct timespec pause = { .tv_nsec = 10000000 };
	int i;

	for (i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return (0);
		nanosleep(&pause, NULL);
	}
	return (-1);
}

void *
segment_map_again(int fd, size_t size)
{
	struct stat st;

	if (fstat(fd, &st) == -1 || st.st_size < 0 ||
	    (size_t)st.st_size != size)
		return (NULL);
	return (map(fd, size));
}

static void *
map(int fd, size_t size)
{
	int flags = MAP_SHARED | (fd == -1 ? MAP_ANONYMOUS : 0);
	void *base;

#ifdef MAP_POPULATE
	flags |= MAP_POPULATE;
#endif
	base = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, fd, 0);
	if (base == MAP_FAILED)
		return (NULL);
#ifdef MADV_DONTDUMP
	madvise(base, size, MADV_DONTDUMP);	/* it holds users' names */
#endif
	return (base);
}

/* A nameless file of that size, or -1 with ENOSYS where there is none. */
static int
backing(size_t size)
{
#ifdef HAVE_MEMFD_CREATE
	int fd;

	fd = memfd_create("dnsd", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd == -1)
		return (-1);
	if (ftruncate(fd, size) == -1) {
		close(fd);
		return (-1);
	}
	/* Cut short, it would end every process that touches it. */
	fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	return (fd);
#else
	(void)size;
	errno = ENOSYS;
	return (-1);
#endif
}

size_t
segment_round(size_t size)
{
	return ((size + SEGMENT_ALIGN - 1) / SEGMENT_ALIGN * SEGMENT_ALIGN);
}

int
segment_lock_init(struct segment_lock *lock)
{
	pthread_mutexattr_t attr;

	if ((errno = pthread_mutexattr_init(&attr)) != 0)
		return (-1);
	if ((errno = pthread_mutexattr_setpshared(&attr,
	    PTHREAD_PROCESS_SHARED)) == 0 &&
	    (errno = pthread_mutexattr_setrobust(&attr,
	    PTHREAD_MUTEX_ROBUST)) == 0)
		errno = pthread_mutex_init(&lock->mutex, &attr);
	pthread_mutexattr_destroy(&attr);
	return (errno == 0 ? 0 : -1);
}

enum segment_result
segment_lock_take(struct segment_lock *lock)
{
	int error;

	error = pthread_mutex_trylock(&lock->mutex);
	if (error == EBUSY)
		error = take_within(&lock->mutex);
	return (taken(lock, error));
}

enum segment_result
segment_lock_try(struct segment_lock *lock)
{
	return (taken(lock, pthread_mutex_trylock(&lock->mutex)));
}

/* What came of a try that ended with that error. */
static enum segment_result
taken(struct segment_lock *lock, int error)
{
	switch (error) {
	case 0:
		return (SEGMENT_LOCKED);
	case EOWNERDEAD:
		if (atomic_load_explicit(&lock->dirty, memory_order_relaxed))
			return (SEGMENT_BROKEN);
		pthread_mutex_consistent(&lock->mutex);
		return (SEGMENT_LOCKED);
	default:
		return (SEGMENT_BUSY);
	}
}

/* Wait for the mutex for WAIT_NS at most.  Returns as pthread_mutex_lock(). */
static int
take_within(pthread_mutex_t *mutex)
{
#ifdef HAVE_PTHREAD_MUTEX_CLOCKLOCK
	struct timespec end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_nsec += WAIT_NS;
	if (end.tv_nsec >= 1000000000) {
		end.tv_nsec -= 1000000000;
		end.tv_sec++;
	}
	return (pthread_mutex_clocklock(mutex, CLOCK_MONOTONIC, &end));
#else
	static const struct timespec pause = { .tv_nsec = 50000 };
	int error = EBUSY, i;

	for (i = 0; error == EBUSY && i < WAIT_NS / pause.tv_nsec; i++) {
		nanosleep(&pause, NULL);
		error = pthread_mutex_trylock(mutex);
	}
	return (error);
#endif
}

void
segment_rebuilt(struct segment_lock *lock)
{
	atomic_fetch_add_explicit(&lock->rebuilds, 1, memory_order_relaxed);
	segment_clean(lock);
	pthread_mutex_consistent(&lock->mutex);
}

void
segment_lock_drop(struct segment_lock *lock)
{
	pthread_mutex_unlock(&lock->mutex);
}
