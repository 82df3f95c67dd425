/* SPDX-License-Identifier: MIT */
/*
 * How `gpubroker serve` answers each refusal: as the problem whose status says to programs what kind it
 * is, and whose title is the command's sentence. The refusal passes through the same text as between
 * the command and the process that speaks HTTP.
 */
#include "config.h"

#include "client/command/refused.h"
#include "client/common/util.h"
#include "client/serve/exchange.h"
#include "tests/tap.h"

#include <string.h>
#include <sysexits.h>

static const struct {
	int number, exit;
	const char *name;
} refusals[] = {
#define REFUSAL(reason, number, name, exit) { number, exit, name },
	GPUBROKER_REFUSALS(REFUSAL)
#undef REFUSAL
};

/* Their HTTP statuses, as in gpubroker-serve(1). */
static const int statuses[] = {
	[GPUBROKER_REFUSED_POLICY] = 403,     [GPUBROKER_REFUSED_BUSY] = 409,
	[GPUBROKER_REFUSED_STUCK] = 409,      [GPUBROKER_REFUSED_NO_DEVICE] = 404,
	[GPUBROKER_REFUSED_NO_NAME] = 404,    [GPUBROKER_REFUSED_NO_GROUP] = 409,
	[GPUBROKER_REFUSED_NOT_VIABLE] = 409, [GPUBROKER_REFUSED_BOOT_VGA] = 409,
	[GPUBROKER_REFUSED_IN_USE] = 409,     [GPUBROKER_REFUSED_MEMLOCK] = 403,
	[GPUBROKER_REFUSED_QUOTA] = 429,      [GPUBROKER_REFUSED_FAILED] = 500,
	[GPUBROKER_REFUSED_NOT_READY] = 503,  [GPUBROKER_REFUSED_VERSION] = 503,
	[GPUBROKER_REFUSED_LIMIT] = 429,      [GPUBROKER_REFUSED_NO_LEASE] = 404,
	[GPUBROKER_REFUSED_NOT_YOURS] = 403,  [GPUBROKER_REFUSED_NO_RESET] = 409,
	[GPUBROKER_REFUSED_NO_VFS] = 409,     [GPUBROKER_REFUSED_NO_MDEVS] = 404,
	[GPUBROKER_REFUSED_NO_PROFILE] = 404, [GPUBROKER_REFUSED_NONE_LEFT] = 409,
	[GPUBROKER_REFUSED_NODE] = 409,	      [GPUBROKER_REFUSED_HOOK] = 409,
	[GPUBROKER_REFUSED_ALLOTTED] = 409,
};

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *value = NULL;

	json_object_object_get_ex(o, key, &value);
	return value ? json_object_get_string(value) : "";
}

/* Returns the object that the command prints on standard error for this refusal. */
static struct json_object *refused(size_t i)
{
	struct gpubroker_refused facts = { .number = refusals[i].number,
					   .device = "0000:01:00.0",
					   .other = "0000:01:00.1",
					   .iommu_group = -1 };

	strcpy(facts.name, refusals[i].name);
	refused_add("warning: another sentence");
	refused_note(&facts);
	refused_add("the sentence \"of\" the refusal");
	refused_add("what would help");
	return refused_object(NULL, refusals[i].exit);
}

static bool is_answered(size_t i)
{
	const int number = refusals[i].number;
	struct json_object *failure = refused(i), *problem;
	cleanup_free char *err = NULL;
	struct exchange x = { 0 };
	const char *body;
	int status = 0;
	bool good;

	if (asprintf(&err, "a warning\n%s\n",
		     json_object_to_json_string_ext(failure, JSON_C_TO_STRING_PLAIN)) < 0)
		abort();
	json_object_put(failure);
	reply_failure(&x, &(struct spawn_result){ refusals[i].exit, "", err });
	body = x.response ? strstr(x.response, "\r\n\r\n") : NULL;
	if (!body || sscanf(x.response, "HTTP/1.1 %d ", &status) != 1)
		abort();
	problem = json_tokener_parse(body + 4);
	good = (size_t)number < ARRAY_SIZE(statuses) && status == statuses[number] &&
	       strstr(x.response, "Content-Type: application/problem+json\r\n") &&
	       atoi(text_of(problem, "status")) == status &&
	       atoi(text_of(problem, "number")) == number &&
	       !strcmp(text_of(problem, "name"), refusals[i].name) &&
	       !strcmp(text_of(problem, "title"), "the sentence \"of\" the refusal") &&
	       strstr(text_of(problem, "hint"), "what would help") &&
	       !strcmp(text_of(problem, "device"), "0000:01:00.0") &&
	       !strcmp(text_of(problem, "other"), "0000:01:00.1");
	if (!good)
		printf("# %s", x.response);
	json_object_put(problem);
	free(x.response);
	return good;
}

/* Returns true if a failure that may be no JSON, or another object, has this answer. */
static bool is_answered_otherwise(int exit, const char *err, const char *wanted)
{
	struct exchange x = { 0 };
	bool good;

	reply_failure(&x, &(struct spawn_result){ exit, "", err });
	good = x.response && !strncmp(x.response, wanted, strlen(wanted));
	free(x.response);
	return good;
}

int main(void)
{
	refused_begin_json();
	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		tap_ok(is_answered(i),
		       "refusal %d, %s, is a problem with status %d, its sentence, hint and devices",
		       refusals[i].number, refusals[i].name,
		       (size_t)refusals[i].number < ARRAY_SIZE(statuses)
			       ? statuses[refusals[i].number]
			       : 0);
	tap_ok(is_answered_otherwise(1, "gpubroker: Segmentation fault\n", "HTTP/1.1 503 ") &&
		       is_answered_otherwise(1, "{\"number\":", "HTTP/1.1 503 ") &&
		       is_answered_otherwise(1, "{\"number\":7}\n", "HTTP/1.1 503 ") &&
		       is_answered_otherwise(1, NULL, "HTTP/1.1 503 ") &&
		       is_answered_otherwise(-1, "", "HTTP/1.1 503 "),
	       "a command that ends without a sentence is a 503, and no empty answer");
	tap_ok(is_answered_otherwise(
		       64, "{\"number\":null,\"name\":\"usage\",\"sentence\":\"wrong\"}\n",
		       "HTTP/1.1 422 "),
	       "a refusal of the command itself goes by its exit status");
	return tap_done();
}
