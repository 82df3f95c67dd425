/* SPDX-License-Identifier: MIT */
/*
 * Checks what the core and the runner of hooks send each other, see hooking.h. No I/O. It must
 * never let a name through that could not be a hook's: it goes into the journal and to users.
 */
#include "config.h"

#include "brokerd/state/hooking.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

bool hooking_question_valid(const struct hook_question *question)
{
	if (!question->id || question->event == HOOK_NONE || question->event >= HOOK_N_EVENTS ||
	    !question->n || question->n > PROTOCOL_FUNCTIONS_MAX)
		return false;
	for (uint32_t i = 0; i < question->n; i++)
		if (question->functions[i].device > 31 || question->functions[i].function > 7 ||
		    question->functions[i].reserved)
			return false;
	return true;
}

bool hooking_believe(const struct hook_answer *answer)
{
	if (!memchr(answer->hook, '\0', sizeof(answer->hook)))
		return false;
	switch ((enum hook_result)answer->result) {
	case HOOK_COUNT:
		return !answer->id && !answer->hook[0] && answer->value <= HOOKFILES_MAX;
	case HOOK_DONE:
	case HOOK_LOST:
		return answer->id && !answer->value && !answer->hook[0];
	case HOOK_EXITED:
	case HOOK_KILLED:
	case HOOK_NOT_EXECUTED:
		return answer->id && answer->value && answer->value <= 4095 &&
		       hookfile_name_valid(answer->hook);
	case HOOK_LATE:
		return answer->id && !answer->value && hookfile_name_valid(answer->hook);
	case HOOK_MISSING:
	case HOOK_N_RESULTS:
		break;
	}
	return false;
}

void hooking_say(const struct hook_answer *answer, char *out, size_t size)
{
	const char *hook = answer->hook;
	const uint32_t value = answer->value;

	*out = '\0';
	if (answer->result == HOOK_EXITED)
		snprintf(out, size, "the hook %s ended with status %" PRIu32, hook, value);
	else if (answer->result == HOOK_KILLED)
		snprintf(out, size, "the hook %s was ended by signal %" PRIu32, hook, value);
	else if (answer->result == HOOK_LATE)
		snprintf(out, size, "the hook %s took too long: all may take %d s", hook,
			 HOOKS_SECONDS);
	else if (answer->result == HOOK_NOT_EXECUTED)
		snprintf(out, size, "the hook %s: %s", hook, strerror((int)value));
	else if (answer->result == HOOK_LOST)
		snprintf(out, size, "the process that ran the hooks was ended");
}
