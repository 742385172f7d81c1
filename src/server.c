/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What all processes have in common: the bound sockets, the mailboxes, and
 * the segment with its regions.  The master makes them here before it forks;
 * the others only use them.
 */

#include <sys/socket.h>

#include <netinet/in.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "dns.h"
#include "log.h"
#include "segment.h"
#include "server.h"
#include "siphash.h"

#define MAGIC		0x5069636f444e5331	/* "PicoDNS", layout 1 */
#define RECEIVE_BYTES	(4 << 20)	/* the kernel's own is 256 queries */
#define BACKLOG		1024
#define ENTRY_BYTES	256		/* of cache-memory by default */

static int	open_socket(const struct addr *, int, bool);
static int	try_socket(const struct addr *, int, int, bool);
static int	open_stream(const struct addr *);
static void	set_socket(int, int, bool);
static void	set(int, int, int, int);
static const char *bind_error(const struct addr *);
static int	take_socket(const struct restart *, const struct addr *, int);
static int	bind_first(const struct addr *, int);
static int	family_of(int);
static bool	is_bound(const struct server *, const struct addr *, bool);
static void	shape_make(const struct server *, struct server_shape *);
static void	lay_out(struct server *, uint8_t *);
static bool	take_segment(struct server *, const struct restart *,
		    const struct server_shape *);
static void	make_segment(struct server *, const struct restart *,
		    const struct server_shape *);
static uint8_t	*map_file(struct server *, int);
static bool	warm_start(struct server *, uint8_t *);
static void	format(struct server *);
static void	read_boot(char [BOOT_LEN]);
static void	make_pairs(struct server *, const struct restart *);
static void	make_pair(int *, const int *, unsigned);

void
server_bind(struct server *server, const struct restart *taken)
{
	const struct options *options = &server->options;
	const struct addr *addr;
	unsigned each = options->listeners, i, k;
	struct server_socket *s;

	if (each == 0)
		each = sysconf(_SC_NPROCESSORS_ONLN);
	server->sockets = options->listen.count * each;
	server->streams = options->tcp;
	server->socket = calloc(server->sockets, sizeof(*server->socket));
	if (server->socket == NULL)
		fatal("out of memory");
	s = server->socket;
	for (i = 0; i < options->listen.count; i++) {
		addr = &options->listen.addr[i];
		for (k = 0; k < each; k++, s++) {
			s->addr = *addr;
			s->wildcard = addr_is_any(addr);
			s->fd = take_socket(taken, addr, SOCK_DGRAM);
			if (s->fd == -1)
				s->fd = k == 0 ?
				    bind_first(addr, SOCK_DGRAM) :
				    open_socket(addr, SOCK_DGRAM, true);
			if (s->fd == -1)
				fatal("%s", bind_error(addr));
			s->family = family_of(s->fd);
			set_socket(s->fd, s->family, s->wildcard);
		}
		if (!server->streams)
			continue;
		server->stream_socket[i] = take_socket(taken, addr,
		    SOCK_STREAM);
		if (server->stream_socket[i] == -1)
			server->stream_socket[i] = open_stream(addr);
		if (server->stream_socket[i] == -1)
			fatal("%s", bind_error(addr));
	}
	/* What is not listened on any more. */
	for (i = 0; taken != NULL && i < taken->sockets; i++) {
		if (taken->socket[i] != -1)
			close(taken->socket[i]);
	}
}

/* One of the sockets handed over that is bound to addr, or -1. */
static int
take_socket(const struct restart *taken, const struct addr *addr, int type)
{
	struct sockaddr_storage ss;
	struct addr bound;
	socklen_t len;
	unsigned i;
	int fd, is, only;

	for (i = 0; taken != NULL && i < taken->sockets; i++) {
		fd = taken->socket[i];
		len = sizeof(is);
		if (fd == -1 || getsockopt(fd, SOL_SOCKET, SO_TYPE, &is,
		    &len) == -1 || is != type)
			continue;
		len = sizeof(ss);
		if (getsockname(fd, (struct sockaddr *)&ss, &len) == -1)
			continue;
		addr_from_sockaddr(&bound, &ss);
		len = sizeof(only);
		if (bound.family == AF_INET6 && addr_is_any(&bound) &&
		    getsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &only, &len) ==
		    0 && !only)
			bound.family = AF_UNSPEC;
		if (addr_equal(&bound, addr)) {
			taken->socket[i] = -1;
			return (fd);
		}
	}
	return (-1);
}

