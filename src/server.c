/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What every process does with what it inherited: find its slot, look in the
 * cache, ring a worker, and have a reply leave from the address that was
 * asked; and how many processors there are for it all.
 */

#include <sys/socket.h>

#include <netinet/in.h>

#include <sched.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "dns.h"
#include "server.h"
#include "siphash.h"

unsigned
server_processors(void)
{
#ifdef CPU_COUNT
	cpu_set_t set;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (CPU_COUNT(&set));
#endif
	return (sysconf(_SC_NPROCESSORS_ONLN));
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
server_stream_slot(const struct server *server, unsigned stream)
{
	return (&server->slots[server->sockets + stream]);
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
