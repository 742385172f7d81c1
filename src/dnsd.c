/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * dnsd, a caching DNS forwarder: what the command line asks for.
 */

#include <stdio.h>
#include <unistd.h>

#include "log.h"
#include "master.h"
#include "options.h"
#include "restart.h"

#define EXIT_USAGE	2

int
main(int argc, char **argv)
{
	char error[OPTIONS_ERROR_MAX];
	static struct options options;
	int config = restart_config();

	if (options_read(&options, config, argc, argv, error) == -1) {
		fprintf(stderr, "%s\n", error);
		return (EXIT_USAGE);
	}
	if (config != -1)
		close(config);
	if (options.help) {
		options_usage(stdout);
		return (0);
	}
	if (options.version) {
		printf("dnsd %s\n", DNSD_VERSION);
		return (0);
	}
	if (options.check) {
		options_print(&options, stdout);
		return (0);
	}
	log_set_level(options.log_level);
	return (master_run(&options, argc, argv));
}
