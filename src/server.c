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
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "dns.h"
#include "log.h"
#include "segment.h"
#include "server.h"
#include "siphash.h"

#define MAGIC		0x5069636f444e5331	/* "PicoDNS1" */
#define RECEIVE_BYTES	(4 << 20)	/* the kernel's own is 256 queries */
#define BACKLOG		1024
#define ENTRY_BYTES	256		/* of cache-memory by default */

static int	open_socket(const struct addr *, int, bool);
static int	try_socket(const struct addr *, int, int, bool);
static int	open_stream(const struct addr *);
static void	set_socket(int, int, bool);
static void	set(int, int, int, int);
static void	fail_bind(const struct addr *) __attribute__((__noreturn__));
static int	family_of(int);
static void	make_pairs(struct server *);

void
server_bind(struct server *server)
{
	const struct options *options = &server->options;
	unsigned each = options->listeners, i, k;
	struct server_socket *s;
	int fd;

	if (each == 0)
		each = sysconf(_SC_NPROCESSORS_ONLN);
	server->sockets = options->listen.count * each;
	server->socket = calloc(server->sockets, sizeof(*server->socket));
	if (server->socket == NULL)
		fatal("out of memory");
	s = server->socket;
	for (i = 0; i < options->listen.count; i++) {
		/*
		 * SO_REUSEPORT would let us in beside another server of the
		 * same user: ask first whether the port is free.
		 */
		if ((fd = open_socket(&options->listen.addr[i], SOCK_DGRAM,
		    false)) == -1)
			fail_bind(&options->listen.addr[i]);
		close(fd);
		for (k = 0; k < each; k++, s++) {
			s->addr = options->listen.addr[i];
			s->wildcard = addr_is_any(&s->addr);
#if defined(SO_REUSEPORT_LB) || defined(__linux__)
			s->fd = open_socket(&s->addr, SOCK_DGRAM, true);
#else
			s->fd = k > 0 ? s[-1].fd :
			    open_socket(&s->addr, SOCK_DGRAM, false);
#endif
			if (s->fd == -1)
				fail_bind(&s->addr);
			s->family = family_of(s->fd);
			set_socket(s->fd, s->family, s->wildcard);
		}
	}
	server->streams = options->tcp;
	for (i = 0; i < options->listen.count * server->streams; i++) {
		server->stream_socket[i] =
		    open_stream(&options->listen.addr[i]);
		if (server->stream_socket[i] == -1)
			fail_bind(&options->listen.addr[i]);
	}
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

static void
fail_bind(const struct addr *addr)
{
	char text[ADDR_TEXT_MAX];
	const char *hint = "";
	int error = errno;

	if (error == EADDRINUSE)
		hint = "; is another DNS server (systemd-resolved, dnsmasq) "
		    "running?";
	else if (error == EACCES)
		hint = "; ports below 1024 are for root";
	fatal("cannot bind %s: %s%s", addr_print(text, addr), strerror(error),
	    hint);
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
server_map(struct server *server)
{
	const struct options *options = &server->options;
	const struct pending_limits limits = {
		.workers = options->workers,
		.per_worker = options->queries_per_worker,
		.queue = options->queue_size,
		.preferred = sysconf(_SC_NPROCESSORS_ONLN),
	};
	size_t memory = options->cache_memory, slots, at, size;
	size_t slots_at, health_at, pending_at, cache_at;
	uint8_t *base;
	int fd;

	server->workers = options->workers;
	slots = server->sockets + server->streams + server->workers;
	if (memory == 0)
		memory = options->cache_size * ENTRY_BYTES;
	slots_at = segment_round(sizeof(struct server_header));
	health_at = slots_at + slots * sizeof(struct slot);
	pending_at = health_at + segment_round(UPSTREAM_TABLE *
	    sizeof(struct upstream_health));
	cache_at = pending_at + pending_size(&limits);
	size = cache_at + cache_size(options->cache_size, memory);
	base = segment_map(size, &fd);
	if (base == NULL)
		fatal("cannot map %zu bytes of shared memory: %s", size,
		    strerror(errno));
	server->header = (void *)base;
	server->slots = (void *)(base + slots_at);
	server->health = (void *)(base + health_at);
	server->pending = (void *)(base + pending_at);
	server->cache = (void *)(base + cache_at);

	server->header->magic = MAGIC;
	server->header->size = size;
	arc4random_buf(server->header->seed, sizeof(server->header->seed));
	for (at = 0; at < slots; at++)
		server->slots[at].wake = PENDING_NO_WORKER;
	if (pending_format(server->pending, &limits) == -1 ||
	    cache_format(server->cache, options->cache_size, memory) == -1)
		fatal("cannot make a shared lock: %s", strerror(errno));
	upstream_assign(&server->upstreams, options->upstreams.addr,
	    options->upstreams.count, server->health, UPSTREAM_TABLE, NULL);
	server->upstreams.timeout_us = options->timeout * 1000;
	make_pairs(server);
}

static void
make_pairs(struct server *server)
{
	int type = SOCK_DGRAM | SOCK_CLOEXEC, fd[2];
	unsigned i;

	server->mailbox = calloc(server->workers, sizeof(*server->mailbox));
	if (server->mailbox == NULL)
		fatal("out of memory");
	for (i = 0; i < server->workers; i++) {
		if (socketpair(AF_UNIX, type, 0, fd) == -1)
			fatal("cannot make a mailbox: %s", strerror(errno));
		server->mailbox[i].owner = fd[0];
		server->mailbox[i].others = fd[1];
	}
	if (socketpair(AF_UNIX, type, 0, fd) == -1)
		fatal("cannot make a mailbox: %s", strerror(errno));
	server->stream_mailbox.owner = fd[0];
	server->stream_mailbox.others = fd[1];
	set(fd[1], SOL_SOCKET, SO_SNDBUF, RECEIVE_BYTES);
#ifdef SO_SNDBUFFORCE
	set(fd[1], SOL_SOCKET, SO_SNDBUFFORCE, RECEIVE_BYTES);
#endif
	if (socketpair(AF_UNIX, type, 0, server->relay) == -1)
		fatal("cannot make the log's socket: %s", strerror(errno));
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
	send(server->mailbox[worker].others, "", 1,
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