/*
 * SO_REUSEPORT would let us in beside another server of the same user: ask
 * first whether the port is free.
 */
static int
bind_first(const struct addr *addr, int type)
{
	int fd;

	if ((fd = open_socket(addr, type, false)) == -1)
		return (-1);
	close(fd);
	return (open_socket(addr, type, true));
}

int
server_bind_more(const struct server *server, const struct options *options,
    int *socket)
{
	const struct addr *addr;
	int n = 0, fd;
	size_t i, type;

	for (i = 0; i < options->listen.count; i++) {
		addr = &options->listen.addr[i];
		for (type = 0; type <= options->tcp; type++) {
			if (is_bound(server, addr, type == 1))
				continue;
			fd = type == 1 ? open_stream(addr) :
			    bind_first(addr, SOCK_DGRAM);
			if (fd != -1) {
				socket[n++] = fd;
				continue;
			}
			log_error("%s; the old configuration goes on",
			    bind_error(addr));
			while (n > 0)
				close(socket[--n]);
			return (-1);
		}
	}
	return (n);
}

static bool
is_bound(const struct server *server, const struct addr *addr, bool stream)
{
	size_t i;

	if (stream && !server->streams)
		return (false);
	for (i = 0; i < server->options.listen.count; i++) {
		if (addr_equal(&server->options.listen.addr[i], addr))
			return (true);
	}
	return (false);
}

/* For TCP one socket an address is enough: there is one stream. */
static int
open_stream(const struct addr *addr)
{
	int fd;

	fd = open_socket(addr, SOCK_STREAM | SOCK_NONBLOCK, false);
	if (fd != -1 && listen(fd, BACKLOG) == -1)
		return (-1);
	return (fd);
}

/* A bound socket; every address is one of IPv6, if that is to be had. */
static int
open_socket(const struct addr *addr, int type, bool share)
{
	int fd;

	if (addr->family != AF_UNSPEC)
		return (try_socket(addr, addr->family, type, share));
	fd = try_socket(addr, AF_INET6, type, share);
	if (fd == -1 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
		fd = try_socket(addr, AF_INET, type, share);
	return (fd);
}

static int
try_socket(const struct addr *addr, int family, int type, bool share)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(addr, family, &ss);
	int fd, error;

	fd = socket(family, type | SOCK_CLOEXEC, 0);
	if (fd == -1)
		return (-1);
	if ((type & SOCK_STREAM) == SOCK_STREAM)
		set(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	if (family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_V6ONLY, addr->family != AF_UNSPEC);
#ifdef SO_REUSEPORT_LB
	if (share)
		set(fd, SOL_SOCKET, SO_REUSEPORT_LB, 1);
#else
	if (share)
		set(fd, SOL_SOCKET, SO_REUSEPORT, 1);
#endif
	if (bind(fd, (struct sockaddr *)&ss, len) == -1) {
		error = errno;
		close(fd);
		errno = error;
		return (-1);
	}
	return (fd);
}

/* None of these is vital: a system that lacks one is served without. */
static void
set_socket(int fd, int family, bool wildcard)
{
	set(fd, SOL_SOCKET, SO_RCVBUF, RECEIVE_BYTES);
#ifdef SO_RCVBUFFORCE
	set(fd, SOL_SOCKET, SO_RCVBUFFORCE, RECEIVE_BYTES);
#endif
	if (wildcard && family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_RECVPKTINFO, 1);
#ifdef IP_PKTINFO
	if (wildcard && family == AF_INET)
		set(fd, IPPROTO_IP, IP_PKTINFO, 1);
#endif
	/* Believe no forged news of a small path: our replies fit any. */
#ifdef IP_PMTUDISC_OMIT
	set(fd, IPPROTO_IP, IP_MTU_DISCOVER, IP_PMTUDISC_OMIT);
	if (family == AF_INET6)
		set(fd, IPPROTO_IPV6, IPV6_MTU_DISCOVER, IPV6_PMTUDISC_OMIT);
#endif
}

static void
set(int fd, int level, int option, int value)
{
	setsockopt(fd, level, option, &value, sizeof(value));
}

/* What to say of a bind that failed with errno. */
static const char *
bind_error(const struct addr *addr)
{
	static char error[256];
	char text[ADDR_TEXT_MAX];
	const char *hint = "";

	if (errno == EADDRINUSE)
		hint = "; is another DNS server (systemd-resolved, dnsmasq) "
		    "running?";
	else if (errno == EACCES)
		hint = "; ports below 1024 are for root";
	snprintf(error, sizeof(error), "cannot bind %s: %s%s",
	    addr_print(text, addr), strerror(errno), hint);
	return (error);
}

static int
family_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	getsockname(fd, (struct sockaddr *)&ss, &len);
	return (ss.ss_family);
}

