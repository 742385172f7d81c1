/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef STUB_H
#define STUB_H

#include <sys/types.h>

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "addr.h"

#define STUB_LOG	4096	/* the last queries, a ring */
#define STUB_NAMES	8192	/* what is counted by name; a power of two */
#define STUB_QUERY_MAX	512	/* bytes of a query that are remembered */

/* What the whole server does, whatever the name says. */
enum stub_mode {
	STUB_NORMAL,		/* as the name says */
	STUB_SILENT,		/* counts, never answers */
	STUB_SERVFAIL,
	STUB_REFUSED,
	STUB_NOTIMP
};

/* A query as it came in. */
struct stub_query {
	uint64_t	 at_us;		/* CLOCK_MONOTONIC */
	uint16_t	 port;		/* its source port */
	bool		 tcp;
	size_t		 len;
	uint8_t		 bytes[STUB_QUERY_MAX];
};

struct stub_name {
	_Atomic uint64_t	 hash;	/* 0: not in use */
	_Atomic uint32_t	 udp;
	_Atomic uint32_t	 tcp;
};

/*
 * The part of a stub that lies in memory shared between the test and the
 * stub's process.
 */
struct stub {
	/* Set at the start. */
	char			 text[ADDR_TEXT_MAX];	/* 127.0.0.1:5300 */
	uint16_t		 port;
	pid_t			 pid;		/* of the stub's process */

	/* Atomic; the test may write them at any time. */
	_Atomic uint32_t	 mode;		/* enum stub_mode */
	_Atomic uint32_t	 delay_ms;	/* before every reply */
	_Atomic uint32_t	 flat;		/* lower-case every question */

	/* Atomic; the stub writes them. */
	_Atomic uint32_t	 tcp;		/* see stub_set_tcp() */
	_Atomic uint32_t	 tcp_now;
	_Atomic uint64_t	 udp_queries;
	_Atomic uint64_t	 tcp_queries;
	_Atomic uint64_t	 tcp_connections;
	_Atomic uint64_t	 replies;	/* true ones that went out */
	_Atomic uint64_t	 logged;	/* queries that log has seen */

	/* The stub alone writes; log's entries before they are counted. */
	struct stub_query	 log[STUB_LOG];
	struct stub_name	 names[STUB_NAMES];
};

/*
 * Start a stub in a process of its own that dies with the caller.  port 0:
 * any.  Returns NULL with errno.
 */
struct stub *stub_start(const char *address, uint16_t port);
void	 stub_stop(struct stub *stub);

/*
 * Be the stub, in the foreground, till SIGTERM or SIGINT ends the process.
 * started is called once the sockets are bound.  Returns -1 with errno if
 * they can't be.
 */
int	 stub_run(const char *address, uint16_t port,
	    void (*started)(const struct stub *stub));

/* Serve TCP, or refuse connections.  Returns when the stub does so. */
void	 stub_set_tcp(struct stub *stub, bool on);

/* How often a question came in, over UDP and TCP or over TCP alone. */
uint32_t stub_asked(const struct stub *stub, const char *name, uint16_t type);
uint32_t stub_asked_tcp(const struct stub *stub, const char *name,
	    uint16_t type);

/*
 * Write the data of the first record that a question is truly answered with,
 * at most 512 bytes.  Returns their length.
 */
size_t	 stub_rdata(uint8_t buf[512], const char *name, uint16_t type);

/*
 * Copy a remembered query to query, back 0 being the last.  Returns false if
 * there is none.
 */
bool	 stub_last(const struct stub *stub, unsigned back,
	    struct stub_query *query);

/*
 * Write the wire form of a name given as text, which has no escapes; its last
 * dot may be left out.  Returns its length, or 0 if it is no name.
 */
size_t	 stub_name_write(uint8_t wire[255], const char *text);

/* The number of a type given as text, "MX" or "TYPE65534"; -1: unknown. */
int	 stub_type(const char *text);

/* The text of a type that has one, else NULL. */
const char *stub_type_text(uint16_t type);

/* CLOCK_MONOTONIC, which log's at_us is of. */
uint64_t stub_now_us(void);

/* Ask the kernel to kill this process when parent dies. */
void	 stub_die_with(pid_t parent);

#endif
