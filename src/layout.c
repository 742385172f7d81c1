/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The layout of the segment: which regions it has, where they start, and where
 * the memory comes from: from the image before this one, if it was made for
 * the same options; from the segment-file, of which the cache alone is taken
 * over; or new, and then the answers in the image's before are carried over.
 * The mailboxes, of which there are as many as workers, go with it.
 */

#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache.h"
#include "layout.h"
#include "log.h"
#include "mono.h"
#include "segment.h"

#define MAGIC		0x5069636f444e5332	/* "PicoDNS", layout 2 */
#define ENTRY_BYTES	176		/* of cache-memory by default */
#define CARRY_MS	2000		/* for answers, before the start */
#define CARRY_CPU_S	60		/* in all, if there are very many */
#define STREAM_BYTES	(4 << 20)	/* of replies in its mailbox */

static void	shape_make(const struct server *, struct server_shape *);
static void	lay_out(struct server *, uint8_t *);
static bool	take_segment(struct server *, const struct restart *,
		    const struct server_shape *);
static void	abandon(int);
static void	make_segment(struct server *, const struct restart *,
		    const struct server_shape *);
static void	carry_over(struct server *, int);
static void	carry(struct server *, int) __attribute__((__noreturn__));
static cache_hash hash_key;
static uint8_t	*map_file(struct server *, int);
static bool	warm_start(struct server *, uint8_t *);
static void	format(struct server *);
static void	read_boot(char [BOOT_LEN]);
static void	make_pairs(struct server *, const struct restart *);
static void	make_pair(int *, const int *, unsigned);

void
layout_make(struct server *server, const struct restart *taken)
{
	const struct options *options = &server->options;
	struct server_shape shape;

	server->workers = options->workers;
	shape_make(server, &shape);
	server->kept = take_segment(server, taken, &shape);
	if (!server->kept)
		make_segment(server, taken, &shape);
	if (!server->kept && taken != NULL && taken->segment != -1) {
		carry_over(server, taken->segment);
		close(taken->segment);
	}
	health_assign(&server->upstreams, options->upstreams.addr,
	    options->upstreams.count, server->health, UPSTREAM_TABLE, NULL);
	server->upstreams.timeout_us = options->timeout * 1000;
	server->header->stopping = 0;
	make_pairs(server, taken);
}

void
layout_try(const struct server *server)
{
	struct server other = *server;
	struct server_shape shape;

	other.workers = other.options.workers;
	other.kept = false;
	other.options.segment_file[0] = '\0';
	shape_make(&other, &shape);
	if (memcmp(&shape, &server->shape, sizeof(shape)) == 0)
		return;
	make_segment(&other, NULL, &shape);
	make_pairs(&other, NULL);
}

static void
shape_make(const struct server *server, struct server_shape *shape)
{
	const struct options *options = &server->options;
	struct server other = *server;

	memset(shape, 0, sizeof(*shape));
	shape->sockets = server->sockets;
	shape->streams = server->streams;
	shape->limits.workers = options->workers;
	shape->limits.per_worker = options->queries_per_worker;
	shape->limits.queue = options->queue_size;
	shape->limits.preferred = server_processors();
	shape->cache_size = options->cache_size;
	shape->cache_memory = options->cache_memory;
	if (shape->cache_memory == 0)
		shape->cache_memory = options->cache_size * ENTRY_BYTES;
	other.shape = *shape;
	lay_out(&other, NULL);
	shape->size = (uintptr_t)other.cache +
	    cache_size(shape->cache_size, shape->cache_memory);
}

/* Say where the regions are in a segment at base. */
static void
lay_out(struct server *server, uint8_t *base)
{
	const struct server_shape *shape = &server->shape;
	uintptr_t at = (uintptr_t)base;

	server->header = (void *)at;
	at += segment_round(sizeof(struct server_header));
	server->slots = (void *)at;
	at += (shape->sockets + shape->streams + shape->limits.workers) *
	    sizeof(struct slot);
	server->health = (void *)at;
	at += segment_round(UPSTREAM_TABLE * sizeof(struct health));
	server->pending = (void *)at;
	at += pending_size(&shape->limits);
	server->cache = (void *)at;
}

