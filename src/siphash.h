/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef SIPHASH_H
#define SIPHASH_H

#include <stddef.h>
#include <stdint.h>

/* SipHash-1-3 of buf under a secret key of 128 bits. */
uint64_t	 siphash(const uint64_t key[2], const void *buf, size_t len);

#endif
