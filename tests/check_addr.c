/* SPDX-License-Identifier: ISC */
/* Copyright (c) 2026 The PicoDNS authors */

/* Socket addresses: in text, in prefixes, and to and from the kernel. */

#include <arpa/inet.h>
#include <net/if.h>

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "addr.h"

#define NELEMS(array)	(sizeof(array) / sizeof((array)[0]))

static struct addr	 addr(const char *);
static struct addr_prefix prefix(const char *);
static const char	*interface_name(void);

/* An address that must parse. */
static struct addr
addr(const char *text)
{
	struct addr a;
	const char *error;

	memset(&a, 0xa5, sizeof(a));
	error = addr_parse(&a, text, 53);
	ck_assert_msg(error == NULL, "%s: %s", text, error);
	return (a);
}

static struct addr_prefix
prefix(const char *text)
{
	struct addr_prefix p;
	const char *error;

	memset(&p, 0xa5, sizeof(p));
	error = addr_prefix_parse(&p, text);
	ck_assert_msg(error == NULL, "%s: %s", text, error);
	return (p);
}

/* The name of an interface that is there: loopback is on every machine. */
static const char *
interface_name(void)
{
	static char name[IF_NAMESIZE];
	struct if_nameindex *all = if_nameindex();

	ck_assert_ptr_nonnull(all);
	ck_assert_ptr_nonnull(all[0].if_name);
	ck_assert_uint_lt(strlcpy(name, all[0].if_name, sizeof(name)),
	    sizeof(name));
	if_freenameindex(all);
	return (name);
}

/* Text. */

START_TEST(address_is_parsed)
{
	static const struct {
		const char	*text;
		const char	*ip;	/* for inet_pton(); NULL: any */
		int		 family;
		unsigned	 port;
	} cases[] = {
		{ "1.2.3.4", "1.2.3.4", AF_INET, 53 },
		{ "1.2.3.4:5353", "1.2.3.4", AF_INET, 5353 },
		{ "0.0.0.0:1", "0.0.0.0", AF_INET, 1 },
		{ "255.255.255.255:65535", "255.255.255.255", AF_INET,
		    65535 },
		{ "::1", "::1", AF_INET6, 53 },
		{ "::", "::", AF_INET6, 53 },
		{ "[::1]", "::1", AF_INET6, 53 },
		{ "[::1]:5353", "::1", AF_INET6, 5353 },
		{ "[::]:53", "::", AF_INET6, 53 },
		{ "2606:4700:4700::1111", "2606:4700:4700::1111", AF_INET6,
		    53 },
		{ "[2606:4700:4700::1111]:853", "2606:4700:4700::1111",
		    AF_INET6, 853 },
		{ "[2001:DB8:0:0:0:0:0:1]:53", "2001:db8::1", AF_INET6, 53 },
		{ "::1:5353", "::1:5353", AF_INET6, 53 },
		{ ":5353", NULL, AF_UNSPEC, 5353 },
		{ "::ffff:192.0.2.1", "192.0.2.1", AF_INET, 53 },
		{ "[::ffff:192.0.2.1]:5353", "192.0.2.1", AF_INET, 5353 },
		{ "[::ffff:c000:201]:5353", "192.0.2.1", AF_INET, 5353 },
		{ "::192.0.2.1", "::192.0.2.1", AF_INET6, 53 },
	};
	struct addr a;
	uint8_t ip[16];
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		a = addr(cases[i].text);
		memset(ip, 0, sizeof(ip));
		if (cases[i].ip != NULL)
			ck_assert_int_eq(inet_pton(cases[i].family,
			    cases[i].ip, ip), 1);
		ck_assert_msg(a.family == cases[i].family, "%s",
		    cases[i].text);
		ck_assert_msg(a.port == cases[i].port, "%s: port %u",
		    cases[i].text, a.port);
		ck_assert_msg(memcmp(a.ip, ip, sizeof(ip)) == 0, "%s",
		    cases[i].text);
		ck_assert_uint_eq(a.scope, 0);
	}
}
END_TEST

