/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

#ifndef DAEMON_H
#define DAEMON_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define DAEMON_PROCESSES	512	/* children of one master */
#define DAEMON_PATIENCE_MS	10000	/* a machine may be slow */

/* How much longer a process takes to start and to end under a sanitizer. */
#if defined(__SANITIZE_ADDRESS__)
#define DAEMON_SLOWER		4
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define DAEMON_SLOWER		4
#endif
#endif
#ifndef DAEMON_SLOWER
#define DAEMON_SLOWER		1
#endif

#define DAEMON_RECORDS		128	/* of one reply that are looked at */
#define DAEMON_STAT_NONE	UINT64_MAX

/* A dnsd under test.  Set to zero before daemon_start(). */
struct daemon {
	pid_t		 pid;		/* the master; 0: none */
	uint16_t	 port;		/* on 127.0.0.1 */
	int		 log;		/* the file that its stderr goes to */
	off_t		 mark;		/* see daemon_mark() */
};

/* A question; what is zero stands for what is usual. */
struct query {
	const char	*name;
	uint16_t	 type;		/* 0: A */
	uint16_t	 class;		/* 0: IN */
	uint16_t	 id;		/* 0: random */
	uint16_t	 flags;		/* besides RD */
	bool		 no_rd;
	bool		 edns;
	uint16_t	 edns_size;	/* 0: 1232 */
	uint8_t		 edns_version;
	bool		 dnssec_ok;	/* with edns only */
	const uint8_t	*options;	/* the OPT's data */
	size_t		 options_len;
};

struct record {
	uint8_t		 section;	/* 0: answer, 1: authority, 2: ... */
	uint16_t	 type;
	uint16_t	 class;
	uint32_t	 ttl;
	const uint8_t	*rdata;
	size_t		 rdata_len;
};

/* A reply and what stands in it.  The OPT is none of the records. */
struct reply {
	uint8_t		 buf[65536];
	size_t		 len;
	uint64_t	 took_us;	/* from the query, by daemon_ask() */
	uint16_t	 id;
	uint16_t	 flags;
	uint16_t	 rcode;		/* with the OPT's bits */
	uint16_t	 count[4];	/* as in the header */
	size_t		 question_len;	/* bytes after the header */
	size_t		 records;
	struct record	 record[DAEMON_RECORDS];
	bool		 edns;
	uint16_t	 edns_size;
	bool		 dnssec_ok;
	bool		 malformed;	/* it doesn't parse to its very end */
};

/*
 * The directory in which the daemons' files are.  daemon_dir_make() makes it,
 * once a program; daemon_dir_remove() ends daemons whose pidfile is still in
 * it and removes it.
 */
void	 daemon_dir_make(void);
void	 daemon_dir_remove(void);
const char *daemon_dir(void);

/* A UDP port of 127.0.0.1 and ::1 that nobody has. */
uint16_t daemon_free_port(void);

/*
 * Start $DNSD in the foreground with the options, which are words between
 * blanks, and wait till it answers on 127.0.0.1.  port 0: listens on a free
 * port; else the options say so.  Returns false if it doesn't start; then its
 * log has been printed.
 */
bool	 daemon_start(struct daemon *daemon, const char *options, ...)
	    __attribute__((__format__(__printf__, 2, 3)));

/*
 * Run $DNSD with exactly these options till its end.  What it prints goes to
 * out.  Returns its exit status, or -1 if a signal or our patience ended it.
 */
int	 daemon_run(char *out, size_t size, const char *options, ...)
	    __attribute__((__format__(__printf__, 3, 4)));

/*
 * Send the signal (0: none) and wait for the end.  Returns the exit status,
 * or -1 if a signal ended it or it had to be killed after within_ms.
 */
int	 daemon_stop(struct daemon *daemon, int signo, unsigned within_ms);

/*
 * Is the text in what has been logged since daemon_mark()?  Waits for it up
 * to within_ms.
 */
void	 daemon_mark(struct daemon *daemon);
bool	 daemon_logged(const struct daemon *daemon, const char *text,
	    unsigned within_ms);

/* Print what has been logged. */
void	 daemon_print_log(const struct daemon *daemon);

/*
 * A counter as SIGUSR1 has it logged: one of the whole daemon's (upstream
 * NULL) or of an upstream's.  DAEMON_STAT_NONE: there is no such counter.
 */
uint64_t daemon_stat(struct daemon *daemon, const char *upstream,
	    const char *name);

/* Wait for a counter to have a value.  Returns whether it came to that. */
bool	 daemon_stat_is(struct daemon *daemon, const char *upstream,
	    const char *name, uint64_t value);

/*
 * The living children of a process whose title holds the text (NULL: all).
 * Returns how many of pids' DAEMON_PROCESSES were filled.
 */
size_t	 daemon_children(pid_t parent, const char *title,
	    pid_t pids[DAEMON_PROCESSES]);

/* Is there no such process any more, but perhaps a zombie? */
bool	 daemon_gone(pid_t pid);

/* Stop a process; returns when it stands still. */
void	 daemon_freeze(pid_t pid);

/* Write a query.  Returns its length. */
size_t	 query_write(uint8_t buf[1500], const struct query *query);

/* A UDP socket from one address to another, any port where from has none. */
int	 client_open(const char *from, const char *to, uint16_t port);

/* Send a query from a socket that is connected. */
void	 client_send(int fd, const struct query *query);

/* Receive and parse.  Returns false if nothing came in that time. */
bool	 client_receive(int fd, struct reply *reply, unsigned within_ms);

/*
 * Ask the daemon from a socket of its own.  Returns true if a whole reply
 * came, with the query's ID and question.
 */
bool	 daemon_ask(const struct daemon *daemon, const struct query *query,
	    struct reply *reply);

/* The same with no more than a name and a type. */
bool	 daemon_ask_for(const struct daemon *daemon, const char *name,
	    uint16_t type, struct reply *reply);

void	 reply_parse(struct reply *reply);

#endif
