/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The command line of bench_load.  What it doesn't say is as a saturated
 * server with 1,000 hot names wants it.
 */

#include <sys/mman.h>

#include <err.h>
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "flight.h"
#include "plan.h"

static const struct wire_count *map_count(const char *);
static void	 usage(void) __attribute__((__noreturn__));

void
plan_parse(struct plan *plan, int argc, char **argv)
{
	enum { PORT, MODE, NAMES, FILLED, WINDOW, RATE, SECONDS, COUNT, WARM,
	    SOCKETS, DEAD, TIMEOUT, FIRST, SEED, SERVER, UPSTREAM };
	static const struct option options[] = {
		{ "port", required_argument, NULL, PORT },
		{ "mode", required_argument, NULL, MODE },
		{ "names", required_argument, NULL, NAMES },
		{ "filled", no_argument, NULL, FILLED },
		{ "window", required_argument, NULL, WINDOW },
		{ "rate", required_argument, NULL, RATE },
		{ "seconds", required_argument, NULL, SECONDS },
		{ "count", required_argument, NULL, COUNT },
		{ "warm", required_argument, NULL, WARM },
		{ "sockets", required_argument, NULL, SOCKETS },
		{ "dead", required_argument, NULL, DEAD },
		{ "timeout-ms", required_argument, NULL, TIMEOUT },
		{ "first", required_argument, NULL, FIRST },
		{ "seed", required_argument, NULL, SEED },
		{ "server", required_argument, NULL, SERVER },
		{ "upstream-count", required_argument, NULL, UPSTREAM },
		{ NULL, 0, NULL, 0 }
	};
	static const char *modes[] = { "hot", "uniform", "zipf", "miss" };
	char *end;
	int ch;

	*plan = (struct plan){ .mode = NAMES_HOT, .names = 1000, .window = 200,
	    .seconds = 5, .sockets = 16, .timeout_ms = 2000, .seed = 1 };
	while ((ch = getopt_long_only(argc, argv, "", options, NULL)) != -1) {
		switch (ch) {
		case PORT:
			plan->port = wire_number(optarg, 1024, 65535);
			break;
		case MODE:
			plan->mode = 0;
			while (strcmp(optarg, modes[plan->mode]) != 0)
				if (++plan->mode > NAMES_MISS)
					usage();
			break;
		case NAMES:
			plan->names = wire_number(optarg, 1, 100000000);
			break;
		case FILLED:
			plan->filled = true;
			break;
		case WINDOW:
			plan->window = wire_number(optarg, 1, 100000);
			break;
		case RATE:
			plan->rate = wire_number(optarg, 0, 10000000);
			break;
		case SECONDS:
			plan->seconds = strtod(optarg, &end);
			if (*end != '\0' || plan->seconds < 0 ||
			    plan->seconds > 3600)
				usage();
			break;
		case COUNT:
			plan->count = wire_number(optarg, 0, UINT32_MAX);
			break;
		case WARM:
			plan->warm = wire_number(optarg, 0, UINT32_MAX);
			break;
		case SOCKETS:
			plan->sockets = wire_number(optarg, 1, FLIGHT_SOCKETS);
			break;
		case DEAD:
			plan->dead_rate = wire_number(optarg, 0, 100000);
			break;
		case TIMEOUT:
			plan->timeout_ms = wire_number(optarg, 1, 4000);
			break;
		case FIRST:
			plan->first = wire_number(optarg, 0, INT32_MAX);
			break;
		case SEED:
			plan->seed = wire_number(optarg, 0, UINT32_MAX);
			break;
		case SERVER:
			plan->roots_n = tree_parse(plan->roots, optarg);
			if (plan->roots_n == 0)
				usage();
			break;
		case UPSTREAM:
			plan->upstream = map_count(optarg);
			break;
		default:
			usage();
		}
	}
	if (plan->port == 0 || optind != argc)
		usage();
	if (plan->sockets > plan->window)
		plan->sockets = plan->window;
}

static void
usage(void)
{
	fprintf(stderr, "usage: bench_load -port n "
	    "[-mode hot|uniform|zipf|miss] [-names n]\n"
	    "\t[-filled] [-window n | -rate n] [-seconds n] [-count n] "
	    "[-warm n]\n"
	    "\t[-sockets n] [-dead n] [-timeout-ms n] [-first n] [-seed n]\n"
	    "\t[-server pid,...] [-upstream-count file]\n");
	exit(2);
}

static const struct wire_count *
map_count(const char *file)
{
	const struct wire_count *count;
	int fd;

	if ((fd = open(file, O_RDONLY | O_CLOEXEC)) == -1)
		err(1, "%s", file);
	count = mmap(NULL, sizeof(*count), PROT_READ, MAP_SHARED, fd, 0);
	if (count == MAP_FAILED)
		err(1, "%s", file);
	close(fd);
	return (count);
}
