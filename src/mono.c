/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The clocks.  None of them is the wall clock, which may be set; that one is
 * for the log alone.
 */

#include <time.h>

#include "mono.h"

#ifndef CLOCK_BOOTTIME
#define CLOCK_BOOTTIME	CLOCK_MONOTONIC
#endif

static uint64_t	read_us(clockid_t);

uint64_t
mono_us(void)
{
	return (read_us(CLOCK_MONOTONIC));
}

uint64_t
mono_ms(void)
{
	return (mono_us() / 1000);
}

uint64_t
mono_boot_ms(void)
{
	return (read_us(CLOCK_BOOTTIME) / 1000);
}

static uint64_t
read_us(clockid_t clock)
{
	struct timespec ts;

	clock_gettime(clock, &ts);
	return ((uint64_t)ts.tv_sec * 1000000 + ts.tv_nsec / 1000);
}
