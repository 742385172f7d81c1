/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What every child does first, between its fork and its work: it lets go of
 * what is not its own, and of its power.  From there on it has the sockets,
 * the segment and the mailboxes that it needs, and nothing else.
 */

#include <sys/socket.h>

#include <signal.h>
#include <stdbool.h>
#include <unistd.h>

#include "child.h"
#include "listener.h"
#include "log.h"
#include "privileges.h"
#include "server.h"
#include "stream.h"
#include "worker.h"

static void	close_mailboxes(const struct server *, unsigned);

void
child_run(const struct server *server, unsigned index, const char *title)
{
	struct slot *slot = &server->slots[index];
	unsigned first_worker = server->sockets + server->streams;

	close_mailboxes(server, index);
	close(server->relay[0]);
	log_open_relay(server->relay[1]);
	signal(SIGCHLD, SIG_DFL);
	signal(SIGHUP, SIG_IGN);
	signal(SIGINT, SIG_IGN);
	signal(SIGUSR1, SIG_IGN);
	setproctitle("%s", title);
	privileges_drop(&server->privileges, server->master);
	slot_works(slot);
	slot->state = SLOT_RUNNING;
	send(server->relay[1], "\377", 1, MSG_DONTWAIT);
	if (index < server->sockets)
		listener_run(server, index);
	else if (index < first_worker)
		stream_run(server, index - server->sockets);
	else
		worker_run(server, index - first_worker);
	_exit(0);
}

/*
 * Keep but what is this child's to read or to write.  Who takes over one
 * worker shall not have the others' mail; and who looks through all that is
 * open on a machine, as monitors do, is not to find each mailbox in each of
 * hundreds of processes.
 */
static void
close_mailboxes(const struct server *server, unsigned index)
{
	unsigned first_worker = server->sockets + server->streams, i;
	bool worker = index >= first_worker;

	for (i = 0; i < server->workers; i++) {
		if (first_worker + i != index)
			close(server->mailbox[i].end[MAIL_OWNER]);
		if (worker)
			close(server->mailbox[i].end[MAIL_OTHERS]);
	}
	for (i = 0; i < STREAMS; i++) {
		if (server->sockets + i != index)
			close(server->stream_mailbox[i].end[MAIL_OWNER]);
	}
	for (i = 0; worker && server->streams != 0 &&
	    i < server->options.listen.count; i++)
		close(server->stream_socket[i]);
}
