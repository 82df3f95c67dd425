/* SPDX-License-Identifier: MIT */
/*
 * The parser of HTTP requests: every prefix of a request waits for more, every changed byte gives an
 * answer, and none makes it look behind the end. tests/serve.t has the forms by name.
 */
#include "config.h"

#include "client/serve/request.h"
#include "client/common/util.h"
#include "tests/tap.h"

#include <stdint.h>
#include <string.h>

static const char whole[] = "POST /v1/devices/0000%3a01:00.0/prepare HTTP/1.1\r\nhost: gpu\r\n"
			    "Content-Type: application/json; charset=utf-8\r\nX-Other:\t a b \r\n"
			    "CONTENT-LENGTH: 2\r\nAuthorization: Bearer x\r\n\r\n{}";

/* Parses a copy that ends where the bytes do, so that valgrind and sanitizers see a look behind. */
static int parse(const char *data, size_t n, struct http_request *ret_request)
{
	char *copy = malloc(n ? n : 1);
	const char *why = NULL;
	int r;

	memcpy(copy, data, n);
	r = request_parse(copy, n, ret_request, &why);
	free(copy);
	return r;
}

int main(void)
{
	const size_t len = sizeof(whole) - 1;
	char changed[sizeof(whole)];
	struct http_request r;
	unsigned waits = 0, known = 0, all = 0;
	uint32_t seed = 1;

	tap_ok(!parse(whole, len, &r) && !strcmp(r.method, "POST") &&
		       !strcmp(r.path, "/v1/devices/0000:01:00.0/prepare") &&
		       !strcmp(r.host, "gpu") && r.has_json && r.body == 2 &&
		       !memcmp(whole + r.body_at, "{}", 2) &&
		       !strcmp(r.authorization, "Bearer x") && !r.origin[0],
	       "a request is read");
	for (size_t i = 0; i < len; i++)
		waits += parse(whole, i, &r) == -EAGAIN;
	tap_ok(waits == len, "each part of it waits for more (%u of %zu)", waits, len);
	memcpy(changed, whole, sizeof(whole));
	for (size_t i = 0; i < len; i++) {
		for (int byte = 0; byte < 256; byte++, all++) {
			int status;

			changed[i] = (char)byte;
			status = parse(changed, len, &r);
			known += !status || status == -EAGAIN || (status >= 400 && status < 506);
		}
		changed[i] = whole[i];
	}
	tap_ok(known == all, "each changed byte gives an answer (%u of %u)", known, all);
	for (all = known = 0; all < 20000; all++) {
		char noise[300];
		const size_t n = seed % sizeof(noise);

		for (size_t i = 0; i < n; i++) {
			seed = seed * 1103515245 + 12345;
			noise[i] = "\r\n :/%.0aGET\0\xff?-"[seed >> 16 & 15];
		}
		memcpy(noise, "GET ", n < 4 ? n : 4);
		known += parse(noise, n, &r) != 0;
		seed = seed * 1103515245 + 12345;
	}
	tap_ok(known == all, "and noise is no request (%u)", all);
	return tap_done();
}