void
server_map(struct server *server, const struct restart *taken)
{
	const struct options *options = &server->options;
	struct server_shape shape;

	server->workers = options->workers;
	shape_make(server, &shape);
	server->kept = take_segment(server, taken, &shape);
	if (!server->kept)
		make_segment(server, taken, &shape);
	upstream_assign(&server->upstreams, options->upstreams.addr,
	    options->upstreams.count, server->health, UPSTREAM_TABLE, NULL);
	server->upstreams.timeout_us = options->timeout * 1000;
	server->header->stopping = 0;
	make_pairs(server, taken);
}

static void
shape_make(const struct server *server, struct server_shape *shape)
{
	const struct options *options = &server->options;
	struct server other = *server;

	memset(shape, 0, sizeof(*shape));
	shape->sockets = server->sockets;
	shape->streams = server->streams;
	shape->limits.workers = options->workers;
	shape->limits.per_worker = options->queries_per_worker;
	shape->limits.queue = options->queue_size;
	shape->limits.preferred = sysconf(_SC_NPROCESSORS_ONLN);
	shape->cache_size = options->cache_size;
	shape->cache_memory = options->cache_memory;
	if (shape->cache_memory == 0)
		shape->cache_memory = options->cache_size * ENTRY_BYTES;
	other.shape = *shape;
	lay_out(&other, NULL);
	shape->size = (uintptr_t)other.cache +
	    cache_size(shape->cache_size, shape->cache_memory);
}

/* Say where the regions are in a segment at base. */
static void
lay_out(struct server *server, uint8_t *base)
{
	const struct server_shape *shape = &server->shape;
	uintptr_t at = (uintptr_t)base;

	server->header = (void *)at;
	at += segment_round(sizeof(struct server_header));
	server->slots = (void *)at;
	at += (shape->sockets + shape->streams + shape->limits.workers) *
	    sizeof(struct slot);
	server->health = (void *)at;
	at += segment_round(UPSTREAM_TABLE * sizeof(struct upstream_health));
	server->pending = (void *)at;
	at += pending_size(&shape->limits);
	server->cache = (void *)at;
}

/* Keep the segment of the image before, if it has our shape. */
static bool
take_segment(struct server *server, const struct restart *taken,
    const struct server_shape *shape)
{
	struct server_header *header;

	if (taken == NULL || taken->segment == -1)
		return (false);
	header = segment_map_again(taken->segment, shape->size);
	if (header != NULL && header->magic == MAGIC &&
	    memcmp(&header->shape, shape, sizeof(*shape)) == 0) {
		server->segment = taken->segment;
		server->shape = *shape;
		lay_out(server, (uint8_t *)header);
		return (true);
	}
	log_warn("the shared memory has another layout now: the cache "
	    "starts empty");
	return (false);
}

/* Map the segment-file, or memory without a name, and fill in the rest. */
static void
make_segment(struct server *server, const struct restart *taken,
    const struct server_shape *shape)
{
	uint8_t *base = NULL;

	server->shape = *shape;
	if (server->options.segment_file[0] != '\0' &&
	    strcmp(server->options.segment_file, "none") != 0)
		base = map_file(server, taken == NULL ? -1 : taken->segment);
	if (taken != NULL && taken->segment != -1)
		close(taken->segment);
	if (base != NULL && warm_start(server, base))
		return;
	if (base != NULL)
		memset(base, 0, shape->size);
	else
		base = segment_map(shape->size, &server->segment);
	if (base == NULL)
		fatal("cannot map %llu bytes of shared memory: %s",
		    (unsigned long long)shape->size, strerror(errno));
	lay_out(server, base);
	server->header->shape = *shape;
	arc4random_buf(server->header->seed, sizeof(server->header->seed));
	read_boot(server->header->boot);
	format(server);
	if (cache_format(server->cache, shape->cache_size,
	    shape->cache_memory) == -1)
		fatal("cannot make a shared lock: %s", strerror(errno));
	server->header->magic = MAGIC;
}