START_TEST(link_local_address_has_an_interface)
{
	char text[ADDR_TEXT_MAX], back[ADDR_TEXT_MAX];
	struct addr a;

	snprintf(text, sizeof(text), "[fe80::1%%%s]:53", interface_name());
	a = addr(text);
	ck_assert_int_eq(a.family, AF_INET6);
	ck_assert_uint_eq(a.scope, if_nametoindex(interface_name()));
	ck_assert_uint_ne(a.scope, 0);
	ck_assert_str_eq(addr_print(back, &a), text);

	snprintf(text, sizeof(text), "fe80::1%%%s", interface_name());
	ck_assert_uint_eq(addr(text).scope, a.scope);
}
END_TEST

START_TEST(bad_address_is_refused)
{
	static const struct {
		const char	*text;
		const char	*error;	/* a part of it; NULL: any */
	} cases[] = {
		{ "", NULL },
		{ ":", "port" },
		{ "[]", NULL },
		{ "[]:53", NULL },
		{ "[", NULL },
		{ "]", NULL },
		{ "localhost", "address" },
		{ "localhost:53", "address" },
		{ "dns.example.com:53", "address" },
		{ "*:53", "address" },
		{ "1.2.3", "address" },
		{ "1.2.3:53", "address" },
		{ "1.2.3.4.5", "address" },
		{ "1.2.3.4.5:53", "address" },
		{ "256.1.1.1", "address" },
		{ "1.2.3.-4", "address" },
		{ "0x1.2.3.4", "address" },
		{ " 1.2.3.4", "address" },
		{ "1.2.3.4 ", "address" },
		{ "1.2.3.4%lo", "address" },
		{ "1.2.3.4,5.6.7.8", "address" },
		{ "1.2.3.4/32", "address" },
		{ "12345::1", "address" },
		{ "1::2::3", "address" },
		{ ":::1", "address" },
		{ "1:2:3:4:5:6:7:8:9", "address" },
		{ "[::1", NULL },
		{ "[::1]53", NULL },
		{ "[::1]:", "port" },
		{ "[::1]:0", "port" },
		{ "[::1]]:53", NULL },
		{ "[[::1]]:53", NULL },
		{ "[localhost]:53", "address" },
		{ "[fe80::1%nosuchif0]:53", "interface" },
		{ "[fe80::1%]:53", "interface" },
		{ "1.2.3.4:", "port" },
		{ "1.2.3.4:0", "port" },
		{ "1.2.3.4:65536", "port" },
		{ "1.2.3.4:70000", "port" },
		{ "1.2.3.4:-1", "port" },
		{ "1.2.3.4:53x", "port" },
		{ "1.2.3.4:domain", "port" },
		{ "1.2.3.4:0x35", "port" },
		{ "1.2.3.4:4294967349", "port" },
		{ "1.2.3.4:18446744073709551669", "port" },
		{ ":0", "port" },
		{ ":70000", "port" },
		{ ":domain", "port" },
	};
	struct addr a;
	const char *error;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		error = addr_parse(&a, cases[i].text, 53);
		ck_assert_msg(error != NULL && *error != '\0', "\"%s\"",
		    cases[i].text);
		if (cases[i].error != NULL)
			ck_assert_msg(strstr(error, cases[i].error) != NULL,
			    "\"%s\": %s", cases[i].text, error);
	}
}
END_TEST

START_TEST(port_may_be_required)
{
	static const char *const without[] = { "1.2.3.4", "::1", "[::1]" };
	struct addr a;
	const char *error;
	size_t i;

	for (i = 0; i < NELEMS(without); i++) {
		error = addr_parse(&a, without[i], 0);
		ck_assert_msg(error != NULL && strstr(error, "port") != NULL,
		    "%s", without[i]);
	}
	ck_assert_ptr_null(addr_parse(&a, "1.2.3.4:53", 0));
	ck_assert_ptr_null(addr_parse(&a, "[::1]:53", 0));
	ck_assert_ptr_null(addr_parse(&a, ":53", 0));
}
END_TEST

