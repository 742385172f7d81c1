/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */
int
main(void)
{
	return (77);
}