/* Keep the segment of the image before, if it has our shape. */
static bool
take_segment(struct server *server, const struct restart *taken,
    const struct server_shape *shape)
{
	struct server_header *header;

	if (taken == NULL || taken->segment == -1)
		return (false);
	header = segment_map_again(taken->segment, shape->size);
	if (header != NULL && header->magic == MAGIC &&
	    memcmp(&header->shape, shape, sizeof(*shape)) == 0) {
		server->segment = taken->segment;
		server->shape = *shape;
		lay_out(server, (uint8_t *)header);
		return (true);
	}
	abandon(taken->segment);
	return (false);
}

/* Tell those who still use a segment that no one will come after them. */
static void
abandon(int segment)
{
	struct server_header *header;

	header = mmap(NULL, sizeof(*header), PROT_READ | PROT_WRITE,
	    MAP_SHARED, segment, 0);
	if (header == MAP_FAILED)
		return;
	if (header->magic >> 8 == MAGIC >> 8)	/* of any layout */
		header->stopping = 1;
	munmap(header, sizeof(*header));
}

/* Map the segment-file, or memory without a name, and fill in the rest. */
static void
make_segment(struct server *server, const struct restart *taken,
    const struct server_shape *shape)
{
	uint8_t *base = NULL;

	server->shape = *shape;
	if (server->options.segment_file[0] != '\0' &&
	    strcmp(server->options.segment_file, "none") != 0)
		base = map_file(server, taken == NULL ? -1 : taken->segment);
	if (base != NULL && warm_start(server, base))
		return;
	if (base != NULL)
		memset(base, 0, shape->size);
	else
		base = segment_map(shape->size, &server->segment);
	if (base == NULL)
		fatal("cannot map %llu bytes of shared memory: %s",
		    (unsigned long long)shape->size, strerror(errno));
	lay_out(server, base);
	server->header->shape = *shape;
	arc4random_buf(server->header->seed, sizeof(server->header->seed));
	read_boot(server->header->boot);
	format(server);
	if (cache_format(server->cache, shape->cache_size,
	    shape->cache_memory) == -1)
		fatal("cannot make a shared lock: %s", strerror(errno));
	server->header->magic = MAGIC;
}

/* What is between the header and the cache, for processes yet to come. */
static void
format(struct server *server)
{
	const struct server_shape *shape = &server->shape;
	unsigned i;

	memset(server->slots, 0, (uintptr_t)server->cache -
	    (uintptr_t)server->slots);
	for (i = 0; i < shape->sockets + shape->streams +
	    shape->limits.workers; i++)
		server->slots[i].wake = PENDING_NO_WORKER;
	if (pending_format(server->pending, &shape->limits) == -1)
		fatal("cannot make a shared lock: %s", strerror(errno));
}

/*
 * Have a process of its own carry the answers over, while the children of the
 * image before still serve: the master trusts nothing that children can write,
 * and takes no lock.  If there is much, we don't wait for the end.
 */
static void
carry_over(struct server *server, int old)
{
	struct pollfd pfd = { .events = POLLIN };
	struct cache_stats stats;
	int fd[2];
	pid_t pid;

	server->master = getpid();
	if (pipe2(fd, O_CLOEXEC) == 0) {
		pid = fork();
		if (pid == 0)
			carry(server, old);
		close(fd[1]);
		pfd.fd = fd[0];
		if (pid != -1)
			poll(&pfd, 1, CARRY_MS);	/* till it is gone */
		close(fd[0]);
	}
	cache_count(server->cache, &stats);
	log_info("the shared memory has another layout now; %llu answers "
	    "are carried over", (unsigned long long)stats.entries);
}

static void
carry(struct server *server, int old)
{
	static const struct rlimit cpu = { CARRY_CPU_S, CARRY_CPU_S };
	struct server other = { .sockets = 0 };
	struct server_shape *shape = &other.shape;
	struct stat st;
	uint8_t *base = MAP_FAILED;

	setrlimit(RLIMIT_CPU, &cpu);	/* nobody watches this process */
	if (fstat(old, &st) == 0)
		base = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE,
		    MAP_SHARED, old, 0);
	privileges_drop(&server->privileges, server->master);
	if (base == MAP_FAILED)
		_exit(1);
	lay_out(&other, base);
	if (other.header->magic != MAGIC)
		_exit(1);
	*shape = other.header->shape;
	lay_out(&other, base);
	if (shape->size == (uint64_t)st.st_size && (uintptr_t)other.cache -
	    (uintptr_t)base + cache_size(shape->cache_size,
	    shape->cache_memory) == shape->size && cache_is(other.cache,
	    shape->cache_size, shape->cache_memory))
		cache_carry(server->cache, other.cache, mono_boot_ms(),
		    hash_key, server);
	_exit(0);
}