START_TEST(text_of_any_length_is_refused)
{
	static const struct {
		const char	*before, *behind;
	} cases[] = {
		{ "", "" }, { "[", "]:53" }, { "", ":53" }, { "1.2.3.4:", "" },
		{ "[fe80::1%", "]:53" }, { "fe80::1%", "" }, { "::1/", "" },
	};
	char fill[2000], text[2100];
	struct addr_prefix p;
	struct addr a;
	size_t i, len;

	for (i = 0; i < NELEMS(cases); i++) {
		for (len = 30; len < sizeof(fill); len += len < 100 ? 1 : 97) {
			memset(fill, '1', len);
			fill[len] = '\0';
			snprintf(text, sizeof(text), "%s%s%s",
			    cases[i].before, fill, cases[i].behind);
			ck_assert_msg(addr_parse(&a, text, 53) != NULL, "%s",
			    text);
			ck_assert_msg(addr_prefix_parse(&p, text) != NULL,
			    "%s", text);
		}
	}
}
END_TEST

START_TEST(address_is_printed_as_it_is_parsed)
{
	static const struct {
		const char	*text, *printed;
	} cases[] = {
		{ "127.0.0.1:53", "127.0.0.1:53" },
		{ "1.2.3.4", "1.2.3.4:53" },
		{ "255.255.255.255:65535", "255.255.255.255:65535" },
		{ "::1", "[::1]:53" },
		{ "[::]:65535", "[::]:65535" },
		{ "[2001:DB8:0:0::1]:53", "[2001:db8::1]:53" },
		{ "::ffff:192.0.2.1", "192.0.2.1:53" },
		{ "[2001:db8:1111:2222:3333:4444:5555:6666]:65535",
		  "[2001:db8:1111:2222:3333:4444:5555:6666]:65535" },
		{ ":53", ":53" },
	};
	char text[ADDR_TEXT_MAX];
	struct addr a, again;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		a = addr(cases[i].text);
		ck_assert_ptr_eq(addr_print(text, &a), text);
		ck_assert_str_eq(text, cases[i].printed);
		again = addr(text);
		ck_assert(addr_equal(&a, &again));
	}
}
END_TEST

START_TEST(addresses_are_equal_in_every_part)
{
	static const char *const different[] = {
		"1.2.3.5:53", "1.2.3.4:54", "1.2.3.132:53", "129.2.3.4:53",
		":53", "[102:304::]:53", "[::1.2.3.4]:53",
	};
	struct addr a = addr("1.2.3.4:53"), b = addr("[::ffff:1.2.3.4]:53");
	size_t i;

	ck_assert(addr_equal(&a, &b));
	for (i = 0; i < NELEMS(different); i++) {
		b = addr(different[i]);
		ck_assert_msg(!addr_equal(&a, &b), "%s", different[i]);
	}
	a = b = addr("[fe80::1]:53");
	ck_assert(addr_equal(&a, &b));
	b.scope = 1;
	ck_assert(!addr_equal(&a, &b));
	b = addr("[fe80::2]:53");
	ck_assert(!addr_equal(&a, &b));
}
END_TEST

START_TEST(loopback_is_known)
{
	static const struct {
		const char	*text;
		bool		 loopback;
	} cases[] = {
		{ "127.0.0.1", true }, { "127.255.255.255", true },
		{ "::1", true }, { "::ffff:127.0.0.1", true },
		{ "126.255.255.255", false }, { "128.0.0.1", false },
		{ "0.0.0.0", false }, { "::", false }, { "::2", false },
		{ "1::1", false }, { "7f00::1", false }, { ":53", false },
	};
	struct addr a;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		a = addr(cases[i].text);
		ck_assert_msg(addr_is_loopback(&a) == cases[i].loopback, "%s",
		    cases[i].text);
	}
}
END_TEST

START_TEST(own_address_is_reached)
{
	static const struct {
		const char	*addr, *listen;
		bool		 reaches;
	} cases[] = {
		{ "127.0.0.1:53", ":53", true },
		{ "127.0.0.53:53", ":53", true },
		{ "[::1]:53", ":53", true },
		{ "127.0.0.1:53", "0.0.0.0:53", true },
		{ "[::1]:53", "[::]:53", true },
		{ "127.0.0.1:53", "127.0.0.1:53", true },
		{ "[::ffff:127.0.0.1]:53", "127.0.0.1:53", true },
		{ "[::1]:53", "[::1]:53", true },
		{ "127.0.0.1:54", ":53", false },
		{ "127.0.0.1:54", "127.0.0.1:53", false },
		{ "127.0.0.2:53", "127.0.0.1:53", false },
		{ "[::1]:53", "127.0.0.1:53", false },
		{ "[::1]:53", "0.0.0.0:53", false },
		{ "[2001:db8:dead:beef::77]:53", ":53", false },
		{ "[2001:db8:dead:beef::77]:53", "[::]:53", false },
	};
	struct addr a, listen;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		a = addr(cases[i].addr);
		listen = addr(cases[i].listen);
		ck_assert_msg(addr_reaches(&a, &listen) == cases[i].reaches,
		    "%s and %s", cases[i].addr, cases[i].listen);
	}
}
END_TEST

