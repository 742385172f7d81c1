/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef REPLY_H
#define REPLY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "metrics.h"

struct server;

/*
 * Reply to all who wait for a question that the caller took (its index in the
 * pending table) and mark them.  value, of len bytes, is as answer_pack() and
 * answer_pack_failure() make it; metrics are the caller's.  False: one can't
 * be replied to now; it is not marked, nor are those behind it.
 */
bool	 reply_all(const struct server *server, struct metrics *metrics,
	    uint32_t index, const uint8_t *value, size_t len);

/*
 * The same, but only for those who came by TCP.  The others are marked and
 * counted as dropped, with that reason, up to one that can't be replied to now.
 */
void	 reply_streams(const struct server *server, struct metrics *metrics,
	    uint32_t index, const uint8_t *value, size_t len,
	    enum metric reason);

#endif
