/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * Socket addresses as people write them and as the program keeps them.  No
 * name is ever resolved here: an address is digits.  An IPv4 address that
 * comes in IPv6 clothes (::ffff:192.0.2.1) is kept as IPv4, so that there is
 * one form of each.
 */

#include <arpa/inet.h>
#include <net/if.h>

#include <ifaddrs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"

static const char	*port_parse(uint16_t *, const char *);
static const char	*ip_parse(struct addr *, const char *);
static void		 ip_unmap(struct addr *);
static const char	*ip_print(char [ADDR_TEXT_MAX], const struct addr *);
static unsigned		 ip_bits(const struct addr *);
static bool		 is_local(const struct addr *);

const char *
addr_parse(struct addr *addr, const char *text, uint16_t default_port)
{
	char host[ADDR_TEXT_MAX];
	const char *port = NULL, *end, *error;
	size_t len;

	memset(addr, 0, sizeof(*addr));
	if (text[0] == '[') {
		end = strchr(text, ']');
		if (end == NULL)
			return ("missing ]");
		if (end[1] != '\0' && end[1] != ':')
			return ("only :port may follow ]");
		port = end[1] == ':' ? end + 2 : NULL;
		len = end - ++text;
	} else {
		/* Two colons without brackets are an IPv6 address, bare. */
		end = strchr(text, ':');
		if (end != NULL && strchr(end + 1, ':') == NULL)
			port = end + 1;
		else
			end = NULL;
		len = end == NULL ? strlen(text) : (size_t)(end - text);
	}
	if (len >= sizeof(host))
		return ("not an IP address");
	memcpy(host, text, len);
	host[len] = '\0';

	if (port == NULL) {
		if (len == 0)
			return ("empty");
		if (default_port == 0)
			return ("a port is missing");
		addr->port = default_port;
	} else if ((error = port_parse(&addr->port, port)) != NULL)
		return (error);
	if (len == 0 && text[0] == ':')
		return (NULL);		/* AF_UNSPEC: every address */
	return (ip_parse(addr, host));
}

static const char *
port_parse(uint16_t *port, const char *text)
{
	const char *error;

	*port = strtonum(text, 1, 65535, &error);
	return (error == NULL ? NULL : "the port must be 1 to 65535");
}

/* "192.0.2.1", "2001:db8::1" or "fe80::1%eth0". */
static const char *
ip_parse(struct addr *addr, const char *text)
{
	char ip[ADDR_TEXT_MAX], *zone;

	strlcpy(ip, text, sizeof(ip));
	if ((zone = strchr(ip, '%')) != NULL)
		*zone++ = '\0';
	if (zone == NULL && inet_pton(AF_INET, ip, addr->ip) == 1) {
		addr->family = AF_INET;
		return (NULL);
	}
	if (inet_pton(AF_INET6, ip, addr->ip) != 1)
		return ("not an IP address (names are not looked up)");
	addr->family = AF_INET6;
	if (zone != NULL && (addr->scope = if_nametoindex(zone)) == 0)
		return ("no such interface");
	ip_unmap(addr);
	return (NULL);
}

static void
ip_unmap(struct addr *addr)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

	if (memcmp(addr->ip, mapped, sizeof(mapped)) != 0)
		return;
	addr->family = AF_INET;
	memmove(addr->ip, addr->ip + 12, 4);
	memset(addr->ip + 4, 0, 12);
}

const char *
addr_prefix_parse(struct addr_prefix *prefix, const char *text)
{
	char ip[ADDR_TEXT_MAX], *slash;
	const char *error;

	memset(prefix, 0, sizeof(*prefix));
	if (strcmp(text, "any") == 0)
		return (NULL);		/* AF_UNSPEC: matches all */
	if (strlcpy(ip, text, sizeof(ip)) >= sizeof(ip))
		return ("not an IP address");
	if ((slash = strchr(ip, '/')) != NULL)
		*slash++ = '\0';
	if ((error = ip_parse(&prefix->addr, ip)) != NULL)
		return (error);
	prefix->bits = ip_bits(&prefix->addr);
	if (slash == NULL)
		return (NULL);
	prefix->bits = strtonum(slash, 0, prefix->bits, &error);
	return (error == NULL ? NULL : "the prefix length is out of range");
}

static unsigned
ip_bits(const struct addr *addr)
{
	return (addr->family == AF_INET ? 32 : 128);
}

bool
addr_prefix_match(const struct addr_prefix *prefix, const struct addr *addr)
{
	unsigned bytes = prefix->bits / 8, rest = prefix->bits % 8;

	if (prefix->addr.family == AF_UNSPEC)
		return (true);
	if (prefix->addr.family != addr->family ||
	    memcmp(prefix->addr.ip, addr->ip, bytes) != 0)
		return (false);
	return (rest == 0 ||
	    (prefix->addr.ip[bytes] ^ addr->ip[bytes]) >> (8 - rest) == 0);
}

