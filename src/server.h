/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef SERVER_H
#define SERVER_H

#include <sys/socket.h>

#include <stdatomic.h>
#include <stdint.h>

#include "addr.h"
#include "cache.h"
#include "options.h"
#include "pending.h"
#include "privileges.h"
#include "restart.h"
#include "slot.h"
#include "upstream.h"

#define UPSTREAM_TABLE		(2 * UPSTREAM_MAX)	/* two generations */
#define STREAMS			2	/* one serves, one may be finishing */
#define SERVER_EXIT_CONFIG	78	/* EX_CONFIG: don't start it again */

/* A bound socket that one listener receives on and everyone replies by. */
struct server_socket {
	int		 fd;
	int		 family;
	bool		 wildcard;	/* the local address must be asked */
	struct addr	 addr;
};

/*
 * A mailbox.  In a worker's, a byte says, look in the pending table; in the
 * stream's are replies.
 */
#define MAIL_OWNER	0		/* the end that its process reads */
#define MAIL_OTHERS	1		/* the end that everyone writes */
struct server_mailbox {
	int		 end[2];
};

/* All that the layout of the segment depends on. */
struct server_shape {
	uint64_t		 size;
	uint64_t		 cache_size;
	uint64_t		 cache_memory;
	uint32_t		 sockets;
	uint32_t		 streams;
	struct pending_limits	 limits;
};

/*
 * What every process inherits through fork.  The master fills it before it
 * forks; the others only read it.  What is behind the pointers to the segment
 * is shared and changes.
 */
struct server {
	struct options		 options;
	struct upstreams	 upstreams;
	struct privileges	 privileges;
	pid_t			 master;

	unsigned		 sockets;
	struct server_socket	*socket;
	unsigned		 workers;
	struct server_mailbox	*mailbox;
	unsigned		 streams;	/* places for one: 0 or STREAMS */
	int			 stream_socket[OPTIONS_ADDRS_MAX];
	struct server_mailbox	 stream_mailbox[STREAMS];	/* replies */
	int			 relay[2];	/* log lines: master, children */

	/* The segment and its regions. */
	int			 segment;	/* descriptor, or -1 */
	bool			 kept;		/* it came from another image */
	struct server_shape	 shape;
	struct server_header	*header;
	struct slot		*slots;		/* by kind, see below */
	struct health	*health;	/* UPSTREAM_TABLE of them */
	struct pending		*pending;
	struct cache		*cache;
};

#define BOOT_LEN	40
/* The start of the segment, in every layout, since an upgrade reads it. */
struct server_header {
	/* Set before fork. */
	uint64_t		 magic;		/* with the layout's version */
	char			 boot[BOOT_LEN];	/* which start of the
						   machine its times are of */
	struct server_shape	 shape;
	uint64_t		 seed[2];	/* of the keyed hash */
	/* Atomic. */
	_Atomic uint32_t	 stopping;	/* no one will come after you */
};

/* How many processors we may run on. */
unsigned server_processors(void);

/* The keyed hash of a question's key, for the cache and the pending table. */
uint64_t server_hash(const struct server *server, const uint8_t *key,
	    size_t key_len);

/*
 * Look a question up in the cache: the answer to it, or else that nothing of
 * its name exists (RFC 2308 5).  As cache_lookup(), with hash of key.
 */
enum cache_result server_lookup(const struct server *server, uint64_t hash,
	    const uint8_t *key, size_t key_len, uint64_t now_ms, uint8_t *buf,
	    size_t size, size_t *len);

/* Slots: the listeners', then the streams', then the workers'. */
struct slot *server_listener_slot(const struct server *server, unsigned index);
struct slot *server_stream_slot(const struct server *server, unsigned stream);
struct slot *server_worker_slot(const struct server *server, unsigned worker);

/* Tell a worker to look in the pending table. */
void	 server_ring(const struct server *server, uint32_t worker);

/* The buffer for a control message with the local address of a datagram. */
struct server_control {
	_Alignas(struct cmsghdr) uint8_t space[64];
};

/*
 * The local address of a received datagram, AF_UNSPEC if msg has none.
 * server_set_local() makes msg's control, in the buffer given, such that a
 * reply leaves from local; none if that is AF_UNSPEC.
 */
void	 server_get_local(const struct msghdr *msg, struct addr *local);
void	 server_set_local(struct msghdr *msg, struct server_control *control,
	    int family, const struct addr *local);

#endif
