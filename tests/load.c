/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * A client that believes nothing.  It asks at a given rate from several
 * sockets, never waits for a reply before it asks on, and checks each reply
 * for all that it must be: a reply to a question of this socket and ID, the
 * question as it was written, letter case included, and the one address that
 * the oracle has for the name.
 *
 * A question is a place in a table, by socket and ID; its name can be made
 * again from what stands there.  Two queues hold those that wait, in order of
 * time: for LOAD_RETRY_MS, then they are asked once more, as resolvers do;
 * and for LOAD_GIVE_UP_MS, then they are lost.  A place is not used again for
 * 65,536 questions, so that replies that come late are known too.
 */

#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifdef __linux__
#include <linux/sock_diag.h>
#endif

#include "daemon.h"
#include "dns.h"
#include "load.h"
#include "stub.h"

#define SOCKETS		16
#define IDS		65536
#define QUEUE		(1 << 21)	/* more than SOCKETS * IDS */
#define BATCH		32
#define PACKET_MAX	512
#define BURST		64		/* queries between two looks */
#define BEHIND_US	50000		/* more is not made up for */
#define QUANTUM_US	200
#define RECEIVE_BYTES	(4 << 20)
#define TELL_MAX	5		/* wrong replies that are shown */
#define TYPE_A		1
#define SUB		32		/* buckets in an octave */

enum state {
	UNUSED,
	ASKED,
	ASKED_AGAIN,
	ANSWERED,
	LOST
};

struct place {
	uint64_t	 sent_us;
	uint32_t	 number;
	uint32_t	 serial;	/* grows whenever the place is used */
	uint8_t		 kind;
	uint8_t		 state;
};

struct waiting {
	uint32_t	 at;		/* the place */
	uint32_t	 serial;
	uint64_t	 until_us;
};

struct queue {
	struct waiting	*item;
	uint64_t	 first, end;
};

static struct load	*load;
static struct place	*places;
static int		 sockets[SOCKETS];
static uint16_t		 next_id[SOCKETS];
static unsigned		 next_socket;
static struct queue	 soon, later;
static uint64_t		 random_state;
static uint64_t		 outstanding;
static uint64_t		 reply_us;	/* when the last one came */
static unsigned		 told;

static void	run(void) __attribute__((__noreturn__));
static void	prepare(void);
static bool	ask_due(uint64_t, uint64_t *);
static void	ask(uint64_t, enum oracle_kind, uint32_t);
static enum oracle_kind choose(void);
static void	send_place(uint32_t);
static size_t	question(uint8_t *, uint32_t);
static void	push(struct queue *, uint32_t, uint64_t);
static void	give_up(uint64_t, bool);
static void	lose(struct place *);
static void	receive(unsigned);
static void	check(unsigned, const uint8_t *, size_t, uint64_t);
static void	answered(struct place *, unsigned, uint64_t);
static void	wrong(const uint8_t *, size_t, const char *);
static unsigned	bucket_of(uint64_t);
static uint64_t	bucket_end(unsigned);
static uint64_t	unread(void);
static void	*shared(size_t);

struct load *
load_new(const struct oracle *oracle)
{
	struct load *new = shared(sizeof(*new));

	if (new != NULL) {
		new->oracle = oracle;
		new->number = 1;
	}
	return (new);
}

void
load_begin(struct load *new)
{
	pid_t parent = getpid(), pid;

	memset(new->kind, 0, sizeof(new->kind));
	new->wrong = new->again = new->beyond = new->unread = 0;
	new->errors = new->gap_us = new->stall_us = new->took_us = 0;
	new->packets = new->replies = 0;
	new->stop = 0;
	new->cut_us = LOAD_NEVER;
	new->seed++;
	pid = fork();
	if (pid == -1) {
		perror("chaos");
		exit(1);
	}
	if (pid != 0) {
		new->pid = pid;
		return;
	}
	stub_die_with(parent);
	signal(SIGINT, SIG_IGN);
	signal(SIGTERM, SIG_DFL);
	signal(SIGALRM, SIG_DFL);
	load = new;
	run();
}

void
load_end(struct load *old)
{
	old->stop = 1;
	waitpid(old->pid, NULL, 0);
	old->pid = 0;
}

uint64_t
load_within_us(const struct load *of, enum oracle_kind kind,
    unsigned per_mille)
{
	const struct load_kind *k = &of->kind[kind];
	uint64_t sum = 0, all = 0;
	unsigned i;

	for (i = 0; i < LOAD_BUCKETS; i++)
		all += k->bucket[i];
	for (i = 0; i < LOAD_BUCKETS; i++) {
		sum += k->bucket[i];
		if (all != 0 && sum * 1000 >= all * per_mille)
			return (bucket_end(i));
	}
	return (0);
}

