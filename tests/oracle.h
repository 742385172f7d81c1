/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef ORACLE_H
#define ORACLE_H

#include <sys/types.h>

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define ORACLE_NAME_MAX	64
#define ORACLE_TTL	3600
#define ORACLE_SLOW_MS	20

/* What becomes of a question; the first letter of its name says it. */
enum oracle_kind {
	ORACLE_HOT,		/* answered; asked again and again */
	ORACLE_NEW,		/* answered; asked once */
	ORACLE_SLOW,		/* answered after ORACLE_SLOW_MS */
	ORACLE_FAIL,		/* SERVFAIL */
	ORACLE_SILENT,		/* never answered */
	ORACLE_VICTIM,		/* answered; random, below one suffix */
	ORACLE_KINDS
};

/* In memory shared with the oracle's process. */
struct oracle {
	/* Set at the start. */
	uint16_t		 port;		/* on 127.0.0.1 */
	pid_t			 pid;
	uint64_t		 key[2];

	/* Atomic; the test may write them at any time. */
	_Atomic uint32_t	 silent;	/* answers nobody */
	_Atomic uint32_t	 delay_ms;	/* before every answer */

	/* Atomic; the oracle writes them. */
	_Atomic uint64_t	 queries;
	_Atomic uint64_t	 replies;
	_Atomic uint64_t	 unheard;	/* while silent */
	_Atomic uint64_t	 asked[ORACLE_KINDS];
};

/*
 * Start an upstream in a process of its own, which dies with the caller.  Two
 * of the same seed give the same answers.  Returns NULL with errno.
 */
struct oracle *oracle_start(uint64_t seed);
void	 oracle_stop(struct oracle *oracle);

/* Write a name in lower case, in wire form.  Returns its length. */
size_t	 oracle_name(uint8_t wire[ORACLE_NAME_MAX], enum oracle_kind kind,
	    uint32_t number);

/* The one true address of a name in lower case. */
void	 oracle_address(const struct oracle *oracle, const uint8_t *lower,
	    size_t len, uint8_t address[4]);

#endif
