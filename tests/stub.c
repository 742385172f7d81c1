/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The stub upstream: a DNS server for tests that knows every name and can be
 * told to misbehave.  The data of a name follow from its lower-case wire form
 * and the type alone, so that an answer can be checked by asking the stub
 * itself.  Names in record data are compressed where RFC 3597 4 allows it.
 *
 * The labels that a name begins with are commands as long as they are of
 * this list; N is a number, brackets mark what may be left out:
 *
 *	ttl-N		TTL of the records (300)
 *	cname[-N]	a chain of N (2) CNAMEs before them
 *	cttl-N		TTL of the CNAMEs (300)
 *	nx, nodata	NXDOMAIN or no data, with an SOA; after a CNAME too
 *	soattl-N	TTL (300) of that SOA
 *	soamin-N	minimum (60) of that SOA
 *	nosoa		no SOA
 *	ad		AD set
 *	servfail, refused, notimp, formerr
 *			that rcode, always
 *	noedns[-bare|-notimp]
 *			FORMERR to a query with an OPT: with the question, as
 *			a bare header, or NOTIMP instead
 *	delay-N		the reply comes after N ms
 *	silent		no reply
 *	dropfirst-N	no reply to the first N queries of this question
 *	big-N		a message of N bytes
 *	tc		truncated over UDP
 *	wrongid, wrongquestion, wrongtype, wrongcase, wrongsource, garbage,
 *	query		over UDP, before the reply, one that is not the reply
 *			but for this and holds other data; `query' has QR clear
 *	wrongid-once	the same, and the first time no true reply
 *	wrongid-only	the same, and never a true reply over UDP
 *	flat		the question in lower case
 *	tcpclose	over TCP, end of file instead of a reply
 *	tcplong		a length that is too high, then end of file
 *	tcpshort	a length that is too low
 *	tcpstall	half of the message, and no more
 *	tcpsplit	the message in three pieces
 *
 * What else stands in a name is only a name.  So "delay-300.cname.nx.a.test"
 * is a CNAME chain to a name that isn't there, 300 ms late.
 *
 * A reply over UDP that is larger than what the query's OPT allows (512 bytes
 * without one) is truncated.  A query with DO set gets an RRSIG with the
 * records.  A query with an OPT gets one in the reply, its last record.
 */

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#ifdef HAVE_SYS_PRCTL_H
#include <sys/prctl.h>
#endif

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "dns.h"
#include "stub.h"

#define CONNECTIONS	256	/* open at once */
#define MESSAGE_MAX	65535
#define TICK_MS		20	/* how soon a switched TCP is seen */
#define POINTER(at)	(0xc000 | (at))

/* What the commands of a name say. */
struct plan {
	uint32_t	 ttl;
	uint32_t	 cnames;
	uint32_t	 cname_ttl;
	uint32_t	 soa_ttl;
	uint32_t	 soa_minimum;
	uint32_t	 no_soa;
	uint32_t	 no_data;
	uint32_t	 ad;
	uint32_t	 rcode;
	uint32_t	 no_edns;
	uint32_t	 delay_ms;
	uint32_t	 silent;
	uint32_t	 drop_first;
	uint32_t	 big;
	uint32_t	 truncate;
	uint32_t	 flat;
	uint32_t	 tcp_fault;
	uint32_t	 forge[7];	/* by enum forgery */
};

enum forgery {
	FORGE_ID,
	FORGE_QUESTION,
	FORGE_TYPE,
	FORGE_CASE,
	FORGE_SOURCE,
	FORGE_GARBAGE,
	FORGE_QUERY,
	FORGE_NONE
};

/* The words that may stand in the place of a number. */
enum word {
	WORD_ONCE = 2,
	WORD_ONLY,
	WORD_BARE,
	WORD_NOTIMP
};

enum tcp_fault {
	TCP_FINE,
	TCP_CLOSE,
	TCP_LONG,
	TCP_SHORT,
	TCP_STALL,
	TCP_SPLIT
};

#define COMMAND(name, member, value) \
	{ name, offsetof(struct plan, member), value }

/* What each command sets, and to what where it has no argument. */
static const struct command {
	const char	*name;
	size_t		 member;
	uint32_t	 value;
} commands[] = {
	COMMAND("ttl", ttl, 300),
	COMMAND("cname", cnames, 2),
	COMMAND("cttl", cname_ttl, 300),
	COMMAND("nx", rcode, DNS_RCODE_NXDOMAIN),
	COMMAND("nodata", no_data, 1),
	COMMAND("soattl", soa_ttl, 300),
	COMMAND("soamin", soa_minimum, 60),
	COMMAND("nosoa", no_soa, 1),
	COMMAND("ad", ad, 1),
	COMMAND("servfail", rcode, DNS_RCODE_SERVFAIL),
	COMMAND("refused", rcode, DNS_RCODE_REFUSED),
	COMMAND("notimp", rcode, DNS_RCODE_NOTIMP),
	COMMAND("formerr", rcode, DNS_RCODE_FORMERR),
	COMMAND("noedns", no_edns, 1),
	COMMAND("delay", delay_ms, 100),
	COMMAND("silent", silent, 1),
	COMMAND("dropfirst", drop_first, 1),
	COMMAND("big", big, 4096),
	COMMAND("tc", truncate, 1),
	COMMAND("flat", flat, 1),
	COMMAND("wrongid", forge[FORGE_ID], 1),
	COMMAND("wrongquestion", forge[FORGE_QUESTION], 1),
	COMMAND("wrongtype", forge[FORGE_TYPE], 1),
	COMMAND("wrongcase", forge[FORGE_CASE], 1),
	COMMAND("wrongsource", forge[FORGE_SOURCE], 1),
	COMMAND("garbage", forge[FORGE_GARBAGE], 1),
	COMMAND("query", forge[FORGE_QUERY], 1),
	COMMAND("tcpclose", tcp_fault, TCP_CLOSE),
	COMMAND("tcplong", tcp_fault, TCP_LONG),
	COMMAND("tcpshort", tcp_fault, TCP_SHORT),
	COMMAND("tcpstall", tcp_fault, TCP_STALL),
	COMMAND("tcpsplit", tcp_fault, TCP_SPLIT)
};

static const struct {
	const char	*text;
	uint16_t	 type;
} types[] = {
	{ "A", 1 }, { "NS", 2 }, { "CNAME", 5 }, { "SOA", 6 }, { "PTR", 12 },
	{ "MX", 15 }, { "TXT", 16 }, { "AAAA", 28 }, { "SRV", 33 },
	{ "NAPTR", 35 }, { "OPT", 41 }, { "DS", 43 }, { "RRSIG", 46 },
	{ "DNSKEY", 48 }, { "SVCB", 64 }, { "HTTPS", 65 }, { "ANY", 255 },
	{ "CAA", 257 }
};

/* A query, as far as it can be parsed. */
struct question {
	const uint8_t	*msg;
	size_t		 name_len;
	uint16_t	 id;
	uint16_t	 flags;
	uint16_t	 type;
	uint16_t	 class;
	bool		 edns;
	bool		 dnssec_ok;
	uint16_t	 edns_size;
	uint8_t		 lower[DNS_NAME_MAX];
};

/* A message being written.  What goes beyond max sets full. */
struct packet {
	size_t		 len;
	size_t		 max;
	bool		 full;
	uint8_t		 buf[MESSAGE_MAX + 2];
};

/* Where a reply goes: a client of the UDP socket, or a connection. */
struct route {
	struct sockaddr_storage	 ss;
	socklen_t		 ss_len;
	int			 connection;	/* index; -1: UDP */
	uint64_t		 serial;	/* of the connection */
};

struct later {
	struct later	*next;
	uint64_t	 due_us;
	struct route	 route;
	size_t		 len;
	uint8_t		 query[];
};

struct connection {
	int		 fd;		/* -1: free */
	uint64_t	 serial;
	uint8_t		 in[2 + STUB_QUERY_MAX];
	size_t		 got;
	uint8_t		*out;		/* NULL: nothing to send */
	size_t		 out_len;
	size_t		 sent;
	size_t		 piece;		/* send no more than this at once */
	bool		 close_after;
};

struct server {
	struct stub		*stub;
	struct addr		 addr;
	int			 udp;
	int			 other;		/* the source that is wrong */
	int			 tcp;		/* -1: refused */
	uint64_t		 serial;
	struct later		*later;
	struct connection	 connection[CONNECTIONS];
};

static struct stub *map_stub(void);
static int	 open_socket(const struct addr *, int);
static int	 bind_all(struct server *, const char *, uint16_t);
static void	 serve(struct server *) __attribute__((__noreturn__));
static void	 quit(int);
static void	 switch_tcp(struct server *);
static int	 wait_ms(const struct server *);
static void	 run_later(struct server *);
static void	 receive_udp(struct server *);
static void	 accept_tcp(struct server *);
static void	 read_tcp(struct server *, int);
static void	 write_tcp(struct server *, int);
static void	 close_tcp(struct server *, int);
static void	 handle(struct server *, const uint8_t *, size_t,
	    const struct route *);
static void	 reply(struct server *, const uint8_t *, size_t,
	    const struct route *);
static void	 reply_tcp(struct server *, const struct route *,
	    const struct plan *, const struct packet *);
static void	 send_udp(int, const struct route *, const struct packet *);
static bool	 forge(struct server *, const struct plan *,
	    const struct question *, const struct route *, uint32_t);
static bool	 parse_query(const uint8_t *, size_t, struct question *);
static void	 parse_plan(const struct stub *, const struct question *,
	    struct plan *);
static bool	 parse_command(const uint8_t *, size_t, struct plan *);
static void	 build(struct packet *, const struct question *,
	    const struct plan *, uint64_t, bool);
static void	 build_sections(struct packet *, const struct question *,
	    const struct plan *, unsigned, uint64_t);
static void	 build_big(struct packet *, const struct question *,
	    const struct plan *);
static void	 build_records(struct packet *, const struct question *,
	    uint32_t, uint16_t, uint16_t, uint64_t);
static void	 build_rdata(struct packet *, const struct question *, uint16_t,
	    unsigned, uint64_t);
static void	 build_soa(struct packet *, const struct question *,
	    const struct plan *);
static uint64_t	 hash_question(const uint8_t *, size_t, uint16_t, uint64_t);
static size_t	 lower_name(uint8_t [DNS_NAME_MAX], const char *);
static size_t	 find_name(const struct stub *, uint64_t);
static const struct stub_name *find_text(const struct stub *, const char *,
	    uint16_t);
static struct stub_name *name_of(struct stub *, const struct question *);

struct stub *
stub_start(const char *address, uint16_t port)
{
	struct server *server;
	struct stub *stub;
	pid_t pid, parent = getpid();

	if ((server = calloc(1, sizeof(*server))) == NULL)
		return (NULL);
	if ((stub = server->stub = map_stub()) == NULL)
		goto fail;
	if (bind_all(server, address, port) == -1)
		goto fail;
	if ((pid = fork()) == -1)
		goto fail;
	if (pid == 0) {
		stub_die_with(parent);
		serve(server);
	}
	stub->pid = pid;
	close(server->udp);
	close(server->other);
	close(server->tcp);
	free(server);
	return (stub);

fail:
	free(server);
	return (NULL);
}

void
stub_stop(struct stub *stub)
{
	if (stub == NULL)
		return;
	kill(stub->pid, SIGKILL);
	waitpid(stub->pid, NULL, 0);
	munmap(stub, sizeof(*stub));
}

int
stub_run(const char *address, uint16_t port,
    void (*started)(const struct stub *stub))
{
	struct server *server;

	if ((server = calloc(1, sizeof(*server))) == NULL)
		return (-1);
	if ((server->stub = map_stub()) == NULL ||
	    bind_all(server, address, port) == -1) {
		free(server);
		return (-1);
	}
	started(server->stub);
	serve(server);
}

void
stub_set_tcp(struct stub *stub, bool on)
{
	atomic_store(&stub->tcp, on);
	while (atomic_load(&stub->tcp_now) != on)
		poll(NULL, 0, 1);
}

uint32_t
stub_asked(const struct stub *stub, const char *name, uint16_t type)
{
	const struct stub_name *entry = find_text(stub, name, type);

	return (entry == NULL ? 0 : entry->udp + entry->tcp);
}

uint32_t
stub_asked_tcp(const struct stub *stub, const char *name, uint16_t type)
{
	const struct stub_name *entry = find_text(stub, name, type);

	return (entry == NULL ? 0 : entry->tcp);
}

size_t
stub_rdata(uint8_t buf[512], const char *name, uint16_t type)
{
	static struct packet packet;
	struct question question = { .type = type };

	question.name_len = lower_name(question.lower, name);
	packet.len = 0;
	packet.max = 512;
	packet.full = false;
	build_rdata(&packet, &question, type, 0, 0);
	memcpy(buf, packet.buf, packet.len);
	return (packet.len);
}

bool
stub_last(const struct stub *stub, unsigned back, struct stub_query *query)
{
	uint64_t logged = atomic_load(&stub->logged);

	if (back >= STUB_LOG || back >= logged)
		return (false);
	*query = stub->log[(logged - 1 - back) % STUB_LOG];
	return (true);
}

size_t
stub_name_write(uint8_t wire[255], const char *text)
{
	size_t label, len = 0;

	if (strcmp(text, ".") == 0)
		text++;
	while (*text != '\0') {
		label = strcspn(text, ".");
		if (label == 0 || label > 63 || len + label + 2 > 255)
			return (0);
		wire[len++] = label;
		memcpy(wire + len, text, label);
		len += label;
		text += label;
		if (*text == '.')
			text++;
	}
	wire[len++] = 0;
	return (len);
}

int
stub_type(const char *text)
{
	unsigned long number;
	char *end;
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (strcasecmp(text, types[i].text) == 0)
			return (types[i].type);
	if (strncasecmp(text, "TYPE", 4) != 0 || text[4] == '\0')
		return (-1);
	number = strtoul(text + 4, &end, 10);
	return (*end != '\0' || number > UINT16_MAX ? -1 : (int)number);
}

const char *
stub_type_text(uint16_t type)
{
	size_t i;

	for (i = 0; i < sizeof(types) / sizeof(types[0]); i++)
		if (types[i].type == type)
			return (types[i].text);
	return (NULL);
}

uint64_t
stub_now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ((uint64_t)ts.tv_sec * 1000000 + (uint64_t)ts.tv_nsec / 1000);
}

void
stub_die_with(pid_t parent)
{
#ifdef HAVE_SYS_PRCTL_H
	prctl(PR_SET_PDEATHSIG, SIGKILL);
#endif
	if (getppid() != parent)
		_exit(1);
}

static struct stub *
map_stub(void)
{
	void *at;

	at = mmap(NULL, sizeof(struct stub), PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	return (at == MAP_FAILED ? NULL : at);
}

static int
open_socket(const struct addr *addr, int kind)
{
	struct sockaddr_storage ss;
	socklen_t len;
	int fd, on = 1;

	if ((fd = socket(addr->family, kind, 0)) == -1)
		return (-1);
	fcntl(fd, F_SETFD, FD_CLOEXEC);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	if (kind == SOCK_STREAM)
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	len = addr_to_sockaddr(addr, addr->family, &ss);
	if (bind(fd, (struct sockaddr *)&ss, len) == -1 ||
	    (kind == SOCK_STREAM && listen(fd, CONNECTIONS) == -1)) {
		close(fd);
		return (-1);
	}
	return (fd);
}

/* One port for UDP and TCP; where any will do, one that is free for both. */
static int
bind_all(struct server *server, const char *address, uint16_t port)
{
	struct sockaddr_storage ss;
	struct addr any;
	socklen_t len;
	int i, size = 4 << 20;

	if (addr_parse(&server->addr, address, 1) != NULL ||
	    server->addr.family == AF_UNSPEC) {
		errno = EADDRNOTAVAIL;
		return (-1);
	}
	server->addr.port = 0;
	any = server->addr;
	server->tcp = server->other = -1;
	for (i = 0; i < 16 && server->tcp == -1; i++) {
		server->addr.port = port;
		server->udp = open_socket(&server->addr, SOCK_DGRAM);
		if (server->udp == -1)
			return (-1);
		len = sizeof(ss);
		getsockname(server->udp, (struct sockaddr *)&ss, &len);
		addr_from_sockaddr(&server->addr, &ss);
		server->tcp = open_socket(&server->addr, SOCK_STREAM);
		if (server->tcp == -1)
			close(server->udp);
	}
	if (server->tcp == -1)
		return (-1);
	setsockopt(server->udp, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	server->other = open_socket(&any, SOCK_DGRAM);
	server->stub->port = server->addr.port;
	addr_print(server->stub->text, &server->addr);
	atomic_store(&server->stub->tcp, 1);
	atomic_store(&server->stub->tcp_now, 1);
	for (i = 0; i < CONNECTIONS; i++)
		server->connection[i].fd = -1;
	return (0);
}

static void
quit(int signo)
{
	(void)signo;
	_exit(0);
}

static void
serve(struct server *server)
{
	static struct pollfd pfd[2 + CONNECTIONS];
	struct connection *connection;
	int i;

	signal(SIGTERM, quit);
	signal(SIGINT, quit);
	signal(SIGPIPE, SIG_IGN);
	for (;;) {
		switch_tcp(server);
		run_later(server);
		pfd[0] = (struct pollfd){ .fd = server->udp, .events = POLLIN };
		pfd[1] = (struct pollfd){ .fd = server->tcp, .events = POLLIN };
		for (i = 0; i < CONNECTIONS; i++) {
			connection = &server->connection[i];
			pfd[2 + i] = (struct pollfd){ .fd = connection->fd,
			    .events = connection->out != NULL ? POLLOUT :
			    POLLIN };
		}
		if (poll(pfd, 2 + CONNECTIONS, wait_ms(server)) <= 0)
			continue;
		for (i = 0; i < CONNECTIONS; i++) {
			if (pfd[2 + i].revents & POLLOUT)
				write_tcp(server, i);
			else if (pfd[2 + i].revents != 0)
				read_tcp(server, i);
		}
		if (pfd[1].revents != 0)
			accept_tcp(server);
		if (pfd[0].revents != 0)
			receive_udp(server);
	}
}

/* Refusing a connection takes a port that nobody listens on. */
static void
switch_tcp(struct server *server)
{
	bool on = atomic_load(&server->stub->tcp);
	int i;

	if (on && server->tcp == -1)
		server->tcp = open_socket(&server->addr, SOCK_STREAM);
	if (!on && server->tcp != -1) {
		close(server->tcp);
		server->tcp = -1;
		for (i = 0; i < CONNECTIONS; i++)
			close_tcp(server, i);
	}
	atomic_store(&server->stub->tcp_now, server->tcp != -1);
}

static int
wait_ms(const struct server *server)
{
	uint64_t now = stub_now_us();

	if (server->later == NULL ||
	    server->later->due_us > now + TICK_MS * 1000)
		return (TICK_MS);
	if (server->later->due_us <= now)
		return (0);
	return ((server->later->due_us - now + 999) / 1000);
}

/* The list is kept in the order of its times. */
static void
run_later(struct server *server)
{
	struct later *later;

	while ((later = server->later) != NULL &&
	    later->due_us <= stub_now_us()) {
		server->later = later->next;
		reply(server, later->query, later->len, &later->route);
		free(later);
	}
}

static void
receive_udp(struct server *server)
{
	uint8_t buf[STUB_QUERY_MAX];
	struct route route;
	ssize_t n;

	for (;;) {
		memset(&route, 0, sizeof(route));
		route.connection = -1;
		route.ss_len = sizeof(route.ss);
		n = recvfrom(server->udp, buf, sizeof(buf), 0,
		    (struct sockaddr *)&route.ss, &route.ss_len);
		if (n == -1)
			return;
		atomic_fetch_add(&server->stub->udp_queries, 1);
		handle(server, buf, n, &route);
	}
}

static void
accept_tcp(struct server *server)
{
	struct connection *connection;
	int fd, i;

	if ((fd = accept(server->tcp, NULL, NULL)) == -1)
		return;
	atomic_fetch_add(&server->stub->tcp_connections, 1);
	for (i = 0; i < CONNECTIONS; i++)
		if (server->connection[i].fd == -1)
			break;
	if (i == CONNECTIONS) {
		close(fd);
		return;
	}
	fcntl(fd, F_SETFL, O_NONBLOCK);
	connection = &server->connection[i];
	memset(connection, 0, sizeof(*connection));
	connection->fd = fd;
	connection->serial = ++server->serial;
}

static void
read_tcp(struct server *server, int i)
{
	struct connection *connection = &server->connection[i];
	struct route route = { .connection = i };
	size_t want;
	ssize_t n;

	want = connection->got < 2 ? 2 : 2 + dns_get16(connection->in);
	if (want > sizeof(connection->in)) {
		close_tcp(server, i);
		return;
	}
	if (want > connection->got) {
		n = recv(connection->fd, connection->in + connection->got,
		    want - connection->got, 0);
		if (n == -1 && (errno == EAGAIN || errno == EINTR))
			return;
		if (n <= 0) {
			close_tcp(server, i);
			return;
		}
		connection->got += n;
	}
	if (connection->got < 2 ||
	    connection->got < (size_t)2 + dns_get16(connection->in))
		return;
	route.serial = connection->serial;
	route.ss_len = sizeof(route.ss);
	getpeername(connection->fd, (struct sockaddr *)&route.ss,
	    &route.ss_len);
	want = connection->got - 2;
	connection->got = 0;
	atomic_fetch_add(&server->stub->tcp_queries, 1);
	handle(server, connection->in + 2, want, &route);
}

static void
write_tcp(struct server *server, int i)
{
	struct connection *connection = &server->connection[i];
	size_t len = connection->out_len - connection->sent;
	ssize_t n;

	if (connection->piece != 0 && len > connection->piece)
		len = connection->piece;
	n = send(connection->fd, connection->out + connection->sent, len, 0);
	if (n == -1 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n == -1) {
		close_tcp(server, i);
		return;
	}
	connection->sent += n;
	if (connection->sent < connection->out_len) {
		if (connection->piece != 0)
			poll(NULL, 0, 5);	/* let the piece be seen */
		return;
	}
	free(connection->out);
	connection->out = NULL;
	if (connection->close_after)
		close_tcp(server, i);
}

static void
close_tcp(struct server *server, int i)
{
	struct connection *connection = &server->connection[i];

	if (connection->fd == -1)
		return;
	close(connection->fd);
	free(connection->out);
	connection->out = NULL;
	connection->fd = -1;
	connection->serial = 0;
}

/* A query came in: remember it, count it, and reply now or later or never. */
static void
handle(struct server *server, const uint8_t *msg, size_t len,
    const struct route *route)
{
	struct stub *stub = server->stub;
	struct later *later, **at;
	struct question question;
	struct stub_query *log;
	struct stub_name *name;
	struct plan plan;
	struct addr from;

	addr_from_sockaddr(&from, &route->ss);
	log = &stub->log[stub->logged % STUB_LOG];
	log->at_us = stub_now_us();
	log->port = from.port;
	log->tcp = route->connection != -1;
	log->len = len;
	memcpy(log->bytes, msg, len);
	atomic_fetch_add(&stub->logged, 1);

	if (!parse_query(msg, len, &question))
		return;
	name = name_of(stub, &question);
	if (name != NULL && log->tcp)
		name->tcp++;
	else if (name != NULL)
		name->udp++;
	parse_plan(stub, &question, &plan);
	if (plan.silent || (name != NULL &&
	    name->udp + name->tcp <= plan.drop_first))
		return;
	if (plan.delay_ms == 0) {
		reply(server, msg, len, route);
		return;
	}
	if ((later = malloc(sizeof(*later) + len)) == NULL)
		return;
	later->due_us = stub_now_us() + plan.delay_ms * (uint64_t)1000;
	later->route = *route;
	later->len = len;
	memcpy(later->query, msg, len);
	for (at = &server->later; *at != NULL; at = &(*at)->next)
		if ((*at)->due_us > later->due_us)
			break;
	later->next = *at;
	*at = later;
}

static void
reply(struct server *server, const uint8_t *msg, size_t len,
    const struct route *route)
{
	static struct packet packet;
	struct question question;
	struct stub_name *name;
	struct plan plan;
	size_t limit;

	parse_query(msg, len, &question);
	parse_plan(server->stub, &question, &plan);
	packet.max = MESSAGE_MAX;
	if (route->connection != -1) {
		build(&packet, &question, &plan, 0, false);
		reply_tcp(server, route, &plan, &packet);
		return;
	}
	name = name_of(server->stub, &question);
	if (name != NULL &&
	    forge(server, &plan, &question, route, name->udp))
		return;
	build(&packet, &question, &plan, 0, plan.truncate != 0);
	limit = DNS_UDP_PLAIN;
	if (question.edns && question.edns_size > limit)
		limit = question.edns_size;
	if (packet.len > limit)
		build(&packet, &question, &plan, 0, true);
	send_udp(server->udp, route, &packet);
	atomic_fetch_add(&server->stub->replies, 1);
}

static void
reply_tcp(struct server *server, const struct route *route,
    const struct plan *plan, const struct packet *packet)
{
	struct connection *connection = &server->connection[route->connection];
	size_t len = packet->len;

	if (connection->serial != route->serial || connection->out != NULL)
		return;
	if (plan->tcp_fault == TCP_CLOSE) {
		close_tcp(server, route->connection);
		return;
	}
	if ((connection->out = malloc(2 + len)) == NULL)
		return;
	memcpy(connection->out + 2, packet->buf, len);
	dns_put16(connection->out, len);
	connection->out_len = 2 + len;
	connection->sent = 0;
	switch (plan->tcp_fault) {
	case TCP_LONG:
		dns_put16(connection->out, len + 10);
		connection->close_after = true;
		break;
	case TCP_SHORT:
		dns_put16(connection->out, len - 10);
		break;
	case TCP_STALL:
		connection->out_len = 2 + len / 2;
		break;
	case TCP_SPLIT:
		connection->piece = 1 + len / 3;
		break;
	}
	atomic_fetch_add(&server->stub->replies, 1);
	write_tcp(server, route->connection);
}

static void
send_udp(int fd, const struct route *route, const struct packet *packet)
{
	sendto(fd, packet->buf, packet->len, 0,
	    (const struct sockaddr *)&route->ss, route->ss_len);
}

/*
 * Send the reply that is none, if one was asked for.  Returns true if the
 * true one is not to follow.
 */
static bool
forge(struct server *server, const struct plan *plan,
    const struct question *question, const struct route *route, uint32_t tries)
{
	static struct packet packet;
	int fd = server->udp, which;
	size_t i;

	for (which = 0; which < FORGE_NONE; which++)
		if (plan->forge[which] != 0)
			break;
	if (which == FORGE_NONE)
		return (false);
	if (plan->forge[which] == WORD_ONCE && tries > 1)
		return (false);
	packet.max = MESSAGE_MAX;
	build(&packet, question, plan, 1, false);
	switch (which) {
	case FORGE_ID:
		packet.buf[1] ^= 1;
		break;
	case FORGE_QUESTION:
		packet.buf[DNS_HEADER_LEN + 1] ^= 3;
		break;
	case FORGE_TYPE:
		packet.buf[DNS_HEADER_LEN + question->name_len + 1] ^= 0x40;
		break;
	case FORGE_CASE:
		for (i = 0; i < question->name_len; i++)
			if (question->lower[i] >= 'a' &&
			    question->lower[i] <= 'z')
				packet.buf[DNS_HEADER_LEN + i] ^= 0x20;
		break;
	case FORGE_SOURCE:
		fd = server->other;
		break;
	case FORGE_GARBAGE:
		for (i = 2; i < packet.len; i++)
			packet.buf[i] = i * 151;
		break;
	case FORGE_QUERY:
		packet.buf[2] &= 0x7f;
		break;
	}
	send_udp(fd, route, &packet);
	return (plan->forge[which] == WORD_ONCE ||
	    plan->forge[which] == WORD_ONLY);
}

/* Returns false where there is no question to answer. */
static bool
parse_query(const uint8_t *msg, size_t len, struct question *question)
{
	size_t at = DNS_HEADER_LEN, i;

	memset(question, 0, sizeof(*question));
	question->msg = msg;
	if (len < DNS_HEADER_LEN + 5 || dns_get16(msg + 4) != 1)
		return (false);
	question->id = dns_get16(msg);
	question->flags = dns_get16(msg + 2);
	if (question->flags & DNS_FLAG_QR)
		return (false);
	while (at < len && msg[at] != 0 && msg[at] < 64)
		at += 1 + msg[at];
	if (at + 5 > len || msg[at] != 0 ||
	    at + 1 - DNS_HEADER_LEN > DNS_NAME_MAX)
		return (false);
	question->name_len = at + 1 - DNS_HEADER_LEN;
	for (i = 0; i < question->name_len; i++) {
		question->lower[i] = msg[DNS_HEADER_LEN + i];
		if (question->lower[i] >= 'A' && question->lower[i] <= 'Z')
			question->lower[i] += 'a' - 'A';
	}
	question->type = dns_get16(msg + at + 1);
	question->class = dns_get16(msg + at + 3);
	at += 5;
	if (dns_get16(msg + 10) == 1 && at + DNS_OPT_LEN <= len &&
	    msg[at] == 0 && dns_get16(msg + at + 1) == DNS_TYPE_OPT) {
		question->edns = true;
		question->edns_size = dns_get16(msg + at + 3);
		question->dnssec_ok = (msg[at + 7] & 0x80) != 0;
	}
	return (true);
}

static void
parse_plan(const struct stub *stub, const struct question *question,
    struct plan *plan)
{
	const uint8_t *at = question->lower;

	*plan = (struct plan){ .ttl = 300, .cname_ttl = 300, .soa_ttl = 300,
	    .soa_minimum = 60 };
	while (*at != 0 && parse_command(at + 1, *at, plan))
		at += 1 + *at;
	plan->delay_ms += atomic_load(&stub->delay_ms);
	plan->flat |= atomic_load(&stub->flat);
	switch (atomic_load(&stub->mode)) {
	case STUB_SILENT:
		plan->silent = 1;
		break;
	case STUB_SERVFAIL:
		plan->rcode = DNS_RCODE_SERVFAIL;
		break;
	case STUB_REFUSED:
		plan->rcode = DNS_RCODE_REFUSED;
		break;
	case STUB_NOTIMP:
		plan->rcode = DNS_RCODE_NOTIMP;
		break;
	}
}

static bool
parse_command(const uint8_t *label, size_t len, struct plan *plan)
{
	static const char *words[] = { [WORD_ONCE] = "once",
	    [WORD_ONLY] = "only", [WORD_BARE] = "bare",
	    [WORD_NOTIMP] = "notimp" };
	char text[64], *argument, *end;
	uint32_t *member, value;
	size_t i, j;

	memcpy(text, label, len);
	text[len] = '\0';
	if ((argument = strchr(text, '-')) != NULL)
		*argument++ = '\0';
	for (i = 0; i < sizeof(commands) / sizeof(commands[0]); i++)
		if (strcmp(text, commands[i].name) == 0)
			break;
	if (i == sizeof(commands) / sizeof(commands[0]))
		return (false);
	value = commands[i].value;
	if (argument != NULL) {
		value = strtoul(argument, &end, 10);
		for (j = WORD_ONCE; *end != '\0' && j <= WORD_NOTIMP; j++)
			if (strcmp(argument, words[j]) == 0) {
				value = j;
				end = text + len;
			}
		if (*end != '\0')
			return (false);
	}
	member = (uint32_t *)(void *)((char *)plan + commands[i].member);
	*member = value;
	return (true);
}

static void
put(struct packet *packet, const void *bytes, size_t len)
{
	if (packet->full || len > packet->max - packet->len) {
		packet->full = true;
		return;
	}
	memcpy(packet->buf + packet->len, bytes, len);
	packet->len += len;
}

static void
put8(struct packet *packet, unsigned value)
{
	uint8_t byte = value;

	put(packet, &byte, 1);
}

static void
put16(struct packet *packet, unsigned value)
{
	uint8_t bytes[2];

	dns_put16(bytes, value);
	put(packet, bytes, sizeof(bytes));
}

static void
put32(struct packet *packet, uint32_t value)
{
	uint8_t bytes[4];

	dns_put32(bytes, value);
	put(packet, bytes, sizeof(bytes));
}

/* A string with its length before it, as in TXT. */
static void
put_text(struct packet *packet, const char *text)
{
	put8(packet, strlen(text));
	put(packet, text, strlen(text));
}

/* A label under the name that a pointer points at. */
static void
put_label(struct packet *packet, const char *label, uint16_t at)
{
	put_text(packet, label);
	put16(packet, POINTER(at));
}

/*
 * A label under the question's name, where no compression is allowed; the
 * root where the name would be too long.
 */
static void
put_name(struct packet *packet, const struct question *question,
    const char *label)
{
	if (question->name_len + 1 + strlen(label) > DNS_NAME_MAX) {
		put8(packet, 0);
		return;
	}
	put_text(packet, label);
	put(packet, question->lower, question->name_len);
}

/* Bytes that follow from a seed. */
static void
put_bytes(struct packet *packet, uint64_t seed, size_t len)
{
	uint64_t value;
	size_t i;

	for (i = 0; i < len; i++) {
		value = (seed + i + 1) * 0x9e3779b97f4a7c15;
		value = (value ^ value >> 29) * 0xbf58476d1ce4e5b9;
		put8(packet, value >> 40 & 0xff);
	}
}

/* The owner, the type, the class and the TTL of a record. */
static void
put_record(struct packet *packet, uint16_t owner, uint16_t type, uint32_t ttl)
{
	put16(packet, POINTER(owner));
	put16(packet, type);
	put16(packet, DNS_CLASS_IN);
	put32(packet, ttl);
}

static void
count_record(struct packet *packet, unsigned section)
{
	uint8_t *at = packet->buf + 6 + 2 * section;

	if (!packet->full)
		dns_put16(at, dns_get16(at) + 1);
}

/* Write the length of the record data that began behind at. */
static void
end_rdata(struct packet *packet, size_t at)
{
	if (!packet->full)
		dns_put16(packet->buf + at, packet->len - at - 2);
}

/*
 * salt 0: the true data; else data that a forger would send.  A truncated
 * message has no records but the OPT.
 */
static void
build(struct packet *packet, const struct question *question,
    const struct plan *plan, uint64_t salt, bool truncated)
{
	unsigned rcode = plan->rcode;

	packet->len = 0;
	packet->full = false;
	if (question->edns && plan->no_edns != 0)
		rcode = plan->no_edns == WORD_NOTIMP ? DNS_RCODE_NOTIMP :
		    DNS_RCODE_FORMERR;
	put16(packet, question->id);
	put16(packet, DNS_FLAG_QR | DNS_FLAG_RA | rcode |
	    (question->flags & (DNS_FLAG_OPCODE | DNS_FLAG_RD | DNS_FLAG_CD)) |
	    (plan->ad ? DNS_FLAG_AD : 0) | (truncated ? DNS_FLAG_TC : 0));
	put16(packet, 1);
	put16(packet, 0);
	put32(packet, 0);
	if (question->edns && plan->no_edns == WORD_BARE) {
		dns_put16(packet->buf + 4, 0);
		return;
	}
	put(packet, plan->flat ? question->lower :
	    question->msg + DNS_HEADER_LEN, question->name_len);
	put16(packet, question->type);
	put16(packet, question->class);

	if (!truncated)
		build_sections(packet, question, plan, rcode, salt);
	if (question->edns && plan->no_edns == 0) {
		put8(packet, 0);
		put16(packet, DNS_TYPE_OPT);
		put16(packet, DNS_UDP_MAX);
		put32(packet, question->dnssec_ok ? 0x8000 : 0);
		put16(packet, 0);
		count_record(packet, 2);
	}
}

/* The records that the name asks for: CNAMEs, and what they end in. */
static void
build_sections(struct packet *packet, const struct question *question,
    const struct plan *plan, unsigned rcode, uint64_t salt)
{
	uint16_t owner = DNS_HEADER_LEN;
	char label[16];
	uint32_t i;
	size_t at;

	if (rcode != DNS_RCODE_NOERROR && rcode != DNS_RCODE_NXDOMAIN)
		return;
	for (i = 0; i < plan->cnames; i++) {
		put_record(packet, owner, DNS_TYPE_CNAME, plan->cname_ttl);
		at = packet->len;
		put16(packet, 0);
		owner = packet->len;
		snprintf(label, sizeof(label), "alias%u", i + 1);
		put_label(packet, label, DNS_HEADER_LEN);
		end_rdata(packet, at);
		count_record(packet, 0);
	}
	if (rcode == DNS_RCODE_NXDOMAIN || plan->no_data) {
		if (!plan->no_soa)
			build_soa(packet, question, plan);
	} else if (plan->big != 0)
		build_big(packet, question, plan);
	else
		build_records(packet, question, plan->ttl, owner,
		    question->type, salt);
}

/* Fill the message with records to the size that was asked for. */
static void
build_big(struct packet *packet, const struct question *question,
    const struct plan *plan)
{
	size_t size = plan->big, take, at, i;

	if (size > packet->max)
		size = packet->max;
	if (question->edns)
		size = size > DNS_OPT_LEN ? size - DNS_OPT_LEN : 0;
	while (packet->len + 14 <= size) {
		take = size - packet->len;
		if (question->type == 1)
			take = 16;
		else if (take > 2000)
			take = 1000;
		if (packet->len + take > size)
			break;
		put_record(packet, DNS_HEADER_LEN, question->type, plan->ttl);
		at = packet->len;
		put16(packet, 0);
		take -= 12;
		if (question->type == 1)
			put_bytes(packet, packet->len, take);
		else
			for (i = take; i > 0; i -= at > 256 ? 256 : at) {
				at = i > 256 ? 256 : i;
				put8(packet, at - 1);
				put_bytes(packet, i, at - 1);
			}
		dns_put16(packet->buf + packet->len - take - 2, take);
		count_record(packet, 0);
	}
}

/* The records of the question's name and a type. */
static void
build_records(struct packet *packet, const struct question *question,
    uint32_t ttl, uint16_t owner, uint16_t type, uint64_t salt)
{
	unsigned i, count = type == 15 || type == 2 ? 2 : 1;
	size_t at;

	if (type == DNS_TYPE_ANY) {
		build_records(packet, question, ttl, owner, 1, salt);
		build_records(packet, question, ttl, owner, 15, salt);
		build_records(packet, question, ttl, owner, 16, salt);
		return;
	}
	for (i = 0; i < count; i++) {
		put_record(packet, owner, type, ttl);
		at = packet->len;
		put16(packet, 0);
		build_rdata(packet, question, type, i, salt);
		end_rdata(packet, at);
		count_record(packet, 0);
	}
	if (question->dnssec_ok && type != 46) {
		put_record(packet, owner, 46, ttl);
		at = packet->len;
		put16(packet, 0);
		build_rdata(packet, question, 46, 0, salt);
		end_rdata(packet, at);
		count_record(packet, 0);
	}
}

static void
build_rdata(struct packet *packet, const struct question *question,
    uint16_t type, unsigned nth, uint64_t salt)
{
	uint64_t seed = hash_question(question->lower, question->name_len,
	    type, salt);
	char text[32];

	snprintf(text, sizeof(text), "%016llx", (unsigned long long)seed);
	switch (type) {
	case 1:				/* A */
		put8(packet, 10);
		put_bytes(packet, seed, 3);
		break;
	case 2:				/* NS */
		put_label(packet, nth == 0 ? "ns1" : "ns2", DNS_HEADER_LEN);
		break;
	case 5:				/* CNAME */
		put_label(packet, "alias", DNS_HEADER_LEN);
		break;
	case 6:				/* SOA */
		put_label(packet, "ns1", DNS_HEADER_LEN);
		put_label(packet, "hostmaster", DNS_HEADER_LEN);
		put32(packet, seed & 0x7fffffff);
		put32(packet, 7200);
		put32(packet, 3600);
		put32(packet, 1209600);
		put32(packet, 60);
		break;
	case 12:			/* PTR */
		put_label(packet, "host", DNS_HEADER_LEN);
		break;
	case 15:			/* MX */
		put16(packet, 10 * (nth + 1));
		put_label(packet, nth == 0 ? "mx1" : "mx2", DNS_HEADER_LEN);
		break;
	case 16:			/* TXT */
		put_text(packet, "a text of the stub's; \"quoted\"");
		put_text(packet, text);
		put8(packet, 0);
		break;
	case 28:			/* AAAA */
		put32(packet, 0x20010db8);
		put32(packet, 0);
		put_bytes(packet, seed, 8);
		break;
	case 33:			/* SRV */
		put16(packet, 1);
		put16(packet, 2);
		put16(packet, 5060);
		put_name(packet, question, "srv");
		break;
	case 35:			/* NAPTR */
		put16(packet, 100);
		put16(packet, 10);
		put_text(packet, "U");
		put_text(packet, "E2U+sip");
		put_text(packet, "!^.*$!sip:info@stub.test!");
		put8(packet, 0);
		break;
	case 43:			/* DS */
		put16(packet, seed & 0xffff);
		put16(packet, 13 << 8 | 2);
		put_bytes(packet, seed, 32);
		break;
	case 46:			/* RRSIG */
		put16(packet, question->type);
		put16(packet, 13 << 8 | 2);
		put32(packet, 300);
		put32(packet, 2000000000);
		put32(packet, 1700000000);
		put16(packet, seed & 0xffff);
		put_name(packet, question, "signer");
		put_bytes(packet, seed, 64);
		break;
	case 48:			/* DNSKEY */
		put16(packet, 257);
		put16(packet, 3 << 8 | 13);
		put_bytes(packet, seed, 64);
		break;
	case 64:			/* SVCB: port 8443 */
		put16(packet, 1);
		put_name(packet, question, "svc");
		put16(packet, 3);
		put16(packet, 2);
		put16(packet, 8443);
		break;
	case 65:			/* HTTPS: alpn h2, ipv4hint */
		put16(packet, 1);
		put8(packet, 0);
		put16(packet, 1);
		put16(packet, 3);
		put_text(packet, "h2");
		put16(packet, 4);
		put16(packet, 4);
		put_bytes(packet, seed, 4);
		break;
	case 257:			/* CAA */
		put8(packet, 0);
		put_text(packet, "issue");
		put(packet, "ca.stub.test", 12);
		break;
	default:
		put_bytes(packet, seed, 16 + seed % 17);
		break;
	}
}

/* The SOA of a negative answer, whose zone is the name's last two labels. */
static void
build_soa(struct packet *packet, const struct question *question,
    const struct plan *plan)
{
	uint16_t zone = DNS_HEADER_LEN, next = 0;
	size_t at, i;

	for (i = 0; question->lower[i] != 0; i += 1 + question->lower[i]) {
		zone = DNS_HEADER_LEN + next;
		next = i;
	}
	put_record(packet, zone, DNS_TYPE_SOA, plan->soa_ttl);
	at = packet->len;
	put16(packet, 0);
	put_label(packet, "ns1", zone);
	put_label(packet, "hostmaster", zone);
	put32(packet, 2026010101);
	put32(packet, 7200);
	put32(packet, 3600);
	put32(packet, 1209600);
	put32(packet, plan->soa_minimum);
	end_rdata(packet, at);
	count_record(packet, 1);
}

/* FNV-1a, which is enough to tell names apart; never 0. */
static uint64_t
hash_question(const uint8_t *lower, size_t len, uint16_t type, uint64_t salt)
{
	uint64_t hash = 0xcbf29ce484222325 ^ salt << 32 ^ type;
	size_t i;

	for (i = 0; i < len; i++)
		hash = (hash ^ lower[i]) * 0x100000001b3;
	return (hash == 0 ? 1 : hash);
}

/* Where a question's entry is, or may be; STUB_NAMES when all are taken. */
static size_t
find_name(const struct stub *stub, uint64_t hash)
{
	size_t at, i;

	for (i = 0; i < STUB_NAMES; i++) {
		at = (hash + i) & (STUB_NAMES - 1);
		if (stub->names[at].hash == hash || stub->names[at].hash == 0)
			return (at);
	}
	return (STUB_NAMES);
}

/* The wire form of a name in lower case.  No length is a capital letter. */
static size_t
lower_name(uint8_t wire[DNS_NAME_MAX], const char *text)
{
	size_t i, len = stub_name_write(wire, text);

	for (i = 0; i < len; i++)
		if (wire[i] >= 'A' && wire[i] <= 'Z')
			wire[i] += 'a' - 'A';
	return (len);
}

static const struct stub_name *
find_text(const struct stub *stub, const char *text, uint16_t type)
{
	uint8_t wire[DNS_NAME_MAX];
	size_t at, len;

	len = lower_name(wire, text);
	at = find_name(stub, hash_question(wire, len, type, 0));
	if (at == STUB_NAMES || stub->names[at].hash == 0)
		return (NULL);
	return (&stub->names[at]);
}

/* The entry of a question, new if need be; NULL when all are taken. */
static struct stub_name *
name_of(struct stub *stub, const struct question *question)
{
	uint64_t hash = hash_question(question->lower, question->name_len,
	    question->type, 0);
	size_t at = find_name(stub, hash);

	if (at == STUB_NAMES)
		return (NULL);
	stub->names[at].hash = hash;
	return (&stub->names[at]);
}