uint32_t
load_random(uint64_t *state, uint32_t below)
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15);

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb;
	z ^= z >> 31;
	return ((z >> 32) * below >> 32);
}

static void
run(void)
{
	struct pollfd pfd[SOCKETS];
	struct timespec timeout = { .tv_sec = 0 };
	uint64_t start_us, now_us, next_us, turn_us;
	bool asking = true;
	unsigned i;

	prepare();
	start_us = next_us = turn_us = reply_us = stub_now_us();
	for (i = 0; i < SOCKETS; i++)
		pfd[i] = (struct pollfd){ .fd = sockets[i],
		    .events = POLLIN };
	for (;;) {
		now_us = stub_now_us();
		if (now_us - turn_us > load->stall_us)
			load->stall_us = now_us - turn_us;
		turn_us = now_us;
		if (asking && load->stop) {
			asking = false;
			load->took_us = now_us - start_us;
		}
		if (asking)
			asking = ask_due(now_us, &next_us);
		else if (outstanding == 0)
			break;
		if (!asking && load->took_us == 0)
			load->took_us = now_us - start_us;
		if (!asking && load->cut_us != LOAD_NEVER && now_us >
		    start_us + load->took_us + 100000)
			give_up(LOAD_NEVER, true);
		give_up(now_us, false);
		timeout.tv_nsec = load->rate == 0 && asking ? 0 :
		    next_us > now_us + QUANTUM_US && asking ?
		    (next_us - now_us > 5000000 ? 5000000 :
		    (next_us - now_us) * 1000) : QUANTUM_US * 1000;
		if (ppoll(pfd, SOCKETS, &timeout, NULL) <= 0)
			continue;
		for (i = 0; i < SOCKETS; i++) {
			if (pfd[i].revents != 0)
				receive(i);
		}
	}
	load->unread = unread();
	_exit(0);
}

static void
prepare(void)
{
	int size = RECEIVE_BYTES;
	unsigned i;

	random_state = load->seed;
	places = shared((size_t)SOCKETS * IDS * sizeof(*places));
	soon.item = shared((size_t)QUEUE * sizeof(*soon.item));
	later.item = shared((size_t)QUEUE * sizeof(*later.item));
	if (places == NULL || soon.item == NULL || later.item == NULL)
		_exit(1);
	for (i = 0; i < SOCKETS; i++) {
		sockets[i] = client_open("127.0.0.1", "127.0.0.1", load->port);
		if (sockets[i] == -1)
			_exit(1);
#ifdef SO_RCVBUFFORCE
		setsockopt(sockets[i], SOL_SOCKET, SO_RCVBUFFORCE, &size,
		    sizeof(size));
#else
		setsockopt(sockets[i], SOL_SOCKET, SO_RCVBUF, &size,
		    sizeof(size));
#endif
		next_id[i] = load_random(&random_state, IDS);
	}
}

/* Ask what the rate says.  Returns false when there is no more to ask. */
static bool
ask_due(uint64_t now_us, uint64_t *next_us)
{
	static uint32_t turn;
	static double at_us;
	unsigned n;

	if (at_us == 0 || at_us + BEHIND_US < now_us)
		at_us = now_us;
	for (n = 0; n < BURST; n++) {
		if (load->rate != 0 && at_us > now_us)
			break;
		if (load->in_turn) {
			if (turn == load->hot)
				return (false);
			ask(now_us, ORACLE_HOT, turn++);
		} else
			ask(now_us, choose(), load->hot);
		if (load->rate != 0)
			at_us += 1e6 / load->rate;
	}
	*next_us = at_us;
	return (true);
}

static enum oracle_kind
choose(void)
{
	uint32_t n = load_random(&random_state, 1000);
	unsigned kind;

	for (kind = 0; kind < ORACLE_KINDS - 1; kind++) {
		if (n < load->share[kind])
			break;
		n -= load->share[kind];
	}
	return (kind);
}

/* number: the hot name's; where it is load->hot, any will do. */
static void
ask(uint64_t now_us, enum oracle_kind kind, uint32_t number)
{
	unsigned s = next_socket++ % SOCKETS;
	uint32_t at = s * IDS + next_id[s]++;
	struct place *place = &places[at];

	if (place->state == ASKED || place->state == ASKED_AGAIN)
		lose(place);
	if (kind != ORACLE_HOT)
		number = load->number++ * 2654435761U;
	else if (number == load->hot)
		number = load_random(&random_state, load->hot);
	if (outstanding == 0)
		reply_us = now_us;
	place->sent_us = now_us;
	place->number = number;
	place->serial++;
	place->kind = kind;
	place->state = ASKED;
	outstanding++;
	load->kind[kind].sent++;
	send_place(at);
	push(&soon, at, now_us + LOAD_RETRY_MS * 1000);
}

