/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef MONO_H
#define MONO_H

#include <stdint.h>

/* For timeouts and round trips: stands still while the machine is suspended. */
uint64_t	 mono_us(void);
uint64_t	 mono_ms(void);

/* For TTLs: goes on while the machine is suspended. */
uint64_t	 mono_boot_ms(void);

#endif
