/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The replies of a worker: out of the one value that is the answer to a
 * question, each client that waits for it gets its own, made for what it asked
 * and sent the way it came.  A UDP reply leaves by the listener's socket, a TCP
 * reply goes to the stream.  A waiter is marked when its reply is sent, so
 * that whoever goes on after a death replies to the rest.
 */

#include <sys/socket.h>

#include <errno.h>
#include <string.h>

#include "answer.h"
#include "dns.h"
#include "fault.h"
#include "log.h"
#include "mono.h"
#include "reply.h"
#include "server.h"
#include "stream.h"

/* The value, to be changed into what one client gets. */
static _Alignas(8) uint8_t own[ANSWER_FRONT + ANSWER_VALUE_MAX + ANSWER_SPARE];

static bool	reply_one(const struct server *, struct metrics *, uint32_t,
		    const struct pending_waiter *, const uint8_t *, size_t);
static size_t	reply_to(const struct server *, uint32_t,
		    const struct pending_waiter *, const uint8_t *, size_t,
		    uint8_t **);
static bool	send_reply(const struct server *, struct metrics *,
		    const struct pending_waiter *, uint8_t *, size_t);
static bool	is_stream(const struct server *,
		    const struct pending_waiter *);

bool
reply_all(const struct server *server, struct metrics *metrics,
    uint32_t index, const uint8_t *value, size_t len)
{
	struct pending *pending = server->pending;
	uint32_t at = 0;

	while ((at = pending_next(pending, index, at)) != 0) {
		if (!reply_one(server, metrics, index,
		    pending_waiter(pending, at), value, len))
			return (false);
		FAULT("worker.replied");
		pending_mark(pending, at);
	}
	return (true);
}

void
reply_streams(const struct server *server, struct metrics *metrics,
    uint32_t index, const uint8_t *value, size_t len, enum metric reason)
{
	struct pending *pending = server->pending;
	const struct pending_waiter *waiter;
	uint32_t at = 0;

	while ((at = pending_next(pending, index, at)) != 0) {
		waiter = pending_waiter(pending, at);
		if (!is_stream(server, waiter))
			metrics_add(metrics, reason, 1);
		else if (!reply_one(server, metrics, index, waiter, value,
		    len))
			break;
		pending_mark(pending, at);
	}
}

static bool
reply_one(const struct server *server, struct metrics *metrics,
    uint32_t index, const struct pending_waiter *waiter, const uint8_t *value,
    size_t len)
{
	uint8_t *reply;

	len = reply_to(server, index, waiter, value, len, &reply);
	return (send_reply(server, metrics, waiter, reply, len));
}

/* Make one waiter's reply out of value.  Returns its length. */
static size_t
reply_to(const struct server *server, uint32_t index,
    const struct pending_waiter *waiter, const uint8_t *value, size_t len,
    uint8_t **reply)
{
	static uint8_t name[DNS_NAME_MAX];
	const uint8_t *key;
	size_t key_len, made;
	struct dns_query query = {
		.name = name,
		.id = waiter->id,
		.flags = waiter->flags,
		.class = DNS_CLASS_IN,
		.edns = waiter->edns,
		.edns_size = waiter->edns_size,
		.dnssec_ok = waiter->dnssec_ok,
	};

	key = pending_key(server->pending, index, &key_len);
	query.name_len = dns_key_name_len(key_len);
	query.type = dns_key_type(key, key_len);
	memcpy(name, key, query.name_len);
	dns_case_restore(waiter->name_case, name, query.name_len);
	memcpy(own + ANSWER_FRONT, value, len);
	made = answer_write(own + ANSWER_FRONT, len, len, &query,
	    is_stream(server, waiter) ? DNS_MESSAGE_MAX :
	    answer_udp_limit(&query), mono_boot_ms(), reply);
	if (made == 0) {
		*reply = own;
		made = dns_error_write(own, sizeof(own), &query,
		    DNS_RCODE_SERVFAIL, 0);
	}
	return (made);
}

static bool
is_stream(const struct server *server, const struct pending_waiter *waiter)
{
	return (waiter->socket >= server->sockets);
}

/* False: not now; the stream has much to do. */
static bool
send_reply(const struct server *server, struct metrics *metrics,
    const struct pending_waiter *waiter, uint8_t *reply, size_t len)
{
	const struct server_socket *socket;
	struct sockaddr_storage ss;
	struct server_control control;
	struct iovec iov = { .iov_base = reply, .iov_len = len };
	struct msghdr msg = { .msg_name = &ss, .msg_iov = &iov,
	    .msg_iovlen = 1 };

	if (is_stream(server, waiter))
		return (stream_hand_reply(server, waiter, reply, len) == 0);
	socket = &server->socket[waiter->socket];
	msg.msg_namelen = addr_to_sockaddr(&waiter->client, socket->family,
	    &ss);
	server_set_local(&msg, &control, socket->family, &waiter->local);
	if (sendmsg(socket->fd, &msg, MSG_DONTWAIT) == -1) {
		metrics_add(metrics, METRIC_WRITE_ERRORS, 1);
		metrics_add(metrics, METRIC_DROP_WRITE, 1);
		log_debug("reply not sent: %s", strerror(errno));
	} else
		metrics_add(metrics, METRIC_REPLIES, 1);
	return (true);
}
