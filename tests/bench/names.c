/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Which names are asked, as numbers.  Zipf's law with exponent 1 is sampled by
 * rejection-inversion (Hoermann and Derflinger, 1996), which needs a logarithm
 * and an exponential a sample; so the samples are drawn before anything is
 * measured, and then read in order, which is kind to the processor's caches.
 */

#include <err.h>
#include <math.h>
#include <stdlib.h>

#include "names.h"

#define SAMPLES	(1 << 22)

static enum names_mode	 mode;
static uint32_t		 count, next;
static uint64_t		 state;
static uint32_t		*samples;

static uint64_t	 random64(void);
static uint32_t	 zipf(void);

void
names_init(enum names_mode new_mode, uint32_t new_count, uint32_t first,
    uint64_t seed)
{
	unsigned i;

	mode = new_mode;
	count = new_count;
	next = first;
	state = seed;
	if (mode != NAMES_ZIPF)
		return;
	next = 0;
	if ((samples = calloc(SAMPLES, sizeof(*samples))) == NULL)
		err(1, "calloc");
	for (i = 0; i < SAMPLES; i++)
		samples[i] = zipf();
}

uint32_t
names_next(void)
{
	uint32_t number;

	switch (mode) {
	case NAMES_HOT:
		if (next >= count)
			next = 0;
		return (next++);
	case NAMES_UNIFORM:
		return ((random64() >> 32) * count >> 32);
	case NAMES_ZIPF:
		number = samples[next];
		next = (next + 1) % SAMPLES;
		return (number);
	case NAMES_MISS:
		break;
	}
	return (next++ & INT32_MAX);
}

/* splitmix64. */
static uint64_t
random64(void)
{
	uint64_t z;

	z = (state += UINT64_C(0x9e3779b97f4a7c15));
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return (z ^ z >> 31);
}

/*
 * The integral of 1/x is log(x).  A place under it, from 1.5 less the first
 * one's weight to count + 0.5, leads back to an x; its rank is taken unless
 * the place lies beyond that rank's own weight.
 */
static uint32_t
zipf(void)
{
	double low = log(1.5) - 1, high = log(count + 0.5), u;
	uint32_t rank;

	do {
		u = low + (random64() >> 11) * 0x1p-53 * (high - low);
		rank = exp(u) + 0.5;
		if (rank < 1)
			rank = 1;
		else if (rank > count)
			rank = count;
	} while (u < log(rank + 0.5) - 1.0 / rank);
	return (rank - 1);
}
