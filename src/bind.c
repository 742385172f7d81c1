/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The listening sockets: bound by the master before it forks, and kept open by
 * it, so that what is queued on one waits there when its listener dies.  What
 * an image before this one had bound is taken over; a port that another
 * server has is told with its likely owner.
 */

#include <sys/socket.h>

#include <netinet/in.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "bind.h"
#include "log.h"

#define RECEIVE_BYTES	(4 << 20)	/* the kernel's own is 256 queries */
#define BACKLOG		1024
#define BIND_TRIES	50	/* of 10 ms, while the port is in use */

static int	take_socket(const struct restart *, const struct addr *, int);
static int	bind_patiently(const struct addr *,
		    int (*)(const struct addr *));
static int	bind_first(const struct addr *);
static int	open_shared(const struct addr *);
static int	open_stream(const struct addr *);
static int	open_socket(const struct addr *, int, bool);
static int	try_socket(const struct addr *, int, int, bool);
static void	set_socket(int, int, bool);
static void	set(int, int, int, int);
static int	family_of(int);
static bool	is_bound(const struct server *, const struct addr *, bool);
static const char *bind_error(const struct addr *);

void
bind_count(struct server *server)
{
	const struct options *options = &server->options;
	unsigned each = options->listeners;

	if (each == 0)
		each = server_processors();
	server->sockets = options->listen.count * each;
	server->streams = options->tcp ? STREAMS : 0;
}

void
bind_all(struct server *server, const struct restart *taken)
{
	const struct options *options = &server->options;
	const struct addr *addr;
	struct server_socket *s;
	unsigned each, i, k;

	bind_count(server);
	each = server->sockets / options->listen.count;
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
				s->fd = k == 0 ? bind_patiently(addr,
				    bind_first) : open_shared(addr);
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
			server->stream_socket[i] = bind_patiently(addr,
			    open_stream);
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
 * The children of a daemon that was killed still hold its ports for the moment
 * that they take to die.
 */
static int
bind_patiently(const struct addr *addr, int (*bind_it)(const struct addr *))
{
	static const struct timespec pause = { .tv_nsec = 10000000 };
	int fd, i;

	for (i = 0; i < BIND_TRIES; i++) {
		fd = bind_it(addr);
		if (fd != -1 || errno != EADDRINUSE)
			break;
		nanosleep(&pause, NULL);
	}
	return (fd);
}

static int
open_shared(const struct addr *addr)
{
	return (open_socket(addr, SOCK_DGRAM, true));
}

/*
 * SO_REUSEPORT would let us in beside another server of the same user: ask
 * first whether the port is free.
 */
static int
bind_first(const struct addr *addr)
{
	int fd;

	if ((fd = open_socket(addr, SOCK_DGRAM, false)) == -1)
		return (-1);
	close(fd);
	return (open_shared(addr));
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

static int
family_of(int fd)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof(ss);

	getsockname(fd, (struct sockaddr *)&ss, &len);
	return (ss.ss_family);
}

int
bind_more(const struct server *server, const struct options *options,
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
			    bind_first(addr);
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