static void
send_place(uint32_t at)
{
	uint8_t buf[PACKET_MAX] = { 0 };
	size_t len;
	int tries;

	dns_put16(buf, at % IDS);
	dns_put16(buf + 2, DNS_FLAG_RD);
	dns_put16(buf + 4, 1);
	len = DNS_HEADER_LEN + question(buf + DNS_HEADER_LEN, at);
	/* An error that an earlier packet met is told here, once. */
	for (tries = 0; tries < 2; tries++) {
		if (send(sockets[at / IDS], buf, len, MSG_DONTWAIT) != -1) {
			load->packets++;
			return;
		}
		load->errors++;
	}
}

/* The question of a place, some of its letters in upper case. */
static size_t
question(uint8_t *buf, uint32_t at)
{
	const struct place *place = &places[at];
	uint32_t salt = (at ^ place->serial) * 2654435761U;
	size_t len, i;

	len = oracle_name(buf, place->kind, place->number);
	for (i = 0; i < len; i++) {
		if (salt >> (i % 32) & 1 && isalpha(buf[i]))
			buf[i] = toupper(buf[i]);
	}
	dns_put16(buf + len, TYPE_A);
	dns_put16(buf + len + 2, DNS_CLASS_IN);
	return (len + 4);
}

static void
push(struct queue *queue, uint32_t at, uint64_t until_us)
{
	queue->item[queue->end++ % QUEUE] = (struct waiting){ .at = at,
	    .serial = places[at].serial, .until_us = until_us };
}

/* Ask again what has no reply, and lose what has none after that. */
static void
give_up(uint64_t now_us, bool all)
{
	const struct waiting *waiting;
	struct place *place;

	while (soon.first != soon.end) {
		waiting = &soon.item[soon.first % QUEUE];
		if (waiting->until_us > now_us)
			break;
		soon.first++;
		place = &places[waiting->at];
		if (place->state != ASKED ||
		    place->serial != waiting->serial)
			continue;
		place->state = ASKED_AGAIN;
		push(&later, waiting->at, waiting->until_us +
		    LOAD_GIVE_UP_MS * 1000);
		if (load->rate == 0 || all || load->cut_us != LOAD_NEVER ||
		    place->kind == ORACLE_SILENT)
			continue;
		load->kind[place->kind].retried++;
		send_place(waiting->at);
	}
	while (later.first != later.end) {
		waiting = &later.item[later.first % QUEUE];
		if (waiting->until_us > now_us)
			break;
		later.first++;
		place = &places[waiting->at];
		if (place->state == ASKED_AGAIN &&
		    place->serial == waiting->serial)
			lose(place);
	}
}

static void
lose(struct place *place)
{
	place->state = LOST;
	outstanding--;
	if (place->sent_us >= load->cut_us)
		load->beyond++;
	else
		load->kind[place->kind].lost++;
}

static void
receive(unsigned s)
{
	static uint8_t buf[BATCH][PACKET_MAX];
	struct mmsghdr msgs[BATCH];
	struct iovec iov[BATCH];
	uint64_t now_us;
	int i, n;

	memset(msgs, 0, sizeof(msgs));
	for (i = 0; i < BATCH; i++) {
		iov[i].iov_base = buf[i];
		iov[i].iov_len = PACKET_MAX;
		msgs[i].msg_hdr.msg_iov = &iov[i];
		msgs[i].msg_hdr.msg_iovlen = 1;
	}
	n = recvmmsg(sockets[s], msgs, BATCH, MSG_DONTWAIT, NULL);
	now_us = stub_now_us();
	if (n > 0 && outstanding > 0 && now_us - reply_us > load->gap_us &&
	    !load->stop && load->cut_us == LOAD_NEVER)
		load->gap_us = now_us - reply_us;
	for (i = 0; i < n; i++) {
		load->replies++;
		reply_us = now_us;
		check(s, buf[i], msgs[i].msg_len, now_us);
	}
}