static uint64_t
hash_key(const void *server, const uint8_t *key, size_t key_len)
{
	return (server_hash(server, key, key_len));
}

static uint8_t *
map_file(struct server *server, int old)
{
	const char *path = server->options.segment_file, *error;
	uint8_t *base;

	server->segment = segment_open(path, server->shape.size, old, &error);
	if (server->segment == -1) {
		log_warn("segment-file %s: %s; the cache is not kept", path,
		    error);
		return (NULL);
	}
	base = segment_map_again(server->segment, server->shape.size);
	if (base == NULL)
		close(server->segment);
	return (base);
}

/*
 * Take over what an earlier daemon left in the segment-file: the cache alone,
 * if it is of this layout and of this start of the machine, since its times
 * are.
 */
static bool
warm_start(struct server *server, uint8_t *base)
{
	struct cache_stats stats;
	char boot[BOOT_LEN];

	lay_out(server, base);
	if (server->header->magic == 0)
		return (false);		/* new */
	read_boot(boot);
	if (server->header->magic == MAGIC && memcmp(&server->header->shape,
	    &server->shape, sizeof(server->shape)) == 0 &&
	    memcmp(server->header->boot, boot, sizeof(boot)) == 0 &&
	    cache_adopt(server->cache, server->shape.cache_size,
	    server->shape.cache_memory) == 0) {
		format(server);
		cache_count(server->cache, &stats);
		log_info("segment-file %s: %llu answers are kept",
		    server->options.segment_file,
		    (unsigned long long)stats.entries);
		return (true);
	}
	log_warn("segment-file %s: of another layout or machine start, or "
	    "damaged; the cache starts empty", server->options.segment_file);
	return (false);
}

/* What tells this start of the machine from others; zeroes if nothing does. */
static void
read_boot(char boot[BOOT_LEN])
{
	FILE *from;

	memset(boot, 0, BOOT_LEN);
	if ((from = fopen("/proc/sys/kernel/random/boot_id", "re")) == NULL)
		return;
	if (fgets(boot, BOOT_LEN, from) == NULL)
		boot[0] = '\0';
	fclose(from);
}

/* Mailboxes are as many as workers; they are kept with the segment. */
static void
make_pairs(struct server *server, const struct restart *taken)
{
	static const int bytes = STREAM_BYTES;
	const int *old = NULL;
	unsigned i;
	int *end;

	if (server->kept && taken->mailboxes ==
	    2 * (server->workers + STREAMS))
		old = taken->mailbox;
	server->mailbox = calloc(server->workers, sizeof(*server->mailbox));
	if (server->mailbox == NULL)
		fatal("out of memory");
	for (i = 0; i < server->workers; i++)
		make_pair(server->mailbox[i].end, old, i);
	for (i = 0; i < STREAMS; i++) {
		end = server->stream_mailbox[i].end;
		make_pair(end, old, server->workers + i);
		setsockopt(end[MAIL_OTHERS], SOL_SOCKET, SO_SNDBUF, &bytes,
		    sizeof(bytes));
#ifdef SO_SNDBUFFORCE
		setsockopt(end[MAIL_OTHERS], SOL_SOCKET, SO_SNDBUFFORCE,
		    &bytes, sizeof(bytes));
#endif
	}
	for (i = 0; old == NULL && taken != NULL && i < taken->mailboxes; i++)
		close(taken->mailbox[i]);
	make_pair(server->relay, taken == NULL ? NULL : taken->relay, 0);
}

/* Fill pair, from the n-th of old or anew. */
static void
make_pair(int *pair, const int *old, unsigned n)
{
	if (old != NULL)
		memcpy(pair, old + 2 * (size_t)n, 2 * sizeof(*pair));
	else if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, pair) ==
	    -1)
		fatal("cannot make a mailbox: %s", strerror(errno));
}
