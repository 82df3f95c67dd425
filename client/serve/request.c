/* SPDX-License-Identifier: MIT */
/*
 * Parses one HTTP request, see request.h. It must never guess: what two readers could understand
 * differently (two lengths, a transfer encoding, a bare line feed, a folded header, bytes behind
 * the body) is refused, so that nothing can be smuggled past a proxy in front.
 */
#include "config.h"

#include "client/serve/request.h"
#include "client/common/util.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#define LETTERS "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
#define DIGITS "0123456789"

struct parse {
	const char *at, *end; /* of the headers, without the empty line */
	struct http_request *out;
	bool has_length, has_host, has_origin, has_authorization, has_type;
	size_t length;
	const char *why;
};

static int wrong(struct parse *p, int status, const char *why)
{
	p->why = why;
	return status;
}

static int digit_of(char c)
{
	const char *hex = "0123456789abcdef", *at;

	if (c >= 'A' && c <= 'F')
		c = (char)(c - 'A' + 'a');
	at = c ? strchr(hex, c) : NULL;
	return at ? (int)(at - hex) : -1;
}

/* Decodes the path. Only what names have is in it, so %00, %2f and the like are refused. */
static int take_path(struct parse *p, const char *text, size_t n)
{
	static const char allowed[] = LETTERS DIGITS "/_.:-";
	char *out = p->out->path;
	size_t len = 0;

	if (n >= sizeof(p->out->path))
		return wrong(p, 414, "the path is too long");
	for (size_t i = 0; i < n; i++) {
		char c = text[i];

		if (c == '%') {
			const int high = i + 2 < n ? digit_of(text[i + 1]) : -1;
			const int low = high < 0 ? -1 : digit_of(text[i + 2]);

			c = low < 0 ? '\0' : (char)(high * 16 + low);
			i += 2;
			if (c == '/')
				c = '\0';
		}
		if (!c || !strchr(allowed, c))
			return wrong(p, 400, "the path has a character that no name has");
		out[len++] = c;
	}
	out[len] = '\0';
	if (out[0] != '/' || strstr(out, "//") || strstr(out, "/./") || strstr(out, "/../") ||
	    (len >= 2 && !strcmp(out + len - 2, "/.")) ||
	    (len >= 3 && !strcmp(out + len - 3, "/..")))
		return wrong(p, 400, "the path has an empty segment, or dots for one");
	return 0;
}

static int take_request_line(struct parse *p, const char *line, size_t n)
{
	const char *target = memchr(line, ' ', n), *version;
	size_t len = target ? (size_t)(target - line) : 0;

	if (!len || len >= sizeof(p->out->method) || strspn(line, LETTERS) < len)
		return wrong(p, 400, "the request line is not METHOD PATH HTTP/1.1");
	memcpy(p->out->method, line, len);
	target++;
	version = memchr(target, ' ', n - len - 1);
	if (!version || version == target)
		return wrong(p, 400, "the request line is not METHOD PATH HTTP/1.1");
	len = n - (size_t)(version + 1 - line);
	if (len != 8 || memcmp(version + 1, "HTTP/1.", 7) != 0 ||
	    (version[8] != '0' && version[8] != '1'))
		return wrong(p, 505, "HTTP/1.1 is spoken here");
	if (memchr(target, '?', (size_t)(version - target)))
		return wrong(p, 400, "there are no queries here");
	return take_path(p, target, (size_t)(version - target));
}

/* Copies a value that may be there once. */
static int take_once(struct parse *p, bool *has, char *out, size_t size, const char *value,
		     size_t n)
{
	if (*has)
		return wrong(p, 400, "a header is there twice");
	if (n >= size)
		return wrong(p, 431, "a header is too long");
	*has = true;
	memcpy(out, value, n);
	out[n] = '\0';
	return 0;
}

