/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef STREAM_H
#define STREAM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"
#include "pending.h"

struct server;

/*
 * Serve the TCP clients, in the place of that number, till SIGTERM; then
 * finish what is asked, and return.
 */
void	 stream_run(const struct server *server, unsigned number);

/*
 * For a worker: hand the reply to a waiter that came by TCP to the stream,
 * who writes it if the connection is still there and counts it.  Returns 0,
 * or -1: its mailbox is full now.
 */
int	 stream_hand_reply(const struct server *server,
	    const struct pending_waiter *waiter, const uint8_t *reply,
	    size_t len);

#endif