static const char *
ip_print(char dst[ADDR_TEXT_MAX], const struct addr *addr)
{
	char zone[IF_NAMESIZE];
	size_t len;

	if (addr->family == AF_UNSPEC) {
		dst[0] = '\0';
		return (dst);
	}
	inet_ntop(addr->family, addr->ip, dst, ADDR_TEXT_MAX);
	if (addr->scope != 0 && if_indextoname(addr->scope, zone) != NULL) {
		len = strlen(dst);
		snprintf(dst + len, ADDR_TEXT_MAX - len, "%%%s", zone);
	}
	return (dst);
}

const char *
addr_print(char dst[ADDR_TEXT_MAX], const struct addr *addr)
{
	char ip[ADDR_TEXT_MAX];

	ip_print(ip, addr);
	if (addr->family == AF_INET6)
		snprintf(dst, ADDR_TEXT_MAX, "[%.60s]:%u", ip, addr->port);
	else
		snprintf(dst, ADDR_TEXT_MAX, "%.60s:%u", ip, addr->port);
	return (dst);
}

const char *
addr_prefix_print(char dst[ADDR_TEXT_MAX], const struct addr_prefix *prefix)
{
	size_t len;

	if (prefix->addr.family == AF_UNSPEC) {
		strlcpy(dst, "any", ADDR_TEXT_MAX);
		return (dst);
	}
	ip_print(dst, &prefix->addr);
	len = strlen(dst);
	if (prefix->bits != ip_bits(&prefix->addr))
		snprintf(dst + len, ADDR_TEXT_MAX - len, "/%u", prefix->bits);
	return (dst);
}

bool
addr_equal(const struct addr *a, const struct addr *b)
{
	return (a->family == b->family && a->port == b->port &&
	    a->scope == b->scope &&
	    memcmp(a->ip, b->ip, sizeof(a->ip)) == 0);
}

bool
addr_is_any(const struct addr *addr)
{
	static const struct addr any;

	return (memcmp(addr->ip, any.ip, sizeof(any.ip)) == 0);
}

bool
addr_is_loopback(const struct addr *addr)
{
	static const uint8_t loopback[16] = { [15] = 1 };

	if (addr->family == AF_INET)
		return (addr->ip[0] == 127);
	return (memcmp(addr->ip, loopback, sizeof(loopback)) == 0);
}

bool
addr_reaches(const struct addr *addr, const struct addr *listen)
{
	if (addr->port != listen->port)
		return (false);
	if (listen->family == AF_UNSPEC ||
	    (listen->family == addr->family && addr_is_any(listen)))
		return (is_local(addr));
	return (addr_same_ip(addr, listen));
}

static bool
is_local(const struct addr *addr)
{
	struct ifaddrs *list, *at;
	struct addr local;
	bool found = addr_is_loopback(addr);

	if (getifaddrs(&list) == -1)
		return (found);
	for (at = list; at != NULL && !found; at = at->ifa_next) {
		if (at->ifa_addr == NULL ||
		    (at->ifa_addr->sa_family != AF_INET &&
		    at->ifa_addr->sa_family != AF_INET6))
			continue;
		addr_from_sockaddr(&local, (void *)at->ifa_addr);
		found = addr_same_ip(addr, &local);
	}
	freeifaddrs(list);
	return (found);
}

bool
addr_same_ip(const struct addr *a, const struct addr *b)
{
	return (a->family == b->family &&
	    memcmp(a->ip, b->ip, sizeof(a->ip)) == 0);
}

socklen_t
addr_to_sockaddr(const struct addr *addr, int socket_family,
    struct sockaddr_storage *ss)
{
	struct sockaddr_in *sin = (struct sockaddr_in *)ss;
	struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ss;

	memset(ss, 0, sizeof(*sin6));
	if (socket_family == AF_INET) {
		sin->sin_family = AF_INET;
		sin->sin_port = htons(addr->port);
		memcpy(&sin->sin_addr, addr->ip, 4);
		return (sizeof(*sin));
	}
	sin6->sin6_family = AF_INET6;
	sin6->sin6_port = htons(addr->port);
	sin6->sin6_scope_id = addr->scope;
	if (addr->family == AF_INET) {
		memset(sin6->sin6_addr.s6_addr + 10, 0xff, 2);
		memcpy(sin6->sin6_addr.s6_addr + 12, addr->ip, 4);
	} else
		memcpy(&sin6->sin6_addr, addr->ip, 16);
	return (sizeof(*sin6));
}

void
addr_from_sockaddr(struct addr *addr, const struct sockaddr_storage *ss)
{
	const struct sockaddr_in *sin = (const struct sockaddr_in *)ss;
	const struct sockaddr_in6 *sin6 = (const struct sockaddr_in6 *)ss;

	memset(addr, 0, sizeof(*addr));
	addr->family = ss->ss_family;
	if (ss->ss_family == AF_INET) {
		addr->port = ntohs(sin->sin_port);
		memcpy(addr->ip, &sin->sin_addr, 4);
	} else {
		addr->port = ntohs(sin6->sin6_port);
		addr->scope = sin6->sin6_scope_id;
		memcpy(addr->ip, &sin6->sin6_addr, 16);
		ip_unmap(addr);
	}
}
