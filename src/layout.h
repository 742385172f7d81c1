/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef LAYOUT_H
#define LAYOUT_H

#include "server.h"

/*
 * Map the segment, lay out its regions and make the mailboxes.  What an
 * earlier image handed over is kept where it fits (server->kept says so);
 * taken is NULL where there was none.  Ends the process with a clear line
 * where it fails.
 */
void	 layout_make(struct server *server, const struct restart *taken);

/*
 * See whether layout_make() would find what it takes, as it does that, for a
 * server whose options are other than the segment was made for.  In a process
 * of its own, since all that it makes stays.
 */
void	 layout_try(const struct server *server);

#endif
