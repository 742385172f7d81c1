/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef ADDR_H
#define ADDR_H

#include <sys/socket.h>

#include <netinet/in.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define ADDR_TEXT_MAX	72	/* [address%interface]:port */

/* An IPv4 or IPv6 address with a port; IPv4-mapped ones are kept as IPv4. */
struct addr {
	uint8_t		 ip[16];	/* network order; IPv4: the first 4 */
	uint32_t	 scope;		/* interface index, link-local only */
	uint16_t	 port;		/* host order */
	uint16_t	 family;	/* AF_INET, AF_INET6 or AF_UNSPEC: any */
};

struct addr_prefix {
	struct addr	 addr;
	unsigned	 bits;
};

/*
 * Parse "1.2.3.4:53", "[::1]:53", "[fe80::1%eth0]:53", "1.2.3.4", "::1" or
 * ":53", which is every address, AF_UNSPEC.  default_port stands where the
 * text has none; 0: the text must have one.  Returns NULL, or what is wrong
 * (a string that is not to be freed).
 */
const char *addr_parse(struct addr *addr, const char *text,
	    uint16_t default_port);

/* Parse "10.0.0.0/8", "::1" or "any".  Returns as addr_parse(). */
const char *addr_prefix_parse(struct addr_prefix *prefix, const char *text);
bool	 addr_prefix_match(const struct addr_prefix *prefix,
	    const struct addr *addr);

/* Print into dst, which is returned. */
const char *addr_print(char dst[ADDR_TEXT_MAX], const struct addr *addr);
const char *addr_prefix_print(char dst[ADDR_TEXT_MAX],
	    const struct addr_prefix *prefix);

/* Equal in address, port and scope. */
bool	 addr_equal(const struct addr *a, const struct addr *b);
bool	 addr_is_loopback(const struct addr *addr);

/* Equal but for the port. */
bool	 addr_same_ip(const struct addr *a, const struct addr *b);

/* A wildcard: AF_UNSPEC, 0.0.0.0 or ::. */
bool	 addr_is_any(const struct addr *addr);

/*
 * Would what is sent to addr from this machine come to a socket that listens
 * on listen, which may be a wildcard?
 */
bool	 addr_reaches(const struct addr *addr, const struct addr *listen);

/*
 * To and from the socket interface.  addr_to_sockaddr() returns the length;
 * for a socket of family AF_INET6 an IPv4 address becomes a mapped one.
 */
socklen_t addr_to_sockaddr(const struct addr *addr, int socket_family,
	    struct sockaddr_storage *ss);
void	 addr_from_sockaddr(struct addr *addr,
	    const struct sockaddr_storage *ss);

#endif
