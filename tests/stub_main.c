/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * The stub upstream as a program: `stub [-address A] [-port N]'.  It prints
 * where it serves, and goes on till SIGTERM or SIGINT.
 */

#include <err.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "stub.h"

static void	 started(const struct stub *);
static void	 usage(void) __attribute__((__noreturn__));

int
main(int argc, char **argv)
{
	const char *address = "127.0.0.1";
	unsigned long port = 0;
	char *end;
	int i;

	for (i = 1; i + 1 < argc; i += 2) {
		if (strcmp(argv[i], "-address") == 0)
			address = argv[i + 1];
		else if (strcmp(argv[i], "-port") == 0) {
			port = strtoul(argv[i + 1], &end, 10);
			if (*end != '\0' || port > UINT16_MAX)
				errx(2, "%s: not a port", argv[i + 1]);
		} else
			usage();
	}
	if (i < argc)
		usage();
	if (stub_run(address, port, started) == -1)
		err(1, "cannot serve on %s port %lu", address, port);
	return (0);
}

static void
started(const struct stub *stub)
{
	printf("stub: serving on %s\n", stub->text);
	fflush(stdout);
}

static void
usage(void)
{
	fprintf(stderr, "usage: stub [-address ADDRESS] [-port PORT]\n");
	exit(2);
}