/* What is between the header and the cache, for processes yet to come. */
static void
format(struct server *server)
{
	const struct server_shape *shape = &server->shape;
	unsigned i;

	memset(server->slots, 0, (uintptr_t)server->cache -
	    (uintptr_t)server->slots);
	for (i = 0; i < shape->sockets + shape->streams +
	    shape->limits.workers; i++)
		server->slots[i].wake = PENDING_NO_WORKER;
	if (pending_format(server->pending, &shape->limits) == -1)
		fatal("cannot make a shared lock: %s", strerror(errno));
}

static uint8_t *
map_file(struct server *server, int old)
{
	const char *path = server->options.segment_file, *error;
	uint8_t *base;

	server->segment = segment_open(path, server->shape.size, old, &error);
	if (server->segment == -1) {
		log_warn("segment-file %s: %s; the cache is not kept", path,
		    error);
		return (NULL);
	}
	base = segment_map_again(server->segment, server->shape.size);
	if (base == NULL)
		close(server->segment);
	return (base);
}

/*
 * Take over what an earlier daemon left in the segment-file: the cache alone,
 * if it is of this layout and of this start of the machine, since its times
 * are.
 */
static bool
warm_start(struct server *server, uint8_t *base)
{
	struct cache_stats stats;
	char boot[BOOT_LEN];

	lay_out(server, base);
	if (server->header->magic == 0)
		return (false);		/* new */
	read_boot(boot);
	if (server->header->magic == MAGIC && memcmp(&server->header->shape,
	    &server->shape, sizeof(server->shape)) == 0 &&
	    memcmp(server->header->boot, boot, sizeof(boot)) == 0 &&
	    cache_adopt(server->cache, server->shape.cache_size,
	    server->shape.cache_memory) == 0) {
		format(server);
		cache_count(server->cache, &stats);
		log_info("segment-file %s: %llu answers are kept",
		    server->options.segment_file,
		    (unsigned long long)stats.entries);
		return (true);
	}
	log_warn("segment-file %s: of another layout or machine start, or "
	    "damaged; the cache starts empty", server->options.segment_file);
	return (false);
}

/* What tells this start of the machine from others; zeroes if nothing does. */
static void
read_boot(char boot[BOOT_LEN])
{
	FILE *from;

	memset(boot, 0, BOOT_LEN);
	if ((from = fopen("/proc/sys/kernel/random/boot_id", "re")) == NULL)
		return;
	if (fgets(boot, BOOT_LEN, from) == NULL)
		boot[0] = '\0';
	fclose(from);
}

/* Mailboxes are as many as workers; they are kept with the segment. */
static void
make_pairs(struct server *server, const struct restart *taken)
{
	const int *old = NULL;
	unsigned i;

	if (server->kept && taken->mailboxes == 2 * (server->workers + 1))
		old = taken->mailbox;
	server->mailbox = calloc(server->workers, sizeof(*server->mailbox));
	if (server->mailbox == NULL)
		fatal("out of memory");
	for (i = 0; i < server->workers; i++)
		make_pair(server->mailbox[i].end, old, i);
	make_pair(server->stream_mailbox.end, old, server->workers);
	set(server->stream_mailbox.end[MAIL_OTHERS], SOL_SOCKET, SO_SNDBUF,
	    RECEIVE_BYTES);
#ifdef SO_SNDBUFFORCE
	set(server->stream_mailbox.end[MAIL_OTHERS], SOL_SOCKET, SO_SNDBUFFORCE,
	    RECEIVE_BYTES);
#endif
	for (i = 0; old == NULL && taken != NULL && i < taken->mailboxes; i++)
		close(taken->mailbox[i]);
	make_pair(server->relay, taken == NULL ? NULL : taken->relay, 0);
}

/* Fill pair, from the n-th of old or anew. */
static void
make_pair(int *pair, const int *old, unsigned n)
{
	if (old != NULL)
		memcpy(pair, old + 2 * (size_t)n, 2 * sizeof(*pair));
	else if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) ==
	    -1)
		fatal("cannot make a mailbox: %s", strerror(errno));
}

uint64_t
server_hash(const struct server *server, const uint8_t *key, size_t key_len)
{
	return (siphash(server->header->seed, key, key_len));
}

