/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * SipHash-1-3 (Aumasson, Bernstein 2012): a hash under a secret key, so that
 * nobody who chooses names can choose which of them collide.
 */

#include "siphash.h"

#define ROTATE(x, n)	((x) << (n) | (x) >> (64 - (n)))

static inline uint64_t	load(const uint8_t [8]);
static inline void	mix(uint64_t [4]);

uint64_t
siphash(const uint64_t key[2], const void *buf, size_t len)
{
	const uint8_t *at = buf;
	uint64_t v[4] = {
		key[0] ^ 0x736f6d6570736575,
		key[1] ^ 0x646f72616e646f6d,
		key[0] ^ 0x6c7967656e657261,
		key[1] ^ 0x7465646279746573,
	};
	uint64_t word, last = (uint64_t)len << 56;

	for (; len >= 8; len -= 8, at += 8) {
		word = load(at);
		v[3] ^= word;
		mix(v);
		v[0] ^= word;
	}
	while (len-- > 0)
		last |= (uint64_t)at[len] << 8 * len;
	v[3] ^= last;
	mix(v);
	v[0] ^= last;
	v[2] ^= 0xff;
	mix(v);
	mix(v);
	mix(v);
	return (v[0] ^ v[1] ^ v[2] ^ v[3]);
}

/* Eight bytes, the first the lowest; compilers make one load of it. */
static inline uint64_t
load(const uint8_t at[8])
{
	return ((uint64_t)at[0] | (uint64_t)at[1] << 8 |
	    (uint64_t)at[2] << 16 | (uint64_t)at[3] << 24 |
	    (uint64_t)at[4] << 32 | (uint64_t)at[5] << 40 |
	    (uint64_t)at[6] << 48 | (uint64_t)at[7] << 56);
}

static inline void
mix(uint64_t v[4])
{
	v[0] += v[1];
	v[2] += v[3];
	v[1] = ROTATE(v[1], 13) ^ v[0];
	v[3] = ROTATE(v[3], 16) ^ v[2];
	v[0] = ROTATE(v[0], 32);
	v[2] += v[1];
	v[0] += v[3];
	v[1] = ROTATE(v[1], 17) ^ v[2];
	v[3] = ROTATE(v[3], 21) ^ v[0];
	v[2] = ROTATE(v[2], 32);
}