/* Prefixes. */

START_TEST(prefix_matches_to_its_last_bit)
{
	static const struct {
		const char	*prefix, *addr;
		bool		 match;
	} cases[] = {
		{ "any", "1.2.3.4", true },
		{ "any", "::1", true },
		{ "0.0.0.0/0", "0.0.0.0", true },
		{ "0.0.0.0/0", "255.255.255.255", true },
		{ "0.0.0.0/0", "::1", false },
		{ "::/0", "::1", true },
		{ "::/0", "ffff::1", true },
		{ "10.0.0.0/8", "10.0.0.0", true },
		{ "10.0.0.0/8", "10.255.255.255", true },
		{ "10.0.0.0/8", "9.255.255.255", false },
		{ "10.0.0.0/8", "11.0.0.0", false },
		{ "10.0.0.0/8", "::ffff:10.1.2.3", true },
		{ "10.0.0.0/8", "[a00::1]:53", false },
		{ "172.16.0.0/12", "172.16.0.0", true },
		{ "172.16.0.0/12", "172.31.255.255", true },
		{ "172.16.0.0/12", "172.15.255.255", false },
		{ "172.16.0.0/12", "172.32.0.0", false },
		{ "100.64.0.0/10", "100.127.255.255", true },
		{ "100.64.0.0/10", "100.128.0.0", false },
		{ "128.0.0.0/1", "128.0.0.0", true },
		{ "128.0.0.0/1", "127.255.255.255", false },
		{ "192.0.2.0/25", "192.0.2.127", true },
		{ "192.0.2.0/25", "192.0.2.128", false },
		{ "192.0.2.0/31", "192.0.2.1", true },
		{ "192.0.2.0/31", "192.0.2.2", false },
		{ "192.0.2.1/32", "192.0.2.1", true },
		{ "192.0.2.1/32", "192.0.2.0", false },
		{ "192.0.2.1", "192.0.2.1", true },
		{ "192.0.2.1", "192.0.2.2", false },
		{ "::1", "::1", true },
		{ "::1", "::2", false },
		{ "::1", "127.0.0.1", false },
		{ "::1/128", "::", false },
		{ "::2/127", "::3", true },
		{ "::2/127", "::4", false },
		{ "fe80::/10", "febf:ffff::1", true },
		{ "fe80::/10", "fec0::1", false },
		{ "fc00::/7", "fdff::1", true },
		{ "fc00::/7", "fe00::1", false },
		{ "2001:db8::/32", "2001:db8:ffff::1", true },
		{ "2001:db8::/32", "2001:db9::1", false },
		{ "2001:db8::/65", "2001:db8::7fff:0:0:1", true },
		{ "2001:db8::/65", "2001:db8::8000:0:0:1", false },
		{ "::ffff:192.0.2.1", "192.0.2.1", true },
		{ "::ffff:192.0.2.1", "192.0.2.2", false },
	};
	struct addr_prefix p;
	struct addr a;
	size_t i;

	for (i = 0; i < NELEMS(cases); i++) {
		p = prefix(cases[i].prefix);
		a = addr(cases[i].addr);
		ck_assert_msg(addr_prefix_match(&p, &a) == cases[i].match,
		    "%s and %s", cases[i].prefix, cases[i].addr);
	}
}
END_TEST

/* The port and the interface of a client have no part in it. */
START_TEST(prefix_matches_address_alone)
{
	struct addr_prefix p = prefix("fe80::/10");
	struct addr a = addr("[fe80::1]:4711");

	a.scope = 3;
	ck_assert(addr_prefix_match(&p, &a));
	p = prefix("fe80::1");
	ck_assert(addr_prefix_match(&p, &a));
}
END_TEST

