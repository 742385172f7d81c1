/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef SEGMENT_H
#define SEGMENT_H

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SEGMENT_ALIGN	64	/* a cache line; each region starts on one */

/* A lock in the segment.  It is initialised once, by segment_lock_init(). */
struct segment_lock {
	_Alignas(SEGMENT_ALIGN) pthread_mutex_t	 mutex;
	/* Protected by the mutex: a change is under way. */
	_Atomic uint32_t			 dirty;
	/* Atomic: how often what it protects was rebuilt after a death. */
	_Atomic uint32_t			 rebuilds;
};

enum segment_result {
	SEGMENT_LOCKED,		/* and the data are whole */
	SEGMENT_BROKEN,		/* locked; the owner died amid a change */
	SEGMENT_BUSY		/* not locked: the holder is stopped, say */
};

/*
 * Map size bytes, zeroed and present in memory, that processes forked later
 * share.  *fd gets the descriptor behind them (close on exec), or -1 where
 * the system has none to give.  Returns NULL with errno.
 */
void	*segment_map(size_t size, int *fd);

/*
 * Open a file of size bytes for segment_map_again(), locked against all other
 * daemons; it is made if there is none, and emptied if it has another size.
 * Only a plain file that is ours alone is touched.  If the file is the
 * one behind old (else -1), which others have mapped, a new one takes its
 * place.
 * Returns the descriptor (close on exec), or -1 and in *error why.
 */
int	 segment_open(const char *path, size_t size, int old,
	    const char **error);

/* Map the segment behind fd again.  NULL: it is not of that size, or errno. */
void	*segment_map_again(int fd, size_t size);

/* size rounded up to SEGMENT_ALIGN. */
size_t	 segment_round(size_t size);

/* Returns 0, or -1 with errno. */
int	 segment_lock_init(struct segment_lock *lock);

/*
 * Take the lock, waiting 5 ms at most.  After SEGMENT_BROKEN the caller makes
 * the data whole again, calls segment_rebuilt() and then has the lock as
 * after SEGMENT_LOCKED.
 */
enum segment_result segment_lock_take(struct segment_lock *lock);

/* The same without waiting. */
enum segment_result segment_lock_try(struct segment_lock *lock);
void	 segment_rebuilt(struct segment_lock *lock);
void	 segment_lock_drop(struct segment_lock *lock);

/* Before the first write under a lock, and after the last. */
static inline void
segment_dirty(struct segment_lock *lock)
{
	atomic_store_explicit(&lock->dirty, 1, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst);
}

static inline void
segment_clean(struct segment_lock *lock)
{
	atomic_signal_fence(memory_order_seq_cst);
	atomic_store_explicit(&lock->dirty, 0, memory_order_relaxed);
}

#endif
