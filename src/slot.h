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
	_Atomic uint32_t pid;
	_Atomic uint32_t wake;	/* the worker about to be rung, or none */

	/* This slot's process only; others read. */
	_Alignas(SEGMENT_ALIGN) struct metrics metrics;
};

#endif