static int take_length(struct parse *p, const char *value, size_t n)
{
	size_t length = 0;

	if (p->has_length)
		return wrong(p, 400, "there are two lengths");
	if (!n)
		return wrong(p, 400, "the length is no number");
	for (size_t i = 0; i < n; i++) {
		if (value[i] < '0' || value[i] > '9')
			return wrong(p, 400, "the length is no number");
		length = length > REQUEST_BODY_MAX ? length
						   : length * 10 + (size_t)(value[i] - '0');
	}
	if (length > REQUEST_BODY_MAX)
		return wrong(p, 413, "the body is larger than 4096 bytes");
	p->has_length = true;
	p->length = length;
	return 0;
}

static bool is_named(const char *name, size_t n, const char *wanted)
{
	return n == strlen(wanted) && !strncasecmp(name, wanted, n);
}

static int take_header(struct parse *p, const char *line, size_t n)
{
	const char *colon = memchr(line, ':', n), *value;
	const size_t len = colon ? (size_t)(colon - line) : 0;
	struct http_request *out = p->out;
	bool seen = false;
	size_t size;

	if (!len || strspn(line, LETTERS DIGITS "!#$%&'*+-.^_`|~") < len)
		return wrong(p, 400, "a header has no name, or a blank in it");
	value = colon + 1;
	size = n - len - 1;
	while (size && (*value == ' ' || *value == '\t')) {
		value++;
		size--;
	}
	while (size && (value[size - 1] == ' ' || value[size - 1] == '\t'))
		size--;
	if (is_named(line, len, "Host"))
		return take_once(p, &p->has_host, out->host, sizeof(out->host), value, size);
	if (is_named(line, len, "Origin"))
		return take_once(p, &p->has_origin, out->origin, sizeof(out->origin), value, size);
	if (is_named(line, len, "Authorization"))
		return take_once(p, &p->has_authorization, out->authorization,
				 sizeof(out->authorization), value, size);
	if (is_named(line, len, "Sec-Fetch-Site"))
		return take_once(p, &seen, out->site, sizeof(out->site), value, size);
	if (is_named(line, len, "Content-Length"))
		return take_length(p, value, size);
	if (is_named(line, len, "Transfer-Encoding"))
		return wrong(p, 501, "a body has a length here, and no transfer encoding");
	if (is_named(line, len, "Expect"))
		return wrong(p, 417, "nothing is expected here");
	if (is_named(line, len, "Content-Type"))
		out->has_json = size >= 16 && !strncasecmp(value, "application/json", 16) &&
				(size == 16 || value[16] == ';' || value[16] == ' ');
	return 0;
}

static int take_headers(struct parse *p)
{
	bool first = true;
	int r = 0;

	while (!r && p->at < p->end) {
		const char *end = memmem(p->at, (size_t)(p->end - p->at), "\r\n", 2);
		const size_t n = (size_t)((end ? end : p->end) - p->at);

		for (size_t i = 0; i < n; i++)
			if ((unsigned char)p->at[i] < ' ' && p->at[i] != '\t')
				return wrong(p, 400, "a header has a control character");
		r = first ? take_request_line(p, p->at, n) : take_header(p, p->at, n);
		first = false;
		p->at += n + 2;
	}
	if (!r && !p->has_host)
		return wrong(p, 400, "there is no Host");
	return r;
}

int request_parse(const char *data, size_t n, struct http_request *ret_request,
		  const char **ret_why)
{
	const size_t looked = n < REQUEST_HEADERS_MAX ? n : REQUEST_HEADERS_MAX;
	const char *end = memmem(data, looked, "\r\n\r\n", 4);
	struct parse p = { .at = data, .end = end, .out = ret_request, .why = "" };
	size_t whole;
	int r;

	*ret_request = (struct http_request){ 0 };
	*ret_why = "the headers are larger than 8192 bytes";
	if (!end)
		return n < REQUEST_HEADERS_MAX ? -EAGAIN : 431;
	r = take_headers(&p);
	*ret_why = p.why;
	if (r)
		return r;
	ret_request->body_at = (size_t)(end + 4 - data);
	ret_request->body = p.length;
	whole = ret_request->body_at + p.length;
	if (n < whole)
		return -EAGAIN;
	*ret_why = "there is more than one request; each has its own connection";
	return n > whole ? 400 : 0;
}