static void
check(unsigned s, const uint8_t *buf, size_t len, uint64_t now_us)
{
	uint8_t asked[ORACLE_NAME_MAX + 4];
	struct place *place;
	unsigned rcode;
	uint32_t at;

	if (len < DNS_HEADER_LEN) {
		wrong(buf, len, "too short");
		return;
	}
	at = s * IDS + dns_get16(buf);
	place = &places[at];
	if (place->state == UNUSED) {
		wrong(buf, len, "to no question of ours");
		return;
	}
	if (!load_is_true(load->oracle, asked, question(asked, at), buf, len,
	    &rcode)) {
		wrong(buf, len, "not the truth");
		return;
	}
	if (rcode == 0 && (place->kind == ORACLE_FAIL ||
	    place->kind == ORACLE_SILENT)) {
		wrong(buf, len, "nobody can have answered that");
		return;
	}
	if (place->state == ANSWERED || place->state == LOST)
		load->again++;
	else
		answered(place, rcode, now_us - place->sent_us);
}

bool
load_is_true(const struct oracle *oracle, const uint8_t *asked,
    size_t asked_len, const uint8_t *buf, size_t len, unsigned *rcode)
{
	uint8_t lower[ORACLE_NAME_MAX], address[4];
	const uint8_t *record = buf + DNS_HEADER_LEN + asked_len;
	uint16_t flags;
	size_t i;

	if (len < DNS_HEADER_LEN + asked_len || dns_get16(buf + 4) != 1 ||
	    memcmp(buf + DNS_HEADER_LEN, asked, asked_len) != 0)
		return (false);
	flags = dns_get16(buf + 2);
	*rcode = flags & DNS_FLAG_RCODE;
	if ((flags & ~DNS_FLAG_RCODE) != 0x8180 || (*rcode != 0 &&
	    *rcode != DNS_RCODE_SERVFAIL))
		return (false);
	len -= DNS_HEADER_LEN + asked_len;
	if (dns_get16(buf + 8) != 0 || dns_get16(buf + 10) != 0)
		return (false);
	if (*rcode != 0)
		return (dns_get16(buf + 6) == 0 && len == 0);
	if (dns_get16(buf + 6) != 1 || len != 16 ||
	    dns_get16(record) != 0xc00c || dns_get16(record + 2) != TYPE_A ||
	    dns_get16(record + 4) != DNS_CLASS_IN ||
	    dns_get32(record + 6) == 0 || dns_get32(record + 6) > ORACLE_TTL ||
	    dns_get16(record + 10) != 4)
		return (false);
	for (i = 0; i < asked_len - 4; i++)
		lower[i] = tolower(asked[i]);
	oracle_address(oracle, lower, asked_len - 4, address);
	return (memcmp(record + 12, address, 4) == 0);
}

static void
answered(struct place *place, unsigned rcode, uint64_t took_us)
{
	struct load_kind *kind = &load->kind[place->kind];

	place->state = ANSWERED;
	outstanding--;
	if (rcode != 0)
		kind->servfail++;
	else
		kind->answered++;
	if (took_us > 2000000 && place->kind != ORACLE_SILENT)
		kind->slow++;
	if (took_us > kind->max_us)
		kind->max_us = took_us;
	kind->bucket[bucket_of(took_us)]++;
}

static void
wrong(const uint8_t *buf, size_t len, const char *what)
{
	size_t i;

	load->wrong++;
	if (told++ >= TELL_MAX)
		return;
	fprintf(stderr, "wrong, %s:", what);
	for (i = 0; i < len; i++)
		fprintf(stderr, " %02x", buf[i]);
	fprintf(stderr, "\n");
}

/* Microseconds up to 64, then SUB buckets for each power of two. */
static unsigned
bucket_of(uint64_t us)
{
	unsigned power;

	if (us < 2 * SUB)
		return (us);
	if (us >= 1ULL << 31)
		us = (1ULL << 31) - 1;
	power = 63 - __builtin_clzll(us);
	return (2 * SUB + (power - 6) * SUB + (us >> (power - 5)) % SUB);
}

static uint64_t
bucket_end(unsigned bucket)
{
	unsigned power;

	if (bucket < 2 * SUB)
		return (bucket);
	power = (bucket - 2 * SUB) / SUB + 6;
	return (((uint64_t)SUB + bucket % SUB + 1) << (power - 5));
}

/* Replies that came while a socket of ours was full. */
static uint64_t
unread(void)
{
	uint64_t drops = 0;
#if defined(SO_MEMINFO) && defined(__linux__)
	uint32_t info[SK_MEMINFO_VARS];
	socklen_t len;
	unsigned i;

	for (i = 0; i < SOCKETS; i++) {
		len = sizeof(info);
		if (getsockopt(sockets[i], SOL_SOCKET, SO_MEMINFO, info,
		    &len) == 0)
			drops += info[SK_MEMINFO_DROPS];
	}
#endif
	return (drops);
}

static void *
shared(size_t size)
{
	void *at = mmap(NULL, size, PROT_READ | PROT_WRITE,
	    MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	return (at == MAP_FAILED ? NULL : at);
}