enum cache_result
server_lookup(const struct server *server, uint64_t hash, const uint8_t *key,
    size_t key_len, uint64_t now_ms, uint8_t *buf, size_t size, size_t *len)
{
	uint8_t whole[DNS_KEY_MAX];
	enum cache_result result;

	result = cache_lookup(server->cache, hash, key, key_len, now_ms, buf,
	    size, len);
	if (result == CACHE_HIT)
		return (result);
	memcpy(whole, key, key_len);
	dns_key_set_type(whole, key_len, 0);
	return (cache_lookup(server->cache, server_hash(server, whole,
	    key_len), whole, key_len, now_ms, buf, size, len));
}

struct slot *
server_listener_slot(const struct server *server, unsigned index)
{
	return (&server->slots[index]);
}

struct slot *
server_stream_slot(const struct server *server)
{
	return (&server->slots[server->sockets]);
}

struct slot *
server_worker_slot(const struct server *server, unsigned worker)
{
	return (&server->slots[server->sockets + server->streams + worker]);
}

/* A mailbox that is full says so already. */
void
server_ring(const struct server *server, uint32_t worker)
{
	server_worker_slot(server, worker)->rung = 1;
	send(server->mailbox[worker].end[MAIL_OTHERS], "", 1,
	    MSG_DONTWAIT | MSG_NOSIGNAL);
}

void
server_get_local(const struct msghdr *msg, struct addr *local)
{
	/* CMSG_NXTHDR() asks for more than const, and changes nothing. */
	struct msghdr m = *msg;
	struct sockaddr_storage ss = { .ss_family = AF_UNSPEC };
	struct sockaddr_in *sin = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&ss;
	struct cmsghdr *c;
	struct in6_pktinfo info6;

	memset(local, 0, sizeof(*local));
	for (c = CMSG_FIRSTHDR(&m); c != NULL; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level == IPPROTO_IPV6 &&
		    c->cmsg_type == IPV6_PKTINFO) {
			memcpy(&info6, CMSG_DATA(c), sizeof(info6));
			sin6->sin6_family = AF_INET6;
			sin6->sin6_addr = info6.ipi6_addr;
			if (IN6_IS_ADDR_LINKLOCAL(&info6.ipi6_addr))
				sin6->sin6_scope_id = info6.ipi6_ifindex;
		}
#ifdef IP_PKTINFO
		struct in_pktinfo info;

		if (c->cmsg_level == IPPROTO_IP && c->cmsg_type == IP_PKTINFO) {
			memcpy(&info, CMSG_DATA(c), sizeof(info));
			sin->sin_family = AF_INET;
			sin->sin_addr = info.ipi_addr;
		}
#endif
	}
	if (ss.ss_family != AF_UNSPEC)
		addr_from_sockaddr(local, &ss);
}

void
server_set_local(struct msghdr *msg, struct server_control *control,
    int family, const struct addr *local)
{
	struct sockaddr_storage ss;
	struct cmsghdr *c = (struct cmsghdr *)(void *)control->space;
	struct in6_pktinfo info6 = { .ipi6_ifindex = local->scope };
	const struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)&ss;

	msg->msg_control = NULL;
	msg->msg_controllen = 0;
	if (local->family == AF_UNSPEC)
		return;
	addr_to_sockaddr(local, family, &ss);
	msg->msg_control = control;
	memset(control, 0, sizeof(*control));
#ifdef IP_PKTINFO
	const struct sockaddr_in *sin = (struct sockaddr_in *)&ss;
	struct in_pktinfo info = { .ipi_ifindex = 0 };

	if (family == AF_INET) {
		info.ipi_spec_dst = sin->sin_addr;
		c->cmsg_level = IPPROTO_IP;
		c->cmsg_type = IP_PKTINFO;
		c->cmsg_len = CMSG_LEN(sizeof(info));
		memcpy(CMSG_DATA(c), &info, sizeof(info));
		msg->msg_controllen = CMSG_SPACE(sizeof(info));
		return;
	}
#endif
	info6.ipi6_addr = sin6->sin6_addr;
	c->cmsg_level = IPPROTO_IPV6;
	c->cmsg_type = IPV6_PKTINFO;
	c->cmsg_len = CMSG_LEN(sizeof(info6));
	memcpy(CMSG_DATA(c), &info6, sizeof(info6));
	msg->msg_controllen = CMSG_SPACE(sizeof(info6));
}
