/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef SLOT_H
#define SLOT_H

#include <stdatomic.h>
#include <stdint.h>

#include "metrics.h"
#include "segment.h"

enum slot_state {
	SLOT_EMPTY,		/* no process */
	SLOT_STARTING,		/* forked, settling its predecessor's debts */
	SLOT_RUNNING
};

/*
 * What the others may know of a process.  The slot outlives it, and the next
 * process in the slot goes on where it stood.
 */
struct slot {
	/* Atomic. */
	_Alignas(SEGMENT_ALIGN) _Atomic uint32_t state;
	_Atomic uint32_t wake;	/* the worker about to be rung, or none */
	_Atomic uint32_t beat;	/* odd while it works, even while it waits */
	_Atomic uint32_t rung;	/* its mailbox was written and not yet read */
	_Atomic uint32_t in_hand;	/* the question it works on; 0: none */
	_Atomic uint32_t faulted;	/* its predecessor died of a fault */
	_Atomic uint64_t due_ms;	/* mono_ms() at which it will wake */

	/* This slot's process only; others read. */
	_Alignas(SEGMENT_ALIGN) struct metrics metrics;
};

/* Between two waits a process works; the master sees if one doesn't end. */
static inline void
slot_works(struct slot *slot)
{
	atomic_store_explicit(&slot->beat,
	    atomic_load_explicit(&slot->beat, memory_order_relaxed) | 1,
	    memory_order_relaxed);
}

static inline void
slot_waits(struct slot *slot)
{
	uint32_t beat = atomic_load_explicit(&slot->beat,
	    memory_order_relaxed);

	atomic_store_explicit(&slot->beat, beat + (beat & 1),
	    memory_order_relaxed);
}

#endif
