/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef STATS_H
#define STATS_H

#include "server.h"

/* Write all counters to the log, at info. */
void	 stats_log(const struct server *server);

#endif
