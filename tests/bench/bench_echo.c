/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The limit: a server that does nothing but receive a query and send it back
 * as an answer, with the one record that a true answer has.  No parsing, no
 * cache, no check of anything.  What it costs is what the kernel costs, and
 * no server that makes the same system calls can cost less.
 *
 *	bench_echo -port n [-processes n] [-plain]
 *
 * Each process has a socket of its own (SO_REUSEPORT) and takes up to 32
 * datagrams at a time, those that have come, without waiting for more; -plain
 * is one system call for one datagram.  It ends with SIGTERM, or when the
 * process that started it ends.
 */

#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <sys/wait.h>

#include <netinet/in.h>

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "dns.h"
#include "wire.h"

#define BATCH		32
#define PACKET_MAX	512
#define PROCESSES_MAX	64

static struct sockaddr_in	 clients[BATCH];
static uint8_t			 packets[BATCH][PACKET_MAX];
static struct iovec		 iov[BATCH];
static struct mmsghdr		 msgs[BATCH];

static void	 die_with(pid_t);
static void	 serve(int, bool) __attribute__((__noreturn__));
static void	 serve_batch(int);
static void	 serve_one(int);
static size_t	 answer(uint8_t *, size_t);
static void	 usage(void) __attribute__((__noreturn__));

int
main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "port", required_argument, NULL, 'p' },
		{ "processes", required_argument, NULL, 'n' },
		{ "plain", no_argument, NULL, 'l' },
		{ NULL, 0, NULL, 0 }
	};
	uint16_t port = 0;
	unsigned i, processes = 1;
	bool plain = false;
	pid_t self = getpid();
	int ch, fd;

	while ((ch = getopt_long_only(argc, argv, "", options, NULL)) != -1) {
		switch (ch) {
		case 'p':
			port = wire_number(optarg, 1024, 65535);
			break;
		case 'n':
			processes = wire_number(optarg, 1, PROCESSES_MAX);
			break;
		case 'l':
			plain = true;
			break;
		default:
			usage();
		}
	}
	if (port == 0 || optind != argc)
		usage();
	die_with(getppid());
	for (i = 1; i < processes; i++) {
		fd = wire_listen(port);
		switch (fork()) {
		case -1:
			err(1, "fork");
		case 0:
			die_with(self);
			serve(fd, plain);
		}
		close(fd);
	}
	serve(wire_listen(port), plain);
}

static void
usage(void)
{
	warnx("usage: bench_echo -port n [-processes n] [-plain]");
	exit(2);
}

static void
die_with(pid_t parent)
{
	if (prctl(PR_SET_PDEATHSIG, SIGTERM) == -1)
		err(1, "prctl");
	if (getppid() != parent)
		_exit(1);
}

static void
serve(int fd, bool plain)
{
	unsigned i;

	for (i = 0; i < BATCH; i++) {
		iov[i].iov_base = packets[i];
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
		msgs[i].msg_hdr.msg_name = &clients[i];
	}
	for (;;) {
		if (plain)
			serve_one(fd);
		else
			serve_batch(fd);
	}
}

static void
serve_batch(int fd)
{
	int i, n, sent;

	for (i = 0; i < BATCH; i++) {
		iov[i].iov_len = PACKET_MAX - WIRE_ANSWER_LEN;
		msgs[i].msg_hdr.msg_namelen = sizeof(clients[i]);
	}
	n = recvmmsg(fd, msgs, BATCH, MSG_WAITFORONE, NULL);
	if (n == -1) {
		if (errno == EINTR)
			return;
		err(1, "recvmmsg");
	}
	for (i = 0; i < n; i++)
		iov[i].iov_len = answer(packets[i], msgs[i].msg_len);
	/* One that can't be sent is left out. */
	for (i = 0; i < n; i += sent > 0 ? sent : 1)
		sent = sendmmsg(fd, msgs + i, n - i, 0);
}

static void
serve_one(int fd)
{
	struct msghdr *msg = &msgs[0].msg_hdr;
	ssize_t n;

	iov[0].iov_len = PACKET_MAX - WIRE_ANSWER_LEN;
	msg->msg_namelen = sizeof(clients[0]);
	n = recvmsg(fd, msg, 0);
	if (n == -1) {
		if (errno == EINTR)
			return;
		err(1, "recvmsg");
	}
	iov[0].iov_len = answer(packets[0], n);
	sendmsg(fd, msg, 0);
}

/* Make an answer of a query as the bench asks it.  Returns its length. */
static size_t
answer(uint8_t *buf, size_t len)
{
	if (len < DNS_HEADER_LEN + 5)
		return (len);
	dns_put16(buf + 2, DNS_FLAG_QR | DNS_FLAG_RD | DNS_FLAG_RA);
	dns_put16(buf + 6, 1);
	wire_answer_append(buf, len, len - DNS_HEADER_LEN - 4, WIRE_TTL);
	return (len + WIRE_ANSWER_LEN);
}
