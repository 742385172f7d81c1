/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef OPTIONS_H
#define OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "addr.h"

#define OPTIONS_ADDRS_MAX	16	/* listen addresses, upstreams */
#define OPTIONS_PREFIXES_MAX	64
#define OPTIONS_TEXT_MAX	256	/* paths and names */
#define OPTIONS_ERROR_MAX	512
#define OPTIONS_PORT		53

struct options_addrs {
	size_t		 count;
	struct addr	 addr[OPTIONS_ADDRS_MAX];
};

struct options_prefixes {
	size_t			 count;
	struct addr_prefix	 prefix[OPTIONS_PREFIXES_MAX];
};

struct options {
	struct options_addrs	 listen;
	struct options_addrs	 upstreams;
	uint64_t		 workers;
	uint64_t		 queue_size;
	uint64_t		 cache_size;	/* entries */
	uint64_t		 timeout;	/* ms */
	uint64_t		 log_level;	/* enum log_level */

	struct options_prefixes	 allow_from;
	uint64_t		 cache_memory;	/* bytes; 0: by cache-size */
	uint64_t		 listeners;	/* an address; 0: by CPUs */
	uint64_t		 queries_per_worker;
	uint64_t		 stats_interval;	/* ms; 0: never */
	uint64_t		 tcp;			/* 1: served */
	uint64_t		 tcp_connections;
	uint64_t		 tcp_per_client;	/* of one address */
	uint64_t		 tcp_idle;		/* ms, as the next */
	uint64_t		 tcp_message;		/* for one to come whole */
	uint64_t		 tcp_queries;		/* waiting, a connection */
	char			 chroot[OPTIONS_TEXT_MAX];
	char			 pidfile[OPTIONS_TEXT_MAX];
	char			 segment_file[OPTIONS_TEXT_MAX];
	char			 user[OPTIONS_TEXT_MAX];

	bool			 foreground;
	bool			 no_confine;	/* for debugging */
	bool			 check;		/* -n */
	bool			 help;
	bool			 version;
	char			 config[OPTIONS_TEXT_MAX];
};

/*
 * Fill options from the defaults, the configuration file and the command
 * line, the later winning over the earlier.  The file is read from the
 * descriptor config, unless that is -1, and is not closed.  Returns 0, or -1 with one line
 * in error that says where and what, without a newline.  argv is not kept and
 * not changed in order; the call can be made again with the same.
 */
int	 options_read(struct options *options, int config, int argc,
	    char *const *argv, char error[OPTIONS_ERROR_MAX]);

/* Print what is in force, in the form of the configuration file. */
void	 options_print(const struct options *options, FILE *to);

/* Print the options with their defaults and what they are for. */
void	 options_usage(FILE *to);

#endif
