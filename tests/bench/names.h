/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef NAMES_H
#define NAMES_H

#include <stdint.h>

/* Which name comes next. */
enum names_mode {
	NAMES_HOT,			/* in turn */
	NAMES_UNIFORM,			/* any, each as likely */
	NAMES_ZIPF,			/* name i with weight 1/i */
	NAMES_MISS			/* one that never was */
};

/*
 * Prepare a sequence over count names, the same for the same seed.  For
 * NAMES_MISS the names begin with the first-th.
 */
void	 names_init(enum names_mode mode, uint32_t count, uint32_t first,
	    uint64_t seed);
uint32_t names_next(void);

#endif
