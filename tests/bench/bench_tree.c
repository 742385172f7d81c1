/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/*
 * What process trees hold and have taken, in one line:
 *
 *	bench_tree pid,...
 *
 * pss_kb is their proportional share of memory, so that a page which several
 * of them map counts once.  The page tables themselves are not in it; they
 * are pte_kb.
 */

#include <stdio.h>

#include "tree.h"

int
main(int argc, char **argv)
{
	struct tree tree;
	pid_t roots[TREE_ROOTS];
	unsigned n = 0;

	if (argc == 2)
		n = tree_parse(roots, argv[1]);
	if (n == 0) {
		fprintf(stderr, "usage: bench_tree pid,...\n");
		return (2);
	}
	tree_memory(&tree, roots, n);
	printf("processes=%u threads=%u cpu_us=%llu pss_kb=%llu pte_kb=%llu\n",
	    tree.processes, tree.threads,
	    (unsigned long long)tree.cpu_ns / 1000,
	    (unsigned long long)tree.pss_kb, (unsigned long long)tree.pte_kb);
	return (0);
}
