/* SPDX-License-Identifier: MIT */
/*
 * The failure of a command as JSON, for programs: one object instead of sentences. The one
 * place that knows its keys, see gpubroker(1), section DIAGNOSTICS.
 */
#pragma once

#include <json.h>
#include <stdbool.h>

#include "client/gpubroker.h"

/* From now on sentences are kept for refused_end(), which prints them as JSON. */
void refused_begin_json(void);
/* The same, but they are printed as text too: for a program that reads another descriptor. */
void refused_begin_copy(void);
bool refused_is_json(void);

/* Keeps a sentence. Returns false if it is to be printed as text. */
bool refused_add(const char *sentence);
/* Keeps what the broker's refusal is about; NULL: nothing is known. */
void refused_note(const struct gpubroker_refused *refused);

/*
 * The object for the sentences so far, which are forgotten then: that of the refusal, or the first,
 * is the sentence, the others are the hint. Its key "event" has `event`, unless that is NULL. NULL
 * if there was no sentence.
 */
struct json_object *refused_object(const char *event, int status);
/* The next sentence that is kept, or NULL: those of what did not fail are warnings. */
char *refused_next_warning(void);

/*
 * At a command's end: prints what is kept on standard error, as an object where the status is not
 * 0. Returns the status.
 */
int refused_end(int status);