START_TEST(bad_prefix_is_refused)
{
	static const char *const texts[] = {
		"", "/", "/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1",
		"10.0.0.0/8x", "10.0.0.0/x", "10.0.0.0/8/8", "10/8",
		"10.0.0.0/255.0.0.0", "10.0.0.0:53", "10.0.0.0/4294967304",
		"localhost", "localhost/8", "all", "ANY/8", "any/8", "::/129",
		"::1/", "[::1]/128", "[::1]", "[::1]:53", ":53",
		"10.0.0.0/8,::1",
	};
	struct addr_prefix p;
	const char *error;
	size_t i;

	for (i = 0; i < NELEMS(texts); i++) {
		error = addr_prefix_parse(&p, texts[i]);
		ck_assert_msg(error != NULL && *error != '\0', "\"%s\"",
		    texts[i]);
	}
}
END_TEST

/* The bits of a mapped prefix count from the 96th, or it is refused. */
START_TEST(mapped_prefix_is_not_read_past_its_address)
{
	struct addr_prefix p;
	struct addr in = addr("10.1.2.3"), out = addr("11.1.2.3");

	if (addr_prefix_parse(&p, "::ffff:10.0.0.0/104") == NULL) {
		ck_assert_uint_le(p.bits, 32);
		ck_assert(addr_prefix_match(&p, &in));
		ck_assert(!addr_prefix_match(&p, &out));
	}
}
END_TEST

START_TEST(prefix_is_printed_as_it_is_parsed)
{
	static const char *const texts[] = {
		"any", "10.0.0.0/8", "0.0.0.0/0", "192.0.2.1", "::1", "::/0",
		"fc00::/7", "2001:db8:1111:2222:3333:4444:5555:6666/127",
		"192.0.2.1/32", "::1/128",
	};
	char text[ADDR_TEXT_MAX];
	struct addr_prefix again, p;
	size_t i;

	for (i = 0; i < NELEMS(texts); i++) {
		p = prefix(texts[i]);
		ck_assert_ptr_eq(addr_prefix_print(text, &p), text);
		ck_assert_int_eq(strncmp(text, texts[i],
		    strcspn(texts[i], "/")), 0);
		again = prefix(text);
		ck_assert_uint_eq(again.bits, p.bits);
		ck_assert(addr_equal(&again.addr, &p.addr));
	}
}
END_TEST

/* The kernel's form. */

START_TEST(ipv4_address_becomes_a_sockaddr)
{
	const struct sockaddr_in *sin;
	struct sockaddr_storage ss;
	struct addr a = addr("192.0.2.1:5353"), back;

	memset(&ss, 0xa5, sizeof(ss));
	ck_assert_uint_eq(addr_to_sockaddr(&a, AF_INET, &ss), sizeof(*sin));
	sin = (const struct sockaddr_in *)&ss;
	ck_assert_int_eq(sin->sin_family, AF_INET);
	ck_assert_uint_eq(ntohs(sin->sin_port), 5353);
	ck_assert_mem_eq(&sin->sin_addr, "\300\0\2\1", 4);
	memset(&back, 0xa5, sizeof(back));
	addr_from_sockaddr(&back, &ss);
	ck_assert(addr_equal(&a, &back));
}
END_TEST

START_TEST(ipv4_address_is_mapped_for_an_ipv6_socket)
{
	const struct sockaddr_in6 *sin6;
	struct sockaddr_storage ss;
	struct addr a = addr("192.0.2.1:5353"), back;

	memset(&ss, 0xa5, sizeof(ss));
	ck_assert_uint_eq(addr_to_sockaddr(&a, AF_INET6, &ss), sizeof(*sin6));
	sin6 = (const struct sockaddr_in6 *)&ss;
	ck_assert_int_eq(sin6->sin6_family, AF_INET6);
	ck_assert_uint_eq(ntohs(sin6->sin6_port), 5353);
	ck_assert_mem_eq(&sin6->sin6_addr,
	    "\0\0\0\0\0\0\0\0\0\0\xff\xff\300\0\2\1", 16);
	ck_assert_uint_eq(sin6->sin6_scope_id, 0);
	ck_assert_uint_eq(sin6->sin6_flowinfo, 0);
	memset(&back, 0xa5, sizeof(back));
	addr_from_sockaddr(&back, &ss);
	ck_assert_int_eq(back.family, AF_INET);
	ck_assert(addr_equal(&a, &back));
}
END_TEST

