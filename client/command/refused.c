/* SPDX-License-Identifier: MIT */
/*
 * Failures as JSON, see refused.h. Owns the sentences that are kept. It must never write to
 * standard output, where a program expects the result alone.
 */
#include "config.h"

#include "client/command/refused.h"
#include "client/command/json-out.h"
#include "client/common/util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sysexits.h>

#define SENTENCES_MAX 64 /* more are dropped */

static struct {
	bool json, copy;
	char *sentences[SENTENCES_MAX];
	size_t n, first; /* the sentence that says why; others may come before it */
	bool has_facts;
	struct gpubroker_refused facts;
} kept;

void refused_begin_json(void)
{
	kept.json = true;
}

void refused_begin_copy(void)
{
	kept.json = kept.copy = true;
}

bool refused_is_json(void)
{
	return kept.json;
}

bool refused_add(const char *sentence)
{
	if (kept.json && kept.n < SENTENCES_MAX) {
		kept.sentences[kept.n] = strdup(sentence);
		kept.n += kept.sentences[kept.n] != NULL;
	}
	return kept.json && !kept.copy;
}

void refused_note(const struct gpubroker_refused *refused)
{
	kept.first = kept.n;
	kept.has_facts = refused != NULL;
	if (refused)
		memcpy(&kept.facts, refused, sizeof(kept.facts));
}

/* A failure that is no refusal of the broker has the name of its exit status. */
static const char *name_of_status(int status)
{
	switch (status) {
	case EX_USAGE:
		return "usage";
	case EX_DATAERR:
		return "bad-policy";
	case EX_NOINPUT:
		return "no-device";
	case EX_NOUSER:
		return "no-name";
	case EX_UNAVAILABLE:
		return "no-broker";
	case EX_OSERR:
		return "failed";
	case EX_TEMPFAIL:
		return "busy";
	case EX_PROTOCOL:
		return "protocol";
	case EX_NOPERM:
		return "policy";
	case EX_CONFIG:
		return "in-use";
	case 126:
	case 127:
		return "no-command";
	default:
		return "error";
	}
}

static void add_facts(struct json_object *o)
{
	const struct gpubroker_refused *f = kept.has_facts ? &kept.facts : NULL;
	const bool has_holder = f && f->lease && f->holder_pid;

	json_object_object_add(o, "device", f ? json_out_text(f->device) : NULL);
	json_object_object_add(o, "other", f ? json_out_text(f->other) : NULL);
	json_object_object_add(o, "profile", f ? json_out_text(f->profile) : NULL);
	json_object_object_add(o, "iommu_group",
			       f && f->iommu_group >= 0 ? json_object_new_int64(f->iommu_group)
							: NULL);
	json_object_object_add(o, "lease", f ? json_out_number(f->lease) : NULL);
	json_object_object_add(o, "uid", has_holder ? json_object_new_int64(f->holder_uid) : NULL);
	json_object_object_add(o, "user", has_holder ? json_out_user(f->holder_uid) : NULL);
	json_object_object_add(o, "rule", f ? json_out_text(f->rule) : NULL);
}

/* The other sentences, a line each; NULL if there is none. */
static struct json_object *hint(void)
{
	struct json_object *object = NULL;
	cleanup_free char *text = NULL;
	size_t size;
	FILE *file = kept.n > 1 ? open_memstream(&text, &size) : NULL;

	if (!file)
		return NULL;
	for (size_t i = 0; i < kept.n; i++)
		if (i != kept.first)
			fprintf(file, "%s%s", ftell(file) ? "\n" : "", kept.sentences[i]);
	if (!fclose(file))
		object = json_object_new_string(text);
	return object;
}

static void forget(void)
{
	while (kept.n)
		free(kept.sentences[--kept.n]);
	kept.first = 0;
	kept.has_facts = false;
}

struct json_object *refused_object(const char *event, int status)
{
	struct json_object *o;

	if (!kept.n)
		return NULL;
	if (kept.first >= kept.n)
		kept.first = 0;
	o = json_object_new_object();
	if (event)
		json_object_object_add(o, "event", json_object_new_string(event));
	json_object_object_add(o, "number",
			       kept.has_facts ? json_object_new_int(kept.facts.number) : NULL);
	json_object_object_add(o, "name",
			       json_object_new_string(kept.has_facts ? kept.facts.name
								     : name_of_status(status)));
	json_object_object_add(o, "status", json_object_new_int(status));
	json_object_object_add(o, "sentence", json_object_new_string(kept.sentences[kept.first]));
	json_object_object_add(o, "hint", hint());
	add_facts(o);
	forget();
	return o;
}

char *refused_next_warning(void)
{
	char *first = kept.n ? kept.sentences[0] : NULL;

	if (first)
		memmove(kept.sentences, kept.sentences + 1, --kept.n * sizeof(*kept.sentences));
	return first;
}

int refused_end(int status)
{
	struct json_object *object;
	char *warning;

	if (!kept.json || kept.copy)
		return status;
	object = status ? refused_object(NULL, status) : NULL;
	if (object)
		fprintf(stderr, "%s\n",
			json_object_to_json_string_ext(
				object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(object);
	while ((warning = refused_next_warning()) != NULL) {
		fprintf(stderr, "gpubroker: %s\n", warning);
		free(warning);
	}
	return status;
}
