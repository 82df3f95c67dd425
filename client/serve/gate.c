/* SPDX-License-Identifier: MIT */
/*
 * The gate of `gpubroker serve`, see gate.h. No I/O. On the Unix socket the kernel says who asks;
 * what remains is a proxy that a browser speaks to, so no page's request is taken. On the loopback
 * anybody of this host can connect, and any page can have the browser connect: the token keeps out
 * the one, and Host, Origin and Sec-Fetch-Site the other, also where a name of the page's was made
 * to mean 127.0.0.1.
 */
#include "config.h"

#include "client/serve/gate.h"

#include <stdio.h>
#include <string.h>

/* Compares in a time that does not tell how much of it is right. */
static bool is_token(const char *given, const char *token)
{
	unsigned char differs = 0;

	if (strlen(given) != GATE_TOKEN - 1 || !token[0])
		return false;
	for (size_t i = 0; i < GATE_TOKEN - 1; i++)
		differs |= (unsigned char)(given[i] ^ token[i]);
	return !differs;
}

static bool is_own_host(const struct gate *gate, const char *host)
{
	static const char *const names[] = { "127.0.0.1", "localhost", "[::1]" };
	char own[64];

	for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
		snprintf(own, sizeof(own), "%s:%u", names[i], gate->port);
		if (!strcmp(own, host))
			return true;
	}
	return false;
}

static bool is_of_another_page(const struct http_request *r, bool tcp)
{
	char own[160];

	snprintf(own, sizeof(own), "http://%s", r->host);
	if (r->origin[0] && (!tcp || strcmp(own, r->origin) != 0))
		return true;
	return r->site[0] && strcmp(r->site, "same-origin") != 0 && strcmp(r->site, "none") != 0;
}

bool gate_lets_in(const struct gate *gate, bool tcp, struct exchange *x)
{
	const struct http_request *r = x->request;

	if (tcp && !is_own_host(gate, r->host)) {
		reply_problem(x, 421, "this is not the host that the request was for");
		return false;
	}
	if (is_of_another_page(r, tcp)) {
		reply_problem(x, 403, "requests of web pages are not taken here");
		return false;
	}
	if (tcp && (strncmp(r->authorization, "Bearer ", 7) != 0 ||
		    !is_token(r->authorization + 7, gate->token))) {
		reply_problem(x, 401,
			      "the token is missing or wrong; it is in the file that "
			      "gpubroker-serve(1) names");
		return false;
	}
	return true;
}