START_TEST(ipv6_address_becomes_a_sockaddr)
{
	const struct sockaddr_in6 *sin6;
	struct sockaddr_storage ss;
	struct addr a = addr("[fe80::1:2]:5353"), back;

	a.scope = 7;
	memset(&ss, 0xa5, sizeof(ss));
	ck_assert_uint_eq(addr_to_sockaddr(&a, AF_INET6, &ss), sizeof(*sin6));
	sin6 = (const struct sockaddr_in6 *)&ss;
	ck_assert_int_eq(sin6->sin6_family, AF_INET6);
	ck_assert_uint_eq(ntohs(sin6->sin6_port), 5353);
	ck_assert_mem_eq(&sin6->sin6_addr, a.ip, 16);
	ck_assert_uint_eq(sin6->sin6_scope_id, 7);
	ck_assert_uint_eq(sin6->sin6_flowinfo, 0);
	memset(&back, 0xa5, sizeof(back));
	addr_from_sockaddr(&back, &ss);
	ck_assert(addr_equal(&a, &back));
}
END_TEST

START_TEST(any_address_becomes_that_of_the_family)
{
	const struct sockaddr_in6 *sin6;
	const struct sockaddr_in *sin;
	struct sockaddr_storage ss;
	struct addr a = addr(":5353");

	memset(&ss, 0xa5, sizeof(ss));
	ck_assert_uint_eq(addr_to_sockaddr(&a, AF_INET6, &ss), sizeof(*sin6));
	sin6 = (const struct sockaddr_in6 *)&ss;
	ck_assert_int_eq(sin6->sin6_family, AF_INET6);
	ck_assert_uint_eq(ntohs(sin6->sin6_port), 5353);
	ck_assert_mem_eq(&sin6->sin6_addr, &in6addr_any, 16);
	memset(&ss, 0xa5, sizeof(ss));
	ck_assert_uint_eq(addr_to_sockaddr(&a, AF_INET, &ss), sizeof(*sin));
	sin = (const struct sockaddr_in *)&ss;
	ck_assert_int_eq(sin->sin_family, AF_INET);
	ck_assert_uint_eq(ntohs(sin->sin_port), 5353);
	ck_assert_uint_eq(sin->sin_addr.s_addr, htonl(INADDR_ANY));
}
END_TEST

int
main(void)
{
	Suite *s = suite_create("addr");
	TCase *tc;
	SRunner *sr;
	int failed;

	tc = tcase_create("text");
	tcase_add_test(tc, address_is_parsed);
	tcase_add_test(tc, link_local_address_has_an_interface);
	tcase_add_test(tc, bad_address_is_refused);
	tcase_add_test(tc, port_may_be_required);
	tcase_add_test(tc, text_of_any_length_is_refused);
	tcase_add_test(tc, address_is_printed_as_it_is_parsed);
	tcase_add_test(tc, addresses_are_equal_in_every_part);
	tcase_add_test(tc, loopback_is_known);
	tcase_add_test(tc, own_address_is_reached);
	suite_add_tcase(s, tc);

	tc = tcase_create("prefix");
	tcase_add_test(tc, prefix_matches_to_its_last_bit);
	tcase_add_test(tc, prefix_matches_address_alone);
	tcase_add_test(tc, bad_prefix_is_refused);
	tcase_add_test(tc, mapped_prefix_is_not_read_past_its_address);
	tcase_add_test(tc, prefix_is_printed_as_it_is_parsed);
	suite_add_tcase(s, tc);

	tc = tcase_create("sockaddr");
	tcase_add_test(tc, ipv4_address_becomes_a_sockaddr);
	tcase_add_test(tc, ipv4_address_is_mapped_for_an_ipv6_socket);
	tcase_add_test(tc, ipv6_address_becomes_a_sockaddr);
	tcase_add_test(tc, any_address_becomes_that_of_the_family);
	suite_add_tcase(s, tc);

	sr = srunner_create(s);
	srunner_run_all(sr, CK_NORMAL);
	failed = srunner_ntests_failed(sr);
	srunner_free(sr);
	return (failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE);
}
